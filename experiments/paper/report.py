"""Pages with the tables and figures of what has been measured."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from experiments.paper import figures, tables
from experiments.paper.agreement import BOUND, KHAT, RHAT, comparisons, variants
from experiments.paper.cells import read_all
from experiments.paper.experiments import COGNITIVE
from experiments.paper.strategies import FIT
from experiments.sampling import DIRECT

__all__ = ["report"]

type Result = dict[str, Any]

STRATEGIES = (
    "Strategies: `O` is the model as it is written; `M1`, `M2`, `M3` integrate one class of "
    "effects out, `all` all classes; `R1`, `R2` non-centre one, and `M1R2` combines the two; "
    "`default` is what `marginalize(model)` does by itself, which integrates the coefficients out "
    "too; `fit` is `fit(model)`, importance sampling of what `default` leaves, without steps to "
    "tune, with evaluations of the density in place of gradients and k̂ in place of R̂. Scales "
    "that stay sampled are folded, as `marginalize` does by default. Effective sample sizes (ESS) "
    "are bulk ones, over all parameters *and* all effects, recovered ones included; of `fit` they "
    "are `effective_draws` at most."
)

ORDER = ("O", "R1", "R2", "R1R2", "M1", "M1R2", "M2", "M2R1", "M3", "all", "default", FIT)
"""Of strategies in tables and figures."""

PAPER_BUDGET = "The paper took one chain of 10,000 + 100,000: budgets here are scaled down."


def report(results: Path, out: Path) -> list[Path]:
    """Write a page for each table and figure that something has been measured for.

    Parameters
    ----------
    results : Path
        Folder with the files of cells.
    out : Path
        Folder of the pages and figures; ``results.json`` in it has all numbers that they show, but
        for the moments of single elements.

    Returns
    -------
    list of Path
        What was written.

    Raises
    ------
    FileNotFoundError
        There are no results.
    """
    found = sorted(read_all(results), key=_place)
    if not found:
        raise FileNotFoundError(f"No results in {results}: run some experiments first.")
    out.mkdir(parents=True, exist_ok=True)
    written = [
        path
        for page in (_table1, _table2, _figure3, _figure4, _agreement, _cells)
        for path in page(found, out)
    ]
    small = [
        {key: value for key, value in result.items() if key not in ("variables", "pairs")}
        for result in found
    ]
    written.append(out / "results.json")
    written[-1].write_text(json.dumps(small, indent=1) + "\n")
    return written


def _place(result: Result) -> tuple:
    """Return what results are sorted by; files are read in the order of their names."""
    if result["kind"] != "fit":
        return (1,)
    cell = result["cell"]
    strategy = cell["strategy"]
    rank = ORDER.index(strategy) if strategy in ORDER else len(ORDER)
    return (0, cell["model"], rank, strategy, cell["sampler"], cell["seed"])


def _page(path: Path, title: str, shown: Sequence[Result], *parts: str) -> Path:
    head = [f"# {title}", "Written by `make paper`; not to be edited.", tables.machines(shown)]
    path.write_text("\n\n".join(part for part in (*head, *parts) if part) + "\n")
    return path


def _budget(shown: Sequence[Result]) -> str:
    budgets = dict.fromkeys(tables.budget(result["cell"]) for result in shown)
    many = ", ".join(budgets)
    return f"Budget, chains × (steps to tune + draws): {many}. {PAPER_BUDGET}"


def _table1(found: list[Result], out: Path) -> list[Path]:
    shown = [result for result in found if result["kind"] == "costs"]
    if not shown:
        return []
    text = (
        "Slopes of log seconds over log sizes, on synthetic data of one class of effects: `n` "
        "rows, `M` levels, `d` effects per level, with numba. Small sizes have an overhead that "
        "makes slopes smaller. *Initialisation* is `marginalize` and compilation; *recovery* one "
        "draw of all effects. A dense covariance allows small `n` only; its recovery is that of "
        "the formula, in NumPy. Where sums over rows can be taken once, a marginal density does "
        "not depend on `n` at all."
    )
    parts = (text, tables.cost_slopes(found), "## Seconds", tables.cost_times(found))
    title = "Table 1: cost by size"
    return [_page(out / "table1.md", title, shown, *parts)]


def _drawn(shown: list[Result], path: Path, draw: Callable[[list[Result], Path], None]) -> str:
    """Draw a figure of the cells that did not fail, and return its place in a page."""
    done = [result for result in shown if "failed" not in result]
    if not done:
        return ""
    draw(done, path)
    return f"![{path.stem}]({path.name})"


def _by_sampler(
    shown: list[Result], path: Path, draw: Callable[[list[Result], Path], None]
) -> tuple[list[Path], list[str]]:
    """Draw a figure for each sampler; return the files, and headings and places in a page.

    ``fit`` is in the figure of each.
    """
    written, parts = [], []
    samplers = dict.fromkeys(result["cell"]["sampler"] for result in shown)
    if len(samplers) > 1:
        samplers.pop(DIRECT, None)
    for sampler in samplers:
        own = [result for result in shown if result["cell"]["sampler"] in (sampler, DIRECT)]
        figure = path.with_stem(f"{path.stem}-{sampler}")
        if image := _drawn(own, figure, draw):
            parts += [f"## {sampler}", image]
            written.append(figure)
    return written, parts


def _table2(found: list[Result], out: Path) -> list[Path]:
    shown = tables.largest(tables.fits(found, ["insteval", "insteval_own"]))
    if not shown:
        return []
    text = (
        "InstEval: 73,421 ratings of 1,128 lecturers by 2,972 students in 14 departments. Class 1 "
        "are students, 2 lecturers, 3 departments. `insteval` has the paper's fixed common scale "
        "of 1, `insteval_own` a standard deviation for each class, to be estimated, which the "
        "paper's way to integrate all classes out excludes."
    )
    figure = out / "figure2.svg"
    image = _drawn(shown, figure, figures.insteval)
    parts = (text, _budget(shown), STRATEGIES, tables.by_strategy(shown), image)
    title = "Table 2 and figure 2: InstEval"
    return [_page(out / "table2.md", title, shown, *parts), *[figure] * bool(image)]


def _figure3(found: list[Result], out: Path) -> list[Path]:
    shown = tables.largest(tables.fits(found, ["grouseticks"]))
    if not shown:
        return []
    text = (
        "Grouse ticks: broods (class 1) in locations (class 2). Draws of the log standard "
        "deviation of a class and one of its effects: the first brood, the 61st location; "
        "divergent transitions in red. At most 1,000 draws of the first seed, and all divergent "
        "ones, are shown."
    )
    first = min(result["cell"]["seed"] for result in shown)
    drawn = [result for result in shown if result["cell"]["seed"] == first]
    written, images = _by_sampler(drawn, out / "figure3.png", figures.funnels)
    parts = (text, _budget(shown), STRATEGIES, *images, "## All runs", tables.by_strategy(shown))
    return [_page(out / "figure3.md", "Figure 3: grouseticks", shown, *parts), *written]


def _figure4(found: list[Result], out: Path) -> list[Path]:
    order = {name: i for i, name in enumerate(COGNITIVE)}
    shown = tables.largest(tables.fits(found, COGNITIVE))
    shown.sort(key=lambda result: order[result["cell"]["model"]])
    if not shown:
        return []
    text = (
        "Nine models of the cognitive sciences, a dot per seed. Class 1 are subjects, 2 items; in "
        "stroop class 2 are the effects on the spread, which stay sampled. Iterations count those "
        "to tune; their seconds leave compilation and recovery out. Those of `fit` are draws. ESS "
        "per second counts recovery."
    )
    written, images = _by_sampler(shown, out / "figure4.svg", figures.speeds)
    parts = (text, _budget(shown), STRATEGIES, *images, "## Means ± sds over seeds")
    title = "Figure 4: speed and effective sample size"
    page = _page(out / "figure4.md", title, shown, *parts, tables.speeds(shown))
    return [page, *written]


def _agreement(found: list[Result], out: Path) -> list[Path]:
    shown = tables.fits(found)
    compared, left = comparisons(variants(shown))
    if not compared and not left:
        return []
    flagged = [c for c in compared if c.flagged]
    total = sum(c.beyond for c in compared)
    text = (
        "Posterior means and standard deviations of all elements of all parameters and effects, "
        "variant against variant: differences in units of their Monte Carlo error (MCSE), seeds "
        f"taken together. A |z| beyond {BOUND:.0f} is a bug to find, unless it is one of the few "
        "that chance makes of so many; errors are estimates, and z-scores have longer tails than "
        "Normal ones where few draws are effective. The root mean square of all z-scores (rms) is "
        "about 1 where variants agree."
    )
    verdict = (
        f"{len(compared)} pairs of variants compared: {len(flagged)} with a |z| beyond "
        f"{BOUND:.0f}, {total} such elements in all, where Normal z-scores would give "
        f"{sum(c.expected for c in compared):.2g}."
    )
    parts = [text, verdict, *([tables.agreement(compared)] if compared else [])]
    if left:
        reason = f"With divergences, an R̂ above {RHAT}, or a k̂ above {KHAT}; they are not compared."
        parts += ["## Not converged", reason, tables.left_apart(left)]
    return [_page(out / "agreement.md", "Do the variants agree?", shown, *parts)]


def _cells(found: list[Result], out: Path) -> list[Path]:
    shown = tables.fits(found)
    if not shown:
        return []
    parts = (STRATEGIES, tables.by_strategy(shown))
    return [_page(out / "cells.md", "All runs", shown, *parts)]
