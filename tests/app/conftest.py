"""Points as the store gives them, made here by seeded code."""

import numpy as np
import pandas as pd
import pytest

from tests.small_study import CATEGORIES


@pytest.fixture
def points() -> pd.DataFrame:
    """Thirty chunks of three CoTs of two problems; three importances and two steepnesses are unknown."""
    rng = np.random.default_rng(3)
    n = 30
    value, steepness = rng.exponential(1.0, n), rng.exponential(0.01, n)
    value[[3, 4, 5]], steepness[[5, 6]], value[10], steepness[11] = np.nan, np.nan, 0.0, 0.0
    return pd.DataFrame(
        {
            "chunk_id": [f"c{k // 10}_{k % 10:04d}" for k in range(n)],
            "cot_id": [f"c{k // 10}" for k in range(n)],
            "problem_id": [f"p{k // 20}" for k in range(n)],
            "number": [k % 10 + 1 for k in range(n)],
            "text": ["<b>bold</b> $x$"] + [f"sentence {k}" for k in range(1, n)],
            "category": [None] + [CATEGORIES[k % 9] for k in range(1, n)],
            "x": rng.standard_normal(n),
            "y": rng.standard_normal(n),
            "z": rng.standard_normal(n),
            "value": value,
            "ci_low": value - 0.1,
            "ci_high": value + 0.2,
            "steepness": steepness,
            "below_floor": [k == 7 for k in range(n)],
            "lit": [k % 3 > 0 for k in range(n)],
        }
    )


def traced_ids(figure) -> list[str]:
    """The chunk ids of every trace of markers, the ring of the selected chunk left out."""
    return [
        chunk
        for trace in figure.data
        if trace.customdata is not None and trace.name != "selected chunk"
        for chunk in trace.customdata
    ]
