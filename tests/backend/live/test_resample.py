"""Rollouts asked for one chunk: they are the study's own, pooled with the stored ones, and sampling stops where the
rule says.
"""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from backend.cot.answers import cluster_answers
from backend.errors import AnchorscopeError
from backend.importance.metrics import importance_of_cot
from backend.importance.similarity import with_numbers
from backend.live.available import Choice
from backend.live.jobs import Reader
from backend.live.requests import Chunk, Model, RequestError, Resample, Sampling, Stored, Text, experiment_id
from backend.live.resample import followed, resample, resample_request, resampled, writer
from backend.live.service import merge
from backend.live.worker import _Desk
from backend.statistics.intervals import wilson
from backend.store.store import Store
from tests import steerable_study
from tests.backend.importance.test_resilience import encode
from tests.backend.live.test_worker import Sent

COT = "Count the crates of apples first. Then the answer follows. The answer is 7."
TEXT = Text("How many? ", COT, (Chunk("a", 0, 33), Chunk("b", 33, 58), Chunk("c", 58, len(COT))))
OTHER = "Something else entirely is said."


class Equal:
    """A judge to whom answers are equal where they are the same."""

    def judge(self, pairs):
        return [None if answer is None or truth is None else answer == truth for answer, truth in pairs]


def asked(metric="counterfactual_accuracy", convention="all", **words) -> Resample:
    usual = {"half_width": 0.2, "sampling": Sampling(), "seed": 3, "truth": "7", "batch": 5}
    return Resample(TEXT, "a", metric, convention, **(usual | words))


def scripted(script, written=None):
    """Rollout number k of a chunk is `script(chunk, k)`: its text."""

    def write(chunk, numbers):
        rows = []
        for number in numbers:
            rows.append(
                {"sample": number, "seed": number, "text": script(chunk, number), "finish": "eos", "n_tokens": 5}
            )
            if written is not None:
                written.append((chunk, number))
            yield "progress", (len(rows), len(numbers))
        return rows

    return write


def result_of(steps) -> dict:
    result: dict = {}
    for kind, payload in steps:
        if kind == "part":
            merge(result, payload)
    return result


def by_turns(chunk, number):
    return f"{OTHER} The answer is {7 if number % 2 else 8}."


def stored(n, chunk="a", answer="7", **words):
    row = {"text": OTHER, "resampled_chunk": OTHER, "similarity": 0.1, "is_correct": answer == "7", "finish": "eos"}
    return (Stored(chunk, answer=answer, **(row | words)),) * n


# The rule


def test_it_stops_at_the_first_look_whose_interval_is_narrow_enough():
    found = result_of(followed(asked(half_width=0.2), scripted(by_turns), Equal, encode))
    widths = [look["half_width"] for look in found["looks"]]
    assert (
        found["stopped"] == "narrow"
        and widths[0] is None
        and all(width > 0.2 for width in widths[1:-1])
        and widths[-1] <= 0.2
    )
    assert [look["n_new"] for look in found["looks"]] == list(range(0, len(found["samples"]) + 1, 5))
    last, right = found["looks"][-1], sum(row["is_correct"] for row in found["samples"])
    assert (last["low"], last["high"]) == wilson(right, last["n"]) and last["value"] == right / last["n"]


def test_it_stops_at_the_maximum_and_its_last_batch_is_smaller():
    found = result_of(followed(asked(half_width=0.01, most=12), scripted(by_turns), Equal, encode))
    assert found["stopped"] == "most" and [look["n_new"] for look in found["looks"]] == [0, 5, 10, 12]


def test_what_is_stored_may_be_enough_and_then_nothing_is_written():
    written = []
    request = asked(half_width=0.3, stored=stored(12) + stored(12, answer="8"))
    found = result_of(followed(request, scripted(by_turns, written), Equal, encode))
    assert not written and found["stopped"] == "narrow" and found["samples"] == [] and found["looks"][0]["n"] == 24


@pytest.mark.parametrize(
    ("metric", "convention"),
    [
        ("resampling_importance_accuracy", "all"),
        ("resampling_importance_kl", "ta"),
        ("counterfactual_importance_kl", "ta"),
        ("counterfactual_importance_kl", "fl"),
    ],
)
def test_rollouts_that_all_agree_are_no_certainty_and_it_goes_on_to_the_most(metric, convention):
    """The bootstrap interval of two groups that agree has no width, whatever their size: stored ones alone would end it
    before anything is drawn.
    """
    request = asked(metric, convention, half_width=0.5, most=10, stored=stored(30) + stored(30, "b"))
    found = result_of(followed(request, scripted(lambda *_: "The answer is 7."), Equal, encode))
    first = found["looks"][0]
    assert first["half_width"] == pytest.approx(0, abs=1e-6) and first["ruling_half_width"] < 0.5
    assert (first["n_rarer"], first["is_degenerate"], first["is_narrow"]) == (0, True, False)
    assert found["stopped"] == "most" and found["looks"][-1]["n_new"] == 10


@pytest.mark.parametrize(("n_other", "ends"), [(4, "most"), (5, "narrow")])
def test_a_few_other_answers_are_needed_before_a_narrow_bootstrap_counts(n_other, ends):
    others = stored(n_other, answer="8") + stored(95 - n_other) + stored(95, "b")
    request = asked("resampling_importance_accuracy", half_width=0.5, most=5, stored=others)
    found = result_of(followed(request, scripted(lambda *_: "The answer is 7."), Equal, encode))
    assert found["stopped"] == ends and found["looks"][0]["n_rarer"] == n_other


def test_a_share_whose_interval_is_wilsons_may_stop_where_all_agree():
    found = result_of(followed(asked(half_width=0.1, stored=stored(40)), scripted(by_turns), Equal, encode))
    assert found["stopped"] == "narrow" and found["samples"] == [] and found["looks"][0]["n_rarer"] is None


def test_the_rule_asks_the_same_however_the_bootstrap_of_a_kl_came_out():
    """Planted pools of two answers: the rarer outcome is counted over both sides, by the convention's own outcomes."""
    pools = stored(3, answer="8") + stored(17) + stored(4, "b", answer="9") + stored(16, "b")
    looks = {
        convention: result_of(
            followed(
                asked("resampling_importance_kl", convention, half_width=9, stored=pools, most=1, batch=1),
                scripted(by_turns),
                Equal,
                encode,
            )
        )["looks"][0]
        for convention in ("ta", "fl")
    }
    assert {name: look["n_rarer"] for name, look in looks.items()} == {"ta": 7, "fl": 7}


@pytest.mark.parametrize("convention", ["jsd", "jsd_numbers"])
def test_a_look_at_a_jsd_is_what_the_study_would_store_of_the_same_rollouts(convention):
    """Those from before an earlier chunk that keep it count, and so do answers that only other CoTs gave."""
    metric, kept = "counterfactual_importance_jsd", "The answer is 7, or 8."
    pools = (
        stored(6, answer="8", n_kept=1, departing_chunk=kept, departing_similarity=0.9)
        + stored(5, answer="8", n_kept=2, departing_chunk=kept, departing_similarity=0.9)
        + stored(3, n_kept=0)
        + stored(6, "b")
        + stored(3, "b", answer="8")
        + stored(4, "b", similarity=0.9, resampled_chunk="Then 2 answers follow.")
        + stored(10, "c")
    )
    request = replace(asked(metric, convention, stored=pools, most=1, batch=1, n_outcomes=5), chunk_id="b")
    look = result_of(followed(request, scripted(by_turns), Equal, encode))["looks"][0]
    chunks = {chunk.chunk_id: COT[chunk.char_start : chunk.char_end] for chunk in TEXT.chunks}
    rows = pd.DataFrame([vars(rollout) for rollout in pools]).assign(kind="resample")
    rows = with_numbers(rows.assign(answer_cluster=rows["answer"]), chunks)
    found = importance_of_cot(rows, list(chunks), n_bootstrap=1, seed=0, n_outcomes=5)
    row = found.set_index(["chunk_id", "metric", "convention"]).loc[("b", metric, convention)]
    assert look["value"] == pytest.approx(row["value"]) and look["p"] == pytest.approx(row["p"])
    dissimilar = {"jsd": 9, "jsd_numbers": 9 + 4 + 6}[convention]
    assert (look["n"], look["n_comparator"]) == (row["n"], row["n_comparator"]) == (dissimilar, 15)
    assert (look["n_all"], look["n_from_earlier"]) == (23, 14)


def test_a_jsd_of_rollouts_that_all_agree_has_a_width_and_may_stop():
    request = asked("resampling_importance_jsd", "jsd", half_width=0.3, stored=stored(40) + stored(40, "b"))
    (look,) = result_of(followed(request, scripted(by_turns), Equal, encode))["looks"]
    assert 0.005 < look["half_width"] <= 0.3 and look["is_narrow"] and look["low"] < 0 < look["high"]


def test_a_person_who_stops_it_keeps_what_there_is():
    steps, result = followed(asked(half_width=0.01), scripted(by_turns), Equal, encode), {}
    while len(result.get("looks", ())) < 3:
        kind, payload = next(steps)
        if kind == "part":
            merge(result, payload)
    steps.close()
    assert len(result["samples"]) == 10 and "stopped" not in result and "less often" in result["note"]


@pytest.mark.parametrize(("share", "half_width"), [(0.05, 0.1), (0.3, 0.1), (0.5, 0.1)])
def test_the_interval_of_a_share_stands_the_rule(share, half_width):
    """The docstring's claim, in few runs: at least 91 of 100 intervals hold the share."""
    draw, held = np.random.default_rng(5), 0
    for _ in range(400):
        right, n = np.cumsum(draw.random(1000) < share), 20
        while (interval := wilson(int(right[n - 1]), n)).high - interval.low > 2 * half_width:
            n += 16
        held += interval.low <= share <= interval.high
    assert held >= 0.91 * 400


# What is pooled


def test_new_rollouts_go_on_where_the_stored_ones_end_on_both_sides():
    written = []
    request = asked("counterfactual_importance_kl", "ta", stored=stored(4) + stored(2, "b") + stored(9, "c"), most=5)
    found = result_of(followed(request, scripted(by_turns, written), Equal, encode))
    assert written == [("a", k) for k in range(4, 9)] + [("b", k) for k in range(2, 7)]
    assert (found["looks"][0]["n"], found["looks"][0]["n_comparator"]) == (4, 2)
    assert (found["looks"][-1]["n"], found["looks"][-1]["n_comparator"]) == (9, 7)
    assert {
        (row["resampled_chunk"], row["similarity"], row["answer"]) for row in found["samples"] if row["chunk_id"] == "b"
    } == {(OTHER, 0.0, "7"), (OTHER, 0.0, "8")}


def test_numbers_go_on_after_the_largest_stored_one_although_some_are_missing():
    written = []
    kept = (replace(stored(1)[0], sample=0), replace(stored(1)[0], sample=7))
    result_of(followed(asked(half_width=0.01, most=2, stored=kept), scripted(by_turns, written), Equal, encode))
    assert written == [("a", 8), ("a", 9)]


def test_equal_answers_are_one_whether_stored_or_new():
    request = asked("resampling_importance_kl", "ta", stored=stored(6, answer="8") + stored(6, "b", answer="8"), most=5)
    found = result_of(followed(request, scripted(lambda *_: "The answer is 8."), Equal, encode))
    assert found["looks"][-1]["value"] == 0 and {row["cluster"] for row in found["samples"]} == {"8"}
    assert cluster_answers(["8"], Equal()) == {"8": "8"}


def test_resilience_looks_for_the_content_in_later_sentences():
    back = f"{OTHER} Count the crates of apples first. The answer is 7."
    request = asked("resilience", most=8, batch=8, half_width=0.01, stored=stored(1, text=back) + stored(1))
    found = result_of(
        followed(request, scripted(lambda _, k: back if k % 2 else f"{OTHER} The answer is 7."), Equal, encode)
    )
    assert found["looks"][0]["value"] == 0.5 and found["looks"][-1]["value"] == 0.5 and found["looks"][-1]["n"] == 10
    assert [row["returns"] for row in found["samples"]] == [False, True] * 4


@pytest.mark.parametrize(
    "words",
    [
        {"metric": "forced_importance_kl", "convention": "ta"},
        {"convention": "ta"},
        {"chunk_id": "z"},
        {"metric": "resampling_importance_accuracy", "chunk_id": "c"},
    ],
)
def test_what_cannot_be_resampled_is_refused(words):
    with pytest.raises(RequestError):
        result_of(followed(replace(asked(), **words), scripted(by_turns), Equal, encode))


@pytest.mark.parametrize(
    "words", [{"half_width": 0}, {"half_width": math.nan}, {"batch": 0}, {"most": 0}, {"most": 257}]
)
def test_contradictions_are_refused_at_birth(words):
    with pytest.raises(RequestError):
        asked(**words)


# From a study, by a model


@pytest.fixture(scope="module")
def reader(tiny):
    return Reader(tiny("llama"))


@pytest.fixture(scope="module")
def study(tiny, tmp_path_factory):
    store = Store(steerable_study.make(tmp_path_factory.mktemp("study") / "s", tiny("llama")))
    yield store
    store.close()


def first_chunk_of(store):
    return store.frame("SELECT chunk_id FROM chunks ORDER BY cot_id, chunk_index LIMIT 1")["chunk_id"].iloc[0]


def test_a_request_has_the_study_s_tokens_rollouts_and_sampling(study):
    chunk = first_chunk_of(study)
    request = resample_request(study, chunk, half_width=0.1)
    assert request.sampling == Sampling(1.0, 1.0, 16) and (request.seed, request.truth, request.convention) == (
        1,
        "42",
        "jsd",
    )
    assert [rollout.chunk_id[-4:] for rollout in request.stored] == ["0000"] * 3 + ["0001"] * 3
    assert [rollout.answer for rollout in request.stored[:3]] == ["41", "42", "42"] and request.stored[
        0
    ].is_correct is False
    assert experiment_id("m", request) != experiment_id("m", replace(request, half_width=0.2))
    assert len(resample_request(study, chunk, metric="resilience", convention="all", half_width=0.1).stored) == 3
    last = request.text.chunks[-1].chunk_id
    for wrong in ({"metric": "forced_importance_kl"}, {"chunk_id": "c_0009"}, {"chunk_id": last}):
        with pytest.raises(AnchorscopeError):
            resample_request(study, **({"chunk_id": chunk, "half_width": 0.1} | wrong))


def test_the_rollouts_are_those_that_the_study_would_have_drawn_next(study, reader):
    from precompute.stages.rollouts import CotTask, Point, Task, draw
    from precompute.study import Sampling as StudySampling

    chunk = first_chunk_of(study)
    request = resample_request(study, chunk, half_width=1e-6, most=3, batch=2)
    found = result_of(resample(reader, request, Equal, encode))
    cot = study.cot_to_read(study.chunk_place(chunk)["cot_id"].iloc[0]).iloc[0]
    points = tuple(
        Point(one.chunk_id, one.char_start, one.char_end, one.token_start, ("resample",))
        for one in request.text.chunks[:2]
    )
    closing = study.frame("SELECT think_close FROM cots WHERE cot_id = $cot", cot=cot["cot_id"])["think_close"].iloc[0]
    own = CotTask(cot["cot_id"], cot["prompt"], cot["text"], closing, tuple(cot["token_ids"]), "", points)
    sampling = StudySampling(temperature=1.0, top_p=1.0, max_new_tokens=16)
    task = Task((own,), {"resample": 6}, sampling, request.seed, 16, "")
    drawn = {one.point.chunk_id: one.rollouts for one in draw(reader.loaded, task, "resample")}
    for name, rollouts in drawn.items():
        live_rows = [row for row in found["samples"] if row["chunk_id"] == name]
        columns = ("sample", "seed", "text", "finish", "n_tokens")
        assert [[row[c] for c in columns] for row in live_rows] == [[row[c] for c in columns] for row in rollouts[3:6]]


def test_the_workers_desk_does_it_and_only_the_writer_may(study, reader, monkeypatch):
    chunk, desk, result = first_chunk_of(study), _Desk(Sent()), {}
    monkeypatch.setattr(desk, "model", lambda *_: reader)
    monkeypatch.setattr(desk, "judge", Equal)
    monkeypatch.setattr(desk, "encoder", lambda _: type("Encoder", (), {"encode": staticmethod(encode)}))
    for kind, payload in desk.job(
        "ticket", Model("tiny"), resample_request(study, chunk, half_width=1e-6, most=4, batch=2)
    ):
        if kind == "part":
            merge(result, payload)
    assert result["stopped"] == "most" and len(result["looks"]) == 3
    here = [Choice(Model("tiny"), reader.loaded.model_id)]
    assert writer(study, chunk, here) is here[0]
    with pytest.raises(AnchorscopeError, match="not on this machine"):
        writer(study, chunk, [])


def test_what_can_be_asked_for_is_what_more_rollouts_make_more_certain():
    from backend.importance.metric_registry import METRICS, conventions_of

    left_out = {name for name in METRICS if name.startswith("forced")} | {"overdeterminedness"}
    assert {*resampled()} == set(METRICS) - left_out
    assert resampled()["counterfactual_importance_jsd"] == conventions_of("counterfactual_importance_jsd")
