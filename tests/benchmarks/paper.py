"""The models of Lai, Domke and Sheldon (NeurIPS 2024), over a folder with their data.

The data sets are not part of this project. Those of the ``df_*`` files ship with the R package
``bcogsci`` (Nicenboim, Schad and Vasishth), ``p_f.csv`` is the training set of the Kaggle
competition "OSIC Pulmonary Fibrosis Progression", ``electric*.csv`` comes with Gelman and Hill
(2007), and ``grouseticks.csv`` with lme4. Priors and codings are those of the paper's scripts.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pymc as pm
import pytensor.tensor as pt

from tests.benchmarks.cases import Case, Form, correlated, effects

__all__ = ["paper_cases"]


def _codes(column: pd.Series) -> tuple[np.ndarray, int]:
    codes, levels = pd.factorize(column, sort=True)
    return codes, len(levels)


def _crossed(
    data: pd.DataFrame,
    form: Form,
    *,
    groups: dict[str, str],
    y: str,
    x: np.ndarray,
    likelihood: type,
    beta: float,
    tau: float,
    sigma: float,
) -> pm.Model:
    """``y ~ x + (x | g) + (x | h) + …``, one covariance per group."""
    with pm.Model() as model:
        intercept = pm.Normal("alpha", 0, 10)
        slope = pm.Normal("beta", 0, beta)
        for name, column in groups.items():
            index, size = _codes(data[column])
            effect = correlated(name, tau, size, form)
            intercept = intercept + effect[index, 0]
            slope = slope + effect[index, 1]
        residual = pm.HalfNormal("sigma", sigma)
        likelihood("y", intercept + slope * x, residual, observed=data[y].to_numpy(float))
    return model


def _stroop(data: pd.DataFrame, form: Form) -> pm.Model:
    index, size = _codes(data["subj"])
    x = np.where(data["condition"] == "Congruent", -1.0, 1.0)
    with pm.Model() as model:
        alpha, beta = pm.Normal("alpha", 6, 1.5), pm.Normal("beta", 0, 0.01)
        sigma_alpha, sigma_beta = pm.Normal("sigma_alpha", 0, 1), pm.Normal("sigma_beta", 0, 1)
        u, s = correlated("u", 1, size, form), correlated("s", 1, size, form)
        mu = alpha + u[index, 0] + x * (beta + u[index, 1])
        log_sigma = sigma_alpha + s[index, 0] + x * (sigma_beta + s[index, 1])
        pm.LogNormal("y", mu, pt.exp(log_sigma), observed=data["RT"].to_numpy(float))
    return model


def _pupil(data: pd.DataFrame, form: Form) -> pm.Model:
    index, size = _codes(data["subj"])
    x = data["load"].to_numpy(float)
    with pm.Model() as model:
        alpha, beta = pm.Normal("alpha", 1000, 500), pm.Normal("beta", 0, 100)
        u = correlated("u", 1000, size, form)
        mu = alpha + u[index, 0] + x * (beta + u[index, 1])
        pm.Normal("y", mu, pm.HalfNormal("sigma", 1000), observed=data["p_size"].to_numpy(float))
    return model


def _fibrosis(data: pd.DataFrame, form: Form) -> pm.Model:
    index, size = _codes(data["Patient"])
    weeks = data["Weeks"].to_numpy(float)
    with pm.Model() as model:
        a = effects("a", pm.Normal("m_a", 0, 500), pm.HalfCauchy("s_a", 100), size, form)
        b = effects("b", pm.Normal("m_b", 0, 3), pm.HalfCauchy("s_b", 3), size, form)
        mu = a[index] + b[index] * weeks
        pm.Normal("y", mu, pm.HalfCauchy("s", 100), observed=data["FVC"].to_numpy(float))
    return model


def _grouseticks(data: pd.DataFrame, form: Form) -> pm.Model:
    brood, n_broods = _codes(data["BROOD"])
    location, n_locations = _codes(data["LOCATION"])
    with pm.Model() as model:
        means = {name: pm.Normal(f"m_{name}", 0, 1) for name in ("brood", "location")}
        scales = {name: pm.HalfCauchy(f"s_{name}", 5) for name in ("brood", "location")}
        year, height = pm.Normal("year", 0, 1), pm.Normal("height", 0, 1)
        u = effects("brood", means["brood"], scales["brood"], n_broods, form)
        v = effects("location", means["location"], scales["location"], n_locations, form)
        mu = u[brood] + v[location]
        mu = mu + year * data["YEAR"].to_numpy(float) + height * data["cHEIGHT"].to_numpy(float)
        pm.Normal("y", mu, pm.HalfCauchy("s_obs", 5), observed=data["TICKS"].to_numpy(float))
    return model


def _electric(data: pd.DataFrame, pairs: pd.DataFrame, form: Form) -> pm.Model:
    pair, n_pairs = _codes(data["pair"])
    grade = data["grade"].to_numpy() - 1
    grade_of_pair = pairs.sort_values("pair")["grade_pair"].to_numpy() - 1
    with pm.Model() as model:
        mua = pm.Normal("mua", 0, 1, shape=4)
        a = effects("a", 100 * mua[grade_of_pair], 1.0, n_pairs, form)
        b = pm.Normal("b", 0, 100, shape=4)
        log_sigma = pm.Normal("sigmay", 0, 1, shape=4)
        mu = a[pair] + b[grade] * data["treatment"].to_numpy(float)
        observed = data["y"].to_numpy(float)
        pm.Normal("y", mu, pt.exp(log_sigma)[grade], observed=observed)
    return model


def paper_cases(folder: Path) -> list[Case]:
    """Return the paper's models, with their data read from a folder.

    Raises
    ------
    FileNotFoundError
        A data set is not there; the message says which.
    """

    def read(file: str) -> pd.DataFrame:
        return pd.read_csv(folder / file)

    def crossed(name: str, file: str, x: Callable[[pd.DataFrame], np.ndarray], **kwargs) -> Case:
        data = read(file)
        kwargs["x"] = x(data)
        return Case(name, partial(_crossed, data, **kwargs), one=("u",))

    def coded(column: str, low: str) -> Callable[[pd.DataFrame], np.ndarray]:
        return lambda data: np.where(data[column] == low, -0.5, 0.5)

    def log(y: str, beta: float = 5, **groups: str) -> dict:
        return dict(groups=groups, y=y, likelihood=pm.LogNormal, beta=beta, tau=5, sigma=5)

    def as_it_is(y: str, column: str, beta: float, tau: float, sigma: float, **groups: str) -> dict:
        common = dict(groups=groups, y=y, likelihood=pm.Normal, beta=beta, tau=tau, sigma=sigma)
        return common | {"x": lambda data: data[column].to_numpy(float)}

    by_subject = {"u": "subject", "w": "item"}
    by_subj = {"u": "subj", "w": "item"}
    dutch = as_it_is("NP1", "condition", 5, 1, 5, **by_subject)
    eeg = as_it_is("n400", "cloze", 10, 20, 50, **by_subj)
    gg05 = by_subj | {"v": "experiment"}
    return [
        crossed("dutch", "df_dutch.csv", **dutch),
        crossed("english", "df_english.csv", **dutch),
        crossed("mandarin", "df_gibsonwu.csv", coded("type", "obj-ext"), **log("rt", **by_subj)),
        crossed(
            "mandarin2", "df_gibsonwu2.csv", coded("condition", "obj-ext"), **log("rt", **by_subj)
        ),
        crossed(
            "dillonE1",
            "df_dillonE1.csv",
            lambda data: (data["int"] == "low").to_numpy(float),
            **log("rt", **by_subj),
        ),
        crossed(
            "gg05",
            "df_gg05_rc.csv",
            lambda data: np.where(data["condition"] == "objgap", 1.0, -1.0),
            **log("RT", **gg05),
        ),
        Case("stroop", partial(_stroop, read("df_stroop.csv")), one=("u",), rest="noncentred"),
        Case("pupil", partial(_pupil, read("df_pupil_complete.csv")), one=("u",)),
        Case("fibrosis", partial(_fibrosis, read("p_f.csv")), one=("a", "b")),
        Case("grouseticks", partial(_grouseticks, read("grouseticks.csv")), one=("brood",)),
        crossed("eeg", "df_eeg_complete.csv", **eeg),
        Case(
            "electric",
            partial(_electric, read("electric.csv"), read("electric_pairs.csv")),
            one=("a",),
        ),
    ]
