"""Codes of a typed text are those of both models' residual streams, and what cannot be read is refused in words."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from backend.crosscoder import stored
from backend.crosscoder.dictionary import Dictionary
from backend.errors import AnchorscopeError
from backend.live import codes as live_codes
from backend.live.jobs import Reader
from backend.live.requests import Codes, Model, RequestError, experiment_id
from backend.live.service import merge
from backend.live.worker import _Desk
from backend.models.residuals import record_residuals
from tests.backend.live.test_worker import Sent
from tests.conftest import tuned

LAYER, N_FEATURES = 1, 30
PROMPT, TEXT = "What is 12 + 30? ", "Wait, 12 + 30 is 42."


@pytest.fixture(scope="module")
def pair(tiny):
    base = tiny("llama")
    return base, tuned(base)


def made(n_models: int = 2) -> Dictionary:
    draw = torch.Generator().manual_seed(4)
    return Dictionary(
        kind="batchtopk",
        encoder=0.2 * torch.randn(n_models, 64, N_FEATURES, generator=draw),
        encoder_bias=torch.zeros(N_FEATURES),
        decoder=torch.randn(n_models, N_FEATURES, 64, generator=draw),
        decoder_bias=torch.zeros(n_models, 64),
        scale=torch.ones(n_models),
        threshold=torch.tensor(0.5),
        k=6,
        weighted=False,
        subtract=False,
        facts={"layer": LAYER},
    )


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    for n_models in (1, 2):
        stored.keep(made(n_models), folder)
    return folder


def request_for(study, n_models: int = 2, **words) -> Codes:
    return Codes(str(study), made(n_models).dictionary_id, LAYER, **({"text": TEXT, "prompt": PROMPT} | words))


def result_of(models, request) -> dict:
    result: dict = {}
    for kind, payload in live_codes.codes(models, request):
        if kind == "part":
            merge(result, payload)
    return result


@pytest.mark.parametrize("n_models", [1, 2])
def test_codes_are_those_of_what_the_models_read(study, pair, n_models):
    found = result_of(pair[:n_models], request_for(study, n_models))
    tokens = pair[0].tokenizer(PROMPT + TEXT, add_special_tokens=False)["input_ids"]
    streams = torch.stack([record_residuals(one, tokens, [LAYER])[LAYER][1:] for one in pair[:n_models]], 1)
    dense = np.zeros((len(tokens), N_FEATURES))
    dense[found["positions"], found["features"]] = found["codes"]
    np.testing.assert_allclose(dense[1:], made(n_models).encode(streams).numpy(), atol=1e-5)
    assert not dense[0].any() and (np.diff(found["positions"]) >= 0).all() and (found["codes"] > 0).all()
    assert "".join(found["tokens"]) == PROMPT + TEXT and len(found["tokens"]) == len(tokens)
    assert len("".join(found["tokens"][: found["n_prompt"]])) >= len(PROMPT)


def test_a_text_without_a_prompt_has_codes_from_its_second_token_on(study, pair):
    found = result_of(pair, request_for(study, prompt=""))
    assert found["n_prompt"] == 0 and "".join(found["tokens"]) == TEXT and found["positions"].min() >= 1


def test_what_cannot_be_read_is_refused_in_words(study, pair, tiny):
    for models, request, words in (
        (pair[:1], request_for(study), "of 2 models, and 1 were given"),
        (pair, request_for(study, text="W", prompt=""), "single token"),
        (pair, request_for(study, text="no " * 3000), "reads at most 2,048"),
        (pair, replace(request_for(study), dictionary_id="w0"), "is missing"),
    ):
        with pytest.raises(AnchorscopeError, match=words):
            result_of(models, request)
    for text in ("", " \n", "a" * 200_001):
        with pytest.raises(RequestError, match=r"no text|200,001 characters|200,018 characters"):
            request_for(study, text=text)


def test_the_worker_loads_both_models(study, pair, monkeypatch):
    base, tuned = Model("base"), Model("tuned")
    desk, loaded = _Desk(Sent()), dict(zip((base, tuned), pair, strict=True))
    monkeypatch.setattr(desk, "model", lambda _name, model: Reader(loaded[model]))
    request = request_for(study, beside=tuned)
    steps = list(desk.job("a", base, request))
    assert [payload for kind, payload in steps if kind == "progress"] == [(0, 3), (1, 3), (2, 3)]
    assert steps[-1][1]["codes"].tolist() == result_of(pair, request)["codes"].tolist()


def test_equal_questions_have_one_id(study):
    assert experiment_id("m", request_for(study)) == experiment_id("m", request_for(study))
    assert (
        len(
            {
                experiment_id("m", request_for(study, **words))
                for words in ({}, {"text": "other"}, {"beside": Model("a")})
            }
        )
        == 3
    )
