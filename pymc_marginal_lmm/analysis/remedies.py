"""What to do about a likelihood that does not integrate exactly."""

from __future__ import annotations

__all__ = ["likelihood_remedy"]

_HINTS = {
    "StudentT": "A StudentT is a Normal with a sampled weight per row: with "
    "w = pm.Gamma('w', nu / 2, nu / 2, shape=n) write pm.Normal(mu, sigma / w**0.5).",
    "PartialObserved": "With a MvNormal some of whose elements are missing: leave those rows out, "
    "or mark all of their elements as missing.",
    "CustomDist": "If it is Normal, write pm.Normal.",
    "Minibatch": "Leave out total_size: all rows are needed.",
}


def likelihood_remedy(distribution: str) -> str:
    """Say what to do about a likelihood, by the name of its distribution."""
    general = (
        "Only Normal, LogNormal and MvNormal likelihoods integrate exactly; leave the variable "
        "sampled."
    )
    hint = _HINTS.get(distribution)
    return f"{general} {hint}" if hint else general
