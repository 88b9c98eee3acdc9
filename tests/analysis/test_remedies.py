"""Every way out that a refusal recommends is taken, literally, and leads out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from pymc.distributions import transforms

import pymc_marginal_lmm as mlmm
from pymc_marginal_lmm.analysis.remedies import LIKELIHOOD_HINTS, Remedy

rng = np.random.default_rng(0)
n = 20
g, x = np.repeat(np.arange(4), 5), rng.normal(size=n)
y = rng.normal(size=n)
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


LEFT: dict[Remedy, tuple[Callable[[], object], list[str]]] = {
    Remedy.LINEAR: (lambda: nonlinear("mean"), ["a"]),
    Remedy.MEAN_ONLY: (lambda: nonlinear("sigma"), ["a"]),
    Remedy.ALSO: (lambda: with_child(1.0), ["u", "w"]),
    Remedy.ONE_OF_TWO: (product, ["u"]),
    Remedy.LEAVE_SAMPLED: (
        lambda: likelihood(pm.Normal("a") + pm.Normal("w", 0, pt.exp(u()), shape=4)[g]),
        ["a", "w"],
    ),
    Remedy.NORMAL_LIKELIHOOD: (
        lambda: (likelihood(pm.Normal("a")), pm.Poisson("z", pt.exp(u()), observed=[0, 1, 2, 3])),
        ["a"],
    ),
    Remedy.NORMAL_PRIOR: (
        lambda: likelihood(pm.Normal("a") + pm.StudentT("u", nu=3, shape=4)[g]),
        ["a"],
    ),
}
"""A model in which ``u`` is refused, and names with which it is not."""

CHANGED: dict[Remedy, tuple[Callable[[], object], Callable[[], object]]] = {
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
}
"""A model in which ``u`` is refused, and the changed one in which it is not."""


def built(build: Callable[[], object]) -> pm.Model:
    with pm.Model(coords={"level": range(4), "row": range(n)}) as model:
        build()
    return model


def refused(model: pm.Model, remedy: Remedy, names: list[str]) -> None:
    with pytest.raises(mlmm.NotMarginalizable) as caught:
        mlmm.marginalize(model, names)
    expected = remedy.about("'w'" if remedy is Remedy.ALSO else "sigma")
    assert expected in caught.value.remedy
    assert caught.value.variable in names


def test_every_remedy_is_tried() -> None:
    # What makes a sparse matrix of effects is refused before the matrix is used.
    assert {*LEFT, *CHANGED, Remedy.DENSE} == set(Remedy)


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
    before, after = CHANGED[remedy]
    refused(built(before), remedy, ["u"])
    marginal = mlmm.marginalize(built(after), ["u"])
    assert "u" not in marginal.named_vars
    assert np.isfinite(marginal.compile_logp(mode="FAST_COMPILE")(marginal.initial_point()))


def weighted(hint: bool) -> None:
    """The weights of lme4, as the hints about Bambi's ``weighted`` and StudentT write them."""
    weights = pm.Gamma("weights", 2.0, 2.0, shape=n)
    if hint:
        likelihood(u()[g], pm.HalfNormal("s") / pt.sqrt(weights))
    else:
        pm.StudentT("y", nu=4.0, mu=u()[g], sigma=1.0 + 0.0 * weights, observed=y)


def test_weights_instead_of_a_heavy_tail() -> None:
    with pytest.raises(mlmm.NotMarginalizable, match=r"sigma / w\*\*0.5"):
        mlmm.marginalize(built(lambda: weighted(False)), "u")
    assert "u" not in mlmm.marginalize(built(lambda: weighted(True)), "u").named_vars
    assert "sigma / pt.sqrt(w)" in LIKELIHOOD_HINTS["WeightedNormal"]
