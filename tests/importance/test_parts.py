"""Reflections, mixtures, proposals on the half space: each against what it must be."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import multivariate_t

from pymc_marginal_lmm.importance import Proposal, Reflections, StudentMixture
from pymc_marginal_lmm.importance.mixture import covariance_root, degrees_of_freedom

TWO = Reflections(np.array([[-1.0, 1, -1], [1, -1, -1]]), np.array([0, 1]))


def mixture() -> StudentMixture:
    scales = np.array([[[1.0, 0.5, 0], [0.5, 2, 0], [0, 0, 0.3]], np.eye(3)])
    return StudentMixture.of(np.array([0.7, 0.3]), [[0.5, 1.0, 0], [2, 0, 1]], scales)


def test_points_are_folded_into_the_half_space() -> None:
    x = np.random.default_rng(1).normal(size=(50, 3))
    folded = TWO.fold(x)
    assert TWO.inside(folded).all()
    assert_array_equal(TWO.fold(folded), folded)
    assert_array_equal(np.abs(folded), np.abs(x))
    assert_array_equal(folded[:, 2], x[:, 2] * np.sign(x[:, 0]) * np.sign(x[:, 1]))


def test_the_group_is_closed() -> None:
    group = TWO.group()
    assert_array_equal(group[0], np.ones(3))
    products = {tuple(g * h) for g in group for h in group}
    assert products == {tuple(g) for g in group} and len(group) == 4
    assert Reflections.none(3).group().shape == (1, 3)


def test_an_axis_belongs_to_one_reflection() -> None:
    with pytest.raises(ValueError, match="under one reflection only"):
        Reflections(np.array([[-1.0, -1], [1, -1]]), np.array([0, 1]))


def test_density_of_a_mixture() -> None:
    x = np.random.default_rng(2).normal(size=(20, 3))
    own, nu = mixture(), degrees_of_freedom(3)
    parts = [
        weight * multivariate_t(mean, root @ root.T, df=nu).pdf(x)
        for weight, mean, root in zip(*own, strict=True)
    ]
    assert_allclose(own.log_density(x), np.log(sum(parts)), rtol=1e-10)


def test_points_of_a_mixture() -> None:
    own, nu = mixture(), degrees_of_freedom(3)
    x = own.draw(2**14, np.random.default_rng(3))
    assert_allclose(x.mean(axis=0), own.weights @ own.means, atol=0.02)
    second = sum(
        w * (root @ root.T * nu / (nu - 2) + np.outer(m, m))
        for w, m, root in zip(*own, strict=True)
    )
    assert_allclose(x.T @ x / len(x), second, atol=0.1)


def test_components_have_their_shares_of_points() -> None:
    apart = own = mixture()._replace(means=np.array([[-100.0, 0, 0], [100, 0, 0]]))
    for n in (3, 40, 1000):
        x = apart.draw(n, np.random.default_rng(4))
        assert x.shape == (n, 3)
        assert abs((x[:, 0] < 0).sum() - own.weights[0] * n) < 3


def test_each_point_has_the_density_of_the_mixture() -> None:
    """Also where their number is no power of two: that of one point, over many seeds."""
    own = mixture()
    x = np.concatenate([own.draw(1, np.random.default_rng(seed)) for seed in range(500)])
    assert_allclose(x.mean(axis=0), own.weights @ own.means, atol=0.25)


def test_root_of_a_matrix_that_has_none() -> None:
    singular = np.array([[4.0, 2, 0], [2, 1, 0], [0, 0, 1e-12]])
    root = covariance_root(singular)
    assert_allclose(root @ root.T, singular, atol=1e-8)
    assert (np.diagonal(root) > 0).all()


def test_a_folded_proposal_is_a_density_on_the_half_space() -> None:
    flat = StudentMixture.of(
        np.array([0.6, 0.4]), [[0.4, 0.2], [1.0, 1]], np.array([np.eye(2), 0.3 * np.eye(2)])
    )
    proposal = Proposal(flat, Reflections(np.array([[-1.0, -1]]), np.array([0])))
    side = np.linspace(-60, 60, 1201)
    grid = np.stack(np.meshgrid(side[600:], side, indexing="ij"), axis=-1)
    values = np.exp(proposal.log_density(grid.reshape(-1, 2))).reshape(grid.shape[:2])
    total = np.trapezoid(np.trapezoid(values, side, axis=1), side[600:])
    assert_allclose(total, 1, atol=1e-3)
    x = proposal.draw(4096, np.random.default_rng(5))
    assert (x[:, 0] >= 0).all()
    inside = (x[:, 0] < 1) & (x[:, 1] < 0.5)
    cells = (grid[..., 0] < 1) & (grid[..., 1] < 0.5)
    assert_allclose(inside.mean(), (values * cells).sum() * 0.01, atol=0.04)
