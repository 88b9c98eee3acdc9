"""Factors whose levels do not touch, swept out of the crossproducts, one by one.

Sweeping the first factor of a chain changes the crossproducts of those it is nested in, and of the
dense block, and leaves the next factor block diagonal as it was: 100,000 students in 5,000 classes
in 500 schools never meet a matrix larger than their blocks. What a level leaves for its class *and*
its school goes to the class first, where it is one block for all its students, and is carried on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pytensor.tensor as pt
from pytensor import config
from pytensor.graph.basic import Variable

from pymc_marginal_lmm.algebra.cliques import Cliques
from pymc_marginal_lmm.algebra.data import DataTerms, OrthonormalTerms
from pymc_marginal_lmm.algebra.scales import factor_layout, packed_scale, prior_precision
from pymc_marginal_lmm.algebra.weights import as_float
from pymc_marginal_lmm.ops import SweepFactor, SweepOrthonormal, level_sums
from pymc_marginal_lmm.structure import MixedModel

__all__ = ["Reduced", "SweptLevels", "concatenated", "sweep_chain"]


class Reduced(NamedTuple):
    """Crossproducts of the dense block, ``A (q, q)``, ``c (q)``, ``s ()``, the chain swept out.

    ``v``: its reference point; ``log_det``: of what was swept; ``constant``: whether ``A`` holds no
    parameters; ``levels``: of the chain, as they were swept.
    """

    A: Variable
    c: Variable
    s: Variable
    v: Variable
    log_det: Variable
    constant: bool
    levels: tuple[SweptLevels, ...] = ()


class SweptLevels(NamedTuple):
    """Crossproducts of a factor when it is swept: ``A11 (M, S, S)``, ``R`` and ``c1 (M, S)``."""

    A: Variable
    right: Variable
    c: Variable


def sweep_chain(model: MixedModel, data: DataTerms) -> Reduced:
    """Sweep all factors of the chain out of the crossproducts."""
    if data.orthonormal is not None:
        return _sweep_orthonormal(model, data, data.orthonormal)
    chain, cliques = model.blocks.chain, Cliques.of(model.factors, model.blocks)
    own, right = list(data.A.own), list(data.A.right)
    c = [data.c[i] for i in chain]
    A, c2, s = data.A.dense, concatenated(model, data.c), data.s
    log_det = pt.constant(0.0, dtype=config.floatX)
    carried: tuple[Variable, Variable] | None = None
    for i, position in enumerate(chain):
        factor, k = model.factors[position], cliques.n_above(i)
        if cliques.pattern is None:
            near, far = right[i][:, :, :k], right[i][:, :, k:]
        else:
            shape = (factor.n_levels, factor.n_effects, 0)
            near, far = as_float(np.zeros(shape)), right[i]
        constant = data.constant_design and i == 0
        swept = SweepFactor(factor_layout(model, factor), cliques.pattern, constant)(
            data.w,
            packed_scale(model, factor),
            own[i],
            near,
            far,
            c[i],
            data.v0[position],
            as_float(prior_precision(model, factor)),
            A,
            c2,
        )
        log_f, z, near, A, near_c, c2 = swept
        log_det, s = log_det + log_f, s + z
        if i + 1 == len(chain):
            break
        if carried is not None:
            near, near_c = near + carried[0], near_c + carried[1]
        n_levels, S = model.factors[chain[i + 1]].n_levels, cliques.widths[i + 1]
        near, near_c = (level_sums(x, cliques.parents[i], n_levels) for x in (near, near_c))
        own[i + 1] = own[i + 1] - near[:, :S, :S]
        right[i + 1] = right[i + 1] - near[:, :S, S:]
        c[i + 1] = c[i + 1] - near_c[:, :S]
        carried = near[:, S:, S:], near_c[:, S:]
    constant = data.constant_design and not chain
    levels = tuple(map(SweptLevels, own, right, c))
    return Reduced(A, c2, s, concatenated(model, data.v0), log_det, constant, levels)


def _sweep_orthonormal(model: MixedModel, data: DataTerms, terms: OrthonormalTerms) -> Reduced:
    """Sweep the only factor out; see :mod:`pymc_marginal_lmm.ops.orthonormal`."""
    factor = model.factors[model.blocks.chain[0]]
    log_det, z, A, c = SweepOrthonormal(factor_layout(model, factor))(
        data.w, packed_scale(model, factor), *terms
    )
    levels = SweptLevels(data.A.own[0], data.A.right[0], data.c[model.blocks.chain[0]])
    v = concatenated(model, data.v0)
    return Reduced(A, c, data.s + z, v, log_det, constant=False, levels=(levels,))


def concatenated(model: MixedModel, parts: Sequence[Variable]) -> Variable:
    """Put what belongs to factors of the dense block, ``(M, S)`` each, into one vector ``(q,)``."""
    columns = [parts[i].reshape((-1,)) for i in model.blocks.trailing]
    if not columns:
        return pt.zeros((0,), dtype=config.floatX)
    return columns[0] if len(columns) == 1 else pt.concatenate(columns)
