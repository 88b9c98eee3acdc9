"""The models of Lai, Domke and Sheldon (NeurIPS 2024), over a folder with their data."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from experiments.benchmarks.cases import Case
from pymc_marginal_lmm.examples import MODELS, load

__all__ = ["paper_cases"]


def paper_cases(folder: Path) -> list[Case]:
    """Return the paper's models, but for InstEval: the demo's example of it is a case already.

    Raises
    ------
    MissingData
        A data set is not there; the message says which, and where to get it.
    """

    def case(
        name: str, *effects: str, one: tuple[str, ...] = (), rest: tuple[str, ...] = ()
    ) -> Case:
        return Case(
            name, partial(MODELS[name], load(name, folder)), effects, one or effects[:1], rest
        )

    return [
        case("dutch", "u", "w"),
        case("english", "u", "w"),
        case("mandarin", "u", "w"),
        case("mandarin2", "u", "w"),
        case("dillonE1", "u", "w"),
        case("gg05", "u", "w", "v"),
        case("stroop", "u", "s", rest=("s",)),
        case("pupil", "u"),
        case("fibrosis", "a", "b", one=("a", "b")),
        case("grouseticks", "brood", "location"),
        case("eeg", "u", "w"),
        case("electric", "a"),
    ]
