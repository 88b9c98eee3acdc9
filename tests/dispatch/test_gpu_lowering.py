"""The marginal log density and its gradient, lowered for CUDA on a machine without one."""

from __future__ import annotations

import re
import warnings

import jax
import pymc as pm
import pytensor
import pytest
from pymc.sampling.jax import get_jaxified_logp

import pymc_marginal_lmm as mlmm
from pymc_marginal_lmm.analysis import read
from tests.helpers import long_chain
from tests.models import by_name

SOLVERS = {"cusolver", "cublas", "triangular_solve"}


MODELS = [
    "random_intercept",
    "crossed_correlated_slopes",
    "sigma_by_row",
    "multi_membership",
    "two_responses_with_loadings",
]


def lower(model: pm.Model, dtype: str) -> tuple[str, int]:
    """Return the program for CUDA, and how many values JAX had to truncate to 32 bits."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        logp = get_jaxified_logp(model)
        start = model.initial_point()
        point = [jax.numpy.asarray(start[v.name], dtype=dtype) for v in model.value_vars]
        traced = jax.jit(jax.value_and_grad(logp)).trace(point)
        text = traced.lower(lowering_platforms=("cuda",)).as_text()
    return text, sum("float64 requested" in str(w.message) for w in caught)


@pytest.mark.filterwarnings("ignore:Normal variables stay sampled")
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", MODELS)
def test_lowers_without_callbacks(name: str, dtype: str) -> None:
    check(name, dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_nested_factors_lower_without_callbacks(
    dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read, "block_structure", long_chain)
    check("three_levels", dtype, composed=True)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_folded_factors_lower_without_callbacks(dtype: str) -> None:
    check("noncentred_correlated", dtype, fold_scales=True, composed=True)


def check(name: str, dtype: str, *, fold_scales: bool = False, composed: bool = False) -> None:
    """Lower a model; its program may call solvers and nothing else."""
    with pytensor.config.change_flags(floatX=dtype), jax.enable_x64(dtype == "float64"):
        plain = by_name(name).build()
        text, truncated = lower(mlmm.marginalize(plain, fold_scales=fold_scales), dtype)
        if dtype == "float32":
            assert "f64" not in text
        if dtype == "float32" and not composed:
            # PyTensor's reductions ask for 64-bit accumulators, which JAX truncates. We must not
            # add to what the plain model has of that, but where we sum in PyTensor ourselves.
            assert truncated <= lower(plain, dtype)[1]
    targets = set(re.findall(r"custom_call @(\w+)", text))
    unknown = {t for t in targets if not any(known in t for known in SOLVERS)}
    assert not unknown, f"custom calls that are no solvers: {unknown}"
    assert "callback" not in text
    assert "infeed" not in text
