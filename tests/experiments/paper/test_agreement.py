"""Variants with another posterior are found; those that did not converge are set apart."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from experiments.paper.agreement import compare, comparisons, variants
from experiments.paper.tables import agreement, left_apart
from tests.experiments.paper.planted import ERROR, fitted


def test_variants_of_one_posterior_agree() -> None:
    results = [fitted(strategy) for strategy in ("O", "M1", "M2", "default")]
    compared, left = comparisons(variants(results))
    assert len(compared) == 6 and not left
    assert not any(c.flagged for c in compared)
    # Of 5 + 1 + 1: the constant is no element to compare.
    assert {c.size for c in compared} == {7}
    assert "beyond" not in agreement(compared)


def test_a_wrong_mean_is_flagged() -> None:
    results = [fitted("O"), fitted("M1", shift=0.1), fitted("M2")]
    compared, _ = comparisons(variants(results))
    flagged = {(c.first.strategy, c.second.strategy): c for c in compared if c.flagged}
    assert flagged.keys() == {("O", "M1"), ("M1", "M2")}
    for c in flagged.values():
        assert c.worst_mean == "u[2]" and abs(c.mean) > 4 > abs(c.sd)
        assert c.beyond == 1
    assert flagged["O", "M1"].mean < 0 < flagged["M1", "M2"].mean
    assert agreement(compared).count("**1 beyond 4**") == 2


def test_a_wrong_sd_is_flagged() -> None:
    compared, _ = comparisons(variants([fitted("O"), fitted("M1", scale=1.2)]))
    (c,) = compared
    assert c.flagged and c.worst_sd == "alpha[0]" and abs(c.mean) < 4 < abs(c.sd)


def test_scores_are_differences_over_their_error() -> None:
    first, second = variants([fitted("O"), fitted("M1")])
    difference = (first.moments["mean"] - second.moments["mean"]) / np.hypot(ERROR, ERROR)
    c = compare(first, second)
    assert_allclose(c.mean, difference[difference.abs().idxmax()])
    others = (first.moments["sd"] - second.moments["sd"]) / np.hypot(ERROR, ERROR)
    assert_allclose(c.rms, np.sqrt(np.mean([*difference**2, *others**2])))
    same = fitted("O")
    same["cell"]["strategy"] = "M2"
    assert compare(first, variants([same])[0]).mean == 0


def test_seeds_are_taken_together() -> None:
    (variant,) = variants([fitted("O", seed) for seed in (1, 2, 3, 4)])
    assert variant.seeds == (1, 2, 3, 4)
    assert_allclose(variant.moments["mcse_mean"], ERROR / 2)
    means = [fitted("O", seed)["variables"]["alpha"]["mean"][0] for seed in (1, 2, 3, 4)]
    assert_allclose(variant.moments.loc[("alpha", 0), "mean"], np.mean(means))


@pytest.mark.parametrize("fault", [{"divergences": 3}, {"rhat": 1.2}])
def test_what_did_not_converge_is_set_apart(fault: dict) -> None:
    results = [fitted("O"), fitted("M1"), fitted("M2", shift=1.0, **fault), fitted("M2", 2)]
    compared, left = comparisons(variants(results))
    assert not any(c.flagged for c in compared)
    # The seed of M2 that converged is compared, the other one is shown.
    assert len(compared) == 3
    (variant,) = left
    assert (variant.strategy, variant.seeds) == ("M2", (1,))
    assert variant.divergences == fault.get("divergences", 0)
    assert "M2, numpyro | 1 |" in left_apart(left)


def test_failures_and_other_models_are_no_partners() -> None:
    failed = {key: fitted("M1")[key] for key in ("kind", "cell", "machine")} | {"failed": "oops"}
    compared, left = comparisons(variants([fitted("O"), failed, fitted("O", model="pupil")]))
    assert (compared, left) == ([], [])


def test_samplers_are_compared_too() -> None:
    compared, _ = comparisons(variants([fitted("O"), fitted("O", sampler="nutpie", shift=0.2)]))
    assert [c.flagged for c in compared] == [True]


def test_nothing_in_common() -> None:
    a, b = fitted("O"), fitted("M1")
    b["variables"] = {"other": b["variables"]["u"]}
    with pytest.raises(ValueError, match="share nothing"):
        compare(*variants([a, b]))
