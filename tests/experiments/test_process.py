"""Measurements in processes of their own."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from experiments.process import measured


def test_a_measurement_that_fails_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    done = SimpleNamespace(returncode=1, stderr="Traceback\nValueError: what it was\n", stdout="")
    monkeypatch.setattr("subprocess.run", lambda *args, **kwargs: done)
    assert measured("module", [], 1, cold=False) == {"failed": "ValueError: what it was"}
    done.returncode, done.stdout = 0, 'noise\n{"ess": 3}\n'
    assert measured("module", [], 1, cold=True) == {"ess": 3}


def test_a_measurement_that_takes_too_long() -> None:
    assert measured("timeit", ["-n1", "-r1", "while True: pass"], 0.5, cold=False) == {
        "failed": "more than 0 s"
    }
