"""The variants of a model that the paper compares."""

from __future__ import annotations

import re
from functools import partial

import pymc as pm

from pymc_marginal_lmm import marginalize, noncenter
from pymc_marginal_lmm.examples import MODELS, insteval

__all__ = ["BUILDERS", "CLASSES", "FIT", "data_of", "transformed"]

FIT = "fit"
"""The strategy of :func:`~pymc_marginal_lmm.fit`, which has a sampler of its own."""

BUILDERS = MODELS | {"insteval_own": partial(insteval, own_scales=True)}
"""From the name of a model to the function that builds it from its data."""

CLASSES = {
    **dict.fromkeys(["dutch", "english", "eeg", "dillonE1", "mandarin"], (("u",), ("w",))),
    "mandarin2": (("u",), ("w",)),
    "gg05": (("u",), ("w",), ("v",)),
    "stroop": (("u",), ("s",)),
    "pupil": (("u",),),
    "grouseticks": (("brood",), ("location",)),
    "fibrosis": (("a", "b"),),
    "electric": (("a",),),
    **dict.fromkeys(["insteval", "insteval_own"], (("student",), ("lecturer",), ("department",))),
}
"""The classes of effects of each model, in the paper's order, with their variables."""


def data_of(model: str) -> str:
    """Return the name under which the data of a model are loaded."""
    return model.removesuffix("_own")


def _steps(strategy: str, n_classes: int) -> list[tuple[str, int]]:
    steps = [(letter, int(number)) for letter, number in re.findall(r"([MR])(\d)", strategy)]
    numbers = [number for _, number in steps]
    written = "".join(f"{letter}{number}" for letter, number in steps)
    known = written == strategy and len(set(numbers)) == len(numbers)
    if not steps or not known or not set(numbers) <= set(range(1, n_classes + 1)):
        raise ValueError(
            f"'{strategy}' is not a strategy for {n_classes} classes: it is 'O', 'all', 'default', "
            "'fit', or M and R with numbers of classes, as in 'M1', 'R1R2' and 'M1R2'."
        )
    return steps


def transformed(model: pm.Model, name: str, strategy: str) -> pm.Model:
    """Return a variant of a model.

    Parameters
    ----------
    model : pymc.Model
        As it is written.
    name : str
        Which one it is: a key of :data:`CLASSES`.
    strategy : str
        ``"O"``: as it is. ``"M1"``, ``"M2"``, ...: a class of effects integrated out. ``"R1"``,
        ...: a class non-centred. ``"M1R2"``, ``"R1R2"``: both in one. ``"all"``: all classes
        integrated out. ``"default"``: all that the package can integrate out, which is what
        :func:`~pymc_marginal_lmm.marginalize` does by itself: the coefficients too. ``"fit"``: as
        it is, since :func:`~pymc_marginal_lmm.fit` integrates out what it can.

    Raises
    ------
    ValueError
        There is no such strategy for this model.
    NotMarginalizable
        A class cannot be integrated out.
    """
    classes = CLASSES[name]
    match strategy:
        case "O" | "fit":
            return model
        case "default":
            return marginalize(model)
        case "all":
            return marginalize(model, [effect for members in classes for effect in members])
    steps = _steps(strategy, len(classes))
    integrated = [e for letter, number in steps if letter == "M" for e in classes[number - 1]]
    offsets = [e for letter, number in steps if letter == "R" for e in classes[number - 1]]
    if integrated:
        model = marginalize(model, integrated)
    return noncenter(model, offsets) if offsets else model
