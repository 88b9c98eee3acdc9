"""The examples are ordinary models, of the density that is written down for them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from pymc_marginal_lmm import explain, marginalize
from pymc_marginal_lmm.examples import MODELS, SOURCES, insteval
from tests.examples.frames import frame

EFFECTS = {
    "dutch": {"u": ("subject", 6), "w": ("item", 8)},
    "english": {"u": ("subject", 6), "w": ("item", 8)},
    "eeg": {"u": ("subj", 6), "w": ("item", 8)},
    "dillonE1": {"u": ("subj", 6), "w": ("item", 8)},
    "mandarin": {"u": ("subj", 6), "w": ("item", 8)},
    "mandarin2": {"u": ("subj", 6), "w": ("item", 8)},
    "gg05": {"u": ("subj", 6), "w": ("item", 8), "v": ("experiment", 2)},
    "stroop": {"u": ("subj", 6)},
    "pupil": {"u": ("subj", 6)},
    "grouseticks": {"brood": ("BROOD", 12), "location": ("LOCATION", 6)},
    "fibrosis": {"a": ("Patient", 6), "b": ("Patient", 6)},
    "electric": {"a": ("pair", 24)},
    "insteval": {"student": ("s", 6), "lecturer": ("d", 8), "department": ("dept", 3)},
}
"""Effects with the dim and the number of their levels."""

FIXED = {
    "grouseticks": {"m_brood", "m_location", "year", "height"},
    "fibrosis": {"m_a", "m_b"},
    "electric": {"mua", "b"},
    "insteval": {"alpha", "service"},
    "pupil": {"alpha", "beta"},
    "stroop": {"alpha", "beta"},
}
"""Other Normal variables that can go with them."""

DENSITIES = {
    "dutch": -896.4943092758388,
    "english": -896.4212588546659,
    "mandarin": -1214.5539139984019,
    "mandarin2": -1235.7985873616074,
    "dillonE1": -1226.2031800526113,
    "gg05": -1234.4435185223178,
    "stroop": -1334.1797223649821,
    "pupil": -19584712.57636649,
    "fibrosis": -131146068.98201917,
    "grouseticks": -2423.212904318277,
    "eeg": -123.1083688193037,
    "electric": -239244.12943387474,
}
"""Log densities of the models as the benchmarks had them, written out by hand."""

with_name = pytest.mark.parametrize("name", MODELS)


def test_every_model_is_here() -> None:
    assert MODELS.keys() == EFFECTS.keys() == SOURCES.keys()
    assert len(MODELS) == 13


@with_name
def test_dims(name: str) -> None:
    model = MODELS[name](frame(name))
    for effect, (dim, size) in EFFECTS[name].items():
        assert model.named_vars_to_dims[effect][0] == dim
        assert len(model.coords[dim]) == size
    assert [rv.name for rv in model.observed_RVs] == ["y"]


@with_name
def test_what_can_be_integrated_out(name: str) -> None:
    model = MODELS[name](frame(name))
    fixed = FIXED.get(name, {"alpha", "beta"})
    assert set(explain(model).integrated) == EFFECTS[name].keys() | fixed
    # Classes of effects alone, as in the paper.
    marginal = marginalize(model, list(EFFECTS[name]))
    left = {rv.name for rv in model.free_RVs} - EFFECTS[name].keys()
    assert {rv.name for rv in marginal.free_RVs} == left


@pytest.mark.parametrize("name", DENSITIES)
def test_densities_stay(name: str) -> None:
    model = MODELS[name](frame(name))
    # Each element another value, also where variables have the same size.
    point = {
        key: 0.1 * np.cos(np.arange(np.size(value)) + len(key)).reshape(np.shape(value))
        for key, value in model.initial_point().items()
    }
    actual = model.compile_logp(mode="FAST_COMPILE")(point)
    assert_allclose(actual, DENSITIES[name], rtol=1e-10)


def test_effects_on_the_spread_stay() -> None:
    explanation = explain(MODELS["stroop"](frame("stroop")))
    assert "s" in explanation.refusals
    assert "s" in explanation.sampled


def logp(name: str, point: dict, **kwargs: bool) -> float:
    """Return the log density of the variables as they are, without Jacobians."""
    model = MODELS[name](frame(name), **kwargs)
    start = model.initial_point()
    values = {rv.name: model.rvs_to_values[rv].name for rv in model.free_RVs}
    assert {values[key].removesuffix("_log__") for key in point} == point.keys()
    for key, value in point.items():
        log = values[key].endswith("_log__")
        start[values[key]] = np.log(value) if log else np.asarray(value, dtype=float)
    return float(model.compile_logp(jacobian=False, mode="FAST_COMPILE")(start))


def test_density_of_grouseticks() -> None:
    data, rng = frame("grouseticks"), np.random.default_rng(0)
    brood, location = rng.normal(size=12), rng.normal(size=6)
    point = {"m_brood": 0.2, "m_location": -0.1, "s_brood": 1.3, "s_location": 0.7}
    point |= {"year": 0.03, "height": -0.01, "s_obs": 2.0, "brood": brood, "location": location}
    mu = brood[data["BROOD"] - 500] + location[data["LOCATION"] - 30]
    mu = mu + 0.03 * data["YEAR"] - 0.01 * data["cHEIGHT"]
    expected = (
        stats.norm(mu, 2).logpdf(data["TICKS"]).sum()
        + stats.norm(0.2, 1.3).logpdf(brood).sum()
        + stats.norm(-0.1, 0.7).logpdf(location).sum()
        + stats.norm(0, 1).logpdf([0.2, -0.1, 0.03, -0.01]).sum()
        + stats.halfcauchy(0, 5).logpdf([1.3, 0.7, 2]).sum()
    )
    assert_allclose(logp("grouseticks", point), expected, rtol=1e-9)


def test_density_of_electric() -> None:
    data, rng = frame("electric"), np.random.default_rng(0)
    point = {"mua": rng.normal(size=4), "b": rng.normal(size=4), "sigmay": rng.normal(size=4)}
    point["a"] = rng.normal(100, 1, size=24)
    pair, grade = data["pair"].to_numpy() - 1, data["grade"].to_numpy() - 1
    grade_of_pair = np.empty(24, dtype=int)
    grade_of_pair[pair] = grade
    mu = point["a"][pair] + point["b"][grade] * data["treatment"]
    expected = (
        stats.norm(mu, np.exp(point["sigmay"])[grade]).logpdf(data["y"]).sum()
        + stats.norm(100 * point["mua"][grade_of_pair], 1).logpdf(point["a"]).sum()
        + stats.norm(0, 1).logpdf([*point["mua"], *point["sigmay"]]).sum()
        + stats.norm(0, 100).logpdf(point["b"]).sum()
    )
    assert_allclose(logp("electric", point), expected, rtol=1e-9)


@pytest.mark.parametrize("own_scales", [False, True])
def test_density_of_insteval(own_scales: bool) -> None:
    data, rng = frame("insteval"), np.random.default_rng(0)
    sizes = {"student": 6, "lecturer": 8, "department": 3}
    u = {name: rng.normal(size=size) for name, size in sizes.items()}
    scale = dict.fromkeys(sizes, 1.0)
    if own_scales:
        scale = {"student": 0.4, "lecturer": 0.6, "department": 0.2}
    scales = {f"sd_{name}": value for name, value in scale.items()} if own_scales else {}
    mu = 3 - 0.1 * data["service"] + u["student"][data["s"] - 1]
    mu = mu + u["lecturer"][data["d"] - 1001] + u["department"][data["dept"]]
    expected = (
        stats.norm(mu, 1.2).logpdf(data["y"]).sum()
        + sum(stats.norm(0, scale[name]).logpdf(u[name]).sum() for name in u)
        + stats.norm(0, 5).logpdf(3)
        + stats.norm(0, 1).logpdf(-0.1)
        + stats.halfnorm(0, 1).logpdf([1.2, *scales.values()]).sum()
    )
    point = {"alpha": 3.0, "service": -0.1, "sigma": 1.2, **u, **scales}
    assert_allclose(logp("insteval", point, own_scales=own_scales), expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("name", "x"),
    [
        ("dutch", lambda data: data["condition"]),
        ("eeg", lambda data: data["cloze"]),
        ("dillonE1", lambda data: data["int"] == "low"),
        ("mandarin", lambda data: (data["type"] == "subj-ext") - 0.5),
        ("mandarin2", lambda data: (data["condition"] == "subj-ext") - 0.5),
        ("gg05", lambda data: 1 - 2 * (data["condition"] == "subjgap")),
        ("stroop", lambda data: 1 - 2 * (data["condition"] == "Congruent")),
        ("pupil", lambda data: data["load"]),
    ],
)
def test_slopes_multiply_the_predictor(name: str, x) -> None:
    """The likelihood of ``beta`` alone, all else 0, is that of the response given ``beta x``."""
    data = frame(name)
    response = {"dutch": "NP1", "eeg": "n400", "pupil": "p_size"}
    column = response.get(name, "RT" if "RT" in data else "rt")
    y = data[column] if name in response else np.log(data[column])
    model = MODELS[name](data)
    start = {key: np.zeros_like(value) for key, value in model.initial_point().items()}
    likelihood = model.compile_logp(vars=[model["y"]], mode="FAST_COMPILE")
    sizes = []
    for beta in (0.0, 0.3):
        start["beta"] = np.array(beta)
        expected = stats.norm(beta * np.asarray(x(data), dtype=float), 1).logpdf(y).sum()
        if name not in response:
            expected -= y.sum()
        sizes.append(expected)
        assert_allclose(likelihood(start), expected, rtol=1e-9)
    assert sizes[0] != sizes[1]


def test_own_scales_of_insteval() -> None:
    marginal = marginalize(insteval(frame("insteval"), own_scales=True))
    names = {rv.name for rv in marginal.free_RVs}
    assert names == {"sd_student", "sd_lecturer", "sd_department", "sigma"}
