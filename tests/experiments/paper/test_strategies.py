"""The paper's variants of the models: what each integrates out, and what is sampled instead."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytest
from numpy.testing import assert_allclose

from experiments.paper.experiments import EXPERIMENTS
from experiments.paper.strategies import BUILDERS, CLASSES, data_of, transformed
from tests.examples.frames import frame

CHOSEN = sorted(
    {
        (model, strategy)
        for experiment in EXPERIMENTS.values()
        for model, strategies in experiment.strategies.items()
        for strategy in strategies
    }
)


def build(name: str) -> pm.Model:
    return BUILDERS[name](frame(data_of(name)))


def free(model: pm.Model) -> set[str]:
    return {rv.name for rv in model.free_RVs}


def test_all_models_have_classes() -> None:
    assert CLASSES.keys() == BUILDERS.keys()
    assert {model for model, _ in CHOSEN} == BUILDERS.keys()
    for name, classes in CLASSES.items():
        assert {effect for members in classes for effect in members} <= free(build(name))


@pytest.mark.parametrize(("name", "strategy"), CHOSEN)
@pytest.mark.filterwarnings("ignore:Normal variables stay sampled")
def test_every_strategy_that_an_experiment_has(name: str, strategy: str) -> None:
    plain = build(name)
    model = transformed(plain, name, strategy)
    classes = CLASSES[name]
    members = {str(number): set(group) for number, group in enumerate(classes, start=1)}
    gone, offsets = set(), set()
    if strategy == "all":
        gone = set().union(*classes)
    elif strategy == "default":
        # All but the effects on the spread: those are not linear.
        kept = {"s"} if name == "stroop" else set()
        left = {n for n in free(plain) if n.startswith(("chol", "s", "tau")) and n != "service"}
        left -= {"student"}
        assert free(model) == left
        assert set().union(*classes) - kept == set().union(*classes) - free(model)
        return
    elif strategy not in ("O", "fit"):
        for letter, number in zip(strategy[::2], strategy[1::2], strict=True):
            (gone if letter == "M" else offsets).update(members[number])
    assert free(model) == free(plain) - gone - offsets | {f"{name}_offset" for name in offsets}


def test_strategies_keep_the_density() -> None:
    """R1R2 is the plain model in other coordinates: log density plus the Jacobian."""
    plain = build("grouseticks")
    offset = transformed(plain, "grouseticks", "R1R2")
    rng = np.random.default_rng(0)
    point = {k: 0.1 * rng.normal(size=np.shape(v)) for k, v in offset.initial_point().items()}
    same = {k: v for k, v in point.items() if not k.endswith("_offset")}
    jacobian = 0.0
    for name in ("brood", "location"):
        z, log_scale = point[f"{name}_offset"], point[f"s_{name}_log__"]
        same[name] = point[f"m_{name}"] + np.exp(log_scale) * z
        jacobian += z.size * log_scale
    densities = [m.compile_logp(mode="FAST_COMPILE") for m in (plain, offset)]
    assert_allclose(densities[0](same) + jacobian, densities[1](point), rtol=1e-10)


@pytest.mark.parametrize("strategy", ["", "M", "M3", "X1", "M1M1", "M1R1", "R1O", "m1", "M1 R2"])
def test_unknown_strategies(strategy: str) -> None:
    with pytest.raises(ValueError, match="is not a strategy for 2 classes"):
        transformed(build("dutch"), "dutch", strategy)
