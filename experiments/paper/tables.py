"""Tables in Markdown of what the cells hold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from experiments.pages import digits, markdown
from experiments.paper.agreement import BOUND, KHAT, RHAT, Comparison, Variant

__all__ = [
    "agreement",
    "budget",
    "by_strategy",
    "cost_slopes",
    "cost_times",
    "fits",
    "largest",
    "left_apart",
    "machines",
    "rates",
    "speeds",
]

type Result = dict[str, Any]

QUANTITIES = {
    "logp_s": "log density",
    "gradient_s": "gradient",
    "initialisation_s": "initialisation",
    "recovery_s": "recovery",
}

ORDERS = {
    "marginal": "O(nd + Md³), the paper's with its lemmas",
    "dense": "O(n³), the paper's naive one",
    "plain": "O(nd + Md²)",
}
"""Of log density and gradient, where one class of effects is integrated out."""

FORMS = {"plain": "not marginalized", "marginal": "marginalized", "dense": "dense covariance"}


def budget(cell: dict[str, Any]) -> str:
    """Say how much was sampled."""
    return f"{cell['chains']} × ({cell['tune']:,} + {cell['draws']:,})"


def machines(results: Iterable[Result]) -> str:
    """Say where and when results were measured, in a line per machine."""
    lines: dict[str, list[str]] = {}
    for result in results:
        machine = result["machine"]
        versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
        line = f"{machine['cores']} cores, OPENBLAS_NUM_THREADS {machine['OPENBLAS_NUM_THREADS']}"
        lines.setdefault(f"{line}; {versions}", []).append(machine["date"])
    return "\n\n".join(
        f"{line}; {' to '.join(dict.fromkeys((min(dates), max(dates))))}."
        for line, dates in lines.items()
    )


def fits(results: Iterable[Result], models: Sequence[str] | None = None) -> list[Result]:
    """Return the sampled cells, also those that failed, of some models or all."""
    found = [result for result in results if result["kind"] == "fit"]
    return [result for result in found if models is None or result["cell"]["model"] in models]


def _by_variant(results: Iterable[Result]) -> dict[tuple[str, str, str], list[Result]]:
    """Return the cells of each model, strategy and sampler."""
    groups: dict[tuple[str, str, str], list[Result]] = {}
    for result in results:
        cell = result["cell"]
        groups.setdefault((cell["model"], cell["strategy"], cell["sampler"]), []).append(result)
    return groups


def largest(results: Iterable[Result]) -> list[Result]:
    """Leave only the cells of the largest budget of each model, strategy and sampler."""

    def size(result: Result) -> int:
        return result["cell"]["chains"] * result["cell"]["draws"]

    chosen = []
    for members in _by_variant(results).values():
        most = max(size(result) for result in members)
        chosen += [result for result in members if size(result) == most]
    return chosen


def rates(result: Result) -> dict[str, float]:
    """Return what the paper compares.

    Parameters
    ----------
    result : dict
        A sampled cell.

    Returns
    -------
    dict
        ``iterations``: of NUTS per second, over all chains, those to tune included, compilation
        and recovery not (``fit`` has draws in their place); ``ess``: mean effective draws of a
        variable per kept draw; ``ess_per_second``: those per second of sampling and recovery.
    """
    cell = result["cell"]
    steps, draws = cell["chains"] * (cell["tune"] + cell["draws"]), cell["chains"] * cell["draws"]
    return {
        "iterations": steps / result["sampling_s"],
        "ess": result["ess_mean"] / draws,
        "ess_per_second": result["ess_mean"] / (result["sampling_s"] + result["recovery_s"]),
    }


def by_strategy(results: Iterable[Result]) -> str:
    """Return the table of cells: times, effective sample sizes, diagnostics."""
    rows = []
    for result in results:
        cell = result["cell"]
        label = [cell["model"], cell["strategy"], cell["sampler"], str(cell["seed"]), budget(cell)]
        if "failed" in result:
            rows.append([*label, result["failed"].replace("|", "/"), *[""] * 10])
            continue
        draws = cell["chains"] * cell["draws"]
        rows.append(
            [
                *label,
                f"{result['dimension']:,}",
                digits(result["compile_s"]),
                digits(result["sampling_s"]),
                digits(result["recovery_s"]),
                digits(result["ess_mean"]),
                digits(result["ess_min"]),
                digits(rates(result)["ess_per_second"]),
                digits(result.get("gradients", result.get("evaluations", np.nan)) / draws),
                str(result.get("divergences", "–")),
                _decimals(result.get("rhat"), 3),
                _decimals(result.get("khat"), 2),
            ]
        )
    head = ["model", "strategy", "sampler", "seed", "budget", "sampled", "compile, s", "sample, s"]
    head += ["recover, s", "mean ESS", "smallest ESS", "mean ESS / s", "gradients / draw"]
    return markdown([*head, "divergences", "R̂", "k̂"], rows, text=5)


def speeds(results: Iterable[Result]) -> str:
    """Return the table of iterations per second and effective draws, over seeds."""
    rows = []
    for key, members in _by_variant(r for r in results if "failed" not in r).items():
        values = [rates(result) for result in members]
        columns = [_spread([v[name] for v in values]) for name in values[0]]
        others = [
            str(sum(r["divergences"] for r in members)) if "divergences" in members[0] else "–",
            _decimals(_largest(members, "rhat"), 3),
            _decimals(_largest(members, "khat"), 2),
        ]
        rows.append([*key, budget(members[0]["cell"]), str(len(members)), *columns, *others])
    head = ["model", "strategy", "sampler", "budget", "seeds", "iterations / s", "ESS / iteration"]
    head += ["ESS / s", "divergences", "largest R̂", "largest k̂"]
    return markdown(head, rows, text=4)


def _largest(results: Iterable[Result], name: str) -> float | None:
    """Return the largest of a diagnostic; None if no result has it."""
    return max((result[name] for result in results if name in result), default=None)


def _decimals(x: float | None, digits: int) -> str:
    return "–" if x is None or np.isnan(x) else f"{x:.{digits}f}"


def _spread(values: Sequence[float]) -> str:
    mean = digits(float(np.mean(values)))
    return f"{mean} ± {digits(float(np.std(values, ddof=1)))}" if len(values) > 1 else mean


def _series(results: Iterable[Result]) -> dict[tuple[str, str], list[Result]]:
    """Return the synthetic models by form and by what varies, small ones first."""
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        if result["kind"] == "costs" and "failed" not in result:
            cell = result["cell"]
            groups.setdefault((cell["form"], cell["axis"]), []).append(result)
    order = [(form, axis) for form in FORMS for axis in ("n", "M", "d")]
    return {
        key: sorted(groups[key], key=lambda result: _size(result["cell"]))
        for key in order
        if key in groups
    }


def _size(cell: dict[str, Any]) -> int:
    return cell[{"n": "n", "M": "levels", "d": "effects"}[cell["axis"]]]


def slope(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """Return the slope of log seconds over log sizes; NaN if there are not two."""
    if len(set(sizes)) < 2 or min(seconds) <= 0:
        return float("nan")
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def cost_slopes(results: Iterable[Result]) -> str:
    """Return the table of measured orders: the exponents of ``n``, ``M`` and ``d``."""
    rows = []
    for (form, axis), members in _series(results).items():
        sizes = [_size(result["cell"]) for result in members]
        exponents = []
        for name in QUANTITIES:
            known = name in members[0] and name in members[-1]
            seconds = [result[name] for result in members] if known else []
            exponents.append(f"{slope(sizes, seconds):.2f}" if known else "–")
        span = f"{min(sizes):,} to {max(sizes):,}"
        rows.append([FORMS[form], ORDERS[form], axis, span, *exponents])
    head = ["model", "order of density and gradient", "varies", "from – to"]
    return markdown([*head, *QUANTITIES.values()], rows, text=4)


def cost_times(results: Iterable[Result]) -> str:
    """Return the table of the seconds behind :func:`cost_slopes`."""
    rows = []
    for (form, axis), members in _series(results).items():
        for result in members:
            cell = result["cell"]
            sizes = [f"{cell[name]:,}" for name in ("n", "levels", "effects")]
            times = [f"{result[name]:.2e}" if name in result else "–" for name in QUANTITIES]
            rows.append([FORMS[form], axis, *sizes, *times])
    quantities = [f"{name}, s" for name in QUANTITIES.values()]
    return markdown(["model", "varies", "n", "M", "d", *quantities], rows, text=2)


def agreement(compared: Iterable[Comparison]) -> str:
    """Return the table of the z-scores of largest size, a row per pair of variants."""
    rows = []
    for c in compared:
        note = f"**{c.beyond} beyond {BOUND:.0f}**, {c.expected:.2g} by chance" if c.flagged else ""
        rows.append(
            [
                c.first.model,
                _label(c.first),
                _label(c.second),
                f"{c.mean:.2f} ({c.worst_mean})",
                f"{c.sd:.2f} ({c.worst_sd})",
                note,
                f"{c.rms:.2f}",
                f"{c.size:,}",
            ]
        )
    head = ["model", "first", "second", "largest z of a mean", "largest z of an sd", "bug?"]
    return markdown([*head, "rms z", "elements"], rows, text=6)


def left_apart(variants: Iterable[Variant]) -> str:
    """Return the table of the variants that did not converge, and why."""
    rows = [
        [
            variant.model,
            _label(variant),
            ", ".join(map(str, variant.seeds)),
            str(variant.divergences),
            _decimals(variant.rhat, 3) + (" (too large)" if variant.rhat > RHAT else ""),
            _decimals(variant.khat, 2) + (" (too large)" if variant.khat > KHAT else ""),
        ]
        for variant in variants
    ]
    return markdown(["model", "variant", "seed", "divergences", "R̂", "k̂"], rows, text=3)


def _label(variant: Variant) -> str:
    return f"{variant.strategy}, {variant.sampler}"
