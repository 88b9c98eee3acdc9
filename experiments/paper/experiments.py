"""Which cells belong to a table or a figure of the paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from experiments.paper.cells import Cell, Cost
from experiments.paper.strategies import FIT
from experiments.sampling import DIRECT, Budget

__all__ = ["COGNITIVE", "COSTS", "EXPERIMENTS", "Experiment", "cells"]

COGNITIVE = (
    "dutch",
    "english",
    "eeg",
    "dillonE1",
    "mandarin",
    "mandarin2",
    "gg05",
    "stroop",
    "pupil",
)
"""The models of data from the cognitive sciences."""


@dataclass(frozen=True)
class Experiment:
    """A table or a figure.

    Parameters
    ----------
    title : str
        What it shows.
    strategies : dict of str to tuple of str
        By model; see :mod:`experiments.paper.strategies`.
    seeds : tuple of int
    budget : Budget
    """

    title: str
    strategies: dict[str, tuple[str, ...]]
    seeds: tuple[int, ...]
    budget: Budget


EXPERIMENTS = {
    "table1": Experiment(
        "cost of density, gradient, initialisation and recovery by size", {}, (), Budget(0, 0, 0)
    ),
    "table2": Experiment(
        "InstEval: time and effective sample size by strategy",
        {
            "insteval": ("O", "M1", "M2", "M3", "all", "default", FIT),
            "insteval_own": ("O", "all", "default", FIT),
        },
        (1,),
        Budget(2, 500, 500),
    ),
    "figure3": Experiment(
        "grouseticks: funnels and divergences by strategy",
        {"grouseticks": ("O", "R1", "R2", "R1R2", "M1", "M1R2", "M2", "M2R1", "all", "default")},
        (1,),
        Budget(4, 1000, 1000),
    ),
    "figure4": Experiment(
        "nine models of the cognitive sciences: speed and effective sample size",
        {
            **dict.fromkeys(COGNITIVE, ("O", "M1", "M2", "all", "default", FIT)),
            "stroop": ("O", "M1", "M1R2", "default"),
            "pupil": ("O", "M1", "default", FIT),
        },
        (1, 2, 3, 4, 5),
        Budget(4, 500, 1000),
    ),
    "others": Experiment(
        "fibrosis and electric: the paper's other models",
        dict.fromkeys(["fibrosis", "electric"], ("O", "R1", "M1", "default", FIT)),
        (1,),
        Budget(4, 1000, 1000),
    ),
}
"""By the name on the command line."""

COSTS = {
    "n": {
        "plain": ((2000, 200, 4), (8000, 200, 4), (32000, 200, 4), (128000, 200, 4)),
        "marginal": ((2000, 200, 4), (8000, 200, 4), (32000, 200, 4), (128000, 200, 4)),
        "dense": ((200, 50, 4), (400, 50, 4), (800, 50, 4), (1600, 50, 4)),
    },
    "M": {
        "plain": ((64000, 250, 4), (64000, 1000, 4), (64000, 4000, 4), (64000, 16000, 4)),
        "marginal": ((64000, 250, 4), (64000, 1000, 4), (64000, 4000, 4), (64000, 16000, 4)),
        "dense": ((800, 25, 4), (800, 50, 4), (800, 100, 4), (800, 200, 4)),
    },
    "d": {
        "plain": ((16000, 200, 4), (16000, 200, 8), (16000, 200, 16), (16000, 200, 32)),
        "marginal": ((16000, 200, 4), (16000, 200, 8), (16000, 200, 16), (16000, 200, 32)),
        "dense": ((800, 50, 2), (800, 50, 4), (800, 50, 8), (800, 50, 16)),
    },
}
"""Rows, levels and effects per level, by what varies and the form of the model."""


def cells(
    names: Sequence[str],
    *,
    models: Sequence[str] | None = None,
    strategies: Sequence[str] | None = None,
    samplers: Sequence[str] = ("numpyro",),
    seeds: Sequence[int] | None = None,
    chains: int | None = None,
    tune: int | None = None,
    draws: int | None = None,
) -> list[Cell | Cost]:
    """Return the cells of experiments.

    Parameters
    ----------
    names : sequence of str
        Keys of :data:`EXPERIMENTS`.
    models, strategies : sequence of str, optional
        Only these; Table 1, whose models have no names, is left out then.
    samplers : sequence of str
        Each gets a cell; of ``fit`` there is one, without steps to tune.
    seeds, chains, tune, draws : optional
        Instead of the experiment's own.

    Returns
    -------
    list of Cell and Cost
        Each once, in the order in which they are run: seed after seed, so that a run that is
        stopped leaves all strategies with about as many.
    """
    found: list[Cell | Cost] = []
    for name in names:
        if name == "table1" and models is None and strategies is None:
            found += [
                Cost(form, axis, *sizes)
                for axis, forms in COSTS.items()
                for form, series in forms.items()
                for sizes in series
            ]
        experiment = EXPERIMENTS[name]
        budget = Budget(
            chains or experiment.budget.chains,
            experiment.budget.tune if tune is None else tune,
            draws or experiment.budget.draws,
        )
        found += [
            Cell(model, strategy, sampler, seed, budget.chains, tuned, budget.draws)
            for seed in (experiment.seeds if seeds is None else seeds)
            for model, own in experiment.strategies.items()
            if models is None or model in models
            for strategy in own
            if strategies is None or strategy in strategies
            for sampler, tuned in (
                [(DIRECT, 0)] if strategy == FIT else [(name, budget.tune) for name in samplers]
            )
        ]
    return list(dict.fromkeys(found))
