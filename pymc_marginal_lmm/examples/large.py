"""InstEval: three crossed classes, the paper's largest model."""

from __future__ import annotations

import pandas as pd
import pymc as pm

__all__ = ["insteval"]


def insteval(data: pd.DataFrame, *, own_scales: bool = False) -> pm.Model:
    """Model ratings of lectures: 2,972 students, 1,128 lecturers, 14 departments, 73,421 rows.

    Parameters
    ----------
    data : pandas.DataFrame
        Columns ``s``, ``d``, ``dept``, ``service`` (0 or 1) and ``y`` (1 to 5).
    own_scales : bool, default False
        Whether each class of effects has a standard deviation to be estimated, with a
        half-Normal(1) prior. In the paper all three are 1, which its way to marginalize several
        classes needs.

    Returns
    -------
    pymc.Model
        Effects ``student``, ``lecturer`` and ``department``.
    """
    columns = {"student": "s", "lecturer": "d", "department": "dept"}
    codes = {name: pd.factorize(data[column], sort=True) for name, column in columns.items()}
    coords = {column: codes[name][1] for name, column in columns.items()}
    with pm.Model(coords=coords) as model:
        alpha, slope = pm.Normal("alpha", 0, 5), pm.Normal("service", 0, 1)
        mu = alpha + slope * data["service"].to_numpy(float)
        for name, column in columns.items():
            scale = pm.HalfNormal(f"sd_{name}", 1) if own_scales else 1
            mu = mu + pm.Normal(name, 0, scale, dims=column)[codes[name][0]]
        pm.Normal("y", mu, pm.HalfNormal("sigma", 1), observed=data["y"].to_numpy(float))
    return model
