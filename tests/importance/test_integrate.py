"""Integrals against what is known: evidence, moments, error bars, and what cannot be trusted."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from pymc_marginal_lmm.importance import Reflections, integrate
from pymc_marginal_lmm.importance.integrate import Integral, Round
from pymc_marginal_lmm.importance.modes import NoMode
from tests.importance.targets import TARGETS, Target


def integral_of(target: Target, seed: int, draws: int = 2000) -> Integral:
    return integrate(
        target.log_density,
        target.starts,
        target.reflections,
        draws=draws,
        rng=np.random.default_rng(seed),
    )


@pytest.mark.parametrize("name", TARGETS)
def test_evidence_and_moments(name: str) -> None:
    target = TARGETS[name]
    result = integral_of(target, seed=1)
    assert result.trusted, result.khat
    assert result.effective_draws > 1000
    assert abs(result.log_evidence) < 5 * result.log_evidence_mcse + 1e-4
    x = result.x[result.resample(2000, np.random.default_rng(2))]
    assert target.reflections.inside(x).all()
    error = 5 * target.sd / np.sqrt(1000)
    assert (np.abs(x.mean(axis=0) - target.mean) < error).all()
    assert_allclose(x.std(axis=0), target.sd, rtol=0.15)


def test_the_same_seed_gives_the_same() -> None:
    one, other = (integral_of(TARGETS["skewed"], seed=3) for _ in range(2))
    assert np.array_equal(one.x, other.x)
    assert one.log_evidence == other.log_evidence
    assert not np.array_equal(one.x, integral_of(TARGETS["skewed"], seed=4).x)


def test_rounds_are_reported() -> None:
    rounds: list[Round] = []
    target = TARGETS["gaussian 2"]
    result = integrate(
        target.log_density,
        target.starts,
        target.reflections,
        draws=500,
        rng=np.random.default_rng(1),
        report=rounds.append,
    )
    assert rounds[-1] == Round(result.n_evaluations, result.effective_draws, result.khat)
    counts = [each.n_evaluations for each in rounds]
    assert counts == sorted(counts) and len(rounds) >= 3


def test_where_the_density_is_not_a_number_it_is_zero() -> None:
    target = TARGETS["gaussian 2"]

    def half(x: np.ndarray) -> np.ndarray:
        return np.where(x[:, 0] > 0, target.log_density(x), np.nan)

    result = integrate(
        half, [np.ones(2)], Reflections.none(2), draws=2000, rng=np.random.default_rng(5)
    )
    # One half of a Normal with mean 0.
    assert abs(result.log_evidence - np.log(0.5)) < 5 * result.log_evidence_mcse + 1e-3


def test_where_there_is_hardly_any_density() -> None:
    """Of the first points none but the start has one."""

    def sliver(x: np.ndarray) -> np.ndarray:
        return np.where((np.abs(x) < 1e-5).all(axis=1), 0.0, -np.inf)

    result = integrate(
        sliver, [np.zeros(3)], Reflections.none(3), draws=1000, rng=np.random.default_rng(1)
    )
    assert abs(result.log_evidence - 3 * np.log(2e-5)) < 5 * result.log_evidence_mcse


def test_no_density_anywhere() -> None:
    with pytest.raises(NoMode, match="every starting point"):
        integrate(
            lambda x: np.full(len(x), np.nan),
            [np.zeros(2)],
            Reflections.none(2),
            draws=100,
            rng=np.random.default_rng(1),
        )


def test_a_funnel_is_not_trusted() -> None:
    """Neal's: the width of nine dimensions spans many orders of magnitude."""

    def log_density(x: np.ndarray) -> np.ndarray:
        neck = x[:, 0] / 3
        return -0.5 * (neck**2 + 9 * x[:, 0] + (x[:, 1:] ** 2).sum(axis=1) * np.exp(-x[:, 0]))

    result = integrate(
        log_density, [np.ones(10)], Reflections.none(10), draws=1000, rng=np.random.default_rng(7)
    )
    assert not result.trusted


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gaussian 7", "skewed", "student 3", "even, near", "two modes"])
def test_error_bars_are_calibrated(name: str) -> None:
    """z-scores of evidence and means over 200 seeds have variance 1, about.

    With 16 replicates z is Student-t with 15 degrees of freedom, of variance 15/13; the variance of
    200 of these is within 35 % of that in all but one of a thousand cases.
    """
    target = TARGETS[name]
    results = [integral_of(target, seed, draws=1000) for seed in range(200)]
    z = np.array([r.log_evidence / r.log_evidence_mcse for r in results])
    assert abs(z.mean()) < 4 * z.std() / np.sqrt(200)
    assert 0.65 * 15 / 13 < z.var() < 1.35 * 15 / 13
