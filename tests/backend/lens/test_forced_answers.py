"""An answer's probability is that of a plain forward pass over prompt, cut chain, forcing words and answer."""

import math

import pytest
import torch

from backend.cot.chunking import chunk_spans
from backend.cot.prompts import forced_suffix
from backend.lens.forced_answers import Chain, answer_readings, answer_tokens
from backend.lens.lens import JacobianLens, LogitLens, Readout, TunedLens
from backend.models.residuals import record_residuals
from tests.conftest import FAMILIES

TEXT = "First, we add 12 and 30. Wait, that is not right.\n\nSo the answer is 42."
CHAIN = Chain("<|im_start|>What is 12 + 30? ", TEXT, "</think>", tuple(chunk_spans(TEXT)))


def plain(loaded, n_read, answer, lens, layer):
    """The same from one forward pass: the tokens that start before the cut, the forcing words, the answer."""
    cut = CHAIN.chunks[n_read][0] if n_read < len(CHAIN.chunks) else len(TEXT)
    before = CHAIN.prompt + TEXT[:cut]
    whole = loaded.tokenizer(CHAIN.prompt + TEXT, return_offsets_mapping=True)
    starts = [start for start, _ in whole["offset_mapping"]]
    kept = whole["input_ids"][: sum(start < len(before) for start in starts)]
    ids = [*kept, *loaded.tokenizer(forced_suffix(before, "</think>"))["input_ids"]]
    own = loaded.tokenizer(answer)["input_ids"]
    stream = record_residuals(loaded, [*ids, *own], [layer])[layer]
    found = Readout(loaded).log_probs(lens, stream, layer)
    return [float(found[len(ids) - 1 + k, token]) for k, token in enumerate(own)]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_reading_is_that_of_a_plain_forward_pass(tiny, family):
    loaded = tiny(family)
    last = loaded.n_layers - 1
    eye = torch.eye(loaded.d_model)
    tuned = TunedLens(loaded.n_layers, {1: (0.1 * eye, torch.ones(loaded.d_model))})
    jacobian = JacobianLens(loaded.n_layers, {2: 2 * eye})
    lenses = {"logit": (LogitLens(), (0, last)), "t": (tuned, (1,)), "j": (jacobian, (2,))}
    found = list(answer_readings(loaded, CHAIN, ("42", "7"), lenses))
    assert len(found) == (len(CHAIN.chunks) + 1) * 2 * 4
    for one in found:
        each = plain(loaded, one.n_read, one.answer, lenses[one.lens_id][0], one.layer)
        assert one.n_tokens == len(each) == len(one.answer)  # the tiny tokenizer writes digit by digit
        assert one.logprob == pytest.approx(sum(each), abs=2e-4)
        assert one.first_logprob == pytest.approx(each[0], abs=2e-4)


def test_the_last_layer_is_the_model_itself(tiny):
    """Probabilities of all one-digit answers and of everything else there sum to one: each is the model's own."""
    loaded = tiny("llama")
    last = loaded.n_layers - 1
    found = list(answer_readings(loaded, CHAIN, tuple("0123456789"), {"logit": (LogitLens(), (last,))}))
    own = [one for one in found if one.n_read == len(CHAIN.chunks)]
    whole = CHAIN.prompt + TEXT
    ids = loaded.tokenizer(whole)["input_ids"] + loaded.tokenizer(forced_suffix(whole, "</think>"))["input_ids"]
    with torch.inference_mode():
        shares = loaded.model(torch.tensor([ids])).logits[0, -1].softmax(-1)
    digits = [loaded.tokenizer(digit)["input_ids"][0] for digit in "0123456789"]
    assert [math.exp(one.logprob) for one in own] == pytest.approx(shares[digits].tolist(), abs=1e-5)


def test_a_chain_without_a_prompt_is_read_from_its_forcing_words_on(tiny):
    loaded = tiny("llama")
    chain = Chain("", TEXT, None, CHAIN.chunks)
    found = next(answer_readings(loaded, chain, ("4",), {"logit": (LogitLens(), (3,))}))
    ids = loaded.tokenizer(forced_suffix("", None))["input_ids"]
    with torch.inference_mode():
        own = loaded.model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
    assert found.n_read == 0
    assert found.logprob == pytest.approx(float(own[loaded.tokenizer("4")["input_ids"][0]]), abs=1e-4)


class Merging:
    """A tokenizer of characters that has one token for "{4"."""

    def __call__(self, text, add_special_tokens):
        return {"input_ids": [ord(character) for character in text.replace("{4", "€")]}


def test_an_answer_never_takes_a_part_of_the_forcing_words():
    forcing, own = answer_tokens(Merging(), "is {", "42")
    assert forcing == [ord(character) for character in "is {"] and own == [ord("4"), ord("2")]
    assert answer_tokens(Merging(), "is {", "72")[1] == [ord("7"), ord("2")]
    with pytest.raises(ValueError, match="no tokens"):
        answer_tokens(Merging(), "is {", "")
