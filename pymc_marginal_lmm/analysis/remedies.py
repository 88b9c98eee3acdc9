"""What to do about what is refused: every way out that the package recommends.

``tests/analysis/test_remedies.py`` does what each of them says and checks that it works.
"""

from __future__ import annotations

from enum import StrEnum

__all__ = ["LIKELIHOOD_HINTS", "Remedy", "likelihood_remedy"]


class Remedy(StrEnum):
    """A way out, with blanks for names."""

    LEAVE_SAMPLED = "Leave it sampled: name the variables you want in rvs_to_marginalize."
    ALSO = "Integrate out {others} as well: name all of them in rvs_to_marginalize."
    MEAN_ONLY = (
        "Effects in the mean can be integrated out, effects in {others} cannot: leave it sampled."
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
    DENSE = "Keep effects dense."
    KNOWN_INDICES = "Use data or constants as indices."
    LEVELS_FROM_ZERO = (
        "Check that the index array counts the levels from 0 and that the effect has as many "
        "levels as the index needs."
    )
    AS_MANY_LEVELS = "Check that the effect has as many levels as the data it is combined with."
    CORRECT_ROWS = "Remove or correct those rows."

    def about(self, others: str) -> str:
        """Fill in the names of others."""
        return self.value.format(others=others)


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
