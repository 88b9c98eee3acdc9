"""Crossed and nested factors."""

from __future__ import annotations

import numpy as np
import pymc as pm

from tests.models.registry import Rows, canonical, lkj, scales

# --- Several factors ----------------------------------------------------------------------------


@canonical("alpha", "u", "v", tags=("crossed",))
def crossed_two() -> None:
    data = Rows(n=40)
    g, h = data.index(7), data.index(4)
    sigma, tau_u, tau_v = scales("sigma", "tau_u", "tau_v")
    alpha = pm.Normal("alpha", 0.0, 5.0)
    u = pm.Normal("u", 0.0, tau_u, shape=7)
    v = pm.Normal("v", 0.0, tau_v, shape=4)
    pm.Normal("y", alpha + u[g] + v[h], sigma, observed=data.y)


@canonical("u", "v", "w", tags=("crossed",))
def crossed_three() -> None:
    data = Rows(n=50)
    g, h, k = data.index(6), data.index(5), data.index(3)
    sigma, tau_u, tau_v, tau_w = scales("sigma", "tau_u", "tau_v", "tau_w")
    u = pm.Normal("u", 0.0, tau_u, shape=6)
    v = pm.Normal("v", 0.0, tau_v, shape=5)
    w = pm.Normal("w", 0.0, tau_w, shape=3)
    pm.Normal("y", u[g] + v[h] + w[k], sigma, observed=data.y)


@canonical("alpha", "batch", "cask", tags=("nested",))
def nested() -> None:
    data = Rows(n=40)
    cask_of = data.index(8)
    batch_of = cask_of // 2
    sigma, tau_batch, tau_cask = scales("sigma", "tau_batch", "tau_cask")
    alpha = pm.Normal("alpha", 0.0, 5.0)
    batch = pm.Normal("batch", 0.0, tau_batch, shape=4)
    cask = pm.Normal("cask", 0.0, tau_cask, shape=8)
    pm.Normal("y", alpha + batch[batch_of] + cask[cask_of], sigma, observed=data.y)


@canonical("beta", "subject", "item", tags=("correlated", "crossed"))
def crossed_correlated_slopes() -> None:
    # Subjects read items in two conditions: the Dutch data of the paper.
    data = Rows(n=60)
    s, i = data.index(6), data.index(5)
    (sigma,) = scales("sigma")
    beta = pm.Normal("beta", 0.0, 3.0, shape=2)
    subject = pm.MvNormal("subject", np.zeros(2), chol=lkj("chol_subject", 2), shape=(6, 2))
    item = pm.MvNormal("item", np.zeros(2), chol=lkj("chol_item", 2), shape=(5, 2))
    effect = beta + subject[s] + item[i]
    pm.Normal("y", effect[:, 0] + effect[:, 1] * data.x, sigma, observed=data.y)


@canonical("u", "v", "w", tags=("crossed",))
def crossed_different_widths() -> None:
    # Two effects share an index, the third does not.
    data = Rows(n=48)
    g, h = data.index(6), data.index(4)
    sigma, tau_u, tau_v, tau_w = scales("sigma", "tau_u", "tau_v", "tau_w")
    u = pm.Normal("u", 0.0, tau_u, shape=6)
    v = pm.Normal("v", 0.0, tau_v, shape=6)
    w = pm.Normal("w", 0.0, tau_w, shape=4)
    pm.Normal("y", u[g] + v[g] * data.x + w[h], sigma, observed=data.y)


@canonical("u", "v", tags=("crossed",))
def table_of_sums() -> None:
    # The effects are added before they are indexed.
    data = Rows(n=40)
    g, h = data.index(6), data.index(4)
    sigma, tau_u, tau_v = scales("sigma", "tau_u", "tau_v")
    u = pm.Normal("u", 0.0, tau_u, shape=6)
    v = pm.Normal("v", 0.0, tau_v, shape=4)
    pm.Normal("y", (u[:, None] + v[None, :])[g, h], sigma, observed=data.y)


@canonical("u")
def multi_membership() -> None:
    home, away = np.array([(i, j) for i in range(6) for j in range(6) if i != j]).T
    data = Rows(n=home.size)
    sigma, tau = scales("sigma", "tau")
    advantage = pm.StudentT("advantage", nu=4, mu=0.0, sigma=1.0)
    u = pm.Normal("u", 0.0, tau, shape=6)
    pm.Normal("y", advantage + u[home] - u[away], sigma, observed=data.y)


@canonical("u", "v", tags=("crossed",))
def centred_effects() -> None:
    # Every row holds every level.
    data = Rows()
    g, h = data.index(5), data.index(4)
    sigma, tau_u, tau_v = scales("sigma", "tau_u", "tau_v")
    u = pm.Normal("u", 0.0, tau_u, shape=5)
    v = pm.Normal("v", 0.0, tau_v, shape=4)
    pm.Normal("y", (u - u.mean())[g] + v[h], sigma, observed=data.y)


# --- Nested factors -------------------------------------------------------------------------------


@canonical("school", "class_", "student", tags=("hierarchical", "nested"))
def three_levels() -> None:
    data = Rows(n=40)
    student_of = data.index(12)
    class_of, school_of = np.arange(12) // 2, np.array([0, 0, 1, 1, 1, 2])
    sigma, tau_school, tau_class, tau_student = scales(
        "sigma", "tau_school", "tau_class", "tau_student"
    )
    school = pm.Normal("school", 1.0, tau_school, shape=3)
    class_ = pm.Normal("class_", school[school_of], tau_class)
    student = pm.Normal("student", class_[class_of], tau_student)
    pm.Normal("y", student[student_of], sigma, observed=data.y)


@canonical("beta", "school", "class_", "student", "item", tags=("crossed", "nested"))
def nested_slopes_and_items() -> None:
    # Nested in the data, correlated slopes in between, items across, two likelihoods.
    data = Rows(n=48)
    student, item = data.index(12), data.index(4)
    class_of, school_of = np.arange(12) // 2, np.array([0, 0, 1, 1, 1, 2])
    sigma, tau, omega, kappa = scales("sigma", "tau", "omega", "kappa")
    lam = pm.HalfNormal("lam", 1.0)
    beta = pm.Normal("beta", 0.0, 2.0, shape=2)
    school = pm.Normal("school", 0.0, tau, shape=3)
    class_ = pm.MvNormal("class_", np.zeros(2), chol=lkj("chol", 2), shape=(6, 2))
    student_ = pm.Normal("student", 0.0, omega, shape=12)
    items = pm.Normal("item", 0.0, kappa, shape=4)
    c = class_of[student]
    mu = beta[0] + beta[1] * data.x + school[school_of[c]] + class_[c, 0] + class_[c, 1] * data.x
    mu = mu + lam * student_[student] + items[item]
    y = data.y
    pm.Normal("first", mu[:30], sigma, observed=y[:30])
    pm.Normal("second", mu[30:], sigma, observed=y[30:])
