"""Where a measurement runs: in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from typing import Any

__all__ = ["measured"]


def measured(module: str, arguments: list[str], limit: float, *, cold: bool) -> dict[str, Any]:
    """Run a measurement in its own process, and return what it prints.

    Parameters
    ----------
    module : str
        What ``python -m`` runs. Its last line of output is JSON.
    arguments : list of str
        For its command line.
    limit : float
        Seconds it may take.
    cold : bool
        Nothing that was compiled for a model before is there, PyTensor's cache is empty. Numba's
        cache of the package's own kernels is kept, as it is on the machine of a user.

    Returns
    -------
    dict
        What was measured, or ``{"failed": reason}``.
    """
    with tempfile.TemporaryDirectory() as folder:
        environment = dict(os.environ)
        if cold:
            flags = os.environ.get("PYTENSOR_FLAGS"), f"base_compiledir={folder}"
            environment["PYTENSOR_FLAGS"] = ",".join(filter(None, flags))
        try:
            done = subprocess.run(
                [sys.executable, "-m", module, *arguments],
                capture_output=True,
                text=True,
                timeout=limit,
                env=environment,
            )
        except subprocess.TimeoutExpired:
            return {"failed": f"more than {limit:.0f} s"}
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["no message"])[-1]}
    return json.loads(done.stdout.strip().splitlines()[-1])
