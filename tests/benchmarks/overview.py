"""README's table and figure, of the figures that the benchmarks have written.

python -m tests.benchmarks.overview
"""

from __future__ import annotations

import json
import re
import statistics
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from pymc_marginal_lmm.paper.figures import COLOURS, INK, STYLE, save
from pymc_marginal_lmm.paper.tables import digits, markdown
from tests.benchmarks.report import PLAIN, done, rate, seconds_to_1000

__all__ = ["figure", "overview", "put"]

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"(<!-- overview: .*? -->\n).*?(<!-- /overview -->)", re.DOTALL)


def _best(case: dict[str, Any]) -> tuple[dict, dict] | None:
    """Return the row with most ESS per second of the plain forms, and of the marginal model."""
    plain, ours = _of(case, PLAIN), _of(case, ("all",))
    return (max(plain, key=rate), max(ours, key=rate)) if plain and ours else None


def overview(results: dict[str, Any]) -> str:
    """Return the table and where its figures are from."""
    rows, ratios = [], []
    for name, case in results["cases"].items():
        best = _best(case)
        if best is None or "centred" not in case["gradient"].get("jax", {}):
            continue
        plain, ours = best
        ratios.append(rate(ours) / rate(plain))
        wait = [min(map(seconds_to_1000, _of(case, side))) for side in (PLAIN, ("all",))]
        rows.append(
            [
                name,
                *(digits(v["ess"]) for v in best),
                *(digits(1000 * v["ess"] / v["gradients"]) for v in best),
                digits(ratios[-1]),
                digits(wait[1] / wait[0]),
            ]
        )
    head = ["model", "ESS, plain", "marginal", "ESS / 1,000 gradients, plain", "marginal"]
    head += ["ESS / s, ratio", "time to 1,000, ratio"]
    machine = results["machine"]
    source = (
        "Smallest bulk ESS over all parameters and effects, of 4,000 draws; of each side the form "
        "(centred, non-centred) and the sampler (NumPyro, nutpie) with most per second. Geometric "
        f"mean of the ratio: **{digits(statistics.geometric_mean(ratios))}**. Time to 1,000 "
        "effective draws includes compilation from empty caches. One seed, on "
        f"{machine['cores']} CPU cores, {machine['date']}: `make bench DATA=folder`, "
        "[all figures](docs/benchmarks.md)."
    )
    return f"{markdown(head, rows)}\n\n{source}\n"


def _of(case: dict, variants: tuple[str, ...]) -> list[dict]:
    return [v for key, v in done(case).items() if key.split()[0] in variants]


def figure(results: dict[str, Any], path: Path) -> None:
    """Draw ESS per second of both sides, model by model."""
    best = {name: _best(case) for name, case in results["cases"].items()}
    pairs = {name: tuple(map(rate, pair)) for name, pair in best.items() if pair}
    names = sorted(pairs, key=lambda name: pairs[name][1] / pairs[name][0])
    with mpl.rc_context(STYLE):
        drawing = Figure(figsize=(6.4, 0.27 * len(names) + 0.9), layout="constrained")
        axes = drawing.subplots()
        for i, name in enumerate(names):
            axes.plot(pairs[name], [i, i], color=INK, linewidth=1, alpha=0.6, zorder=1)
        for side, label, colour in ((0, "plain, the better form", "O"), (1, "marginal", "default")):
            values = [pairs[name][side] for name in names]
            axes.scatter(values, range(len(names)), color=COLOURS[colour], label=label, zorder=2)
        axes.set_xscale("log")
        axes.set_yticks(range(len(names)), names)
        axes.set_xlabel("effective draws per second, of the worst parameter or effect")
        axes.legend(loc="lower right", frameon=False, labelcolor=INK)
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
