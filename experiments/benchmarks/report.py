"""Tables of the figures that the benchmarks have written."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

from experiments.pages import digits
from experiments.pages import markdown as table

__all__ = [
    "FIT",
    "MARGINAL",
    "PLAIN",
    "done",
    "evaluated",
    "markdown",
    "of",
    "rate",
    "seconds_to_1000",
]

PLAIN = ("centred", "noncentred")
MARGINAL = ("all",)
FIT = ("fit",)
"""The three sides that are compared, by their variants."""


def markdown(results: dict[str, Any]) -> str:
    """Return the page."""
    cases, machine = results["cases"], results["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    parts = [
        "# Benchmarks",
        "Written by `make bench DATA=folder` (`python -m experiments.benchmarks --data folder`); "
        "without a folder it leaves out the models of the paper. All figures of a line come from "
        "one run; compare lines by their ratios.",
        f"{machine['cores']} cores, OPENBLAS_NUM_THREADS {machine['OPENBLAS_NUM_THREADS']}; "
        f"{versions}; {machine['date']}.",
        "## Gradients",
        "Log density and gradient: the median of seven rounds in turns (the minimum in brackets), "
        "in µs for the model as written (centred), and relative to it for the same model "
        "non-centred, with a dense covariance by hand, with one factor, and with everything "
        "integrated out. With JAX inside a jitted loop; with numba the compiled function called "
        "from Python.",
    ]
    for backend in ("jax", "numba"):
        parts.append(_gradients(cases, backend))
    parts += [
        "## Sampling",
        "4 chains, 500 draws to tune and 1,000 kept. ESS is the smallest bulk effective sample "
        "size over all scalar parameters *and* all effects; seconds to 1,000 count everything from "
        "the model to its draws, compilation with empty caches and recovery included, and as many "
        "runs as 1,000 effective draws need (one at least). *Ratio* compares with the best plain "
        "row. Memory is what the process took at most beyond what it had taken with the data and "
        "the plain model.",
        "`fit` has no gradients: evaluations of the density stand in their place, and its ESS is "
        "`effective_draws` where that is smaller. Sampling and recovery are those of a second fit, "
        "compilation is what the first one took beyond them.",
        _sampling(cases),
        _fits(cases),
        _per_draw(cases),
        "## In one line",
        _overall(cases),
        "```{toctree}\n:maxdepth: 1\n\naccelerator\npaper\n```",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _gradients(cases: dict, backend: str) -> str:
    rows = []
    for name, case in cases.items():
        figures = case["gradient"].get(backend)
        if not figures or "centred" not in figures:
            continue
        base = figures["centred"]
        row = [name, f"{digits(base['us_median'])} ({digits(base['us_min'])})"]
        for variant in ("noncentred", "dense", "one", "all"):
            own = figures.get(variant)
            row.append(
                f"{digits(own['us_median'] / base['us_median'])} "
                f"({digits(own['us_min'] / base['us_min'])})"
                if own
                else "–"
            )
        row.append(f"{figures['all']['transform_s']:.2f}")
        row.append(
            ", ".join(digits(figures[v]["compile_s"]) for v in ("centred", "all"))
            if "compile_s" in base
            else "–"
        )
        rows.append(row)
    head = [backend, "centred, µs", "non-centred", "dense", "one factor", "all", "transform, s"]
    head.append("compile centred, all, s")
    return table(head, rows) if rows else ""


def rate(figures: dict) -> float:
    """Return effective draws per second of sampling and recovery."""
    return figures["ess_min"] / (figures["sampling_s"] + figures["recovery_s"])


def seconds_to_1000(figures: dict) -> float:
    """Return the seconds to 1,000 effective draws."""
    runs = max(1.0, 1000 / figures["ess_min"])
    return figures["compile_s"] + runs * (figures["sampling_s"] + figures["recovery_s"])


def evaluated(figures: dict) -> int:
    """Return how often the density was evaluated, with gradients where they are needed."""
    return figures["gradients"] if "gradients" in figures else figures["evaluations"]


def done(case: dict) -> dict[str, dict]:
    """Return the samplings of a model that came to an end."""
    return {key: value for key, value in case["sampling"].items() if "ess_min" in value}


def _best_plain(case: dict) -> tuple[float, float] | None:
    plain = of(case, PLAIN)
    if not plain:
        return None
    return max(map(rate, plain)), min(map(seconds_to_1000, plain))


def of(case: dict, side: Sequence[str]) -> list[dict]:
    """Return the samplings of a side that came to an end."""
    return [v for key, v in done(case).items() if key.split()[0] in side]


def _sampling(cases: dict) -> str:
    rows = []
    for name, case in cases.items():
        best = _best_plain(case)
        for key, figures in case["sampling"].items():
            variant, sampler = key.split()
            label = [name, "marginal" if variant == "all" else variant, sampler]
            if "failed" in figures:
                rows.append([*label, figures["failed"], *[""] * 10])
                continue
            own, seconds = rate(figures), seconds_to_1000(figures)
            ratios = (
                ["", ""] if best is None else [digits(own / best[0]), digits(seconds / best[1])]
            )
            rows.append(
                [
                    *label,
                    digits(figures["ess_min"]),
                    f"{figures['rhat']:.3f}" if "rhat" in figures else "–",
                    str(figures.get("divergences", "–")),
                    digits(evaluated(figures) / figures["draws"]),
                    digits(1000 * figures["ess_min"] / evaluated(figures)),
                    digits(own),
                    ratios[0],
                    f"{digits(figures['compile_s'])} + {digits(figures['sampling_s'])}"
                    + (f" + {digits(figures['recovery_s'])}" if variant in ("all", "fit") else ""),
                    digits(seconds),
                    ratios[1],
                    f"{figures['peak_MB']:,.0f}",
                ]
            )
    head = ["model", "form", "sampler", "ESS", "R̂", "divergences", "gradients / draw"]
    head += ["ESS / 1,000 gradients", "ESS / s", "ratio", "compile + sample + recover, s"]
    head += ["s to 1,000", "ratio", "memory, MB"]
    return table(head, rows) if rows else ""


def _fits(cases: dict) -> str:
    rows = []
    for name, case in cases.items():
        for figures in of(case, FIT):
            warm = figures["warm_s"]
            rows.append(
                [
                    name,
                    digits(figures["first_s"]),
                    digits(warm) if warm is not None else "–",
                    digits(figures["second_s"]),
                    f"{figures['evaluations']:,}",
                    f"{figures['khat']:.2f}",
                    f"{figures['log_evidence']:,.2f}",
                ]
            )
    head = ["fit, s", "empty caches", "warm caches", "second, compiled", "evaluations", "k̂"]
    return table([*head, "log evidence"], rows) if rows else ""


def _per_draw(cases: dict) -> str:
    rows = []
    for name, case in cases.items():
        figures = case.get("per_draw", {}).get("", {})
        if "gradient_ms" in figures:
            sizes = [f"{figures[key]:,}" for key in ("n", "q")]
            ratios = [digits(figures[f"{key}_ratio"]) for key in ("rows", "effects")]
            rows.append([name, *sizes, digits(figures["gradient_ms"]), *ratios])
    if not rows:
        return ""
    text = (
        "## After sampling\n\nWhat is computed for each draw, in gradients of the marginal "
        "density: the densities of all rows, each given all others "
        "(`compute_log_likelihood`), and means and variances of all effects (`ranef`)."
    )
    head = ["model", "rows", "effects", "gradient, ms", "all rows, ratio", "all effects, ratio"]
    return f"{text}\n\n{table(head, rows)}"


def _overall(cases: dict) -> str:
    sides = (("marginal", MARGINAL), ("fit", FIT))
    return "\n\n".join(filter(None, (_against_plain(cases, *side) for side in sides)))


def _against_plain(cases: dict, title: str, side: Sequence[str]) -> str:
    speed, wait, ess, work, divergences = {}, {}, {}, {}, 0
    for name, case in cases.items():
        best, ours = _best_plain(case), of(case, side)
        if best is None or not ours:
            continue
        speed[name] = max(map(rate, ours)) / best[0]
        wait[name] = min(map(seconds_to_1000, ours)) / best[1]
        ess[name] = max(v["ess_min"] / v["draws"] for v in ours)
        work[name] = min(evaluated(v) / v["draws"] for v in ours)
        divergences += sum(v.get("divergences", 0) for v in ours)
    if not speed:
        return ""

    def line(text: str, values: dict[str, float], worst: Callable) -> str:
        mean, name = statistics.geometric_mean(values.values()), worst(values, key=values.get)
        return f"- {text}: geometric mean {digits(mean)}, worst {digits(values[name])} ({name})"

    lines = [
        line(f"ESS per second, {title} over plain", speed, min),
        line(f"seconds to 1,000, {title} over plain", wait, max),
        line(f"ESS per draw, {title}", ess, min),
    ]
    if title == "fit":
        lines.append(line("evaluations per draw, fit", work, max))
    else:
        lines.append(line(f"gradients per draw, {title}", work, max))
        lines.append(f"- divergences, all {title} runs together: {divergences}")
    return "\n".join([f"The better sampler of each side, over {len(speed)} models:\n", *lines])
