r"""The theory, in the symbols that the code uses.

**Model.** ``n`` rows, grouping factors ``l = 1 … k`` with ``M_l`` levels and ``S_l`` effects per
level, ``q = Σ M_l S_l`` effects in all::

    y | u ~ Normal(b + Σ_l Z_l Λ_l u_l, W⁻¹)        u ~ Normal(0, P0⁻¹)

=============  ====================  ==========================================================
symbol         shape                 meaning
=============  ====================  ==========================================================
``y, b, r``    ``(n,)``              response (or its logarithm), offset, ``r = y − b``
``w``          ``()`` or ``(n,)``    ``1/σ²``, the diagonal of ``W``
``Z_l``        ``(n, M_l S_l)``      row ``i`` is zero but at the effects of its level(s)
``Λ_l``        ``(M_l, S_l, S_l)``   square root of the covariance of what multiplies ``Z_l``
``P0``         ``(q, q)``            prior precision of ``u``: 1, or 0 for flat priors; diagonal
``A``          ``(q, q)``            ``ZᵀWZ``
``F``          ``(q, q)``            ``P0 + ΛᵀAΛ``, posterior precision of ``u``
``h``          ``(q,)``              ``ΛᵀZᵀWr``
``û``          ``(q,)``              ``F⁻¹h``, posterior mean of ``u``;  ``v̂ = Λû``
``ρ``          ``(n,)``              ``r − Zv̂``, residual at the posterior mean
=============  ====================  ==========================================================

**Marginal density.** Completing the square in ``u`` (matrix inversion and determinant lemmas in
information form; Lai, Domke and Sheldon, NeurIPS 2024, section 3)::

    log p(y) = −½ [ ρᵀWρ + ûᵀP0û + log|F| − Σ log w + n log 2π ]     (+ ½ p log 2π, p flat ones)
    u | y ~ Normal(û, F⁻¹)

``ρᵀWρ + ûᵀP0û`` equals ``rᵀWr − hᵀF⁻¹h`` but is a sum of squares: nothing cancels when ``r`` is
large against the residuals. Its derivative through ``û`` is zero, since ``û`` minimises it. ``Λ``
is never inverted, so a scale of 0 or a correlation of ±1 is as good as any other.

**Loadings.** Parameters that multiply effects in the predictor belong to ``Λ``, not to ``Z``:
``Z (K v) = Z (K Λ_prior) u`` level by level, so that non-centred code (``K = τ``, or a Cholesky
factor) has the ``Z`` of centred code. See :mod:`pymc_marginal_lmm.analysis.loadings`.

**Elimination.** Factors whose levels do not touch are swept out of the crossproducts, one by one if
they are nested in each other (:class:`~pymc_marginal_lmm.structure.BlockStructure`,
:mod:`pymc_marginal_lmm.ops.sweep`); what is left is a smaller problem of the same kind, and all
else meets in one dense block (:mod:`pymc_marginal_lmm.ops.evidence`). Draws walk back down the
sweeps (:mod:`pymc_marginal_lmm.algebra.descent`). The rows of one
factor beside coefficients that all rows share are made orthonormal first, so that flat priors lose
no digits (:mod:`pymc_marginal_lmm.ops.orthonormal`).

**Sums over rows** are taken once where they can be (:mod:`pymc_marginal_lmm.algebra.data`).

**Worked example.** Two rows in level 1, one in level 2, random intercepts with sd ``τ = 2``,
``σ = 1``, ``b = 0``, ``y = (3, 5, −1)``. Then ``Λ = 2``, ``A = diag(2, 1)``, ``F = diag(9, 5)``,
``h = 2·(8, −1) = (16, −2)``, ``û = (16/9, −2/5)``, ``v̂ = (32/9, −4/5)``::

    ρ = (3 − 32/9, 5 − 32/9, −1 + 4/5)        ρᵀρ + ûᵀû = 2.444… + 3.320… = 5.7556
    log p(y) = −½ (5.7556 + log 45 + 3 log 2π) = −7.5379

>>> import numpy as np
>>> from scipy.stats import multivariate_normal
>>> V = np.array([[5, 4, 0], [4, 5, 0], [0, 0, 5]])     # ZΛΛᵀZᵀ + σ²I
>>> round(float(multivariate_normal(np.zeros(3), V).logpdf([3, 5, -1])), 4)
-7.5379
"""
