"""Warnings, one line each, of what a user may not expect of a model."""

from __future__ import annotations

import warnings
from pathlib import Path

from pymc.model.core import Model
from pytensor.graph.basic import Variable
from pytensor.graph.traversal import ancestors

from pymc_marginal_lmm.analysis.likelihoods import is_likelihood
from pymc_marginal_lmm.analysis.priors import NotGaussian, is_gaussian, read_prior, unfilled
from pymc_marginal_lmm.analysis.read import Reading
from pymc_marginal_lmm.analysis.remedies import Remedy
from pymc_marginal_lmm.values import NotKnown, Values

__all__ = ["PACKAGE", "warn_of_indices", "warn_of_what_stays"]

PACKAGE = str(Path(__file__).parent.parent)
"""Warnings are about the line of the user's that called the package."""


def warn_of_what_stays(model: Model, reading: Reading, otherwise: str) -> None:
    """Warn of what a user might have hoped for in vain; say nothing if there is nothing such.

    Parameters
    ----------
    model : Model
        The user's.
    reading : Reading
        Of all its variables.
    otherwise : str
        What happens to a model out of which nothing can be integrated.
    """
    # Nobody expects a parameter of log sigma, or of the scale of effects, to go.
    in_means = _enter_means(model)
    hoped_for = {
        name: refusal
        for name, refusal in reading.refusals.items()
        if name in model.named_vars and is_gaussian(model[name])
        if refusal.remedy not in OF_SCALES or model[name] in in_means or reading.model is None
    }
    if reading.model is None:
        message = f"No variable of this model can be integrated out; {otherwise}."
    elif hoped_for:
        message = "Normal variables stay sampled."
    else:
        return
    reasons = "; ".join(f"'{name}' ({refusal.reason})" for name, refusal in hoped_for.items())
    more = f" Not integrated out: {reasons}." if hoped_for else ""
    warnings.warn(
        f"{message}{more} explain(model) says more.", UserWarning, skip_file_prefixes=(PACKAGE,)
    )


OF_SCALES = {
    Remedy.LEAVE_SCALE,
    *(Remedy.MEAN_ONLY.about(what) for what in ("sigma", "covariance")),
}


def _enter_means(model: Model) -> set[Variable]:
    """Return the free variables that means of the model's Gaussian likelihoods depend on.

    Through the priors of others too, as far as these are priors of means.
    """
    likelihoods = [rv for rv in model.observed_RVs if is_likelihood(rv)]
    means = [unfilled(rv.owner.op.dist_params(rv.owner)[0]) for rv in likelihoods]
    found: set[Variable] = set()
    while means:
        reached = set(ancestors(means, blockers=model.free_RVs))
        new = [rv for rv in model.free_RVs if rv in reached and rv not in found]
        found.update(new)
        means = [mean for rv in new for mean in _prior_mean(rv)]
    return found


def _prior_mean(rv: Variable) -> list[Variable]:
    try:
        return [read_prior(rv.owner.op, rv, Values().shape(rv)).mean]
    except (NotGaussian, NotKnown, TypeError):  # no Normal prior, or none that is understood
        return list(rv.owner.inputs)


def warn_of_indices(reading: Reading) -> None:
    """Warn of index arrays that count from the end: codes of missing levels are the last one."""
    for index, count in reading.from_the_end.items():
        warnings.warn(
            f"{index} has {count} negative {'element' if count == 1 else 'elements'}, which count "
            "from the end: -1, as pandas.factorize codes what is missing, is the last level. "
            "Remove those rows, or give them a level of their own.",
            UserWarning,
            skip_file_prefixes=(PACKAGE,),
        )
