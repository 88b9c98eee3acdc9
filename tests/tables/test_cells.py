"""Pseudo-rows have the crossproducts of the rows they stand for, whatever these are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pymc_marginal_lmm.tables.cells import Moments, log_constant, pseudo_rows


def moments(cells: list[np.ndarray], weights: list[np.ndarray], off: float = 0.0) -> Moments:
    """Sum up rows ``(n, p + 1)`` of cells, about means that are a little off."""
    W = np.array([w.sum() for w in weights])
    mean = np.array([w @ z / w.sum() for w, z in zip(weights, cells, strict=True)])
    mean = mean + off * (1 + np.abs(mean))
    about = [z - m for z, m in zip(cells, mean, strict=True)]
    pairs = list(zip(weights, about, strict=True))
    return Moments(
        n=np.array([len(z) for z in cells]),
        weight=W,
        mean=mean,
        first=np.array([w @ z for w, z in pairs]),
        second=np.array([(w[:, None] * z).T @ z for w, z in pairs]),
    )


def author(seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Write cells of all kinds: one row, no spread, far from 0, dependent, of other units."""
    rng = np.random.default_rng(seed)
    p = int(rng.integers(0, 4))
    cells, weights = [], []
    for _ in range(int(rng.integers(1, 6))):
        n = int(rng.choice([1, 2, 3, 7, 40]))
        units = 10.0 ** rng.integers(-3, 4, size=p + 1)
        z = (rng.choice([0.0, 1.0, 1e4]) + rng.normal(size=(n, p + 1))) * units
        for column in range(p):
            kind = rng.choice(["free", "constant", "zero", "multiple", "almost"])
            if kind == "constant":
                z[:, column] = z[0, column]
            elif kind == "zero":
                z[:, column] = 0.0
            elif kind in ("multiple", "almost") and column:
                z[:, column] = 3 * z[:, column - 1]
                # By more than digits that are there.
                little = 1e-5 * units[column - 1] + 1e-11 * np.abs(z[:, column - 1]).max()
                z[:, column] += (kind == "almost") * little * rng.normal(size=n)
        cells.append(z)
        weights.append(rng.choice([np.ones(n), rng.uniform(0.2, 5, size=n)]))
    return cells, weights


def check(seed: int, off: float) -> None:
    cells, weights = author(seed)
    found = pseudo_rows(moments(cells, weights, off))
    n_pseudo = np.bincount(found.cell, minlength=len(cells))
    n = np.array([len(z) for z in cells])
    assert (n_pseudo <= np.minimum(n, cells[0].shape[1])).all()
    assert (found.degrees_of_freedom == n - n_pseudo).all()
    for cell, (z, w) in enumerate(zip(cells, weights, strict=True)):
        own = found.rows[found.cell == cell]
        full = np.column_stack([np.ones(len(z)), z])
        expected = (w[:, None] * full).T @ full
        actual = own.T @ own
        actual[-1, -1] += found.sum_of_squares[cell]
        scale = np.sqrt(np.diagonal(expected))
        scale[scale == 0] = 1.0
        np.testing.assert_allclose(
            actual / np.outer(scale, scale), expected / np.outer(scale, scale), atol=1e-13
        )
        # About means, where nothing is large: what residuals are made of.
        centred = z - w @ z / w.sum()
        spread = (w[:, None] * centred).T @ centred
        about = own[1:, 1:].T @ own[1:, 1:]
        about[-1, -1] += found.sum_of_squares[cell]
        sds = np.sqrt(np.diagonal(spread)) + 1e-10 * scale[1:]  # constants are rounded
        np.testing.assert_allclose(
            about / np.outer(sds, sds), spread / np.outer(sds, sds), atol=1e-9
        )


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 1e-9]))
def test_crossproducts(seed: int, off: float) -> None:
    check(seed, off)


@pytest.mark.slow
@settings(max_examples=5000)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 1e-9]))
def test_many_crossproducts(seed: int, off: float) -> None:
    check(seed, off)


def test_sum_of_squares_and_constant() -> None:
    rng = np.random.default_rng(0)
    y, w, sigma, mu = rng.normal(3, 2, size=12), rng.uniform(1, 2, size=12), 1.7, 2.5
    expected = stats.norm(mu, sigma / np.sqrt(w)).logpdf(y).sum()
    found = pseudo_rows(moments([y[:, None]], [w]))
    ((root, y_mean),) = found.rows
    S, nu = found.sum_of_squares, found.degrees_of_freedom
    total = stats.norm(mu * root, sigma).logpdf(y_mean)
    total += stats.gamma(nu[0] / 2, scale=2 * sigma**2).logpdf(S[0])
    total += log_constant(S, nu, np.log(w).sum())
    np.testing.assert_allclose(total, expected, rtol=1e-13)
