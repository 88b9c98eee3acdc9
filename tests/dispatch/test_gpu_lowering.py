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
from tests.models import by_name

SOLVERS = {"cusolver", "cublas", "triangular_solve"}


MODELS = ["random_intercept", "crossed_correlated_slopes", "sigma_by_row", "multi_membership"]


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


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", MODELS)
def test_lowers_without_callbacks(name: str, dtype: str) -> None:
    with pytensor.config.change_flags(floatX=dtype), jax.enable_x64(dtype == "float64"):
        plain = by_name(name).build()
        text, truncated = lower(mlmm.marginalize(plain), dtype)
        if dtype == "float32":
            # PyTensor's reductions ask for 64-bit accumulators, which JAX truncates. We must not
            # add to what the plain model has of that.
            assert truncated <= lower(plain, dtype)[1]
    targets = set(re.findall(r"custom_call @(\w+)", text))
    unknown = {t for t in targets if not any(known in t for known in SOLVERS)}
    assert not unknown, f"custom calls that are no solvers: {unknown}"
    assert "callback" not in text
    assert "infeed" not in text
