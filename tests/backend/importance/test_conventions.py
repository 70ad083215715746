"""A convention's name is a claim: `ta` is held to the formulas of the published code, and its words to what is
computed.

`published_code` is those formulas in plain loops, in the form that code has them in: lists of solutions with `answer`
("" for none), `is_correct` (false where there is no answer) and, in place of embeddings, whether the sentence is
dissimilar. It writes 0.0 where a value is undefined; here that is None, because ours is unknown there.
"""

import json
import math
import random
from collections import Counter

import numpy as np
import pandas as pd
import pytest

from backend.importance.conventions import (
    ALL,
    CONVENTIONS,
    GROUPS,
    OUTCOMES,
    PUBLISHED,
    comparable,
    like,
    written_answer,
)
from backend.importance.metric_registry import (
    METRICS,
    conventions_of,
    definition,
    metrics_to_compute,
    sides_of,
)
from backend.importance.metrics import importance_of_cot
from backend.schema import tables
from tests.backend.importance.test_metrics import N_ROWS, of, random_cot, table
from tests.shared_data import shared_folder

EPSILON = 1e-9
ANSWERS = ["7", " 7", "8", r"\frac{1}{2}", r"\dfrac{1}{2}", "1/2", "0.5", "0,5", r"\text{Tom}", "tom", "", "{,}"]


def published_code(at_i, after_i, metric):
    """One importance of the published code, from the solutions before chunk i and those before chunk i+1."""

    def distribution(solutions):
        counts = Counter()
        for solution in solutions:
            if (answer := written_answer(solution["answer"])) is not None:
                counts[answer] += 1
        return counts

    def kl(first, second):
        p, q = distribution(first), distribution(second)
        if not p or not q:
            return None
        outcomes, total = {*p, *q}, 0.0
        for outcome in outcomes:
            share_p = (p[outcome] + EPSILON) / (sum(p.values()) + EPSILON * len(outcomes))
            share_q = (q[outcome] + EPSILON) / (sum(q.values()) + EPSILON * len(outcomes))
            total += share_p * math.log(share_p / share_q)
        return max(total, 0.0)

    def accuracy(solutions):
        answered = [solution for solution in solutions if solution["answer"]]
        return sum(solution["is_correct"] for solution in answered) / len(answered) if answered else None

    def difference(one, other):
        return None if one is None or other is None else one - other

    dissimilar, similar = ([s for s in at_i if s["dissimilar"] is wanted] for wanted in (True, False))
    if metric == "counterfactual_importance_kl":
        return kl(dissimilar, after_i + similar) if distribution(after_i) else None
    if metric == "counterfactual_importance_accuracy":
        return difference(accuracy(dissimilar), accuracy(after_i))
    if metric.endswith("_kl"):  # resampling, and forced with the solutions that were forced
        return kl(at_i, after_i)
    return difference(accuracy(after_i), accuracy(at_i))


def random_solutions(draw, n):
    found = []
    for _ in range(n):
        answer = draw.choice(ANSWERS)
        found.append(
            {"answer": answer, "is_correct": bool(answer) and draw.random() < 0.5, "dissimilar": draw.random() < 0.4}
        )
    return found


def rows_of(solutions, chunk, kind):
    return [
        {
            "chunk_id": chunk,
            "kind": kind,
            "similarity": 0.3 if s["dissimilar"] else 0.9,
            "answer": s["answer"] or None,
            "answer_cluster": s["answer"].strip() or None,
            "is_correct": s["is_correct"] if s["answer"] else None,
            "resampled_chunk": "So.",
        }
        for s in solutions
    ]


@pytest.mark.parametrize(
    "metric", [name for name in metrics_to_compute() if METRICS[name].is_kl or METRICS[name].is_accuracy]
)
def test_ta_is_what_the_published_code_computes(metric):
    kind, convention = (
        "forced" if metric.startswith("forced") else "resample",
        {"ta", ALL}.intersection(conventions_of(metric)).pop(),
    )
    for seed in range(25):
        draw = random.Random(seed)
        solutions = [random_solutions(draw, draw.choice([1, 2, 5, 30])) for _ in range(5)]
        chunks = [f"c{i}" for i in range(5)]
        frame = pd.DataFrame(
            [row for chunk, own in zip(chunks, solutions, strict=True) for row in rows_of(own, chunk, kind)]
        )
        found = importance_of_cot(frame, chunks, n_bootstrap=0, seed=0, metrics=[metric])
        for i in range(4):
            expected = published_code(solutions[i], solutions[i + 1], metric)
            value = of(found, chunks[i], metric, convention).value
            assert math.isnan(value) if expected is None else value == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_where_the_next_chunk_has_no_rollouts_ta_does_not_go_on_to_a_later_one():
    draw = random.Random(0)
    frame = pd.DataFrame(
        [row for chunk in ("c0", "c2") for row in rows_of(random_solutions(draw, 20), chunk, "resample")]
    )
    found = importance_of_cot(frame, ["c0", "c1", "c2"], n_bootstrap=0, seed=0)
    assert math.isnan(of(found, "c0", "resampling_importance_kl", "ta").value)


def test_fl_is_bit_for_bit_what_it_was():
    """Values and intervals of the version before conventions had entries, for one random CoT."""
    was = {
        ("c0", "counterfactual_importance_accuracy"): (
            0.34469696969696967,
            0.07935606060606062,
            0.6931818181818182,
            11,
            24,
        ),
        ("c0", "resampling_importance_kl"): (0.1006312279789966, 0.00015548130058939123, 0.43227645407345433, 18, 21),
        ("c0", "counterfactual_importance_kl"): (0.20048031692068985, 0.003055832869449563, 0.7772811312086771, 11, 24),
        ("c1", "forced_importance_kl"): (0.1534464079514366, 0.0, 0.6181168444830707, 21, 21),
        ("c2", "counterfactual_importance_accuracy"): (
            0.09150326797385616,
            -0.24852941176470586,
            0.48366013071895425,
            9,
            17,
        ),
        ("c2", "forced_importance_kl"): (0.0009460740760189532, 0.0009460740760189532, 0.4205792789589109, 2, 21),
        ("c5", "counterfactual_importance_kl"): (
            0.0014993939347291187,
            0.0005807980643238089,
            0.38733960964365743,
            11,
            7,
        ),
    }
    rollouts, chunks = random_cot(5)
    found = importance_of_cot(rollouts, chunks, n_bootstrap=200, seed=3)
    for (chunk, metric), expected in was.items():
        row = of(found, chunk, metric, "fl")
        assert (row.value, row.ci_low, row.ci_high, row.n, row.n_comparator) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (r"\dfrac{1}{2}", r"\frac12"),
        (r"  7 ", "7"),
        (r"50\%", "50"),
        ("1{,}000", "1000"),
        ("2,5", "2.5"),
        (r"\text{May}", "may"),
        (r"3\pi", "3pi"),
        (r"2\times3", "2*3"),
        (r"October\ 30", "october30"),
        (r"\frac{11}{2}", r"\frac{1}{12}"),
    ],
)
def test_the_published_normalisation_makes_these_one_answer(one, other):
    assert written_answer(one) == written_answer(other)


@pytest.mark.parametrize(("one", "other"), [("1/2", r"\frac{1}{2}"), ("0.5", "1/2"), ("1000", "1,000"), ("7", "7.0")])
def test_and_leaves_these_two_apart_which_are_equal(one, other):
    assert written_answer(one) != written_answer(other)


def test_nothing_left_of_an_answer_is_no_answer():
    assert written_answer("  ") is written_answer("{,}") is None


def test_clusters_count_as_answers_where_there_are_no_answers_as_written():
    frame = pd.DataFrame(rows_of(random_solutions(random.Random(1), 30), "c0", "resample") * 2)
    frame = frame.assign(chunk_id=["c0"] * 30 + ["c1"] * 30)
    clusters = importance_of_cot(frame.drop(columns="answer"), ["c0", "c1"], n_bootstrap=0, seed=0)
    assert (
        of(clusters, "c0", "counterfactual_importance_kl", "ta").n
        > of(
            importance_of_cot(frame.assign(answer="{,}"), ["c0", "c1"], n_bootstrap=0, seed=0),
            "c0",
            "counterfactual_importance_kl",
            "ta",
        ).n
        == 0
    )


# One entry a convention


def test_every_convention_says_all_of_itself():
    for convention in CONVENTIONS.values():
        assert convention.outcomes in OUTCOMES and convention.smoothing > 0 and convention.label
    for metric in METRICS.values():
        for name in conventions_of(metric.name) if metric.compares else ():
            sides = sides_of(metric.name, name)
            assert {sides.p, *sides.q} <= set(GROUPS)


def test_words_are_there_for_every_stored_metric_and_differ_where_what_is_computed_does():
    for metric in METRICS:
        own = {name: definition(metric, name) for name in conventions_of(metric)}
        assert all(own.values())
        is_ours = METRICS[metric].by_permutation  # nobody published it
        assert definition(metric, PUBLISHED) == "" if is_ours else definition(metric, PUBLISHED).startswith("as publ")
    for metric in ("counterfactual_importance_jsd", "resampling_importance_kl"):
        own = conventions_of(metric)
        assert len({definition(metric, name) for name in own}) == len(own) > 1
    assert {*conventions_of("counterfactual_importance_jsd"), *conventions_of("resampling_importance_kl")} == {
        *CONVENTIONS
    }
    assert definition("resampling_importance_kl", "jsd") == definition("resampling_importance_jsd", "jsd_numbers") == ""
    assert definition("counterfactual_importance_accuracy", "ta") == definition(
        "counterfactual_importance_accuracy", "paper"
    )
    assert (*CONVENTIONS, PUBLISHED) == tables.CONVENTIONS, "the schema names every one"
    assert definition("no such metric", "ta") == definition("resampling_importance_kl", "no such convention") == ""


def test_words_name_direction_and_comparator():
    said = {name: definition("resampling_importance_kl", name) for name in CONVENTIONS}
    assert said["ta"].startswith("KL( all rollouts at i ‖ rollouts at i+1 ), nats")
    assert (
        said["fl"].startswith("KL( rollouts at i+1 ‖ all rollouts at i ), nats")
        and "correct and wrong; 1 added" in said["fl"]
    )
    assert (
        said["paper"].startswith("KL( rollouts at i+1 ‖ all rollouts at i ), nats") and "1e-09 added" in said["paper"]
    )
    assert definition("counterfactual_importance_kl", "ta").startswith(
        "KL( dissimilar rollouts at i ‖ rollouts at i+1 with the similar ones at i )"
    )
    forced = definition("forced_importance_accuracy", ALL)
    assert forced == "accuracy of answers forced right after i − accuracy of answers forced right before i"


def test_what_was_published_stands_only_beside_its_like():
    assert like(PUBLISHED) == "ta"
    beside = [name for name in (*CONVENTIONS, ALL, PUBLISHED) if comparable(PUBLISHED, name)]
    assert beside == ["ta", ALL, PUBLISHED]
    assert all(comparable(one, other) for one in CONVENTIONS for other in CONVENTIONS)


# What was published


def labelled():
    folder = shared_folder("thought_anchors")
    for path in sorted(folder.glob("*/*/*/chunks_labeled.json")):
        by_index = {chunk["chunk_idx"]: chunk for chunk in json.loads(path.read_text())}
        yield from ((chunk, by_index[i + 1]) for i, chunk in by_index.items() if i + 1 in by_index)


def test_published_accuracies_differ_as_ours_are_said_to():
    differences = [
        chunk["resampling_importance_accuracy"] - (following["accuracy"] - chunk["accuracy"])
        for chunk, following in labelled()
    ]
    assert len(differences) > 1900 and np.abs(differences).max() < 1e-12


def test_the_published_counterfactual_accuracy_is_against_the_next_chunk_alone():
    """With 100 answered rollouts, 100 × the fraction are dissimilar, and their accuracy is the published difference +
    that at i+1: as many are correct as that is, a whole number. Pooled with the similar ones, it would not be.
    """
    whole = []
    for chunk, following in labelled():
        n, right = 100 * chunk["different_trajectories_fraction"], 100 * following["accuracy"]
        if n > 0.5 and abs(n - round(n)) < 1e-9 and abs(right - round(right)) < 1e-9:
            correct = (chunk["counterfactual_importance_accuracy"] + following["accuracy"]) * n
            whole.append(abs(correct - round(correct)) < 1e-6)
    assert len(whole) > 900 and np.mean(whole) > 0.95


def test_the_published_resampling_kl_runs_from_i_to_the_next_chunk():
    """Merging outcomes lowers a KL, so it is never below that of correct against wrong in its own direction; in the
    other it often is.
    """

    def binary(p, q):
        sides = [[(100 * share + EPSILON) / 100 for share in (side, 1 - side)] for side in (p, q)]
        return sum(a * math.log(a / b) for a, b in zip(*sides, strict=True))

    pairs = [
        (chunk["resampling_importance_kl"], chunk["accuracy"], following["accuracy"]) for chunk, following in labelled()
    ]
    as_ta, as_paper = (sum(kl < binary(*pair[::step]) - 0.02 for kl, *pair in pairs) for step in (1, -1))
    assert as_ta < 0.005 * len(pairs) < 0.04 * len(pairs) < as_paper


def test_a_table_without_answers_still_has_every_row():
    assert len(importance_of_cot(table([]), ["c0"], n_bootstrap=0, seed=0)) == N_ROWS
