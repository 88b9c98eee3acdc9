"""``noncenter`` is a change of variables: densities differ by its Jacobian and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pymc as pm
import pytest
from numpy.testing import assert_allclose

import pymc_marginal_lmm as mlmm
from tests.helpers import random_point

FAST = "FAST_COMPILE"
rng = np.random.default_rng(0)
n = 24
g, h = np.repeat(np.arange(4), 6), np.tile(np.arange(3), 8)
x = rng.normal(size=n)
y = rng.normal(size=n) + g

Given = dict[str, np.ndarray]
CASES: dict[str, tuple[Callable[[], None], list[str], Callable[[Given], Given], Callable]] = {}


def case(names: list[str], log_jacobian: Callable, **values: Callable) -> Callable:
    """Register a model, how the variables follow from offsets, and ``log |du / d offset|``."""

    def register(build: Callable[[], None]) -> Callable[[], None]:
        CASES[build.__name__.removeprefix("_")] = (build, names, values, log_jacobian)
        return build

    return register


def tau(p: Given) -> np.ndarray:
    return np.exp(p["tau_log__"])


def scale() -> object:
    return pm.HalfNormal("tau")


def observe(mu: object) -> None:
    pm.Normal("y", mu, pm.HalfNormal("sigma"), observed=y)


@case(["u"], lambda p: 4 * np.log(tau(p)), u=lambda p: tau(p) * p["u_offset"])
def _normal() -> None:
    observe(pm.Normal("u", 0.0, scale(), dims="level")[g])


@case(
    ["u"],
    lambda p: 4 * np.log(tau(p)).sum(),
    u=lambda p: p["m"] + tau(p) * p["u_offset"],
)
def _any_shape_and_hierarchical_mean() -> None:
    m = pm.Normal("m", shape=4)
    u = pm.Normal("u", m, pm.HalfNormal("tau", shape=(3, 1)), dims=("item", "level"))
    observe(u[h, g])


@case(
    ["u", "m"],
    lambda p: 4 * np.log(tau(p)) + np.log(5.0),
    m=lambda p: 2.0 + 5.0 * p["m_offset"],
    u=lambda p: 2.0 + 5.0 * p["m_offset"] + tau(p) * p["u_offset"],
)
def _both_levels_of_a_hierarchy() -> None:
    observe(pm.Normal("u", pm.Normal("m", 2.0, 5.0), scale(), dims="level")[g])


CHOL = np.array([[1.5, 0.0], [0.4, 0.7]])


@case(
    ["u"],
    lambda p: 4 * np.log(1.5 * 0.7),
    u=lambda p: np.array([1.0, 2.0]) + p["u_offset"] @ CHOL.T,
)
def _correlated_rows() -> None:
    u = pm.MvNormal("u", np.array([1.0, 2.0]), chol=CHOL, dims=("level", "effect"))
    observe(u[g, 0] + u[g, 1] * x)


CHOLS = np.linalg.cholesky(np.array([[[2.0, 0.3], [0.3, 1.0 + i]] for i in range(4)]))


@case(
    ["u"],
    lambda p: np.log(np.diagonal(CHOLS, axis1=1, axis2=2)).sum(),
    u=lambda p: np.einsum("lij,lj->li", CHOLS, p["u_offset"]),
)
def _covariance_by_level() -> None:
    u = pm.MvNormal("u", np.zeros(2), cov=CHOLS @ CHOLS.transpose(0, 2, 1))
    observe(u[g, 0] + u[g, 1] * x)


def build(name: str) -> pm.Model:
    coords = {"level": list("abcd"), "item": range(3), "effect": ["a", "b"]}
    with pm.Model(coords=coords) as model:
        CASES[name][0]()
    return model


@pytest.mark.parametrize("name", CASES)
def test_change_of_variables(name: str) -> None:
    plain = build(name)
    _, names, values, log_jacobian = CASES[name]
    new = mlmm.noncenter(plain, names)
    assert {rv.name for rv in plain.free_RVs} - {rv.name for rv in new.free_RVs} == set(names)
    assert {d.name for d in new.deterministics} == set(names)
    for name in names:
        dims = plain.named_vars_to_dims.get(name)
        assert new.named_vars_to_dims.get(name) == new.named_vars_to_dims.get(f"{name}_offset")
        assert new.named_vars_to_dims.get(name) == dims
    point = random_point(new, 1)
    at = {name: value(point) for name, value in values.items()}
    old_point = {k: v for k, v in point.items() if not k.endswith("_offset")} | at
    expected = plain.compile_logp(mode=FAST)(old_point) + log_jacobian(point)
    # PyTensor takes the logarithm of a constant 5.0 in single precision.
    assert_allclose(new.compile_logp(mode=FAST)(point), expected, rtol=1e-8)
    graphs = new.replace_rvs_by_values([new[name] for name in at])
    inputs = {v: point[v.name] for v in new.value_vars}
    for graph, wanted in zip(graphs, at.values(), strict=True):
        assert_allclose(graph.eval(inputs, mode=FAST, on_unused_input="ignore"), wanted)


def crossed(**kwargs: object) -> pm.Model:
    with pm.Model(coords={"level": list("abcd"), "item": range(3)}) as model:
        u = pm.Normal("u", 0.0, pm.HalfNormal("tau"), dims="level")
        v = pm.Normal("v", 0.5, pm.HalfNormal("omega"), dims="item", **kwargs)
        pm.Deterministic("total", u.sum() + v.sum())
        pm.Normal("y", u[g] + v[h], pm.HalfNormal("sigma"), observed=y)
    return model


def test_with_marginalize_in_either_order() -> None:
    """M1, M2, R1, R2 of Lai, Domke and Sheldon: one factor marginal, the other non-centred."""
    plain = crossed()
    marginal = mlmm.marginalize(plain, ["u"])
    one = mlmm.noncenter(marginal, ["v"])
    two = mlmm.marginalize(mlmm.noncenter(plain, ["v"]), ["u"])
    point = random_point(one, 1)
    omega = np.exp(point["omega_log__"])
    at = {k: v for k, v in point.items() if k != "v_offset"} | {
        "v": 0.5 + omega * point["v_offset"]
    }
    expected = marginal.compile_logp(mode=FAST)(at) + 3 * np.log(omega)
    for combined in (one, two):
        assert [rv.name for rv in combined.free_RVs] == ["tau", "omega", "v_offset", "sigma"]
        assert [d.name for d in combined.deterministics] == ["v"]
        assert_allclose(combined.compile_logp(mode=FAST)(point), expected, rtol=1e-10)
        gradient = combined.compile_dlogp(mode=FAST)(point)
        assert np.isfinite(gradient).all()
        assert {"u", "total"} <= set(mlmm.conditional(combined).named_vars)
    again = mlmm.unmarginalize(one)
    reference = mlmm.noncenter(plain, ["v"])
    point = random_point(reference, 2)
    assert_allclose(
        again.compile_logp(mode=FAST)(point), reference.compile_logp(mode=FAST)(point), rtol=1e-10
    )


def test_offsets_can_be_integrated_out() -> None:
    marginal = mlmm.marginalize(mlmm.noncenter(crossed(), ["u", "v"]))
    assert [rv.name for rv in marginal.free_RVs] == ["tau", "omega", "sigma"]
    point = random_point(marginal, 1)
    expected = mlmm.marginalize(crossed()).compile_logp(mode=FAST)(point)
    assert_allclose(marginal.compile_logp(mode=FAST)(point), expected, rtol=1e-10)


def test_data_and_dims_stay_alive() -> None:
    with pm.Model() as plain:
        index = pm.Data("index", g, dims="row")
        plain.add_coord("level", length=4)
        u = pm.Normal("u", 0.0, 2.0, dims="level")
        pm.Normal("y", u[index], 1.0, observed=pm.Data("y_data", y, dims="row"), dims="row")
    new = mlmm.noncenter(plain, "u")
    new.set_dim("level", 5)
    pm.set_data({"index": np.full(7, 4), "y_data": np.ones(7)}, model=new)
    offset = np.arange(5.0)
    expected = -0.5 * ((offset**2).sum() + 7 * (1 - 2 * 4.0) ** 2 + 12 * np.log(2 * np.pi))
    assert_allclose(new.compile_logp(mode=FAST)({"u_offset": offset}), expected)


def test_the_users_model_and_other_initial_values_survive() -> None:
    plain = crossed(initval=np.ones(3))
    plain.set_initval(plain["tau"], 0.3)
    new = mlmm.noncenter(plain, plain["v"])
    assert [rv.name for rv in plain.free_RVs] == ["tau", "u", "omega", "v", "sigma"]
    assert_allclose(plain.initial_point()["v"], 1.0)
    assert_allclose(new.initial_point()["v_offset"], 0.0)
    assert_allclose(new.initial_point()["tau_log__"], np.log(0.3))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("w", r"'w': the model has no variable of that name\. Free variables are: s, z, "),
        ("y", r"'y': it is observed\. Free"),
        ("d", r"'d': it is not a free random variable of the model\."),
        ("s", r"'s': its prior is HalfNormal\. Only Normal and MvNormal"),
        ("f", r"'f': its prior is Flat\."),
        ("z", r"'z': its value is transformed \(Interval\)"),
        ("k", r"'k': the model has a variable 'k_offset' already\. Rename"),
    ],
)
def test_refusals(name: str, reason: str) -> None:
    with pm.Model() as model:
        s = pm.HalfNormal("s")
        z = pm.Normal("z", 0.0, s, transform=pm.distributions.transforms.Interval(-1, 1))
        k = pm.Normal("k") + pm.Normal("k_offset") + pm.Flat("f")
        pm.Deterministic("d", z + k)
        pm.Normal("y", model["d"], 1.0, observed=y)
    with pytest.raises(ValueError, match=f"^Cannot non-centre {reason}"):
        mlmm.noncenter(model, ["k_offset", name])


def test_variable_of_another_model() -> None:
    with pytest.raises(ValueError, match="'v': the variable belongs to another model"):
        mlmm.noncenter(crossed(), crossed()["v"])
