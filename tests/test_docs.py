"""The documentation's code blocks run, in their order, as one program."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("page", ["docs/predictions.md"])
def test_code_blocks(page: str, capsys: pytest.CaptureFixture) -> None:
    logging.getLogger("pymc").setLevel(logging.ERROR)
    logging.getLogger("pymc.stats.convergence").setLevel(logging.ERROR)
    blocks = re.findall(
        r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE
    )
    assert blocks
    found: dict = {}
    for block in blocks:
        exec(compile(block, page, "exec"), found)
    # What the page says: a new school is less certain, and its rows share its effect.
    draws = found["new"]["predictions"]["y"].values.reshape(-1, 4)
    posterior = found["idata"]["posterior"]
    assert draws[:, 1].std() > 1.5 * draws[:, 0].std()
    correlations = np.corrcoef(draws.T)
    assert correlations[1, 2] > 0.8 > 0.4 > abs(correlations[1, 3])
    assert list(posterior["school"].values) == list("ABCDEFG")
