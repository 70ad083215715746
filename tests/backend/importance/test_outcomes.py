"""Against plain counting, the metrics of whole CoTs, and what was planted."""

import json
import math

import numpy as np
import pandas as pd
import pytest

from backend.cot.degeneration import compression_ratio, reflection_words, repetition
from backend.importance.metrics import importance_of_cot
from backend.importance.outcomes import MEANS, arm_summary, compare, dose_response, dose_steps, importance_change
from backend.statistics.changepoint import changepoint
from backend.statistics.intervals import wilson

LOOP = "So we add 2. " * 40
TEXT = "Wait, so the answer is 7, isn't it?"


def sample(number, arm="base", *, answer="7", correct=True, text=TEXT, n_tokens=10, finish="eos", beta=None):
    return {
        "arm": arm,
        "beta": {"base": 0.0, "flipped": -4.0}.get(arm, 4.0) if beta is None else beta,
        "sample": number,
        "text": text,
        "answer": answer,
        "cluster": answer,
        "is_correct": correct,
        "finish": finish,
        "n_tokens": n_tokens,
        "reflection_words": reflection_words(text),
        "repetition": repetition(text),
        "compression_ratio": compression_ratio(text),
    }


def drawn(arm, p_correct, *, n=16, seed=0, beta=None, length=40):
    """n samples whose answer is 7 with probability p, else 8, or none; sample k is drawn with the same luck in every
    arm.
    """
    luck = np.random.default_rng(seed).random((n, 2))
    rows = []
    for k, (u, w) in enumerate(luck):
        answer = None if w < 0.1 else "7" if u < p_correct else "8"
        verdict = None if answer is None else answer == "7"
        rows.append(sample(k, arm, answer=answer, correct=verdict, n_tokens=int(length + 20 * u), beta=beta))
    return rows


@pytest.fixture
def mixed():
    return pd.DataFrame(
        [
            sample(0),
            sample(1, answer="8", correct=False),
            sample(2, answer=None, correct=None, finish="cap", n_tokens=20),
            sample(3, answer="x", correct=None),
            sample(0, "changed"),
            sample(1, "changed", text=LOOP, answer=" ", correct=None, finish="cap", n_tokens=200),
            sample(2, "changed", answer=None, correct=None, text="", n_tokens=0),
        ]
    )


def test_an_arm_counts_its_samples_and_knows_what_it_does_not_know(mixed):
    base = arm_summary(mixed)["base"]
    assert {name: base[name] for name in ("n", "n_judged", "n_correct", "n_without_answer")} == {
        "n": 4,
        "n_judged": 2,
        "n_correct": 1,
        "n_without_answer": 1,
    }
    low, high = wilson(1, 2)
    assert base["accuracy"] == {"value": 0.5, "low": low, "high": high, "n": 2}
    assert (base["cap_share"]["value"], base["cap_share"]["n"]) == (0.25, 4)
    assert (base["length"]["value"], base["length"]["n"]) == (12.5, 4)
    assert base["reflection_rate"]["value"] == pytest.approx((3 * 10 + 5) / 4)
    assert base["answers"] == [
        {"cluster": "7", "n": 1, "is_correct": True},
        {"cluster": "8", "n": 1, "is_correct": False},
        {"cluster": "x", "n": 1, "is_correct": None},
    ]


def test_texts_without_words_or_tokens_take_no_part_in_means(mixed):
    changed = arm_summary(mixed)["changed"]
    assert changed["degenerate_share"]["value"] == pytest.approx(1 / 3)
    assert (changed["repetition"]["n"], changed["compression_ratio"]["n"], changed["reflection_rate"]["n"]) == (2, 2, 2)
    assert changed["n_without_answer"] == 2
    assert changed["length"]["value"] == 70
    assert changed["accuracy"] == {"value": 1.0, "low": pytest.approx(wilson(1, 1).low), "high": 1.0, "n": 1}


def test_arms_come_in_their_order_and_only_those_there_are():
    samples = pd.DataFrame(drawn("random", 0.5) + drawn("changed", 0.5) + drawn("base", 0.5))
    assert list(arm_summary(samples)) == ["base", "changed", "random"]
    assert {row["arm"] for row in compare(samples)} == {"changed", "random"}
    assert compare(samples[samples["arm"] != "base"]) == []


def test_everything_is_json_without_nan(mixed):
    stored = mixed[mixed["arm"] == "base"].iloc[:0]
    base, changed = (mixed[mixed["arm"] == arm] for arm in ("base", "changed"))
    for result in (
        arm_summary(mixed),
        compare(mixed),
        dose_response(mixed, {0.0: 0.0, 4.0: math.nan}),
        importance_change(base, changed, stored, "before"),
        importance_change(base, changed, base, "after"),
    ):
        assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_thinking_tokens_are_summed_up_apart_from_the_answers_and_unknown_ones_take_no_part():
    rows = drawn("base", 0.5, n=4) + drawn("changed", 0.5, n=4)
    for row, thinking, answer in zip(rows, (3, 5, 7, None, 9, 9, 9, 9), (1, None, 3, None, 2, 2, 2, 2), strict=True):
        row |= {"n_thinking": thinking, "n_answer": answer}
    base = arm_summary(pd.DataFrame(rows))["base"]
    assert (base["thinking"]["value"], base["thinking"]["n"]) == (5, 3)
    assert (base["answering"]["value"], base["answering"]["n"]) == (2, 2)
    found = {row["quantity"]: row for row in compare(pd.DataFrame(rows))}
    assert (found["thinking"]["difference"], found["thinking"]["n"], found["thinking"]["n_left_out"]) == (4, 3, 1)


def test_pairs_are_found_by_the_number_of_the_sample():
    longer = [row | {"n_tokens": row["n_tokens"] + 5} for row in drawn("changed", 0.8) if row["sample"] != 3]
    rows = drawn("base", 0.8) + longer
    shuffled = pd.DataFrame(rows).sample(frac=1, random_state=1)
    by_quantity = {row["quantity"]: row for row in compare(shuffled)}
    assert list(by_quantity) == ["accuracy", *MEANS]
    assert by_quantity["thinking"]["n"] == 0 and by_quantity["thinking"]["difference"] is None  # nobody counted them
    length = by_quantity["length"]
    assert (length["n"], length["n_left_out"], length["difference"], length["low"], length["high"]) == (15, 1, 5, 5, 5)
    assert length["p"] < 1e-4
    assert (by_quantity["accuracy"]["difference"], by_quantity["accuracy"]["p"], by_quantity["repetition"]["p"]) == (
        0,
        1,
        1,
    )
    unanswered = sum(row["is_correct"] is None for row in rows if row["arm"] == "base" and row["sample"] != 3)
    assert by_quantity["accuracy"]["n_left_out"] == 1 + unanswered


def test_a_planted_loss_of_accuracy_is_found_and_the_random_push_is_not():
    samples = pd.DataFrame(drawn("base", 0.9, n=40) + drawn("changed", 0.3, n=40) + drawn("random", 0.9, n=40))
    accuracy = {row["arm"]: row for row in compare(samples) if row["quantity"] == "accuracy"}
    assert accuracy["changed"]["p"] < 0.001
    assert accuracy["changed"]["high"] < 0
    assert accuracy["random"]["p"] == 1


def rollouts(rows, chunk):
    table = pd.DataFrame(rows)
    return table.assign(
        chunk_id=chunk, kind="resample", similarity=0.9, answer_cluster=table["cluster"], resampled_chunk="So."
    )


@pytest.mark.parametrize("side", ["before", "after"])
def test_each_arm_has_the_importance_that_the_study_would_give_it(side):
    stored = pd.DataFrame(drawn("base", 0.6, n=25, seed=9))
    arms = {"base": pd.DataFrame(drawn("base", 0.8)), "changed": pd.DataFrame(drawn("changed", 0.3))}
    found = {
        (row["metric"], row["convention"]): row
        for row in importance_change(*arms.values(), stored, side, n_bootstrap=200)
    }
    n_outcomes = pd.concat([*arms.values(), stored])["cluster"].nunique()
    assert ("resampling_importance_jsd", "jsd") in found
    for name, arm in arms.items():
        here, after = (arm, stored) if side == "before" else (stored, arm)
        whole = importance_of_cot(
            pd.concat([rollouts(here, "i"), rollouts(after, "i+1")]),
            ["i", "i+1"],
            n_bootstrap=0,
            seed=0,
            n_outcomes=n_outcomes,
        )
        whole = whole[whole["chunk_id"] == "i"].set_index(["metric", "convention"])
        for key, row in found.items():
            expected = whole.loc[key]
            assert row[name]["value"] == pytest.approx(expected["value"], rel=1e-9), key
            arm_is_p = (side == "after") == (key[1] != "ta")  # `ta` runs from i to i+1
            n, n_stored = (
                (expected["n"], expected["n_comparator"]) if arm_is_p else (expected["n_comparator"], expected["n"])
            )
            assert (row[name]["n"], row["n_stored"]) == (n, n_stored)
    for row in found.values():
        assert row["difference"] == pytest.approx(row["changed"]["value"] - row["base"]["value"])
        assert row["reason"] is None


def test_identical_arms_change_no_importance_at_all():
    arm = pd.DataFrame(drawn("base", 0.6))
    for row in importance_change(
        arm, arm.sample(frac=1, random_state=0), pd.DataFrame(drawn("base", 0.4, seed=3)), "after"
    ):
        assert (row["difference"], row["low"], row["high"]) == (0, 0, 0)
        assert row["base"]["low"] < row["base"]["high"]


def test_importance_changes_sign_with_the_side_for_accuracy():
    base, changed, stored = (pd.DataFrame(drawn("base", p, n=60, seed=s)) for p, s in ((0.9, 0), (0.2, 0), (0.9, 5)))
    before, after = (importance_change(base, changed, stored, side)[0] for side in ("before", "after"))
    assert before["difference"] == -after["difference"] > 0.4
    assert before["low"] > 0 > after["high"]


def test_an_empty_side_gives_no_importance_and_says_why():
    arm = pd.DataFrame(drawn("base", 0.6))
    mute = arm.assign(cluster=None, is_correct=None)
    for row in importance_change(arm, arm, arm.iloc[:0], "before"):
        assert row["difference"] is row["base"]["value"] is row["low"] is None
        assert row["reason"].startswith("no stored rollout after the chunk has a")
    for row in importance_change(arm, mute, arm, "after"):
        assert row["base"]["value"] is not None and row["changed"]["value"] is row["difference"] is None
        assert row["reason"].startswith("no sample of the changed arm has a")
    forced_only = arm.assign(kind="forced")
    assert importance_change(arm, arm, forced_only, "after")[0]["n_stored"] == 0


def test_a_dose_has_one_row_a_beta_with_the_base_arm_at_zero():
    rows = drawn("base", 0.9) + drawn("random", 0.1, beta=2.0)
    rows += [row for beta in (4.0, 2.0, -2.0) for row in drawn("changed", 0.5, beta=beta, length=40 + beta)]
    found = dose_response(pd.DataFrame(rows), {2.0: 0.1, 0.0: 0.0, 6.0: 0.9})
    assert [row["beta"] for row in found] == [-2, 0, 2, 4, 6]
    assert [row["kl"] for row in found] == [None, 0, 0.1, None, 0.9]
    assert [row["n"] for row in found] == [16, 16, 16, 16, 0]
    assert found[3]["length"]["value"] == pytest.approx(found[2]["length"]["value"] + 2)
    assert found[4]["accuracy"] == {"value": None, "low": None, "high": None, "n": 0}
    assert found[1]["accuracy"]["value"] > found[2]["accuracy"]["value"]
    control = dose_response(pd.DataFrame(rows), {}, arm="random")
    assert [row["beta"] for row in control] == [0, 2]


def test_samples_that_would_be_pooled_by_mistake_are_refused():
    twice = pd.DataFrame(drawn("changed", 0.5) * 2)
    doses = pd.DataFrame(drawn("changed", 0.5, beta=1.0) + drawn("changed", 0.5, beta=2.0))
    with pytest.raises(ValueError, match="twice"):
        arm_summary(twice)
    with pytest.raises(ValueError, match="twice in the base arm"):
        importance_change(twice, twice, twice, "after")
    for refuses in (arm_summary, compare):
        with pytest.raises(ValueError, match="several betas"):
            refuses(doses)
    with pytest.raises(ValueError, match="no arm 'steered'"):
        arm_summary(doses.assign(arm="steered"))
    with pytest.raises(ValueError, match="before or after"):
        importance_change(doses, doses, doses, "left")


# Steps along the dose

DOSES = (-4.0, -2.0, 0.0, 2.0, 4.0)


def dosed(p_correct, lengths, *, n=8, seed=0):
    """n samples at each dose: right with `p_correct(beta)`, of a length around `lengths(beta)`."""
    rng = np.random.default_rng(seed)
    rows = [
        sample(
            k,
            "changed",
            beta=beta,
            correct=bool(rng.random() < p_correct(beta)),
            n_tokens=int(lengths(beta) + 20 * rng.random()),
        )
        for beta in DOSES
        for k in range(n)
    ]
    return pd.DataFrame(rows)


def test_a_planted_step_is_found_in_its_own_quantity_and_in_no_other():
    steps = dose_steps(dosed(lambda beta: 1.0 if beta < 1 else 0.0, lambda beta: 40, n=12))
    accuracy = steps["accuracy"]["step"]
    assert (accuracy["x_before"], accuracy["x_after"]) == (0.0, 2.0) and accuracy["p"] == 0.001
    assert (steps["accuracy"]["n"], steps["accuracy"]["n_doses"]) == (60, 5)
    assert steps["length"]["step"]["p"] > 0.05
    steps = dose_steps(dosed(lambda beta: 0.5, lambda beta: 40 if beta < -1 else 90))
    assert (steps["length"]["step"]["x_before"], steps["length"]["step"]["x_after"]) == (-2.0, 0.0)
    assert steps["length"]["step"]["p"] < 0.01 < steps["accuracy"]["step"]["p"]


def test_a_step_is_never_tested_from_few_continuations_or_few_doses():
    clear = dosed(lambda beta: 1.0 if beta < 1 else 0.0, lambda beta: 40 if beta < 1 else 400, n=5)
    assert dose_steps(clear)["length"]["step"] is not None
    for few in (clear[clear["sample"] < 2], clear[clear["sample"] < 4], clear[clear["beta"].abs() < 3]):
        for quantity in ("accuracy", "length", "degenerate_share"):
            found = dose_steps(few)[quantity]
            assert found["step"] is None and "5 continuations at each of 4 β" in found["reason"]


def test_a_dose_whose_verdicts_are_not_known_takes_no_part_in_the_step_of_accuracy_alone():
    table = dosed(lambda beta: 1.0 if beta < 1 else 0.0, lambda beta: 40, n=6)
    table["is_correct"] = table["is_correct"].astype(object)
    table.loc[(table["beta"] == 4.0) & (table["sample"] < 2), "is_correct"] = None
    steps = dose_steps(table)
    assert (steps["accuracy"]["n"], steps["accuracy"]["n_doses"]) == (24, 4)
    assert (steps["length"]["n"], steps["length"]["n_doses"]) == (30, 5)


def test_a_kl_has_no_samples_and_what_never_varies_has_no_step():
    steps = dose_steps(dosed(lambda beta: 1.0, lambda beta: 40))
    assert steps["kl"]["step"] is None and "exact" in steps["kl"]["reason"]
    assert steps["accuracy"]["step"] is None and "the same in every continuation" in steps["accuracy"]["reason"]
    assert json.loads(json.dumps(steps, allow_nan=False)) == steps


def test_where_nothing_changes_along_the_dose_a_panels_p_is_small_about_once_in_twenty(monkeypatch):
    monkeypatch.setattr(
        "backend.importance.outcomes.changepoint",
        lambda x, y, seed: changepoint(x, y, n_bootstrap=1, n_permutations=199, seed=seed),
    )
    found = [dose_steps(dosed(lambda beta: 0.5, lambda beta: 40, seed=k), seed=k) for k in range(200)]
    for quantity in ("accuracy", "length"):
        assert 2 <= sum(steps[quantity]["step"]["p"] <= 0.05 for steps in found) <= 22  # 99.9 % of binomial(200, 0.05)


# A new wording


def test_a_new_wording_is_compared_with_the_sentence_as_it_was_and_with_its_paraphrase():
    base = drawn("base", 0.9, n=40)
    rows = base + [row | {"arm": "same"} for row in base] + drawn("changed", 0.2, n=40) + drawn("paraphrase", 0.9, n=40)
    found = {(row["arm"], row["against"]): row for row in compare(pd.DataFrame(rows)) if row["quantity"] == "accuracy"}
    assert list(found) == [("changed", "base"), ("same", "base"), ("paraphrase", "base"), ("changed", "paraphrase")]
    assert found["same", "base"]["difference"] == 0 and found["same", "base"]["p"] == 1
    assert found["changed", "paraphrase"]["high"] < 0 and found["changed", "paraphrase"]["p"] < 0.001
