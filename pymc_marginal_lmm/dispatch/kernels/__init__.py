"""Numba kernels: the mathematics of :mod:`pymc_marginal_lmm.ops` as loops.

Symbols, order of arguments and formulas are those of the modules they mirror. Blocks never go to
LAPACK, and the dense block goes to LAPACK and BLAS only where it is large: below, starting their
threads costs more than the work (:mod:`pymc_marginal_lmm.dispatch.kernels.dense`). Results are
written into the last arguments.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from pymc_marginal_lmm.dispatch.kernels.block_tridiagonal import (
    block_tridiagonal_draw,
    block_tridiagonal_pullback,
    block_tridiagonal_solve,
)
from pymc_marginal_lmm.dispatch.kernels.evidence import log_evidence, log_evidence_pullback
from pymc_marginal_lmm.dispatch.kernels.normal_draw import normal_draw
from pymc_marginal_lmm.dispatch.kernels.orthonormal import (
    sweep_orthonormal,
    sweep_orthonormal_pullback,
)
from pymc_marginal_lmm.dispatch.kernels.sweep import sweep, sweep_pullback

__all__ = [
    "block_tridiagonal_draw",
    "block_tridiagonal_pullback",
    "block_tridiagonal_solve",
    "log_evidence",
    "log_evidence_pullback",
    "normal_draw",
    "source_digest",
    "sweep",
    "sweep_orthonormal",
    "sweep_orthonormal_pullback",
    "sweep_pullback",
]


def source_digest() -> str:
    """Return a digest of the source of all kernels, which names what was compiled from it."""
    digest = sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
