"""Initial values, which PyMC's conversion of models to graphs refuses to carry."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pymc.model.core import Model

__all__ = ["keep_initial_values", "without_initial_values"]


@contextmanager
def without_initial_values(model: Model) -> Iterator[None]:
    """Hide a model's initial values; they are back afterwards."""
    saved = dict(model.rvs_to_initial_values)
    try:
        model.rvs_to_initial_values.update(dict.fromkeys(saved))
        yield
    finally:
        model.rvs_to_initial_values.update(saved)


def keep_initial_values(old: Model, new: Model) -> None:
    """Give variables of a new model the initial values that they had in the old one."""
    free = {rv.name for rv in new.free_RVs}
    for rv, value in old.rvs_to_initial_values.items():
        if value is not None and rv.name in free:
            new.set_initval(new[rv.name], value)
