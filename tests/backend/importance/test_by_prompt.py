"""Accuracy by prompt and model, and what of a difference is whose."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest

from backend.importance.by_prompt import CONTRASTS, cells, contrasts, lengths, solved_by_problem, told_apart
from backend.statistics.intervals import bootstrap_mean, wilson


def chains(table: dict[tuple[str, str], list[list[bool | None]]]) -> pd.DataFrame:
    """`table` has the verdicts of each problem's chains by cell; None: no answer was given."""
    rows = [
        {
            "problem_id": f"p{number}",
            "model_id": model,
            "prompt_name": prompt,
            "sample": sample,
            "answered": verdict is not None,
            "forced": False,
            "is_correct": verdict,
        }
        for (model, prompt), problems in table.items()
        for number, verdicts in enumerate(problems)
        for sample, verdict in enumerate(verdicts)
    ]
    return pd.DataFrame(rows).assign(is_correct=lambda frame: frame["is_correct"].astype("boolean"))


def singles(*verdicts: bool | None) -> list[list[bool | None]]:
    return [[verdict] for verdict in verdicts]


BASE, OTHER = "base", "distilled"


def test_accuracy_is_the_mean_over_problems_and_a_chain_without_an_answer_solves_nothing():
    (row,) = cells(chains({(BASE, "plain"): [[True, True, True, True], [False, None]]}))
    assert (row["accuracy"], row["n"], row["n_chains"], row["n_without_answer"]) == (0.5, 2, 6, 1)


def test_an_answer_that_could_not_be_judged_takes_no_part_and_is_counted():
    frame = chains({(BASE, "plain"): singles(True, None, False)})
    frame.loc[1, "answered"] = True
    (row,) = cells(frame)
    assert (row["accuracy"], row["n"], row["n_unjudged"], row["n_without_answer"]) == (0.5, 2, 1, 0)


def test_one_chain_a_problem_has_wilsons_interval_and_several_a_bootstrap_over_problems():
    (row,) = cells(chains({(BASE, "plain"): singles(True, True, False)}))
    assert (row["low"], row["high"]) == wilson(2, 3)
    several = [[True, True], [True, False], [False, False]]
    (row,) = cells(chains({(BASE, "plain"): several}))
    assert (row["low"], row["high"]) == bootstrap_mean([1.0, 0.5, 0.0])


def test_the_median_length_is_over_chains_and_its_interval_over_problems():
    frame = chains({(BASE, "plain"): [[True, True], [False, None], [True, True]]})
    sizes = [10, 20, 30, 40, 500, 600]
    frame = frame.assign(n_tokens=sizes, finish=["eos"] * 4 + ["cap", None], thinks=[True] * 5 + [False])
    (row,) = lengths(frame, n_bootstrap=4000)
    assert (row["median"], row["n"], row["n_chains"], row["n_capped"]) == (35, 3, 6, 1)
    assert (row["n_without_answer"], row["n_forced"], row["thinks"]) == (1, 0, "some")
    every = [np.median([one for k in draw for one in sizes[2 * k : 2 * k + 2]]) for draw in np.ndindex(3, 3, 3)]
    exact = np.quantile(every, [0.025, 0.975], method="inverted_cdf")  # 15 and 550: one problem in all three draws
    assert [row["low"], row["high"]] == exact.tolist()
    (one,) = lengths(frame.head(2))
    assert one["median"] == 15 and math.isnan(one["low"])
    (unknown,) = lengths(frame.assign(n_tokens=pd.NA))
    assert math.isnan(unknown["median"])


def test_agreement_of_all_problems_is_no_certainty():
    (row,) = cells(chains({(BASE, "plain"): [[False, False]] * 4}))
    assert (row["low"], row["high"]) == wilson(0, 4)


TWO_BY_TWO = {
    (BASE, "plain"): singles(False, False, False, True),
    (BASE, "steps"): singles(False, False, True, True),
    (OTHER, "plain"): singles(True, False, True, True),
    (OTHER, "steps"): singles(True, True, True, True),
}


def test_two_models_under_two_prompts_have_two_contrasts_each_way_and_one_interaction():
    rows = contrasts(chains(TWO_BY_TWO))
    assert [row["contrast"] for row in rows] == ["prompts", "prompts", "models", "models", "interaction"]
    assert {row["contrast"] for row in rows} == set(CONTRASTS)
    assert [row["difference"] for row in rows] == [0.25, 0.25, 0.5, 0.5, 0.0]
    assert all(row["n"] == 4 and row["q"] >= row["p"] for row in rows)


def test_the_interaction_is_the_difference_of_the_differences():
    rng = np.random.default_rng(0)
    table = {
        cell: [[bool(v) for v in rng.random(3) < share] for _ in range(12)]
        for cell, share in zip(TWO_BY_TWO, (0.2, 0.3, 0.4, 0.9), strict=True)
    }
    rows = {row["contrast"]: row for row in contrasts(chains(table))}
    shares = {cell: np.mean([np.mean(verdicts) for verdicts in problems]) for cell, problems in table.items()}
    gain = [shares[model, "steps"] - shares[model, "plain"] for model in (BASE, OTHER)]
    assert rows["interaction"]["difference"] == pytest.approx(gain[1] - gain[0])
    assert rows["interaction"]["low"] < gain[1] - gain[0] < rows["interaction"]["high"]


def test_pairs_are_made_by_problem_whatever_the_order_and_what_lacks_a_side_is_counted():
    frame = chains(TWO_BY_TWO)
    shuffled = frame.sample(frac=1, random_state=3).sort_values(["model_id", "prompt_name"], kind="stable")
    assert contrasts(shuffled) == contrasts(frame)
    fewer = frame[~((frame["model_id"] == BASE) & (frame["prompt_name"] == "plain") & (frame["problem_id"] == "p0"))]
    assert [(row["n"], row["n_left_out"]) for row in contrasts(fewer)] == [(3, 1), (4, 0), (3, 1), (4, 0), (3, 1)]


def test_differences_that_are_all_alike_have_no_interval_of_no_width():
    (row,) = contrasts(chains({(BASE, "plain"): [[True, False]] * 5, (OTHER, "plain"): [[True, False]] * 5}))
    assert row["difference"] == 0.0 and math.isnan(row["low"]) and math.isnan(row["high"])
    (row,) = contrasts(chains({(BASE, "plain"): singles(*[False] * 9), (OTHER, "plain"): singles(*[True] * 9)}))
    assert row["difference"] == 1.0 and row["low"] < 1.0  # verdicts alone: Newcombe's interval has a width


@pytest.mark.parametrize(
    "kept", [kept for n in (1, 2, 3, 4) for kept in itertools.combinations(TWO_BY_TWO, n)], ids=str
)
def test_only_both_models_under_both_prompts_tell_model_from_prompt(kept):
    frame = chains({cell: TWO_BY_TWO[cell] for cell in kept})
    assert told_apart(frame) == (len(kept) == 4) == any(row["contrast"] == "interaction" for row in contrasts(frame))


def test_what_is_confounded_is_not_compared():
    """The one model under one prompt, the other under another: no contrast holds everything else fixed."""
    assert (
        contrasts(chains({(BASE, "plain"): TWO_BY_TWO[BASE, "plain"], (OTHER, "steps"): TWO_BY_TWO[OTHER, "steps"]}))
        == []
    )


def test_a_planted_effect_of_the_prompt_alone_is_not_called_the_models():
    """500 worlds in which a prompt adds 0.4 for both models: the interaction's interval holds 0 in about 19 of 20."""
    rng, held = np.random.default_rng(1), 0
    for _ in range(500):
        gains = [rng.binomial(4, share, 40) / 4 for share in (0.3, 0.7, 0.3, 0.7)]
        interval = bootstrap_mean((gains[3] - gains[2]) - (gains[1] - gains[0]), n_bootstrap=300)
        held += interval.low <= 0 <= interval.high
    assert held / 500 == pytest.approx(0.95, abs=0.04)


def test_shares_are_by_problem_and_cell():
    shares = solved_by_problem(chains({(BASE, "plain"): [[True, False], [None]]}))
    assert shares[BASE, "plain"].to_dict() == {"p0": 0.5, "p1": 0.0}
