"""The worker: one request's failure is its own, and it ends with the service."""

import pytest
import torch

from backend.errors import AnchorscopeError
from backend.live.requests import Model
from backend.live.worker import Job, _Desk, advance


class Sent(list):
    """The worker's end of a pipe."""

    def send(self, message):
        self.append(message)


def raising(error):
    yield "part", {"kl": [1.0]}
    raise error


def out_of_memory():
    yield "part", {"kl": [1.0]}
    torch.empty(1 << 50)


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        (raising(AnchorscopeError("The chunk is empty.")), "^The chunk is empty.$"),
        (raising(KeyError("layer")), "could not be computed.*KeyError.*layer"),
        (raising(RuntimeError("shapes differ")), "could not be computed.*shapes differ"),
        (out_of_memory(), "not enough memory"),
    ],
)
def test_whatever_a_request_raises_is_said_of_it_alone(steps, words, capfd):
    pipe, jobs = Sent(), {"bad": Job(steps, 1.0, 0.0), "other": Job(iter([("part", {})]), 1.0, 0.0)}
    advance("bad", jobs, pipe)
    advance("bad", jobs, pipe)
    assert list(jobs) == ["other"] and [message[:2] for message in pipe] == [("part", "bad"), ("failed", "bad")]
    with pytest.raises(AnchorscopeError, match=words):
        raise AnchorscopeError(pipe[-1][2])
    advance("other", jobs, pipe)
    assert pipe[-1] == ("part", "other", {})


def test_a_service_that_is_gone_is_no_failure_of_the_request():
    jobs = {"bad": Job(raising(BrokenPipeError()), 1.0, 0.0)}
    advance("bad", jobs, Sent())
    with pytest.raises(BrokenPipeError):
        advance("bad", jobs, Sent())


def test_switching_between_two_models_loads_each_once(tiny_folder, monkeypatch):
    from backend.models import loading

    loaded, load = [], loading.load_model
    monkeypatch.setattr(loading, "load_model", lambda name, **how: loaded.append(name) or load(name, **how))
    desk = _Desk(Sent())
    base, distilled, third = (Model(str(tiny_folder(family))) for family in ("llama", "qwen2", "gpt2"))
    first = [desk.model(None, base), desk.model(None, distilled)]
    assert [desk.model(None, model) for model in (base, distilled, base, distilled)] == [*first, *first]
    assert loaded == [base.name, distilled.name]
    desk.model(None, third)
    desk.model(None, distilled)
    assert loaded == [base.name, distilled.name, third.name]  # the base, asked for longest ago, made room


def test_a_model_is_loaded_on_the_device_it_is_asked_on(tiny_folder):
    with pytest.raises(AnchorscopeError, match=r"engine.device is 'cuda:77'"):
        _Desk(Sent()).model(None, Model(str(tiny_folder("llama")), device="cuda:77"))
