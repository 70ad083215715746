"""The live worker on a device: every kind of request, the model loaded as the worker loads it."""

from dataclasses import replace

import numpy as np
import pytest

from backend.cot.answers import Judge
from backend.live import codes as live_codes
from backend.live.requests import Codes, Compared, Continue, Curve, Dose, Model, Open, Resample, Sampling, Stream
from backend.live.service import merge
from backend.live.worker import _Desk
from tests.backend.importance.test_resilience import encode
from tests.backend.live.test_jobs import TEXT, push, unit
from tests.backend.live.test_worker import Sent
from tests.backend.test_models_on_a_device import dictionary_of_one
from tests.checking_device import DEVICE, checking

SAMPLING = Sampling(temperature=1.0, max_new_tokens=3)
BEFORE = Compared(TEXT, "b", "before", push(2.0))
REQUESTS = {
    "open": Open(TEXT, "b", (0, 2)),
    "curve": Curve(TEXT, "b", push(1.0, "chunk"), (-1.0, 0.0, 1.0), (unit(9),)),
    "stream": Stream(BEFORE, SAMPLING, 1),
    "continue": Continue(BEFORE, SAMPLING, 5, n=2, controls=(unit(2),)),
    "dose": Dose(Compared(TEXT, "b", "after", push(1.0, "chunk")), SAMPLING, 2, (0.0, 3.0), n=1),
    "codes": Codes("a study", "a dictionary", 2, "Let me think."),
    "resample": Resample(TEXT, "a", "counterfactual_accuracy", "all", 0.01, SAMPLING, 3, "42", batch=2, most=2),
}


@pytest.fixture(scope="module")
def desks():
    """The worker's desk, the same for all requests; the sentences' encoder is not what is looked at."""
    desk = _Desk(Sent())
    desk.encoder = lambda name: type("Encoder", (), {"encode": staticmethod(encode)})
    with Judge() as judge:
        desk._judge = judge
        yield desk


def result_of(desk, model, request) -> dict:
    result: dict = {}
    for kind, payload in desk.job("ticket", model, request):
        if kind == "part":
            merge(result, payload)
    return result


def numbers(value) -> list:
    """All that was measured, in order; not how long it took."""
    if isinstance(value, dict):
        timed = ("seconds", "tokens_per_second", "model_id")
        return [one for name, inner in value.items() if name not in timed for one in numbers(inner)]
    if isinstance(value, np.ndarray | list | tuple):
        return [one for inner in value for one in numbers(inner)]
    return [value]


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
def test_the_worker_answers_with_the_cpus_numbers(desks, request_, tiny_folder, monkeypatch):
    monkeypatch.setattr(live_codes, "_dictionary", lambda *_: dictionary_of_one())
    model = Model(str(tiny_folder("llama")))
    with checking():
        found = numbers(result_of(desks, replace(model, device=DEVICE), request_))
    expected = numbers(result_of(desks, model, request_))
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one == (
            pytest.approx(other, rel=1e-3, abs=1e-4, nan_ok=True) if isinstance(other, float | np.floating) else other
        )
