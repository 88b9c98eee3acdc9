"""Benchmarks: ``make bench``, ``make bench DATA=folder``.

Every measurement runs in a process of its own, one after the other, and is written into the JSON
file at once, from which the tables are made. A run that was stopped is taken up with ``--resume``;
``--only``, ``--kind``, ``--variant`` and ``--sampler`` measure some things again. The variant
``fit`` has a sampler of its own.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.progress import track

from experiments.benchmarks.report import markdown
from experiments.benchmarks.variants import all_cases
from experiments.machine import machine
from experiments.process import measured
from experiments.sampling import DIRECT

SAMPLERS = ("numpyro", "nutpie")
KINDS = ["gradient", "sampling", "per_draw"]
PER_DRAW = ("insteval", "dutch", "dillonE1", "eeg")
"""Models of which it is measured what is computed for each draw after sampling."""

SAMPLED = ("centred", "noncentred", "all", "fit")


def runs(variants: Sequence[str], samplers: Sequence[str]) -> list[list[str]]:
    """Return each variant with what it is sampled by."""
    return [[v, s] for v in variants for s in ((DIRECT,) if v == "fit" else samplers)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with the paper's data sets")
    parser.add_argument("--only", nargs="+", help="names of models")
    parser.add_argument("--variant", nargs="+", default=SAMPLED, help="which to sample")
    parser.add_argument("--sampler", nargs="+", choices=SAMPLERS, default=SAMPLERS)
    parser.add_argument("--kind", nargs="+", default=KINDS)
    parser.add_argument("--resume", action="store_true", help="keep what has been measured")
    parser.add_argument("--limit", type=float, default=900.0, help="seconds per measurement")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks.json"))
    args = parser.parse_args()

    results: dict[str, Any] = {"cases": {}}
    again = args.only or args.kind != KINDS
    again = again or tuple(args.variant) != SAMPLED or tuple(args.sampler) != SAMPLERS
    if args.out.exists() and (args.resume or again):
        results = json.loads(args.out.read_text())
    results["machine"] = machine()
    jobs = []
    cases = {c.name: c for c in all_cases(args.data) if not args.only or c.name in args.only}
    for name, case in cases.items():
        if "gradient" in args.kind:
            jobs += [("gradient", name, [backend]) for backend in ("jax", "numba")]
        if "sampling" in args.kind and case.sampled:
            jobs += [("sampling", name, run) for run in runs(args.variant, args.sampler)]
        if "per_draw" in args.kind and name in PER_DRAW:
            jobs.append(("per_draw", name, []))
    data = ["--data", str(args.data)] if args.data is not None else []
    for kind, name, options in track(jobs, "Measuring"):
        if args.resume and " ".join(options) in results["cases"].get(name, {}).get(kind, {}):
            continue
        module = f"experiments.benchmarks.{kind}"
        figures = measured(module, [name, *options, *data], args.limit, cold=kind == "sampling")
        case = results["cases"].setdefault(name, {"gradient": {}, "sampling": {}})
        case.setdefault(kind, {})[" ".join(options)] = figures
        args.out.write_text(json.dumps(results, indent=1) + "\n")
        args.out.with_suffix(".md").write_text(markdown(results))


if __name__ == "__main__":
    main()
