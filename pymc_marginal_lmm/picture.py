"""A picture of the precision matrix ``F`` of the effects, as it is stored: SVG for notebooks.

The lower triangle of ``F``, a row and a column for each grouping factor in the order of elimination
(``BlockDescription`` of MixedModels.jl, drawn): what is filled is stored and computed with. Edges
grow with the square root of the number of effects, so that a factor with a thousand levels leaves
room for one with ten.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import NamedTuple

import numpy as np

__all__ = ["DiagonalBlock", "couplings", "picture"]

WIDTH = 260.0
"""Of the matrix, in pixels."""

NARROWEST = 16.0
STEPS = 8
"""That stand for the levels of a factor."""


class DiagonalBlock(NamedTuple):
    """What a factor has on the diagonal of ``F``.

    Parameters
    ----------
    label : str
        Its variables.
    size : int
        Number of effects.
    kind : str
        As in :class:`~pymc_marginal_lmm.explain.FactorSummary`.
    """

    label: str
    size: int
    kind: str


def couplings(blocks: Sequence[DiagonalBlock]) -> Iterator[tuple[int, int, str]]:
    """Yield the block in row ``i`` and column ``j < i`` of ``F``, and how it is stored.

    Yields
    ------
    i, j : int
    kind : {"nested", "banded", "sparse", "dense"}
        Levels that are eliminated one by one meet one level only of a factor that they are nested
        in, neighbours along a band, and of the dense block what rows of data share with them, or
        all of it.
    """
    for i, later in enumerate(blocks):
        for j, earlier in enumerate(blocks[:i]):
            if "tridiagonal" in later.kind:
                yield i, j, "banded"
            elif later.kind != "dense":
                yield i, j, "nested"
            else:
                yield i, j, "sparse" if "coupling sparse" in earlier.kind else "dense"


def picture(blocks: Sequence[DiagonalBlock]) -> str:
    """Draw the blocks of ``F``; return an ``<svg>`` element that follows the colour of text."""
    roots = np.sqrt([float(block.size) for block in blocks])
    edges = np.maximum(NARROWEST, WIDTH * roots / roots.sum())
    ends = np.cumsum(edges)
    starts = ends - edges
    shapes: list[str] = []
    for i, block in enumerate(blocks):
        shapes += _block(starts[i], starts[i], edges[i], edges[i], block.kind)
        label = escape(f"{block.label}: {block.size:,}")
        middle = starts[i] + edges[i] / 2
        shapes.append(
            f'<text x="{ends[i] + 8:.1f}" y="{middle:.1f}" dominant-baseline="middle" '
            f'fill="currentColor" font-size="11">{label}</text>'
        )
    for i, j, kind in couplings(blocks):
        shapes += _block(starts[j], starts[i], edges[j], edges[i], kind)
    longest = max(len(block.label) for block in blocks) + 9
    width, height = ends[-1] + 8 + 7 * longest, ends[-1] + 2
    title = "The precision matrix F of the effects: what is stored"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{title}" '
        f'width="{width:.0f}" height="{height:.0f}" viewBox="-1 -1 {width:.0f} {height:.0f}">'
        f"<title>{title}</title>{''.join(shapes)}</svg>"
    )


def _block(x: float, y: float, width: float, height: float, kind: str) -> list[str]:
    """Return the frame of a block and what fills it."""
    frame = _rectangle(x, y, width, height, 'fill="none" stroke="currentColor" opacity="0.5"')
    return [
        frame,
        *(
            _rectangle(*part, 'fill="currentColor" opacity="0.7"')
            for part in _filled(x, y, width, height, kind)
        ),
    ]


def _filled(
    x: float, y: float, width: float, height: float, kind: str
) -> Iterator[tuple[float, float, float, float]]:
    """Yield rectangles."""
    if kind == "dense":
        yield x, y, width, height
        return
    rows, columns = np.indices((STEPS, STEPS))
    rows, columns = rows.ravel(), columns.ravel()
    w, h = width / STEPS, height / STEPS
    if kind == "sparse":
        stored = (3 * rows + 5 * columns) % 7 < 2  # anywhere
    elif kind == "banded" or "tridiagonal" in kind:
        stored = abs(rows - columns) <= 1
    else:
        stored = rows == columns
    thin = kind.startswith("diagonal")
    for i, j in zip(rows[stored], columns[stored], strict=True):
        if thin:
            yield x + (j + 0.35) * w, y + (i + 0.35) * h, 0.3 * w, 0.3 * h
        else:
            yield x + j * w, y + i * h, w, h


def _rectangle(x: float, y: float, width: float, height: float, look: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" {look}/>'
