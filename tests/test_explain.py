"""``explain``: what it finds, and what a user sees of it."""

from __future__ import annotations

import dataclasses
import pickle
import re
from collections.abc import Callable
from contextlib import nullcontext
from html import escape
from xml.etree import ElementTree

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest

import pymc_marginal_lmm as mlmm
from pymc_marginal_lmm import Explanation
from pymc_marginal_lmm.analysis.priors import is_gaussian
from pymc_marginal_lmm.explain import FactorSummary
from tests.models import MODELS, CanonicalModel

rng = np.random.default_rng(0)
n = 60
g, h = np.repeat(np.arange(12), 5), np.tile(np.arange(5), 12)
x, y = rng.normal(size=n), rng.normal(size=n)


def mixed_model() -> pm.Model:
    """Correlated slopes with two unused levels, crossed with items, and fixed effects."""
    with pm.Model(coords={"items": range(5)}) as model:
        subject = pm.Data("subject_index", g)
        covariate = pm.Data("covariate", x)
        tau = pm.HalfNormal("tau", shape=2)
        sigma = pm.HalfNormal("sigma")
        alpha = pm.Normal("alpha")
        beta = pm.Normal("beta")
        b = pm.MvNormal("b", np.zeros(2), chol=pt.diag(tau), shape=(14, 2))
        item = pm.Normal("item", 0.0, pm.HalfNormal("tau_item"), dims="items")
        shift = pm.StudentT("shift", nu=3)
        odd = pm.Normal("odd")
        mu = alpha + beta * covariate + b[subject, 0] + b[subject, 1] * x + item[h]
        pm.Normal("y", mu + shift + pt.tanh(odd), sigma, observed=y)
    return model


@pytest.fixture(scope="module")
def explanation() -> Explanation:
    return mlmm.explain(mixed_model())


def simple(build: Callable[[], None]) -> pm.Model:
    with pm.Model() as model:
        build()
    return model


# --- What it finds ----------------------------------------------------------------------------


def test_factors(explanation: Explanation) -> None:
    first, second, third = explanation.factors
    assert first == FactorSummary(("b",), 12, 2, unused=2, kind="block diagonal", order=1)
    assert second == FactorSummary(("item",), 5, 1, unused=0, kind="dense", order=2)
    assert set(third.effects) == {"alpha", "beta"}
    assert dataclasses.astuple(third)[1:] == (1, 2, 0, "dense", 3)


def test_integrated_and_sampled_are_all_free_variables(explanation: Explanation) -> None:
    free = [rv.name for rv in mixed_model().free_RVs]
    assert sorted(explanation.integrated) == ["alpha", "b", "beta", "item"]
    assert sorted((*explanation.integrated, *explanation.sampled)) == sorted(free)


def test_variables_are_in_the_order_of_the_model(explanation: Explanation) -> None:
    assert explanation.sampled == ("tau", "sigma", "tau_item", "shift", "odd")
    assert explanation.factors[2].effects == ("alpha", "beta")

    def build() -> None:
        pm.Normal("y", pm.Flat("b") + pm.Flat("a") * x, pm.HalfNormal("s"), observed=y)

    (factor,) = mlmm.explain(simple(build)).factors
    assert factor.effects == ("b", "a")


def test_refusals(explanation: Explanation) -> None:
    assert set(explanation.refusals) == set(explanation.sampled)
    assert "StudentT" in explanation.refusals["shift"].reason
    odd = explanation.refusals["odd"]
    assert odd.variable == "odd"
    assert odd.place == "tanh"
    assert "not linear" in odd.reason


def test_responses_and_rows(explanation: Explanation) -> None:
    assert explanation.responses == ("y",)
    assert explanation.n_rows == n


def test_data_that_become_constants(explanation: Explanation) -> None:
    """The index, but not the covariate: that can be changed by ``pm.set_data``."""
    assert explanation.frozen == ("subject_index",)


def test_what_was_not_asked_for_is_sampled() -> None:
    explanation = mlmm.explain(mixed_model(), ["item"])
    assert explanation.integrated == ("item",)
    assert explanation.refusals == {}
    assert explanation.frozen == ()
    (factor,) = explanation.factors
    assert factor == FactorSummary(("item",), 5, 1, unused=0, kind="diagonal", order=1)
    assert "not asked for" in str(explanation)


@pytest.mark.parametrize("names", ["b", ["b"], ("b",)], ids=str)
def test_names(names: str | list[str]) -> None:
    assert mlmm.explain(mixed_model(), names).integrated == ("b",)


def test_refusal_of_what_was_asked_for() -> None:
    explanation = mlmm.explain(mixed_model(), ["item", "odd"])
    assert explanation.integrated == ("item",)
    assert set(explanation.refusals) == {"odd"}


def test_kinds_and_order() -> None:
    """The largest factor goes first and is block diagonal; what is left is dense."""

    def build() -> None:
        small = pm.Normal("small", shape=5)
        large = pm.Normal("large", shape=12)
        pm.Normal("y", small[h] + large[g] + pm.Normal("alpha"), 1.0, observed=y)

    first, *rest = mlmm.explain(simple(build)).factors
    assert first == FactorSummary(("large",), 12, 1, unused=0, kind="diagonal", order=1)
    assert {(factor.effects, factor.kind) for factor in rest} == {
        (("small",), "dense"),
        (("alpha",), "dense"),
    }
    assert [factor.order for factor in rest] == [2, 3]


def test_fixed_effects_alone_are_dense() -> None:
    model = simple(lambda: pm.Normal("y", pm.Flat("a") + pm.Flat("b") * x, 1.0, observed=y))
    (factor,) = mlmm.explain(model).factors
    assert set(factor.effects) == {"a", "b"}
    assert dataclasses.astuple(factor)[1:] == (1, 2, 0, "dense", 1)


def test_effects_of_one_factor_are_shown_together() -> None:
    def build() -> None:
        intercepts, slopes = pm.Normal("intercepts", shape=12), pm.Normal("slopes", shape=12)
        pm.Normal("y", intercepts[g] + slopes[g] * x, 1.0, observed=y)

    (factor,) = mlmm.explain(simple(build)).factors
    assert set(factor.effects) == {"intercepts", "slopes"}
    assert dataclasses.astuple(factor)[1:] == (12, 2, 0, "block diagonal", 1)


def test_several_responses() -> None:
    def build() -> None:
        u = pm.Normal("u", shape=12)
        pm.Normal("y", u[g], 1.0, observed=y)
        pm.LogNormal("z", u, 1.0, observed=np.ones(12))
        pm.Normal("other", pm.HalfNormal("scale"), 1.0, observed=y)

    explanation = mlmm.explain(simple(build))
    assert set(explanation.responses) == {"y", "z"}
    assert explanation.n_rows == n + 12


@pytest.mark.parametrize("canonical", MODELS, ids=str)
def test_explains_what_marginalize_does(canonical: CanonicalModel) -> None:
    model = canonical.build()
    explanation = mlmm.explain(model)
    # Nobody expects a parameter of a standard deviation alone to go.
    hoped_for = [
        name
        for name in explanation.sampled
        if is_gaussian(model[name])
        and "standard deviation" not in str(explanation.refusals[name].reason)
        and "the scale of" not in str(explanation.refusals[name].reason)
    ]
    stays = pytest.warns(UserWarning, match=f"'{hoped_for[0]}'") if hoped_for else nullcontext()
    with stays:
        marginal = mlmm.marginalize(model)
    assert set(explanation.integrated) == set(canonical.effects)
    assert set(explanation.sampled) == {rv.name for rv in marginal.free_RVs}
    assert set(explanation.refusals) == set(explanation.sampled)
    assert [factor.order for factor in explanation.factors] == [
        *range(1, len(explanation.factors) + 1)
    ]
    assert all(factor.kind == "dense" for factor in explanation.factors[1:])


@pytest.mark.parametrize("level", [pm.Normal, pm.Flat])
def test_nobody_is_warned_of_parameters_of_scales(
    level: Callable, recwarn: pytest.WarningsRecorder
) -> None:
    """Unless they enter a mean as well, by the prior of an effect."""

    def build(again: bool) -> Callable[[], None]:
        def likelihood() -> None:
            log_tau, log_sigma = level("log_tau"), pm.Normal("log_sigma")
            u = pm.Normal("u", log_tau if again else 0, pm.math.exp(log_tau), shape=12)
            pm.Normal("y", u[g], pm.math.exp(log_sigma), observed=y)

        return likelihood

    assert mlmm.marginalize(simple(build(False))).free_RVs
    assert not recwarn.list
    with pytest.warns(UserWarning, match="Not integrated out: 'log_tau' \\(it enters the scale"):
        mlmm.marginalize(simple(build(True)))


def test_nothing_to_integrate_out() -> None:
    def build() -> None:
        pm.StudentT("y", nu=4, mu=pm.Normal("u", shape=12)[g], observed=y)

    explanation = mlmm.explain(simple(build))
    assert explanation == Explanation((), 0, (), ("u",), explanation.refusals, 0, 0, False, ())
    assert "StudentT" in explanation.refusals["u"].reason
    assert str(explanation).endswith("Nothing can be integrated out of this model.")
    assert "Can be integrated out" not in str(explanation)
    assert "Nothing can be integrated out" in explanation._repr_html_()


def test_nothing_stays_sampled() -> None:
    explanation = mlmm.explain(simple(lambda: pm.Normal("y", pm.Normal("u"), 1.0, observed=y)))
    assert explanation.sampled == ()
    assert "Stays sampled" not in str(explanation)


# --- Cost -------------------------------------------------------------------------------------


def rows(
    repeats: int,
    levels: int = 12,
    *,
    sampled_rate: bool = False,
    sampled_slope: bool = False,
    sigma_by_level: bool = False,
    sigma_by_row: bool = False,
) -> Explanation:
    def build() -> None:
        index = np.tile(np.arange(levels), repeats)
        size = len(index)
        covariate = np.random.default_rng(1).normal(size=size)
        sigma = pm.HalfNormal("sigma", shape=levels if sigma_by_level else ())
        u, v = pm.Normal("u", shape=levels), pm.Normal("v", shape=2)
        mu = u[index] + v[np.arange(size) // levels % 2]
        if sampled_slope:
            mu = mu + pm.HalfNormal("slope") * covariate
        if sampled_rate:
            mu = mu + pt.exp(pm.HalfNormal("rate") * covariate)
        residual = sigma[index] if sigma_by_level else sigma
        if sigma_by_row:
            residual = pt.exp(pm.Normal("log_sigma_slope") * covariate)
        pm.Normal("y", mu, residual, observed=covariate)

    return mlmm.explain(simple(build))


@pytest.mark.parametrize("what", [{}, {"sampled_slope": True}, {"sigma_by_level": True}])
def test_cost_free_of_rows(what: dict[str, bool]) -> None:
    """Few sigmas and a constant design: crossproducts once, and the gradient never sees rows."""
    few, many = (rows(n, **what) for n in (2, 200))
    assert few.free_of_rows and many.free_of_rows
    assert (few.operations, few.memory) == (many.operations, many.memory)
    assert "free of the number of rows" in str(many)


@pytest.mark.parametrize("what", ["sampled_rate", "sigma_by_row"])
def test_cost_that_grows_with_rows(what: str) -> None:
    few, many = rows(2, **{what: True}), rows(200, **{what: True})
    assert not few.free_of_rows and not many.free_of_rows
    # 198 times 12 rows more, with two coefficients each.
    assert many.operations - few.operations >= 198 * 12 * 2
    assert many.memory - few.memory >= 198 * 12 * 2 * 8
    assert "2,400 rows" in str(many)
    assert "free of" not in str(many)


def test_cost_grows_with_levels() -> None:
    """M levels meet q = 2 trailing columns: linear in M, and no M × M matrix."""
    small, large = rows(2, levels=100), rows(2, levels=10_000)
    assert 50 < large.operations / small.operations < 150
    assert 50 < large.memory / small.memory < 150


# --- What a user sees -------------------------------------------------------------------------


def test_text(explanation: Explanation) -> None:
    text = str(explanation)
    lines = text.splitlines()
    assert all(line.isprintable() for line in lines)
    assert max(map(len, lines)) <= 110
    assert all(line == line.rstrip() for line in lines)
    assert lines[0] == "Can be integrated out"
    assert "Stays sampled" in lines
    (subject,) = [line for line in lines if "block diagonal" in line]
    cells = [cell.strip() for cell in subject.split("│")[1:-1]]
    assert cells == ["1", "b", "12 × 2 (+2 without data)", "block diagonal"]
    (odd,) = [line for line in lines if "│ odd" in line]
    assert "not linear" in odd and "tanh" in odd
    flowing = " ".join(lines)
    assert "Likelihood y (60 rows)" in flowing
    assert flowing.__contains__("Frozen data: subject_index. ")


def test_print(explanation: Explanation, capsys: pytest.CaptureFixture[str]) -> None:
    print(explanation)
    assert capsys.readouterr().out == f"{explanation}\n"


def test_html(explanation: Explanation) -> None:
    root = ElementTree.fromstring(f"<div>{explanation._repr_html_()}</div>")
    can, stays = root.findall("table")
    tables = {
        table.findtext("caption/b"): [[cell.text or "" for cell in row] for row in table.iter("tr")]
        for table in (can, stays)
    }
    header, *factors = tables["Can be integrated out"]
    assert header == ["order", "variables", "levels × effects", "block"]
    assert factors[0] == ["1", "b", "12 × 2 (+2 without data)", "block diagonal"]
    assert [row[0] for row in factors] == ["1", "2", "3"]
    header, *sampled = tables["Stays sampled"]
    assert header == ["variable", "reason", "place"]
    assert sampled == [
        [name, explanation.refusals[name].reason, explanation.refusals[name].place]
        for name in explanation.sampled
    ]
    assert "60 rows" in root.findtext("p", "")


def test_html_has_a_picture_of_the_blocks(explanation: Explanation) -> None:
    root = ElementTree.fromstring(f"<div>{explanation._repr_html_()}</div>")
    (svg,) = [child for child in root if child.tag.endswith("svg")]
    labels = [element.text for element in svg if element.tag.endswith("text")]
    assert labels == ["b: 24", "item: 5", "alpha, beta: 2"]
    width, height = (float(svg.attrib[name]) for name in ("width", "height"))
    for rectangle in (element for element in svg if element.tag.endswith("rect")):
        x, y, w, h = (float(rectangle.attrib[name]) for name in ("x", "y", "width", "height"))
        # Inside, and only the lower triangle is drawn, with the diagonal blocks.
        assert 0 <= x < x + w <= width and 0 <= y < y + h <= height


def test_names_are_shown_literally() -> None:
    """Neither markup of HTML nor that of the terminal is taken for such."""

    def build() -> None:
        u = pm.Normal("<b>[red]u", shape=12)
        pm.Normal("y&z", u[g] + pm.StudentT("[bold]<i>", nu=3), 1.0, observed=y)

    explanation = mlmm.explain(simple(build))
    for name in ("<b>[red]u", "[bold]<i>", "y&z"):
        assert name in str(explanation)
    root = ElementTree.fromstring(f"<div>{explanation._repr_html_()}</div>")
    cells = [cell.text for cell in root.iter("td")]
    assert "<b>[red]u" in cells
    assert "[bold]<i>" in cells
    assert "y&z" in root.findtext("p", "")


def test_long_reasons_are_not_cut() -> None:
    def build() -> None:
        u = pm.Normal("u", shape=12)
        loud = pm.Gamma("a_variable_with_a_name_that_goes_on_and_on", 2.0, pt.exp(u), shape=12)
        pm.Normal("y", u[g], loud[g], observed=y)

    explanation = mlmm.explain(simple(build))
    shown = re.sub(r"[\s│]+", " ", str(explanation))
    assert explanation.refusals["u"].reason in shown
    assert max(map(len, str(explanation).splitlines())) <= 110


def test_is_frozen_and_picklable(explanation: Explanation) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        explanation.n_rows = 0  # type: ignore[misc]
    again = pickle.loads(pickle.dumps(explanation))
    assert str(again) == str(explanation)
    assert again.factors == explanation.factors


def test_the_mean_of_correlated_effects_is_no_parameter() -> None:
    """PyMC fills a mean of 0 to the covariance's shape; it is a constant all the same."""

    def build() -> None:
        chol = pm.LKJCholeskyCov("chol", n=2, eta=2.0, sd_dist=pm.HalfNormal.dist(1.0))[0]
        u = pm.MvNormal("u", 0.0, chol=chol, shape=(12, 2))
        pm.Normal("y", u[g, 0] + u[g, 1] * x, pm.HalfNormal("sigma"), observed=y)

    assert mlmm.explain(simple(build)).free_of_rows


# --- What may not be meant --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("none", True),
        ("known sigma", False),
        ("a covariate", False),
        ("a level less", False),
        ("in two responses", False),
    ],
)
def test_as_many_levels_as_rows(change: str, told: bool) -> None:
    def build() -> None:
        index = np.minimum(np.arange(n), n - 2) if change == "a level less" else np.arange(n)
        u = pm.Normal("u", 0.0, pm.HalfNormal("tau"), shape=n)
        mean = u[index] * (x if change == "a covariate" else 1.0)
        sigma = 1.0 if change == "known sigma" else pm.HalfNormal("sigma")
        pm.Normal("y", mean, sigma, observed=y)
        if change == "in two responses":
            pm.Normal("z", mean, 2.0 * sigma, observed=y)

    explanation = mlmm.explain(simple(build))
    sentence = f"'u' has as many levels as 'y' has rows ({n}): effect and residual are told"
    assert len(explanation.remarks) == told
    assert (sentence in " ".join(explanation.remarks)) is told
    assert (sentence in " ".join(str(explanation).split())) is told
    assert (escape(sentence) in explanation._repr_html_()) is told


@pytest.mark.parametrize("observed", ["table", "column"])
def test_broadcasting(observed: str) -> None:
    def build() -> None:
        sigma = np.ones((n, 1)) if observed == "table" else 1.0
        data = np.ones((n, n)) if observed == "table" else y[:, None]
        pm.Normal("y", pm.Normal("u", shape=12)[g], sigma, observed=data)

    explanation = mlmm.explain(simple(build))
    (sentence,) = explanation.remarks
    assert f"'y' is {n} × {n} by broadcasting" in sentence
    assert "broadcasting" in str(explanation)
    assert escape(sentence) in explanation._repr_html_()


def test_tables_are_not_remarkable() -> None:
    def build() -> None:
        u = pm.Normal("u", shape=12)
        pm.Normal("y", u[:, None] + np.zeros((12, 12)), 1.0, observed=np.ones((12, 12)))

    assert mlmm.explain(simple(build)).remarks == ()


# --- How long a fit takes ----------------------------------------------------------------------


def test_parameters_that_are_left_and_the_time_they_take() -> None:
    def build(n: int = 1, discrete: bool = False) -> pm.Model:
        with pm.Model(coords={"k": range(n)}) as model:
            b = pm.Laplace("b", 0, 1, dims="k")
            if discrete:
                b = b * pm.Bernoulli("on", 0.5)
            u = pm.Normal("u", 0, pm.HalfNormal("tau"), shape=4)
            mu = u[np.arange(12) % 4] + pm.math.sum(b)
            pm.Normal("y", mu, 1, observed=np.arange(12.0))
        return model

    few, many = mlmm.explain(build(3)), mlmm.explain(build(30))
    assert few.n_parameters == 4 and many.n_parameters == 31
    assert few.fit_seconds is not None and 1 < few.fit_seconds < 10
    assert many.fit_seconds is None and "31 parameters left: for NUTS." in str(many)
    assert mlmm.explain(build(discrete=True)).fit_seconds is None
