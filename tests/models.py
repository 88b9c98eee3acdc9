"""Every canonical model once: what users write, with data small enough for dense references.

``MODELS`` lists them in the order of this file; a model's name is the name of its function.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pytensor.scalar.basic import autocast_float_as

__all__ = ["MODELS", "CanonicalModel", "by_name"]


@dataclass(frozen=True)
class CanonicalModel:
    """A model and what is expected of it.

    Parameters
    ----------
    name : str
    build : callable
        Returns the plain model, which always holds at least one sampled parameter besides the
        effects.
    effects : tuple of str
        What ``marginalize(model)`` integrates out.
    flat : bool
        Whether some of it has a flat prior.
    tags : frozenset of str
        What the model is about: "correlated", "crossed", "nested", "hierarchical", "fixed only",
        "several responses", "lognormal", "data", "deterministics", "partial" (a Normal variable
        stays sampled), "no data" (some levels have none).
    """

    name: str
    build: Callable[[], pm.Model]
    effects: tuple[str, ...]
    flat: bool = False
    tags: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return self.name


MODELS: list[CanonicalModel] = []


def by_name(name: str) -> CanonicalModel:
    """Return the canonical model of that name."""
    return next(model for model in MODELS if model.name == name)


def canonical(*effects: str, flat: bool = False, tags: tuple[str, ...] = ()) -> Callable:
    """Register a function, which runs inside a fresh model, as a canonical model."""

    def register(body: Callable[[], None]) -> Callable[[], None]:
        def build() -> pm.Model:
            # Literals such as 5.0 in double precision: in the plain model their logarithms
            # would be single, and it could not serve as a reference to ten digits.
            with autocast_float_as("float64"), pm.Model() as model:
                body()
            return model

        entry = CanonicalModel(body.__name__, build, effects, flat, frozenset(tags))
        MODELS.append(entry)
        return body

    return register


class Rows:
    """Made-up data of ``n`` rows: a covariate ``x``, level indices, and a response."""

    def __init__(self, n: int = 30, seed: int = 0) -> None:
        self.n = n
        self.rng = np.random.default_rng([n, seed])
        self.x = self.rng.normal(size=n).round(3)
        self._mean = 1.0 + 0.5 * self.x

    def index(self, levels: int) -> np.ndarray:
        """Return an index in which every level occurs, unequally often and in no order."""
        codes = np.r_[np.arange(levels), self.rng.integers(levels, size=self.n - levels)]
        codes = self.rng.permutation(codes)
        self._mean = self._mean + self.rng.normal(0, 0.8, size=levels)[codes]
        return codes

    def design(self, columns: int) -> np.ndarray:
        """Return an intercept, ``x``, and further covariates."""
        others = self.rng.normal(size=(self.n, columns)).round(3)
        return np.column_stack([np.ones(self.n), self.x, others])[:, :columns]

    @property
    def y(self) -> np.ndarray:
        """The response: call last, when all indices are made."""
        return self._mean + self.rng.normal(0, 0.7, size=self.n)


def scales(*names: str) -> list[pt.TensorVariable]:
    """Return a half-normal standard deviation per name."""
    return [pm.HalfNormal(name, 1.0) for name in names]


def lkj(name: str, n: int) -> pt.TensorVariable:
    """Return the Cholesky factor of a covariance matrix with an LKJ prior."""
    return pm.LKJCholeskyCov(name, n=n, eta=2.0, sd_dist=pm.HalfNormal.dist(1.0))[0]


# --- One factor, one effect per level -----------------------------------------------------------


@canonical("alpha", "u")
def random_intercept() -> None:
    data = Rows()
    g = data.index(6)
    sigma, tau = scales("sigma", "tau")
    alpha = pm.Normal("alpha", 0.0, 5.0)
    u = pm.Normal("u", 0.0, tau, shape=6)
    pm.Normal("y", alpha + u[g], sigma, observed=data.y)


@canonical("theta")
def eight_schools() -> None:
    # One row per level without any index, known standard errors, a mean that stays sampled.
    effect = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
    error = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
    mu = pm.StudentT("mu", nu=4, mu=0.0, sigma=5.0)
    tau = pm.HalfCauchy("tau", 5.0)
    theta = pm.Normal("theta", mu, tau, shape=8)
    pm.Normal("y", theta, error, observed=effect)


@canonical("u")
def sampled_fixed_effects() -> None:
    # The offset is not Normal: it depends on parameters, not linearly, and stays.
    data = Rows()
    g = data.index(5)
    sigma, tau = scales("sigma", "tau")
    alpha = pm.StudentT("alpha", nu=3, mu=0.0, sigma=2.0)
    rate = pm.HalfNormal("rate", 1.0)
    u = pm.Normal("u", 0.0, tau, shape=5)
    pm.Normal("y", alpha + pt.exp(-rate * data.x) + u[g], sigma, observed=data.y)


@canonical("u")
def constant_mean() -> None:
    data = Rows()
    g = data.index(5)
    sigma, tau = scales("sigma", "tau")
    u = pm.Normal("u", 1.5, tau, shape=5)
    pm.Normal("y", u[g], sigma, observed=data.y)


@canonical("u")
def mean_and_scale_by_level() -> None:
    data = Rows()
    g = data.index(6)
    kind = np.array([0, 0, 1, 1, 2, 2])
    (sigma,) = scales("sigma")
    tau = pm.HalfNormal("tau", 1.0, shape=3)
    u = pm.Normal("u", np.linspace(-1.0, 1.0, 6), tau[kind])
    pm.Normal("y", u[g], sigma, observed=data.y)


@canonical("u", tags=("no data",))
def empty_levels() -> None:
    data = Rows()
    g = np.array([1, 2, 5])[data.index(3)]
    sigma, tau = scales("sigma", "tau")
    u = pm.Normal("u", 0.5, tau, shape=8)
    pm.Normal("y", u[g], sigma, observed=data.y)


@canonical("u")
def integer_data() -> None:
    data = Rows()
    g, days = data.index(5), np.arange(data.n) % 4
    sigma, tau = scales("sigma", "tau")
    u = pm.Normal("u", 0, tau, shape=5)
    pm.Normal("y", u[g] * days, sigma, observed=np.round(10 * data.y).astype(int))


@canonical("alpha", "u")
def initial_values() -> None:
    data = Rows()
    g = data.index(4)
    sigma = pm.HalfNormal("sigma", 1.0, initval=0.7)
    tau = pm.HalfNormal("tau", 1.0)
    alpha = pm.Normal("alpha", 0.0, 2.0, initval=0.3)
    u = pm.Normal("u", 0.0, tau, shape=4, initval=np.full(4, 0.1))
    pm.Normal("y", alpha + u[g], sigma, observed=data.y)


# --- One factor, several effects per level ------------------------------------------------------


@canonical("alpha", "beta", "u", "v")
def independent_slopes() -> None:
    data = Rows(n=40)
    g = data.index(6)
    sigma, tau_u, tau_v = scales("sigma", "tau_u", "tau_v")
    alpha, beta = pm.Normal("alpha", 0.0, 5.0), pm.Normal("beta", 0.0, 2.0)
    u = pm.Normal("u", 0.0, tau_u, shape=6)
    v = pm.Normal("v", 0.0, tau_v, shape=6)
    pm.Normal("y", alpha + u[g] + (beta + v[g]) * data.x, sigma, observed=data.y)


@canonical("u", tags=("correlated",))
def correlated_slopes() -> None:
    data = Rows(n=40)
    g = data.index(6)
    (sigma,) = scales("sigma")
    u = pm.MvNormal("u", np.zeros(2), chol=lkj("chol", 2), shape=(6, 2))
    pm.Normal("y", u[g, 0] + u[g, 1] * data.x, sigma, observed=data.y)


@canonical("beta", "u", tags=("correlated", "hierarchical"))
def correlated_slopes_around_coefficients() -> None:
    data = Rows(n=40)
    g = data.index(6)
    (sigma,) = scales("sigma")
    beta = pm.Normal("beta", [1.0, 0.0], [5.0, 2.0])
    u = pm.MvNormal("u", beta, chol=lkj("chol", 2), shape=(6, 2))
    pm.Normal("y", u[g, 0] + u[g, 1] * data.x, sigma, observed=data.y)


@canonical("u", tags=("correlated",))
def correlated_three() -> None:
    data = Rows(n=50)
    g, X = data.index(5), data.design(3)
    (sigma,) = scales("sigma")
    u = pm.MvNormal("u", np.zeros(3), chol=lkj("chol", 3), shape=(5, 3))
    pm.Normal("y", (u[g] * X).sum(-1), sigma, observed=data.y)


@canonical("u", tags=("correlated",))
def constant_covariance_five() -> None:
    data = Rows(n=60)
    g, X = data.index(4), data.design(5)
    root = data.rng.normal(size=(5, 5))
    (sigma,) = scales("sigma")
    u = pm.MvNormal("u", np.zeros(5), cov=root @ root.T + np.eye(5), shape=(4, 5))
    pm.Normal("y", pt.sum(u[g] * X, axis=1), sigma, observed=data.y)


@canonical("u", tags=("correlated",))
def computed_covariance() -> None:
    data = Rows(n=40)
    g = data.index(6)
    (sigma,) = scales("sigma")
    sd = pm.HalfNormal("sd", 1.0, shape=2)
    rho = pm.Uniform("rho", -1.0, 1.0)
    correlation = pt.stack([pt.stack([1.0, rho]), pt.stack([rho, 1.0])])
    u = pm.MvNormal("u", np.zeros(2), cov=sd[:, None] * correlation * sd, shape=(6, 2))
    pm.Normal("y", u[g, 0] + u[g, 1] * data.x, sigma, observed=data.y)


@canonical("u", tags=("correlated",))
def precision_matrix() -> None:
    data = Rows(n=40)
    g = data.index(6)
    (sigma,) = scales("sigma")
    precision = pm.HalfNormal("precision", 2.0, shape=2)
    tau = pt.diag(precision) + 0.3
    u = pm.MvNormal("u", np.zeros(2), tau=tau, shape=(6, 2))
    pm.Normal("y", u[g, 0] + u[g, 1] * data.x, sigma, observed=data.y)


@canonical("u", tags=("correlated",))
def covariance_by_level() -> None:
    data = Rows(n=40)
    g = data.index(6)
    kind = np.array([0, 0, 0, 1, 1, 1])
    (sigma,) = scales("sigma")
    tau = pm.HalfNormal("tau", 1.0, shape=2)
    chol = tau[kind][:, None, None] * np.array([[1.0, 0.0], [0.4, 0.8]])
    u = pm.MvNormal("u", np.zeros(2), chol=chol, shape=(6, 2))
    pm.Normal("y", u[g, 0] + u[g, 1] * data.x, sigma, observed=data.y)


@canonical("u", tags=("correlated",))
def means_by_level() -> None:
    data = Rows(n=40)
    g = data.index(6)
    (sigma,) = scales("sigma")
    means = data.rng.normal(size=(6, 2))
    u = pm.MvNormal("u", means, chol=lkj("chol", 2))
    pm.Normal("y", u[g, 0] + u[g, 1] * data.x, sigma, observed=data.y)


@canonical("f", tags=("correlated",))
def gaussian_process() -> None:
    # A single block: one level with as many effects as there are times.
    data = Rows()
    time = data.index(6)
    distance = np.subtract.outer(np.arange(6.0), np.arange(6.0))
    sigma, tau = scales("sigma", "tau")
    length = pm.Gamma("length", 5.0, 2.0)
    cov = tau**2 * pt.exp(-0.5 * (distance / length) ** 2) + 1e-3 * np.eye(6)
    f = pm.MvNormal("f", np.zeros(6), cov=cov)
    pm.Normal("y", f[time], sigma, observed=data.y)


@canonical("u", tags=("correlated", "no data"))
def correlated_empty_levels() -> None:
    data = Rows(n=40)
    g = np.array([0, 3, 4])[data.index(3)]
    (sigma,) = scales("sigma")
    u = pm.MvNormal("u", [0.5, -0.5], chol=lkj("chol", 2), shape=(6, 2))
    pm.Normal("y", u[g, 0] + u[g, 1] * data.x, sigma, observed=data.y)


@canonical("u")
def matrix_of_effects() -> None:
    data = Rows(n=40)
    g = data.index(6)
    (sigma,) = scales("sigma")
    tau = pm.HalfNormal("tau", 1.0, shape=2)
    u = pm.Normal("u", 0.0, tau, shape=(6, 2))
    pm.Normal("y", u[g, 0] + u[g, 1] * data.x, sigma, observed=data.y)


@canonical("u")
def column_before_level() -> None:
    data = Rows(n=40)
    g = data.index(6)
    sigma, tau = scales("sigma", "tau")
    u = pm.Normal("u", 0.0, tau, shape=(6, 2))
    pm.Normal("y", u[:, 0][g] + u[:, 1][g] * data.x, sigma, observed=data.y)


@canonical("u")
def columns_in_rows() -> None:
    # The transposed layout: effects first, levels second.
    data = Rows(n=40)
    g, X = data.index(6), data.design(2)
    sigma, tau = scales("sigma", "tau")
    u = pm.Normal("u", 0.0, tau, shape=(2, 6))
    pm.Normal("y", (u.T[g] * X).sum(axis=-1), sigma, observed=data.y)


@canonical("u")
def design_matrix() -> None:
    data = Rows(n=40)
    g, X = data.index(5), data.design(3)
    (sigma,) = scales("sigma")
    tau = pm.HalfNormal("tau", 1.0, shape=3)
    u = pm.Normal("u", 0.0, tau, shape=(5, 3))
    pm.Normal("y", (u[g] * X).sum(-1), sigma, observed=data.y)


@canonical("u")
def two_indices() -> None:
    data = Rows(n=48)
    g, condition = data.index(6), data.index(3)
    (sigma,) = scales("sigma")
    tau = pm.HalfNormal("tau", 1.0, shape=3)
    u = pm.Normal("u", 0.0, tau, shape=(6, 3))
    pm.Normal("y", u[g, condition], sigma, observed=data.y)


@canonical("u")
def three_indices() -> None:
    data = Rows(n=48)
    g, condition, side = data.index(4), data.index(3), data.index(2)
    sigma, tau = scales("sigma", "tau")
    u = pm.Normal("u", 0.0, tau, shape=(4, 3, 2))
    pm.Normal("y", u[g, condition, side], sigma, observed=data.y)


@canonical("u")
def effect_twice() -> None:
    data = Rows()
    g = data.index(6)
    sigma, tau = scales("sigma", "tau")
    u = pm.Normal("u", 0.0, tau, shape=6)
    pm.Normal("y", u[g] + u[g] * data.x, sigma, observed=data.y)


@canonical("beta", "subject", tags=("correlated", "hierarchical"))
def dims_and_coords() -> None:
    data = Rows(n=40)
    g, X = data.index(6), data.design(2)
    model = pm.modelcontext(None)
    model.add_coords({"subject_id": list("abcdef"), "term": ["intercept", "slope"]})
    model.add_coord("row", np.arange(100, 140))
    (sigma,) = scales("sigma")
    beta = pm.Normal("beta", 0.0, 3.0, dims="term")
    subject = pm.MvNormal("subject", np.zeros(2), chol=lkj("chol", 2), dims=("subject_id", "term"))
    mu = pm.Deterministic("mu", X @ beta + (subject[g] * X).sum(-1), dims="row")
    pm.Normal("y", mu, sigma, observed=data.y, dims="row")


# --- Several factors ----------------------------------------------------------------------------


@canonical("alpha", "u", "v", tags=("crossed",))
def crossed_two() -> None:
    data = Rows(n=40)
    g, h = data.index(7), data.index(4)
    sigma, tau_u, tau_v = scales("sigma", "tau_u", "tau_v")
    alpha = pm.Normal("alpha", 0.0, 5.0)
    u = pm.Normal("u", 0.0, tau_u, shape=7)
    v = pm.Normal("v", 0.0, tau_v, shape=4)
    pm.Normal("y", alpha + u[g] + v[h], sigma, observed=data.y)


@canonical("u", "v", "w", tags=("crossed",))
def crossed_three() -> None:
    data = Rows(n=50)
    g, h, k = data.index(6), data.index(5), data.index(3)
    sigma, tau_u, tau_v, tau_w = scales("sigma", "tau_u", "tau_v", "tau_w")
    u = pm.Normal("u", 0.0, tau_u, shape=6)
    v = pm.Normal("v", 0.0, tau_v, shape=5)
    w = pm.Normal("w", 0.0, tau_w, shape=3)
    pm.Normal("y", u[g] + v[h] + w[k], sigma, observed=data.y)


@canonical("alpha", "batch", "cask", tags=("nested",))
def nested() -> None:
    data = Rows(n=40)
    cask_of = data.index(8)
    batch_of = cask_of // 2
    sigma, tau_batch, tau_cask = scales("sigma", "tau_batch", "tau_cask")
    alpha = pm.Normal("alpha", 0.0, 5.0)
    batch = pm.Normal("batch", 0.0, tau_batch, shape=4)
    cask = pm.Normal("cask", 0.0, tau_cask, shape=8)
    pm.Normal("y", alpha + batch[batch_of] + cask[cask_of], sigma, observed=data.y)


@canonical("beta", "subject", "item", tags=("correlated", "crossed"))
def crossed_correlated_slopes() -> None:
    # Subjects read items in two conditions: the Dutch data of the paper.
    data = Rows(n=60)
    s, i = data.index(6), data.index(5)
    (sigma,) = scales("sigma")
    beta = pm.Normal("beta", 0.0, 3.0, shape=2)
    subject = pm.MvNormal("subject", np.zeros(2), chol=lkj("chol_subject", 2), shape=(6, 2))
    item = pm.MvNormal("item", np.zeros(2), chol=lkj("chol_item", 2), shape=(5, 2))
    effect = beta + subject[s] + item[i]
    pm.Normal("y", effect[:, 0] + effect[:, 1] * data.x, sigma, observed=data.y)


@canonical("u", "v", "w", tags=("crossed",))
def crossed_different_widths() -> None:
    # Two effects share an index, the third does not.
    data = Rows(n=48)
    g, h = data.index(6), data.index(4)
    sigma, tau_u, tau_v, tau_w = scales("sigma", "tau_u", "tau_v", "tau_w")
    u = pm.Normal("u", 0.0, tau_u, shape=6)
    v = pm.Normal("v", 0.0, tau_v, shape=6)
    w = pm.Normal("w", 0.0, tau_w, shape=4)
    pm.Normal("y", u[g] + v[g] * data.x + w[h], sigma, observed=data.y)


@canonical("u", "v", tags=("crossed",))
def table_of_sums() -> None:
    # The effects are added before they are indexed.
    data = Rows(n=40)
    g, h = data.index(6), data.index(4)
    sigma, tau_u, tau_v = scales("sigma", "tau_u", "tau_v")
    u = pm.Normal("u", 0.0, tau_u, shape=6)
    v = pm.Normal("v", 0.0, tau_v, shape=4)
    pm.Normal("y", (u[:, None] + v[None, :])[g, h], sigma, observed=data.y)


@canonical("u")
def multi_membership() -> None:
    home, away = np.array([(i, j) for i in range(6) for j in range(6) if i != j]).T
    data = Rows(n=home.size)
    sigma, tau = scales("sigma", "tau")
    advantage = pm.StudentT("advantage", nu=4, mu=0.0, sigma=1.0)
    u = pm.Normal("u", 0.0, tau, shape=6)
    pm.Normal("y", advantage + u[home] - u[away], sigma, observed=data.y)


@canonical("u", "v", tags=("crossed",))
def centred_effects() -> None:
    # Every row holds every level.
    data = Rows()
    g, h = data.index(5), data.index(4)
    sigma, tau_u, tau_v = scales("sigma", "tau_u", "tau_v")
    u = pm.Normal("u", 0.0, tau_u, shape=5)
    v = pm.Normal("v", 0.0, tau_v, shape=4)
    pm.Normal("y", (u - u.mean())[g] + v[h], sigma, observed=data.y)


# --- Means and scales with structure ------------------------------------------------------------


@canonical("mu", "u", tags=("hierarchical",))
def hierarchical_mean() -> None:
    data = Rows()
    g = data.index(6)
    sigma, tau = scales("sigma", "tau")
    mu = pm.Normal("mu", 1.0, 2.0)
    u = pm.Normal("u", mu, tau, shape=6)
    pm.Normal("y", u[g], sigma, observed=data.y)


@canonical("gamma", "u", tags=("hierarchical",))
def group_level_predictor() -> None:
    data = Rows()
    g, size = data.index(6), np.linspace(-1.0, 1.0, 6)
    sigma, tau = scales("sigma", "tau")
    gamma = pm.Normal("gamma", 0.0, 2.0, shape=2)
    u = pm.Normal("u", gamma[0] + gamma[1] * size, tau)
    pm.Normal("y", u[g], sigma, observed=data.y)


@canonical("school", "student", tags=("hierarchical", "nested"))
def hierarchical_mean_by_index() -> None:
    data = Rows(n=40)
    student_of = data.index(8)
    school_of = np.array([0, 0, 0, 1, 1, 2, 2, 2])
    sigma, tau_school, tau_student = scales("sigma", "tau_school", "tau_student")
    school = pm.Normal("school", 1.0, tau_school, shape=3)
    student = pm.Normal("student", school[school_of], tau_student)
    pm.Normal("y", student[student_of], sigma, observed=data.y)


@canonical("z", tags=("deterministics",))
def noncentred() -> None:
    data = Rows()
    g = data.index(6)
    sigma, tau = scales("sigma", "tau")
    z = pm.Normal("z", 0.0, 1.0, shape=6)
    u = pm.Deterministic("u", tau * z)
    pm.Normal("y", u[g], sigma, observed=data.y)


@canonical("z")
def noncentred_after_indexing() -> None:
    data = Rows()
    g = data.index(6)
    sigma, tau = scales("sigma", "tau")
    z = pm.Normal("z", 0.0, 1.0, shape=6)
    pm.Normal("y", tau * z[g], sigma, observed=data.y)


@canonical("z", tags=("correlated", "deterministics"))
def noncentred_correlated() -> None:
    data = Rows(n=40)
    g = data.index(6)
    (sigma,) = scales("sigma")
    z = pm.Normal("z", 0.0, 1.0, shape=(6, 2))
    u = pm.Deterministic("u", z @ lkj("chol", 2).T)
    pm.Normal("y", u[g, 0] + u[g, 1] * data.x, sigma, observed=data.y)


@canonical("z", tags=("correlated", "deterministics"))
def noncentred_correlated_columns() -> None:
    data = Rows(n=40)
    g = data.index(6)
    (sigma,) = scales("sigma")
    z = pm.Normal("z", 0.0, 1.0, shape=(2, 6))
    u = pm.Deterministic("u", pt.dot(lkj("chol", 2), z).T)
    pm.Normal("y", u[g, 0] + u[g, 1] * data.x, sigma, observed=data.y)


@canonical("u")
def loadings() -> None:
    data = Rows(n=40)
    person, item = data.index(6), data.index(4)
    (sigma,) = scales("sigma")
    lam = pm.HalfNormal("lam", 1.0, shape=4)
    u = pm.Normal("u", 0.0, 1.0, shape=6)
    pm.Normal("y", lam[item] * u[person], sigma, observed=data.y)


# --- Fixed effects ------------------------------------------------------------------------------


@canonical("alpha", tags=("fixed only",))
def mean_only() -> None:
    data = Rows()
    (sigma,) = scales("sigma")
    alpha = pm.Normal("alpha", 0.0, 5.0)
    pm.Normal("y", alpha, sigma, observed=data.y)


@canonical("alpha", "beta", tags=("fixed only",))
def straight_line() -> None:
    data = Rows()
    (sigma,) = scales("sigma")
    alpha, beta = pm.Normal("alpha", 0.0, 5.0), pm.Normal("beta", 0.0, 2.0)
    pm.Normal("y", alpha + beta * data.x, sigma, observed=data.y)


@canonical("beta", tags=("fixed only",))
def ridge() -> None:
    # The penalty is sampled.
    data = Rows()
    X = data.design(6)
    sigma, tau = scales("sigma", "tau")
    beta = pm.Normal("beta", 0.0, tau, shape=6)
    pm.Normal("y", pt.dot(X, beta), sigma, observed=data.y)


@canonical("beta", "u")
def coefficients_and_intercepts() -> None:
    data = Rows()
    g, X = data.index(5), data.design(3)
    sigma, tau = scales("sigma", "tau")
    beta = pm.Normal("beta", 0.0, 3.0, shape=3)
    u = pm.Normal("u", 0.0, tau, shape=5)
    pm.Normal("y", X @ beta + u[g], sigma, observed=data.y)


@canonical("beta", "u", flat=True)
def flat_coefficients() -> None:
    data = Rows()
    g, X = data.index(5), data.design(3)
    sigma, tau = scales("sigma", "tau")
    beta = pm.Flat("beta", shape=3)
    u = pm.Normal("u", 0.0, tau, shape=5)
    pm.Normal("y", X @ beta + u[g], sigma, observed=data.y)


@canonical("alpha", "beta", "u", flat=True)
def flat_and_normal_coefficients() -> None:
    data = Rows()
    g = data.index(5)
    sigma, tau = scales("sigma", "tau")
    alpha = pm.Flat("alpha")
    beta = pm.Normal("beta", 0.0, 1.0)
    u = pm.Normal("u", 0.0, tau, shape=5)
    pm.Normal("y", alpha + beta * data.x + u[g], sigma, observed=data.y)


@canonical("beta", flat=True, tags=("fixed only",))
def flat_only() -> None:
    data = Rows()
    X = data.design(3)
    (sigma,) = scales("sigma")
    beta = pm.Flat("beta", shape=3)
    pm.Normal("y", X @ beta, sigma, observed=data.y)


# --- Responses ----------------------------------------------------------------------------------


@canonical("alpha", "u", tags=("lognormal",))
def lognormal() -> None:
    data = Rows()
    g = data.index(5)
    sigma, tau = scales("sigma", "tau")
    alpha = pm.Normal("alpha", 0.0, 2.0)
    u = pm.Normal("u", 0.0, tau, shape=5)
    pm.LogNormal("y", alpha + u[g], sigma, observed=np.exp(0.5 * data.y))


@canonical("u")
def sigma_by_stratum() -> None:
    data = Rows(n=40)
    g, grade = data.index(6), data.index(3)
    (tau,) = scales("tau")
    sigma = pm.HalfNormal("sigma", 1.0, shape=3)
    u = pm.Normal("u", 0.0, tau, shape=6)
    pm.Normal("y", u[g], sigma[grade], observed=data.y)


@canonical("u", tags=("partial",))
def sigma_by_row() -> None:
    data = Rows(n=40)
    g = data.index(6)
    (tau,) = scales("tau")
    gamma = pm.Normal("gamma", 0.0, 0.5, shape=2)
    u = pm.Normal("u", 0.0, tau, shape=6)
    pm.Normal("y", u[g], pt.exp(gamma[0] + gamma[1] * data.x), observed=data.y)


@canonical("u")
def weights() -> None:
    data = Rows()
    g, count = data.index(6), 1 + np.arange(data.n) % 5
    sigma, tau = scales("sigma", "tau")
    u = pm.Normal("u", 0.0, tau, shape=6)
    pm.Normal("y", u[g], sigma / np.sqrt(count), observed=data.y)


@canonical("u", "v", tags=("crossed",))
def table_response() -> None:
    # Subjects by times, without any index.
    data = Rows(n=24)
    times = np.linspace(-1.0, 1.0, 4)
    sigma, tau_u, tau_v = scales("sigma", "tau_u", "tau_v")
    u = pm.Normal("u", 0.0, tau_u, shape=6)
    v = pm.Normal("v", 0.0, tau_v, shape=6)
    mu = u[:, None] + v[:, None] * times
    pm.Normal("y", mu, sigma, observed=data.y.reshape(6, 4))


@canonical("u", "v", tags=("crossed",))
def table_response_by_column() -> None:
    # Each column has its own sigma and its own effect.
    data = Rows(n=24)
    (tau,) = scales("tau")
    sigma = pm.HalfNormal("sigma", 1.0, shape=4)
    u = pm.Normal("u", 0.0, tau, shape=6)
    v = pm.Normal("v", 0.5, 2.0, shape=4)
    pm.Normal("y", u[:, None] + v, sigma, observed=data.y.reshape(6, 4))


@canonical("u", tags=("several responses",))
def two_likelihoods() -> None:
    first, second = Rows(), Rows(n=20, seed=1)
    g, h = first.index(6), second.index(6)
    sigma_1, sigma_2, tau = scales("sigma_1", "sigma_2", "tau")
    u = pm.Normal("u", 0.0, tau, shape=6)
    pm.Normal("y_1", u[g], sigma_1, observed=first.y)
    pm.Normal("y_2", 0.5 * u[h], sigma_2, observed=second.y)


@canonical("u", "v", "w", tags=("several responses", "lognormal"))
def two_likelihoods_of_two_families() -> None:
    first, second = Rows(), Rows(n=20, seed=1)
    g, h = first.index(6), second.index(6)
    sigma_1, sigma_2, lam = scales("sigma_1", "sigma_2", "lam")
    tau_u, tau_v, tau_w = scales("tau_u", "tau_v", "tau_w")
    u = pm.Normal("u", 0.0, tau_u, shape=6)
    v = pm.Normal("v", 0.0, tau_v, shape=6)
    w = pm.Normal("w", 0.0, tau_w, shape=6)
    pm.Normal("y_1", u[g] + v[g], sigma_1, observed=first.y)
    pm.LogNormal("y_2", lam * u[h] + w[h], sigma_2, observed=np.exp(0.3 * second.y))


@canonical("u", tags=("several responses",))
def other_likelihoods() -> None:
    # What holds no effect stays as it is.
    data = Rows()
    g = data.index(5)
    sigma, tau = scales("sigma", "tau")
    p = pm.Beta("p", 1.0, 1.0)
    u = pm.Normal("u", 0.0, tau, shape=5)
    pm.Bernoulli("answer", p, observed=np.arange(10) % 3 == 0)
    pm.Normal("noise", 0.0, sigma, observed=np.linspace(-1.0, 1.0, 7))
    pm.Potential("penalty", -(sigma**2))
    pm.Normal("y", u[g], sigma, observed=data.y)


# --- Data, Deterministics, spellings --------------------------------------------------------------


@canonical("alpha", "beta", "u", "v", tags=("data",))
def data_predictors() -> None:
    data = Rows()
    g = data.index(5)
    x = pm.Data("x", data.x)
    y = pm.Data("y_observed", data.y)
    sigma, tau_u, tau_v = scales("sigma", "tau_u", "tau_v")
    alpha, beta = pm.Normal("alpha", 0.0, 5.0), pm.Normal("beta", 0.0, 2.0)
    u = pm.Normal("u", 0.0, tau_u, shape=5)
    v = pm.Normal("v", 0.0, tau_v, shape=5)
    pm.Normal("y", alpha + beta * x + u[g] + v[g] * x, sigma, observed=y)


@canonical("u", tags=("data", "deterministics"))
def data_indices() -> None:
    data = Rows()
    codes = data.index(5)
    model = pm.modelcontext(None)
    model.add_coords({"group": list("abcde"), "row": np.arange(data.n)})
    g = pm.Data("g", codes, dims="row")
    x = pm.Data("x", data.x, dims="row")
    sigma, tau = scales("sigma", "tau")
    beta = pm.Laplace("beta", 0.0, 1.0)
    u = pm.Normal("u", 0.0, tau, dims="group")
    mu = pm.Deterministic("mu", beta * x + u[g], dims="row")
    pm.Normal("y", mu, sigma, observed=data.y, dims="row")


@canonical("u", "alpha", tags=("deterministics",))
def dependent_deterministics() -> None:
    data = Rows()
    g = data.index(5)
    model = pm.modelcontext(None)
    model.add_coord("group", list("abcde"))
    sigma, tau = scales("sigma", "tau")
    u = pm.Normal("u", 0.0, tau, dims="group")
    alpha = pm.Normal("alpha", 0.0, 5.0)
    intercept = pm.Deterministic("intercept", alpha + u, dims="group")
    pm.Deterministic("contrast", intercept[1] - intercept[0])
    pm.Deterministic("odds", pt.exp(u), dims="group")
    pm.Deterministic("ratio", tau**2 / (tau**2 + sigma**2))
    pm.Normal("y", intercept[g], sigma, observed=data.y)


@canonical("b")
def written_into_zeros() -> None:
    # A reference level of zero.
    data = Rows()
    g = data.index(4)
    sigma, tau = scales("sigma", "tau")
    b = pm.Normal("b", 0.0, tau, shape=3)
    effect = pt.zeros(4)[1:].set(b)
    pm.Normal("y", effect[g], sigma, observed=data.y)


@canonical("b", "u")
def joined_with_zero() -> None:
    data = Rows(n=40)
    g, condition = data.index(6), data.index(4)
    sigma, tau_b, tau_u = scales("sigma", "tau_b", "tau_u")
    b = pm.Normal("b", 0.0, tau_b, shape=3)
    u = pm.Normal("u", 0.0, tau_u, shape=6)
    effect = pt.concatenate([[0.0], b])
    pm.Normal("y", effect[condition] + u[g], sigma, observed=data.y)


@canonical("alpha", "b", "u")
def joined_halves() -> None:
    data = Rows()
    g = data.index(6)
    first, second = g[:12], g[12:]
    sigma, tau = scales("sigma", "tau")
    alpha, b = pm.Normal("alpha", 0.0, 5.0), pm.Normal("b", 0.0, 1.0)
    u = pm.Normal("u", 0.0, tau, shape=6)
    mu = pt.concatenate([alpha + u[first], alpha + b + 2.0 * u[second]])
    pm.Normal("y", mu, sigma, observed=data.y)


@canonical("u", "v")
def stacked() -> None:
    data = Rows(n=40)
    g, X = data.index(6), data.design(2)
    sigma, tau_u, tau_v = scales("sigma", "tau_u", "tau_v")
    u = pm.Normal("u", 0.0, tau_u, shape=6)
    v = pm.Normal("v", 0.0, tau_v, shape=6)
    effects = pt.stack([u, v], axis=1)
    pm.Normal("y", (effects[g] * X).sum(axis=1), sigma, observed=data.y)


@canonical("u", "v")
def switched() -> None:
    # The effects of rows above zero are others than those below.
    data = Rows(n=40)
    g = data.index(6)
    sigma, tau_u, tau_v = scales("sigma", "tau_u", "tau_v")
    u = pm.Normal("u", 0.0, tau_u, shape=6)
    v = pm.Normal("v", 0.0, tau_v, shape=6)
    pm.Normal("y", pt.switch(data.x > 0, u[g], v[g]), sigma, observed=data.y)


@canonical("u")
def signs_and_quotients() -> None:
    data = Rows()
    g = data.index(5)
    sigma, tau = scales("sigma", "tau")
    scale = pm.HalfNormal("scale", 1.0)
    u = pm.Normal("u", 0.3, tau, shape=5)
    pm.Normal("y", 2.0 - (-u[g] / (1.0 + scale) - 0.5) / 3.0, sigma, observed=data.y)


# --- Partly supported -----------------------------------------------------------------------------


@canonical("alpha", "u", tags=("partial",))
def effect_in_sigma_too() -> None:
    # A Normal variable in sigma stays sampled; it is a parameter for the others.
    data = Rows(n=40)
    g = data.index(5)
    sigma, tau, omega = scales("sigma", "tau", "omega")
    alpha = pm.Normal("alpha", 0.0, 5.0)
    u = pm.Normal("u", 0.0, tau, shape=5)
    v = pm.Normal("v", 0.0, omega, shape=5)
    pm.Normal("y", alpha + u[g], sigma * pt.exp(v[g]), observed=data.y)


@canonical("alpha", "u", "w", tags=("crossed", "partial"))
def sigma_by_cell() -> None:
    # Location and scale by subject and condition: 24 sigmas for 72 rows.
    data = Rows(n=72)
    subject, item = np.tile(np.arange(12), 6), data.index(5)
    condition = np.where(np.arange(72) % 24 < 12, -1.0, 1.0)
    tau, omega = scales("tau", "omega")
    alpha = pm.Normal("alpha", 0.0, 5.0)
    u = pm.Normal("u", 0.0, tau, shape=(12, 2))
    w = pm.Normal("w", 0.0, 0.7, shape=5)
    s = pm.StudentT("s", nu=4, sigma=omega, shape=12)
    mu = alpha + u[subject, 0] + condition * u[subject, 1] + w[item]
    slope = pm.StudentT("slope", nu=4)
    pm.Normal("y", mu, pt.exp(s[subject] + slope * condition), observed=data.y)


@canonical("u", tags=("crossed", "partial"))
def robust_second_factor() -> None:
    data = Rows(n=40)
    g, h = data.index(6), data.index(4)
    sigma, tau_u, tau_v = scales("sigma", "tau_u", "tau_v")
    u = pm.Normal("u", 0.0, tau_u, shape=6)
    v = pm.StudentT("v", nu=4, mu=0.0, sigma=tau_v, shape=4)
    pm.Normal("y", u[g] + v[h], sigma, observed=data.y)


@canonical("u", tags=("partial",))
def nonlinear_coefficient() -> None:
    data = Rows()
    g = data.index(5)
    sigma, tau = scales("sigma", "tau")
    log_rate = pm.Normal("log_rate", 0.0, 0.5)
    u = pm.Normal("u", 0.0, tau, shape=5)
    pm.Normal("y", u[g] * pt.exp(-pt.exp(log_rate) * data.x**2), sigma, observed=data.y)


# --- Nested factors -------------------------------------------------------------------------------


@canonical("school", "class_", "student", tags=("hierarchical", "nested"))
def three_levels() -> None:
    data = Rows(n=40)
    student_of = data.index(12)
    class_of, school_of = np.arange(12) // 2, np.array([0, 0, 1, 1, 1, 2])
    sigma, tau_school, tau_class, tau_student = scales(
        "sigma", "tau_school", "tau_class", "tau_student"
    )
    school = pm.Normal("school", 1.0, tau_school, shape=3)
    class_ = pm.Normal("class_", school[school_of], tau_class)
    student = pm.Normal("student", class_[class_of], tau_student)
    pm.Normal("y", student[student_of], sigma, observed=data.y)


@canonical("beta", "school", "class_", "student", "item", tags=("crossed", "nested"))
def nested_slopes_and_items() -> None:
    # Nested in the data, correlated slopes in between, items across, two likelihoods.
    data = Rows(n=48)
    student, item = data.index(12), data.index(4)
    class_of, school_of = np.arange(12) // 2, np.array([0, 0, 1, 1, 1, 2])
    sigma, tau, omega, kappa = scales("sigma", "tau", "omega", "kappa")
    lam = pm.HalfNormal("lam", 1.0)
    beta = pm.Normal("beta", 0.0, 2.0, shape=2)
    school = pm.Normal("school", 0.0, tau, shape=3)
    class_ = pm.MvNormal("class_", np.zeros(2), chol=lkj("chol", 2), shape=(6, 2))
    student_ = pm.Normal("student", 0.0, omega, shape=12)
    items = pm.Normal("item", 0.0, kappa, shape=4)
    c = class_of[student]
    mu = beta[0] + beta[1] * data.x + school[school_of[c]] + class_[c, 0] + class_[c, 1] * data.x
    mu = mu + lam * student_[student] + items[item]
    y = data.y
    pm.Normal("first", mu[:30], sigma, observed=y[:30])
    pm.Normal("second", mu[30:], sigma, observed=y[30:])


# --- Effects that sum to zero ---------------------------------------------------------------------


@canonical("alpha", "u", tags=("zero sum",))
def zero_sum() -> None:
    data = Rows()
    g = data.index(5)
    sigma, tau = scales("sigma", "tau")
    alpha = pm.Normal("alpha", 0.0, 5.0)
    u = pm.ZeroSumNormal("u", tau, shape=5)
    pm.Normal("y", alpha + u[g], sigma, observed=data.y)


@canonical("u", "v", "w", tags=("zero sum", "crossed"))
def zero_sum_interaction() -> None:
    # Rows by columns, by group; and one factor that does not sum to zero.
    data = Rows(n=48)
    g, h, k = data.index(3), data.index(4), data.index(2)
    sigma, tau, omega = scales("sigma", "tau", "omega")
    kappa = pm.HalfNormal("kappa", 1.0, shape=2)
    u = pm.ZeroSumNormal("u", tau, shape=(3, 4), n_zerosum_axes=2)
    v = pm.ZeroSumNormal("v", kappa[:, None], shape=(2, 4))
    w = pm.Normal("w", 0.0, omega, shape=6)
    pm.Normal("y", u[g, h] + v[k, h] + w[data.index(6)], sigma, observed=data.y)


# --- As users write them, again -------------------------------------------------------------------


@canonical("u_0", "u_1", "u_2", "u_3", "u_4", "v_0", "v_1", "v_2", "v_3", "v_4")
def scalars_in_a_list() -> None:
    # Python loops; intercepts share a scale, slopes have their own.
    data = Rows(n=40)
    g = data.index(5)
    sigma, tau = scales("sigma", "tau")
    omega = pm.HalfNormal("omega", 1.0, shape=5)
    us = [pm.Normal(f"u_{i}", 0.5, tau) for i in range(5)]
    vs = [pm.Normal(f"v_{i}", 0.0, omega[i]) for i in range(5)]
    mu = pt.stack(us)[g] + pt.stack(vs)[g] * data.x
    pm.Normal("y", mu, sigma, observed=data.y)


@canonical("u_0", "u_1", "u_2")
def indicators_in_a_loop() -> None:
    data = Rows()
    g = data.index(3)
    sigma, tau = scales("sigma", "tau")
    mu = 1.0
    for i in range(3):
        mu = mu + pm.Normal(f"u_{i}", 0.0, tau) * (g == i)
    pm.Normal("y", mu, sigma, observed=data.y)


@canonical("z", tags=("hierarchical",))
def noncentred_by_level() -> None:
    # Each level has its own scale and a sampled mean.
    data = Rows()
    g = data.index(6)
    (sigma,) = scales("sigma")
    mu = pm.StudentT("mu", nu=4, mu=0.0, sigma=1.0)
    tau = pm.HalfNormal("tau", 1.0, shape=6)
    z = pm.Normal("z", 0.0, 1.0, shape=6)
    u = pm.Deterministic("u", mu + tau * z)
    pm.Normal("y", u[g], sigma, observed=data.y)


@canonical("z", tags=("correlated",))
def noncentred_stds() -> None:
    data = Rows(n=40)
    g, X = data.index(6), data.design(3)
    (sigma,) = scales("sigma")
    stds = pm.HalfNormal("stds", 1.0, shape=3)
    z = pm.Normal("z", 0.0, 1.0, shape=(6, 3))
    u = z * stds
    pm.Normal("y", (u[g] * X).sum(axis=1), sigma, observed=data.y)


@canonical("z_0", "z_1", tags=("correlated",))
def noncentred_cholesky_by_hand() -> None:
    data = Rows(n=40)
    g = data.index(6)
    sigma, tau_0, tau_1 = scales("sigma", "tau_0", "tau_1")
    rho = pm.Uniform("rho", -1.0, 1.0)
    z_0 = pm.Normal("z_0", 0.0, 1.0, shape=6)
    z_1 = pm.Normal("z_1", 0.0, 1.0, shape=6)
    u = tau_0 * z_0
    v = tau_1 * (rho * z_0 + pt.sqrt(1.0 - rho**2) * z_1)
    pm.Normal("y", u[g] + v[g] * data.x, sigma, observed=data.y)


@canonical("u", tags=("hierarchical",))
def sampled_group_level_predictor() -> None:
    data = Rows()
    g = data.index(6)
    W = np.column_stack([np.ones(6), np.linspace(-1.0, 1.0, 6)])
    sigma, tau = scales("sigma", "tau")
    gamma = pm.Laplace("gamma", 0.0, 1.0, shape=2)
    u = pm.Normal("u", W @ gamma, tau)
    pm.Normal("y", u[g], sigma, observed=data.y)


@canonical("u")
def weighted_membership() -> None:
    data = Rows(n=40)
    first, second = data.index(6), data.index(6)
    weight = data.rng.uniform(size=40).round(2)
    sigma, tau, lam = scales("sigma", "tau", "lam")
    u = pm.Normal("u", 0.0, tau, shape=6)
    mu = lam * (weight * u[first] + (1 - weight) * u[second])
    pm.Normal("y", mu + 0.3 * data.x, sigma, observed=data.y)


@canonical("u", "v", tags=("several responses",))
def two_responses_with_loadings() -> None:
    # A shared factor with a free loading, and a sigma that both share.
    data = Rows(n=40)
    g = data.index(6)
    y = data.y
    sigma, tau_u, tau_v = scales("sigma", "tau_u", "tau_v")
    lam = pm.Normal("lam", 1.0, 0.5)
    u = pm.Normal("u", 0.0, tau_u, shape=6)
    v = pm.Normal("v", 0.0, tau_v, shape=6)
    pm.Normal("y_1", u[g[:20]], sigma, observed=y[:20])
    pm.Normal("y_2", lam * u[g[20:]] + v[g[20:]] + 0.2, sigma, observed=y[20:])


@canonical("beta", "u", "item", tags=("crossed",))
def fibrosis_like() -> None:
    # The slope's own loading by item: a factor whose design has more columns than effects.
    data = Rows(n=48)
    person, item = data.index(6), data.index(3)
    sigma, tau, kappa = scales("sigma", "tau", "kappa")
    lam = pm.HalfNormal("lam", 1.0, shape=3)
    beta = pm.Normal("beta", 0.0, 2.0)
    u = pm.Normal("u", 0.0, tau, shape=6)
    items = pm.Normal("item", 0.0, kappa, shape=3)
    mu = beta * data.x + pt.exp(0.5 * lam)[item] * u[person] + items[item]
    pm.Normal("y", mu, sigma, observed=data.y)
