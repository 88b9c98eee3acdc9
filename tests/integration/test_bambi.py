"""Bambi's models as they come: every Gaussian one is understood, and Bambi can use the result."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field

import bambi as bmb
import numpy as np
import pandas as pd
import pymc as pm
import pytest
from numpy.testing import assert_allclose
from xarray import DataTree

import pymc_marginal_lmm as mlmm
from tests.integration.checks import check_model


def made_up_rows(n: int = 40) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    data = pd.DataFrame(
        {
            "x": rng.normal(2.0, 1.0, size=n),
            "z": rng.normal(size=n),
            "g": rng.permutation(np.resize(list("ABCDE"), n)),
            "h": rng.permutation(np.resize(list("klmn"), n)),
            "c": rng.permutation(np.resize(list("rst"), n)),
            "weight": rng.uniform(1.0, 2.0, size=n),
            "status": rng.permutation(np.resize(["none", "right"], n)),
            "count": rng.poisson(3.0, size=n),
        }
    )
    data.loc[::5, "x"] = 0.0  # entries that a sparse matrix does not store
    data["y"] = data["x"] + rng.normal(size=n)
    data["positive"] = np.exp(data["y"])
    return data


def crossed(n_subjects: int = 6, n_items: int = 12) -> pd.DataFrame:
    """Rows shaped like ``crossed_data.csv`` of Bambi's test suite: subjects × items, in sites."""
    rng = np.random.default_rng(1)
    subject, item = np.indices((n_subjects, n_items)).reshape(2, -1)
    n = subject.size
    return pd.DataFrame(
        {
            "Y": rng.normal(size=n),
            "subj": subject.astype(str),
            "item": item.astype(str),
            "site": (subject % 3).astype(str),
            "continuous": rng.normal(size=n),
            "dummy": rng.integers(2, size=n),
            "threecats": np.array(list("abc"))[item // 4],
            "fourcats": np.array(list("abcd"))[item % 4],
        }
    )


def sleepstudy() -> pd.DataFrame:
    rng = np.random.default_rng(2)
    subject, days = np.indices((5, 10)).reshape(2, -1)
    reaction = 250.0 + 10.0 * days + rng.normal(0.0, 30.0, size=50)
    return pd.DataFrame(
        {"Reaction": reaction, "Days": days, "Subject": (308 + subject).astype(str)}
    )


def inhaler() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    subject, period = np.indices((12, 2)).reshape(2, -1)
    contrasts = {name: rng.choice([-0.5, 0.5], size=24) for name in ("treat", "carry")}
    rating = rng.integers(1, 5, size=24).astype(float)
    return pd.DataFrame(
        {"rating": rating, "period": period - 0.5, "subject": subject.astype(str), **contrasts}
    )


DATA = {f.__name__: f() for f in (made_up_rows, crossed, sleepstudy, inhaler)}


@dataclass(frozen=True)
class Formula:
    """A model in Bambi's notation and what ``marginalize`` integrates out of it."""

    formula: str | bmb.Formula
    integrated: tuple[str, ...]
    options: dict = field(default_factory=dict)
    data: str = "made_up_rows"

    def __str__(self) -> str:
        is_text = isinstance(self.formula, str)
        formula = self.formula if is_text else "; ".join(self.formula.get_all_formulas())
        return ", ".join([formula, *self.options])

    def build(self) -> bmb.Model:
        model = bmb.Model(self.formula, DATA[self.data], **self.options)
        model.build()
        return model


CENTERED = {"noncentered": False}
SCALE = bmb.Prior("HalfNormal", sigma=1.0)
MEAN = bmb.Prior("Normal", mu=0.0, sigma=1.0)
HIERARCHICAL = {"priors": {"1|g": bmb.Prior("Normal", mu=MEAN, sigma=SCALE)}}
ROBUST = {"priors": {"1|g": bmb.Prior("StudentT", nu=4.0, mu=0.0, sigma=SCALE)}}

FORMULAS = [
    Formula("y ~ 1", ("Intercept",)),
    Formula("y ~ x * z + c", ("Intercept", "x", "z", "x:z", "c")),
    Formula("y ~ x + (1|g)", ("Intercept", "x", "1|g_offset")),
    Formula("y ~ x + (1|g)", ("Intercept", "x", "1|g"), CENTERED),
    Formula("y ~ x + (1|g)", ("Intercept", "x", "1|g_offset"), {"center_predictors": False}),
    Formula("y ~ x + (x|g)", ("Intercept", "x", "1|g_offset", "x|g_offset")),
    Formula("y ~ x + (x|g)", ("Intercept", "x", "1|g", "x|g"), CENTERED),
    Formula("y ~ x + (0 + x|g)", ("Intercept", "x", "x|g_offset")),
    Formula("y ~ 1 + (1|g) + (1|h)", ("Intercept", "1|g_offset", "1|h_offset")),
    Formula("y ~ x + (1|g/h)", ("Intercept", "x", "1|g_offset", "1|g:h_offset")),
    Formula("y ~ x + (1|g:h)", ("Intercept", "x", "1|g:h_offset")),
    Formula("y ~ x + (c|g)", ("Intercept", "x", "1|g_offset", "c|g_offset")),
    Formula("y ~ x + (c|g)", ("Intercept", "x", "1|g", "c|g"), CENTERED),
    Formula("y ~ x*c + (x:z|g)", ("Intercept", "x", "c", "x:c", "1|g_offset", "x:z|g_offset")),
    Formula("y ~ 0 + c + (0 + c|g) + (1|h)", ("c", "c|g_offset", "1|h_offset")),
    Formula(
        "y ~ offset(z) + scale(x) + (scale(x)|g)",
        ("Intercept", "scale(x)", "1|g_offset", "scale(x)|g_offset"),
    ),
    Formula("y ~ poly(x, 2) + (1|g)", ("Intercept", "poly(x, 2)", "1|g_offset")),
    Formula("y ~ bs(z, df=4) + (1|g)", ("Intercept", "bs(z, df=4)", "1|g_offset")),
    Formula(
        "y ~ hsgp(x, m=5, c=2) + (1|g)",
        ("Intercept", "hsgp(x, m=5, c=2)_weights_raw", "1|g_offset"),
    ),
    Formula("log(positive) ~ x + (1|g)", ("Intercept", "x", "1|g_offset")),
    Formula("y ~ x + (1|g)", ("Intercept", "x", "1|g", "1|g_mu"), HIERARCHICAL | CENTERED),
    Formula("y ~ x + (1|g)", ("Intercept", "x"), ROBUST | CENTERED),
    Formula(
        "y ~ x + (1|g)", ("Intercept", "1|g_offset"), {"potentials": [("x", lambda x: -(x**2))]}
    ),
    Formula(
        bmb.Formula("y ~ x + (1|g)", "sigma ~ z + (1|h)"),
        ("Intercept", "x", "1|g_offset"),
    ),
]

BAMBI_TEST_SUITE = [
    Formula("Y ~ 0 + threecats", ("threecats",), data="crossed"),
    Formula(
        "Y ~ 0 + threecats*fourcats",
        ("threecats", "fourcats", "threecats:fourcats"),
        data="crossed",
    ),
    Formula(
        "Y ~ continuous + dummy + threecats + (0 + threecats|subj) + (1|item) + (1|site)",
        (
            *("Intercept", "continuous", "dummy", "threecats"),
            *("threecats|subj_offset", "1|item_offset", "1|site_offset"),
        ),
        data="crossed",
    ),
    Formula(
        "Y ~ continuous + dummy + threecats + (threecats|subj) + (continuous|item) + (dummy|item)",
        (
            *("Intercept", "continuous", "dummy", "threecats"),
            *("1|subj_offset", "threecats|subj_offset"),
            *("1|item_offset", "continuous|item_offset", "dummy|item_offset"),
        ),
        data="crossed",
    ),
    Formula(
        "Y ~ 0 + threecats + (0 + threecats|subj) + (1|item) + (1|site)",
        ("threecats", "threecats|subj_offset", "1|item_offset", "1|site_offset"),
        data="crossed",
    ),
    Formula(
        "Y ~ continuous + (bs(continuous, df=4)|site)",
        ("Intercept", "continuous", "1|site_offset", "bs(continuous, df=4)|site_offset"),
        data="crossed",
    ),
    Formula(
        "Y ~ 1 + (threecats:fourcats|site)",
        ("Intercept", "1|site_offset", "threecats:fourcats|site_offset"),
        data="crossed",
    ),
    Formula(
        "Reaction ~ 1 + Days + (1 + Days|Subject)",
        ("Intercept", "Days", "1|Subject_offset", "Days|Subject_offset"),
        data="sleepstudy",
    ),
    Formula(
        "rating ~ 1 + period + treat + carry + (1|subject)",
        ("Intercept", "period", "treat", "carry", "1|subject_offset"),
        data="inhaler",
    ),
]


@pytest.mark.parametrize("formula", FORMULAS + BAMBI_TEST_SUITE, ids=str)
def test_formula(formula: Formula) -> None:
    check_model(formula.build().backend.model, formula.integrated)


@pytest.fixture
def sparse_dot() -> Iterator[None]:
    bmb.config["SPARSE_DOT"] = True
    yield
    bmb.config["SPARSE_DOT"] = False


@pytest.mark.usefixtures("sparse_dot")
@pytest.mark.parametrize(
    "formula",
    [
        Formula("y ~ x + (1|g)", ("Intercept", "x", "1|g_offset")),
        Formula("y ~ x + (x|g)", ("Intercept", "x", "1|g_offset", "x|g_offset")),
        Formula("y ~ x + (x|g)", ("Intercept", "x", "1|g", "x|g"), CENTERED),
        Formula("y ~ (1|g/h)", ("Intercept", "1|g_offset", "1|g:h_offset")),
        Formula("y ~ (c|g) + (0 + x|h)", ("Intercept", "1|g_offset", "c|g_offset", "x|h_offset")),
    ],
    ids=str,
)
def test_sparse_dot(formula: Formula) -> None:
    model = formula.build().backend.model
    check_model(model, formula.integrated)
    sparse = mlmm.explain(model)
    bmb.config["SPARSE_DOT"] = False
    assert sparse.factors == mlmm.explain(formula.build().backend.model).factors


LIKELIHOOD = "the likelihood of '{}' is {}"


@pytest.mark.parametrize(
    ("formula", "reason"),
    [
        (Formula("y ~ x + (1|g)", (), {"family": "t"}), LIKELIHOOD.format("y", "StudentT")),
        (
            Formula("count ~ x + (1|g)", (), {"family": "poisson"}),
            LIKELIHOOD.format("count", "Poisson"),
        ),
        (
            Formula("censored(y, status) ~ x + (1|g)", ()),
            LIKELIHOOD.format("censored(y, status)", "Censored"),
        ),
        (
            Formula("truncated(y, -20, 20) ~ x + (1|g)", ()),
            LIKELIHOOD.format("truncated(y, -20, 20)", "Truncated"),
        ),
        (
            Formula("weighted(y, weight) ~ x + (1|g)", ()),
            LIKELIHOOD.format("weighted(y, weight)", "WeightedNormal"),
        ),
        (Formula("y ~ x + (1|g)", (), {"link": "log"}), "it goes through an operation that is not"),
    ],
    ids=str,
)
def test_refusal(formula: Formula, reason: str) -> None:
    model = formula.build().backend.model
    with pytest.raises(mlmm.NotMarginalizable) as error:
        mlmm.marginalize(model, "1|g_offset")
    assert error.value.variable == "1|g_offset"
    assert reason in error.value.reason


QUICK = {"draws": 30, "tune": 30, "chains": 2, "cores": 1, "progressbar": False}


@pytest.fixture
def quiet() -> None:
    logging.getLogger("pymc").setLevel(logging.ERROR)
    logging.getLogger("pymc.stats.convergence").setLevel(logging.ERROR)


# Formulae encodes new groups in a way that pandas 3 deprecates.
NEW_GROUPS = pytest.mark.filterwarnings("ignore:Constructing a Categorical with a dtype")


def new_groups() -> pd.DataFrame:
    return pd.DataFrame({"x": [1.0, -1.0, 0.5], "g": ["A", "new", "newer"]})


@NEW_GROUPS
@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("sampler", ["numpyro", pytest.param("nutpie", marks=pytest.mark.slow)])
def test_predictions(sampler: str) -> None:
    """Bambi's own predictions are those of the model's ``mu``, draw by draw."""
    model = Formula("y ~ x + (x|g)", ()).build()
    marginal = mlmm.marginalize(model.backend.model)
    with marginal:
        idata = pm.sample(
            nuts_sampler=sampler, random_seed=1, compute_convergence_checks=False, **QUICK
        )
    mlmm.recover(idata, model=marginal, random_seed=1, progressbar=False)
    mu = idata["posterior"]["mu"].copy(deep=True)
    finished = mlmm.finish_bambi(idata, model)
    assert "1|g_offset" not in finished["posterior"]
    model.predict(finished, kind="response", random_seed=1)
    assert_allclose(finished["posterior"]["mu"], mu, rtol=1e-10)
    assert finished["posterior_predictive"]["y"].shape == (2, 30, 40)
    check_new_data(model, finished)


def check_new_data(model: bmb.Model, idata: DataTree) -> None:
    with pytest.warns(FutureWarning, match="sample_new_groups"):
        predicted = model.predict(
            idata, kind="response", data=new_groups(), sample_new_groups=True, inplace=False
        )
    posterior = idata["posterior"]
    by_hand = (
        posterior["Intercept"]
        + posterior["1|g"].sel(g__factor_dim="A")
        + posterior["x"]
        + posterior["x|g"].sel(g__factor_dim="A")
    )
    mu = predicted["posterior"]["mu"]
    assert mu.shape == (2, 30, 3)
    assert_allclose(mu.isel(__obs__=0), by_hand)
    assert np.isfinite(mu).all()
    assert predicted["posterior_predictive"]["y"].shape == (2, 30, 3)


@NEW_GROUPS
@pytest.mark.usefixtures("quiet")
def test_fit() -> None:
    """The same variables, dims and coords as from Bambi's own ``fit``, and predictions."""
    model = bmb.Model("y ~ x + (x|g)", DATA["made_up_rows"])
    options = {**QUICK, "random_seed": 1, "compute_convergence_checks": False}
    idata = mlmm.sample(model, nuts_sampler="numpyro", **options)
    plain = model.fit(inference_method="numpyro", **options)
    assert set(idata["posterior"].data_vars) == set(plain["posterior"].data_vars)
    for name, expected in plain["posterior"].data_vars.items():
        found = idata["posterior"][name]
        assert found.dims == expected.dims
        for dim in expected.dims:
            assert (found[dim] == expected[dim]).all()
    model.compute_log_likelihood(idata)  # by row, unlike that of the marginal model
    assert idata["log_likelihood"]["y"].shape == (2, 30, 40)
    check_new_data(model, idata)


@pytest.mark.usefixtures("quiet")
def test_fit_when_nothing_can_be_integrated_out() -> None:
    model = bmb.Model("y ~ x + (1|g)", DATA["made_up_rows"], family="t")
    with pytest.warns(UserWarning, match="can be integrated out"):
        idata = mlmm.sample(
            model, nuts_sampler="numpyro", compute_convergence_checks=False, random_seed=1, **QUICK
        )
    assert "1|g" in idata["posterior"]
