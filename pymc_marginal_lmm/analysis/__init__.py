"""From a user's graph to a :class:`~pymc_marginal_lmm.structure.MixedModel`; read-only.

``terms``, ``rules`` and ``affine`` read linear predictors, ``priors`` reads distributions,
``grouping`` finds factors in index arrays, ``read`` puts them together and collects refusals.
"""
