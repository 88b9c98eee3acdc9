"""Draws as if they had been sampled."""

from __future__ import annotations

import numpy as np
from arviz_base import dict_to_dataset
from xarray import DataTree

__all__ = ["SIZE", "tree"]

SIZE = (2, 50)
"""Chains and draws."""


def tree(posterior: dict, divergent: int = 0) -> DataTree:
    diverging = np.zeros(SIZE, dtype=bool)
    diverging.flat[:divergent] = True
    stats = {"diverging": diverging, "n_steps": np.full(SIZE, 3)}
    groups = {"posterior": posterior, "sample_stats": stats}
    return DataTree.from_dict({name: dict_to_dataset(group) for name, group in groups.items()})
