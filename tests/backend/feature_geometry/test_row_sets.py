"""Where each kind of set of directions comes from."""

import numpy as np
import pytest
import torch

from backend.crosscoder.files import save
from backend.feature_geometry.row_sets import ROW_KINDS, NoRows, Source, rows
from backend.models.layers import layers_of
from tests.small_dictionary import weights

PLACES = {  # the modules that write to the residual stream, as each architecture calls them
    "llama": ("mlp.down_proj", "self_attn.o_proj"),
    "qwen3": ("mlp.down_proj", "self_attn.o_proj"),
    "gemma2": ("mlp.down_proj", "self_attn.o_proj"),
    "gpt2": ("mlp.c_proj", "attn.c_proj"),
    "gpt_neox": ("mlp.dense_4h_to_h", "attention.dense"),
}


@pytest.mark.parametrize("family", PLACES)
def test_a_row_is_what_one_input_of_the_last_layer_writes(tiny, family):
    loaded = tiny(family)
    block = layers_of(loaded.model).blocks[1]
    for kind, path in zip(("mlp_out", "attention_out"), PLACES[family], strict=True):
        found, module = rows(kind, Source(loaded=loaded, layer=1)), block.get_submodule(path)
        n_in = len(found)
        with torch.no_grad():
            written = module(torch.eye(n_in)) - module(torch.zeros(1, n_in))
        assert found.dtype == np.float32 and found.shape == (n_in, loaded.d_model)
        np.testing.assert_allclose(found, written.numpy(), atol=1e-6)


def test_the_rows_of_an_unembedding_are_what_logits_are_products_with(tiny):
    loaded = tiny("llama")
    found, stream = rows("unembedding", Source(loaded=loaded)), torch.randn(1, loaded.d_model)
    assert found.shape == (loaded.vocab_size, loaded.d_model)
    with torch.no_grad():
        np.testing.assert_allclose(stream.numpy() @ found.T, layers_of(loaded.model).unembed(stream).numpy(), atol=1e-4)


@pytest.mark.parametrize("kind", [kind.name for kind in ROW_KINDS.values() if not kind.of_model])
def test_the_two_decoders_of_a_crosscoder_are_two_sets(tmp_path, kind):
    dictionary = weights()
    save(dictionary, tmp_path)
    for model in (0, 1):
        found = rows(kind, Source(path=tmp_path, model=model))
        np.testing.assert_array_equal(found, dictionary.decoder[model].numpy())


def test_what_is_not_there_is_said(tiny, tmp_path):
    loaded = tiny("llama")
    for kind, source, told in (
        ("mlp_out", Source(), "none is loaded"),
        ("mlp_out", Source(loaded=loaded, layer=4), "has the layers 0 to 3; 4 is none"),
        ("attention_out", Source(loaded=loaded), "None is none of them"),
        ("sae", Source(), "none is named"),
        ("moods", Source(), "no set of directions 'moods'"),
    ):
        with pytest.raises(NoRows, match=told):
            rows(kind, source)
