"""What cannot be integrated out is refused: by name, with a reason, a way out, and no trace."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from pymc.distributions import transforms
from pytensor.compile.sharedvalue import SharedVariable

import pymc_marginal_lmm as mlmm
from pymc_marginal_lmm import NotMarginalizable
from pymc_marginal_lmm.analysis.priors import is_gaussian

rng = np.random.default_rng(0)
n = 20
g = np.repeat(np.arange(4), 5)
h = np.tile(np.arange(2), 10)
x = rng.normal(size=n)
y = rng.normal(size=n) + g
scores = rng.integers(2, size=n)
GAUSSIAN = "Only Normal, LogNormal and MvNormal likelihoods integrate exactly"


def bad(values: np.ndarray, value: float, at: int = 3) -> np.ndarray:
    return np.where(np.arange(len(values)) == at, value, values)


@dataclass(frozen=True)
class Refused:
    """A model in which something is refused.

    Parameters
    ----------
    name : str
    build : callable
        Adds the variables to the model of the context.
    variable : str
        What is refused.
    reason, remedy : str
        Regular expressions that the two sentences of the message match.
    place : str, default ""
        Part of the description of the graph's operation.
    asked : tuple of str, optional
        ``rvs_to_marginalize``; only ``variable`` by default.
    others : tuple of str, default ("a",)
        What is integrated out if nothing is asked for.
    """

    name: str
    build: Callable[[], None]
    variable: str
    reason: str
    remedy: str
    place: str = ""
    asked: tuple[str, ...] | None = None
    others: tuple[str, ...] = ("a",)

    def __str__(self) -> str:
        return self.name

    def model(self) -> pm.Model:
        with pm.Model(coords={"level": range(4)}) as model:
            self.build()
        return model


REFUSED: list[Refused] = []


def refused(
    variable: str,
    reason: str,
    remedy: str,
    place: str = "",
    asked: tuple[str, ...] | None = None,
    others: tuple[str, ...] = ("a",),
) -> Callable:
    """Register a function, which runs inside a fresh model, as a refused model."""

    def register(build: Callable[[], None]) -> Callable[[], None]:
        name = build.__name__.removeprefix("_")
        REFUSED.append(Refused(name, build, variable, reason, remedy, place, asked, others))
        return build

    return register


def intercept() -> pt.TensorVariable:
    return pm.Normal("a", 0.0, 5.0)


def effects(levels: int = 4, **kwargs: object) -> pt.TensorVariable:
    return pm.Normal("u", 0.0, pm.HalfNormal("tau"), shape=levels, **kwargs)


def sigma() -> pt.TensorVariable:
    return pm.HalfNormal("sigma")


# --- In the predictor -------------------------------------------------------------------------


@refused("u", "not linear", "leave this variable sampled", place="exp")
def _exp() -> None:
    pm.Normal("y", intercept() + pt.exp(effects())[g], sigma(), observed=y)


@refused("u", "not linear", "leave this variable sampled", place="pow → 'squares'")
def _square_with_a_name() -> None:
    u = effects()
    squares = u**2
    squares.name = "squares"
    pm.Normal("y", intercept() + (u + squares)[g], sigma(), observed=y)


@refused("u", "not linear", "leave this variable sampled", place="exp")
def _through_a_deterministic() -> None:
    pm.Deterministic("ratio", pt.exp(effects()))
    model = pm.modelcontext(None)
    pm.Normal("y", intercept() + model["ratio"][g], sigma(), observed=y)


@refused("u", "divides something", "leave this variable sampled", place="div")
def _denominator() -> None:
    pm.Normal("y", intercept() + x / effects()[g], sigma(), observed=y)


@refused("u", "not linear|condition", "leave this variable sampled", place="gt")
def _condition() -> None:
    u = effects()
    pm.Normal("y", intercept() + pt.switch(u > 0, u, 0.0)[g], sigma(), observed=y)


@refused("u", "rounded to an integer", "leave this variable sampled", place="cast")
def _rounded() -> None:
    pm.Normal("y", intercept() + effects().astype("int64")[g], sigma(), observed=y)


@refused("w", "multiplied by another effect", "one of the two", "mul", ("u", "w"), ("a", "u"))
def _product() -> None:
    w = pm.Normal("w", 1.0, 0.5, shape=2)
    pm.Normal("y", intercept() + effects()[g] * w[h], sigma(), observed=y)


@refused("u", "multiplied by another effect", "one of the two", "dot", ("u", "w"), ("w",))
def _bilinear() -> None:
    w = pm.Normal("w", 1.0, 0.5, shape=(4, n))
    pm.Normal("y", effects() @ w, sigma(), observed=y)


# --- Elsewhere in the model -------------------------------------------------------------------


@refused("u", "standard deviation of 'y'", "leave it sampled")
def _in_sigma() -> None:
    pm.Normal("y", intercept(), pt.exp(effects())[g], observed=y)


@refused("u", "standard deviation of 'y'", "leave it sampled")
def _in_mean_and_sigma() -> None:
    u = effects()
    pm.Normal("y", intercept() + u[g], pt.exp(u)[g], observed=y)


@refused("u", "standard deviation of 'z'", "leave it sampled")
def _in_another_sigma() -> None:
    u = effects()
    pm.Normal("y", intercept() + u[g], sigma(), observed=y)
    pm.Normal("z", 0.0, pt.exp(u), observed=np.ones(4))


@refused("u", "Potential 'closeness' depends on it", "Remove the Potential")
def _potential() -> None:
    u = effects()
    pm.Potential("closeness", -(u.sum() ** 2))
    pm.Normal("y", intercept() + u[g], sigma(), observed=y)


@refused("u", "likelihood of 'y' is StudentT", "a sampled weight per row", others=())
def _student_likelihood() -> None:
    pm.StudentT("y", nu=4, mu=intercept() + effects()[g], sigma=sigma(), observed=y)


@refused("u", "likelihood of 'y' is Bernoulli", GAUSSIAN, others=())
def _bernoulli_likelihood() -> None:
    pm.Bernoulli("y", logit_p=intercept() + effects()[g], observed=scores)


@refused("u", "likelihood of 'y' is Censored", GAUSSIAN, others=())
def _censored_likelihood() -> None:
    latent = pm.Normal.dist(intercept() + effects()[g], sigma())
    pm.Censored("y", latent, lower=0.0, upper=None, observed=np.maximum(y, 0.0))


@refused("u", "likelihood of 'y' is TruncatedNormal", GAUSSIAN, others=())
def _truncated_likelihood() -> None:
    latent = pm.Normal.dist(intercept() + effects()[g], sigma())
    pm.Truncated("y", latent, lower=-9.0, upper=9.0, observed=y)


@refused("u", "likelihood of 'y' is TruncatedStudentT", GAUSSIAN, others=())
def _truncated_student_likelihood() -> None:
    latent = pm.StudentT.dist(nu=4, mu=intercept() + effects()[g], sigma=sigma())
    pm.Truncated("y", latent, lower=-9.0, upper=9.0, observed=y)


@refused("u", "likelihood of 'y' is CustomDist", "If it is Normal, write pm.Normal", others=())
def _likelihood_from_logp() -> None:
    def logp(value: pt.TensorVariable, mu: pt.TensorVariable) -> pt.TensorVariable:
        return -((value - mu) ** 2)

    pm.CustomDist("y", intercept() + effects()[g], logp=logp, observed=y)


@refused("u", "likelihood of 'y' is CustomDist", "If it is Normal, write pm.Normal", others=())
def _likelihood_from_dist() -> None:
    def dist(mu: pt.TensorVariable, size: pt.TensorVariable) -> pt.TensorVariable:
        return pm.Normal.dist(mu, 1.0, size=size)

    pm.CustomDist("y", intercept() + effects()[g], dist=dist, observed=y)


@refused("u", "likelihood of 'y' is Mixture", GAUSSIAN, others=())
def _mixture_likelihood() -> None:
    means = intercept() + effects()[g][:, None] + np.array([0.0, 1.0])
    pm.NormalMixture("y", w=[0.5, 0.5], mu=means, sigma=sigma(), observed=y)


@refused("u", "prior is CustomDist", "Only Normal, MvNormal, ZeroSumNormal, MatrixNormal")
def _custom_prior() -> None:
    def dist(tau: pt.TensorVariable, size: pt.TensorVariable) -> pt.TensorVariable:
        return pm.Normal.dist(0.0, tau, size=size)

    u = pm.CustomDist("u", pm.HalfNormal("tau"), dist=dist, shape=4)
    pm.Normal("y", intercept() + u[g], sigma(), observed=y)


@refused("u", "its init_dist is StudentT", "With a Normal init_dist it can be integrated out")
def _autoregressive_from_a_student_t() -> None:
    start = pm.StudentT.dist(nu=4.0)
    u = pm.AR("u", rho=[0.5], sigma=1.0, init_dist=start, steps=3)
    pm.Normal("y", intercept() + u[g], sigma(), observed=y)


@refused("u", "its init_dist is Flat", "With a Normal init_dist it can be integrated out")
def _walk_from_anywhere() -> None:
    u = pm.GaussianRandomWalk("u", sigma=1.0, init_dist=pm.Flat.dist(), steps=3)
    pm.Normal("y", intercept() + u[g], sigma(), observed=y)


@refused("u", "its innovation_dist is Laplace", "With a Normal innovation_dist it can be")
def _walk_of_laplace_steps() -> None:
    start, step = pm.Normal.dist(0.0, 1.0), pm.Laplace.dist(0.0, 1.0)
    u = pm.RandomWalk("u", init_dist=start, innovation_dist=step, steps=3)
    pm.Normal("y", intercept() + u[g], sigma(), observed=y)


@refused("u", "prior is GARCH11", "Only Normal, MvNormal, ZeroSumNormal, MatrixNormal")
def _volatility() -> None:
    u = pm.GARCH11("u", omega=1.0, alpha_1=0.2, beta_1=0.2, initial_vol=1.0, shape=4)
    pm.Normal("y", intercept() + u[g], sigma(), observed=y)


@refused("u", "area 3 has no neighbours", "Give such areas a prior of their own")
def _island() -> None:
    u = pm.CAR("u", np.zeros(4), np.diag([1, 1, 0], 1) + np.diag([1, 1, 0], -1), 0.5, 1.0)
    pm.Normal("y", intercept() + u[g], sigma(), observed=y)


@refused("u", "its graph is in 2 parts", "Write one ICAR per part")
def _archipelago() -> None:
    u = pm.ICAR("u", np.diag([1, 0, 1], 1) + np.diag([1, 0, 1], -1), sigma=pm.HalfNormal("tau"))
    pm.Normal("y", intercept() + u[g], sigma(), observed=y)


@refused(
    "drift",
    "it enters the scale of 'u'",
    "Leave it sampled",
    asked=("drift", "u"),
    others=("a", "u"),
)
def _coefficients_of_an_autoregression() -> None:
    drift = pm.Normal("drift", 0.5, 0.1)
    u = pm.AR("u", rho=[drift], sigma=1.0, init_dist=pm.Normal.dist(0.0, 1.0), steps=3)
    pm.Normal("y", intercept() + u[g], sigma(), observed=y)


@refused("u", "likelihood of 'y' is MvStudentT", GAUSSIAN)
def _multivariate_likelihood() -> None:
    pm.Normal("z", intercept(), 1.0, observed=y)
    pm.MvStudentT("y", nu=4, mu=effects(), scale=np.eye(4), observed=y.reshape(-1, 4))


@refused("u", "likelihood of 'y_observed' is PartialObserved", "mark all of their elem", others=())
def _multivariate_likelihood_with_holes() -> None:
    holes = y.reshape(-1, 4).copy()
    holes[0, 1] = np.nan
    with warnings.catch_warnings(action="ignore"):  # that values are imputed
        pm.MvNormal("y", intercept() + effects(), np.eye(4), observed=holes)


@refused("u", "it enters the covariance of 'y'", "effects in covariance cannot", others=("a",))
def _covariance_of_effects() -> None:
    pm.MvNormal("y", intercept() + np.zeros(4), pt.diag(pt.exp(effects())), observed=y[:4])


@refused("u", "covariance of 'y' is not positive definite", "correct the covariance", others=())
def _singular_covariance() -> None:
    pm.MvNormal("y", intercept() + effects(), np.ones((4, 4)), observed=y.reshape(-1, 4))


@refused("u", "likelihood of 'z' is Poisson", GAUSSIAN)
def _one_of_two_likelihoods() -> None:
    u = effects()
    pm.Normal("y", intercept() + u[g], sigma(), observed=y)
    pm.Poisson("z", pt.exp(u), observed=[0, 2, 1, 3])


@refused("u", "likelihood of 'y' is Minibatch", "Leave out total_size", others=())
def _minibatch() -> None:
    pm.Normal("y", intercept() + effects()[g], sigma(), observed=y, total_size=1000)


@refused("u", "enters no likelihood", "Remove it, or leave it sampled")
def _unused() -> None:
    effects()
    pm.Normal("y", intercept(), sigma(), observed=y)


@refused("u", "enters no likelihood", "Remove it, or leave it sampled")
def _only_in_a_deterministic() -> None:
    pm.Deterministic("twice", 2 * effects())
    pm.Normal("y", intercept(), sigma(), observed=y)


@refused("u", r"enters the prior of 'rate' \(Gamma\), which stays sampled", "Leave it sampled")
def _parent_of_a_sampled_variable() -> None:
    u = effects()
    rate = pm.Gamma("rate", 2.0, pt.exp(u), shape=4)
    pm.Normal("y", intercept() + u[g], rate[g], observed=y)


@refused("u", "prior mean of 'w', which stays", "Integrate out 'w' as well", others=("a", "u", "w"))
def _parent_of_an_effect_that_was_not_asked_for() -> None:
    w = pm.Normal("w", effects(), 0.5, shape=4)
    pm.Normal("y", intercept() + w[g], sigma(), observed=y)


@refused("m", "prior mean of 'u', which stays", "'u' and 'w' as well", others=("a", "m", "u", "w"))
def _grandparent_of_an_effect_that_was_not_asked_for() -> None:
    u = pm.Normal("u", pm.Normal("m"), 1.0, shape=4)
    w = pm.Normal("w", u, 0.5, shape=4)
    pm.Normal("y", intercept() + w[g], sigma(), observed=y)


@refused("u", "prior mean of 'w', which stays sampled", "Leave it sampled", others=("a",))
def _parent_of_an_effect_that_has_to_stay_sampled() -> None:
    w = pm.Normal("w", effects(), 0.5, shape=4)
    pm.Normal("y", intercept() + pt.exp(w)[g], sigma(), observed=y)


@refused("u", "scale of 'w', which stays sampled", "Leave it sampled", others=("a", "w"))
def _in_the_scale_of_an_effect_that_was_not_asked_for() -> None:
    w = pm.Normal("w", 0.0, pt.exp(effects()), shape=4)
    pm.Normal("y", intercept() + w[g], sigma(), observed=y)


@refused("u", "scale of 'w'", "Leave it sampled", asked=("u", "w"), others=("a", "w"))
def _in_the_scale_of_an_effect() -> None:
    w = pm.Normal("w", 0.0, pt.exp(effects()), shape=4)
    pm.Normal("y", intercept() + w[g], sigma(), observed=y)


# --- The prior --------------------------------------------------------------------------------


@refused("u", "prior is StudentT", "Only Normal, MvNormal, ZeroSumNormal, MatrixNormal")
def _student_prior() -> None:
    u = pm.StudentT("u", nu=3, sigma=pm.HalfNormal("tau"), shape=4)
    pm.Normal("y", intercept() + u[g], sigma(), observed=y)


@refused(
    "tau",
    "prior is HalfNormal",
    "Only Normal, MvNormal, ZeroSumNormal, MatrixNormal",
    others=("a", "u"),
)
def _standard_deviation() -> None:
    pm.Normal("y", intercept() + effects()[g], sigma(), observed=y)


@refused("u", "prior is Truncated", "Only Normal, MvNormal, ZeroSumNormal, MatrixNormal")
def _truncated_prior() -> None:
    u = pm.Truncated("u", pm.Normal.dist(0.0, 1.0), lower=0.0, upper=None, shape=4)
    pm.Normal("y", intercept() + u[g], sigma(), observed=y)


@refused("u", r"value is transformed \(Ordered\)", "Remove the transform")
def _transform() -> None:
    u = effects(default_transform=transforms.ordered, initval=np.arange(4.0))
    pm.Normal("y", intercept() + u[g], sigma(), observed=y)


@refused("u", "1 of its 5 elements have a flat prior and no data", "Normal prior")
def _flat_level_without_data() -> None:
    pm.Normal("y", intercept() + pm.Flat("u", shape=5)[g], sigma(), observed=y)


@refused("u", "4 of its 4 elements have a flat prior and no data", "Normal prior")
def _flat_effect_times_zero() -> None:
    pm.Normal("y", intercept() + pm.Flat("u", shape=4)[g] * np.zeros(n), sigma(), observed=y)


@refused("u", "shape depends on a sampled variable", "Leave it sampled")
def _random_number_of_levels() -> None:
    k = pm.DiscreteUniform("k", 4, 6)
    u = pm.Normal("u", 0.0, 1.0, shape=k)
    pm.Normal("y", intercept() + u[:4][g], sigma(), observed=y)


# --- Indices and shapes -----------------------------------------------------------------------


@refused("u", r"out of range \(index 3 .* size 3\)", "as many levels", place="subtensor")
def _index_out_of_range() -> None:
    pm.Normal("y", intercept() + effects(3)[g], sigma(), observed=y)


@refused("u", "out of range", "as many levels", place="subtensor")
def _negative_index_out_of_range() -> None:
    pm.Normal("y", intercept() + effects(4)[g - 5], sigma(), observed=y)


@refused("u", "out of range", "from 0", place="subtensor")
def _index_that_counts_from_one() -> None:
    codes = pm.Data("codes", g + 1)
    u = pm.Normal("u", 0.0, pm.HalfNormal("tau"), dims="level")
    pm.Normal("y", intercept() + u[codes], sigma(), observed=y)


@refused("u", "out of range", "as many levels", place="subtensor")
def _column_out_of_range() -> None:
    u = pm.MvNormal("u", np.zeros(2), np.eye(2), shape=(4, 2))
    pm.Normal("y", intercept() + u[g, 0] + u[g, 2] * x, sigma(), observed=y)


@refused("u", "index or a shape depends on a sampled variable", "data or constants")
def _random_index() -> None:
    k = pm.Categorical("k", p=np.full(4, 0.25), shape=n)
    pm.Normal("y", intercept() + effects()[k], sigma(), observed=y)


@refused("u", "shape", "leave|level|length", others=())
def _levels_do_not_match_the_rows() -> None:
    """With dims, shapes are symbolic: PyTensor does not see it when the model is written."""
    u = pm.Normal("u", 0.0, pm.HalfNormal("tau"), dims="level")
    pm.Normal("y", intercept() + u + pm.Data("x", x), sigma(), observed=y)


@refused("u", "shape", "leave|level|length")
def _levels_do_not_match_the_design() -> None:
    design = pm.Data("design", np.ones((n, 5)))
    u = pm.Normal("u", 0.0, pm.HalfNormal("tau"), dims="level")
    pm.Normal("y", intercept() + pt.dot(design, u), sigma(), observed=y)


# --- What was before stays --------------------------------------------------------------------


def snapshot(model: pm.Model) -> dict[str, object]:
    """Everything that a model consists of: the same objects, the same values, the same density."""
    graphs = {v.name: (v, v.owner, *(v.owner.inputs if v.owner else ())) for v in model.basic_RVs}
    shared = {
        name: (variable, variable.get_value().tobytes())
        for name, variable in (model.named_vars | model.dim_lengths).items()
        if isinstance(variable, SharedVariable)
    }
    return {
        "names": list(model.named_vars.items()),
        "free": list(model.free_RVs),
        "observed": list(model.observed_RVs),
        "deterministics": list(model.deterministics),
        "potentials": list(model.potentials),
        "values": dict(model.rvs_to_values),
        "transforms": dict(model.rvs_to_transforms),
        "initial": {rv.name: repr(value) for rv, value in model.rvs_to_initial_values.items()},
        "dims": dict(model.named_vars_to_dims),
        "coords": dict(model.coords),
        "graphs": graphs,
        "shared": shared,
    }


def log_densities(model: pm.Model) -> list[np.ndarray] | str:
    """Evaluate each term at the initial point; the message if even the plain model cannot."""
    function = model.compile_fn(
        model.logp(sum=False),
        inputs=model.value_vars,
        mode="FAST_COMPILE",
        on_unused_input="ignore",
    )
    try:
        return function(model.initial_point(random_seed=1))
    except (IndexError, ValueError) as error:
        return type(error).__name__


@contextmanager
def untouched(model: pm.Model) -> Iterator[None]:
    """Assert that what happens in the block leaves a model as it was."""
    before = snapshot(model)
    yield
    after = snapshot(model)
    for what, value in before.items():
        assert after[what] == value, what


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_refusal(case: Refused) -> None:
    model = case.model()
    densities = log_densities(model)
    with untouched(model), pytest.raises(NotMarginalizable) as caught:
        mlmm.marginalize(model, list(case.asked or (case.variable,)))
    np.testing.assert_equal(log_densities(model), densities)
    error = caught.value
    assert error.variable == case.variable
    caught.match(
        rf"^Cannot integrate out '{case.variable}': .*({case.reason}).*\. .*({case.remedy})"
    )
    assert case.place in error.place
    assert not case.place or f"(at {error.place})" in str(error)


OF_SCALES_ONLY = {
    "in_sigma",
    "covariance_of_effects",
    "coefficients_of_an_autoregression",
    "in_the_scale_of_an_effect_that_was_not_asked_for",
    "in_the_scale_of_an_effect",
}
"""Nobody expects parameters of standard deviations to go, and no warning names them."""


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_all_that_can_be_is_integrated_out(case: Refused) -> None:
    """Asking for all leaves the rest sampled, and warns once if there is nothing to do."""
    model = case.model()
    with untouched(model), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        marginal = mlmm.marginalize(model)
    normal = {rv.name for rv in model.free_RVs if is_gaussian(rv)} - set(case.others)
    if case.name in OF_SCALES_ONLY:
        normal = set()
    if case.others and not normal:
        assert [str(warning.message) for warning in caught] == []
        assert marginal is not model
    else:
        (warning,) = caught
        assert warning.category is UserWarning
        assert warning.filename == __file__
        message = str(warning.message)
        assert ("No variable of this model can be integrated out" in message) is not bool(
            case.others
        )
        assert set(re.findall(r"'(\w+)' \(", message)) >= normal
    left = {rv.name for rv in model.free_RVs} - {rv.name for rv in marginal.free_RVs}
    assert left == set(case.others)


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_explained(case: Refused) -> None:
    """What ``marginalize`` raises is what ``explain`` shows."""
    model = case.model()
    with untouched(model):
        explanation = mlmm.explain(model, list(case.asked or (case.variable,)))
    refusal = explanation.refusals[case.variable]
    assert re.search(case.reason, refusal.reason)
    assert case.place in refusal.place
    assert case.variable in explanation.sampled
    shown = explanation._repr_html_()
    assert f"<td>{escape(refusal.reason)}</td><td>{escape(refusal.place)}</td>" in shown


# --- Names ------------------------------------------------------------------------------------


def ordinary() -> pm.Model:
    with pm.Model() as model:
        u = effects()
        covariate = pm.Data("covariate", x)
        pm.Deterministic("mu", intercept() + u[g] + 0.5 * covariate)
        pm.Potential("nothing", pt.constant(0.0))
        pm.Normal("y", model["mu"], sigma(), observed=y)
    return model


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("v", "no variable of that name"),
        ("", "no variable of that name"),
        ("tau_log__", "no variable of that name"),
        ("y", "not a free random variable"),
        ("mu", "not a free random variable"),
        ("covariate", "not a free random variable"),
        ("nothing", "not a free random variable"),
    ],
)
def test_names_that_are_not_free_variables(name: str, reason: str) -> None:
    model = ordinary()
    for verb in (mlmm.marginalize, mlmm.explain):
        for names in (name, [name], ["u", name]):
            with untouched(model), pytest.raises(NotMarginalizable, match=reason) as caught:
                verb(model, names)
            assert caught.value.variable == name
            assert "Free variables are: tau, u, a, sigma." in str(caught.value)


def test_variables_that_are_not_free_variables() -> None:
    model = ordinary()
    for name in ("y", "mu", "covariate"):
        with untouched(model), pytest.raises(NotMarginalizable, match="not a free random variable"):
            mlmm.marginalize(model, model[name])


def test_variable_of_another_model() -> None:
    model, other = ordinary(), ordinary()
    with untouched(model), pytest.raises(NotMarginalizable, match="another model") as caught:
        mlmm.marginalize(model, [other["u"]])
    assert caught.value.variable == "u"


def test_variable_without_a_model() -> None:
    model = ordinary()
    with untouched(model), pytest.raises(NotMarginalizable, match="no variable of that name"):
        mlmm.marginalize(model, pt.vector("elsewhere"))


def test_value_variable() -> None:
    """A value variable has the name of its random variable, but is another object."""
    model = ordinary()
    with untouched(model), pytest.raises(NotMarginalizable, match="'u'"):
        mlmm.marginalize(model, model.rvs_to_values[model["u"]])


@pytest.mark.parametrize("names", ["u", ["u"], ("u",), ["u", "u"]], ids=str)
def test_names_that_are_taken(names: str | Sequence[str]) -> None:
    model = ordinary()
    with untouched(model):
        marginal = mlmm.marginalize(model, names)
    assert [rv.name for rv in marginal.free_RVs] == ["tau", "a", "sigma"]


def test_variables_that_are_taken() -> None:
    model = ordinary()
    with untouched(model):
        both = mlmm.marginalize(model, [model["a"], "u"])
    assert [rv.name for rv in both.free_RVs] == ["tau", "sigma"]


def without_likelihood(potential: bool) -> pm.Model:
    with pm.Model() as model:
        u, a = effects(), intercept()
        if potential:
            pm.Potential("loglik", pm.logp(pm.Normal.dist(a + u[g], 1.0), y).sum())
    return model


@pytest.mark.parametrize("potential", [False, True])
@pytest.mark.parametrize("names", [None, "u", ["u", "a"]], ids=str)
def test_model_without_likelihood(potential: bool, names: str | None) -> None:
    """Explained, and refused, with the true reason: also if it has one, as a Potential."""
    model = without_likelihood(potential)
    reason = "Potential 'loglik' depends on it" if potential else "model has no likelihood"
    with untouched(model):
        explanation = mlmm.explain(model, names)
    assert explanation.integrated == ()
    assert explanation.sampled == ("tau", "u", "a")
    refusal = explanation.refusals["u"]
    assert reason in refusal.reason
    assert ("Potential" if potential else "observed=") in refusal.remedy
    if names is not None:
        with untouched(model), pytest.raises(NotMarginalizable, match=reason):
            mlmm.marginalize(model, names)
        return
    with untouched(model), pytest.warns(UserWarning, match=f"No variable.*'u' .*{reason}"):
        assert mlmm.marginalize(model) is model


def test_empty_model() -> None:
    model = pm.Model()
    assert "Nothing can be integrated out" in str(mlmm.explain(model))
    with pytest.warns(UserWarning, match="No variable of this model"):
        assert mlmm.marginalize(model) is model


def test_every_refused_variable_is_explained() -> None:
    """Two refusals of different kinds, and one variable that can be integrated out."""
    with pm.Model() as model:
        u, a = effects(), intercept()
        w = pm.Laplace("w", 0.0, 1.0, shape=2)
        pm.Normal("y", a + pt.tanh(u)[g] + w[h], sigma(), observed=y)
    with untouched(model):
        explanation = mlmm.explain(model)
    assert explanation.integrated == ("a",)
    assert set(explanation.refusals) == set(explanation.sampled) == {"u", "tau", "w", "sigma"}
    assert explanation.refusals["u"].place == "tanh"
    assert "Laplace" in explanation.refusals["w"].reason


# --- Numbers that are not finite --------------------------------------------------------------

NOT_FINITE: dict[str, Callable[[], None]] = {}


def not_finite(build: Callable[[], None]) -> Callable[[], None]:
    NOT_FINITE[build.__name__.removeprefix("_")] = build
    return build


@not_finite
def _nan_in_covariate() -> None:
    pm.Normal("y", intercept() + effects()[g] * bad(x, np.nan), sigma(), observed=y)


@not_finite
def _inf_in_covariate() -> None:
    pm.Normal("y", intercept() + effects()[g] * bad(x, np.inf), sigma(), observed=y)


@not_finite
def _inf_in_covariate_data() -> None:
    covariate = pm.Data("x", bad(x, -np.inf))
    pm.Normal("y", intercept() + effects()[g] * covariate, sigma(), observed=y)


@not_finite
def _nan_in_design() -> None:
    design = np.column_stack([np.ones(n), bad(x, np.nan), h])
    beta = pm.Normal("u", 0.0, 1.0, shape=3)
    pm.Normal("y", design @ beta, sigma(), observed=y)


@not_finite
def _nan_in_offset() -> None:
    slope = pm.HalfNormal("slope")
    pm.Normal("y", effects()[g] + slope * bad(x, np.nan), sigma(), observed=y)


@not_finite
def _inf_in_offset_data() -> None:
    slope = pm.HalfNormal("slope")
    covariate = pm.Data("x", bad(x, np.inf))
    pm.Normal("y", effects()[g] + slope * covariate, sigma(), observed=y)


@not_finite
def _nan_in_sigma() -> None:
    pm.Normal("y", effects()[g], sigma() * bad(np.ones(n), np.nan), observed=y)


@not_finite
def _inf_in_known_sigma() -> None:
    pm.Normal("y", effects()[g], bad(np.ones(n), np.inf), observed=y)


@not_finite
def _nan_in_prior_mean() -> None:
    u = pm.Normal("u", bad(np.zeros(4), np.nan), pm.HalfNormal("tau"), shape=4)
    pm.Normal("y", u[g], sigma(), observed=y)


@not_finite
def _nan_in_prior_scale() -> None:
    u = pm.Normal("u", 0.0, pm.HalfNormal("tau") * bad(np.ones(4), np.nan), shape=4)
    pm.Normal("y", u[g], sigma(), observed=y)


@not_finite
def _inf_in_response() -> None:
    pm.Normal("y", effects()[g], sigma(), observed=bad(y, np.inf))


@not_finite
def _inf_in_response_data() -> None:
    pm.Normal("y", effects()[g], sigma(), observed=pm.Data("data", bad(y, -np.inf)))


@not_finite
def _inf_in_computed_response() -> None:
    data = pm.Data("data", bad(y, np.inf))
    pm.Normal("y", effects()[g], sigma(), observed=data - 1.0)


@not_finite
def _inf_in_positive_response() -> None:
    pm.LogNormal("y", effects()[g], sigma(), observed=bad(np.exp(y), np.inf))


@pytest.mark.parametrize("name", NOT_FINITE)
def test_not_finite(name: str) -> None:
    with pm.Model() as model:
        NOT_FINITE[name]()
    named = "'y'" if any(part in name for part in ("response", "sigma", "offset")) else "'u'"
    for ask in (
        lambda: mlmm.marginalize(model, "u"),
        lambda: mlmm.marginalize(model),
        lambda: mlmm.explain(model),
    ):
        with untouched(model), pytest.raises(NotMarginalizable, match="NaN or infinite") as caught:
            ask()
        assert named in str(caught.value)
        assert caught.value.variable in model.named_vars
        assert caught.value.remedy


def test_the_rows_that_are_not_finite_are_counted() -> None:
    with pm.Model() as model:
        covariate = bad(bad(x, np.nan, at=7), np.inf, at=12)
        pm.Normal("y", effects()[g] * covariate, sigma(), observed=y)
    with pytest.raises(NotMarginalizable, match=r"2 rows \(first: row 7\)"):
        mlmm.marginalize(model, "u")
    with pm.Model() as model:
        pm.Normal("y", effects()[g], sigma(), observed=bad(bad(y, np.inf, at=0), -np.inf, at=1))
    with pytest.raises(NotMarginalizable, match="2 values"):
        mlmm.marginalize(model, "u")


def test_what_no_effect_touches_may_be_anything() -> None:
    """Another likelihood's data are not this package's business."""
    with pm.Model() as model:
        pm.Normal("y", effects()[g], sigma(), observed=y)
        pm.Normal("z", 0.0, pm.HalfNormal("other"), observed=bad(y, np.inf))
    marginal = mlmm.marginalize(model)
    assert [rv.name for rv in marginal.free_RVs] == ["tau", "sigma", "other"]


# --- The exception itself ---------------------------------------------------------------------


def test_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="Cannot integrate out 'u'"):
        mlmm.marginalize(REFUSED[0].model(), "u")


@pytest.mark.parametrize("place", ["", "exp → 'mu'"])
def test_pickling(place: str) -> None:
    error = NotMarginalizable("u", "it is odd", "Leave it.", place)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is NotMarginalizable
    assert vars(again) == vars(error)
    assert str(again) == str(error)
    assert ("exp → 'mu'" in str(error)) is bool(place)


def test_pickling_what_was_raised() -> None:
    with pytest.raises(NotMarginalizable) as caught:
        mlmm.marginalize(REFUSED[0].model(), "u")
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.variable, again.place) == ("u", "exp")
    assert str(again) == str(caught.value)
