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
# # Power: how many subjects does it take?
#
# An experiment is planned: each subject reads each of 12 items, half of them in one condition and
# half in the other. Subjects and items differ in speed, and subjects in how much the condition
# matters to them. How often will the effect of the condition be found? The answer is a simulation:
# make data, fit, look whether the interval excludes zero; a few hundred times.
#
# With a Markov chain each of these fits costs seconds, most of them for compilation. Here the
# model is compiled once, and `with_data` gives it other responses.

# %%
import logging
import time
from concurrent.futures import ThreadPoolExecutor

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pymc as pm

import pymc_marginal_lmm as mlmm

logging.getLogger("pymc").setLevel(logging.ERROR)
plt.rcParams["figure.dpi"] = 70

# %% tags=["parameters"]
repetitions, draws = 200, 250

# %% [markdown]
# ## The design and what we believe
#
# Log reading times, in 12 items and 24 subjects. The condition is ±½, balanced within subjects and
# within items (a Latin square of two lists). The numbers are typical of such experiments: an effect
# of 8%, a residual standard deviation of 0.25.

# %%
n_subjects, n_items = 24, 12
subject, item = (index.ravel() for index in np.indices((n_subjects, n_items)))
x = np.where((subject + item) % 2 == 0, 0.5, -0.5)

EFFECT = 0.08


def simulate(rng):
    subjects = rng.normal(0, [0.15, 0.05], size=(n_subjects, 2))[subject]
    items = rng.normal(0, 0.1, size=n_items)[item]
    mean = 6 + subjects[:, 0] + items + (EFFECT + subjects[:, 1]) * x
    return rng.normal(mean, 0.25)


# %% [markdown]
# The analysis that will be done: an ordinary PyMC model, with an intercept and a slope for each
# subject and an intercept for each item.

# %%
coords = {"subject": range(n_subjects), "item": range(n_items)}
with pm.Model(coords=coords) as model:
    alpha, beta = pm.Normal("alpha", 6, 1), pm.Normal("beta", 0, 0.5)
    u = pm.Normal("u", 0, pm.HalfNormal("sd_u", 0.3), dims="subject")
    slope = pm.Normal("slope", 0, pm.HalfNormal("sd_slope", 0.3), dims="subject")
    w = pm.Normal("w", 0, pm.HalfNormal("sd_w", 0.3), dims="item")
    mean = alpha + u[subject] + w[item] + (beta + slope[subject]) * x
    y = simulate(np.random.default_rng(0))
    pm.Normal("y", mean, pm.HalfNormal("sigma", 0.5), observed=y)

mlmm.explain(model)

# %% [markdown]
# Four scales are left to be integrated over. `compile_model` prepares all that a fit needs.

# %%
clock = time.perf_counter()
compiled = mlmm.compile_model(model)
preparation = time.perf_counter() - clock

# %% [markdown]
# ## Many fits
#
# Each one exchanges the response by its name. Of the result the mean of the effect and its 95%
# interval are kept, and k̂, which says whether the weights can be relied on. Compiled models may be
# fitted in threads, here two of them.


# %%
def experiment(seed):
    data = simulate(np.random.default_rng(seed))
    idata = mlmm.fit(compiled.with_data(y=data), draws=draws, random_seed=seed, progressbar=False)
    drawn = idata.posterior["beta"]
    low, high = drawn.quantile([0.025, 0.975]).values
    return float(drawn.mean()), low, high, idata.posterior.attrs["pareto_khat"]


clock = time.perf_counter()
with ThreadPoolExecutor(2) as pool:
    rows = list(pool.map(experiment, range(repetitions)))
found = pd.DataFrame(rows, columns=["mean", "low", "high", "khat"])
print(f"{preparation:.0f} s to compile, {time.perf_counter() - clock:.0f} s for {len(found)} fits")

# %%
power = (found["low"] > 0).mean()
error = np.sqrt(power * (1 - power) / len(found))
covered = ((found["low"] < EFFECT) & (found["high"] > EFFECT)).mean()
print(f"power {power:.0%} ± {error:.0%}, {covered:.0%} of intervals hold the true effect")
print(f"largest k̂ {found['khat'].max():.2f}")

# %% [markdown]
# Sorted by their means: intervals above zero, and those that miss the effect.

# %%
ordered = found.sort_values("mean", ignore_index=True)
colours = np.where(ordered["low"] > 0, "#2fa37c", "#98a2ad")
figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
axes.vlines(ordered.index, ordered["low"], ordered["high"], color=colours, lw=1.2)
axes.axhline(0, color="#52606d", lw=0.8)
axes.axhline(EFFECT, color="#d1495b", lw=0.8)
axes.set(xlabel="simulated experiment", ylabel="effect, 95% interval")
# %% [markdown]
# Even in a study of decent power the experiments that find the effect make too much of it, on
# average: those in which it came out small are not among them.

# %%
if power > 0:
    exaggeration = found.loc[found["low"] > 0, "mean"].mean() / EFFECT
    print(f"where it is found, the effect is {exaggeration:.2f} times what it is")

# %% [markdown]
# ## More subjects
#
# Another number of subjects is another model: its shapes are a part of what is compiled. So a
# function that builds and compiles for each number is the whole of a power curve. What can be
# exchanged without that are responses, and `pm.Data` of the same shape: other effects, other
# noise, other covariates.
