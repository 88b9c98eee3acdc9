"""What a linear mixed-effects model is once its graph has been read: frozen data, no behaviour.

Symbols are those of lme4 and MixedModels.jl::

    y | u ~ Normal(b + Σ_l Z_l Λ_l u_l, W⁻¹)          u ~ Normal(0, P0⁻¹),  P0 = I (0: flat)

``n`` rows (the observations of all responses, one below the other); grouping factor ``l`` has
``M_l`` levels and ``S_l`` effects per level. ``Z`` holds the numbers that multiply the effects in
the predictor, ``Λ`` the parameters that do, in the prior (scales) and in the predictor (loadings);
they meet only in the algebra.

Symbolic members (offsets, scales, ...) are PyTensor variables. :meth:`MixedModel.symbols` and
:meth:`MixedModel.with_symbols` take them out and put others in, which is how the same model is
expressed over the inputs of an Op, over value variables, or over numbers.
"""

from pymc_marginal_lmm.structure.array import Array
from pymc_marginal_lmm.structure.blocks import Band, BlockStructure
from pymc_marginal_lmm.structure.effects import Precision, RandomEffects
from pymc_marginal_lmm.structure.factors import GroupingFactor, Loadings, Share, row_coordinates
from pymc_marginal_lmm.structure.model import MixedModel
from pymc_marginal_lmm.structure.responses import Correlation, Noise, Regression, Response

__all__ = [
    "Array",
    "Band",
    "BlockStructure",
    "Correlation",
    "GroupingFactor",
    "Loadings",
    "MixedModel",
    "Noise",
    "Precision",
    "RandomEffects",
    "Regression",
    "Response",
    "Share",
    "row_coordinates",
]
