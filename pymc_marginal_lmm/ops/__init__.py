"""The numeric core: Ops, their pullbacks, and the elimination that all of them are made of."""

from pymc_marginal_lmm.ops.banded import SparseSymmetric, banded_noise, solve_banded
from pymc_marginal_lmm.ops.block_solve import (
    BlockSolve,
    BlockSolvePullback,
    block_solve,
    solve_many,
)
from pymc_marginal_lmm.ops.block_tridiagonal import (
    BlockTridiagonalDraw,
    BlockTridiagonalSolve,
    BlockTridiagonalSolvePullback,
)
from pymc_marginal_lmm.ops.level_sums import LevelSums, level_sums
from pymc_marginal_lmm.ops.log_evidence import LogEvidence, LogEvidencePullback
from pymc_marginal_lmm.ops.sweep_factor import SweepFactor, SweepFactorPullback
from pymc_marginal_lmm.ops.sweep_orthonormal import SweepOrthonormal, SweepOrthonormalPullback

__all__ = [
    "BlockSolve",
    "BlockSolvePullback",
    "BlockTridiagonalDraw",
    "BlockTridiagonalSolve",
    "BlockTridiagonalSolvePullback",
    "LevelSums",
    "LogEvidence",
    "LogEvidencePullback",
    "SparseSymmetric",
    "SweepFactor",
    "SweepFactorPullback",
    "SweepOrthonormal",
    "SweepOrthonormalPullback",
    "banded_noise",
    "block_solve",
    "level_sums",
    "solve_banded",
    "solve_many",
]
