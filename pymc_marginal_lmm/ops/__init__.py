"""The numeric core: Ops, their pullbacks, and the mathematics that they are made of."""

from pymc_marginal_lmm.ops.banded import SparseSymmetric, banded_noise, solve_banded
from pymc_marginal_lmm.ops.block_tridiagonal import (
    BlockTridiagonalDraw,
    BlockTridiagonalSolve,
    BlockTridiagonalSolvePullback,
)
from pymc_marginal_lmm.ops.level_sums import LevelSums, level_sums
from pymc_marginal_lmm.ops.log_evidence import LogEvidence, LogEvidencePullback
from pymc_marginal_lmm.ops.normal_draw import NormalDraw, draw_normal
from pymc_marginal_lmm.ops.sweep_factor import SweepFactor, SweepFactorPullback
from pymc_marginal_lmm.ops.sweep_orthonormal import SweepOrthonormal, SweepOrthonormalPullback

__all__ = [
    "BlockTridiagonalDraw",
    "BlockTridiagonalSolve",
    "BlockTridiagonalSolvePullback",
    "LevelSums",
    "LogEvidence",
    "LogEvidencePullback",
    "NormalDraw",
    "SparseSymmetric",
    "SweepFactor",
    "SweepFactorPullback",
    "SweepOrthonormal",
    "SweepOrthonormalPullback",
    "banded_noise",
    "draw_normal",
    "level_sums",
    "solve_banded",
]
