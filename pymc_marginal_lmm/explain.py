"""``explain``: what can be integrated out, how, at what cost; what cannot be, and why."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from pytensor.graph.basic import Variable
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pymc_marginal_lmm.algebra.data import is_free_of_rows
from pymc_marginal_lmm.analysis.ordering import cost
from pymc_marginal_lmm.analysis.remarks import remarks
from pymc_marginal_lmm.analysis.roles import ModelGraph
from pymc_marginal_lmm.errors import NotMarginalizable
from pymc_marginal_lmm.model.arguments import Names, checked_names, pymc_model
from pymc_marginal_lmm.model.compiled import why_not
from pymc_marginal_lmm.model.direct import expected_seconds
from pymc_marginal_lmm.model.marginalize import read
from pymc_marginal_lmm.picture import DiagonalBlock, picture
from pymc_marginal_lmm.structure import MixedModel

__all__ = ["Explanation", "FactorSummary", "explain"]


@dataclass(frozen=True)
class FactorSummary:
    """One grouping factor.

    Parameters
    ----------
    effects : tuple of str
        Variables whose elements belong to it.
    n_levels, n_effects : int
        ``M`` levels that occur in the data, ``S`` effects per level.
    unused : int
        Blocks of the variables that occur in no row; they keep their prior.
    kind : {"diagonal", "block diagonal", "tridiagonal", "block tridiagonal", "dense"}
        Its diagonal block of ``F``. Of the first factor, followed by ", coupling sparse" where its
        levels meet only those effects of the dense block that rows of data share with them. Priors
        with few neighbours (random walks, maps) make it block tridiagonal, together with other
        effects that join them; the size of the blocks follows.
    order : int
        Place in the elimination, from 1.
    """

    effects: tuple[str, ...]
    n_levels: int
    n_effects: int
    unused: int
    kind: str
    order: int


@dataclass(frozen=True)
class Explanation:
    """What :func:`explain` found; prints as text, shows as tables and a picture in notebooks.

    Parameters
    ----------
    responses : tuple of str
        Likelihoods that will be marginal.
    n_rows : int
        ``n``, over these.
    factors : tuple of FactorSummary
        In the order of elimination.
    sampled : tuple of str
        Free variables that stay.
    refusals : dict of str to NotMarginalizable
        Why, for each that was tried.
    operations, memory : int
        Floating point operations and bytes per gradient, to an order of magnitude.
    free_of_rows : bool
        The gradient does not depend on ``n``.
    frozen : tuple of str
        ``pm.Data`` that become constants, since the structure was read from them.
    drawn : tuple of str
        Variables that no data depend on but through the effects (missing responses): they drop
        out with the effects, and ``recover`` draws them.
    correlated : tuple of (str, int, int)
        Responses whose rows are correlated, with the number of batches and the rows of each.
    n_parameters : int
        How many numbers stay sampled.
    fit_seconds : float or None
        What :func:`~pymc_marginal_lmm.fit` takes for 4,000 draws, to an order of magnitude; None if
        it is not for this model.
    remarks : tuple of str
        Sentences about what may not be meant: a factor with as many levels as rows, a response that
        became ``n × n`` by broadcasting.
    """

    responses: tuple[str, ...]
    n_rows: int
    factors: tuple[FactorSummary, ...]
    sampled: tuple[str, ...]
    refusals: dict[str, NotMarginalizable]
    operations: int
    memory: int
    free_of_rows: bool
    frozen: tuple[str, ...]
    drawn: tuple[str, ...] = ()
    correlated: tuple[tuple[str, int, int], ...] = ()
    n_parameters: int = 0
    fit_seconds: float | None = None
    remarks: tuple[str, ...] = ()

    @property
    def integrated(self) -> tuple[str, ...]:
        """Names of the variables that can be integrated out."""
        return tuple(dict.fromkeys(name for factor in self.factors for name in factor.effects))

    def _tables(self) -> list[tuple[str, list[str], list[list[str]]]]:
        tables = []
        if self.factors:
            rows = [
                [
                    str(factor.order),
                    ", ".join(factor.effects),
                    f"{factor.n_levels} × {factor.n_effects}"
                    + (f" (+{factor.unused} without data)" if factor.unused else ""),
                    factor.kind,
                ]
                for factor in self.factors
            ]
            title = "Can be integrated out"
            tables.append((title, ["order", "variables", "levels × effects", "block"], rows))
        if self.sampled:
            rows = []
            for name in self.sampled:
                refusal = self.refusals.get(name)
                reason = refusal.reason if refusal else "not asked for"
                place = refusal.place if refusal else ""
                rows.append([name, reason, place])
            tables.append(("Stays sampled", ["variable", "reason", "place"], rows))
        return tables

    def _blocks(self) -> list[DiagonalBlock]:
        return [
            DiagonalBlock(", ".join(f.effects), f.n_levels * f.n_effects, f.kind)
            for f in self.factors
        ]

    def _cost(self) -> str:
        if not self.factors:
            return "Nothing can be integrated out of this model."
        rows = ", free of the number of rows" if self.free_of_rows else ""
        frozen = f" Frozen data: {', '.join(self.frozen)}." if self.frozen else ""
        drawn = f" Drawn by recover: {', '.join(self.drawn)}." if self.drawn else ""
        batches = ", ".join(f"{name} ({n:,} × {k:,})" for name, n, k in self.correlated)
        correlated = f" Correlated rows: {batches}." if batches else ""
        return (
            f"Likelihood {', '.join(self.responses)} ({self.n_rows:,} rows). One gradient: about "
            f"{_human(self.operations)} operations, {_human(self.memory)}B of memory{rows}."
            f"{correlated}{frozen}{drawn} {self._fit()}"
        )

    def _fit(self) -> str:
        left = f"{self.n_parameters:,} parameter{'' if self.n_parameters == 1 else 's'} left"
        if self.fit_seconds is None:
            return f"{left}: for NUTS."
        if self.fit_seconds < 60:
            return f"{left}: fit takes about {self.fit_seconds:.0f} s."
        return f"{left}: fit takes about {self.fit_seconds / 60:.0f} min."

    def __str__(self) -> str:
        console = Console(
            width=110, color_system=None, force_terminal=False, force_jupyter=False, highlight=False
        )
        with console.capture() as capture:
            for title, columns, rows in self._tables():
                table = Table(title=title, title_justify="left", title_style="bold")
                for column in columns:
                    table.add_column(column)
                for row in rows:
                    table.add_row(*(Text(cell) for cell in row))
                console.print(table)
            for sentence in (self._cost(), *self.remarks):
                console.print(Text(sentence))
        return "\n".join(line.rstrip() for line in capture.get().splitlines())

    def _repr_html_(self) -> str:
        parts = []
        for title, columns, rows in self._tables():
            head = "".join(f"<th>{escape(column)}</th>" for column in columns)
            cells = (f"<td>{escape(cell)}</td>" for row in rows for cell in row)
            body = "".join(f"<tr>{''.join(next(cells) for _ in columns)}</tr>" for _ in rows)
            parts.append(
                f"<table><caption><b>{escape(title)}</b></caption><thead><tr>{head}</tr></thead>"
                f"<tbody>{body}</tbody></table>"
            )
        parts += [f"<p>{escape(sentence)}</p>" for sentence in (self._cost(), *self.remarks)]
        if self.factors:
            parts.append(picture(self._blocks()))
        return "".join(parts)


def _human(number: float) -> str:
    for unit in ("", "k", "M", "G"):
        if number < 1000:
            return f"{number:.3g} {unit}".rstrip()
        number /= 1000
    return f"{number:.3g} T"


def explain(model: Any = None, rvs: Names | None = None) -> Explanation:
    """Say what :func:`~pymc_marginal_lmm.marginalize` would do with a model, without doing it.

    Parameters
    ----------
    model : pymc.Model or bambi.Model, optional
        Any model; it is not changed. By default the one of the ``with`` context.
    rvs : str, Variable, or sequence of them, optional
        Variables to try; all free variables by default.

    Returns
    -------
    Explanation
        Print it, or leave it as the last line of a notebook's cell.

    Raises
    ------
    TypeError
        An argument is of a wrong type, or there is no model.
    NotMarginalizable
        A name is not that of a free variable, or the data hold NaN or infinite values.
    """
    names = checked_names(rvs, "rvs", variables=True)
    plain, fgraph, reading = read(pymc_model(model), names)
    mixed_model = reading.model
    drawn = tuple(variable.owner.op.name for variable in reading.barren)
    gone = {variable.owner.op.name for variable in (*reading.effects, *reading.barren)}
    sampled = tuple(rv.name for rv in plain.free_RVs if rv.name not in gone)
    if mixed_model is None:
        notes = remarks(ModelGraph(fgraph).observed, None)
        return Explanation((), 0, (), sampled, reading.refusals, 0, 0, False, (), remarks=notes)
    ys = [response.owner.inputs[1] for response in reading.responses]
    free_of_rows = is_free_of_rows(mixed_model, ys)
    operations, memory = cost(mixed_model, free_of_rows)
    left = [rv for rv in plain.free_RVs if rv.name not in gone]
    sizes = [_size(rv) for rv in left]
    return Explanation(
        responses=tuple(response.name for response in mixed_model.responses),
        n_rows=mixed_model.n_rows,
        factors=_factor_summaries(mixed_model),
        sampled=sampled,
        refusals=reading.refusals,
        operations=operations,
        memory=memory,
        free_of_rows=free_of_rows,
        frozen=reading.frozen,
        drawn=drawn,
        n_parameters=sum(sizes),
        fit_seconds=None if why_not(left, sizes) else expected_seconds(sum(sizes), operations),
        remarks=remarks(ModelGraph(fgraph).observed, mixed_model),
        correlated=tuple(
            (response.name, response.n_batches, response.batch_length)
            for response in mixed_model.responses
            if response.correlation is not None
        ),
    )


def _size(rv: Variable) -> int:
    shape = rv.type.shape
    if None in shape:
        shape = rv.shape.eval(mode="FAST_COMPILE")
    return int(np.prod(shape, dtype=int))


def _factor_summaries(model: MixedModel) -> tuple[FactorSummary, ...]:
    used = [0] * len(model.effects)
    for factor in model.factors:
        for share in factor.shares:
            for effect, blocks in model.blocks_of(share):
                used[effect] += blocks.size
    return tuple(
        FactorSummary(
            effects=tuple(
                dict.fromkeys(model.effects[e].name for s in factor.shares for e in s.effects)
            ),
            n_levels=factor.n_levels,
            n_effects=factor.n_effects - factor.padding,
            unused=max(
                model.effects[e].n_blocks - used[e] for s in factor.shares for e in s.effects
            ),
            kind=_kind(model, i),
            order=place,
        )
        for place, (i, factor) in enumerate(((i, model.factors[i]) for i in _order(model)), start=1)
    )


def _order(model: MixedModel) -> tuple[int, ...]:
    blocks = model.blocks
    return (*(blocks.band.factors if blocks.band else blocks.chain), *blocks.trailing)


def _kind(model: MixedModel, i: int) -> str:
    band = model.blocks.band
    if band is not None and i in band.factors:
        width = band.order.width
        return "tridiagonal" if width == 1 else f"block tridiagonal, blocks of {width}"
    if i not in model.blocks.chain:
        return "dense"
    kind = "diagonal" if model.factors[i].n_effects == 1 else "block diagonal"
    return kind if model.blocks.coupling is None else f"{kind}, coupling sparse"
