"""Each β is held against β = 0 sample by sample, of the vector and of every random one, as plain loops have it."""

import numpy as np
import pandas as pd
import pytest

from backend.importance.along import along

BETAS, N, N_RANDOM = (-2.0, 0.0, 2.0), 4, 3


@pytest.fixture
def samples() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    rows = []
    for vector in range(N_RANDOM + 1):
        for beta in BETAS if not vector else (-2.0, 2.0):
            for k in range(N):
                answered = rng.random() > 0.2
                rows.append(
                    {
                        "arm": "random" if vector else "changed",
                        "beta": beta,
                        "sample": k + N * max(0, vector - 1),
                        "text": "Wait, it is so.",
                        "answer": "1" if answered else None,
                        "cluster": str(rng.integers(2)) if answered else None,
                        "is_correct": None,
                        "finish": "eos",
                        "n_tokens": 20,
                        "n_thinking": None if rng.random() < 0.1 else int(rng.integers(5, 15)),
                        "n_answer": 3,
                        "reflection_words": 1,
                        "repetition": 0.1,
                        "compression_ratio": 1.0,
                    }
                )
    return pd.DataFrame(rows)


def plainly(samples: pd.DataFrame, arm: str, first: int, beta: float) -> tuple[list[float], list[bool]]:
    """Differences in thinking tokens from β = 0, and whether the answers differ, pair by pair."""
    by_key = {(row.arm, row.beta, row.sample): row for row in samples.itertuples()}
    differences, moved = [], []
    for k in range(N):
        before = by_key["changed", 0.0, k]
        after = by_key[arm, beta, first + k] if beta else before
        if not (pd.isna(before.n_thinking) or pd.isna(after.n_thinking)):
            differences.append(after.n_thinking - before.n_thinking)
        if not (pd.isna(before.cluster) or pd.isna(after.cluster)):
            moved.append(before.cluster != after.cluster)
    return differences, moved


def test_every_vector_is_held_against_beta_0_pair_by_pair(samples):
    kl = dict(zip(BETAS, (0.1, 0.0, 0.2), strict=True))
    found = along(samples, kl, [kl] * N_RANDOM, n=N, seed=1)
    assert len(found["controls"]) == N_RANDOM
    for number, rows in enumerate([found["rows"], *found["controls"]]):
        assert [(row["beta"], row["kl"]) for row in rows] == list(kl.items())
        for row in rows:
            arm, first = ("random", N * (number - 1)) if number else ("changed", 0)
            differences, moved = plainly(samples, arm, first, row["beta"])
            change, share = row["thinking_change"], row["moved"]
            assert (change["n"], share["n"]) == (len(differences), len(moved))
            assert change["value"] == (pytest.approx(np.mean(differences)) if differences else None)
            assert share["value"] == (pytest.approx(np.mean(moved)) if moved else None)


def test_nothing_moves_at_beta_0_and_what_nobody_counted_is_unknown(samples):
    found = along(samples.assign(n_thinking=None), {}, [{}] * N_RANDOM, n=N, seed=1)
    calm = found["rows"][1]
    assert calm["beta"] == 0 and calm["moved"]["value"] == 0 and calm["kl"] is None
    assert calm["thinking_change"]["value"] is None and calm["thinking"]["value"] is None
