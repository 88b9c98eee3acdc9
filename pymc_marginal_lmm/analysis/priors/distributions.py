"""Distributions by name, and whether their densities integrate to one."""

from __future__ import annotations

from pymc.distributions.custom import CustomDistRV
from pymc.distributions.multivariate import CARRV, ICARRV
from pymc.distributions.transforms import _default_transform
from pymc.logprob.transforms import Transform
from pytensor.graph.basic import Variable
from pytensor.scalar.basic import Clip
from pytensor.tensor.elemwise import DimShuffle, Elemwise

__all__ = ["distribution_name", "integrates_to_one"]


def distribution_name(rv: Variable) -> str:
    """Name the distribution of a random variable as PyMC users know it."""
    op = rv.owner.op if rv.owner else None
    if isinstance(op, Elemwise) and isinstance(op.scalar_op, Clip):
        return "Censored"  # as pymc.dims writes it
    if isinstance(op, DimShuffle) and rv.owner.inputs[0].owner:
        return distribution_name(rv.owner.inputs[0])  # pymc.dims, with dims in another order
    printed, *_ = getattr(op, "_print_name", None) or ("Unknown",)
    printed = type(op or rv).__name__ if printed == "Unknown" else printed
    name = printed.removesuffix(f"_{rv.name}")  # CustomDist_y
    name = {"MultivariateNormal": "MvNormal", "_lkjcholeskycov": "LKJCholeskyCov"}.get(name, name)
    return name.removeprefix("_").removesuffix("RV").removesuffix("RandomVariable")


def integrates_to_one(rv: Variable, transform: Transform | None) -> bool:
    """Say whether the density of a variable surely does, whatever its parameters.

    Densities that users wrote need not, and PyMC's of CAR and ICAR do not. A transform may leave
    out part of the support, and the density integrates to the probability of the rest; only the
    transform that a distribution has by default is known not to.
    """
    if isinstance(rv.owner.op, CustomDistRV | CARRV | ICARRV):
        return False
    if transform is None:
        return True
    default = _default_transform(rv.owner.op, rv)
    # Bounds are functions of the parameters, made anew for each variable.
    bounds = [getattr(getattr(t, "args_fn", None), "__code__", None) for t in (transform, default)]
    return type(transform) is type(default) and bounds[0] == bounds[1]
