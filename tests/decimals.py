"""The marginal density with 80 decimal digits: a reference where sixteen are lost."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, localcontext

import numpy as np

__all__ = ["derivative", "exact", "log_density"]

DIGITS = 80
LOG_2PI = "1.8378770664093454835606594728112352797227949472755668256343030809655391854520795"


def exact(x: np.ndarray | float) -> np.ndarray:
    """Return doubles as they are, digit by digit."""
    array = np.asarray(x)
    if array.dtype == object:
        return array
    decimals = [Decimal(float(value)) for value in array.ravel()]
    return np.array(decimals, dtype=object).reshape(array.shape)


def log_density(y: np.ndarray, X: np.ndarray, C: np.ndarray, sigma: np.ndarray) -> Decimal:
    """Return ``log ∫ Normal(y; Xβ, CCᵀ + diag(σ²)) dβ``; without columns of ``X``, the density."""
    with localcontext() as context:
        context.prec = DIGITS
        y, X, C = exact(y), exact(X), exact(C)
        V = C.dot(C.T) if C.size else np.full((len(y), len(y)), Decimal(0))
        V[np.diag_indices(len(y))] += exact(sigma) ** 2
        W, log_det = _solve(V, np.column_stack([X, y]))
        p = X.shape[1]
        products = W.T.dot(W)
        squares = products[p, p]
        if p:
            own, more = _solve(products[:p, :p], products[:p, [p]])
            squares -= (own.T.dot(own))[0, 0]
            log_det += more
        return -(log_det + squares + (len(y) - p) * Decimal(LOG_2PI)) / 2


def derivative(function: Callable[[Decimal], Decimal], x: float) -> Decimal:
    """Differentiate by a difference of 1e-25."""
    with localcontext() as context:
        context.prec = DIGITS
        at, step = Decimal(x), abs(Decimal(x)) * Decimal("1e-25")
        return (function(at + step) - function(at - step)) / (2 * step)


def _solve(V: np.ndarray, B: np.ndarray) -> tuple[np.ndarray, Decimal]:
    """Return ``L⁻¹B`` with ``V = LLᵀ``, and ``log|V|``."""
    n, log_det = len(V), Decimal(0)
    L, W = np.full((n, n), Decimal(0)), B.copy()
    for j in range(n):
        rest = V[j:, j] - L[j:, :j].dot(L[j, :j]) if j else V[:, 0]
        L[j:, j] = rest / rest[0].sqrt()
        log_det += rest[0].ln()
        W[j] = (B[j] - L[j, :j].dot(W[:j]) if j else B[0]) / L[j, j]
    return W, log_det
