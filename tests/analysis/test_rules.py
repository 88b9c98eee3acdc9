"""The registry of reading rules."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.tensor.blockwise import Blockwise

import pymc_marginal_lmm as mlmm
from pymc_marginal_lmm.analysis.rules import by_unit_vectors, registry, rule
from tests.helpers import dense_reference, random_point, unfolded


class Doubled(Op):
    gufunc_signature = "(n)->(n)"

    def make_node(self, x):  # type: ignore[no-untyped-def]
        return Apply(self, [x], [x.type()])

    def perform(self, node, inputs, outputs):  # type: ignore[no-untyped-def]
        outputs[0][0] = 2 * inputs[0]

    def pullback(self, inputs, outputs, cotangents):  # type: ignore[no-untyped-def]
        return [2 * cotangents[0]]


class Nested(Doubled):
    """Found by its base."""


@pytest.fixture
def taught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_RULES", dict(registry._RULES))
    rule(Doubled)(by_unit_vectors)


def doubling(op: Op) -> pm.Model:
    with pm.Model() as model:
        u = pm.Normal("u", 0, pm.HalfNormal("tau"), shape=3)
        pm.Normal("y", op(u)[np.arange(9) % 3], 1.0, observed=np.arange(9.0))
    return model


@pytest.mark.parametrize("op", [Doubled(), Nested()])
def test_an_operation_from_outside(op: Op, taught: None) -> None:
    plain = doubling(op)
    marginal = unfolded(plain)
    point = random_point(marginal, 1)
    expected = dense_reference(plain, ("u",), point).log_density
    assert_allclose(marginal.compile_logp(mode="FAST_COMPILE")(point), expected, rtol=1e-10)


def test_what_is_not_registered_is_refused() -> None:
    assert not mlmm.explain(doubling(Doubled())).integrated


def test_a_rule_holds_for_many_at_once_only_if_it_says_so(taught: None) -> None:
    def batched(u: pt.TensorVariable) -> pt.TensorVariable:
        return Blockwise(Doubled())(u[None])[0]

    assert not mlmm.explain(doubling(batched)).integrated
    rule(Doubled, batched=True)(by_unit_vectors)
    assert mlmm.explain(doubling(batched)).integrated == ("u",)


def test_the_nearest_class_counts(taught: None) -> None:
    def refuse(reader, node, parts):  # type: ignore[no-untyped-def]
        reader.refuse(node, "of the class itself")

    rule(Nested)(refuse)
    assert mlmm.explain(doubling(Doubled())).integrated == ("u",)
    assert "of the class itself" in str(mlmm.explain(doubling(Nested())).refusals["u"])
