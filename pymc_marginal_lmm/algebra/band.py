r"""Effects with a sparse precision, swept out of the crossproducts all at once.

The effects of a :class:`~pymc_marginal_lmm.structure.Band` are ``v1 = m + Λ1x + C z``: ``Λ1`` is
diagonal, ``x`` has the precision ``P1`` and the mean ``P1⁻¹g``, and the few ``z`` are effects like
those of the dense block, with the columns ``Z1C``. The sweep is that of
:mod:`pymc_marginal_lmm.ops.sweep`, where ``F11`` was block diagonal; now it is banded, so that
``E = w Λ1F11⁻¹Λ1`` is not made but applied to the columns it is needed for::

    R = [A12, A11C]      a = c1 + A11 v1      F11 [X, η] = [Λ1R, Λ1a + g/w]
    δ = wΛ1η − v1        e = A11δ − c1        z = δᵀ(e − c1) + w ηᵀP1η − 2gᵀη + gᵀP1⁻¹g / w
    A' = A22 − w RᵀΛ1X   c' = c2 − Rᵀδ        s' = s + z

A variable whose mean has a prior (``ICAR``) has the square ``(gᵀx + z/σ)²`` more in ``Q``, with
``g = Λ 1/(Nσ)``, and a ``z`` that has no prior. Its minimum over ``x`` is one square more for the
others, and nothing cancels: that of ``gᵀw(η − Xδ2) + z/σ``, over ``1 + gᵀF11⁻¹g``.

For given ``δ2`` of the others, ``x = w(η − X δ2)``. Gradients are those of the Op that solves
(:class:`~pymc_marginal_lmm.ops.BlockTridiagonalSolve`) and of the products around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np
import pytensor.tensor as pt
from pytensor import config
from pytensor.graph.basic import Variable

from pymc_marginal_lmm.algebra.data import DataTerms
from pymc_marginal_lmm.algebra.descent import draw_dense
from pymc_marginal_lmm.algebra.reduction import Reduced
from pymc_marginal_lmm.algebra.scales import (
    effect_scale,
    loading_blocks,
    n_centred,
    n_starts,
    packed_scale,
    trailing_precision,
)
from pymc_marginal_lmm.algebra.weights import as_float
from pymc_marginal_lmm.ops import (
    SparseSymmetric,
    banded_noise,
    level_sums,
    solve_banded,
)
from pymc_marginal_lmm.structure import Band, MixedModel

__all__ = ["Swept", "by_coordinate", "draw_band", "sweep_band"]


@dataclass(frozen=True)
class Centring:
    """Rows ``Gᵀ`` that the prior adds to those of the data, ``F11 = F + GGᵀ``.

    Parameters
    ----------
    G, solved : Variable, (q, k)
        And ``F⁻¹G``.
    columns : array of int, (k,)
        Of the ``z``, in the dense block.
    sd : Variable, (k,)
    """

    G: Variable
    solved: Variable
    columns: np.ndarray
    sd: Variable

    @property
    def _capacitance(self) -> Variable:
        k = len(self.columns)
        return as_float(np.eye(k)) + self.G.T @ self.solved

    def weighted(self, rows: Variable) -> Variable:
        """Return ``S⁻¹`` times rows ``(k, …)``."""
        return pt.linalg.solve(self._capacitance, rows, b_ndim=2)

    def corrected(self, X: Variable, more: Variable) -> Variable:
        """Make draws with covariance ``F11⁻¹`` of those with ``F⁻¹``, given noise for the rows."""
        return X - self.solved @ self.weighted(self.G.T @ X + more)

    def log_det(self) -> Variable:
        """Return ``log|F11| − log|F|``."""
        return pt.linalg.slogdet(self._capacitance)[1]

    def of_starts(self, size: int) -> Variable:
        """Return what the rows hold of the ``z`` among all others, ``(k, size)``."""
        hot = np.zeros((len(self.columns), size))
        hot[np.arange(len(self.columns)), self.columns] = 1.0
        return as_float(hot) / self.sd[:, None]


@dataclass(frozen=True)
class Swept:
    """What is left when the effects of a band are gone, and how to find these again.

    Parameters
    ----------
    rest : Reduced
        The problem of the dense block and the starts, ``z``.
    X, eta : Variable, (q, q2) and (q,)
        Of the module.
    factor : list of Variable
        Of ``F11`` without ``ggᵀ``.
    centring : Centring or None
    w : Variable
    band : Band
    """

    rest: Reduced
    X: Variable
    eta: Variable
    factor: list[Variable]
    centring: Centring | None
    w: Variable
    band: Band

    def given(self, d2: Variable) -> Variable:
        """Return the mean of ``x`` given ``δ2``."""
        return self.w * (self.eta - self.X @ d2)

    def noise(self, epsilon: Variable, more: Variable) -> Variable:
        """Return what has covariance ``F11⁻¹``, ``(q,)``, given standard Normal numbers."""
        x = banded_noise(self.band.order, self.factor, epsilon)
        if self.centring is None:
            return x
        return self.centring.corrected(x[:, None], more[:, None])[:, 0]


def by_coordinate(model: MixedModel, parts: Sequence[Variable], rest: float = 0.0) -> Variable:
    """Put what belongs to factors of the band, ``(M, S)`` each, into one vector ``(q,)``."""
    band = model.blocks.band
    assert band is not None
    vectors = [pt.reshape(parts[i], (model.factors[i].size,)) for i in band.factors]
    if unused := band.size - sum(model.factors[i].size for i in band.factors):
        vectors.append(as_float(np.full(unused, rest)))
    return vectors[0] if len(vectors) == 1 else pt.concatenate(vectors)


def _scale(model: MixedModel) -> Variable:
    """``Λ1``, ``(q,)``; of elements without data no matter what."""
    parts: list[Variable] = [pt.zeros(())] * len(model.factors)
    band = model.blocks.band
    assert band is not None
    for i in band.factors:
        factor = model.factors[i]
        shape = (factor.n_levels, factor.n_effects)
        parts[i] = pt.broadcast_to(packed_scale(model, factor)[:, :, 0], shape)
    return by_coordinate(model, parts)


def _precision(model: MixedModel, band: Band) -> SparseSymmetric:
    """``P1``: that of the variables which have one, and 1, or 0 for flat priors, of all others."""
    rows, columns, values = [], [], []
    alone = np.ones(band.size, dtype=bool)
    for effect, own in band.coordinates.items():
        precision = model.effects[effect].precision
        assert precision is not None
        rows.append(np.maximum(own[precision.rows], own[precision.columns]))
        columns.append(np.minimum(own[precision.rows], own[precision.columns]))
        values.append(pt.cast(precision.values, config.floatX))
        alone[own] = False
    others = np.flatnonzero(alone)
    if others.size:
        rows.append(others)
        columns.append(others)
        values.append(as_float(np.ones(others.size)))
    row, column = np.concatenate(rows), np.concatenate(columns)
    return SparseSymmetric(row, column, pt.concatenate(values), band.size)


def _starts(model: MixedModel) -> Variable:
    """``C``, ``(q, k)``: the columns of all variables side by side, times loadings."""
    band = model.blocks.band
    assert band is not None
    columns = []
    for effect, own in band.coordinates.items():
        precision = model.effects[effect].precision
        assert precision is not None
        if precision.n_starts:
            columns.append(level_sums(as_float(precision.start), own, band.size))
    together = columns[0] if len(columns) == 1 else pt.concatenate(columns, axis=1)
    loadings = [loading_blocks(model.factors[i]) for i in band.factors]
    if all(K is None for K in loadings):
        return together
    parts = [as_float(np.zeros(0)) for _ in model.factors]
    for i, K in zip(band.factors, loadings, strict=True):
        shape = (model.factors[i].n_levels, model.factors[i].n_effects)
        parts[i] = (
            as_float(np.ones(shape))
            if K is None
            else pt.broadcast_to(pt.diagonal(K, axis1=1, axis2=2), shape)
        )
    return together * by_coordinate(model, parts, rest=1.0)[:, None]


def sweep_band(model: MixedModel, data: DataTerms) -> Swept:
    """Sweep the effects of the band out of the crossproducts."""
    band, blocks = model.blocks.band, data.A.band
    assert band is not None and blocks is not None
    A11 = SparseSymmetric(band.rows, band.columns, blocks.own, band.size)
    c1, v1 = (by_coordinate(model, parts) for parts in (data.c, data.v0))
    R, A22 = as_float(blocks.right), as_float(data.A.dense)
    c2, v2 = (
        pt.concatenate([as_float(np.zeros(0)), *(pt.reshape(part, (-1,)) for part in trailing)])
        for trailing in ([parts[i] for i in model.blocks.trailing] for parts in (data.c, data.v0))
    )
    if k := n_starts(model):
        C = _starts(model)
        AC = A11.times(C)
        corner = C.T @ R
        A22 = pt.concatenate(
            [
                pt.concatenate([A22, corner.T], axis=1),
                pt.concatenate([corner, C.T @ AC], axis=1),
            ]
        )
        R = pt.concatenate([R, AC], axis=1)
        c2 = pt.concatenate([c2, C.T @ c1])
        v2 = pt.concatenate([v2, as_float(np.zeros(k))])
    w, scale, P = data.w, _scale(model), _precision(model, band)
    a = c1 + A11.times(v1[:, None])[:, 0]
    right = scale[:, None] * pt.concatenate([R, a[:, None]], axis=1)
    shift = _shift(model, band)
    if shift is not None:
        g, gg = shift
        right = pt.concatenate([right[:, :-1], right[:, -1:] + (g / w)[:, None]], axis=1)
    rows, sd = _centred_rows(model, band)
    n_rows = rows.type.shape[1]
    q2 = R.type.shape[1]
    columns = q2 - k + np.flatnonzero(trailing_precision(model)[q2 - k :] == 0)
    own = A11.scaled(scale)
    F = SparseSymmetric(own.rows, own.columns, w * own.values, band.size)
    solved_for = pt.concatenate([right, rows], axis=1) if n_rows else right
    log_det, solution, factor = solve_banded(band.order, [P, F], solved_for)
    centring = None
    if n_rows:
        centring = Centring(rows, solution[:, q2 + 1 :], columns, sd)
        solution = solution[:, : q2 + 1]
        log_det += centring.log_det()
    X, eta = solution[:, :-1], solution[:, -1]
    d = w * scale * eta - v1
    e = A11.times(d[:, None])[:, 0] - c1
    z = (d * (e - c1)).sum() + w * P.quadratic(eta)
    if shift is not None:
        z += gg / w - 2 * (g @ eta)
    A = A22 - w * (R.T @ (scale[:, None] * X))
    c, s = c2 - R.T @ d, data.s + z
    if centring is not None:
        own_part = w * (rows.T @ eta)[:, None]
        others = centring.of_starts(q2) - w * (rows.T @ X)
        weighted = centring.weighted(pt.concatenate([others, own_part], axis=1)) / w
        A += others.T @ weighted[:, :-1]
        c -= others.T @ weighted[:, -1]
        s += own_part[:, 0] @ weighted[:, -1]
        X += centring.solved @ weighted[:, :-1]
        eta -= centring.solved @ weighted[:, -1]
    rest = Reduced(A=A, c=c, s=s, v=v2, log_det=log_det, constant=False)
    return Swept(rest, X, eta, factor, centring, w, band)


def _shift(model: MixedModel, band: Band) -> tuple[Variable, Variable] | None:
    """Return ``g``, ``(q,)``, and ``gᵀP1⁻¹g`` of all variables; None if they are 0."""
    parts, squares = [], []
    for effect, own in band.coordinates.items():
        precision = model.effects[effect].precision
        assert precision is not None
        if precision.shift.ndim:
            parts.append(level_sums(as_float(precision.shift)[:, None], own, band.size)[:, 0])
            squares.append(as_float(precision.shift_square))
    return (reduce(add, parts), reduce(add, squares)) if parts else None


def _centred_rows(model: MixedModel, band: Band) -> tuple[Variable, Variable]:
    """Return ``G``, ``(q, k)``, and standard deviations: without loadings, as they are of ``v``."""
    columns, sds = [as_float(np.zeros((band.size, 0)))], [as_float(np.zeros(0))]
    for i, own in band.coordinates.items():
        effect = model.effects[i]
        if effect.precision is None or not effect.precision.centred:
            continue
        sd = as_float(effect.precision.mean_sd)
        scale = pt.broadcast_to(effect_scale(effect)[:, 0, 0], (effect.size,))
        columns.append(level_sums((scale / (effect.size * sd))[:, None], own, band.size))
        sds.append(pt.reshape(sd, (1,)))
    return pt.concatenate(columns, axis=1), pt.concatenate(sds)


def draw_band(model: MixedModel, data: DataTerms, epsilon: Variable) -> Variable:
    """Draw ``x`` in the order of coordinates, then ``u2`` and ``z``, given standard Normal numbers.

    ``u2`` and ``z`` from their posterior, ``x`` from what it has given these.
    """
    swept = sweep_band(model, data)
    rest, q = swept.rest, swept.band.size
    q2 = rest.A.type.shape[0]
    u2, d2 = draw_dense(model, data.w, rest, epsilon[q : q + q2])
    end = q + q2 + n_centred(model)
    x = swept.given(d2) + swept.noise(epsilon[:q], epsilon[q + q2 : end])
    # Where F overflowed there is no posterior to draw from: recover names such draws.
    valid = pt.isfinite(rest.log_det)
    return pt.where(valid, pt.concatenate([x, u2, epsilon[q + q2 :]]), np.nan)
