"""Runs are kept in the study they were asked for, and one that was stopped can be done again."""

from contextlib import closing
from dataclasses import replace

import pytest

from app.shared import live
from backend.live.available import Choice
from backend.live.kept import About
from backend.live.requests import Chunk, Compared, Model, Open, Resample, Sampling, Stream, Text, experiment_id
from backend.live.service import Status
from backend.store.experiments import Experiments
from backend.store.store import Store
from tests import small_study
from tests.backend.live.test_jobs import push

CHOICE = Choice(Model("tiny"), "m1")
ABOUT = About("m1", "tiny", "add something", "random", {"seed": 1})
REQUEST = Stream(
    Compared(Text("p ", "Let me think.", (Chunk("a", 0, 13),)), "a", "before", push(2.0)), Sampling(max_new_tokens=6), 7
)
RUN = experiment_id("m1", REQUEST)


class Service:
    """A service whose one ticket is as the test says."""

    def __init__(self):
        self.known, self.asked = None, []

    def status(self, _ticket_id):
        return self.known

    def submit(self, ticket_id, _model, _request, *, on_end):
        self.asked.append((ticket_id, on_end))
        self.known = Status(ticket_id, "waiting", 1, {}, None, None, None, None)
        return self.known

    def end(self, state, error=None):
        token = {"id": 1, "text": "a", "kl": 0.0, "top": []}
        arms = {
            arm: {"tokens": [token], "finish": "cap" if state == "finished" else None} for arm in ("base", "changed")
        }
        self.known = Status(RUN, state, None, {"arms": arms, "first_divergence": None}, None, None, error, 0.1)

    def keep(self):
        self.asked[-1][1](self.known)


@pytest.fixture
def service(monkeypatch):
    made = Service()
    monkeypatch.setattr(live, "service", lambda: made)
    monkeypatch.setattr(live.st, "session_state", {})
    return made


def test_a_stopped_run_is_done_again_for_whoever_presses_again_and_shown_to_others(service, tmp_path):
    study = small_study.make(tmp_path / "small")
    live.start(study, CHOICE, ABOUT, REQUEST, again=True)
    service.end("stopped")
    service.keep()
    assert Experiments(study).get(RUN)["state"] == "stopped"
    live.start(study, CHOICE, ABOUT, REQUEST)
    assert len(service.asked) == 1
    live.start(study, CHOICE, ABOUT, REQUEST, again=True)
    assert len(service.asked) == 2
    service.end("finished")
    service.keep()
    assert Experiments(study).get(RUN)["state"] == "finished"
    live.start(study, CHOICE, ABOUT, REQUEST, again=True)
    assert len(service.asked) == 2


def test_a_run_that_was_done_for_another_study_is_kept_in_this_one_too(service, tmp_path):
    one, other = (small_study.make(tmp_path / place / "small") for place in ("one", "other"))
    live.start(one, CHOICE, ABOUT, REQUEST, again=True)
    service.end("finished")
    service.keep()
    live.start(other, CHOICE, ABOUT, REQUEST, again=True)
    assert len(service.asked) == 1 and Experiments(other).get(RUN)["state"] == "finished"


@pytest.mark.parametrize("state", ["finished", "stopped"])
def test_a_run_is_shown_as_soon_as_it_ended_and_looked_at_again_once_it_is_kept(service, tmp_path, state):
    study = small_study.make(tmp_path / "small")
    live.start(study, CHOICE, ABOUT, REQUEST, again=True)
    assert live.find(study, RUN).is_running
    service.end(state)
    found = live.find(study, RUN)
    assert found.results["arms"]["changed"]["tokens"] and found.being_kept and not found.is_running
    service.keep()
    assert live.find(study, RUN).status is None and not live.find(study, RUN).being_kept
    service.end(state, error="The run could not be kept: no space is left.")
    Experiments(study).delete(RUN)
    assert not live.find(study, RUN).being_kept and live.find(study, RUN).results


def test_what_a_stream_had_said_before_it_failed_is_shown_and_not_kept(service, tmp_path):
    study = small_study.make(tmp_path / "small")
    live.start(study, CHOICE, ABOUT, REQUEST, again=True)
    service.end("failed")
    service.keep()
    assert Experiments(study).get(RUN) is None and live.find(study, RUN).results["arms"]["base"]["tokens"]


def test_a_reading_that_failed_is_tried_again_where_somebody_asks_for_it(service):
    request = Open(REQUEST.compared.text, "a")
    live.read(CHOICE, request)
    service.known = Status(RUN, "failed", None, {}, None, None, "The worker ended unexpectedly", 1.0)
    assert live.read(CHOICE, request).state == "failed"
    assert live.read(CHOICE, request, again=True).state == "waiting"


def test_rollouts_that_are_drawn_are_kept_in_the_study_they_were_asked_for(service, tmp_path):
    study = small_study.make(tmp_path / "small")
    with closing(Store(study)) as store:
        chunk = store.frame("SELECT min(chunk_id) AS c FROM chunks")["c"].item()
    request = Resample(REQUEST.compared.text, chunk, "counterfactual_accuracy", "all", 0.1, Sampling(), 1, None)
    live.add_rollouts(study, CHOICE, request)
    sample = {"chunk_id": chunk, "sample": 6, "seed": 4, "text": "Other.", "finish": "eos", "n_tokens": 2}
    sample |= {"resampled_chunk": "Other.", "similarity": 0.1, "answer": "7", "is_correct": False, "grader": "g"}
    service.known = replace(service.known, state="finished", result={"samples": [sample], "stopped": "most"})
    service.keep()
    with closing(Store(study)) as store:
        rows = store.rollouts_at(chunk).set_index("sample")
        assert store.added_at(chunk)["added_id"].tolist() == [service.asked[0][0]] == [rows.loc[6, "added_id"]]
    assert rows.loc[6, "answer"] == "7" and rows["added_id"].notna().sum() == 1
