"""From a user's graph to a :class:`~pymc_marginal_lmm.structure.MixedModel`; read-only.

``affine`` reads linear predictors, ``priors`` reads distributions,
``grouping`` finds factors in index arrays, ``read`` puts them together and collects refusals.
"""
