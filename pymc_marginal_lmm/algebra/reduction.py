"""Chains of nested factors, reduced to their last one: :class:`~pymc_marginal_lmm.ops.SweepFactor`.

Sweeping the first factor changes the crossproducts of those it is nested in, and of the dense
block, and leaves the next factor block diagonal as it was: 100,000 students in 5,000 classes in
500 schools never meet a matrix larger than their blocks. What a level leaves for its class *and*
its school goes to the class first, where it is one block for all its students, and is carried on.
"""

from __future__ import annotations

from typing import NamedTuple

import pytensor.tensor as pt
from pytensor import config
from pytensor.graph.basic import Variable

from pymc_marginal_lmm.algebra.chain import Cliques, sum_levels
from pymc_marginal_lmm.algebra.data import DataTerms, as_float
from pymc_marginal_lmm.algebra.posterior import concatenated
from pymc_marginal_lmm.algebra.scales import factor_layout, packed_scale, prior_precision
from pymc_marginal_lmm.ops import SweepFactor
from pymc_marginal_lmm.structure import MixedModel

__all__ = ["Reduced", "sweep_chain"]


class Reduced(NamedTuple):
    """Crossproducts of the last factor of the chain (None: there is none) and the dense block.

    ``own (M, S, S)``, ``right (M, S, q)`` or at the entries of a pattern, ``c1 (M, S)``;
    ``dense (q, q)``, ``c2 (q)``; ``s ()``.
    """

    own: Variable | None
    right: Variable | None
    c1: Variable | None
    dense: Variable
    c2: Variable
    s: Variable


def sweep_chain(model: MixedModel, data: DataTerms) -> tuple[Reduced, Variable]:
    """Sweep all factors of the chain but the last; return what is left, and their ``log|F|``."""
    chain, cliques = model.blocks.chain, Cliques.of(model.factors, model.blocks)
    own, right = list(data.A.own), list(data.A.right)
    c = [data.c[i] for i in chain]
    dense, c2, s = data.A.dense, concatenated(model, data.c), data.s
    log_det = pt.constant(0.0, dtype=config.floatX)
    carried: tuple[Variable, Variable] | None = None
    for i, parents in enumerate(model.blocks.parents):
        factor, k, S = model.factors[chain[i]], cliques.n_above(i), cliques.widths[i + 1]
        constant = data.constant_design and i == 0
        swept = SweepFactor(factor_layout(model, factor), k, constant)(
            data.w,
            packed_scale(model, factor),
            own[i],
            right[i],
            c[i],
            data.v0[chain[i]],
            as_float(prior_precision(model, factor)),
        )
        log_f, z, near, far, near_c, far_c = swept
        log_det, s = log_det + log_f, s + z
        dense, c2 = dense - far, c2 - far_c
        if carried is not None:
            near, near_c = near + carried[0], near_c + carried[1]
        n_levels = model.factors[chain[i + 1]].n_levels
        near, near_c = (sum_levels(x, parents, n_levels) for x in (near, near_c))
        own[i + 1] = own[i + 1] - near[:, :S, :S]
        right[i + 1] = right[i + 1] - near[:, :S, S:]
        c[i + 1] = c[i + 1] - near_c[:, :S]
        carried = near[:, S:, S:], near_c[:, S:]
    if not chain:
        return Reduced(None, None, None, dense, c2, s), log_det
    return Reduced(own[-1], right[-1], c[-1], dense, c2, s), log_det
