"""The figure: every effect with its interval, as each of the fits gives it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from xarray import DataArray

from pymc_marginal_lmm.demo.examples import Example
from pymc_marginal_lmm.demo.fitting import Fit

__all__ = ["save_figure"]

COLOURS = {"plain": "#829ab1", "marginal": "#d1495b", "fit": "#2f7d6b"}
LABELLED = 40
"""Most levels that are drawn as rows with names; more are drawn as a curve."""

STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.edgecolor": "#52606d",
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "xtick.color": "#52606d",
    "ytick.color": "#52606d",
    "text.color": "#1f2933",
    "axes.labelcolor": "#1f2933",
}


def save_figure(fits: Mapping[str, Fit], example: Example, path: Path) -> None:
    """Draw a caterpillar plot of each factor's effects, and save it.

    Parameters
    ----------
    fits : mapping of str to Fit
        ``plain``, ``marginal`` and ``fit``, or some of them with ``marginal``.
    example : Example
        What was fitted.
    path : Path
        Where to; its ending is the format.
    """
    panels = list(_panels(fits, example))
    sizes = [values["marginal"].sizes[levels] for levels, values in panels]
    rows = max((n for n in sizes if n <= LABELLED), default=0)
    with mpl.rc_context(STYLE):
        inches = (4.2 * len(panels), max(4.2, 1.7 + 0.24 * rows))
        layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.07)
        figure = Figure(figsize=inches, dpi=110, layout=layout)
        places = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, title, size, (levels, values) in zip(
            places, example.panels, sizes, panels, strict=True
        ):
            if size <= LABELLED:
                _rows(axes, values, levels, gap=0.17 * size / rows)
            else:
                _curve(axes, values, levels)
            axes.set_title(title)
        handles, labels = figure.axes[-1].get_legend_handles_labels()
        figure.suptitle(
            f"{example.dataset}: effects, posterior means and 94% intervals",
            x=0.015,
            ha="left",
            weight="bold",
        )
        figure.legend(handles, labels, loc="outside lower left", ncols=3, frameon=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)


def _panels(fits: Mapping[str, Fit], example: Example) -> Iterator[tuple[str, dict]]:
    """Yield a factor's dim and its effects by fit, coefficient after coefficient."""
    for name in example.effects:
        draws = {label: fit.posterior[name] for label, fit in fits.items()}
        _, _, levels, *coefficients = draws["marginal"].dims
        if not coefficients:
            yield str(levels), draws
        for dim in coefficients:
            for value in draws["marginal"][dim].values:
                yield str(levels), {label: x.sel({dim: value}) for label, x in draws.items()}


def _summaries(draws: DataArray, order: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    low, high = draws.quantile([0.03, 0.97], dim=("chain", "draw")).values[:, order]
    return draws.mean(("chain", "draw")).values[order], low, high


def _rows(axes: Axes, values: dict[str, DataArray], levels: str, gap: float) -> None:
    """Draw a row with a name per level, the fits ``gap`` above and below it."""
    order = np.argsort(values["marginal"].mean(("chain", "draw")).values)
    places = np.arange(len(order))
    axes.axvline(0, color="#cbd2d9", lw=0.8, zorder=0)
    for i, (label, draws) in enumerate(values.items()):
        mean, low, high = _summaries(draws, order)
        shift = 2 * gap / len(values) * (len(values) - 1 - 2 * i)
        axes.hlines(places + shift, low, high, color=COLOURS[label], lw=1.6)
        axes.plot(mean, places + shift, "o", ms=3.8, color=COLOURS[label], label=label)
    names = values["marginal"][levels].values[order]
    axes.set_yticks(places, [str(name) for name in names])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(-0.7, len(order) - 0.3)


def _curve(axes: Axes, values: dict[str, DataArray], levels: str) -> None:
    """Draw so many levels that their intervals become an area."""
    order = np.argsort(values["marginal"].mean(("chain", "draw")).values)
    places = np.arange(len(order))
    axes.axvline(0, color="#cbd2d9", lw=0.8, zorder=0)
    for label, draws in sorted(values.items()):
        mean, low, high = _summaries(draws, order)
        if label == "marginal":
            faint = min(0.35, 400 / len(order))
            axes.hlines(places, low, high, color=COLOURS[label], lw=0.3, alpha=faint)
            axes.plot(mean, places, color=COLOURS[label], lw=1.6, label=label, zorder=3)
        else:
            axes.plot(mean, places, ".", ms=1.5, color=COLOURS[label], label=label)
    axes.set_yticks([])
    axes.set_ylabel(f"{len(order):,} levels, sorted")
    axes.set_ylim(-0.01 * len(order), 1.01 * len(order))
