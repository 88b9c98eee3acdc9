"""Rows in files, from Parquet to a posterior: seconds and peak memory.

    python -m experiments.benchmarks.rows [--rows 1000000 10000000 100000000] [--levels 10000 100]

Two crossed factors and a slope. Files are made in chunks, in a process of its own, and kept in
``--folder`` if that is named. Each size has a process of its own; prints one JSON line for each.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pymc as pm

import pymc_marginal_lmm as mlmm
from experiments.benchmarks.large import peak_gigabytes

CHUNK = 5_000_000


def make(path: Path, n: int, levels: tuple[int, int]) -> None:
    """Write ``y = 1 + 0.5 x + u[g] + v[h] + e`` to a file."""
    rng = np.random.default_rng(0)
    effects = [rng.normal(size=m) for m in levels]
    writer = None
    for start in range(0, n, CHUNK):
        size = min(CHUNK, n - start)
        g, h = (rng.integers(m, size=size, dtype="int32") for m in levels)
        x = rng.normal(size=size)
        y = 1 + 0.5 * x + effects[0][g] + effects[1][h] + rng.normal(size=size)
        chunk = pa.table({"g": g, "h": h, "x": x, "y": y})
        writer = writer or pq.ParquetWriter(path, chunk.schema)
        writer.write_table(chunk)
    assert writer is not None
    writer.close()


def model_of(data: mlmm.Compressed, levels: tuple[int, int]) -> pm.Model:
    rows = data.rows
    one, x = rows["intercept"].to_numpy(), rows["x"].to_numpy()
    with pm.Model() as model:
        alpha, beta = pm.Normal("alpha", 0, 5), pm.Normal("beta", 0, 5)
        tau, sigma = pm.HalfNormal("tau", 1, shape=2), pm.HalfNormal("sigma", 1)
        u, v = (pm.Normal(k, 0, tau[i], shape=levels[i]) for i, k in enumerate("uv"))
        mu = (alpha + u[rows["g"].to_numpy()] + v[rows["h"].to_numpy()]) * one + beta * x
        pm.Normal("y", mu, sigma, observed=rows["y"].to_numpy())
        mlmm.within_cells("y_within", data, sigma)
    return model


def measure(path: Path, levels: tuple[int, int]) -> dict:
    connection = ibis.duckdb.connect(memory_limit="2GB")
    clock = time.perf_counter()
    data = mlmm.compress(connection.read_parquet(path), "y", ["g", "h"], "x")
    summed = time.perf_counter() - clock
    after = peak_gigabytes()
    connection.disconnect()
    clock = time.perf_counter()
    model = model_of(data, levels)
    idata = mlmm.fit(model, random_seed=1, progressbar=False)
    found = idata["posterior"].attrs
    return {
        "rows": data.n_rows,
        "pseudo_rows": len(data.rows),
        "file_GB": path.stat().st_size / 1e9,
        "compress_s": summed,
        "compress_peak_GB": after,
        "fit_s": time.perf_counter() - clock,
        "peak_GB": peak_gigabytes(),
        "pareto_khat": found["pareto_khat"],
        "effective_draws": found["effective_draws"],
        "beta": float(idata["posterior"]["beta"].mean()),
        **{name: version(name) for name in ("duckdb", "ibis-framework", "pymc", "pytensor")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    sizes = (1_000_000, 10_000_000, 100_000_000)
    parser.add_argument("--rows", type=int, nargs="+", default=sizes)
    parser.add_argument("--levels", type=int, nargs=2, default=(10_000, 100))
    parser.add_argument("--folder", type=Path, help="where files are, or are put")
    parser.add_argument("--step", choices=["make", "measure"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    levels = tuple(args.levels)
    with tempfile.TemporaryDirectory() as own:
        folder = args.folder or Path(own)
        for n in args.rows:
            path = folder / f"{n}.parquet"
            if args.step == "make":
                make(path, n, levels)
            elif args.step == "measure":
                print(json.dumps(measure(path, levels)), flush=True)
            else:
                for step in ("make", "measure"):
                    if step == "make" and path.exists():
                        continue
                    command = [sys.executable, "-m", "experiments.benchmarks.rows", "--step", step]
                    command += ["--rows", str(n), "--folder", str(folder)]
                    command += ["--levels", *map(str, levels)]
                    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
