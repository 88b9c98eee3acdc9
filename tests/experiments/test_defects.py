"""The list of defects is of this version of the package."""

from __future__ import annotations

import ast

import pytest

from experiments.defects import DEFECTS, ROOT, Defect, planted


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda d: f"{d.kind}-{d.file}")
def test_can_be_planted(defect: Defect) -> None:
    source = (ROOT / "pymc_marginal_lmm" / defect.file).read_text()
    changed = planted(defect)
    assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse(source))
    assert all((ROOT / test).exists() for test in defect.tests)


def test_there_are_many_of_all_kinds() -> None:
    assert len(DEFECTS) >= 20 and len({defect.kind for defect in DEFECTS}) >= 10


def test_lines_that_are_gone_are_reported() -> None:
    gone = Defect("sign", "algebra/density.py", "no such line", "", ())
    with pytest.raises(ValueError, match="0 times"):
        planted(gone)
