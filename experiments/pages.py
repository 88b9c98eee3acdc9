"""Numbers and tables as pages show them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

__all__ = ["digits", "markdown"]


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]], *, text: int = 1) -> str:
    """Return a table whose first columns are text, and the others numbers."""
    rule = ["---"] * text + ["---:"] * (len(head) - text)
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *rows))


def digits(x: float) -> str:
    """Return a number with three digits, or all before the point."""
    if not np.isfinite(x):
        return "–"
    return f"{x:,.0f}" if abs(x) >= 100 else f"{x:.3g}"
