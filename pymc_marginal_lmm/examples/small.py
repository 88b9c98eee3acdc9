"""Models with one class of levels, and models of intercepts only."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pymc as pm
import pytensor.tensor as pt

__all__ = ["electric", "fibrosis", "grouseticks", "pupil", "stroop"]


def stroop(data: pd.DataFrame) -> pm.Model:
    """Model reaction times in the Stroop task: subjects differ in their mean and in their spread.

    Parameters
    ----------
    data : pandas.DataFrame
        Columns ``subj``, ``condition`` (``"Congruent"`` or ``"Incongruent"``) and ``RT`` (ms).

    Returns
    -------
    pymc.Model
        Effects ``u`` on the mean and ``s`` on the log standard deviation; the latter are not
        linear, and stay sampled in any marginal model.
    """
    subject, subjects = pd.factorize(data["subj"], sort=True)
    x = np.where(data["condition"] == "Congruent", -1.0, 1.0)
    coords = {"subj": subjects, "coefficient": ["intercept", "slope"]}
    with pm.Model(coords=coords) as model:
        alpha, beta = pm.Normal("alpha", 6, 1.5), pm.Normal("beta", 0, 0.01)
        sigma_alpha, sigma_beta = pm.Normal("sigma_alpha", 0, 1), pm.Normal("sigma_beta", 0, 1)
        effects = {}
        for name in ("u", "s"):
            sd = pm.HalfNormal.dist(1, shape=2)
            chol, _, _ = pm.LKJCholeskyCov(f"chol_{name}", n=2, eta=1, sd_dist=sd)
            effects[name] = pm.MvNormal(name, 0, chol=chol, dims=("subj", "coefficient"))[subject]
        u, s = effects["u"], effects["s"]
        mu = alpha + u[:, 0] + x * (beta + u[:, 1])
        log_sigma = sigma_alpha + s[:, 0] + x * (sigma_beta + s[:, 1])
        pm.LogNormal("y", mu, pt.exp(log_sigma), observed=data["RT"].to_numpy(float))
    return model


def pupil(data: pd.DataFrame) -> pm.Model:
    """Model the size of the pupil by the load on attention: 20 subjects.

    The paper's script of the marginalized model has half-Normal(500) priors on the standard
    deviations of effects, that of the plain model half-Normal(1000), which is taken here.

    Parameters
    ----------
    data : pandas.DataFrame
        Columns ``subj``, ``load`` (0 to 5) and ``p_size``.

    Returns
    -------
    pymc.Model
        Effects ``u`` of subjects.
    """
    subject, subjects = pd.factorize(data["subj"], sort=True)
    x = data["load"].to_numpy(float)
    coords = {"subj": subjects, "coefficient": ["intercept", "slope"]}
    with pm.Model(coords=coords) as model:
        alpha, beta = pm.Normal("alpha", 1000, 500), pm.Normal("beta", 0, 100)
        sd = pm.HalfNormal.dist(1000, shape=2)
        chol, _, _ = pm.LKJCholeskyCov("chol_u", n=2, eta=1, sd_dist=sd)
        u = pm.MvNormal("u", 0, chol=chol, dims=("subj", "coefficient"))
        mu = alpha + u[subject, 0] + x * (beta + u[subject, 1])
        pm.Normal("y", mu, pm.HalfNormal("sigma", 1000), observed=data["p_size"].to_numpy(float))
    return model


def fibrosis(data: pd.DataFrame) -> pm.Model:
    """Model lung capacity over weeks: 176 patients, each with a line of their own.

    Parameters
    ----------
    data : pandas.DataFrame
        Columns ``Patient``, ``Weeks`` and ``FVC`` (ml).

    Returns
    -------
    pymc.Model
        Intercepts ``a`` and slopes ``b`` of patients.
    """
    patient, patients = pd.factorize(data["Patient"], sort=True)
    with pm.Model(coords={"Patient": patients}) as model:
        m_a, s_a = pm.Normal("m_a", 0, 500), pm.HalfCauchy("s_a", 100)
        a = pm.Normal("a", m_a, s_a, dims="Patient")
        m_b, s_b = pm.Normal("m_b", 0, 3), pm.HalfCauchy("s_b", 3)
        b = pm.Normal("b", m_b, s_b, dims="Patient")
        mu = a[patient] + b[patient] * data["Weeks"].to_numpy(float)
        pm.Normal("y", mu, pm.HalfCauchy("s", 100), observed=data["FVC"].to_numpy(float))
    return model


def grouseticks(data: pd.DataFrame) -> pm.Model:
    """Model ticks on chicks of the red grouse: 118 broods, nested in 63 locations.

    As in the paper, counts have a Normal likelihood, and years are the numbers 95, 96 and 97.

    Parameters
    ----------
    data : pandas.DataFrame
        Columns ``BROOD``, ``LOCATION``, ``YEAR``, ``cHEIGHT`` and ``TICKS``.

    Returns
    -------
    pymc.Model
        Effects ``brood`` and ``location``, each with a mean of its own.
    """
    brood_of_row, broods = pd.factorize(data["BROOD"], sort=True)
    location_of_row, locations = pd.factorize(data["LOCATION"], sort=True)
    years, heights = data["YEAR"].to_numpy(float), data["cHEIGHT"].to_numpy(float)
    with pm.Model(coords={"BROOD": broods, "LOCATION": locations}) as model:
        m_brood, m_location = pm.Normal("m_brood", 0, 1), pm.Normal("m_location", 0, 1)
        s_brood, s_location = pm.HalfCauchy("s_brood", 5), pm.HalfCauchy("s_location", 5)
        year, height = pm.Normal("year", 0, 1), pm.Normal("height", 0, 1)
        brood = pm.Normal("brood", m_brood, s_brood, dims="BROOD")
        location = pm.Normal("location", m_location, s_location, dims="LOCATION")
        mu = brood[brood_of_row] + location[location_of_row] + year * years + height * heights
        pm.Normal("y", mu, pm.HalfCauchy("s_obs", 5), observed=data["TICKS"].to_numpy(float))
    return model


def electric(data: pd.DataFrame) -> pm.Model:
    """Model reading scores with and without a television programme: 96 pairs of classes.

    Parameters
    ----------
    data : pandas.DataFrame
        Columns ``pair``, ``grade`` (the same within a pair), ``treatment`` (0 or 1) and ``y``.

    Returns
    -------
    pymc.Model
        Effects ``a`` of pairs, around the mean of their grade; the residual standard deviation is
        that of the grade.
    """
    pair, pairs = pd.factorize(data["pair"], sort=True)
    grade, grades = pd.factorize(data["grade"], sort=True)
    grade_of_pair = grade[np.unique(pair, return_index=True)[1]]
    with pm.Model(coords={"pair": pairs, "grade": grades}) as model:
        mua = pm.Normal("mua", 0, 1, dims="grade")
        a = pm.Normal("a", 100 * mua[grade_of_pair], 1, dims="pair")
        b = pm.Normal("b", 0, 100, dims="grade")
        log_sigma = pm.Normal("sigmay", 0, 1, dims="grade")
        mu = a[pair] + b[grade] * data["treatment"].to_numpy(float)
        pm.Normal("y", mu, pt.exp(log_sigma)[grade], observed=data["y"].to_numpy(float))
    return model
