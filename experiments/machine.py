"""What times depend on."""

from __future__ import annotations

import os
from datetime import date
from importlib.metadata import version
from typing import Any

__all__ = ["machine"]

PACKAGES = ("pymc", "pytensor", "jax", "jaxlib", "numba", "numpyro", "nutpie", "numpy")


def machine() -> dict[str, Any]:
    """Return cores, threads, date and versions."""
    return {
        "cores": os.cpu_count(),
        "OPENBLAS_NUM_THREADS": os.environ.get("OPENBLAS_NUM_THREADS", "unset"),
        "date": date.today().isoformat(),
        "versions": {name: version(name) for name in PACKAGES},
    }
