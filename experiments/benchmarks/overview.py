"""README's table and figure, of the figures that the benchmarks have written.

python -m experiments.benchmarks.overview
"""

from __future__ import annotations

import json
import re
import statistics
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from experiments.benchmarks.report import FIT, MARGINAL, PLAIN, evaluated, of, rate, seconds_to_1000
from experiments.pages import digits, markdown
from experiments.style import COLOURS, INK, STYLE, save

__all__ = ["figure", "overview", "put"]

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"(<!-- overview: .*? -->\n).*?(<!-- /overview -->)", re.DOTALL)


SIDES = {"plain": PLAIN, "marginal + NUTS": MARGINAL, "fit": FIT}

MARKS = {
    "plain": ("plain, the better form", "O"),
    "marginal + NUTS": ("marginal, by NUTS", "default"),
    "fit": ("fit", "fit"),
}
"""Label and colour of each side."""


def _best(case: dict[str, Any]) -> dict[str, dict]:
    """Return of each side the row with most ESS per second; nothing without the first two."""
    found = {name: max(rows, key=rate) for name, side in SIDES.items() if (rows := of(case, side))}
    return found if {"plain", "marginal + NUTS"} <= found.keys() else {}


def overview(results: dict[str, Any]) -> str:
    """Return the table and where its figures are from."""
    rows: list[list[str]] = []
    ratios: dict[str, list[float]] = {"marginal + NUTS": [], "fit": []}
    for name, case in results["cases"].items():
        best = _best(case)
        if not best or "centred" not in case["gradient"].get("jax", {}):
            continue
        wait = {name: min(map(seconds_to_1000, of(case, SIDES[name]))) for name in best}
        for side in ratios.keys() & best.keys():
            ratios[side].append(rate(best[side]) / rate(best["plain"]))
        columns = [
            {side: v["ess_min"] for side, v in best.items()},
            {side: 1000 * v["ess_min"] / evaluated(v) for side, v in best.items()},
            {side: rate(v) / rate(best["plain"]) for side, v in best.items()},
            {side: seconds / wait["plain"] for side, seconds in wait.items()},
        ]
        rows.append([name, *(cell for i, c in enumerate(columns) for cell in _cells(c, i < 2))])
    head = ["model", "ESS, plain", "marginal", "fit", "ESS / 1,000 gradients, plain", "marginal"]
    head += ["fit (evaluations)", "ESS / s, ratio, marginal", "fit"]
    head += ["time to 1,000, ratio, marginal", "fit"]
    machine = results["machine"]
    means = ", ".join(
        f"{side} **{digits(statistics.geometric_mean(values))}**"
        for side, values in ratios.items()
        if values
    )
    source = (
        "Smallest bulk ESS over all parameters and effects, of 4,000 draws; of the plain and the "
        "marginal model the form (centred, non-centred) and the sampler (NumPyro, nutpie) with "
        "most per second; of `fit` the smaller of that and its `effective_draws`. Ratios are to "
        f"the plain model. Geometric mean of that of ESS / s: {means}. Time to 1,000 effective "
        "draws includes compilation from empty caches. One seed, on "
        f"{machine['cores']} CPU cores, {machine['date']}: `make bench DATA=folder`, "
        "[all figures](docs/benchmarks.md)."
    )
    return f"{markdown(head, rows)}\n\n{source}\n"


def _cells(values: dict[str, float], plain: bool) -> list[str]:
    """Return a column of each side, with a dash for what has not been measured."""
    sides = list(SIDES)[0 if plain else 1 :]
    return [digits(values[side]) if side in values else "–" for side in sides]


def figure(results: dict[str, Any], path: Path) -> None:
    """Draw ESS per second of all sides, model by model."""
    best = {name: _best(case) for name, case in results["cases"].items()}
    rates = {n: {side: rate(v) for side, v in own.items()} for n, own in best.items() if own}
    names = sorted(rates, key=lambda n: rates[n]["marginal + NUTS"] / rates[n]["plain"])
    with mpl.rc_context(STYLE):
        drawing = Figure(figsize=(6.4, 0.27 * len(names) + 0.9), layout="constrained")
        axes = drawing.subplots()
        for i, name in enumerate(names):
            values = [*rates[name].values()]
            axes.plot(values, [i] * len(values), color=INK, linewidth=1, alpha=0.6, zorder=1)
        for side, (label, colour) in MARKS.items():
            places = [i for i, name in enumerate(names) if side in rates[name]]
            if places:
                values = [rates[names[i]][side] for i in places]
                axes.scatter(values, places, color=COLOURS[colour], label=label, zorder=2)
        axes.set_xscale("log")
        axes.set_yticks(range(len(names)), names)
        axes.set_xlabel("effective draws per second, of the worst parameter or effect")
        drawing.legend(loc="outside upper center", ncols=len(MARKS), frameon=False, labelcolor=INK)
        path.parent.mkdir(exist_ok=True)
        save(drawing, path)


def put(text: str, block: str) -> str:
    """Return a page with the block in its place."""
    new, count = BLOCK.subn(lambda found: f"{found[1]}{block}{found[2]}", text)
    if count != 1:
        raise ValueError("README.md has no place for the table.")
    return new


def main() -> None:
    results = json.loads((ROOT / "docs/benchmarks.json").read_text())
    readme = ROOT / "README.md"
    readme.write_text(put(readme.read_text(), overview(results)))
    figure(results, ROOT / "docs/figures/overview.svg")


if __name__ == "__main__":
    main()
