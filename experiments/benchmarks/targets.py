"""What ``fit`` is to reach beside what it does reach, as a table.

    python -m experiments.benchmarks.targets [--data FOLDER] [--only maximal insteval_own]

The rows of the paper's models are made of ``docs/benchmarks.json``, and the plain model of InstEval
is that of ``docs/paper/results.json``. All else is measured now, each in a process of its own with
nothing compiled before; ``--only`` without names measures nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pymc as pm
from xarray import DataTree

import pymc_marginal_lmm as mlmm
from experiments.benchmarks.dense_block import factorisation
from experiments.benchmarks.report import FIT, MARGINAL, PLAIN, of, rate, seconds_to_1000
from experiments.benchmarks.variants import find
from experiments.pages import digits, markdown
from experiments.process import measured
from experiments.summary import summary
from pymc_marginal_lmm.examples import MODELS, insteval, load

__all__ = ["maximal", "plain_insteval", "rows_of_fits", "rows_of_models", "seconds_to"]

ROOT = Path(__file__).parents[2]
CHAINS = 4
LIMIT = 1800.0

type Row = list[str]
"""What is measured, the target, and what was reached."""


def maximal(subjects: int = 40, items: int = 24) -> pm.Model:
    """Return crossed factors with four correlated effects each: 21 dimensions are left."""
    rng = np.random.default_rng(1)
    subject, item = (x.ravel() for x in np.indices((subjects, items)))
    a, b = rng.choice([-0.5, 0.5], size=(2, len(item)))
    x = np.stack([np.ones(len(a)), a, b, a * b], axis=1)
    y = x @ [6, 0.2, 0.1, 0] + rng.normal(size=len(a))
    for code, n in ((subject, subjects), (item, items)):
        y += (x * (rng.normal(size=(n, 4)) * [0.5, 0.3, 0.3, 0.2])[code]).sum(axis=1)
    with pm.Model() as model:
        mean = pm.math.dot(x, pm.Normal("beta", 0, 5, shape=4))
        for name, code, n in (("u", subject, subjects), ("w", item, items)):
            sd = pm.HalfNormal.dist(1, shape=4)
            chol, _, _ = pm.LKJCholeskyCov(f"chol_{name}", n=4, eta=2, sd_dist=sd)
            effect = pm.MvNormal(name, np.zeros(4), chol=chol, shape=(n, 4))
            mean = mean + (x * effect[code]).sum(axis=1)
        pm.Normal("y", mean, pm.HalfNormal("sigma", 1), observed=y)
    return model


def fitted(build: Callable[[], pm.Model], draws: int, backend: Any = None) -> dict[str, Any]:
    """Fit a model, and return seconds and what was reached."""
    model = build()
    clock = time.perf_counter()
    idata = mlmm.fit(
        model, draws=draws, chains=CHAINS, random_seed=1, backend=backend, progressbar=False
    )
    seconds = time.perf_counter() - clock
    posterior = idata["posterior"].to_dataset()
    effects = [name for name in ("student", "lecturer", "department") if name in posterior]
    parameters = DataTree.from_dict({"posterior": posterior.drop_vars(effects)})
    return {
        "seconds": seconds,
        "recovery_s": posterior.attrs["recovery_time"],
        "ess_parameters": summary(parameters)["ess_min"],
        **summary(idata),
    }


def own_scales() -> dict[str, Any]:
    """Fit InstEval with scales to be estimated, and time dpotrf of its dense block."""
    build = partial(insteval, load("insteval"), own_scales=True)
    found = fitted(build, 300)
    _, factorise = factorisation(mlmm.marginalize(build()))
    return found | {"dpotrf_ms": statistics.median(factorise() for _ in range(15))}


def as_in_the_paper() -> dict[str, Any]:
    """Fit InstEval with known scales."""
    return fitted(partial(insteval, load("insteval")), 1000)


MEASURED: dict[str, Callable[[Path | None], dict[str, Any]]] = {
    "first": lambda data: fitted(
        find("dutch" if data else "sleepstudy", data).build, 1000, backend="numba"
    ),
    "insteval_own": lambda data: own_scales(),
    "insteval": lambda data: as_in_the_paper(),
    "maximal": lambda data: fitted(maximal, 1250),
}
"""By name, what is fitted here, given the folder with data."""


@contextmanager
def no_kernels() -> Iterator[None]:
    """Let processes find an empty cache of numba, as on a machine that never ran the package."""
    before = os.environ.get("NUMBA_CACHE_DIR")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NUMBA_CACHE_DIR"] = folder
        try:
            yield
        finally:
            del os.environ["NUMBA_CACHE_DIR"]
            if before is not None:
                os.environ["NUMBA_CACHE_DIR"] = before


def measure(name: str, data: Path | None) -> dict[str, Any]:
    """Measure in a process of its own."""
    arguments = ["--measure", name, *(["--data", str(data)] if data is not None else [])]
    if name == "first":
        with no_kernels():
            return measured(__spec__.name, arguments, LIMIT, cold=True)
    return measured(__spec__.name, arguments, LIMIT, cold=True)


def rows_of_models(results: dict[str, Any]) -> list[Row]:
    """Return the rows of the paper's models; those that ``fit`` refuses go by NUTS."""
    waits, rates = {}, {}
    for name in MODELS:
        case = results["cases"].get(name, {"sampling": {}})
        plain, ours = of(case, PLAIN), of(case, FIT)
        if not ours and any(key.split()[0] in FIT for key in case["sampling"]):
            ours = of(case, MARGINAL)
        if plain and ours:
            waits[name] = min(map(seconds_to_1000, ours)) / min(map(seconds_to_1000, plain))
            rates[name] = max(map(rate, ours)) / max(map(rate, plain))
    if not waits:
        return []
    slowest, least = max(waits, key=waits.__getitem__), min(rates, key=rates.__getitem__)
    mean = statistics.geometric_mean
    return [
        [
            f"seconds to 1,000 effective draws over the plain model's, {len(waits)} models",
            "≤ 0.15 in the geometric mean, none above 0.5",
            f"{digits(mean(waits.values()))}, {digits(waits[slowest])} ({slowest})",
        ],
        [
            f"effective draws per second over the plain model's, {len(rates)} models",
            "≥ 25 in the geometric mean, none below 2",
            f"{digits(mean(rates.values()))}, {digits(rates[least])} ({least})",
        ],
    ]


def plain_insteval(results: list[dict[str, Any]]) -> float:
    """Return the seconds that the plain model of InstEval takes to 1,000 effective draws."""
    return min(
        seconds_to_1000(result)
        for result in results
        if result["kind"] == "fit"
        and (result["cell"]["model"], result["cell"]["strategy"]) == ("insteval_own", "O")
        and "failed" not in result
    )


def seconds_to(draws: int, seconds: float, ess: float) -> float:
    """Return the seconds to so many effective draws, of fits that take all of them again."""
    return seconds * max(1.0, draws / ess)


def rows_of_fits(found: dict[str, dict[str, Any]], plain: float) -> list[Row]:
    """Return the rows of what was fitted here.

    Parameters
    ----------
    found : dict
        By the names of :data:`MEASURED`.
    plain : float
        Seconds of the plain model of InstEval.
    """
    rows = [[name, "", own["failed"]] for name, own in found.items() if "failed" in own]
    found = {name: own for name, own in found.items() if "failed" not in own}
    if own := found.get("first"):
        rows.append(["first fit on a machine, numba, s", "≤ 15", digits(own["seconds"])])
    if own := found.get("insteval_own"):
        everything = seconds_to(1000, own["seconds"], own["ess_min"])
        few = seconds_to(1000, own["seconds"] - own["recovery_s"], own["ess_parameters"])
        rows += [
            [
                "InstEval, own scales, 1,000 effective draws of everything, over the plain model's",
                "≤ 0.5",
                f"{digits(everything / plain)} ({digits(everything)} s of {digits(plain)} s)",
            ],
            [
                "the same, parameters only, in dpotrf of the dense block",
                "≤ 2,000, then 1,500",
                f"{digits(1e3 * few / own['dpotrf_ms'])} "
                f"({digits(few)} s of {digits(own['dpotrf_ms'])} ms)",
            ],
        ]
    if own := found.get("insteval"):
        title = "InstEval as in the paper, 4,000 draws of everything, s"
        rows.append([title, "≤ 200, then 100", digits(own["seconds"])])
    if own := found.get("maximal"):
        seconds = seconds_to(4000, own["seconds"], own["ess_min"])
        reached = f"{digits(seconds)} (k̂ {own['khat']:.2f})"
        rows.append(["21 dimensions, 4,000 effective draws, s", "≤ 10", reached])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with the paper's data sets")
    parser.add_argument("--only", nargs="*", choices=MEASURED, default=list(MEASURED))
    parser.add_argument("--measure", choices=MEASURED, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(MEASURED[args.measure](args.data)))
        return
    benchmarks = json.loads((ROOT / "docs/benchmarks.json").read_text())
    paper = json.loads((ROOT / "docs/paper/results.json").read_text())
    found = {name: measure(name, args.data) for name in args.only}
    rows = [*rows_of_models(benchmarks), *rows_of_fits(found, plain_insteval(paper))]
    print(markdown(["measure", "target", "reached"], rows, text=3))
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
