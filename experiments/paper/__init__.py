"""The experiments of Lai, Domke and Sheldon: ``python -m experiments.paper --help``.

`Hamiltonian Monte Carlo Inference of Marginalized Linear Mixed-Effects Models
<https://arxiv.org/abs/2410.24079>`_ (NeurIPS 2024), done with ordinary PyMC models
(:mod:`pymc_marginal_lmm.examples`). ``run`` measures, cell by cell, and ``report`` makes tables and
figures of what has been measured.

- ``strategies``: the paper's variants of a model, from nothing integrated out to everything;
- ``cells`` and ``experiments``: what one measurement is, and which belong to a table or figure;
- ``fit`` and ``costs``: the measurements, each in its own process;
- ``run``: the loop that skips what is there;
- ``agreement``: whether the variants of a model have the same posterior;
- ``tables``, ``figures`` and ``report``: what is shown.
"""
