"""Array libraries: the mathematics is written once, for NumPy and for JAX."""

from __future__ import annotations

from collections.abc import Callable
from operator import getitem
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg

__all__ = ["NUMPY", "UNROLLED", "ArrayLibrary"]

UNROLLED = 5
"""Largest block that is factorised by explicit formulas."""


class ArrayLibrary(NamedTuple):
    """What the mathematics needs: an array namespace and three functions it may lack.

    ``segment_sum(x, segments, size)`` sums a vector by segment, ``constants(arrays)`` makes index
    arrays constants of the program, and ``take(x, indices)`` is ``x[indices]`` for valid indices.
    ``unrolled`` is the largest ``b`` of blocks ``(a, b) · (b, c)`` multiplied by explicit formulas.
    """

    xp: ModuleType
    solve_triangular: Callable
    segment_sum: Callable
    constants: Callable = tuple
    take: Callable = getitem
    unrolled: int = UNROLLED


def _segment_sum(x: np.ndarray, segments: np.ndarray, size: int) -> np.ndarray:
    return np.bincount(segments, weights=x, minlength=size).astype(x.dtype)


def _solve_triangular(U: np.ndarray, h: np.ndarray, trans: int = 0, lower: bool = False) -> Any:
    if U.ndim == 2:
        return scipy.linalg.solve_triangular(U, h, trans=trans, lower=lower, check_finite=False)
    (trtrs,) = scipy.linalg.get_lapack_funcs(("trtrs",), (U, h))
    batch = np.broadcast_shapes(U.shape[:-2], h.shape[:-2])
    U, h = (np.broadcast_to(x, batch + x.shape[-2:]) for x in (U, h))
    x = np.empty_like(h)
    for i in np.ndindex(batch):
        x[i] = trtrs(U[i], h[i], lower=lower, trans=trans)[0]
    return x


NUMPY = ArrayLibrary(np, _solve_triangular, _segment_sum, unrolled=1)
