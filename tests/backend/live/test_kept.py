"""What is kept of a run holds everything that shaped it, and comes back equal."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from backend.cot.answers import Judge
from backend.errors import AnchorscopeError
from backend.live.jobs import Reader, run
from backend.live.kept import About, keeper, record_of, restored
from backend.live.requests import Compared, Continue, Curve, Dose, Open, Sampling, Stream, experiment_id
from backend.live.service import Status, merge
from backend.models.interventions import Gate
from backend.store.experiments import Experiments
from tests import small_study
from tests.backend.live.test_jobs import TEXT, push, unit

ABOUT = About(
    "m1", "tiny", "add +2 RMS of something", "random", {"seed": 1}, "c1", "c1_0001", "tiny", view={"beta": "2"}
)


@pytest.fixture(scope="module")
def reader(tiny):
    return Reader(tiny("llama"))


def ended(reader, request, state: str = "finished", *, steps: int | None = None) -> Status:
    result: dict = {}
    with Judge() as judge:
        for number, (kind, payload) in enumerate(run(reader, request, lambda: judge)):
            if kind == "part":
                merge(result, payload)
            if steps is not None and number == steps:
                break
    return Status("x", state, None, result, None, None, None, 1.5)


def test_a_stream_is_kept_with_all_that_shaped_it(reader, tmp_path):
    study = small_study.make(tmp_path / "small")
    request = Stream(Compared(TEXT, "b", "before", push(2.0)), Sampling(max_new_tokens=6), 7)
    keeper(study, ABOUT, request)(ended(reader, request))
    row = Experiments(study).get(experiment_id("m1", request))
    assert (row["kind"], row["state"], row["seed"], row["beta"]) == ("stream", "finished", 7, 2.0)
    assert (row["unit"], row["place"], row["operation"]) == ("rms", "onward", "add")
    assert (row["layers"], row["direction_kind"], row["cot_id"], row["sentence"]) == (
        [1],
        "random",
        "c1",
        ABOUT.sentence,
    )
    assert np.array_equal(row["vector"], unit(1)) and (row["prompt"], row["text"]) == (TEXT.prompt, TEXT.text)
    parameters = json.loads(row["parameters"])
    assert parameters["sampling"] == {"temperature": 0.6, "top_p": 0.95, "max_new_tokens": 6} and parameters[
        "view"
    ] == {"beta": "2"}
    assert "torch" in json.loads(row["versions"])
    again = record_of(ABOUT, request, ended(reader, request)).results
    assert restored(row)["arms"]["changed"]["tokens"] == again["arms"]["changed"]["tokens"]


def test_many_continuations_are_kept_as_samples_and_as_what_follows_from_them(reader):
    stored = pd.DataFrame({"answer": ["42", "41", None], "is_correct": [True, False, None]})
    about = About("m1", "tiny", "s", "random", {}, "c1", "c1_0001", "tiny", stored)
    sampling = Sampling(temperature=1.0, max_new_tokens=8)
    compared = Compared(TEXT, "b", "before", push(6.0))
    request = Continue(compared, sampling, 3, n=4, truth="42", controls=(unit(2),), answers=("42", "41"))
    record = record_of(about, request, ended(reader, request))
    assert [row["arm"] for row in record.samples] == ["base"] * 4 + ["changed"] * 4 + ["random"] * 4
    assert set(record.results) == {"arms", "comparisons", "importance"}
    assert record.results["arms"]["base"]["n"] == 4 and {row["arm"] for row in record.results["comparisons"]} == {
        "changed",
        "random",
    }
    assert json.loads(record.experiment["results"]) == json.loads(json.dumps(record.results))


def test_a_dose_is_kept_by_beta(reader):
    compared = Compared(TEXT, "b", "after", push(1.0, "chunk"))
    request = Dose(compared, Sampling(temperature=1.0, max_new_tokens=8), 3, (-4.0, -2.0, 0.0, 2.0), n=3)
    record = record_of(ABOUT, request, ended(reader, request))
    assert [row["beta"] for row in record.results["rows"]] == [-4.0, -2.0, 0.0, 2.0] and record.results["rows"][2][
        "kl"
    ] == 0
    assert record.experiment["beta"] is None
    steps = record.results["steps"]
    assert list(steps) == ["kl", "accuracy", "thinking", "length", "degenerate_share"]
    assert steps["length"]["step"] is None and "0 β have them" in steps["length"]["reason"]  # three of each


def test_a_curve_is_kept_with_its_controls(reader):
    request = Curve(TEXT, "b", push(0.0, "chunk"), (-1.0, 0.0, 1.0), (unit(3),))
    record = record_of(ABOUT, request, ended(reader, request))
    assert record.results["kl"][1] == 0 and len(record.results["controls"]) == 1


def test_a_change_of_wording_is_kept_without_a_vector(reader):
    request = Stream(Compared(TEXT, "b", "after", None, ""), Sampling(max_new_tokens=4), 1)
    row = record_of(About("m1", "tiny", "chunk 2: delete it", None, {}), request, ended(reader, request)).experiment
    assert (row["vector"], row["layers"], row["beta"], row["operation"], row["direction"]) == (None,) * 5
    assert json.loads(row["parameters"])["wording"] == ""


def test_what_was_stopped_is_kept_as_stopped_and_what_gave_nothing_is_not_kept(reader):
    request = Stream(Compared(TEXT, "b", "before", push(2.0)), Sampling(max_new_tokens=20), 7)
    assert record_of(ABOUT, request, ended(reader, request, "stopped", steps=5)).experiment["state"] == "stopped"
    assert record_of(ABOUT, request, Status("x", "stopped", None, {}, None, None, None, None)) is None
    assert record_of(ABOUT, request, Status("x", "failed", None, {"arms": {}}, None, None, "why", None)) is None
    assert record_of(ABOUT, Open(TEXT, "b"), ended(reader, Open(TEXT, "b"))) is None


def test_a_stream_in_which_both_arms_end_at_once_is_a_result(reader):
    request = Stream(Compared(TEXT, "b", "before", push(2.0)), Sampling(max_new_tokens=6), 7)
    arms = {arm: {"tokens": [], "finish": "eos"} for arm in ("base", "changed")}
    record = record_of(
        ABOUT, request, Status("x", "finished", None, {"arms": arms, "first_divergence": None}, None, None, None, 0.1)
    )
    assert record.results["arms"] == arms
    stopped = {"arms": {arm: {"tokens": [], "finish": None} for arm in arms}, "first_divergence": None}
    assert record_of(ABOUT, request, Status("x", "stopped", None, stopped, None, None, None, 0.1)) is None


def test_a_condition_is_kept_of_a_curve_as_of_a_stream():
    gated = replace(push(2.0), gate=Gate(unit(5), 0.5, "it leans to something"))
    result = {"betas": [0.0, 1.0], "kl": [0.0, 0.1], "controls": []}
    kept = record_of(
        ABOUT, Curve(TEXT, "b", gated, (0.0, 1.0)), Status("x", "finished", None, result, None, None, None, 0.1)
    )
    assert json.loads(kept.experiment["parameters"])["gate"] == {"name": "it leans to something", "threshold": 0.5}


@pytest.mark.parametrize("results", ["[]", "null", "{", None])
def test_results_that_are_no_record_are_refused_in_words(results):
    with pytest.raises(AnchorscopeError, match="experiment x1 cannot be read"):
        restored({"experiment_id": "x1", "results": results})
