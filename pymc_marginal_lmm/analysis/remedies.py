"""What to do about what is refused: every way out that the package recommends.

``tests/analysis/test_remedies.py`` does what each of them says and checks that it works.
"""

from __future__ import annotations

from enum import StrEnum

__all__ = ["LIKELIHOOD_HINTS", "Remedy", "likelihood_remedy"]


class Remedy(StrEnum):
    """A way out, with blanks for names."""

    LEAVE_SAMPLED = "Leave it sampled: name the variables you want in rvs_to_marginalize."
    LEAVE_SCALE = (
        "Leave it sampled, as all parameters of scales: name the variables you want in "
        "rvs_to_marginalize."
    )
    ALSO = "Integrate out {names} as well: name all of them in rvs_to_marginalize."
    FREE_NAMES = "Free variables are: {names}."
    MEAN_ONLY = (
        "Effects in the mean can be integrated out, effects in {names} cannot: leave it sampled."
    )
    REMOVE_POTENTIAL = "Remove the Potential, or leave the variable sampled."
    NORMAL_LIKELIHOOD = (
        "Only Normal, LogNormal and MvNormal likelihoods integrate exactly; leave the variable "
        "sampled."
    )
    GIVE_DATA = "Give a variable observed data (observed=...) before marginalizing."
    REMOVE = "Remove it, or leave it sampled."
    NORMAL_PRIOR = (
        "Only Normal, MvNormal, ZeroSumNormal, MatrixNormal, KroneckerNormal, GaussianRandomWalk, "
        "AR, CAR, ICAR and Flat variables can be integrated out; leave it sampled."
    )
    REMOVE_TRANSFORM = "Remove the transform, or leave it sampled."
    FIT_LENGTHS = (
        "Give it one value, or one per element of the variable: index what is per row, if need be."
    )
    FIT_ROWS = "Give it one value, or one per row of the data: index what is per level."
    LINEAR = (
        "Only sums, products with data or parameters, and indexing of effects can be integrated "
        "out; leave this variable sampled."
    )
    ONE_OF_TWO = (
        "Integrate out one of the two and leave the other sampled: name the one you want in "
        "rvs_to_marginalize."
    )
    MATRIX = (
        "If it is linear, write it as the product with a matrix, A @ u; otherwise leave this "
        "variable sampled."
    )
    RANDOM_WALK = (
        "Write a sum of many steps as pm.GaussianRandomWalk, or leave the variable sampled."
    )
    KNOWN_INDICES = "Use data or constants as indices."
    LEVELS_FROM_ZERO = (
        "Check that the index array counts the levels from 0 and that the effect has as many "
        "levels as the index needs."
    )
    AS_MANY_LEVELS = "Check that the effect has as many levels as the data it is combined with."
    CORRECT_ROWS = "Remove or correct those rows."
    COVARIANCE_SHAPE = "Give it one row and one column for each element along the last axis."
    CORRECT_COVARIANCE = (
        "The density of the plain model is 0 whatever the parameters are: correct the covariance "
        "(a small number on its diagonal helps if it is nearly singular)."
    )
    IDENTIFY = (
        "Give {names} a Normal prior, or leave out columns (levels) that others determine; left "
        "sampled, flat priors have no proper posterior either."
    )
    CENTRE = (
        "Centre the covariates (x - x.mean()), make their columns orthogonal (numpy.linalg.qr), or "
        "give {names} a Normal prior."
    )
    REMOVE_ELEMENTS = "Give it a Normal prior, or remove the elements without data."
    CORE_DIMS_LAST = "Write dims with the core dims last."
    NORMAL_PART = "With a Normal {names} it can be integrated out; or leave it sampled."
    OWN_PRIOR = "Give such areas a prior of their own, or leave it sampled."
    ONE_PER_VECTOR = "Write one ICAR per vector, or leave it sampled."
    ONE_PER_PART = "Write one ICAR per part, or leave it sampled."

    def about(self, names: str) -> str:
        """Fill in names."""
        return self.value.format(names=names)


LIKELIHOOD_HINTS = {
    "StudentT": "A StudentT is a Normal with a sampled weight per row: with "
    "w = pm.Gamma('w', nu / 2, nu / 2, shape=n) write pm.Normal(mu, sigma / w**0.5).",
    "PartialObserved": "With a MvNormal some of whose elements are missing: leave those rows out, "
    "or mark all of their elements as missing.",
    "WeightedNormal": "Its weights multiply the log-likelihood. Weights as lme4 has them, with "
    "variance sigma**2 / w, are pm.Normal(mu, sigma / pt.sqrt(w)), which integrates exactly.",
    "CustomDist": "If it is Normal, write pm.Normal.",
    "Minibatch": "Leave out total_size: all rows are needed.",
}
"""What else to do about a likelihood, by the name of its distribution."""


def likelihood_remedy(distribution: str) -> str:
    """Say what to do about a likelihood, by the name of its distribution."""
    hint = LIKELIHOOD_HINTS.get(distribution)
    general = str(Remedy.NORMAL_LIKELIHOOD)
    return f"{general} {hint}" if hint else general
