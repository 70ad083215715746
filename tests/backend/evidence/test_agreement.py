import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from backend.evidence.agreement import rank_agreement


@pytest.fixture
def metrics():
    rng = np.random.default_rng(0)
    a = rng.normal(size=100)
    b = np.where(rng.random(100) < 0.2, np.nan, a + rng.normal(size=100))
    return pd.DataFrame(
        {"cot_id": np.repeat(range(20), 5), "problem_id": np.repeat(range(10), 10), "a": a, "b": b, "flat": 1.0}
    )


def test_each_cell_is_rho_over_the_chunks_that_know_both(metrics):
    found = rank_agreement(metrics, n_bootstrap=50, seed=0)
    assert len(found) == 9
    cell = found.set_index(["a", "b"]).loc["a", "b"]
    known = metrics.dropna()
    assert cell["n"] == len(known) and cell["n_problems"] == 10
    assert cell["spearman"] == pytest.approx(spearmanr(known["a"], known["b"]).statistic)
    assert cell["ci_low"] < cell["spearman"] < cell["ci_high"]


def test_the_matrix_is_symmetric_with_ones_and_unknown_where_nothing_varies(metrics):
    matrix = rank_agreement(metrics, n_bootstrap=20, seed=0).pivot(index="a", columns="b", values="spearman")
    assert matrix.loc["a", "a"] == matrix.loc["b", "b"] == 1
    pd.testing.assert_frame_equal(matrix, matrix.T, check_names=False)
    assert matrix["flat"].isna().all()
