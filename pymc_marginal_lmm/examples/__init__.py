"""Mixed models of the literature on their data, written as any user of PyMC would write them.

The twelve models of Lai, Domke and Sheldon, `Hamiltonian Monte Carlo Inference of Marginalized
Linear Mixed-Effects Models <https://arxiv.org/abs/2410.24079>`_ (NeurIPS 2024), and their model of
the ``InstEval`` data, with the priors and codings of the paper's scripts. Each is a function from a
DataFrame to an ordinary :class:`pymc.Model`; nothing in it knows of this package:

>>> import pandas as pd, pymc_marginal_lmm as mlmm
>>> from pymc_marginal_lmm.examples import pupil
>>> columns = {"subj": [1, 1, 2, 2], "load": [0, 1, 0, 1], "p_size": [900, 950, 1100, 1300]}
>>> data = pd.DataFrame(columns)
>>> model = pupil(data)
>>> mlmm.explain(model, ["u"]).integrated
('u',)

:func:`load` reads the data, :data:`SOURCES` says where they come from and under which licence.
"""

from pymc_marginal_lmm.examples.crossed import (
    dillonE1,
    dutch,
    eeg,
    english,
    gg05,
    mandarin,
    mandarin2,
)
from pymc_marginal_lmm.examples.large import insteval
from pymc_marginal_lmm.examples.small import electric, fibrosis, grouseticks, pupil, stroop
from pymc_marginal_lmm.examples.sources import SOURCES, MissingData, Source, load

__all__ = [
    "MODELS",
    "SOURCES",
    "MissingData",
    "Source",
    "dillonE1",
    "dutch",
    "eeg",
    "electric",
    "english",
    "fibrosis",
    "gg05",
    "grouseticks",
    "insteval",
    "load",
    "mandarin",
    "mandarin2",
    "pupil",
    "stroop",
]

MODELS = {
    "dutch": dutch,
    "english": english,
    "eeg": eeg,
    "dillonE1": dillonE1,
    "mandarin": mandarin,
    "mandarin2": mandarin2,
    "gg05": gg05,
    "stroop": stroop,
    "pupil": pupil,
    "grouseticks": grouseticks,
    "fibrosis": fibrosis,
    "electric": electric,
    "insteval": insteval,
}
"""From the name of a model to the function that builds it."""
