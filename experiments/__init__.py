"""Experiments: commands of the project, not part of the package; they assert nothing about time.

- ``benchmarks``: what the package costs and gains (``make bench``);
- ``paper``: the experiments of Lai, Domke and Sheldon, NeurIPS 2024 (``make paper``);
- ``priors``: a figure of the documentation;
- ``sampling``, ``summary``: how a model is sampled and what is told of its draws, for both;
- ``process``, ``machine``, ``pages``, ``style``: where measurements run and how they are shown.
"""
