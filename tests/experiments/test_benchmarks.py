"""What the benchmarks make of their figures: ``fit`` beside the plain model and NUTS."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

from experiments.benchmarks.__main__ import runs
from experiments.benchmarks.overview import figure, overview
from experiments.benchmarks.report import markdown, rate, seconds_to_1000
from experiments.benchmarks.targets import (
    maximal,
    no_kernels,
    plain_insteval,
    rows_of_fits,
    rows_of_models,
)
from experiments.machine import machine
from pymc_marginal_lmm import explain, marginalize


def by_nuts(ess: float, compile_s: float, sampling_s: float) -> dict[str, Any]:
    times = {"compile_s": compile_s, "sampling_s": sampling_s, "recovery_s": 0.0}
    found = {"ess_min": ess, "rhat": 1.002, "divergences": 3, "gradients": 8000, "draws": 4000}
    return {**times, **found, "peak_MB": 10.0}


def by_fit(ess: float, compile_s: float, sampling_s: float) -> dict[str, Any]:
    times = {"compile_s": compile_s, "sampling_s": sampling_s, "recovery_s": 0.0}
    times |= {"first_s": compile_s + sampling_s, "second_s": sampling_s, "warm_s": 1.5}
    found = {
        "ess_min": ess,
        "evaluations": 6000,
        "khat": 0.21,
        "log_evidence": -12.3,
        "draws": 4000,
    }
    return {**times, **found, "peak_MB": 10.0}


def results(**cases: dict[str, dict]) -> dict[str, Any]:
    gradient = {"jax": {}}
    for variant in ("centred", "all"):
        gradient["jax"][variant] = {"us_median": 1.0, "us_min": 1.0, "transform_s": 1.0}
    return {
        "machine": machine(),
        "cases": {name: {"gradient": gradient, "sampling": own} for name, own in cases.items()},
    }


PLAIN = {
    "centred nutpie": by_nuts(100.0, 10.0, 2.0),
    "noncentred numpyro": by_nuts(200.0, 8.0, 1.0),
}
MARGINAL = {"all numpyro": by_nuts(2000.0, 11.0, 2.0)}
FIT = {"fit importance": by_fit(3000.0, 1.0, 0.5)}
MEASURED = results(
    dutch=PLAIN | MARGINAL | FIT,
    stroop=PLAIN | MARGINAL | {"fit importance": {"failed": "ValueError: 70 parameters"}},
    english=PLAIN | MARGINAL,
)


def rows(text: str, name: str) -> list[list[str]]:
    split = [[c.strip() for c in line.strip("|").split("|")] for line in text.splitlines()]
    return [row for row in split if row[0] == name]


def test_fit_has_a_sampler_of_its_own() -> None:
    samplers = ("numpyro", "nutpie")
    expected = [["all", "numpyro"], ["all", "nutpie"], ["fit", "importance"]]
    assert runs(["all", "fit"], samplers) == expected
    assert runs(["fit"], ["numpyro"]) == [["fit", "importance"]]


def test_report() -> None:
    text = markdown(MEASURED)
    (_, *forms, own) = rows(text, "dutch")
    assert [row[1] for row in forms] == ["centred", "noncentred", "marginal", "fit"]
    # ESS, R̂, divergences, evaluations per draw, ESS per 1,000 of them, per second, its ratio to
    # the best plain row, seconds, those to 1,000, their ratio.
    found = ["3,000", "–", "–", "1.5", "500", "6,000", "30", "1 + 0.5 + 0", "1.5", "0.115", "10"]
    assert forms[-1][3:] == found
    # Empty caches, warm ones, second fit, evaluations, k̂, log evidence.
    assert own[1:] == ["1.5", "1.5", "0.5", "6,000", "0.21", "-12.30"]
    assert "70 parameters" in rows(text, "stroop")[-1][3]
    assert "- ESS per second, fit over plain: geometric mean 30, worst 30 (dutch)" in text
    assert "- seconds to 1,000, fit over plain: geometric mean 0.115, worst 0.115 (dutch)" in text
    assert "- ESS per second, marginal over plain: geometric mean 5," in text
    assert "- divergences, all marginal runs together: 9" in text


def test_what_is_computed_for_each_draw_is_in_the_report() -> None:
    assert "After sampling" not in markdown(MEASURED)
    figures = {"n": 73421, "q": 4116, "gradient_ms": 41.3, "rows_ratio": 1.37}
    measured = results(insteval=PLAIN)
    measured["cases"]["insteval"]["per_draw"] = {"": figures | {"effects_ratio": 0.99}}
    measured["cases"]["eeg"] = {"gradient": {}, "sampling": {}, "per_draw": {"": {"failed": "no"}}}
    text = markdown(measured)
    assert "## After sampling" in text
    (own,) = [row for row in rows(text, "insteval") if len(row) == 6]
    assert own[1:] == ["73,421", "4,116", "41.3", "1.37", "0.99"]


def test_overview_shows_what_has_been_measured() -> None:
    text = overview(MEASURED)
    (dutch,), (english,) = rows(text, "dutch"), rows(text, "english")
    # ESS, per 1,000 gradients or evaluations, ratios of rates and times.
    assert dutch[1:] == ["200", "2,000", "3,000", "25", "250", "500", "5", "30", "1", "0.115"]
    assert english[1:] == ["200", "2,000", "–", "25", "250", "–", "5", "–", "1", "–"]
    assert "marginal + NUTS **5**, fit **30**" in text


def test_figure_has_all_sides(tmp_path: Any) -> None:
    figure(MEASURED, tmp_path / "with.svg")
    figure(results(english=PLAIN | MARGINAL), tmp_path / "without.svg")
    drawn = [(tmp_path / f"{name}.svg").read_text() for name in ("with", "without")]
    assert [text.count("<!-- fit -->") for text in drawn] == [1, 0]


def test_targets_of_the_models() -> None:
    wait, speed = rows_of_models(MEASURED)
    # stroop goes by NUTS; english is not there.
    by_nuts, plain = MARGINAL["all numpyro"], PLAIN["noncentred numpyro"]
    assert "2 models" in wait[0] and "2 models" in speed[0]
    assert seconds_to_1000(by_nuts) == seconds_to_1000(plain) == 13
    assert wait[2] == f"{np.sqrt(1.5 / 13):.3g}, 1 (stroop)"
    assert rate(by_nuts) == 5 * rate(plain)
    assert speed[2] == "12.2, 5 (stroop)"
    assert rows_of_models(results(english=PLAIN | MARGINAL)) == []


def test_targets_of_single_fits() -> None:
    own = {"seconds": 30.0, "recovery_s": 10.0, "ess_min": 500.0, "ess_parameters": 2000.0}
    found = {
        "first": {"failed": "more than 3 s"},
        "insteval_own": own | {"dpotrf_ms": 10.0},
        "insteval": own,
        "maximal": own | {"khat": 0.3},
    }
    reached = [row[2] for row in rows_of_fits(found, plain=120.0)]
    shown = ["0.5 (60 s of 120 s)", "2,000 (20 s of 10 ms)", "30", "240 (k̂ 0.30)"]
    assert reached == ["more than 3 s", *shown]
    cell = {"model": "insteval_own", "strategy": "O"}
    measured = {"kind": "fit", "compile_s": 5.0, "sampling_s": 10.0, "recovery_s": 0.0}
    measured |= {"cell": cell, "ess_min": 250.0}
    other = measured | {"cell": cell | {"strategy": "all"}, "sampling_s": 0.0}
    failed = {"kind": "fit", "cell": cell, "failed": "more than 3 s"}
    assert plain_insteval([measured, other, failed]) == 45


def test_an_empty_cache_of_numba_is_for_one_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", "before")
    with no_kernels():
        assert os.listdir(os.environ["NUMBA_CACHE_DIR"]) == []
    assert os.environ["NUMBA_CACHE_DIR"] == "before"


def test_the_maximal_model_has_21_dimensions() -> None:
    model = maximal(subjects=6, items=5)
    assert set(explain(model).integrated) == {"beta", "u", "w"}
    point = marginalize(model).initial_point()
    assert sum(np.size(value) for value in point.values()) == 21
