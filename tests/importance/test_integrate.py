"""Integrals against what is known: evidence, moments, error bars, and what cannot be trusted."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import cauchy, chi2, norm

from pymc_marginal_lmm.importance import Reflections, integrate
from pymc_marginal_lmm.importance.integrate import Integral, Round
from pymc_marginal_lmm.importance.modes import LogDensity, NoMode
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
    assert rounds[-1] == Round(result.n_evaluations, result.effective_draws, result.khat, 0)
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


def test_an_infinite_density_is_none() -> None:
    """Far out, where something overflowed."""
    target = TARGETS["gaussian 2"]

    def overflows(x: np.ndarray) -> np.ndarray:
        return np.where(x[:, 0] > 30, np.inf, target.log_density(x))

    starts = [np.array([29.0, 0.0]), np.array([31.0, 0.0])]
    result = integrate(
        overflows, starts, Reflections.none(2), draws=1000, rng=np.random.default_rng(5)
    )
    assert abs(result.log_evidence) < 5 * result.log_evidence_mcse + 1e-4


def test_a_density_that_breaks_down_far_out() -> None:
    """As that of a model where scales are so small that what is left of sums is rounding errors."""
    target = TARGETS["gaussian 2"]

    def breaks(x: np.ndarray) -> np.ndarray:
        return np.where(np.abs(x[:, 0]) > 60, np.exp(np.abs(x[:, 0])), target.log_density(x))

    starts = [np.array([s, 20.0]) for s in (-50.0, 0.3, 55.0)]
    result = integrate(
        breaks, starts, Reflections.none(2), draws=1000, rng=np.random.default_rng(5)
    )
    assert abs(result.log_evidence) < 5 * result.log_evidence_mcse + 1e-4


def test_where_there_is_hardly_any_density() -> None:
    """Of the first points none but the start has one."""

    def sliver(x: np.ndarray) -> np.ndarray:
        return np.where((np.abs(x) < 1e-5).all(axis=1), 0.0, -np.inf)

    result = integrate(
        sliver, [np.zeros(3)], Reflections.none(3), draws=1000, rng=np.random.default_rng(1)
    )
    assert abs(result.log_evidence - 3 * np.log(2e-5)) < 5 * result.log_evidence_mcse


def test_no_density_anywhere() -> None:
    with pytest.raises(NoMode, match="from any starting point"):
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


@pytest.mark.parametrize("seed", range(4))
def test_a_density_without_bound_is_not_trusted(seed: int) -> None:
    """Of effects and the logarithm of their scale: the narrower, the higher."""

    def log_density(x: np.ndarray) -> np.ndarray:
        squares = (x[:, 1:] ** 2).sum(axis=1) * np.exp(-2 * x[:, 0])
        return -0.5 * squares - 6 * x[:, 0] - np.exp(x[:, 0])

    rng = np.random.default_rng(seed)
    try:
        result = integrate(
            log_density, [rng.normal(size=7)], Reflections.none(7), draws=200, rng=rng
        )
    except NoMode:
        return
    assert not result.trusted


def _one_heavy_axis(d: int, heavy: int) -> LogDensity:
    def log_density(x: np.ndarray) -> np.ndarray:
        light = np.delete(x, heavy, axis=1)
        return norm.logpdf(light).sum(axis=1) + cauchy.logpdf(x[:, heavy])

    return log_density


@pytest.mark.parametrize(("d", "heavy"), [(2, 0), (4, 2), (8, 7)])
def test_tails_that_are_too_heavy_are_reported_with_their_axis(d: int, heavy: int) -> None:
    """A proposal's tails fall as 1/|x|^(ν + 1), with ν of at least 5: those of a Cauchy do not."""
    result = integrate(
        _one_heavy_axis(d, heavy),
        [np.full(d, 0.3)],
        Reflections.none(d),
        draws=2000,
        rng=np.random.default_rng(1),
    )
    assert result.khat > 0.5
    assert result.heaviest_axis() == heavy


def test_smoothed_weights_and_expectations() -> None:
    target = TARGETS["skewed"]
    result = integral_of(target, seed=6)
    weights = np.exp(result.smoothed_log_weights())
    assert_allclose(weights.sum(), 1)
    assert_allclose(weights @ result.x, target.mean, atol=0.05)
    mean, error = result.expectation(result.x)
    assert (np.abs(mean - target.mean) < 5 * error).all()
    assert (error < 2 * target.sd / np.sqrt(result.effective_draws)).all()
    one, none = result.expectation(np.ones(len(result.x)))
    assert_allclose(one, 1)
    assert_allclose(none, 0, atol=1e-12)


def _check_calibration(name: str, n_seeds: int, draws: int) -> None:
    """z-scores of evidence, means and second moments have mean 0 and variance 1, about.

    With 16 replicates z is Student-t with 15 degrees of freedom: its variance is 15/13, and as its
    kurtosis is 3 + 6/11, that of n has the spread of a χ² with n/(1 + 3/11) degrees of freedom.
    One of ten thousand seeds would fail for each number.
    """
    target = TARGETS[name]
    z = []
    for seed in range(n_seeds):
        result = integral_of(target, seed, draws)
        assert result.trusted
        squares = (result.x - target.mean) ** 2
        mean, error = result.expectation(np.concatenate([result.x, squares], axis=1))
        known = np.concatenate([target.mean, target.sd**2])
        z.append([result.log_evidence / result.log_evidence_mcse, *((mean - known) / error)])
    spread = np.var(z, axis=0) * 13 / 15
    df = n_seeds / (1 + 3 / 11)
    low, high = chi2.ppf([5e-5, 1 - 5e-5], df) / df
    assert (spread > low).all() and (spread < high).all(), spread
    off = np.mean(z, axis=0) / np.sqrt(15 / 13 / n_seeds)
    assert (np.abs(off) < norm.isf(5e-5)).all(), off


def test_error_bars_are_calibrated() -> None:
    _check_calibration("even, near", n_seeds=40, draws=500)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gaussian 7", "skewed", "even, near"])
def test_error_bars_are_calibrated_over_many_seeds(name: str) -> None:
    _check_calibration(name, n_seeds=200, draws=1000)
