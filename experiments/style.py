"""How figures look, on light and on dark pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

__all__ = ["COLOURS", "INK", "OTHER", "RED", "STYLE", "save"]

INK = "#7b8794"
"""Of text and axes: readable on white and on black."""

RED = "#e5484d"
COLOURS = {"O": "#98a2ad", "M1": "#3e8ed0", "M2": "#8f6fd8", "M3": "#c2679a"}
COLOURS |= {"M1R2": "#62b6d9", "all": "#e08a2c", "default": "#2fa37c", "fit": "#d1495b"}
"""By the strategies of the paper."""

OTHER = "#b59f3b"

STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    **dict.fromkeys(
        ["axes.edgecolor", "axes.labelcolor", "axes.titlecolor", "text.color"],
        INK,
    ),
    **dict.fromkeys(["xtick.color", "ytick.color"], INK),
    "svg.hashsalt": "paper",  # the same figure has the same identifiers
}

MOST_BYTES = 200_000
"""A file is not larger."""


def save(figure: Figure, path: Path) -> None:
    """Save a figure without a background, as sharp as its size allows."""
    metadata = {"Date": None} if path.suffix == ".svg" else {}
    for dpi in (110, 90, 72, 56, 44):
        figure.savefig(path, dpi=dpi, transparent=True, metadata=metadata)
        if path.stat().st_size < MOST_BYTES:
            return
    raise ValueError(f"{path} has {path.stat().st_size:,} bytes, more than {MOST_BYTES:,}.")
