"""References that know nothing of the package's algebra, and small tools."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
from numpy.testing import assert_allclose
from pymc.blocking import DictToArrayBijection
from pytensor.compile.mode import Mode
from pytensor.graph.basic import Variable
from pytensor.graph.replace import graph_replace, vectorize_graph
from pytensor.graph.traversal import ancestors
from pytensor.tensor.elemwise import CAReduce
from pytensor.tensor.random.op import RandomVariable

import pymc_marginal_lmm as mlmm
from pymc_marginal_lmm.analysis.ordering import longest_chain
from pymc_marginal_lmm.model.conditional import ConditionalRV
from pymc_marginal_lmm.model.marginal_rv import inline
from pymc_marginal_lmm.model.marginalize import Names
from pymc_marginal_lmm.structure import BlockStructure, GroupingFactor, RandomEffects
from pymc_marginal_lmm.values import narrowed
from tests.models import CanonicalModel

__all__ = [
    "BACKENDS",
    "INTERPRETER",
    "DenseReference",
    "dense_reference",
    "density",
    "interpretable",
    "long_chain",
    "models_of",
    "posterior_of_effects",
    "random_point",
    "start_of",
    "unfolded",
]

BACKENDS = ["FAST_COMPILE", "NUMBA", "JAX"]
"""PyTensor's Python linker (the Ops' ``perform``), its default backend, and JAX."""

INTERPRETER = Mode(linker="py", optimizer=None)
"""For graphs that cost less to evaluate a few times than to rewrite."""

AT_ONCE = 256
"""Draws made at once."""

Point = Mapping[str, np.ndarray]


def unfolded(model: pm.Model, rvs: Names | None = None) -> pm.Model:
    """Marginalize, and keep the value variables of the plain model.

    For tests that give both models the same point, also of models in which Normal variables stay
    sampled on purpose.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Normal variables stay sampled", UserWarning)
        return mlmm.marginalize(model, rvs, fold_scales=False)


def long_chain(
    factors: Sequence[GroupingFactor], coupled: Collection[int], effects: Sequence[RandomEffects]
) -> BlockStructure:
    """Stand in for ``block_structure``: small models are then eliminated as large ones are."""
    return longest_chain(factors, coupled)


class Models(NamedTuple):
    """A canonical model as written, marginalized, and with its effects given back."""

    plain: pm.Model
    marginal: pm.Model
    full: pm.Model


@cache
def models_of(canonical: CanonicalModel) -> Models:
    """Build a canonical model and what the package makes of it, once per process."""
    plain = canonical.build()
    marginal = unfolded(plain)
    return Models(plain, marginal, mlmm.conditional(marginal))


def start_of(model: pm.Model) -> dict[str, np.ndarray]:
    """Return the initial point, which PyMC compiles anew for each call.

    It is kept where nothing that a test may set, a shape for instance, can change it.
    """
    return dict((_start_of.__wrapped__ if model.data_vars else _start_of)(model))


@lru_cache(maxsize=100)
def _start_of(model: pm.Model) -> dict[str, np.ndarray]:
    return model.initial_point(random_seed=0)


def random_point(model: pm.Model, seed: int, spread: float = 0.7) -> dict[str, np.ndarray]:
    """Return random values for all value variables of a model, transformed ones included."""
    rng = np.random.default_rng(seed)
    return {
        name: np.asarray(rng.normal(0, spread, size=np.shape(value)), dtype=value.dtype)
        for name, value in start_of(model).items()
    }


@lru_cache(maxsize=100)
def density(model: pm.Model) -> Callable[[Point], np.ndarray]:
    """Compile a log density for few evaluations inside its support, once per process."""
    return _interpreted(model, model.logp())


def _interpreted(model: pm.Model, output: Variable) -> Callable[[Point], np.ndarray]:
    (output,) = interpretable([output])
    return model.compile_fn(output, inputs=model.value_vars, mode=INTERPRETER, point_fn=True)


def interpretable(outputs: list[Variable]) -> list[Variable]:
    """Return graphs that need no rewrite to be evaluated.

    PyMC's density of a CAR sums a scalar along an axis.
    """
    sums = {
        v: v.owner.inputs[0]
        for v in ancestors(outputs)
        if v.owner and isinstance(v.owner.op, CAReduce) and v.owner.inputs[0].type.ndim == 0
    }
    return graph_replace(outputs, sums, strict=False) if sums else outputs


class DenseReference(NamedTuple):
    """Marginal log density, and posterior mean and covariance of the effects."""

    log_density: float
    mean: dict[str, np.ndarray]
    covariance: np.ndarray


def dense_reference(plain: pm.Model, effects: tuple[str, ...], point: Point) -> DenseReference:
    r"""Integrate effects out of a model's joint log density, using PyMC alone.

    ``J(v) = log p(y, v, θ)`` is quadratic in the effects. With ``H = −∇²J`` (dense, by probing
    the gradient with unit vectors) and ``v̂`` its maximum::

        log ∫ exp J(v) dv = J(v̂) + ½ q log 2π − ½ log|H|          v | y ~ Normal(v̂, H⁻¹)
    """
    names = [plain.rvs_to_values[plain[name]].name for name in effects]
    logp, dlogp = density(plain), _gradient(plain, effects)
    start = {name: np.zeros_like(start_of(plain)[name]) for name in names}
    flat = DictToArrayBijection.map(start)

    def at(v: np.ndarray) -> dict:
        unflat = DictToArrayBijection.rmap(type(flat)(v, flat.point_map_info))
        return {**point, **unflat}

    g0 = dlogp(at(flat.data))
    H = -np.array([dlogp(at(e)) - g0 for e in np.eye(len(g0))])
    H = (H + H.T) / 2
    v = np.linalg.solve(H, g0)
    v += np.linalg.solve(H, dlogp(at(v)))
    value = logp(at(v)) + 0.5 * len(v) * np.log(2 * np.pi) - 0.5 * np.linalg.slogdet(H)[1]
    mean = {name: at(v)[vname] for name, vname in zip(effects, names, strict=True)}
    return DenseReference(float(value), mean, np.linalg.inv(H))


@lru_cache(maxsize=2)
def _gradient(plain: pm.Model, effects: tuple[str, ...]) -> Callable:
    """Compile a gradient; a test asks for several points in a row."""
    return _interpreted(plain, plain.dlogp([plain[name] for name in effects]))


def posterior_of_effects(
    marginal_model: pm.Model, point: Point, leading: int | None = None
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return mean and covariance of the draws that ``recover`` makes, without sampling.

    A draw is ``mean + B ε`` with standard normals ``ε``. The graph that makes it is evaluated at
    ``ε = 0`` and, as ``recover`` does it, for many draws at once, at unit vectors: ``B`` and
    ``B Bᵀ`` are exact.

    Parameters
    ----------
    marginal_model : pymc.Model
        What ``marginalize`` returned.
    point : mapping
        A value for every value variable of ``marginal_model``.
    leading : int, optional
        Cover only the first ``leading`` elements of each effect, counted in C order, by the
        covariance. The mean is always complete. By default all elements.

    Returns
    -------
    dict of str to (array, array)
        Per integrated variable, by its name: the mean, of the variable's shape, and the
        covariance matrix of its elements in C order, of shape ``(q, q)`` or
        ``(leading, leading)``, marginal over all other integrated variables.
    """
    means, rows = _draw_map(marginal_model, point, leading)
    return {name: (mean, rows[name] @ rows[name].T) for name, mean in means.items()}


def joint_covariance(
    marginal_model: pm.Model, point: Point
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return means by variable and the covariance of all effects, in their order."""
    means, rows = _draw_map(marginal_model, point, None)
    B = np.concatenate(list(rows.values()))
    return means, B @ B.T


def assert_same_posterior(
    marginal: pm.Model,
    plain: pm.Model,
    effects: tuple[str, ...],
    point: Point,
    reference: DenseReference,
) -> None:
    """Compare means and covariance of all effects, whatever order the marginal model has."""
    means, covariance = joint_covariance(marginal, point)
    order: list[int] = []
    sizes = [int(np.prod(start_of(plain)[effect].shape)) for effect in effects]
    for effect in means:
        k = effects.index(effect)
        order += list(np.arange(sizes[k]) + sum(sizes[:k]))
        assert_allclose(means[effect], reference.mean[effect], rtol=1e-8, atol=1e-8)
    assert_allclose(covariance, reference.covariance[np.ix_(order, order)], rtol=1e-7, atol=1e-9)


def _units(sizes: Sequence[int], at_once: int) -> Iterator[list[np.ndarray]]:
    """Yield unit vectors, so many at once, split into parts of these sizes."""
    ends, total = np.cumsum(sizes), sum(sizes)
    for first in range(0, total, at_once):
        some = np.eye(min(at_once, total - first), total, first)
        yield np.split(some, ends[:-1], axis=1)


def _draw_map(
    marginal_model: pm.Model, point: Point, leading: int | None
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    full = mlmm.conditional(marginal_model)
    nodes = {rv.owner: None for rv in full.free_RVs if isinstance(rv.owner.op, ConditionalRV)}
    names, graphs = [], []
    for node in nodes:
        outputs = inline(node.op, node.inputs)
        names += [effect.name for effect in node.op.marginal.structure.effects]
        graphs += outputs[: node.op.marginal.n_effects]
    graphs = full.replace_rvs_by_values(graphs)
    normals = [
        v
        for v in ancestors(graphs)
        if v.owner and isinstance(v.owner.op, RandomVariable) and v is v.owner.outputs[1]
    ]
    values = [v for v in full.value_vars if v.name in point]
    several = [pt.tensor(shape=(None, *v.type.shape), dtype=v.type.dtype) for v in normals]
    many = vectorize_graph(graphs, dict(zip(normals, several, strict=True)))
    inputs = [*values, *several]
    many = narrowed(many)
    draw = pytensor.function(inputs, many, mode=INTERPRETER, on_unused_input="ignore")
    at = [point[v.name] for v in values]
    sizes = [int(np.prod(v.type.shape)) for v in normals]
    means = [
        draws[0] for draws in draw(*at, *(np.zeros((1, *v.type.shape), v.dtype) for v in normals))
    ]
    counts = [mean.size if leading is None else min(leading, mean.size) for mean in means]
    columns: list[list[np.ndarray]] = [[] for _ in means]
    for unit in _units(sizes, AT_ONCE):
        noise = [
            part.reshape(-1, *v.type.shape).astype(v.dtype)
            for part, v in zip(unit, normals, strict=True)
        ]
        for column, count, mean, drawn in zip(
            columns, counts, means, draw(*at, *noise), strict=True
        ):
            column.append((drawn - mean).reshape(len(drawn), -1)[:, :count])
    rows = {name: np.concatenate(c).T for name, c in zip(names, columns, strict=True)}
    return dict(zip(names, means, strict=True)), rows
