"""Content that comes back in exactly so many rollouts, and what its full removal changes."""

import math

import numpy as np
import pandas as pd
import pytest

from backend.importance.conventions import CONVENTIONS, KULLBACK_LEIBLER
from backend.importance.metric_registry import metrics_to_compute
from backend.importance.metrics import importance_of_cot
from backend.importance.resilience import resilience_of_cot, returns
from backend.importance.similarity import first_chunk, later_chunks, similarity
from backend.statistics.intervals import wilson

CHUNKS = {"c0": " Count the crates of apples first. ", "c1": "Then the answer follows. "}
OTHER, THIRD = "Something else entirely is said.", "And more of it is said here."
METRICS = metrics_to_compute(needs_returns=True)
PP_KL, PP_ACCURACY = METRICS[1:]


def rollout(chunk="c0", first=OTHER, later=(), similarity=0.1, answer="7", finish="eos", kind="resample"):
    return {
        "chunk_id": chunk,
        "kind": kind,
        "similarity": similarity,
        "answer_cluster": answer,
        "is_correct": None if answer is None else answer == "7",
        "resampled_chunk": first,
        "text": " ".join([first, *later]),
        "finish": finish,
    }


def encode(texts):
    """One axis for each text that is not the other's: cosines are 1 or 0."""
    axes = {text: axis for axis, text in enumerate(dict.fromkeys(texts))}
    return np.eye(len(axes), dtype=np.float32)[[axes[text] for text in texts]]


def measured(rows, **options):
    table = pd.DataFrame(rows)
    table["returns"] = returns(table, CHUNKS, encode)
    return resilience_of_cot(table, list(CHUNKS), **({"seed": 1} | options)).set_index(
        ["chunk_id", "metric", "convention"]
    )


BACK = [OTHER, CHUNKS["c0"].strip()]


def test_the_share_of_dissimilar_rollouts_in_which_the_content_comes_back():
    rows = (
        [rollout(later=BACK)] * 3
        + [rollout(later=[THIRD])] * 4
        + [rollout()]
        + [rollout(similarity=0.9, later=BACK)] * 9
    )
    found = measured(rows).loc["c0", "resilience", "all"]
    assert found["value"] == 3 / 8 and found["n"] == 8 and pd.isna(found["n_comparator"])
    assert (found["ci_low"], found["ci_high"]) == wilson(3, 8)


@pytest.mark.parametrize(
    "rows",
    [
        [rollout(similarity=0.9)],
        [rollout(similarity=None)],
        [rollout(finish="cap", later=BACK)],
        [{**rollout(), "text": None}],
        [rollout(kind="forced")],
        [rollout("c1")],
    ],
)
def test_where_no_rollout_takes_part_it_is_unknown(rows):
    found = measured(rows).loc["c0"]
    assert found[["value", "ci_low", "ci_high"]].isna().all(axis=None) and found.loc["resilience", "all"]["n"] == 0


def test_a_rollout_that_has_not_ended_takes_no_part_whether_the_content_was_back_or_not():
    ended = [rollout(later=BACK), rollout(later=[THIRD])]
    cut = [rollout(finish="cap", later=BACK), rollout(finish="cap"), rollout(finish="cap")]
    whole, part = measured(ended + cut), measured(ended)
    assert whole.loc["c0", "resilience", "all"]["n"] == 2
    pd.testing.assert_frame_equal(whole, part)


def test_the_first_sentence_again_is_no_return_and_a_cut_of_unknown_kind_is_none():
    assert returns(pd.DataFrame([rollout(first=CHUNKS["c0"].strip(), finish=None)]), CHUNKS, encode).tolist() == [False]


def random_rows(seed, back=()):
    draw = np.random.default_rng(seed)
    return [
        rollout(
            chunk,
            later=[THIRD, *(BACK if draw.random() < 0.4 and back else ())],
            similarity=draw.choice([0.2, 0.9]),
            answer=str(draw.choice(["7", "7", "8", "9"])),
        )
        for chunk in CHUNKS
        for _ in range(25)
    ]


def test_where_nothing_comes_back_it_is_counterfactual_importance_to_the_last_draw():
    table = pd.DataFrame(random_rows(1))
    plain = importance_of_cot(table, list(CHUNKS), seed=1)
    plain = plain[plain["metric"].isin(["counterfactual_importance_kl", "counterfactual_importance_accuracy"])]
    strict = measured(random_rows(1)).drop("resilience", level="metric").reset_index()
    strict["metric"] = strict["metric"].str.replace("_pp", "")
    keys = ["chunk_id", "metric", "convention"]
    pd.testing.assert_frame_equal(
        strict.sort_values(keys, ignore_index=True), plain.sort_values(keys, ignore_index=True)
    )


def test_only_rollouts_that_never_say_it_are_compared():
    gone = [rollout(answer="8")] * 4
    back = [rollout(answer="7", later=BACK)] * 6
    rows = gone + back + [rollout("c1", answer="7", similarity=0.9)] * 10
    found = measured(rows)
    assert found.loc["c0", PP_ACCURACY, "paper"]["value"] == -1 and found.loc["c0", PP_ACCURACY, "paper"]["n"] == 4
    plain = importance_of_cot(pd.DataFrame(rows), list(CHUNKS), seed=1).set_index(["chunk_id", "metric", "convention"])
    assert plain.loc["c0", "counterfactual_importance_accuracy", "paper"]["value"] == pytest.approx(-0.4)
    expected = 5 / 6 * math.log((5 / 6) / (1 / 12)) + 1 / 6 * math.log(
        (1 / 6) / (11 / 12)
    )  # 4 wrong, and 10 correct, and 1 added to each
    assert found.loc["c0", PP_KL, "fl"]["value"] == pytest.approx(expected)
    everything = measured(back + [rollout("c1", similarity=0.9)] * 10).loc["c0"]
    assert (
        everything.loc["resilience", "all"]["value"] == 1
        and everything.drop("resilience", level="metric")["value"].isna().all()
    )


def test_the_order_of_rollouts_changes_nothing():
    rows = random_rows(2, back=True)
    pd.testing.assert_frame_equal(measured(rows), measured(rows[::-1]))


def test_rows_fit_the_table_and_the_last_chunk_has_no_comparison():
    found = measured(random_rows(3, back=True)).reset_index()
    kls = [name for name, convention in CONVENTIONS.items() if convention.divergence == KULLBACK_LEIBLER]
    assert len(found) == 2 * (1 + 2 * len(kls)) and set(found["metric"]) == set(METRICS)
    last = found[(found["chunk_id"] == "c1") & (found["metric"] != "resilience")]
    assert last["value"].isna().all() and found[found["metric"] == "resilience"]["value"].notna().all()


def test_every_sentence_is_embedded_once():
    asked = []
    returns(pd.DataFrame(random_rows(4, back=True) * 3), CHUNKS, lambda texts: asked.extend(texts) or encode(texts))
    assert len(asked) == len(set(asked)) == 4


def test_the_first_chunk_and_the_later_ones_make_a_text():
    assert (
        first_chunk("") is None
        and first_chunk(" \n") is None
        and first_chunk(" One is said here. And two is. ") == "One is said here."
    )
    assert later_chunks("One is said here. Two is said, too. Three is there.") == [
        "Two is said, too.",
        "Three is there.",
    ]
    assert similarity(encode, " a ", ["a", None, "b"]) == [1.0, None, 0.0] and similarity(encode, " ", ["a"]) == [None]
