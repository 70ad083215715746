"""What is said of stored readings, counted by hand."""

import numpy as np
import pandas as pd
import pytest

from backend.latent.summaries import (
    MEASURES,
    at_the_end,
    best_cell,
    cells,
    early_answers,
    roles_in,
    top_tokens,
    unpacked,
    words_of_role,
)

ROLES = ["answer", "other", "operand", "intermediate 1"]


def row(problem, tokens, rank, log_prob, *, lens_knows=True, roles=ROLES):
    known = [0.5] * len(tokens) if lens_knows else None
    return {
        "model_id": "m",
        "problem_id": problem,
        "lens": "logit",
        "layer": 0,
        "first_step": 1,
        "token_ids": tokens,
        "probabilities": known,
        "cosines": None if lens_knows else [0.9] * len(tokens),
        "entropies": [1.0, 2.0] if lens_knows else None,
        "roles": roles,
        "ranks": rank,
        "log_probs": log_prob,
    }


def followed(log_p):
    """Rows of log-probabilities (n_problems, 2, n_steps) of the answer and of another problem's."""
    roles, n = ["answer", "other"], log_p.shape[2]
    rows = [row(f"p{p}", [1] * n, [1] * 2 * n, own.ravel().tolist(), roles=roles) for p, own in enumerate(log_p)]
    return pd.DataFrame(rows).assign(entropies=[[1.0] * n] * len(rows))


@pytest.fixture
def read():
    rows = [
        row("a", [7, 8], [1, 5, 9, 9, 0, 0, 2, 3], [-1.0, -2.0, -3.0, -4.0, None, None, -5.0, -6.0]),
        row("b", [7, 9], [3, 1], [-1.5, -0.5], roles=["answer"]),
    ]
    return unpacked(pd.DataFrame(rows))[0]


def test_rows_are_unpacked_word_by_word_and_step_by_step(read):
    assert read.problems == ("a", "b") and list(read.steps) == [1, 2]
    assert read.rank["answer"].tolist() == [[1, 5], [3, 1]]
    assert read.log_prob["intermediate 1"][0].tolist() == [-5.0, -6.0]


def test_what_a_problem_does_not_have_is_unknown(read):
    assert np.isnan(read.rank["operand"]).all() and np.isnan(read.log_prob["operand"]).all()
    assert np.isnan(read.rank["intermediate 1"][1]).all() and np.isnan(read.cosine).all()


def test_a_cell_is_the_mean_over_problems_with_the_most_frequent_token(read):
    first, second = cells(read, MEASURES["followed"], "answer")
    assert first["value"] == pytest.approx((np.exp(-1) + np.exp(-1.5)) / 2) and first["n"] == 2
    assert (first["token_id"], first["token_share"]) == (7, 1.0) and second["token_share"] == 0.5
    assert cells(read, MEASURES["top"], "answer")[0]["value"] == 0.5
    assert cells(read, MEASURES["rank"], "answer")[1]["value"] == pytest.approx(np.log10(5) / 2)
    assert cells(read, MEASURES["followed"], "intermediate 1")[0]["n"] == 1
    assert np.isnan(cells(read, MEASURES["followed"], "word so")[0]["value"])


def test_some_problems_alone_keep_their_rows(read):
    own = read.of(["b", "z"])
    assert own.problems == ("b",) and own.rank["answer"].tolist() == [[3, 1]] and own.token.tolist() == [[7, 9]]


def test_top_tokens_are_counted_over_problems(read):
    assert top_tokens(read, 1) == [(7, 2, 0.5)] and top_tokens(read, 2) == [(8, 1, 0.5), (9, 1, 0.5)]


def test_roles_begin_with_the_intermediates_in_their_order(read):
    assert roles_in([read]) == ["intermediate 1", "answer", "other", "operand"]
    assert words_of_role("word so") == "“so”" and "control" in words_of_role("other")


def test_the_best_place_is_chosen_on_some_problems_and_measured_on_others():
    """Noise alone: the largest of many means is above the control where it was chosen, and not where it is measured."""
    rng = np.random.default_rng(0)
    excess = []
    for _ in range(60):
        log_p = np.log(rng.uniform(0, 1, (40, 2, 6)))
        rows = [
            {
                **row(f"p{n}", [1] * 6, [1] * 12, log_p[n].ravel().tolist(), roles=["answer", "other"]),
                "entropy": [1] * 6,
            }
            for n in range(40)
        ]
        excess.append(best_cell(unpacked(pd.DataFrame(rows)), "answer").excess)
    assert abs(np.mean(excess)) < 3 * np.std(excess) / np.sqrt(60)


def test_a_result_that_is_planted_is_found_where_it_is():
    log_p = np.full((20, 2, 3), np.log(0.1))
    log_p[:, 0, 1] = np.log(0.8)
    found = best_cell(unpacked(followed(log_p)), "answer")
    assert (found.step, found.n) == (2, 10) and found.excess == pytest.approx(0.7)
    assert best_cell(unpacked(followed(log_p)), "intermediate 1") is None


def test_an_early_answer_is_right_or_not_and_none_is_not_right():
    runs = pd.DataFrame(
        {
            "model_id": ["m"] * 4,
            "problem_id": ["a", "b", "a", "b"],
            "n_latents": [0, 0, 2, 2],
            "is_correct": [True, None, True, False],
        }
    )
    found = early_answers(runs)
    assert found["value"].tolist() == [0.5, 0.5] and found["n"].tolist() == [2, 2]
    assert (found["low"] < 0.5).all() and (found["high"] > 0.5).all()
    assert at_the_end(runs, "m").to_dict() == {"a": True, "b": False}
