"""Responses with correlated rows, beside what the canonical models of them say."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from pymc.exceptions import ImputationWarning
from pytensor.scalar.basic import autocast_float_as
from scipy.stats import multivariate_normal

import pymc_marginal_lmm as mlmm
from pymc_marginal_lmm import NotMarginalizable
from pymc_marginal_lmm.model.restore import marginal_ops
from pymc_marginal_lmm.structure import MixedModel
from tests.helpers import dense_reference, density, long_chain, random_point, unfolded
from tests.models.correlated import decay
from tests.models.registry import lkj

FAST = {"mode": "FAST_COMPILE"}
rng = np.random.default_rng(5)
n, k = 8, 2
Y = rng.normal(size=(n, k))
group = np.arange(n) % 3
ROOT = np.array([[1.0, 0.0], [0.6, 0.8]])
COV = ROOT @ ROOT.T


def structure(model: pm.Model) -> MixedModel:
    (op,) = marginal_ops(model)
    return op.structure


def check(model: pm.Model, *effects: str) -> pm.Model:
    """Compare density and identity with PyMC alone; return the marginal model."""
    marginal = unfolded(model, list(effects))
    point = random_point(marginal, 1)
    expected = dense_reference(model, effects, point).log_density
    assert_allclose(density(marginal)(point), expected, rtol=1e-9)
    point = random_point(model, 2)
    joint = density(model)(point)
    assert_allclose(density(mlmm.conditional(marginal))(point), joint, rtol=1e-8)
    return marginal


# --- Every way to write a covariance ----------------------------------------------------------


def sigma() -> pt.TensorVariable:
    return pm.HalfNormal("sigma")


COVARIANCES: dict[str, Callable[[], dict]] = {
    "numbers": lambda: {"cov": COV},
    "integers": lambda: {"cov": np.array([[2, 1], [1, 2]])},
    "data": lambda: {"cov": pm.Data("V", COV)},
    "chol": lambda: {"chol": ROOT},
    "upper chol": lambda: {"chol": ROOT.T, "lower": False},
    "a root that is not triangular": lambda: {"cov": pt.dot(sigma() * (M := ROOT + 0.2), M.T)},
    "tau": lambda: {"tau": np.linalg.inv(COV)},
    "scaled": lambda: {"cov": sigma() ** 2 * COV},
    "scaled twice": lambda: {"cov": COV * sigma() * sigma_2() / 3.0},
    "scaled by a vector of length 1": lambda: {"cov": pm.HalfNormal("sigma", shape=1) * COV},
    "scaled chol": lambda: {"chol": sigma() * ROOT},
    "scaled tau": lambda: {"tau": sigma() * np.linalg.inv(COV)},
    "scaled numbers of no covariance": lambda: {"cov": -sigma() * (-COV)},
    "sds": lambda: {"cov": pt.diag(s := pm.HalfNormal("s", shape=2)) @ COV @ pt.diag(s)},
    "sds by broadcasting": lambda: {"cov": (s := pm.HalfNormal("s", shape=2)) * COV * s[:, None]},
    "LKJ": lambda: {"chol": lkj("chol", 2)},
    "sum": lambda: {"cov": sigma() ** 2 * COV + 0.1 * np.eye(2)},
    "Deterministic": lambda: {"cov": pm.Deterministic("V", sigma() ** 2 * COV)},
    "one per row": lambda: {"cov": COV * (1.0 + np.arange(n))[:, None, None]},
    "one per row, scaled": lambda: {"cov": sigma() * COV * (1.0 + np.arange(n))[:, None, None]},
    "one per row, sampled": lambda: {
        "cov": COV * pm.HalfNormal("s", shape=n)[:, None, None] + 0.1 * np.eye(2)
    },
    "one for all, with a row of its own": lambda: {"cov": (sigma() ** 2 * COV)[None]},
}


def sigma_2() -> pt.TensorVariable:
    return pm.HalfNormal("sigma_2")


@pytest.mark.parametrize("covariance", COVARIANCES)
@pytest.mark.parametrize("few", [False, True], ids=["many rows", "one row"])
def test_covariances(covariance: str, few: bool) -> None:
    if few and "per row" in covariance:
        pytest.skip("there is one row only")
    with pm.Model() as model:
        u = pm.Normal("u", 0.5, pm.HalfNormal("tau"), shape=(3, k))
        mean, y = (u[0], Y[0]) if few and "row of its own" not in covariance else (u[group], Y)
        pm.MvNormal("y", mean, **COVARIANCES[covariance](), observed=y)
    if "tau" in covariance and not few:
        # PyMC's own density of several rows with tau is that of other models: see below.
        marginal, point = unfolded(model, ["u"]), None
        point = random_point(marginal, 1)
        assert_allclose(density(marginal)(point), by_hand(covariance, point))
    else:
        marginal = check(model, "u")
    if covariance.startswith(("scaled", "numbers", "chol", "integers", "upper", "tau")):
        known = isinstance(structure(marginal).responses[0].correlation.matrix, np.ndarray)
        assert known == (covariance != "scaled numbers of no covariance")


def by_hand(covariance: str, point: dict) -> float:
    """Density of all rows and parameters where PyMC's is of no use."""
    tau = np.exp(point["tau_log__"])
    V = COV / (np.exp(point["sigma_log__"]) if covariance == "scaled tau" else 1.0)
    Z = np.kron(np.eye(3)[group], np.eye(k))
    cov = np.kron(np.eye(n), V) + tau**2 * Z @ Z.T
    value = multivariate_normal(np.full(n * k, 0.5), cov).logpdf(Y.ravel())
    for name in point:  # half-normal priors, on the logarithmic scale
        value += point[name] - 0.5 * np.exp(2 * point[name]) + 0.5 * np.log(2 / np.pi)
    return value


# --- Structure --------------------------------------------------------------------------------


def test_outcomes_of_a_group_are_one_level() -> None:
    """What rows of independent outcomes tell apart, and correlated ones do not."""
    N = 40
    g = rng.integers(5, size=N)
    x = rng.normal(size=N)
    with pm.Model() as model:
        u = pm.Normal("u", 0.0, pm.HalfNormal("tau", shape=3), shape=(5, 3))
        v = pm.Normal("v", 0.0, pm.HalfNormal("omega"), shape=(3, 5))
        y = rng.normal(size=(N, 3))
        pm.MvNormal("y", u[g] + x[:, None] * v[:, g].T, chol=lkj("chol", 3), observed=y)
    explanation = mlmm.explain(model)
    (factor,) = explanation.factors
    assert (factor.n_levels, factor.n_effects, factor.kind) == (5, 6, "block diagonal")
    assert explanation.free_of_rows
    assert explanation.correlated == (("y", N, 3),)
    assert "Correlated rows: y (40 × 3)." in str(explanation)
    check(model, "u", "v")


def test_levels_of_batches_stay_apart() -> None:
    N = 12
    with pm.Model() as model:
        school = pm.Normal("school", 0.0, pm.HalfNormal("tau_school"), shape=3)
        u = pm.Normal("u", 0.0, pm.HalfNormal("tau"), shape=N)
        item = pm.Normal("item", 0.0, 1.0, shape=4)
        mean = (u + school[np.arange(N) % 3])[:, None] + item
        cov = pm.HalfNormal("eta") * decay(4, 1.0) + 0.5 * np.eye(4)
        pm.MvNormal("y", mean, cov=cov, observed=rng.normal(size=(N, 4)))
    marginal = check(model, "school", "u", "item")
    kinds = {f.effects: f.kind for f in mlmm.explain(model).factors}
    assert kinds == {("u",): "diagonal", ("school",): "dense", ("item",): "dense"}
    assert not structure(marginal).responses[0].whitened


def test_levels_that_meet_in_batches_only() -> None:
    """Rows of a batch in different groups, though no row is in two of them."""
    g = np.array([[0, 1], [1, 2], [0, 2], [2, 1], [1, 0]])
    with pm.Model() as model:
        u = pm.Normal("u", 0.0, pm.HalfNormal("tau"), shape=3)
        pm.MvNormal("y", u[g], chol=lkj("chol", 2), observed=rng.normal(size=(5, 2)))
    check(model, "u")
    (factor,) = mlmm.explain(model).factors
    assert factor.kind == "dense"


def test_uneven_parts() -> None:
    """One group lacks an outcome: its level would be smaller than those of the others."""
    mask = np.ones((n, k))
    mask[group == 1, 0] = 0.0
    late = np.where(mask > 0, group[:, None] * k + np.arange(k), 6)
    with pm.Model() as model:
        u = pm.Normal("u", 0.0, pm.HalfNormal("tau"), shape=7)
        pm.MvNormal("y", u[late], chol=lkj("chol", k), observed=Y)
    check(model, "u")


def test_nested_batches_in_a_long_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    from pymc_marginal_lmm.analysis import read

    monkeypatch.setattr(read, "block_structure", long_chain)
    N = 12
    with pm.Model() as model:
        tau = pm.HalfNormal("tau", shape=3)
        u = pm.Normal("u", 0.0, tau[0], shape=(N, 2))
        v = pm.Normal("v", 0.0, tau[1], shape=(6, 2))
        w = pm.Normal("w", 0.0, tau[2], shape=2)
        mean = u + v[np.arange(N) // 2] + w[np.arange(N) // 6][:, None]
        pm.MvNormal("y", mean, chol=lkj("chol", 2), observed=rng.normal(size=(N, 2)))
    marginal = check(model, "u", "v", "w")
    assert len(structure(marginal).blocks.chain) == 3


def test_loadings_and_sampled_coefficients_in_rows() -> None:
    with pm.Model() as model:
        lam = pm.StudentT("lam", nu=4, shape=k)
        curve = pt.exp(-pm.HalfNormal("rate") * np.arange(n) / n)
        u = pm.Normal("u", 0.0, 1.0, shape=n)
        b = pm.Normal("b", 0.0, 2.0, shape=k)
        mean = u[:, None] * lam + curve[:, None] * b
        pm.MvNormal("y", mean, chol=lkj("chol", k), observed=Y)
    check(model, "u", "b")


def test_flat_coefficients() -> None:
    X = np.column_stack([np.ones(20), rng.normal(size=20)])
    with pm.Model() as model:
        b = pm.Flat("b", shape=2)
        cov = pm.HalfNormal("eta") * decay(20, 3.0) + 0.2 * np.eye(20)
        pm.MvNormal("y", pt.dot(X, b), cov=cov, observed=rng.normal(size=20))
    check(model, "b")


# --- Out of range -----------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(n, k), (k,)], ids=["pairs", "whitened"])
@pytest.mark.parametrize("mode", ["FAST_COMPILE", "NUMBA", "JAX"])
def test_a_covariance_that_is_none(shape: tuple[int, ...], mode: str) -> None:
    """The density is 0 outside the support, as in the plain model, and NaN nowhere."""
    with pm.Model() as model:
        rho = pm.Normal("rho")
        b = pm.Normal("b", 0.0, 1.0, shape=k)
        cov = pt.stack([pt.stack([1.0, rho]), pt.stack([rho, 1.0])])
        pm.MvNormal("y", b, cov=cov, observed=Y[: shape[0]] if len(shape) > 1 else Y[0])
    logp = unfolded(model, ["b"]).compile_logp(mode=mode)
    assert np.isfinite(logp({"rho": np.array(0.999)}))
    assert logp({"rho": np.array(1.001)}) == -np.inf


@pytest.mark.parametrize("shape", [(n, k), (k,)], ids=["pairs", "whitened"])
@pytest.mark.parametrize("root", ["scaled", "diagonal"])
def test_a_root_with_a_negative_diagonal(root: str, shape: tuple[int, ...]) -> None:
    """What the plain model takes for a Cholesky factor, and has no density for if it is none."""
    with pm.Model() as model:
        s = pm.Normal("s")
        b = pm.Normal("b", 0.0, 1.0, shape=k)
        chol = s * ROOT if root == "scaled" else pt.diag(pt.stack([s, 1.0]))
        pm.MvNormal("y", b, chol=chol, observed=Y if len(shape) > 1 else Y[0])
    logp, plain = (m.compile_logp(**FAST) for m in (unfolded(model, ["b"]), model))
    for s in (0.7, -0.7):
        inside = bool(np.isfinite(plain({"s": np.array(s), "b": np.zeros(k)})))
        assert inside == (s > 0 or root == "diagonal")
        assert (logp({"s": np.array(s)}) > -np.inf) == inside


def test_infinite_data_in_a_covariance() -> None:
    with pm.Model() as model:
        b = pm.Normal("b", 0.0, 1.0, shape=k)
        V = pm.Data("V", np.array([[1.0, np.inf], [np.inf, 1.0]]))
        pm.MvNormal("y", b, cov=V, observed=Y)
    with pytest.raises(NotMarginalizable, match=r"covariance of 'y' has 2 values .* data 'V'"):
        mlmm.marginalize(model, ["b"])


def test_shapes_that_do_not_fit() -> None:
    with pm.Model() as model:
        b = pm.Normal("b", 0.0, 1.0, shape=3)
        pm.MvNormal("y", b, cov=np.eye(1), observed=np.zeros(3))
    with pytest.raises(NotMarginalizable, match=r"covariance of 'y' has shape \(1, 1\)"):
        mlmm.marginalize(model, ["b"])


# --- Around it --------------------------------------------------------------------------------


def test_gaussian_process_with_a_mean() -> None:
    X = np.linspace(0.0, 3.0, 12)[:, None]
    with autocast_float_as("float64"), pm.Model() as model:
        b = pm.Normal("b", 0.0, 3.0, shape=2)
        kernel = pm.HalfNormal("eta") ** 2 * pm.gp.cov.ExpQuad(1, ls=pm.Gamma("ls", 3.0, 3.0))
        mean = pm.gp.mean.Linear(coeffs=b[:1], intercept=b[1])
        gp = pm.gp.Marginal(mean_func=mean, cov_func=kernel)
        gp.marginal_likelihood("y", X=X, y=rng.normal(size=12), sigma=pm.HalfNormal("sigma"))
    check(model, "b")


def test_written_with_named_dims() -> None:
    import pymc.dims as pmd

    with pm.Model(coords={"row": range(n), "outcome": range(k), "other": range(k)}) as model:
        b = pmd.Normal("b", 0.0, 2.0, dims="outcome")
        x = pmd.Data("x", np.arange(n) / n, dims="row")
        observed = pmd.as_xtensor(Y, dims=("row", "outcome"))
        chol = pmd.Data("root", ROOT, dims=("outcome", "other"))
        pmd.MvNormal("y", x * b, chol=chol, core_dims=("outcome", "other"), observed=observed)
    with pm.Model() as plain:
        b = pm.Normal("b", 0.0, 2.0, shape=k)
        x = np.arange(n) / n
        pm.MvNormal("y", x[:, None] * b, chol=ROOT, observed=Y)
    values = [float(density(mlmm.marginalize(m))({})) for m in (model, plain)]
    assert_allclose(*values, rtol=1e-10)


def test_rows_that_are_missing() -> None:
    holes = Y.copy()
    holes[[1, 4]] = np.nan
    with pm.Model() as model, warnings.catch_warnings():
        warnings.simplefilter("ignore", ImputationWarning)
        u = pm.Normal("u", 0.0, pm.HalfNormal("tau"), shape=(3, k))
        pm.MvNormal("y", u[group], chol=lkj("chol", k), observed=holes)
    explanation = mlmm.explain(model)
    assert explanation.integrated == ("u",)
    assert explanation.drawn == ("y_unobserved",)
    point = random_point(mlmm.marginalize(model, fold_scales=False), 1)
    with pm.Model() as rest:
        u = pm.Normal("u", 0.0, pm.HalfNormal("tau"), shape=(3, k))
        seen = np.isfinite(holes[:, 0])
        pm.MvNormal("y", u[group[seen]], chol=lkj("chol", k), observed=holes[seen])
    found, expected = (
        density(mlmm.marginalize(m, fold_scales=False))(point) for m in (model, rest)
    )
    assert_allclose(found, expected, rtol=1e-10)


def test_data_can_be_set() -> None:
    with pm.Model() as model:
        y, V = pm.Data("y_data", Y), pm.Data("V", COV)
        u = pm.Normal("u", 0.0, pm.HalfNormal("tau"), shape=(3, k))
        pm.MvNormal("y", u[group], cov=V, observed=y)
    marginal = unfolded(model)
    logp = density(marginal)
    point = {"tau_log__": np.array(0.3)}
    with marginal:
        pm.set_data({"y_data": Y + 1.0, "V": 2.0 * COV})
    with model:
        pm.set_data({"y_data": Y + 1.0, "V": 2.0 * COV})
    expected = dense_reference(model, ("u",), point).log_density
    assert_allclose(logp(point), expected, rtol=1e-10)


def test_scales_of_the_errors_stay_as_they_are() -> None:
    """Folding is for scales of effects: the density is not even in a scale that is in ``V``."""
    with pm.Model() as model:
        tau, eta = pm.HalfNormal("tau"), pm.HalfNormal("eta")
        u = pm.Normal("u", 0.0, tau, shape=(3, k))
        v = pm.Normal("v", 0.0, eta, shape=k)
        pm.MvNormal("y", u[group] + v, cov=eta * COV + 0.1 * np.eye(k), observed=Y)
    names = {v.name for v in mlmm.marginalize(model).value_vars}
    assert names == {"tau_fold__", "eta_log__"}


def test_draws_of_the_responses_are_correlated() -> None:
    with pm.Model() as model:
        b = pm.Normal("b", 0.0, 0.1, shape=k)
        pm.MvNormal("y", b, cov=4.0 * COV, observed=np.zeros((500, k)))
    drawn = pm.draw(mlmm.marginalize(model)["y"], draws=4, random_seed=1, **FAST)
    assert drawn.shape == (4, 500, k)
    assert_allclose(np.cov(drawn.reshape(-1, k).T), 4.0 * COV, atol=0.5)


def test_single_precision() -> None:
    with pytensor.config.change_flags(floatX="float32"):
        with pm.Model() as model:
            tau = pm.HalfNormal("tau")
            u = pm.Normal("u", 0.0, tau, shape=(3, k))
            pm.MvNormal("y", u[group], chol=lkj("chol", k), observed=Y.astype("float32"))
            b = pm.Normal("b", 0.0, 1.0)
            cov = tau * decay(6, 2.0).astype("float32") + np.eye(6, dtype="float32")
            pm.MvNormal("z", b + np.zeros(6, "float32"), cov=cov, observed=Y[:3].ravel())
        marginal = unfolded(model)
        assert marginal.logp(vars=[marginal["y"], marginal["z"]]).dtype == "float32"
        point = random_point(marginal, 1)
        found = density(marginal)(point)
        expected = dense_reference(model, ("u", "b"), point).log_density
    assert_allclose(found, expected, rtol=1e-4)


def test_recovered_effects() -> None:
    """Means of many draws at one point of the parameters, against PyMC alone."""
    with pm.Model() as model:
        eta = pm.HalfNormal("eta")
        u = pm.Normal("u", 0.0, 1.0, shape=(3, k))
        pm.MvNormal("y", u[group], cov=eta * COV + 0.1 * np.eye(k), observed=Y)
        b = pm.Normal("b", 0.0, 1.0)
        pm.MvNormal(
            "z", b * np.ones(6), cov=eta * decay(6, 2.0) + np.eye(6), observed=Y[:3].ravel()
        )
    marginal = unfolded(model)
    reference = dense_reference(model, ("u", "b"), {"eta_log__": np.log(0.7)})
    draws = mlmm.recover(
        idata_of({"eta": np.full((1, 4000), 0.7)}),
        model=marginal,
        random_seed=3,
        progressbar=False,
    )["posterior"]
    together = np.concatenate([draws["u"].values.reshape(4000, -1), draws["b"].values.T], axis=1)
    sds = np.sqrt(np.diag(reference.covariance))
    mean = np.concatenate([reference.mean["u"].ravel(), [reference.mean["b"]]])
    assert (abs(together.mean(axis=0) - mean) < 5 * sds / np.sqrt(4000)).all()
    assert_allclose(np.cov(together.T), reference.covariance, atol=0.1 * sds.max() ** 2)


def idata_of(values: dict) -> object:
    from arviz_base import from_dict

    return from_dict({"posterior": values})


def test_rows_that_share_their_noise_beside_a_long_process() -> None:
    """What a row sees through its batch has a column for each effect of a level."""
    rng = np.random.default_rng(0)
    area, x = rng.integers(70, size=35), rng.normal(size=35)
    with pm.Model() as model:
        W = np.eye(70, k=1) + np.eye(70, k=-1)
        u = pm.CAR("u", np.zeros(70), W=W, alpha=0.6, tau=0.7)
        mu = u[area] + pm.Normal("a", 0, 2) + pm.Normal("b", 0, 2) * x
        pm.MvNormal("y", mu, cov=pm.HalfNormal("s") * np.eye(35), observed=rng.normal(size=35))
    assert {*mlmm.explain(model).integrated} == {"u", "a", "b"}
