"""The paper's figures, of what the cells hold; for light and dark pages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

from experiments.paper.tables import rates
from experiments.style import COLOURS, INK, OTHER, RED, STYLE, save

__all__ = ["funnels", "insteval", "speeds"]

type Result = dict[str, Any]

POINTS = 1000
"""Most draws without divergence in a panel of the funnels."""


def insteval(results: Sequence[Result], path: Path) -> None:
    """Draw running time and mean effective sample size by strategy: figure 2.

    Parameters
    ----------
    results : sequence of dict
        Sampled cells, one per row.
    path : Path
        Where to; its ending is the format.
    """
    labels = [_strategy(result) for result in results]
    colours = [COLOURS.get(result["cell"]["strategy"], OTHER) for result in results]
    panels = {
        "seconds, with recovery": [r["sampling_s"] + r["recovery_s"] for r in results],
        "mean ESS per variable": [r["ess_mean"] for r in results],
        "mean ESS per second": [rates(r)["ess_per_second"] for r in results],
    }
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.5, 0.9 + 0.3 * len(results)), layout="constrained")
        places = figure.subplots(1, len(panels), sharey=True)
        for axes, (title, values) in zip(places, panels.items(), strict=True):
            axes.scatter(values, range(len(results)), c=colours, s=40)
            axes.set_title(title)
            axes.grid(color=INK, alpha=0.25, lw=0.6)
            axes.tick_params(axis="y", length=0)
        places[0].set_yticks(range(len(results)), labels)
        places[0].set_ylim(len(results) - 0.5, -0.5)
        _logarithmic(places[0])
        places[1].set_xlim(left=0)
        _logarithmic(places[2])
        save(figure, path)


def _logarithmic(axes: Axes) -> None:
    """Make an axis logarithmic, with numbers that do not touch: 20, 50, 100, or powers of ten."""
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.xaxis.set_minor_formatter(NullFormatter())
    if high < 100 * low:
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))


def _strategy(result: Result) -> str:
    cell = result["cell"]
    own = ", own scales" if cell["model"].endswith("_own") else ""
    return f"{cell['strategy']}{own} ({cell['sampler']})"


def funnels(results: Sequence[Result], path: Path) -> None:
    """Draw a scale against one of its effects for each strategy, divergences in red: figure 3.

    Parameters
    ----------
    results : sequence of dict
        Sampled cells with pairs of draws, one per column.
    path : Path
        Where to; its ending is the format.
    """
    across = min(5, len(results))
    blocks = -(-len(results) // across)
    n_pairs = len(results[0]["pairs"])
    limits = [_limits([r["pairs"][i] for r in results]) for i in range(n_pairs)]
    with mpl.rc_context(STYLE):
        size = (1.9 * across + 0.6, 1.75 * n_pairs * blocks)
        figure = Figure(figsize=size, layout="constrained")
        places = figure.subplots(n_pairs * blocks, across, squeeze=False)
        for axes in places.flat:
            axes.set_visible(False)
        for k, result in enumerate(results):
            block, column = divmod(k, across)
            diverging = np.zeros(len(result["pairs"][0]["x"]), dtype=bool)
            diverging[result["diverging"]] = True
            step = max(1, -(-int((~diverging).sum()) // POINTS))
            for i, pair in enumerate(result["pairs"]):
                axes = places[n_pairs * block + i, column]
                axes.set_visible(True)
                x, y = np.asarray(pair["x"]), np.asarray(pair["y"])
                axes.plot(x[~diverging][::step], y[~diverging][::step], ".", ms=1.5, color=INK)
                axes.plot(x[diverging], y[diverging], ".", ms=2.5, color=RED)
                axes.set(xlim=limits[i][0], ylim=limits[i][1], xlabel=pair["labels"][0])
                if column == 0:
                    axes.set_ylabel(pair["labels"][1])
                if i == 0:
                    cell = result["cell"]
                    axes.set_title(
                        f"{cell['strategy']} ({cell['sampler']})\n"
                        f"{result['divergences']:,} divergences",
                    )
        save(figure, path)


def _limits(pairs: Sequence[Result]) -> list[tuple[float, float]]:
    """Return what holds nearly all draws of all strategies, so that panels can be compared."""
    limits = []
    for key in ("x", "y"):
        values = np.concatenate([pair[key] for pair in pairs])
        low, high = np.quantile(values, [0.0005, 0.9995])
        margin = 0.05 * (high - low)
        limits.append((float(low - margin), float(high + margin)))
    return limits


def speeds(results: Sequence[Result], path: Path) -> None:
    """Draw iterations per second and effective draws per iteration, a dot per seed: figure 4.

    Parameters
    ----------
    results : sequence of dict
        Sampled cells of one sampler.
    path : Path
        Where to; its ending is the format.
    """
    models = list(dict.fromkeys(result["cell"]["model"] for result in results))
    strategies = list(dict.fromkeys(result["cell"]["strategy"] for result in results))
    panels = {"iterations": "iterations per second", "ess": "mean ESS per iteration"}
    panels["ess_per_second"] = "mean ESS per second"
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 1.2 + 0.42 * len(models)), layout="constrained")
        places = figure.subplots(1, len(panels), sharey=True)
        for axes, (key, title) in zip(places, panels.items(), strict=True):
            for j, strategy in enumerate(strategies):
                own = [r for r in results if r["cell"]["strategy"] == strategy]
                shift = 0.7 * ((j + 0.5) / len(strategies) - 0.5)
                axes.plot(
                    [rates(result)[key] for result in own],
                    [models.index(result["cell"]["model"]) + shift for result in own],
                    "o",
                    ms=3.5,
                    alpha=0.8,
                    mew=0,
                    color=COLOURS.get(strategy, OTHER),
                    label=strategy,
                )
            axes.set_title(title)
            axes.grid(axis="x", color=INK, alpha=0.25, lw=0.6)
            axes.tick_params(axis="y", length=0)
            if key != "ess":
                _logarithmic(axes)
        places[0].set_yticks(range(len(models)), models)
        places[0].set_ylim(len(models) - 0.5, -0.5)
        handles, labels = places[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower left", ncols=len(labels), frameon=False)
        save(figure, path)
