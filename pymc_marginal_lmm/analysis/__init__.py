"""From a user's graph to a :class:`~pymc_marginal_lmm.structure.MixedModel`; read-only.

``terms``, ``selection``, ``rules`` and ``affine`` read linear predictors; ``parameters`` and
``factors`` keep what is sampled apart from what is known. ``priors`` reads distributions, ``rows``
stacks responses, ``grouping`` finds factors in index arrays, ``loadings`` splits their designs,
``ordering`` decides the elimination, ``offsets`` reads what stays in the rows. ``roles`` sorts the
variables of a model, ``uses`` refuses effects that are used for something else than a mean.
``read`` puts them together and collects refusals, with their ``remedies``.
"""
