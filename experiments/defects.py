"""Does the test suite see a fault? Some are planted, one at a time, in a copy of the checkout.

``python -m experiments.defects`` runs, for each, the tests nearest to it until one fails, and the
whole fast suite where none does; what the suite lets pass is reported, and is its fault. A test
that is made quicker, or left to the slow ones, must not change this table.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "pymc_marginal_lmm"
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", "__pycache__", "_build", ".*_cache", ".hypothesis"
)


class Defect(NamedTuple):
    """A line of the package, what it becomes, and which tests are asked first."""

    kind: str
    file: str
    line: str
    planted: str
    tests: tuple[str, ...]


DENSITY = ("tests/test_canonical_models.py",)

DEFECTS = (
    Defect(
        "sign",
        "algebra/density.py",
        "value = value - pt.log(as_float(effect.precision.mean_sd))",
        "value = value + pt.log(as_float(effect.precision.mean_sd))",
        ("tests/test_banded.py",),
    ),
    Defect(
        "sign",
        "algebra/left_out.py",
        "return value + 0.5 * (n - keep.sum()) * LOG_2PI",
        "return value - 0.5 * (n - keep.sum()) * LOG_2PI",
        ("tests/test_left_out.py", "tests/test_moment_match.py"),
    ),
    Defect(
        "factor",
        "algebra/density.py",
        "return evidence - 0.5 * rest.log_det",
        "return evidence - rest.log_det",
        DENSITY,
    ),
    Defect("factor", "ops/sweep.py", "    T = T / 2\n", "", ("tests/ops/test_sweep.py",)),
    Defect(
        "factor",
        "importance/adapt.py",
        "log_density(x[inside]) + len(reflections) * np.log(2)",
        "log_density(x[inside])",
        ("tests/importance", "tests/model/test_fit.py"),
    ),
    Defect(
        "axis",
        "algebra/cliques.py",
        "return (A * x[:, None, :]).sum(axis=2)",
        "return (A * x[:, None, :]).sum(axis=1)",
        ("tests/test_correlated.py", *DENSITY),
    ),
    Defect(
        "axis",
        "algebra/descent.py",
        "weighted = (data.w * scale).mT",
        "weighted = data.w * scale",
        DENSITY,
    ),
    Defect(
        "wrong level",
        "algebra/scales.py",
        "full[pt.constant(np.maximum(share.blocks, 0).reshape(-1))]",
        "full[pt.constant(np.maximum(share.blocks, 0).reshape(-1)[::-1].copy())]",
        DENSITY,
    ),
    Defect(
        "wrong level",
        "algebra/conditional.py",
        "own[:, slots].reshape(-1, model.width(share))[there]",
        "own[:, slots].reshape(-1, model.width(share))[there][::-1]",
        ("tests/model/test_recover.py", *DENSITY),
    ),
    Defect(
        "stale cache",
        "model/compiled.py",
        "return replace(self, data=new)",
        "return self",
        ("tests/model/test_compiled.py",),
    ),
    Defect(
        "stale cache",
        "model/log_density.py",
        "    if token not in _HERE:",
        "    if not _HERE:",
        ("tests/model/test_fit.py", "tests/model/test_compiled.py"),
    ),
    Defect(
        "dropped term",
        "algebra/density.py",
        "value = value + 0.5 * pt.cast(effect.precision.log_det, config.floatX)",
        "pass",
        ("tests/test_banded.py",),
    ),
    Defect(
        "dropped term",
        "algebra/correlation.py",
        "log_weights = log_weights - _log_determinant(response, L)",
        "_log_determinant(response, L)",
        ("tests/test_correlated.py",),
    ),
    Defect(
        "dropped term",
        "model/signed_scales.py",
        "return pt.log(0.5 * at.s) - log_sech(x)\n",
        "return pt.log(0.5 * at.s)\n",
        ("tests/model/test_signed_scales.py", "tests/model/test_fold.py"),
    ),
    Defect(
        "float32",
        "algebra/weights.py",
        "pt.constant(np.asarray(array, dtype=config.floatX))",
        'pt.constant(np.asarray(array, dtype="float32").astype(config.floatX))',
        DENSITY,
    ),
    Defect(
        "float32",
        "algebra/reference.py",
        'return v0.astype(config.floatX).astype("float64")',
        "return v0",
        ("tests/test_canonical_models.py", "tests/analysis/test_offsets.py"),
    ),
    Defect(
        "twice",
        "algebra/crossproducts.py",
        "np.where((one == other) & (a != b), 2.0, 1.0)",
        "np.where((one == other) & (a != b), 1.0, 1.0)",
        ("tests/test_banded.py", *DENSITY),
    ),
    Defect(
        "wrong term",
        "model/varcorr.py",
        "of.shares[:, i] / total[:, None]",
        "of.shares[:, i] / (total - of.residual[:, i])[:, None]",
        ("tests/test_varcorr.py",),
    ),
    Defect(
        "outside the support",
        "algebra/density.py",
        "pt.switch(_any(pt.isnan, [*loadings, *_offsets(model, ys)]), np.nan, -np.inf)",
        "pt.switch(_any(pt.isnan, [*loadings, *_offsets(model, ys)]), np.nan, np.nan)",
        ("tests/test_support.py",),
    ),
    Defect(
        "distribution",
        "importance/mixture.py",
        "np.sqrt(chi2 / nu)[:, None]",
        "np.sqrt(chi2 / (nu + 1))[:, None]",
        ("tests/importance",),
    ),
)


def planted(defect: Defect) -> str:
    """Return the source of a file with a defect in it.

    Raises
    ------
    ValueError
        The line is not there, or more than once: the list is not of this version.
    """
    source = (ROOT / PACKAGE / defect.file).read_text()
    if (n := source.count(defect.line)) != 1:
        raise ValueError(f"{defect.file} has the line of a defect {n} times: {defect.line!r}")
    return source.replace(defect.line, defect.planted)


def failing(folder: Path, tests: tuple[str, ...], workers: int) -> str:
    """Run tests of a copy until one fails, and return that one."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    if workers > 1:
        command += ["-n", str(workers), "--dist", "worksteal"]
    single = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "1")
    # Kernels are named by their sources, so that those of a defect are not the user's.
    environment = os.environ | single | {"PYTHONPATH": str(folder)}
    ran = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if ran.returncode == 0:
        return ""
    found = re.findall(r"^(?:FAILED|ERROR) (\S+)", ran.stdout, re.MULTILINE)
    return found[0] if found else f"exit status {ran.returncode}"


def main() -> None:
    """Plant defects one after the other, and write what saw them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kinds", nargs="+", help="only defects of these kinds")
    parser.add_argument("--workers", type=int, default=1, help="of pytest-xdist")
    arguments = parser.parse_args()
    chosen = [d for d in DEFECTS if not arguments.kinds or d.kind in arguments.kinds]
    print("| defect | file | line | seen by | seconds |\n| --- | --- | --- | --- | ---: |")
    missed = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "copy"
        shutil.copytree(ROOT, folder, ignore=LEFT_OUT)
        for defect in chosen:
            place = folder / PACKAGE / defect.file
            before = place.read_text()
            place.write_text(planted(defect))
            clock = time.perf_counter()
            seen = failing(folder, defect.tests, arguments.workers)
            seen = seen or failing(folder, (), arguments.workers)
            place.write_text(before)
            missed += not seen
            seconds = time.perf_counter() - clock
            line = defect.line.strip().replace("|", "\\|")
            cells = (defect.kind, defect.file, f"`{line}`", seen or "**nothing**", f"{seconds:.0f}")
            print(f"| {' | '.join(cells)} |", flush=True)
    print(f"\n{len(chosen) - missed} of {len(chosen)} defects are seen.")
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
