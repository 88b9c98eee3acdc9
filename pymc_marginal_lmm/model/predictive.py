"""Refuse to draw data from a marginal model at given parameters.

``pm.sample_posterior_predictive`` conditions on those variables of a model that are in the
posterior. The effects are no variables of a marginal model any more, so that it would draw them,
the coefficients of fixed effects among them, anew from their priors: replicated data that know
nothing of the data. PyMC does not tell a model's variables which of them are given; but it compiles
a function whose inputs these are. So what can be seen for every way of asking is the graph of a
function: there are inputs above the marginal variable. Sampling from the prior has no inputs, and
densities have no random variables.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable

from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Apply, Constant
from pytensor.graph.traversal import ancestors
from pytensor.tensor.random.type import RandomType

__all__ = ["EffectsNotGiven", "refuse_given_parameters"]

WAY_OUT = (
    "Replicated data and predictions come from the plain model and the recovered draws: "
    "pm.sample_posterior_predictive(idata, model=model), where idata = recover(idata, "
    "model=marginal), and model is the one that was marginalized, or unmarginalize(marginal). "
    "For new groups, sample_vars names there what to draw anew."
)


class EffectsNotGiven(AssertionError, ValueError):
    """Data would be drawn at given parameters, but without the effects that belong to them.

    A ``ValueError``. PyTensor logs errors of rewrites and goes on, but for ``AssertionError``.
    """


def refuse_given_parameters(node: Apply) -> None:
    """Check the node of a marginal variable in the graph of a function to be compiled.

    Raises
    ------
    EffectsNotGiven
        The function is given parameters of the node.

    Warns
    -----
    UserWarning
        The node has no parameters, so that nobody can tell whether there is a posterior.
    """
    structure = node.op.structure
    effects = _quoted(effect.name for effect in structure.effects)
    responses = _quoted(response.name for response in structure.responses)
    given = [
        v
        for v in ancestors(node.inputs)
        if v.owner is None and not isinstance(v, SharedVariable | Constant)
    ]
    if given:
        raise EffectsNotGiven(
            f"A marginal model cannot draw {responses} given {_quoted(v.name for v in given)}: it "
            f"has integrated out {effects}, and would draw them anew from their priors, whatever "
            f"is in the posterior. {WAY_OUT} To simulate from parameters, fix them: "
            "pm.draw(pm.do(marginal, {...})[name])."
        )
    if all(isinstance(v, SharedVariable) or isinstance(v.type, RandomType) for v in node.inputs):
        warnings.warn(
            f"{responses}: drawn with {effects} from their priors, since this marginal model has "
            f"no parameters and knows of no posterior. {WAY_OUT}",
            UserWarning,
            stacklevel=2,
        )


def _quoted(names: Iterable[str | None]) -> str:
    return ", ".join(f"'{name}'" for name in names)
