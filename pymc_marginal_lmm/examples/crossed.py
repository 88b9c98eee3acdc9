"""Reading and brain data: intercepts and slopes that vary over subjects and over items."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pymc as pm

__all__ = ["dillonE1", "dutch", "eeg", "english", "gg05", "mandarin", "mandarin2"]


def crossed(
    data: pd.DataFrame,
    classes: Mapping[str, str],
    y: str,
    x: np.ndarray,
    *,
    likelihood: Any,
    beta: float,
    tau: float,
    sigma: float,
) -> pm.Model:
    """Build ``y ~ x + (x | g) + (x | h) + …``, with one covariance per class of effects.

    Parameters
    ----------
    data : pandas.DataFrame
        One row per observation.
    classes : mapping of str to str
        From the name of effects to the column with their levels.
    y : str
        The column of the response.
    x : ndarray, shape (n,)
        The predictor.
    likelihood : type
        ``pm.Normal`` or ``pm.LogNormal``.
    beta, tau, sigma : float
        Scales of the priors: of the slope (Normal), of the effects' standard deviations and of the
        residual one (half-Normal).
    """
    codes = {name: pd.factorize(data[column], sort=True) for name, column in classes.items()}
    coords = {column: codes[name][1] for name, column in classes.items()}
    with pm.Model(coords=coords | {"coefficient": ["intercept", "slope"]}) as model:
        intercept, slope = pm.Normal("alpha", 0, 10), pm.Normal("beta", 0, beta)
        for name, column in classes.items():
            sd = pm.HalfNormal.dist(tau, shape=2)
            chol, _, _ = pm.LKJCholeskyCov(f"chol_{name}", n=2, eta=1, sd_dist=sd)
            effect = pm.MvNormal(name, 0, chol=chol, dims=(column, "coefficient"))
            level = codes[name][0]
            intercept, slope = intercept + effect[level, 0], slope + effect[level, 1]
        residual = pm.HalfNormal("sigma", sigma)
        likelihood("y", intercept + slope * x, residual, observed=data[y].to_numpy(float))
    return model


def reading_times(data: pd.DataFrame, y: str, x: np.ndarray, **more: str) -> pm.Model:
    """Build a model of times in ms, which are log-Normal."""
    classes = {"u": "subj", "w": "item", **more}
    return crossed(data, classes, y, x, likelihood=pm.LogNormal, beta=5, tau=5, sigma=5)


def dutch(data: pd.DataFrame) -> pm.Model:
    """Model log reading times of Dutch sentences: 24 subjects, 16 items.

    Parameters
    ----------
    data : pandas.DataFrame
        Columns ``subject``, ``item``, ``condition`` (-1 or 1) and ``NP1`` (log ms).

    Returns
    -------
    pymc.Model
        Effects ``u`` of subjects and ``w`` of items.
    """
    classes = {"u": "subject", "w": "item"}
    x = data["condition"].to_numpy(float)
    return crossed(data, classes, "NP1", x, likelihood=pm.Normal, beta=5, tau=1, sigma=5)


def english(data: pd.DataFrame) -> pm.Model:
    """Model log reading times of English sentences, as :func:`dutch`: 48 subjects, 16 items.

    Parameters
    ----------
    data : pandas.DataFrame
        Columns ``subject``, ``item``, ``condition`` (-1 or 1) and ``NP1`` (log ms).

    Returns
    -------
    pymc.Model
        Effects ``u`` of subjects and ``w`` of items.
    """
    return dutch(data)


def eeg(data: pd.DataFrame) -> pm.Model:
    """Model the N400 of an EEG by how predictable a word was: 334 subjects, 80 items.

    Parameters
    ----------
    data : pandas.DataFrame
        Columns ``subj``, ``item``, ``cloze`` (a probability) and ``n400`` (microvolts).

    Returns
    -------
    pymc.Model
        Effects ``u`` of subjects and ``w`` of items.
    """
    classes = {"u": "subj", "w": "item"}
    x = data["cloze"].to_numpy(float)
    return crossed(data, classes, "n400", x, likelihood=pm.Normal, beta=10, tau=20, sigma=50)


def dillonE1(data: pd.DataFrame) -> pm.Model:
    """Model reading times by interference: 40 subjects, 48 items, a quarter of the pairs.

    Parameters
    ----------
    data : pandas.DataFrame
        Columns ``subj``, ``item``, ``int`` (``"low"`` or ``"high"``) and ``rt`` (ms).

    Returns
    -------
    pymc.Model
        Effects ``u`` of subjects and ``w`` of items.
    """
    return reading_times(data, "rt", (data["int"] == "low").to_numpy(float))


def mandarin(data: pd.DataFrame) -> pm.Model:
    """Model reading times of Chinese relative clauses: 37 subjects, 15 items.

    Parameters
    ----------
    data : pandas.DataFrame
        Columns ``subj``, ``item``, ``type`` (``"obj-ext"`` or ``"subj-ext"``) and ``rt`` (ms).

    Returns
    -------
    pymc.Model
        Effects ``u`` of subjects and ``w`` of items.
    """
    return reading_times(data, "rt", np.where(data["type"] == "obj-ext", -0.5, 0.5))


def mandarin2(data: pd.DataFrame) -> pm.Model:
    """Model the experiment of :func:`mandarin`, done again: 40 subjects, 15 items.

    Parameters
    ----------
    data : pandas.DataFrame
        Columns ``subj``, ``item``, ``condition`` (``"obj-ext"`` or ``"subj-ext"``) and ``rt`` (ms).

    Returns
    -------
    pymc.Model
        Effects ``u`` of subjects and ``w`` of items.
    """
    return reading_times(data, "rt", np.where(data["condition"] == "obj-ext", -0.5, 0.5))


def gg05(data: pd.DataFrame) -> pm.Model:
    """Model reading times of English relative clauses: 42 subjects, 16 items, two experiments.

    Each condition is one of the experiments: only their priors tell the two apart.

    Parameters
    ----------
    data : pandas.DataFrame
        Columns ``subj``, ``item``, ``experiment``, ``condition`` (``"objgap"`` or ``"subjgap"``)
        and ``RT`` (ms).

    Returns
    -------
    pymc.Model
        Effects ``u`` of subjects, ``w`` of items and ``v`` of experiments.
    """
    x = np.where(data["condition"] == "objgap", 1.0, -1.0)
    return reading_times(data, "RT", x, v="experiment")
