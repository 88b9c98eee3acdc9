"""Random models, randomly spelled, against a dense reference that knows only what they mean.

A failing example prints as a program (``Recipe.source``). What is checked on every model:

- the log density of what is left equals the dense one to nine digits, or nothing was integrated;
- everything that an exact method can integrate out is, whatever the spelling;
- ``log p(y, v | θ) = log p(y | θ) + log p(v | y, θ)``, against PyMC's own joint density;
- the user's model is as it was;
- draws of the effects given parameters have the mean and the variance that they should have, and
  so do the moments that are computed without draws;
- of persons, the blocks and the work are those of the simplest spelling of the same model.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from hypothesis import HealthCheck, assume, given, note, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from pymc.logprob.utils import ParameterValueError
from pytensor.graph.basic import Variable
from xarray import Dataset, DataTree

import pymc_marginal_lmm as mlmm
from pymc_marginal_lmm.model.folded import FoldedCholesky, FoldedScale
from pymc_marginal_lmm.values import narrowed
from tests.helpers import INTERPRETER, interpretable, posterior_of_effects
from tests.random_models import (
    Expression,
    HardlyIdentified,
    NotAffine,
    NotIdentified,
    Op,
    Recipe,
    hostile_recipes,
    recipes,
    recipes_of_long_processes,
    recipes_of_persons,
    recipes_of_scales,
    recipes_with_missing_predictors,
    recipes_with_roles,
)
from tests.random_models.expressions import names_in
from tests.random_models.spellings import DIFFERENCE

# A level index of one row and einsum: what PyTensor says about a model is not what is tested.
pytestmark = pytest.mark.filterwarnings("ignore:The same einsum subscript:UserWarning")

missing = pytest.mark.filterwarnings("ignore::pymc.exceptions.ImputationWarning")
QUIET: dict[str, Any] = {"deadline": None, "suppress_health_check": list(HealthCheck)}
CI = settings(**QUIET, derandomize=True, database=None)
LONG = settings(**QUIET, derandomize=False, print_blob=True)


def marginalize(
    model: pm.Model, names: list[str] | None = None, *, fold_scales: bool = False
) -> pm.Model:
    """Marginalize; that not all could be integrated out is a result like others."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No variable of this model", UserWarning)
        warnings.filterwarnings("ignore", "Normal variables stay sampled", UserWarning)
        # One of the spellings of an index counts from the end.
        warnings.filterwarnings("ignore", ".* negative element", UserWarning)
        return mlmm.marginalize(model, names, fold_scales=fold_scales)


def evaluate(model: pm.Model, graph: Variable, recipe: Recipe) -> float:
    """Evaluate at the recipe's point; variables that it does not know are at zero."""
    point, known = recipe.point(), {v.name: v for v in recipe.variables}
    values = [
        known[rv.name].transformed(point[rv.name]) if rv.name in known else np.zeros(rv.type.shape)
        for rv in model.free_RVs
    ]
    return density_at([model.rvs_to_values[rv] for rv in model.free_RVs], narrowed([graph]), values)


def density_at(inputs: list, outputs: list, values: list) -> float:
    """Evaluate a density; -inf where parameters are outside the support."""
    try:
        return float(interpreted(inputs, outputs)(*values)[0])
    except ParameterValueError:  # what PyMC's rewrites make of its checks
        return -np.inf


def interpreted(inputs: list, outputs: list) -> Callable:
    """Compile without rewrites, for one call."""
    outputs = interpretable(outputs)
    return pytensor.function(inputs, outputs, mode=INTERPRETER, on_unused_input="ignore")


def joint(model: pm.Model, recipe: Recipe) -> float:
    return evaluate(model, model.logp(), recipe)


def likelihood(model: pm.Model, recipe: Recipe) -> float:
    responses = [model[name] for name in recipe.observed()]
    return evaluate(model, model.logp(vars=responses), recipe)


def free(model: pm.Model) -> set[str]:
    return {rv.name for rv in model.free_RVs}


def snapshot(model: pm.Model) -> tuple:
    """What must be the same after marginalizing: the variables themselves, and their graphs."""
    variables = [*model.basic_RVs, *model.deterministics, *model.potentials]
    graphs = pytensor.dprint(variables, file="str")
    values = [model.rvs_to_values[rv] for rv in model.basic_RVs]
    return list(model.named_vars.items()), variables, values, graphs


def check_density(recipe: Recipe, plain: pm.Model, marginal: pm.Model) -> list[str]:
    """Compare with the dense reference, whatever was integrated out; return what was."""
    gone = sorted(free(plain) - free(marginal))
    try:
        expected = recipe.log_density(recipe.point(), gone)
    except NotAffine as error:
        pytest.fail(f"{gone} cannot be integrated out: they enter {error} not linearly")
    assert_allclose(likelihood(marginal, recipe), expected, rtol=1e-9, atol=1e-8)
    return gone


def check_identity(recipe: Recipe, plain: pm.Model, marginal: pm.Model) -> None:
    if marginal is not plain:
        full = mlmm.conditional(marginal)
        assert free(full) == free(plain)
        assert_allclose(joint(full, recipe), joint(plain, recipe), rtol=1e-8, atol=1e-8)


def build(recipe: Recipe) -> pm.Model:
    note(recipe.source())
    return recipe.build()


def expected_effects(recipe: Recipe) -> set[str]:
    return set(recipe.gaussian()) - recipe.stay_sampled()


def is_identified(recipe: Recipe, integrated: Iterable[str]) -> bool:
    """Say whether the integral is finite; discard models where that is a question of digits."""
    try:
        recipe.log_density(recipe.point(), sorted(integrated))
    except NotIdentified:
        return False
    except HardlyIdentified:
        assume(False)
    except NotAffine:  # then it must be refused, which is for the caller to see
        pass
    return True


def check_all(recipe: Recipe) -> None:
    marginalized(recipe)


def marginalized(recipe: Recipe) -> tuple[pm.Model, pm.Model]:
    """Return a model, plain and marginal, after all checks of what is integrated out."""
    expected = expected_effects(recipe)
    identified = is_identified(recipe, expected)
    plain = build(recipe)
    before = snapshot(plain)
    marginal = marginalize(plain)
    gone = set(check_density(recipe, plain, marginal))
    assert snapshot(plain) == before
    assert gone <= expected
    if not recipe.unusual:
        if stays := recipe.without_rows() & expected - gone:  # flat ones among them, perhaps
            expected -= stays
            identified = is_identified(recipe, expected)
        assert (gone == expected) == identified
        for name in expected - gone:  # as few as possible
            assert not is_identified(recipe, {*gone, name})
    return plain, marginal


def check_some(recipe: Recipe, data: st.DataObject) -> None:
    """Ask for some effects by name, and give them back."""
    effects = recipe.gaussian()
    assume(effects)
    names = data.draw(st.lists(st.sampled_from(effects), min_size=1, unique=True))
    identified = is_identified(recipe, names)
    plain = build(recipe)
    before = joint(plain, recipe)
    try:
        marginal = marginalize(plain, names)
    except mlmm.NotMarginalizable as refusal:
        assert refusal.variable in names
        assert f"'{refusal.variable}'" in str(refusal)
    else:
        assert identified
        assert set(check_density(recipe, plain, marginal)) == set(names)
        check_identity(recipe, plain, marginal)
    assert joint(plain, recipe) == before


def check_hostile(recipe: Recipe) -> None:
    """Nothing is promised but a density that is right for what is left."""
    plain = build(recipe)
    before = snapshot(plain)
    marginal = marginalize(plain)
    gone = free(plain) - free(marginal)
    assert is_identified(recipe, gone)
    check_density(recipe, plain, marginal)
    check_identity(recipe, plain, marginal)
    for name in sorted(set(recipe.gaussian()) - gone)[:2]:
        try:
            alone = marginalize(plain, [name])
        except mlmm.NotMarginalizable as refusal:
            assert refusal.variable == name
            assert f"'{name}'" in str(refusal)
        else:
            assert is_identified(recipe, [name])
            assert check_density(recipe, plain, alone) == [name]
    assert snapshot(plain) == before


def check_roles(recipe: Recipe) -> None:
    plain, marginal = marginalized(recipe)
    if marginal is not plain and np.isfinite(likelihood(marginal, recipe)):
        check_recovered(recipe, marginal)  # outside of the support there are no draws


def check_recovered(recipe: Recipe, marginal: pm.Model, n: int = 400) -> None:
    """Compare many draws of the effects at one point with the moments that they should have."""
    idata, point = at_its_point(recipe, marginal, n)
    drawn = mlmm.recover(
        idata, model=marginal, random_seed=1, progressbar=False, extend_inferencedata=False
    )
    for name, (mean, covariance) in posterior_of_effects(marginal, point).items():
        sd = np.sqrt(np.diag(covariance))
        rounding = 1e-9 * (1 + abs(mean.ravel()))
        z = (drawn[name].values.reshape(n, -1) - mean.ravel()) / (sd + rounding)
        assert (abs(z.mean(axis=0)) * np.sqrt(n) < 7).all(), name
        assert ((z**2).mean(axis=0) < 1 + 7 * np.sqrt(2 / n)).all(), name


def check_moments(recipe: Recipe) -> None:
    """Compare means and standard deviations from a gradient with those of draws."""
    plain, marginal = marginalized(recipe)
    if marginal is plain or not np.isfinite(likelihood(marginal, recipe)):
        return
    idata, point = at_its_point(recipe, marginal, 1)
    expected = posterior_of_effects(marginal, point)
    found = mlmm.ranef(idata, model=marginal, var_names=list(expected), progressbar=False)
    for name, (mean, covariance) in expected.items():
        sd = np.sqrt(np.diag(covariance)).reshape(mean.shape)
        rounding = 1e-7 * (1 + abs(mean) + sd)
        assert (abs(found[name].sel(statistic="mean") - mean) < rounding).all(), name
        assert (abs(found[name].sel(statistic="sd") - sd) < rounding).all(), name


def at_its_point(recipe: Recipe, marginal: pm.Model, n: int) -> tuple[DataTree, dict]:
    """Return a posterior of ``n`` draws that are all the same, and the point that they are."""
    posterior, point = {}, {}
    known = {v.name: v for v in recipe.variables}
    for rv in marginal.free_RVs:
        value = marginal.rvs_to_values[rv].name
        at = natural(recipe, rv.name) if rv.name in known else np.zeros(rv.type.shape)
        own = recipe.point()[rv.name] if rv.name in known else at
        point[value] = known[rv.name].transformed(own) if rv.name in known else at
        dims = [f"{rv.name}_{k}" for k in range(at.ndim)]
        posterior[rv.name] = (("chain", "draw", *dims), np.broadcast_to(at, (1, n, *at.shape)))
    idata = DataTree.from_dict({"posterior": Dataset(posterior, coords={"draw": range(n)})})
    if not posterior:
        idata["posterior"] = Dataset(coords={"chain": [0], "draw": range(n)})
    return idata, point


def found(model: pm.Model) -> tuple[list[tuple[int, int, str]], int]:
    """Return the blocks of a model, and the work."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* negative element", UserWarning)
        explanation = mlmm.explain(model)
    blocks = [(f.n_levels, f.n_effects, f.kind) for f in explanation.factors]
    return sorted(blocks), explanation.operations


def check_persons(recipe: Recipe) -> None:
    """One small block per person, however the model is spelled."""
    check_all(recipe)
    if recipe.unusual:
        return
    recipe = replace(recipe, mutable=frozenset())  # of data that can be set, only indices are read
    blocks, operations = found(recipe.build())
    width = sum(int(np.prod(v.shape[1:], dtype=int)) for v in recipe.variables if v.gaussian)
    for _, n_effects, kind in blocks:
        assert n_effects <= width
        assert kind in ("diagonal", "block diagonal")
    expected, least = found(recipe.simply().build())
    assert [block[:2] for block in blocks] == [block[:2] for block in expected]
    data = set(recipe.data)
    if not any(is_difference(e, data) for e in recipe.expressions()):
        assert blocks == expected
        assert least / 1.5 <= operations <= 1.5 * least


def is_difference(e: Expression, data: set[str]) -> bool:
    """Whether a product with a parameter is written as two terms, which are two loadings."""
    return isinstance(e, Op) and e.template == DIFFERENCE and not names_in(e.parts[1]) <= data


def natural(recipe: Recipe, name: str) -> np.ndarray:
    """Return a value as the random variable has it: the factor of an LKJ prior is packed."""
    value, shape = recipe.point()[name], {v.name: v.family for v in recipe.variables}
    return value[np.tril_indices(len(value))] if shape[name] == "LKJ" else value


def check_folded(recipe: Recipe) -> None:
    """Compare the densities of the same scales, folded or not, and the Jacobian of each scale."""
    plain = build(recipe)
    reference = marginalize(plain)
    assume(reference is not plain)
    folded = marginalize(plain, fold_scales=True)
    folds = (FoldedScale, FoldedCholesky)
    known = {v.name: v for v in recipe.variables}
    assume(any(isinstance(t, folds) for t in folded.rvs_to_transforms.values()))
    densities = []
    for model in (reference, folded):
        values, inputs, differences = [], [], []
        for rv in model.free_RVs:
            transform, value = model.rvs_to_transforms[rv], model.rvs_to_values[rv]
            given = natural(recipe, rv.name) if rv.name in known else np.zeros(rv.type.shape)
            if isinstance(transform, folds):
                forward = transform.forward(pt.as_tensor(given), *rv.owner.inputs)
                values.append(forward.eval(mode=INTERPRETER))
                if isinstance(transform, FoldedScale):
                    back = transform.backward(value, *rv.owner.inputs)
                    slope = pytensor.grad(back.sum(), value)
                    log_slope = transform.log_jac_det(value, *rv.owner.inputs)
                    differences += [pt.log(slope / 2) - log_slope]
            else:
                at = recipe.point().get(rv.name)
                values.append(given if at is None else known[rv.name].transformed(at))
            inputs.append(value)
        densities.append(density_at(inputs, [model.logp(jacobian=False)], values))
        for difference in interpreted(inputs, differences)(*values):
            assert_allclose(difference, 0, atol=1e-9)
    assert_allclose(densities[1], densities[0], rtol=1e-9, atol=1e-8)


def run(profile: settings, examples: int, test: Callable, *strategies: st.SearchStrategy) -> None:
    """Run a property on random models."""

    # PyTensor notes the stack of every node it makes, which under Hypothesis is a deep one, and
    # compiles what is inside einsum in its default mode.
    with pytensor.config.change_flags(traceback__limit=0, mode="FAST_COMPILE"):
        settings(profile, max_examples=examples)(given(*strategies)(test))()


def test_random_models() -> None:
    run(CI, 30, check_all, recipes())


def test_random_selections_and_the_identity() -> None:
    run(CI, 10, check_some, recipes(), st.data())


def test_random_hostile_models() -> None:
    run(CI, 10, check_hostile, hostile_recipes())


def test_random_folded_models() -> None:
    run(CI, 6, check_folded, recipes_of_scales())


def test_random_roles() -> None:
    """Shapes of effects, responses without rows, and responses as predictors of others."""
    run(CI, 5, check_roles, recipes_with_roles())


@pytest.mark.usefixtures("uncompiled")
def test_random_moments() -> None:
    run(CI, 8, check_moments, recipes_with_roles())


def test_random_persons() -> None:
    run(CI, 5, check_persons, recipes_of_persons())


@missing
def test_random_missing_predictors() -> None:
    run(CI, 5, check_all, recipes_with_missing_predictors())


def test_random_long_processes() -> None:
    run(CI, 3, check_all, recipes_of_long_processes())


# PyTensor keeps some megabytes per model in its caches: hence several processes (-n) or seeds
# rather than many more examples in one.


@pytest.fixture
def share(request: pytest.FixtureRequest) -> Callable[[int], int]:
    """Share the models of ``--random-models`` out, of 2,400 so many."""
    total = request.config.getoption("--random-models")
    return lambda n: max(1, round(n * total / 2400))


@pytest.mark.slow
def test_many_random_models(share: Callable[[int], int]) -> None:
    run(LONG, share(1000), check_all, recipes())


@pytest.mark.slow
def test_many_random_selections_and_the_identity(share: Callable[[int], int]) -> None:
    run(LONG, share(300), check_some, recipes(), st.data())


@pytest.mark.slow
def test_many_random_hostile_models(share: Callable[[int], int]) -> None:
    run(LONG, share(500), check_hostile, hostile_recipes())


@pytest.mark.slow
def test_many_random_folded_models(share: Callable[[int], int]) -> None:
    run(LONG, share(300), check_folded, recipes_of_scales())


@pytest.mark.slow
def test_many_random_roles(share: Callable[[int], int]) -> None:
    run(LONG, share(300), check_roles, recipes_with_roles())


@pytest.mark.slow
@pytest.mark.usefixtures("uncompiled")
def test_many_random_moments(share: Callable[[int], int]) -> None:
    run(LONG, share(100), check_moments, recipes_with_roles())


@pytest.mark.slow
def test_many_random_persons(share: Callable[[int], int]) -> None:
    run(LONG, share(200), check_persons, recipes_of_persons())


@missing
@pytest.mark.slow
def test_many_random_missing_predictors(share: Callable[[int], int]) -> None:
    run(LONG, share(200), check_all, recipes_with_missing_predictors())


@pytest.mark.slow
def test_many_random_long_processes(share: Callable[[int], int]) -> None:
    run(LONG, share(100), check_all, recipes_of_long_processes())


# --- What they found ------------------------------------------------------------------------------


def test_sampled_coefficient_beside_a_hierarchical_mean() -> None:
    """Prior means that depend on each other: what is sampled must not be copied."""
    with pm.Model() as model:
        b = pm.StudentT("b", nu=4.0)
        mean = pm.Normal("mean", 0.0, 1.0, shape=2)
        u = pm.Normal("u", b * mean, 1.0)
        pm.Normal("y", b + u[np.array([0, 1, 0, 1])], 1.0, observed=np.arange(4.0))
    point = {"b": np.array(0.3), "mean": np.array([0.2, -0.4]), "u": np.array([1.0, 0.5])}
    marginal = marginalize(model)
    expected = model.compile_logp(mode="FAST_COMPILE")(point)
    for again in (mlmm.conditional(marginal), mlmm.unmarginalize(marginal)):
        found = again.compile_logp(mode="FAST_COMPILE")(point)
        np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_only_an_effect_without_data() -> None:
    with pm.Model() as model:
        a, b = pm.Normal("a", 0.0, 1.0), pm.Normal("b", 0.0, 1.0)
        mean = pt.stack([a, b])[np.zeros(4, dtype=int)]
        pm.Normal("y", mean, 1.0, observed=np.arange(4.0))
    with pytest.raises(mlmm.NotMarginalizable, match="enters no row of the data"):
        marginalize(model, ["b"])
