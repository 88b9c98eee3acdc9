"""The figure of the page on priors: what they say of shares of variance and correlations.

python -m experiments.priors
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from experiments.style import COLOURS, INK, STYLE, save

__all__ = ["RATIOS", "correlation_density", "icc_density", "priors"]

ROOT = Path(__file__).parents[1]

type Density = Callable[[np.ndarray], np.ndarray]

RATIOS: dict[str, Density] = {
    "half-normal": stats.halfnorm().pdf,
    "exponential": stats.expon().pdf,
    "half-t(4)": lambda ratio: 2 * stats.t(4).pdf(ratio),
    "half-Cauchy": stats.halfcauchy().pdf,
}
"""Densities of τ/σ, with scale 1."""


def icc_density(icc: np.ndarray, ratio_density: Density, scale: float = 1.0) -> np.ndarray:
    """Return the density of the ICC, of that of τ/σ: ``icc = ratio² / (1 + ratio²)``."""
    ratio = np.sqrt(icc / (1 - icc))
    return ratio_density(ratio / scale) / scale / (2 * ratio * (1 - icc) ** 2)


def correlation_density(correlation: np.ndarray, eta: float, n: int) -> np.ndarray:
    """Return the density of a correlation among ``n`` under LKJ(eta)."""
    shape = eta - 1 + n / 2
    return stats.beta(shape, shape, loc=-1, scale=2).pdf(correlation)


def priors(path: Path) -> None:
    """Draw the ICC by prior, by scale, and a correlation."""
    icc, correlation = np.linspace(0.001, 0.999, 250), np.linspace(-1, 1, 201)
    colours = [COLOURS[name] for name in ("M1", "default", "all", "fit")]
    by_prior = {name: icc_density(icc, density) for name, density in RATIOS.items()}
    by_scale = {
        f"scale {scale:g}": icc_density(icc, RATIOS["half-normal"], scale)
        for scale in (0.25, 0.5, 1, 2)
    }
    by_eta = {
        f"LKJ({eta}), {n} effects": correlation_density(correlation, eta, n)
        for eta, n in ((1, 2), (2, 2), (4, 2), (1, 5))
    }
    panels = {
        "τ/σ with scale 1": (icc, by_prior, "ICC"),
        "τ/σ half-normal": (icc, by_scale, "ICC"),
        "LKJ": (correlation, by_eta, "a correlation"),
    }
    with mpl.rc_context(STYLE):
        drawing = Figure(figsize=(8.5, 2.7), layout="constrained")
        for axes, (title, panel) in zip(drawing.subplots(1, 3), panels.items(), strict=True):
            places, curves, label = panel
            for (name, density), colour in zip(curves.items(), colours, strict=True):
                axes.plot(places, density, color=colour, label=name)
            axes.set(title=title, xlabel=label, ylim=(0, 4 if label == "ICC" else 2), yticks=[])
            axes.legend(frameon=False, labelcolor=INK)
        save(drawing, path)


if __name__ == "__main__":
    priors(ROOT / "docs/figures/priors.svg")
