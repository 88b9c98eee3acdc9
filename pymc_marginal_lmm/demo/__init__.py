"""Examples on real data: ``python -m pymc_marginal_lmm.demo --help``.

A model is fitted twice with the same sampler, once as it is written and once marginalized; time,
effective sample size and estimates are shown side by side.

- ``examples``: data, models, and lme4's estimates for them;
- ``fitting``: sample, recover, and measure;
- ``start``: a mode and scales to start from, where gradients are expensive;
- ``report`` and ``figure``: what is shown.
"""
