"""What the demo prints: versions, the model, and two tables."""

from __future__ import annotations

import inspect
import math
import os
import platform
import textwrap
from collections.abc import Mapping
from importlib.metadata import version

import jax
from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table

from pymc_marginal_lmm.demo.examples import LME4, Example
from pymc_marginal_lmm.demo.fitting import Fit

__all__ = ["advice", "comparison", "estimates", "show_model", "versions"]

KHAT = 0.7
"""Of weights that can be relied on k̂ is not larger."""

PACKAGES = ("pymc-marginal-lmm", "pymc", "pytensor", "jax", "numpyro")


def versions() -> str:
    """Return a line with the versions of what matters to results and timings."""
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    cores = f"{os.cpu_count()} CPU cores"
    device = cores if jax.default_backend() == "cpu" else f"{cores}, {jax.devices()[0].device_kind}"
    return f"{packages}, Python {platform.python_version()}; {device}"


def show_model(console: Console, example: Example) -> None:
    """Print the code of a model."""
    _, *body = inspect.getsource(example.build).splitlines()
    code = textwrap.dedent("\n".join(line for line in body if "return" not in line))
    console.print(Syntax(code, "python", theme="ansi_dark", background_color="default", padding=1))


def comparison(fits: Mapping[str, Fit], example: Example) -> Table:
    """Make the table of what the fits cost and gave.

    Parameters
    ----------
    fits : mapping
        By the heading of their column.
    example : Example
        What was fitted.

    Returns
    -------
    rich.table.Table
        A column per fit.
    """
    table = Table(title="Cost of the posterior", title_justify="left", title_style="bold")
    table.add_column("")
    columns = []
    for name, fit in fits.items():
        table.add_column(name, justify="right")
        ess, worst = fit.ess(example)
        attributes = fit.posterior.attrs
        columns.append(
            {
                "sampled parameters": f"{fit.dimension:,}",
                "sampling, with compilation": _seconds(fit.sampling),
                "recovery of the effects": _seconds(fit.recovery) if fit.recovery else "-",
                "gradients (fit: evaluations)": f"{fit.work:,}",
                "divergences": "-" if fit.direct else f"{fit.divergences:,}",
                "largest R̂": "-" if fit.direct else f"{fit.rhat(example):.3f}",
                "k̂": f"{attributes['pareto_khat']:.2f}" if fit.direct else "-",
                "smallest bulk ESS": f"{ess:,.0f}",
                "  of": worst,
                "ESS per 1,000 of these": f"{1000 * ess / fit.work:,.3g}",
                "ESS per second": f"{_ess_per_second(fit, example):,.3g}",
                "log evidence": f"{attributes['log_evidence']:,.2f}" if fit.direct else "-",
            }
        )
    for row in columns[0]:
        table.add_row(row, *(column[row] for column in columns))
    return table


def estimates(fits: Mapping[str, Fit], example: Example) -> Table:
    """Make the table of posterior means and standard deviations beside lme4's estimates."""
    title = "Estimates (posterior mean ± sd)"
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("")
    for heading in (LME4, *fits):
        table.add_column(heading, justify="right")
    for row in example.estimates:
        draws = [fit.estimate(row.variable, row.index) for fit in fits.values()]
        means, sds = zip(*((float(x.mean()), float(x.std())) for x in draws), strict=True)
        digits = max(0, 1 - math.floor(math.log10(min(sds))))
        cells = (f"{m:.{digits}f} ± {s:.{digits}f}" for m, s in zip(means, sds, strict=True))
        table.add_row(row.label, f"{row.lme4:.{digits}f}", *cells)
    return table


def advice(fits: Mapping[str, Fit], example: Example) -> list[str]:
    """Say what to bear in mind about these numbers."""
    lines = [
        "REML gives the most likely sds, a posterior the whole distribution: its mean is larger "
        "where a factor has few levels."
    ]
    for name, fit in fits.items():
        if fit.direct:
            if fit.posterior.attrs["pareto_khat"] > KHAT:
                lines.append(f"k̂ of {name} is above {KHAT}: its weights are not reliable.")
        elif fit.rhat(example) > 1.05:
            lines.append(
                f"R̂ of the {name} model is above 1.05: its estimates and its ESS are rough. Give "
                "more --draws, and more --tune if it adapts."
            )
    speed = {name: _ess_per_second(fit, example) for name, fit in fits.items()}
    if speed["marginal"] < speed.get("plain", 0):
        lines.append(
            "The plain model gives more ESS per second here: it needs more gradients, but they are "
            "so much cheaper."
        )
    return lines


def _ess_per_second(fit: Fit, example: Example) -> float:
    return fit.ess(example)[0] / (fit.sampling + fit.recovery)


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.1f} min"
