"""Small synthetic data with the columns of the real ones."""

from __future__ import annotations

import numpy as np
import pandas as pd

__all__ = ["frame"]

N = 48


def frame(name: str) -> pd.DataFrame:
    """Return data for a model: columns hold the kind of values that they hold in the real ones."""
    rng = np.random.default_rng(len(name))
    row = np.arange(N)
    subject, item, half = row // 8 + 1, row % 8 + 1, (row + row // 8) % 2
    times = np.round(np.exp(6 + 0.5 * rng.normal(size=N)))

    def text(first: str, second: str) -> np.ndarray:
        return np.where(half == 0, first, second)

    sentences = {"subject": subject, "item": item, "condition": 2 * half - 1, "NP1": np.log(times)}
    crossed = {"subj": subject, "item": item}
    columns = {
        "dutch": sentences,
        "english": sentences,
        "eeg": {**crossed, "cloze": rng.random(N), "n400": rng.normal(size=N)},
        "dillonE1": {**crossed, "int": text("low", "high"), "rt": times},
        "mandarin": {**crossed, "type": text("obj-ext", "subj-ext"), "rt": times},
        "mandarin2": {**crossed, "condition": text("obj-ext", "subj-ext"), "rt": times},
        "gg05": {
            **crossed,
            "experiment": text("tedrg3", "tedrg2"),
            "condition": text("objgap", "subjgap"),
            "RT": times,
        },
        "stroop": {"subj": subject, "condition": text("Congruent", "Incongruent"), "RT": times},
        "pupil": {"subj": subject, "load": row % 6, "p_size": 900 + 50 * rng.normal(size=N)},
        "grouseticks": {
            "BROOD": 500 + row // 4,
            "LOCATION": 30 + row // 8,
            "YEAR": 95 + row % 3,
            "cHEIGHT": rng.normal(scale=36, size=N),
            "TICKS": rng.poisson(3, size=N),
        },
        "fibrosis": {
            "Patient": np.char.add("ID", subject.astype(str)),
            "Weeks": 5 * (row % 8) - 5,
            "FVC": 2500 + 100 * rng.normal(size=N),
        },
        # Pairs in another order than grades, as a table that was sorted otherwise has them.
        "electric": {
            "pair": (7 * row) % 24 + 1,
            "grade": (7 * row) % 24 % 4 + 1,
            "treatment": row // 24,
            "y": 100 + 10 * rng.normal(size=N),
        },
        "insteval": {
            "s": subject,
            "d": 1000 + item,
            "dept": item % 3,
            "service": half,
            "y": rng.integers(1, 6, size=N),
        },
    }
    return pd.DataFrame(columns[name])
