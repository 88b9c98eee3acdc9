"""One measurement, and the file that holds what it gave."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from experiments.machine import machine

__all__ = ["Cell", "Cost", "finished", "read_all", "write"]


@dataclass(frozen=True)
class Cell:
    """A model that is sampled.

    Parameters
    ----------
    model, strategy : str
        See :mod:`experiments.paper.strategies`.
    sampler : {"numpyro", "nutpie", "importance"}
        The first two are NUTS, the last one is that of the strategy ``"fit"``.
    seed : int
        Of sampling and recovery.
    chains, tune, draws : int
        The budget: draws and steps to tune are those of one chain.
    """

    model: str
    strategy: str
    sampler: str
    seed: int
    chains: int
    tune: int
    draws: int

    kind: ClassVar[str] = "fit"

    @property
    def name(self) -> str:
        """Of its file; tells it from all other cells."""
        budget = f"{self.chains}x{self.tune}+{self.draws}"
        return f"{self.model}-{self.strategy}-{self.sampler}-{budget}-seed{self.seed}"


@dataclass(frozen=True)
class Cost:
    """A synthetic model that is evaluated: one class of effects.

    Parameters
    ----------
    form : {"plain", "marginal", "dense"}
        As it is written, with the effects integrated out, and the same by hand with a dense
        covariance of the responses.
    axis : {"n", "M", "d"}
        Which of the sizes varies in the series that it belongs to.
    n, levels, effects : int
        Rows, levels, and effects per level.
    """

    form: str
    axis: str
    n: int
    levels: int
    effects: int

    kind: ClassVar[str] = "costs"

    @property
    def name(self) -> str:
        """Of its file; tells it from all other cells."""
        return f"cost-{self.form}-{self.axis}-n{self.n}-M{self.levels}-d{self.effects}"


def write(cell: Cell | Cost, result: dict[str, Any], folder: Path) -> None:
    """Write the file of a cell, as a whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"kind": cell.kind, "cell": asdict(cell), "machine": machine(), **result}
    unfinished = folder / f"{cell.name}.part"
    unfinished.write_text(json.dumps(content) + "\n")
    unfinished.replace(folder / f"{cell.name}.json")


def finished(cell: Cell | Cost, folder: Path, *, retry: bool = False) -> bool:
    """Say whether a cell need not be run: its file is there.

    Parameters
    ----------
    cell : Cell or Cost
    folder : Path
        With the files.
    retry : bool
        A cell that failed, or ran out of time, counts as not run.
    """
    path = folder / f"{cell.name}.json"
    return path.is_file() and not (retry and "failed" in json.loads(path.read_text()))


def read_all(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the content of all files, in the order of their names."""
    for path in sorted(folder.glob("*.json")):
        yield json.loads(path.read_text())
