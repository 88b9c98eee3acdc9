"""What a linear mixed-effects model is once its graph has been read: frozen data, no behaviour.

Symbols are those of lme4 and MixedModels.jl::

    y | u ~ Normal(b + Σ_l Z_l Λ_l u_l, W⁻¹)          u ~ Normal(0, P0⁻¹),  P0 = I (0: flat)

``n`` rows (the observations of all responses, one below the other); grouping factor ``l`` has
``M_l`` levels and ``S_l`` effects per level. ``Z`` holds the numbers that multiply the effects in
the predictor, ``Λ`` the parameters that do, in the prior (scales) and in the predictor (loadings);
they meet only in the algebra.

Symbolic members (offsets, scales, ...) are PyTensor variables. :meth:`MixedModel.symbols` and
:meth:`MixedModel.with_symbols` take them out and put others in, which is how the same model is
expressed over the inputs of an Op, over value variables, or over numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from pytensor.graph.basic import Constant, Variable
from scipy.sparse import csr_array

from pymc_marginal_lmm.pattern import Order, Pattern

__all__ = [
    "Array",
    "Band",
    "BlockStructure",
    "Correlation",
    "GroupingFactor",
    "Loadings",
    "MixedModel",
    "Noise",
    "Precision",
    "RandomEffects",
    "Regression",
    "Response",
    "Share",
    "row_coordinates",
]

type Array = np.ndarray | Variable
"""Numbers where they are known when the model is read, a PyTensor variable where they are not."""


@dataclass(frozen=True)
class Precision:
    """A prior with few neighbours: ``v = mean + scale · x + start z``, ``x ~ Normal(P⁻¹g, P⁻¹)``.

    What ``P`` cannot say without dividing by a scale is in ``start``: a random walk is ``σ`` times
    one of unit steps from zero, and where it starts, with a standard deviation of its own. What
    ``mean`` cannot say without growing beyond all bounds is in ``g``.

    Parameters
    ----------
    rows, columns : array of int, (N,)
        Where the lower triangle of ``P`` can be non-zero, once each.
    values : Variable, (N,)
    log_det : Variable
        ``log|P|``.
    start : array or Variable, (q, k)
        What multiplies standard Normal ``z``.
    pinned : array of int, (k,)
        Elements of which ``start`` is a diagonal matrix. Where it is not 0 their scale is 0 and
        they have no neighbours in ``P``; where it is 0, all of ``start`` is.
    mean_sd : array or Variable, ()
        Where ``centred``.
    centred : bool
        The one ``z``, with a column of ones, has no prior, but the mean of all elements has one:
        Normal around 0 with this standard deviation (:class:`pymc.ICAR`).
    shift : array or Variable, (q,)
        ``g``; without dimensions if it is 0.
    shift_square : array or Variable, ()
        ``gᵀP⁻¹g``.
    """

    rows: np.ndarray
    columns: np.ndarray
    values: Variable
    log_det: Variable
    start: Array
    pinned: np.ndarray
    mean_sd: Array = field(default_factory=lambda: np.zeros(()))
    centred: bool = False
    shift: Array = field(default_factory=lambda: np.zeros(()))
    shift_square: Array = field(default_factory=lambda: np.zeros(()))

    @property
    def n_starts(self) -> int:
        """``k``."""
        return len(self.pinned)


@dataclass(frozen=True)
class RandomEffects:
    """One variable that is integrated out: ``v = mean + Λ u`` with ``u`` standard normal.

    Parameters
    ----------
    name, dims, shape, dtype
        Those of the model's variable ``v``.
    support_ndim : int
        How many of the last axes the prior correlates: 0 for :class:`pymc.Normal`, 1 for
        :class:`pymc.MvNormal`. Their elements are a *block*, of ``width`` ``S``.
    flat : bool
        The prior is improper and uniform (:class:`pymc.Flat`).
    scale : Variable
        Standard deviation, broadcastable to ``shape`` (no support axes), or a square root ``Λ`` of
        the covariance of blocks, ``(..., S, S)`` with batch dimensions broadcastable to
        ``batch_shape``.
    mean : Variable
        Prior mean, broadcastable to ``shape``, but for the shift of a precision. May depend on
        other integrated variables.
    zero_sum : bool
        The prior is :class:`pymc.ZeroSumNormal`: ``Λ`` is a multiple of the projection on what
        sums to zero along each support axis.
    valid : array or Variable of bool, ()
        Whether the parameters of the prior are ones; the density is 0 where they are not.
    log_factor : array or Variable, ()
        Logarithm of what PyMC's density of the prior integrates to, all blocks together: that of
        :class:`pymc.ICAR` is a function of its sigma.
    precision : Precision or None
        The prior couples the elements, by a sparse precision: they are blocks of one all the same.
    """

    name: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    support_ndim: int
    flat: bool
    scale: Variable
    mean: Variable
    zero_sum: bool = False
    valid: Array = field(default_factory=lambda: np.array(True))
    log_factor: Array = field(default_factory=lambda: np.zeros(()))
    precision: Precision | None = None

    @property
    def size(self) -> int:
        """Number of elements ``q``."""
        return int(np.prod(self.shape, dtype=int))

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Shape without the support axes."""
        return self.shape[: len(self.shape) - self.support_ndim]

    @property
    def support_shape(self) -> tuple[int, ...]:
        """Lengths of the support axes."""
        return self.shape[len(self.shape) - self.support_ndim :]

    @property
    def width(self) -> int:
        """Length ``S`` of a block."""
        return int(np.prod(self.support_shape, dtype=int))

    @property
    def rank(self) -> int:
        """Dimensions in which a block varies."""
        free = (length - 1 for length in self.support_shape) if self.zero_sum else (self.width,)
        return int(np.prod(list(free), dtype=int))

    @property
    def n_blocks(self) -> int:
        """Number of blocks."""
        return int(np.prod(self.batch_shape, dtype=int))

    @property
    def correlated(self) -> bool:
        """Whether ``scale`` is a matrix."""
        return self.support_ndim > 0


@dataclass(frozen=True)
class Correlation:
    """Rows along the last axis of a response, a *batch*, are correlated.

    Parameters
    ----------
    matrix : array or Variable, (..., k, k)
        Their covariance is ``sigma² · matrix``; numbers if these are known when the model is read.
        Its batch dimensions broadcast to those of the response.
    valid : array or Variable of bool, ()
        What else the plain model asks of its parameters, as of a square root that was given.
    """

    matrix: Array
    valid: Array = field(default_factory=lambda: np.array(True))


MANY_PAIRS = 4_000_000
"""So many pairs of rows are not listed."""


@dataclass(frozen=True)
class Response:
    """One likelihood: ``y`` or ``log y`` is Normal around the linear predictor.

    Parameters
    ----------
    name : str
        Of the observed variable.
    family : {"normal", "lognormal"}
        Its distribution.
    shape : tuple of int
        Its shape; its rows are its elements in C order.
    offset : Variable
        The linear predictor with every integrated ``u`` at zero: ``b + Σ Z m``.
    sigma : Variable
        Residual standard deviation, broadcastable to ``shape``; a scalar if rows are correlated.
    correlation : Correlation or None
        None: rows are independent given the effects.
    """

    name: str
    family: Literal["normal", "lognormal"]
    shape: tuple[int, ...]
    offset: Variable
    sigma: Variable
    correlation: Correlation | None = None

    @property
    def size(self) -> int:
        """Number of rows ``n``."""
        return int(np.prod(self.shape, dtype=int))

    @property
    def batch_length(self) -> int:
        """Number of rows ``k`` that are correlated with each other."""
        return 1 if self.correlation is None else self.shape[-1]

    @property
    def n_batches(self) -> int:
        """Number of batches of such rows."""
        return self.size // max(self.batch_length, 1)

    @property
    def whitened(self) -> bool:
        """Whether the rows of a batch are rather made independent than weighed pair by pair.

        A few long batches (a Gaussian process) have more pairs than pay, and may be nearly
        collinear: multiplying by the inverse of a Cholesky factor keeps twice as many digits as
        multiplying by that of the matrix.
        """
        k, n = self.batch_length, self.n_batches
        return self.correlation is not None and (n < k or n * k**2 > MANY_PAIRS)


@dataclass(frozen=True)
class Share:
    """The part of some variables that belongs to a grouping factor.

    Parameters
    ----------
    effects : tuple of int
        Positions of the variables in :attr:`MixedModel.effects`; all have the same width. There
        are several if each holds some of the levels (a list of scalars, say).
    blocks : array of int, (M, B)
        Which blocks (``elements // width``, counted through all of the variables) belong to level
        ``0 … M-1``. Each level has ``B·width`` of its effects from here; a block that a level does
        not have is -1, and has coefficients of 0.
    """

    effects: tuple[int, ...]
    blocks: np.ndarray


@dataclass(frozen=True)
class Loadings:
    """Parameters that multiply effects in the predictor, level by level: ``Z v`` is ``Z (K v)``.

    Parameters
    ----------
    rows, columns : array of int, (E,)
        Where the entries of ``K`` that can be non-zero are; entries at the same place add up.
    entries : Variable, (M or 1, E)
        Their values.
    """

    rows: np.ndarray
    columns: np.ndarray
    entries: Variable


@dataclass(frozen=True)
class GroupingFactor:
    """Levels that rows of data belong to, and the effects each level has.

    Fixed effects are the factor with one level. A row that belongs to several levels (players of
    a match) has ``K > 1`` memberships.

    Parameters
    ----------
    shares : tuple of Share
        Where its effects live, in the order of the ``S`` effects.
    n_levels : int
        ``M``: the levels that occur in the data. Others keep their prior.
    n_effects : int
        ``S``, effects per level.
    codes : array of int32, (n, K)
        Level of each row, per membership.
    coefficients : array or Variable, (n, K, S)
        The non-zero entries of ``Z``.
    loadings : Loadings or None
        None: column ``s`` of ``Z`` belongs to effect ``s`` of the level.
    padding : int
        How many of the ``S`` effects, the last ones, are not there: they make room for columns of
        ``Z`` where these are more than the effects, and their ``Λ`` is zero.
    coupled : bool
        The prior couples the levels (:class:`Precision`).
    """

    shares: tuple[Share, ...]
    n_levels: int
    n_effects: int
    codes: np.ndarray
    coefficients: Array
    loadings: Loadings | None = None
    padding: int = 0
    coupled: bool = False

    @property
    def size(self) -> int:
        """``M·S``."""
        return self.n_levels * self.n_effects

    @property
    def n_memberships(self) -> int:
        """``K``."""
        return self.codes.shape[1]


@dataclass(frozen=True)
class Band:
    """Factors whose effects are eliminated first, in an order in which few are open at a time.

    Coordinates are the ``M·S`` effects of each factor, one after the other, and then those elements
    of variables with a :class:`Precision` that occur in no row: the prior ties them to the others.

    Parameters
    ----------
    factors : tuple of int
        Positions in :attr:`MixedModel.factors`. Each effect is a block of one.
    coordinates : dict of int to array of int
        For each variable with a precision the coordinate of each of its elements.
    order : Order
    rows, columns : array of int, (N,)
        Pairs of coordinates that meet in a row, the first not less than the second, sorted.
    """

    factors: tuple[int, ...]
    coordinates: dict[int, np.ndarray]
    order: Order
    rows: np.ndarray
    columns: np.ndarray

    @property
    def size(self) -> int:
        """Number of coordinates."""
        return self.order.size


@dataclass(frozen=True)
class BlockStructure:
    """The order of elimination, decided from the index arrays alone.

    The factors of the chain are block diagonal in ``F`` and go first, level by level; each is
    nested in the next, whose levels are its *parents*, so that eliminating it leaves the next
    block diagonal. All other effects form the dense Schur complement.

    Parameters
    ----------
    chain : tuple of int
        Positions of these factors in :attr:`MixedModel.factors`; empty if there is none.
    parents : tuple of array of int, (M,)
        For each factor of the chain but the last, the level of the next that each level is in.
    trailing : tuple of int
        The other factors, in the order of their columns in the dense block.
    coupling : Pattern or None
        Which columns of the dense block each level of the leading factor meets; None: all of them.
    band : Band or None
        Factors that go first, in the place of a chain: their block of ``F`` is banded.
    """

    chain: tuple[int, ...]
    parents: tuple[np.ndarray, ...]
    trailing: tuple[int, ...]
    coupling: Pattern | None = None
    band: Band | None = None


@dataclass(frozen=True)
class Regression:
    """The offsets of all responses, ``b = constant + X φ``, with few parameters ``φ``.

    Parameters
    ----------
    constant : array, (n,)
    design : sparse array, (n, p)
        ``X``.
    coefficients : Variable, (p,)
        ``φ``.
    """

    constant: np.ndarray
    design: csr_array
    coefficients: Variable


@dataclass(frozen=True)
class Noise:
    """The residual standard deviations of all rows, ``σ_i = numbers_i · sigma[strata_i]``.

    Parameters
    ----------
    numbers : array, (n,)
        Positive.
    strata : array of int, (n,)
    sigma : Variable, (k,)
        One parameter per stratum.
    """

    numbers: np.ndarray
    strata: np.ndarray
    sigma: Variable


@dataclass(frozen=True)
class MixedModel:
    """Everything that the marginal log density and the conditional of the effects need.

    ``regression`` and ``noise`` are what offsets and sigmas of the responses amount to, where
    that is known and pays; None where it is not.
    """

    effects: tuple[RandomEffects, ...]
    responses: tuple[Response, ...]
    factors: tuple[GroupingFactor, ...]
    blocks: BlockStructure
    regression: Regression | None = None
    noise: Noise | None = None

    @property
    def n_rows(self) -> int:
        """``n``, over all responses."""
        return sum(response.size for response in self.responses)

    def rows(self) -> Iterator[tuple[Response, slice]]:
        """Yield each response, and where its rows are among all of them."""
        start = 0
        for response in self.responses:
            yield response, slice(start, start + response.size)
            start += response.size

    def blocks_of(self, share: Share) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the variables of a share, each with those of its blocks that have data."""
        start = 0
        for effect in share.effects:
            stop = start + self.effects[effect].n_blocks
            own = share.blocks[(share.blocks >= start) & (share.blocks < stop)]
            yield effect, own - start
            start = stop

    def width(self, share: Share) -> int:
        """Return the block length of the variables of a share."""
        return self.effects[share.effects[0]].width

    def columns(self, factor: GroupingFactor) -> Iterator[tuple[Share, slice]]:
        """Yield the shares of a factor, and their places among the effects of a level."""
        start = 0
        for share in factor.shares:
            size = share.blocks.shape[1] * self.width(share)
            yield share, slice(start, start + size)
            start += size

    def slots(self) -> list[tuple[str, int, str]]:
        """Return where each of :meth:`symbols` belongs: part, number, field."""
        return [(part, i, field) for part, i, field, value in self._values() if _is_symbol(value)]

    def _values(self) -> Iterator[tuple[str, int, str, Any]]:
        for part, fields in _SYMBOLIC.items():
            for i, member in enumerate(_as_tuple(getattr(self, part))):
                yield from ((part, i, field, _get(member, field)) for field in fields)

    def symbols(self) -> list[Variable]:
        """Return the PyTensor variables of the model that are no constants, in a fixed order."""
        return [value for *_, value in self._values() if _is_symbol(value)]

    def with_symbols(self, symbols: Sequence[Variable]) -> MixedModel:
        """Return the same model over other variables, given in the order of :meth:`symbols`."""
        parts = {part: list(_as_tuple(getattr(self, part))) for part in _SYMBOLIC}
        for (part, i, name), symbol in zip(self.slots(), symbols, strict=True):
            parts[part][i] = _put(parts[part][i], name, symbol)
        new: dict[str, Any] = {}
        for part, members in parts.items():
            own = getattr(self, part)
            new[part] = tuple(members) if isinstance(own, tuple) else next(iter(members), None)
        return replace(self, **new)


def row_coordinates(
    factors: Sequence[GroupingFactor], chosen: Sequence[int]
) -> Iterator[tuple[int, int, int, np.ndarray]]:
    """Yield factor, membership and slot, and the coordinate that each row has there, ``(n,)``."""
    first = 0
    for i in chosen:
        factor = factors[i]
        for k, s in np.ndindex(factor.n_memberships, factor.n_effects):
            yield i, k, s, first + factor.codes[:, k].astype("int64") * factor.n_effects + s
        first += factor.size


_SYMBOLIC = {
    "effects": (
        "scale",
        "mean",
        "valid",
        "log_factor",
        "precision.values",
        "precision.log_det",
        "precision.start",
        "precision.mean_sd",
        "precision.shift",
        "precision.shift_square",
    ),
    "responses": ("offset", "sigma", "correlation.matrix", "correlation.valid"),
    "factors": ("coefficients", "loadings.entries"),
    "regression": ("coefficients",),
    "noise": ("sigma",),
}
"""Members of a model that can be PyTensor variables."""


def _is_symbol(value: Any) -> bool:
    # Constants stay where they are: PyTensor shares them among all graphs, and as outputs of an Op
    # they would collect the stack traces of every graph they were ever in.
    return not isinstance(value, np.ndarray | Constant | _Missing)


class _Missing:
    """Stands for a member that is not there."""


def _as_tuple(part: Any) -> tuple:
    return part if isinstance(part, tuple) else () if part is None else (part,)


def _get(member: Any, field: str) -> Any:
    own, _, inner = field.partition(".")
    value = getattr(member, own)
    if not inner:
        return value
    return _Missing() if value is None else getattr(value, inner)


def _put(member: Any, field: str, value: Any) -> Any:
    own, _, inner = field.partition(".")
    if not inner:
        return replace(member, **{own: value})
    return replace(member, **{own: replace(getattr(member, own), **{inner: value})})
