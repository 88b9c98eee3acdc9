"""Options of the test suite."""

from __future__ import annotations

import gc

# Gives JAX as many devices as chains may need, which has to happen before JAX is first used.
import pymc.sampling.jax  # noqa: F401
import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--runslow", action="store_true", help="run long sampling and property tests too"
    )
    parser.addoption(
        "--random-models",
        type=int,
        default=2400,
        metavar="N",
        help="so many models in all for the long random tests (with --runslow)",
    )


def pytest_collection_finish() -> None:
    """Look for garbage less often: graphs are made of cycles, and what was imported stays.

    Python's thresholds are for programs with few objects; a sixth of the suite's time went there.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 20, 20)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--runslow"):
        return
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="needs --runslow"))


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluate functions of many draws by PyTensor's interpreter."""
    from pymc_marginal_lmm.model import likelihoods
    from tests.draws import interpreted

    monkeypatch.setattr(likelihoods, "by_jax", interpreted)
    monkeypatch.setattr(likelihoods, "by_numba", interpreted)
