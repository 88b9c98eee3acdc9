"""The posterior that ``fit`` computes against that of NUTS, for every canonical model."""

from __future__ import annotations

import logging
import warnings

import arviz_stats
import numpy as np
import pymc as pm
import pytest

import pymc_marginal_lmm as mlmm
from pymc_marginal_lmm.model.compiled import MOST_DIMENSIONS
from pymc_marginal_lmm.model.value_space import ValueSpace
from tests.models import MODELS, CanonicalModel

A_FEW = {"correlated_slopes", "crossed_two", "lognormal", "gaussian_process"}
"""Those that the fast suite has."""

DRAWS = 2000


def names_of(canonical: CanonicalModel) -> object:
    marks = [] if canonical.name in A_FEW else [pytest.mark.slow]
    return pytest.param(canonical, id=canonical.name, marks=marks)


@pytest.mark.parametrize("canonical", [names_of(each) for each in MODELS])
def test_same_posterior_as_nuts(canonical: CanonicalModel) -> None:
    logging.getLogger("pymc").setLevel(logging.ERROR)
    model = canonical.build()
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "Normal variables stay sampled|No variable of", UserWarning
        )
        marginal = mlmm.marginalize(model, list(canonical.effects))
    space = ValueSpace.of(marginal)
    if not 1 <= space.dim <= MOST_DIMENSIONS:
        pytest.skip(f"{space.dim} dimensions")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "log_evidence is nan", UserWarning)
        found = mlmm.fit(marginal, draws=DRAWS, chains=2, random_seed=1, progressbar=False)
    found = found["posterior"]
    assert found.attrs["pareto_khat"] < 0.7
    nuts = pm.sample(
        DRAWS,
        tune=1000,
        chains=2,
        model=marginal,
        nuts_sampler="numpyro",
        target_accept=0.95,
        random_seed=1,
        progressbar=False,
        compute_convergence_checks=False,
    )["posterior"].to_dataset()
    ess = arviz_stats.ess(nuts, method="mean")
    for rv in marginal.free_RVs:
        one, two = found[rv.name], nuts[rv.name]
        worth = 1 / (1 / ess[rv.name] + 1 / found.attrs["effective_draws"])
        sd = two.std(["chain", "draw"])
        z = abs(one.mean(["chain", "draw"]) - two.mean(["chain", "draw"])) / sd * np.sqrt(worth)
        varies = sd > 1e-12
        assert float(z.where(varies, 0).max()) < 5, rv.name
        ratio = np.log(one.std(["chain", "draw"]) / sd).where(varies, 0)
        assert float(abs(ratio).max()) < 0.35, rv.name
