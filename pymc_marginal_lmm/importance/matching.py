r"""Draws of one density made into draws of another: matching of moments, and a mixture of both.

Of ``p`` there are draws ``x``, and wanted is the mean of ``f`` under ``p/f``: what leaving out an
observation of likelihood ``f`` is about. Where the weights ``1/f`` have too heavy a tail, the draws
are moved, by affine maps that give them the weighted mean, then the variances, then the covariance
of what is wanted, as long as k̂ falls (Paananen, Piironen, Bürkner and Vehtari 2021). With the sum
of all moves ``T(x) = Ax + b``, half of the draws are moved and half stay. Together they are draws
of the mixture of ``p`` and of the density of the moved ones::

    q(x) = ½ p(x) + ½ p(T⁻¹x) / |A|        w = p / (f q)        mean of f = Σ w f / Σ w

``p/q ≤ 2``, so that no ``wf`` is large, whatever ``f``; and the tail of ``w`` is checked.

(``arviz_stats.loo_moment_match`` up to 1.3.3 takes a point that is not ``T⁻¹x`` if ``A`` is not 1.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp

from pymc_marginal_lmm.importance.integrate import smoothed_and_khat

__all__ = ["Matched", "match_moments"]

type Logarithm = Callable[[np.ndarray], np.ndarray]
"""From points ``(N, d)`` to ``(N,)``."""

MOVES = 10
"""At most so many of them."""


class Matched(NamedTuple):
    """The logarithm of the mean of ``f`` under ``p/f``, by moved draws, and k̂ of their weights."""

    log_mean: float
    khat: float


def match_moments(log_p: Logarithm, log_f: Logarithm, x: np.ndarray) -> Matched:
    """Return the logarithm of the mean of ``f`` under ``p/f``.

    Parameters
    ----------
    log_p : callable
        Density that is not zero anywhere, up to a constant.
    log_f : callable
    x : array, (N, d)
        Draws of ``p``, in an order that says nothing.
    """
    before = log_p(x)
    A, b = np.eye(x.shape[1]), np.zeros(x.shape[1])
    now = x
    log_w, khat = _weights(-log_f(x))
    for _ in range(MOVES):
        for move in (_shift, _scale, _turn):
            M, c = move(now, np.exp(log_w))
            new = now @ M.T + c
            new_log_w, new_khat = _weights(log_p(new) - log_f(new) - before)
            if new_khat < khat:
                A, b, now = M @ A, M @ b + c, new
                log_w, khat = new_log_w, new_khat
                break
        else:
            break
    return _of_mixture(log_p, log_f, x, before, A, b)


def _of_mixture(
    log_p: Logarithm,
    log_f: Logarithm,
    x: np.ndarray,
    before: np.ndarray,
    A: np.ndarray,
    b: np.ndarray,
) -> Matched:
    moved = np.arange(len(x)) % 2 == 0
    at = np.where(moved[:, None], x @ A.T + b, x)
    back = np.where(moved[:, None], x, np.linalg.solve(A, (x - b).T).T)
    log_p_at, log_p_back = before.copy(), before.copy()
    log_p_at[moved], log_p_back[~moved] = log_p(at[moved]), log_p(back[~moved])
    log_q = np.logaddexp(log_p_at, log_p_back - np.linalg.slogdet(A)[1])
    log_f_at = log_f(at)
    log_w, khat = _weights(log_p_at - log_f_at - log_q)
    there = np.isfinite(log_w)
    return Matched(float(logsumexp(log_w[there] + log_f_at[there])), khat)


def _weights(log_w: np.ndarray) -> tuple[np.ndarray, float]:
    log_w, khat = smoothed_and_khat(np.where(np.isfinite(log_w), log_w, -np.inf))
    return log_w - logsumexp(log_w), khat


# --- Affine maps ``Mx + c`` of draws with weights ``w`` -----------------------------------------


def _about_means(x: np.ndarray, w: np.ndarray, M: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return M, w @ x - M @ x.mean(axis=0)


def _shift(x: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Match the means."""
    return _about_means(x, w, np.eye(x.shape[1]))


def _scale(x: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Match the variances, too."""
    return _about_means(x, w, np.diag(np.sqrt(w @ (x - w @ x) ** 2 / x.var(axis=0))))


def _turn(x: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Match the covariance."""
    centred = x - w @ x
    try:
        wanted = np.linalg.cholesky(centred.T @ (w[:, None] * centred))
        now = np.linalg.cholesky(np.atleast_2d(np.cov(x, rowvar=False, bias=True)))
    except np.linalg.LinAlgError:
        return _shift(x, w)  # too few draws count
    return _about_means(x, w, np.linalg.solve(now.T, wanted.T).T)
