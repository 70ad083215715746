"""The live service: nobody's request is lost or touched by another's, and a worker that misbehaves is replaced."""

import os
import signal
import subprocess
import threading
import time

import numpy as np
import pytest

from backend.errors import AnchorscopeError
from backend.live import service as live
from backend.live.requests import (
    Chunk,
    Compared,
    Continue,
    Curve,
    Model,
    Open,
    RequestError,
    Sampling,
    Stream,
    Text,
    experiment_id,
)
from backend.live.service import Limits, LineFull, LiveService, merge
from backend.models.interventions import Intervention

COT = "Let me think step by step. First, we need to add 12 and 30. Wait, that is 42. So the answer is 42."
TEXT = Text(
    "What is 12 + 30? ", COT, (Chunk("a", 0, 26), Chunk("b", 26, 59), Chunk("c", 59, 77), Chunk("d", 77, len(COT)))
)
LONG = Sampling(temperature=1.0, top_p=1.0, max_new_tokens=1500)


def push(seed: int, *, layer: int = 1, beta: float = 6.0, place: str = "onward") -> Intervention:
    vector = np.random.default_rng(seed).standard_normal(64)
    return Intervention((layer,), place, "add", (vector / np.linalg.norm(vector)).astype(np.float32), beta)


def streamed(seed: int, *, sampling: Sampling | None = None, beta: float = 6.0) -> Stream:
    return Stream(Compared(TEXT, "b", "before", push(seed, beta=beta)), sampling or Sampling(max_new_tokens=12), seed)


@pytest.fixture(scope="module")
def model(tiny_folder) -> Model:
    return Model(str(tiny_folder("llama")))


@pytest.fixture(scope="module")
def service(model):
    made = LiveService(Limits(active=3, waiting=40, threads=1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live, "subprocess", subprocess)  # started as it is for people: see tests/had_once.py
        made.submit("first", model, Open(TEXT, "b"))
        assert made.wait("first", 120).state == "finished"
    yield made
    made.close()


def tokens(status, arm="changed"):
    return [(token["id"], token["kl"]) for token in status.result["arms"][arm]["tokens"]]


def wait_for_tokens(service, name):
    while not service.status(name).result.get("arms", {}).get("base", {}).get("tokens"):
        time.sleep(0.01)


def wait_until_running(service, name):
    while service.status(name).state == "waiting":
        time.sleep(0.005)


def test_twenty_requests_at_once_are_all_answered_and_told_their_place(service, model):
    before = [f"before the crowd {k}" for k in range(service.limits.active)]
    for k, name in enumerate(before):  # nobody leaves the line while the crowd joins it
        service.submit(name, model, streamed(k, sampling=LONG))
    for name in before:
        wait_until_running(service, name)
    names = [f"crowd {k}" for k in range(20)]
    first = [service.submit(name, model, streamed(k)) for k, name in enumerate(names)]
    assert [status.place for status in first] == list(range(1, 21))
    for name in before:
        service.cancel(name)
    ended = [service.wait(name, 120) for name in names]
    assert {status.state for status in ended} == {"finished"}
    assert len({str(tokens(status)) for status in ended}) == 20


def test_requests_that_take_turns_give_what_each_gives_alone(service, model):
    alone = {k: tokens(service.wait(service.submit(f"alone {k}", model, streamed(k)).ticket_id, 60)) for k in range(6)}
    names = [service.submit(f"together {k}", model, streamed(k)).ticket_id for k in alone]
    assert {k: tokens(service.wait(name, 60)) for k, name in enumerate(names)} == alone


def test_a_known_request_is_not_done_again(service, model):
    service.submit("once", model, streamed(3))
    done = service.wait("once", 60)
    assert service.submit("once", model, streamed(3)) == done


def test_cancelling_stops_and_keeps_what_there_is(service, model):
    service.submit("long", model, streamed(1, sampling=LONG))
    wait_for_tokens(service, "long")
    service.cancel("long")
    status = service.wait("long", 60)
    assert status.state == "stopped"
    n = len(tokens(status))
    assert 0 < n < 1500
    service.submit("after", model, streamed(2))
    assert service.wait("after", 2 + 20).state == "finished"
    assert len(tokens(service.status("long"))) == n  # nothing more came


def test_a_request_in_the_line_can_be_cancelled_and_a_full_line_says_so(service, model):
    small = LiveService(Limits(active=1, waiting=2, threads=1))
    try:
        for k in range(3):
            small.submit(f"{k}", model, streamed(k, sampling=LONG))
            wait_until_running(small, "0")  # the first leaves the line
        with pytest.raises(LineFull, match="2 requests are waiting"):
            small.submit("one too many", model, streamed(9))
        small.cancel("1")
        assert small.status("1").state == "stopped" and small.status("2").place == 1
    finally:
        small.close()


def test_a_worker_that_dies_or_hangs_is_replaced_and_the_line_goes_on(model):
    ended = []
    small = LiveService(Limits(active=1, silence=3.0, threads=1))
    try:
        small.submit("victim", model, streamed(1, sampling=LONG), on_end=ended.append)
        small.submit("next", model, streamed(2))
        wait_for_tokens(small, "victim")
        os.kill(small._worker.pid, signal.SIGSTOP)  # hangs
        assert small.wait("next", 120).state == "finished"
        victim = small.status("victim")
        assert (
            victim.state == "failed"
            and "said nothing for 3 s" in victim.error
            and victim.result["arms"]["base"]["tokens"]
        )
        assert [status.ticket_id for status in ended] == ["victim"]
        small.submit("again", model, streamed(3, sampling=LONG))
        wait_for_tokens(small, "again")
        os.kill(small._worker.pid, signal.SIGKILL)  # dies
        assert "ended unexpectedly" in small.wait("again", 60).error
        small.submit("at last", model, streamed(4))
        assert small.wait("at last", 120).state == "finished" and small.restarts == 2
    finally:
        small.close()


def test_a_worker_that_takes_too_much_memory_is_replaced_with_a_reason(model):
    small = LiveService(Limits(memory_bytes=64 << 20, threads=1))
    try:
        small.submit("big", model, streamed(1, sampling=LONG))
        assert "GiB of memory" in small.wait("big", 120).error
    finally:
        small.close()


def test_a_deadline_stops_a_request_and_says_so(model):
    small = LiveService(Limits(seconds=0.5, threads=1))
    try:
        small.submit("warm", model, Open(TEXT, "b"))
        small.wait("warm", 60)
        small.submit("slow", model, streamed(1, sampling=LONG))
        status = small.wait("slow", 60)
        assert status.state == "stopped" and "longest that one request may run" in status.error
    finally:
        small.close()


def test_what_cannot_be_done_fails_in_words_and_the_worker_lives_on(service, model):
    workers = service._worker.pid
    bad = {
        "no such chunk": (model, Open(TEXT, "zz"), "no chunk zz"),
        "no such model": (Model("/no/such/folder"), Open(TEXT, "b"), "/no/such/folder"),
        "no such layer": (model, Stream(Compared(TEXT, "b", "before", push(1, layer=99)), Sampling(), 1), "99"),
        "same wording": (
            model,
            Stream(Compared(TEXT, "b", "after", None, COT[26:59]), Sampling(), 1),
            "nothing is changed",
        ),
        "too long": (model, Open(Text("", "word " * 5000, ()), None), "at most 2,048"),
    }
    for name, (which, request, words) in bad.items():
        service.submit(name, which, request)
        status = service.wait(name, 60)
        assert status.state == "failed" and words in status.error, (name, status.error)
    assert service._worker.pid == workers


def test_a_request_that_makes_no_sense_is_refused_at_birth():
    with pytest.raises(AnchorscopeError, match="nan"):
        push(1, beta=float("nan"))
    with pytest.raises(RequestError, match="number"):
        Curve(TEXT, "b", push(1), (0.0, float("inf")))
    with pytest.raises(RequestError, match="not both"):
        Compared(TEXT, "b", "after", push(1), "other words")
    with pytest.raises(RequestError, match="1 to 256"):
        Continue(Compared(TEXT, "b", "after", push(1)), Sampling(), 1, n=0)
    with pytest.raises(RequestError, match="new tokens"):
        Sampling(max_new_tokens=10**6)


def test_the_id_of_a_request_holds_all_that_shapes_it():
    same = experiment_id("m", streamed(1))
    assert same == experiment_id("m", streamed(1))
    other = [
        experiment_id("n", streamed(1)),
        experiment_id("m", streamed(2)),
        experiment_id("m", streamed(1, beta=7.0)),
        experiment_id("m", streamed(1, sampling=Sampling(max_new_tokens=13))),
    ]
    assert len({same, *other}) == 5


def test_parts_merge_by_entering_dicts_and_growing_lists():
    result: dict = {}
    merge(result, {"a": {"t": [1]}, "n": 1})
    merge(result, {"a": {"t": [2], "f": "eos"}, "n": 2})
    assert result == {"a": {"t": [1, 2], "f": "eos"}, "n": 2}


def test_many_threads_may_ask_at_once(service, model):
    found = {}

    def ask(k):
        found[k] = service.wait(service.submit(f"thread {k}", model, streamed(k)).ticket_id, 60).state

    threads = [threading.Thread(target=ask, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(found.values()) == {"finished"} and len(found) == 8


def test_what_a_stopped_attempt_still_sends_is_not_taken_for_the_next_ones(service, model):
    service.submit("twice", model, streamed(1, sampling=LONG))
    wait_for_tokens(service, "twice")
    before = service._tickets["twice"].name
    service.cancel("twice")
    service.submit("twice", model, streamed(1))
    wait_until_running(service, "twice")
    with service._lock:
        assert service._take(("done", before, None)) is None
        service._take(("part", before, {"arms": {"base": {"tokens": [{"id": -1, "kl": 0.0}]}}}))
    assert service.wait("twice", 60).state == "finished"
    alone = service.wait(service.submit("twice alone", model, streamed(1)).ticket_id, 60)
    assert tokens(service.status("twice"), "base") == tokens(alone, "base")


def test_a_worker_that_leaves_its_pipe_unread_keeps_nobody_from_asking(model):
    small = LiveService(Limits(silence=3.0, threads=1))
    try:
        small.submit("first", model, Open(TEXT, "b"))
        assert small.wait("first", 120).state == "finished"
        os.kill(small._worker.pid, signal.SIGSTOP)
        for k in range(4):  # more than a pipe holds
            small.submit(f"large {k}", model, Open(Text(f"{k}", "x" * 190_000, ()), None))
        assert small.status("first").state == "finished"
        assert not small.status("large 0").ended  # answered while the worker was silent, not after its end
        for k in range(4):
            small.wait(f"large {k}", 60)
        assert small.restarts == 1
        assert all("said nothing for 3 s" in small.status(f"large {k}").error for k in range(4))
    finally:
        small.close()


def test_a_run_that_cannot_be_kept_says_so_and_the_line_goes_on(service, model, capfd):
    def refuse(status):
        raise KeyError("no such column")

    service.submit("not kept", model, streamed(1), on_end=refuse)
    service.submit("the next", model, streamed(2))
    assert (
        service.wait("the next", 60).state == service.wait("not kept", 60).state == "finished"
    )  # they take turns: either may end first
    until = time.monotonic() + 60
    while not (status := service.status("not kept")).error and time.monotonic() < until:
        time.sleep(0.02)  # it is told after its end
    assert status.state == "finished" and "could not be kept" in status.error and "no such column" in status.error
    assert service.submit("and after", model, streamed(3)) and service.wait("and after", 60).state == "finished"
