"""Every way out that a refusal recommends is taken, literally, and leads out."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pymc as pm
import pymc.dims as pmd
import pytensor.tensor as pt
import pytensor.xtensor as px
import pytest
from pymc.distributions import transforms
from pytensor.tensor.extra_ops import fill_diagonal_offset

import pymc_marginal_lmm as mlmm
from pymc_marginal_lmm.analysis.remedies import LIKELIHOOD_HINTS, Remedy, likelihood_remedy

rng = np.random.default_rng(0)
n = 20
g, x = np.repeat(np.arange(4), 5), rng.normal(size=n)
y = rng.normal(size=n)
Y = y.reshape(5, 4)
line = np.diag(np.ones(3), 1) + np.diag(np.ones(3), -1)  # of four areas
bad = np.where(np.arange(n) == 3, np.nan, x)
Tensor = pt.TensorVariable


def u(levels: int = 4, **kwargs: object) -> Tensor:
    return pm.Normal("u", 0, 1, shape=levels, **kwargs)


def likelihood(mean: Tensor, sigma: object = 1.0) -> Tensor:
    return pm.Normal("y", mean, sigma, observed=y)


def with_potential(penalty: bool) -> None:
    likelihood((effects := u())[g])
    if penalty:
        pm.Potential("penalty", -(effects.sum() ** 2))


def with_child(scale: float) -> None:
    likelihood(pm.Normal("w", u(), scale, shape=4)[g])


def by_sampled_index(known: bool) -> None:
    k = g if known else pm.Categorical("k", np.full(4, 0.25), shape=n)
    likelihood(u()[k])


def unused(used: bool) -> None:
    effects = u()
    likelihood(pm.Normal("a") + (effects[g] if used else 0.0))


def product() -> None:
    likelihood(u()[g] * pm.Normal("w", 1, 1))


def nonlinear(place: str) -> None:
    a, effects = pm.Normal("a"), u()
    likelihood(
        a + (pt.exp(effects)[g] if place == "mean" else 0.0),
        pt.exp(effects)[g] if place == "sigma" else 1.0,
    )


def transformed(ordered: bool) -> None:
    kwargs = {"default_transform": transforms.ordered, "initval": np.arange(4.0)}
    likelihood(u(**(kwargs if ordered else {}))[g])


def without_diagonal(matrix: bool) -> None:
    effects = u((4, 4))
    if matrix:
        next_one = np.eye(4, k=1).ravel() != 0
        effects = pt.reshape(np.diag(~next_one * 1.0) @ effects.ravel(), (4, 4))
    else:
        effects = fill_diagonal_offset(effects, 0.0, 1)
    likelihood(effects[g, np.arange(n) % 4])


def walk(random_walk: bool) -> None:
    if random_walk:
        sums = pm.GaussianRandomWalk("u", 0, 1, init_dist=pm.Normal.dist(0, 1), shape=4000)
    else:
        sums = pt.cumsum(u(4000))
    pm.Normal("y", sums, 1.0, observed=np.repeat(y, 200))


def flat(columns: int, prior: bool = False) -> None:
    X = np.stack([x, -2 * x])[:columns]
    coefficients = pm.Normal("u", shape=columns) if prior else pm.Flat("u", shape=columns)
    likelihood(pm.Normal("a") + pt.dot(coefficients, X))


def powers(covariate: np.ndarray, orthogonal: bool = False, prior: bool = False) -> None:
    X = np.stack([covariate**k for k in range(4)], axis=1)
    X = np.linalg.qr(X)[0] if orthogonal else X
    likelihood(X @ (pm.Normal("u", shape=4) if prior else pm.Flat("u", shape=4)))


def flat_levels(levels: int, prior: bool = False) -> None:
    likelihood((pm.Normal("u", shape=levels) if prior else pm.Flat("u", shape=levels))[g])


def outcomes(covariance: np.ndarray, rows: np.ndarray = Y) -> None:
    with warnings.catch_warnings(action="ignore"):  # that values are imputed
        pm.MvNormal("y", u(), covariance, observed=rows)


def holes(whole_rows: bool) -> None:
    rows = Y.copy()
    rows[1, slice(None) if whole_rows else 2] = np.nan
    outcomes(np.eye(4), rows)


def by_dims(*dims: str) -> None:
    v = pmd.ZeroSumNormal("u", 1.0, core_dims="effect", dims=dims)
    rows = v.isel(level=px.as_xtensor(pt.as_tensor(g), dims=("row",))).isel(effect=0)
    pmd.Normal("y", rows, 1.0, observed=px.as_xtensor(pt.as_tensor(y), dims=("row",)))


def walk_from(start: Tensor) -> None:
    likelihood(pm.GaussianRandomWalk("u", 0, 1, init_dist=start, shape=4)[g])


def island(own_prior: bool) -> None:
    if own_prior:
        three = pm.CAR("u", np.zeros(3), line[:3, :3], 0.5, 1.0)
        areas = pt.concatenate([three, pm.Normal("island", shape=1)])
    else:
        areas = pm.CAR("u", np.zeros(4), line * np.outer([1, 1, 1, 0], [1, 1, 1, 0]), 0.5, 1.0)
    likelihood(areas[g])


def maps(one_each: bool) -> None:
    if one_each:
        both = pt.stack([pm.ICAR("u", line), pm.ICAR("v", line)])
    else:
        both = pm.ICAR("u", line, shape=(2, 4))
    likelihood(both[np.arange(n) % 2, g])


def archipelago(one_each: bool) -> None:
    if one_each:
        areas = pt.concatenate([pm.ICAR("u", line[:2, :2]), pm.ICAR("v", line[:2, :2])])
    else:
        areas = pm.ICAR("u", np.kron(np.eye(2), line[:2, :2]))
    likelihood(areas[g])


LEFT: dict[Remedy, tuple[Callable[[], object], list[str]]] = {
    Remedy.LINEAR: (lambda: nonlinear("mean"), ["a"]),
    Remedy.MEAN_ONLY: (lambda: nonlinear("sigma"), ["a"]),
    Remedy.ALSO: (lambda: with_child(1.0), ["u", "w"]),
    Remedy.ONE_OF_TWO: (product, ["u"]),
    Remedy.LEAVE_SAMPLED: (
        lambda: likelihood(pm.Normal("a") + pm.StudentT("w", nu=3, mu=u(), shape=4)[g]),
        ["a"],
    ),
    Remedy.LEAVE_SCALE: (
        lambda: likelihood(pm.Normal("a") + pm.Normal("w", 0, pt.exp(u()), shape=4)[g]),
        ["a", "w"],
    ),
    Remedy.NORMAL_LIKELIHOOD: (
        lambda: (likelihood(pm.Normal("a")), pm.Poisson("z", pt.exp(u()), observed=[0, 1, 2, 3])),
        ["a"],
    ),
    Remedy.FREE_NAMES: (lambda: likelihood(pm.Normal("a")), ["a"]),
    Remedy.NORMAL_PRIOR: (
        lambda: likelihood(pm.Normal("a") + pm.StudentT("u", nu=3, shape=4)[g]),
        ["a"],
    ),
}
"""A model in which ``u`` is refused, and names with which it is not."""

CHANGED: dict[Remedy, tuple[Callable[[], object], ...]] = {
    Remedy.REMOVE_POTENTIAL: (lambda: with_potential(True), lambda: with_potential(False)),
    Remedy.GIVE_DATA: (u, lambda: likelihood(u()[g])),
    Remedy.REMOVE: (lambda: unused(False), lambda: unused(True)),
    Remedy.REMOVE_TRANSFORM: (lambda: transformed(True), lambda: transformed(False)),
    Remedy.FIT_LENGTHS: (
        lambda: likelihood(pm.Normal("u", pm.Data("m", x), 1, dims="level")[g]),
        lambda: likelihood(pm.Normal("u", pm.Data("m", x)[::5], 1, dims="level")[g]),
    ),
    Remedy.FIT_ROWS: (
        lambda: pm.Normal("y", u()[g], pm.HalfNormal("s", dims="level"), observed=y, dims="row"),
        lambda: pm.Normal("y", u()[g], pm.HalfNormal("s", dims="level")[g], observed=y, dims="row"),
    ),
    Remedy.KNOWN_INDICES: (lambda: by_sampled_index(False), lambda: by_sampled_index(True)),
    Remedy.LEVELS_FROM_ZERO: (lambda: likelihood(u()[g + 1]), lambda: likelihood(u()[g])),
    Remedy.AS_MANY_LEVELS: (
        lambda: likelihood(pt.dot(pm.Data("Z", np.ones((n, 5))), pm.Normal("u", dims="level"))),
        lambda: likelihood(pt.dot(pm.Data("Z", np.ones((n, 4))), pm.Normal("u", dims="level"))),
    ),
    Remedy.CORRECT_ROWS: (lambda: likelihood(u()[g] * bad), lambda: likelihood(u()[g] * x)),
    Remedy.MATRIX: (lambda: without_diagonal(False), lambda: without_diagonal(True)),
    Remedy.RANDOM_WALK: (lambda: walk(False), lambda: walk(True)),
    Remedy.COVARIANCE_SHAPE: (lambda: outcomes(np.eye(1)), lambda: outcomes(np.eye(4))),
    Remedy.CORRECT_COVARIANCE: (
        lambda: outcomes(np.ones((4, 4))),
        lambda: outcomes(np.ones((4, 4)) + 1e-3 * np.eye(4)),
    ),
    Remedy.IDENTIFY: (lambda: flat(2), lambda: flat(2, prior=True), lambda: flat(1)),
    Remedy.CENTRE: (
        lambda: powers(2000.0 + x),
        lambda: powers(x - x.mean()),
        lambda: powers(2000.0 + x, orthogonal=True),
        lambda: powers(2000.0 + x, prior=True),
    ),
    Remedy.REMOVE_ELEMENTS: (
        lambda: flat_levels(5),
        lambda: flat_levels(5, prior=True),
        lambda: flat_levels(4),
    ),
    Remedy.CORE_DIMS_LAST: (
        lambda: by_dims("effect", "level"),
        lambda: by_dims("level", "effect"),
    ),
    Remedy.NORMAL_PART: (
        lambda: walk_from(pm.StudentT.dist(3)),
        lambda: walk_from(pm.Normal.dist()),
    ),
    Remedy.OWN_PRIOR: (lambda: island(False), lambda: island(True)),
    Remedy.ONE_PER_VECTOR: (lambda: maps(False), lambda: maps(True)),
    Remedy.ONE_PER_PART: (lambda: archipelago(False), lambda: archipelago(True)),
}
"""A model in which ``u`` is refused, and changed ones in which it is not."""


def built(build: Callable[[], object]) -> pm.Model:
    coords = {"level": range(4), "row": range(n), "effect": range(2)}
    with pm.Model(coords=coords) as model:
        build()
    return model


def refused(model: pm.Model, remedy: Remedy | str, names: list[str]) -> None:
    with pytest.raises(mlmm.NotMarginalizable) as caught:
        mlmm.marginalize(model, names)
    assert re.search(re.escape(remedy).replace(r"\{names\}", ".+"), caught.value.remedy)
    assert caught.value.variable in names


def taken(build: Callable[[], object]) -> None:
    marginal = mlmm.marginalize(built(build), ["u"])
    assert "u" not in marginal.named_vars
    assert np.isfinite(marginal.compile_logp(mode="FAST_COMPILE")(marginal.initial_point()))


REMEDY_IS_ARGUMENT = {"Refusal": 2, "NotMarginalizable": 2, "refuse": 2, "NotGaussian": 1}


def remedies_in_the_sources() -> Iterator[tuple[str, ast.expr]]:
    """The place, and the expression that gives the remedy, of every refusal."""
    for path in Path(mlmm.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            place = REMEDY_IS_ARGUMENT.get(called)
            if place is not None:
                keywords = {keyword.arg: keyword.value for keyword in node.keywords}
                positional = dict(enumerate(node.args))
                if remedy := positional.get(place, keywords.get("remedy")):
                    yield f"{path.name}:{node.lineno}", remedy


def test_every_remedy_is_tried() -> None:
    """A way out is in ``Remedy``, with a trial here, or nowhere."""
    assert {*LEFT, *CHANGED} == set(Remedy)
    assert {*HINTED} == set(LIKELIHOOD_HINTS)
    found = dict(remedies_in_the_sources())
    parts = [(place, part) for place, remedy in found.items() for part in ast.walk(remedy)]
    own_words = [
        place
        for place, part in parts
        if isinstance(part, ast.JoinedStr)
        or (isinstance(part, ast.Constant) and re.search(r"\w \w", str(part.value)))
    ]
    assert not own_words
    used = {part.attr for _, part in parts if isinstance(part, ast.Attribute)}
    indirect = {"NORMAL_LIKELIHOOD", "LINEAR", "ALSO"}  # by a function, a default, a variable
    assert {remedy.name for remedy in Remedy} - indirect <= used


@pytest.mark.parametrize("remedy", LEFT)
def test_other_names(remedy: Remedy) -> None:
    build, names = LEFT[remedy]
    model = built(build)
    refused(model, remedy, ["u", "w"] if remedy is Remedy.ONE_OF_TWO else ["u"])
    marginal = mlmm.marginalize(model, names)
    left = {rv.name for rv in model.free_RVs} - {rv.name for rv in marginal.free_RVs}
    assert left == set(names)


@pytest.mark.parametrize("remedy", CHANGED)
def test_another_model(remedy: Remedy) -> None:
    before, *changed = CHANGED[remedy]
    refused(built(before), remedy, ["u"])
    for after in changed:
        taken(after)


def with_weights(family: str) -> None:
    """The weights of lme4, as the hints about Bambi's ``weighted`` and StudentT write them."""
    weights = pm.Gamma("weights", 2.0, 2.0, shape=n)
    match family:
        case "Normal":
            likelihood(u()[g], pm.HalfNormal("s") / pt.sqrt(weights))
        case "StudentT":
            pm.StudentT("y", nu=4.0, mu=u()[g], sigma=1.0 + 0.0 * weights, observed=y)
        case "WeightedNormal":

            def logp(value: Tensor, mean: Tensor, weights: Tensor) -> Tensor:
                return weights * pm.logp(pm.Normal.dist(mean), value)

            kwargs = {"logp": logp, "class_name": "WeightedNormal"}
            pm.CustomDist("y", u()[g], weights, observed=y, **kwargs)


def custom() -> None:
    def dist(mean: Tensor, size: Tensor) -> Tensor:
        return pm.Normal.dist(mean, size=size)

    pm.CustomDist("y", u()[g], dist=dist, observed=y)


HINTED: dict[str, tuple[Callable[[], object], ...]] = {
    "StudentT": (lambda: with_weights("StudentT"), lambda: with_weights("Normal")),
    "WeightedNormal": (lambda: with_weights("WeightedNormal"), lambda: with_weights("Normal")),
    "PartialObserved": (
        lambda: holes(False),
        lambda: holes(True),
        lambda: outcomes(np.eye(4), Y[1:]),
    ),
    "CustomDist": (custom, lambda: likelihood(u()[g])),
    "Minibatch": (
        lambda: pm.Normal("y", u()[g], 1, observed=y, total_size=100),
        lambda: likelihood(u()[g]),
    ),
}
"""By the name of a distribution: a model in which ``u`` is refused, and changed ones."""


@pytest.mark.parametrize("distribution", HINTED)
def test_another_likelihood(distribution: str) -> None:
    before, *changed = HINTED[distribution]
    refused(built(before), likelihood_remedy(distribution), ["u"])
    for after in changed:
        taken(after)
