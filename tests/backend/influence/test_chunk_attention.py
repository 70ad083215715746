"""Mean attention between chunks is what a plain eager pass gives, in every family, however long the text is."""

import copy

import numpy as np
import pytest
import torch

from backend.influence import attention
from backend.influence.attention import NoWeights, chunk_attention
from backend.models import attention as ways
from tests.conftest import FAMILIES

TOKENS = [int(token) for token in np.random.default_rng(0).integers(3, 384, size=70)]
SPANS = {"a": (9, 20), "b": (20, 21), "empty": (21, 21), "c": (21, 44), "d": (44, 66)}


def plainly(loaded, tokens=TOKENS, spans=SPANS) -> np.ndarray:
    """(n_layers, n_heads, target, source), from all weights at once."""
    model = copy.deepcopy(loaded.model)
    model.set_attn_implementation("eager")
    with torch.inference_mode():
        weights = model(torch.tensor([tokens]), output_attentions=True).attentions
    there = [slice(*span) for span in spans.values() if span[0] < span[1]]
    return np.array(
        [
            [[[head[target, source].double().mean() for source in there] for target in there] for head in layer[0]]
            for layer in weights
        ]
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_the_mean_of_the_weights_of_a_plain_pass(tiny, family, monkeypatch):
    monkeypatch.setattr(ways, "_QUERIES", 16)  # blocks end within chunks
    found = chunk_attention(tiny(family), TOKENS, SPANS)
    assert found.chunk_ids == ("a", "b", "c", "d") and found.n_tokens == (11, 1, 23, 22)
    assert np.abs(found.by_head - plainly(tiny(family))).max() < 1e-6
    assert found.by_head.max() > 0.02  # the bound above says something


def test_a_head_of_a_sliding_window_does_not_see_what_has_left_it(tiny):
    """The window is 16: the last token of d is 45 tokens away from a's last one."""
    source, target = 0, 3
    by_layer = chunk_attention(tiny("gemma2"), TOKENS, SPANS).by_head[:, :, target, source].max(1)
    assert (by_layer[[0, 2]] == 0).all() and (by_layer[[1, 3]] > 0).all()


def test_all_that_a_chunk_pays_adds_up_to_one(tiny):
    """With spans that tile the text, means times lengths are shares of one token's attention."""
    spans = {str(start): (start, start + 10) for start in range(0, 70, 10)}
    found = chunk_attention(tiny("llama"), TOKENS, spans)
    assert (found.by_head * 10).sum(-1) == pytest.approx(1, abs=1e-5)


def test_no_chunk_attends_to_a_later_one(tiny):
    found = chunk_attention(tiny("qwen2"), TOKENS, SPANS)
    assert not found.by_head[..., *np.triu_indices(4, 1)].any()
    sources, targets = found.pairs()
    assert len(sources) == 6 and (sources < targets).all() and found.by_head[..., targets, sources].all()


def test_what_stands_after_the_last_chunk_is_not_read(tiny):
    short = chunk_attention(tiny("llama"), TOKENS[:66], SPANS)
    assert np.array_equal(short.by_head, chunk_attention(tiny("llama"), TOKENS, SPANS).by_head)


def test_the_callers_model_is_left_as_it_was(tiny):
    loaded, tokens = tiny("llama"), torch.tensor([TOKENS])
    with torch.inference_mode():
        before = loaded.model(tokens).logits
        chunk_attention(loaded, TOKENS, SPANS)
        assert torch.equal(loaded.model(tokens).logits, before)


def test_a_text_without_chunks_has_no_pairs(tiny):
    found = chunk_attention(tiny("llama"), TOKENS, {"empty": (9, 9)})
    assert found.chunk_ids == () and len(found.pairs()[0]) == 0


def test_a_family_that_keeps_its_weights_to_itself_is_refused(tiny, monkeypatch):
    monkeypatch.setattr(attention, "attending", lambda config, way: config)
    with pytest.raises(NoWeights, match="llama, whose attention does not give its weights away"):
        chunk_attention(tiny("llama"), TOKENS, SPANS)
