"""What is checked of every model that was not written for these tests."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pymc as pm
from numpy.testing import assert_allclose

import pymc_marginal_lmm as mlmm
from tests.helpers import dense_reference, density, random_point, unfolded

__all__ = ["check_model"]


def check_model(model: pm.Model, integrated: Collection[str]) -> pm.Model:
    """Marginalize a model and compare with its own joint density; return the marginal model.

    Parameters
    ----------
    model : pymc.Model
        Any model.
    integrated : collection of str
        The free variables that ``marginalize(model)`` must integrate out.
    """
    marginal = unfolded(model)
    free = [rv.name for rv in model.free_RVs]
    assert {*free} - {rv.name for rv in marginal.free_RVs} == {*integrated}
    full = mlmm.conditional(marginal)
    _check_all_variables_are_back(model, full)
    joint = density(model)
    factored = density(full)
    for seed in (1, 2):
        point = random_point(model, seed)
        expected = joint(point)
        assert np.isfinite(expected)
        assert_allclose(factored(point), expected, rtol=1e-8)
    parameters = {value.name: point[value.name] for value in marginal.value_vars}
    reference = dense_reference(model, tuple(integrated), parameters)
    found = density(marginal)(parameters)
    assert_allclose(found, reference.log_density, rtol=1e-8)
    return marginal


def _check_all_variables_are_back(model: pm.Model, full: pm.Model) -> None:
    for role in ("free_RVs", "observed_RVs", "deterministics", "potentials", "data_vars"):
        before, after = ({v.name for v in getattr(m, role)} for m in (model, full))
        assert after == before, role
    assert dict(full.coords) == dict(model.coords)
    for name in model.named_vars:
        found, expected = (tuple(m.named_vars_to_dims.get(name, ())) for m in (full, model))
        assert found == expected, name
        assert full[name].type.dtype == model[name].type.dtype, name
