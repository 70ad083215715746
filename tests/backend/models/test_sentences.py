"""Sentence embeddings: unit length, independent of company, unknown where there is no sentence."""

import numpy as np
import pytest

from backend.errors import AnchorscopeError
from backend.models import embedded
from backend.models.sentences import load_encoder, matrix_rate


@pytest.fixture(scope="module")
def encoder():
    if not embedded.is_ready():
        pytest.skip("the embedded sentence encoder is not in the cache folder; `make model` fetches it")
    return load_encoder()


@pytest.mark.embedded
def test_embeddings_have_length_one_and_near_sentences_are_near(encoder):
    vectors = encoder.encode(["Tom has 3 apples.", "Tom has three apples.", "The sky is blue."])
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert vectors[0] @ vectors[1] > 0.8 > vectors[0] @ vectors[2]


@pytest.mark.embedded
def test_an_embedding_does_not_depend_on_its_company_or_order(encoder):
    texts = [
        "So 3 + 4 = 7.",
        "Wait.",
        "Let me count all of the apples again, one by one, to be sure none is missing.",
        "So 3 + 4 = 7.",
    ]
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    assert np.allclose(encoder.encode(texts), alone, atol=1e-6)
    assert np.allclose(encoder.encode(texts[::-1], batch=2)[::-1], alone, atol=1e-6)


@pytest.mark.embedded
def test_a_text_without_words_has_no_embedding(encoder):
    vectors = encoder.encode(["", "  \n ", "Two."])
    assert np.isnan(vectors[:2]).all() and np.isfinite(vectors[2]).all()


@pytest.mark.embedded
def test_an_embedding_is_the_mean_over_real_tokens_of_the_last_hidden_state(encoder):
    import torch

    text = "The total is 42 dollars."
    inputs = encoder._tokenizer(text, return_tensors="pt")
    with torch.inference_mode():
        mean = encoder._model(**inputs).last_hidden_state[0].double().mean(0).numpy()
    assert np.allclose(
        encoder.encode([text, "a much longer neighbour " * 20])[0], mean / np.linalg.norm(mean), atol=1e-6
    )


@pytest.mark.embedded
def test_similarities_are_those_published_for_this_encoder(encoder):
    """From the sentence-transformers documentation of all-MiniLM-L6-v2."""
    cat, dog, awesome, great = encoder.encode(
        ["The cat sits outside", "The dog plays in the garden", "The new movie is awesome", "The new movie is so great"]
    )
    assert cat @ dog == pytest.approx(0.2838, abs=1e-4)
    assert awesome @ great == pytest.approx(0.8939, abs=1e-4)


def test_an_encoder_with_a_missing_key_is_refused(tmp_path, monkeypatch):
    from safetensors.torch import load_file, save_file
    from transformers import BertConfig, BertModel

    from backend.models.loading import ModelLoadingError

    monkeypatch.setenv("ANCHORSCOPE_CACHE", str(tmp_path / "cache"))
    config = BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    BertModel(config).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["encoder.layer.0.output.dense.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelLoadingError, match=r"missing keys, first encoder\.layer\.0\.output\.dense\.weight"):
        load_encoder(str(tmp_path))


def tiny(tmp_path, **changes):
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    torch.manual_seed(0)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghij"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(vocab={word: place for place, word in enumerate(words)}).save_pretrained(tmp_path)
    sizes = {
        "hidden_size": 24,
        "num_hidden_layers": 3,
        "num_attention_heads": 3,
        "intermediate_size": 40,
        "max_position_embeddings": 300,
    }
    config = BertConfig(vocab_size=len(words), **sizes, **changes)
    model = BertModel(config)
    for parameter in model.parameters():  # biases and norms away from 0 and 1, so that leaving one out shows
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(tmp_path)
    return str(tmp_path)


def test_packed_sentences_get_what_the_models_own_forward_pass_gives(tmp_path, monkeypatch):
    import torch

    monkeypatch.setenv("ANCHORSCOPE_CACHE", str(tmp_path / "cache"))
    encoder = load_encoder(tiny(tmp_path))
    texts = ["a b", "c", "d e f", "b a", "", "a b c d e f g h i j " * 40, "j i"]  # the long one is cut at 256 tokens
    for batch in (1, 7, 4096):
        vectors = encoder.encode(texts, batch=batch)
        for text, vector in zip(texts, vectors, strict=True):
            if not text:
                assert np.isnan(vector).all()
                continue
            with torch.inference_mode():
                inputs = encoder._tokenizer(text, truncation=True, max_length=256, return_tensors="pt")
                mean = encoder._model(**inputs).last_hidden_state[0].mean(0)
            assert np.allclose(vector, (mean / mean.norm()).numpy(), atol=2e-6)


def test_the_meter_counts_the_matrix_products_and_a_rate_is_known(tmp_path, monkeypatch):
    monkeypatch.setenv("ANCHORSCOPE_CACHE", str(tmp_path / "cache"))
    encoder = load_encoder(tiny(tmp_path))
    assert np.isnan(encoder.meter.rate)
    encoder.encode(["a b", "c"])  # 4 and 3 tokens with the two at the ends
    per_token = 3 * 2 * 24 * (4 * 24 + 2 * 40)
    assert encoder.meter.flops == 7 * per_token + 3 * 4 * 24 * (4**2 + 3**2)
    assert (encoder.meter.sentences, encoder.meter.tokens) == (2, 7) and encoder.meter.rate > 0
    assert matrix_rate(seconds=0.01) > 1e8


def test_an_encoder_that_is_not_built_as_bert_is_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("ANCHORSCOPE_CACHE", str(tmp_path / "cache"))
    with pytest.raises(AnchorscopeError, match="is a bert with relu"):
        load_encoder(tiny(tmp_path, hidden_act="relu"))
