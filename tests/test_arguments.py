"""Bad arguments of every public function: a TypeError or ValueError that says what would be right.

Nothing of the user's has changed then. Each function of ``__all__`` has its rows here.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import arviz as az
import bambi
import numpy as np
import pandas as pd
import pymc as pm
import pytensor
import pytest
import xarray as xr
from numpy.testing import assert_array_equal
from pymc.model.transform.optimization import freeze_model

import pymc_marginal_lmm as mlmm

rng = np.random.default_rng(0)
G, X = np.repeat(np.arange(4), 5), rng.normal(size=20)
Y = rng.normal(size=20)

FUNCTIONS = [name for name in mlmm.__all__ if name[0].islower()]
NO_MODELS = ("compress", "finish_bambi", "plot_ranef", "within_cells")
TAKE_MODELS = [name for name in FUNCTIONS if name not in NO_MODELS]


def build() -> pm.Model:
    with pm.Model(coords={"level": list("abcd")}) as model:
        u = pm.Normal("u", 0, pm.HalfNormal("tau"), dims="level")
        mu = pm.Deterministic("mu", pm.Laplace("b", 0, 1) + u[G])
        pm.Normal("y", mu, pm.HalfNormal("sigma"), observed=Y)
    return model


def bambi_model(built: bool = True) -> Any:
    data = pd.DataFrame({"y": Y, "x": X, "g": np.array(list("abcd"))[G]})
    model = bambi.Model("y ~ x + (1|g)", data)
    if built:
        model.build()
    return model


@dataclass
class World:
    """What a user has; made anew for each call."""

    model: pm.Model = field(default_factory=build)
    marginal: pm.Model = field(init=False)
    idata: xr.DataTree = field(init=False)

    def __post_init__(self) -> None:
        self.marginal = mlmm.marginalize(self.model)
        shape = (2, 3)
        posterior = xr.Dataset(
            {k: (("chain", "draw"), np.ones(shape)) for k in ("tau", "sigma", "b")},
            coords={"chain": [0, 1], "draw": [0, 1, 2]},
        )
        prior = xr.Dataset({"tau": (("chain", "draw"), np.ones(shape))})
        self.idata = xr.DataTree.from_dict({"posterior": posterior, "prior": prior})

    def state(self) -> dict[str, Any]:
        """Return all that must not change."""
        return {
            "variables": [[*m.named_vars] for m in (self.model, self.marginal)],
            "coords": [{**m.coords} for m in (self.model, self.marginal)],
            "groups": {
                name: group.to_dataset().to_dict() for name, group in self.idata.children.items()
            },
        }


Call = Callable[[World], Any]
NO_MODEL = {
    "nothing": (lambda w: None, "model is missing: pass a pymc.Model or a bambi.Model, or call"),
    "str": (lambda w: "u", r"model must be a pymc\.Model or a bambi\.Model, not str"),
    "list": (lambda w: [w.model], "not list"),
    "draws": (lambda w: w.idata, "not DataTree"),
    "number": (lambda w: 1000, "not int"),
    "class": (lambda w: pm.Model, r"model must be .*, not"),
    "variable": (lambda w: w.model["u"], "not .*Variable"),
}
"""In place of a model."""

BAD_NAMES: dict[str, tuple[Call, str]] = {
    "number": (lambda w: 3, "must be a name.*, or a sequence of such, not int"),
    "bytes": (lambda w: b"u", "must be a name.*not bytes"),
    "dict": (lambda w: {"u": 1}, "must be a name.*not dict"),
    "model": (lambda w: w.model, "must be a name.*not Model"),
    "numbers": (lambda w: ["u", 3], "must be a name.*it holds 3, which is int"),
    "nested": (lambda w: [["u"]], r"must be a name.*it holds \['u'\], which is list"),
    "None": (lambda w: [None], "must be a name.*it holds None"),
    "flag": (lambda w: True, "must be a name.*not bool"),
}
"""In place of names."""

OF_FREE = r"Free variables are: .*u"
BAD_VARIABLES: dict[str, tuple[Call, str]] = {
    "unknown": (lambda w: "w", f"'w': the model has no variable of that name.*{OF_FREE}"),
    "observed": (lambda w: "y", f"'y': it is .*{OF_FREE}"),
    "Deterministic": (lambda w: ["mu"], f"'mu': it is not a free random variable.*{OF_FREE}"),
    "another model's": (lambda w: build()["u"], f"'u': the variable belongs to another.*{OF_FREE}"),
    "value variable": (lambda w: w.model.value_vars[0], f"no variable of that name.*{OF_FREE}"),
    "expression": (lambda w: [w.model["u"] + 1], "it holds .*, which is no variable of a model"),
    "empty name": (lambda w: "", f"'': the model has no variable of that name.*{OF_FREE}"),
}
"""Of variables to choose among the free ones."""

OF_EFFECTS = "not among the integrated effects and what depends on them, which are u, mu"
BAD_EFFECTS: dict[str, tuple[Call, str]] = {
    "unknown": (lambda w: "w", f"'w': {OF_EFFECTS}"),
    "sampled": (lambda w: ["u", "tau"], f"'tau': {OF_EFFECTS}"),
    "observed": (lambda w: "y", f"'y': {OF_EFFECTS}"),
    "variable": (lambda w: w.model["u"], "must be a name, or a sequence of such, not .*Variable"),
}
"""Of names to choose among the integrated effects."""

BAD_DRAWS: dict[str, tuple[Call, str]] = {
    "nothing": (lambda w: None, "idata must be the DataTree that sampling returned, not NoneType"),
    "dataset": (lambda w: w.idata["posterior"].to_dataset(), "not Dataset.*make one: xarray"),
    "dict": (lambda w: {"posterior": {}}, "idata must be the DataTree.*not dict"),
    "model": (lambda w: w.model, "idata must be the DataTree.*not Model"),
    "str": (lambda w: "draws.nc", "idata must be the DataTree.*not str"),
    "a group": (lambda w: w.idata["posterior"].copy(), r"'posterior' \(its groups: none\)"),
    "prior only": (
        lambda w: xr.DataTree.from_dict({"prior": w.idata["prior"].to_dataset()}),
        r"idata has no group 'posterior' \(its groups: prior\)",
    ),
    "one chain": (lambda w: w.idata.isel(chain=0), "no dim 'chain': select chains and draws by"),
    "no draws": (lambda w: w.idata.isel(draw=[]), "idata.posterior has no draws"),
    "one draw": (lambda w: w.idata.isel(draw=0, chain=1), "no dim 'chain' and 'draw'"),
    "stacked": (
        lambda w: xr.DataTree.from_dict(
            {"posterior": w.idata["posterior"].to_dataset().stack(sample=("chain", "draw"))}
        ),
        "no dim 'chain' and 'draw': .*do not stack",
    ),
}
"""In place of draws."""

BAD_SEEDS: dict[str, tuple[Call, str]] = {
    "str": (lambda w: "one", "random_seed must be None, a non-negative int.*not 'one'"),
    "negative": (lambda w: -1, "random_seed must be None, a non-negative int.*not -1"),
    "float": (lambda w: 1.5, "random_seed must be"),
    "RandomState": (lambda w: np.random.RandomState(1), "random_seed must be"),
}

BAD_FLAGS: dict[str, tuple[Call, str]] = {
    "str": (lambda w: "no", "must be True or False, not 'no'"),
    "number": (lambda w: 0, "must be True or False, not 0"),
    "None": (lambda w: None, "must be True or False, not None"),
}

BAD_COUNTS: dict[str, tuple[Call, str]] = {
    "none": (lambda w: 0, "must be a number of at least 1, not 0"),
    "negative": (lambda w: -3, "must be a number of at least 1, not -3"),
    "float": (lambda w: 2.5, "must be a number of at least 1, not 2.5"),
    "flag": (lambda w: True, "must be a number of at least 1, not True"),
    "str": (lambda w: "many", "must be a number of at least 1, not 'many'"),
}

BAD_BACKENDS: dict[str, tuple[Call, str]] = {
    "unknown": (lambda w: "torch", "backend must be 'jax', 'numba' or None, not 'torch'"),
    "number": (lambda w: 1, "backend must be 'jax', 'numba' or None, not 1"),
}

BAD_METHODS: dict[str, tuple[Call, str]] = {
    "unknown": (lambda w: "gibbs", "method must be 'importance', 'nuts' or None, not 'gibbs'"),
    "list": (lambda w: ["nuts"], r"method must be .*not \['nuts'\]"),
}

OF_SUMMARIES = "effects has u"
BAD_SUMMARY_NAMES: dict[str, tuple[Call, str]] = {
    "unknown": (lambda w: "w", f"'w': {OF_SUMMARIES}"),
    "sampled": (lambda w: ["u", "tau"], f"'tau': {OF_SUMMARIES}"),
}
"""Of names to choose among effects that are summarised."""

BAD_SUMMARIES: dict[str, tuple[Call, str]] = {
    "draws": (lambda w: w.idata, "effects must be the Dataset that ranef"),
    "dataset of draws": (lambda w: w.idata["posterior"].to_dataset(), "effects must be"),
    "nothing": (lambda w: None, "effects must be the Dataset that ranef"),
}
"""In place of what ``ranef`` returned."""

BAD_PROBABILITIES: dict[str, tuple[Call, str]] = {
    "one": (lambda w: [0.5], "two probabilities, the smaller first"),
    "percent": (lambda w: (50, 94), "two probabilities"),
    "the larger first": (lambda w: (0.9, 0.5), "two probabilities, the smaller first"),
}
"""In place of those of two intervals."""

BAD_GROUPS: dict[str, tuple[Call, str]] = {
    "number": (lambda w: 3, "must be 'row', the name .*, or labels of all rows, not int"),
    "unknown": (lambda w: "item", r"'item' is neither 'row', .* which are 'u', 'level'\. Any"),
    "sampled": (lambda w: "tau", "'tau' is neither 'row', nor integrated effects"),
    "too short": (lambda w: G[1:], r"labels of 'y' have shape \(19,\), and its rows \(20,\)"),
    "missing": (lambda w: np.where(G == 1, np.nan, G), r"row 5 has no label \(.*nan"),
    "of another": (lambda w: {"z": G}, r"labels of \['z'\]; the likelihoods are \['y'\]"),
}

BAD_TABLES: dict[str, tuple[Call, str]] = {
    "nothing": (lambda w: None, "table must be a table of Ibis.*not NoneType.*read_parquet"),
    "number": (lambda w: 3, "table must be a table of Ibis.*not int"),
    "model": (lambda w: w.model, "table must be a table of Ibis.*not Model"),
    "no rows": (lambda w: rows()[:0], "table has no rows"),
    "missing": (lambda w: rows().assign(y=np.nan), "20 of 20 rows have a value of 'y' that is"),
}

BAD_COLUMNS: dict[str, tuple[Call, str]] = {
    "unknown": (lambda w: "z", r"table has no column \['z'\]; it has"),
    "twice": (lambda w: "y2", "'y2': a column is for one purpose only"),
}
"""In place of a column, where another argument has y2."""

NO_COLUMN: dict[str, tuple[Call, str]] = {
    "number": (lambda w: 3, "must be the name of a column, not 3"),
    "list": (lambda w: ["y"], r"must be the name of a column, not \['y'\]"),
}

BAD_STRATA: dict[str, tuple[Call, str]] = {
    "covariate": (lambda w: "x", r"\['x'\] are not among the groups"),
}

BAD_SUMS: dict[str, tuple[Call, str]] = {
    "rows": (lambda w: rows(), "must be what compress returned, not DataFrame"),
    "nothing": (lambda w: None, "must be what compress returned, not NoneType"),
    "nothing within": (lambda w: compressed("row"), "no cell has more rows than pseudo-rows"),
}

BAD_SIGMAS: dict[str, tuple[Call, str]] = {
    "too many": (lambda w: np.ones(3), r"shape \(3,\); one number is right, or one for each of"),
    "matrix": (lambda w: np.ones((1, 4)), r"shape \(1, 4\); one number is right"),
}

PLAIN = {
    "the plain model": (lambda w: w.model, "model has no integrated effects: pass the model that"),
    "Bambi's": (lambda w: bambi_model(), "model has no integrated effects: pass the model that"),
}

Row = tuple[str, dict[str, tuple[Call, str]]]

ARGUMENTS: dict[str, dict[str, tuple[Call, list[Row]]]] = {
    "explain": {
        "model": (lambda w: w.model, [("", NO_MODEL)]),
        "rvs": (lambda w: "u", [("rvs ", BAD_NAMES), ("", BAD_VARIABLES)]),
    },
    "marginalize": {
        "model": (lambda w: w.model, [("", NO_MODEL)]),
        "rvs_to_marginalize": (
            lambda w: "u",
            [("rvs_to_marginalize ", BAD_NAMES), ("", BAD_VARIABLES)],
        ),
        "fold_scales": (lambda w: True, [("fold_scales ", BAD_FLAGS)]),
    },
    "noncenter": {
        "model": (lambda w: w.model, [("", NO_MODEL)]),
        "rvs": (
            lambda w: "u",
            [
                ("rvs ", BAD_NAMES),
                ("", BAD_VARIABLES),
                ("", {"nothing": (lambda w: None, "rvs is missing: name the variables")}),
            ],
        ),
    },
    "conditional": {
        "model": (lambda w: w.marginal, [("", NO_MODEL), ("", PLAIN)]),
        "rvs": (lambda w: "u", [("rvs ", BAD_NAMES), ("rvs.*", BAD_EFFECTS)]),
    },
    "unmarginalize": {"model": (lambda w: w.marginal, [("", NO_MODEL), ("", PLAIN)])},
    "recover": {
        "idata": (lambda w: w.idata, [("", BAD_DRAWS)]),
        "model": (lambda w: w.marginal, [("", NO_MODEL), ("", PLAIN)]),
        "var_names": (
            lambda w: "u",
            [("var_names ", BAD_NAMES), ("var_names.*", BAD_EFFECTS)],
        ),
        "extend_inferencedata": (lambda w: True, [("extend_inferencedata ", BAD_FLAGS)]),
        "random_seed": (lambda w: 1, [("", BAD_SEEDS)]),
        "progressbar": (lambda w: False, [("progressbar ", BAD_FLAGS)]),
        "compile_kwargs": (
            lambda w: None,
            [("", {"str": (lambda w: "JAX", "compile_kwargs must be a dict of keyword")})],
        ),
    },
    "compute_log_likelihood": {
        "idata": (lambda w: w.idata, [("", BAD_DRAWS)]),
        "model": (lambda w: w.marginal, [("", NO_MODEL)]),
        "leave_out": (lambda w: "row", [("leave_out.*", BAD_GROUPS)]),
        "extend_inferencedata": (lambda w: True, [("extend_inferencedata ", BAD_FLAGS)]),
        "progressbar": (lambda w: False, [("progressbar ", BAD_FLAGS)]),
    },
    "loo_pit": {
        "idata": (lambda w: w.idata, [("", BAD_DRAWS)]),
        "model": (lambda w: w.marginal, [("", NO_MODEL)]),
        "progressbar": (lambda w: False, [("progressbar ", BAD_FLAGS)]),
    },
    "moment_match": {
        "idata": (lambda w: w.idata, [("", BAD_DRAWS)]),
        "loo": (
            lambda w: None,
            [
                ("", {"nothing": (lambda w: None, "loo must be what arviz.loo")}),
                ("", {"draws": (lambda w: w.idata, "loo must be what arviz.loo")}),
            ],
        ),
        "model": (lambda w: w.marginal, [("", NO_MODEL)]),
        "leave_out": (
            lambda w: "row",
            [
                ("leave_out.*", BAD_GROUPS),
                ("", {"nothing": (lambda w: None, "leave_out must be 'row', the name of .*None")}),
            ],
        ),
        "var_name": (
            lambda w: "y_loo",
            [
                ("", {"unknown": (lambda w: "y", "must be one of 'y_loo', .* not 'y'")}),
                ("", {"number": (lambda w: 1, "must be one of 'y_loo', .* not 1")}),
            ],
        ),
        "progressbar": (lambda w: False, [("progressbar ", BAD_FLAGS)]),
    },
    "ranef": {
        "idata": (lambda w: w.idata, [("", BAD_DRAWS)]),
        "model": (lambda w: w.marginal, [("", NO_MODEL)]),
        "var_names": (
            lambda w: "u",
            [("var_names ", BAD_NAMES), ("var_names.*", BAD_EFFECTS)],
        ),
        "progressbar": (lambda w: False, [("progressbar ", BAD_FLAGS)]),
    },
    "varcorr": {
        "idata": (lambda w: w.idata, [("", BAD_DRAWS)]),
        "model": (lambda w: w.marginal, [("", NO_MODEL)]),
    },
    "r2": {
        "idata": (lambda w: w.idata, [("", BAD_DRAWS)]),
        "model": (lambda w: w.marginal, [("", NO_MODEL)]),
    },
    "plot_ranef": {
        "effects": (lambda w: effects(w), [("", BAD_SUMMARIES)]),
        "var_names": (
            lambda w: "u",
            [("var_names ", BAD_NAMES), ("var_names.*", BAD_SUMMARY_NAMES)],
        ),
        "ci_probs": (lambda w: (0.5, 0.9), [("ci_probs must be ", BAD_PROBABILITIES)]),
        "sort": (lambda w: True, [("sort ", BAD_FLAGS)]),
        "kwargs": (lambda w: {}, []),
    },
    "compile_model": {
        "model": (lambda w: w.model, [("", NO_MODEL)]),
        "rvs_to_marginalize": (
            lambda w: "u",
            [("rvs_to_marginalize ", BAD_NAMES), ("", BAD_VARIABLES)],
        ),
        "backend": (lambda w: "jax", [("", BAD_BACKENDS)]),
    },
    "fit": {
        "model": (lambda w: w.model, [("", NO_MODEL)]),
        "draws": (lambda w: 10, [("draws ", BAD_COUNTS)]),
        "chains": (lambda w: 2, [("chains ", BAD_COUNTS)]),
        "rvs_to_marginalize": (
            lambda w: "u",
            [("rvs_to_marginalize ", BAD_NAMES), ("", BAD_VARIABLES)],
        ),
        "random_seed": (lambda w: 1, [("", BAD_SEEDS)]),
        "weighted": (lambda w: False, [("weighted ", BAD_FLAGS)]),
        "cores": (lambda w: 1, [("cores ", BAD_COUNTS)]),
        "backend": (lambda w: "jax", [("", BAD_BACKENDS)]),
        "progressbar": (lambda w: False, [("progressbar ", BAD_FLAGS)]),
    },
    "sample": {
        "model": (lambda w: w.model, [("", NO_MODEL)]),
        "method": (lambda w: "nuts", [("", BAD_METHODS)]),
        "rvs_to_marginalize": (
            lambda w: "u",
            [("rvs_to_marginalize ", BAD_NAMES), ("", BAD_VARIABLES)],
        ),
        "fold_scales": (lambda w: True, [("fold_scales ", BAD_FLAGS)]),
        "random_seed": (lambda w: 1, [("", BAD_SEEDS)]),
        # Those of pm.sample: tests/model/test_sample_results.py
        "kwargs": (lambda w: None, []),
    },
    "compress": {
        "table": (lambda w: rows(), [("", BAD_TABLES)]),
        "response": (lambda w: "y", [("", BAD_COLUMNS), ("response ", NO_COLUMN)]),
        "groups": (lambda w: ["g"], [("", BAD_COLUMNS), ("groups ", BAD_NAMES)]),
        "covariates": (lambda w: ["x", "y2"], [("covariates ", BAD_NAMES)]),
        "weights": (lambda w: None, [("", BAD_COLUMNS), ("weights ", NO_COLUMN)]),
        "strata": (lambda w: (), [("strata ", BAD_NAMES), ("strata.*", BAD_STRATA)]),
    },
    "within_cells": {
        "name": (lambda w: "within", []),
        "data": (lambda w: compressed("g"), [("data.* ", BAD_SUMS)]),
        "sigma": (lambda w: 1.0, [("sigma has ", BAD_SIGMAS)]),
        # Those of pm.Gamma.
        "kwargs": (lambda w: {}, []),
    },
    "finish_bambi": {
        "idata": (lambda w: finished(w), [("", BAD_DRAWS)]),
        "model": (
            lambda w: bambi_model(),
            [
                (
                    "",
                    {
                        name: (bad, r"model must be a bambi\.Model, not ")
                        for name, (bad, _) in NO_MODEL.items()
                    },
                ),
                ("", {"pymc": (lambda w: w.model, r"model must be a bambi\.Model, not Model")}),
                ("", {"not built": (lambda w: bambi_model(False), "model is not built")}),
            ],
        ),
        "omit_offsets": (lambda w: True, [("omit_offsets ", BAD_FLAGS)]),
        "include_response_params": (lambda w: True, [("include_response_params ", BAD_FLAGS)]),
    },
}
"""Of each function, its arguments: one that is right, and what is put in its place."""


def rows() -> pd.DataFrame:
    return pd.DataFrame({"g": G, "x": X, "y": Y, "y2": Y**2, "row": np.arange(20)})


def compressed(groups: str) -> mlmm.Compressed:
    return mlmm.compress(rows(), "y", groups, strata=groups)


def effects(world: World) -> xr.Dataset:
    values = np.ones((2, 4))
    statistic = ["mean", "sd"]
    return xr.Dataset({"u": (("statistic", "level"), values)}, coords={"statistic": statistic})


def finished(world: World) -> xr.DataTree:
    names = ["Intercept", "x", "1|g_sigma", "1|g_offset", "1|g", "sigma", "mu"]
    draws = {name: (("chain", "draw"), np.ones((2, 3))) for name in names}
    return xr.DataTree.from_dict({"posterior": xr.Dataset(draws)})


CASES = [
    pytest.param(name, argument, bad, f"{prefix}{message}", id=f"{name}-{argument}-{kind}")
    for name, arguments in ARGUMENTS.items()
    for argument, (_, rows) in arguments.items()
    for prefix, table in rows
    for kind, (bad, message) in table.items()
]


def test_every_function_and_argument_has_its_rows() -> None:
    assert sorted(ARGUMENTS) == sorted(FUNCTIONS)
    for name, arguments in ARGUMENTS.items():
        assert {*inspect.signature(getattr(mlmm, name)).parameters} == {*arguments}, name


@pytest.mark.parametrize(("name", "argument", "bad", "message"), CASES)
def test_bad_arguments(name: str, argument: str, bad: Call, message: str) -> None:
    world = World()
    before = world.state()
    right = {key: make(world) for key, (make, _) in ARGUMENTS[name].items() if key != "kwargs"}
    given = right | {argument: bad(world)}
    with pytest.raises((TypeError, ValueError)) as caught:
        getattr(mlmm, name)(**given)
    assert re.search(message, str(caught.value), re.DOTALL), str(caught.value)
    assert str(world.state()) == str(before)


# --- What is right ----------------------------------------------------------------------------


def many_draws() -> xr.DataTree:
    values = np.linspace(0.5, 1.5, 40).reshape(2, 20)
    drawn = {name: (("chain", "draw"), values) for name in ("tau", "sigma", "b")}
    return xr.DataTree.from_dict({"posterior": xr.Dataset(drawn)})


# Of draws along a line.
@pytest.mark.filterwarnings("ignore:Estimated shape parameter of Pareto", "ignore:k̂ is still")
@pytest.mark.parametrize("name", TAKE_MODELS)
def test_the_model_of_the_context(name: str) -> None:
    world = World()
    marginal_wanted = name in ("conditional", "unmarginalize", "recover")
    rest: dict[str, Any] = {
        "noncenter": {"rvs": "u"},
        "recover": {"idata": world.idata, "progressbar": False},
        "compute_log_likelihood": {"idata": world.idata, "progressbar": False},
        "ranef": {"idata": world.idata, "progressbar": False},
        "varcorr": {"idata": world.idata},
        "r2": {"idata": world.idata},
        "loo_pit": {"idata": many_draws(), "progressbar": False},
        "moment_match": {"idata": many_draws(), "progressbar": False},
        "fit": {"draws": 3, "chains": 1, "progressbar": False},
        "sample": {"draws": 3, "tune": 3, "chains": 1, "cores": 1, "nuts_sampler": "pymc"},
    }.get(name, {})
    if name == "sample":
        rest |= {"progressbar": False, "compute_convergence_checks": False, "quiet": True}
    if name == "moment_match":
        mlmm.compute_log_likelihood(rest["idata"], model=world.model, progressbar=False)
        rest["loo"] = az.loo(rest["idata"], var_name="y_loo", pointwise=True)
    # Not the compiler is tested, which takes most of the time.
    quickly = pytensor.config.change_flags(mode="FAST_COMPILE")
    with quickly, world.marginal if marginal_wanted else world.model:
        found = getattr(mlmm, name)(**rest)
    assert found is not None


def test_frozen_models() -> None:
    """PyMC's frozen models are models, too."""
    model = freeze_model(build())
    assert mlmm.explain(model).integrated == ("u",)
    marginal = freeze_model(mlmm.marginalize(model))
    assert "u" in mlmm.unmarginalize(marginal).named_vars
    with pytest.raises(TypeError, match="must be a bambi"):
        mlmm.finish_bambi(World().idata, model)


@pytest.mark.parametrize("built", [True, False])
def test_models_of_bambi(built: bool) -> None:
    model = bambi_model(built)
    assert "1|g_offset" in mlmm.explain(model).integrated
    marginal = mlmm.marginalize(model)
    assert "1|g_offset" not in [rv.name for rv in marginal.free_RVs]
    assert "x_offset" in mlmm.noncenter(model, "x").named_vars


def test_nothing_asked_for() -> None:
    """An empty sequence is an answer: nothing is done."""
    world = World()
    before = world.state()
    assert mlmm.explain(world.model, []).integrated == ()
    assert mlmm.marginalize(world.model, []) is world.model
    assert [*mlmm.noncenter(world.model, []).named_vars] == [*world.model.named_vars]
    assert [*mlmm.conditional(world.marginal, []).named_vars] == [*world.marginal.named_vars]
    assert mlmm.recover(world.idata, model=world.marginal, var_names=[]) is world.idata
    kwargs = {"model": world.marginal, "var_names": (), "extend_inferencedata": False}
    found = mlmm.recover(world.idata, **kwargs)
    assert not found.data_vars
    assert_array_equal(found["chain"], [0, 1])
    assert str(world.state()) == str(before)


def test_names_twice_and_in_any_sequence() -> None:
    world = World()
    for names in (["u", "u"], ("u",), {"u"}, np.array(["u"]), pd.Index(["u"]), iter(["u"])):
        assert mlmm.explain(world.model, names).integrated == ("u",)
    both = [world.model["u"], "u"]
    assert [rv.name for rv in mlmm.marginalize(world.model, both).free_RVs] == ["tau", "b", "sigma"]
    names = ["mu", "u", "mu"]
    kwargs = {"model": world.marginal, "progressbar": False, "extend_inferencedata": False}
    assert [*mlmm.recover(world.idata, var_names=names, **kwargs).data_vars] == ["mu", "u"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.drop_vars("b"), "idata.posterior has no draws of 'b'"),
        (lambda p: p.assign(b=p["b"].expand_dims(k=2)), "has 'b' with dims"),
        (lambda p: p.assign(b=p["b"].isel(chain=0)), "has 'b' with dims"),
    ],
)
def test_draws_of_another_model(change: Callable, message: str) -> None:
    world = World()
    world.idata["posterior"] = change(world.idata["posterior"].to_dataset())
    summaries = (mlmm.ranef, mlmm.varcorr, mlmm.r2)
    verbs = (mlmm.recover, mlmm.compute_log_likelihood, mlmm.loo_pit, *summaries)
    for verb in verbs:
        with pytest.raises(ValueError, match=message):
            verb(world.idata, model=world.marginal)


def test_likelihoods_without_effects() -> None:
    with pm.Model() as model:
        pm.Normal("y", pm.Laplace("b", 0, 1), 1.0, observed=Y)
    with pytest.raises(ValueError, match="has no integrated effects"):
        mlmm.compute_log_likelihood(World().idata, model=model)
    for verb in (mlmm.ranef, mlmm.varcorr, mlmm.r2):
        with pytest.raises(ValueError, match="has no integrated effects"):
            verb(World().idata, model=model)


def test_an_intercept_that_bambi_has_moved() -> None:
    priors = {"Intercept": bambi.Prior("StudentT", nu=4, mu=0, sigma=1)}
    data = pd.DataFrame({"y": Y, "x": X, "g": np.array(list("abcd"))[G]})
    model = bambi.Model("y ~ x + (1|g)", data, priors=priors)
    idata = World().idata
    one = idata["posterior"]["tau"]
    posterior = xr.Dataset({name: one for name in ("Intercept", "1|g_sigma", "sigma")})
    idata["posterior"] = posterior.assign_attrs(modeling_interface="bambi")
    with pytest.raises(ValueError, match="Bambi has moved 'Intercept' to where all predictors"):
        mlmm.compute_log_likelihood(idata, model=model)
    for verb in (mlmm.ranef, mlmm.varcorr, mlmm.r2):
        with pytest.raises(ValueError, match="Bambi has moved 'Intercept' to where"):
            verb(idata, model=model)


def test_draws_of_bambi() -> None:
    model, world = bambi_model(), World()
    idata = finished(world)
    del idata["posterior"]["1|g_offset"]
    with pytest.raises(ValueError, match=r"no draws of '1\|g_offset': pass what recover"):
        mlmm.finish_bambi(idata, model)
    idata["posterior"].attrs["modeling_interface"] = "bambi"
    with pytest.raises(ValueError, match="finished before: its intercept would move twice"):
        mlmm.finish_bambi(idata, model)
