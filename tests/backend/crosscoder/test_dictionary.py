"""Encoding and decoding equal the formula written out in NumPy, in float64, for every kind, with one model and with
two.
"""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from backend.crosscoder.dictionary import Dictionary
from backend.crosscoder.kinds import KINDS, DictionaryError

N, D_MODEL, N_FEATURES, K = 40, 6, 11, 3


def made(kind: str = "l1", n_models: int = 2, **changes) -> Dictionary:
    draw = torch.Generator().manual_seed(n_models)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=draw)

    values = {
        "kind": kind,
        "encoder": normal(n_models, D_MODEL, N_FEATURES),
        "encoder_bias": normal(N_FEATURES),
        "decoder": normal(n_models, N_FEATURES, D_MODEL),
        "decoder_bias": normal(n_models, D_MODEL),
        "scale": normal(n_models).abs() + 0.5,
        "k": K if kind in ("topk", "batchtopk", "linear") else None,
        "weighted": False,
        "subtract": False,
        "threshold": {
            "batchtopk": torch.tensor(1.2),
            "jumprelu": normal(N_FEATURES),
            "linear": torch.tensor(1.5),
        }.get(kind),
    }
    return Dictionary(**(values | changes))


def activations(n_models: int) -> torch.Tensor:
    return 3 * torch.randn((N, n_models, D_MODEL), generator=torch.Generator().manual_seed(7))


def by_hand(dictionary: Dictionary, raw: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Codes and reconstructions, one token and one feature at a time."""
    encoder, bias, decoder, decoder_bias, scale = (
        getattr(dictionary, name).double().numpy()
        for name in ("encoder", "encoder_bias", "decoder", "decoder_bias", "scale")
    )
    codes, rebuilt = np.zeros((len(raw), N_FEATURES)), np.zeros(raw.shape)
    for t, token in enumerate(raw.double().numpy()):
        inputs = token * scale[:, None] - (decoder_bias if dictionary.subtract else 0)
        before = bias + sum(inputs[m] @ encoder[m] for m in range(len(inputs)))
        gate = before * np.linalg.norm(decoder, axis=2).sum(0) if dictionary.weighted else before
        match dictionary.kind:
            case "batchtopk" | "jumprelu":
                kept = gate > np.broadcast_to(dictionary.threshold.numpy(), gate.shape)
            case "topk":
                kept = gate >= np.sort(gate)[-K]
            case _:
                kept = np.ones(N_FEATURES, bool)
        codes[t] = before if dictionary.kind == "linear" else np.where(kept & (before > 0), before, 0)
        for m in range(len(inputs)):
            rebuilt[t, m] = (codes[t] @ decoder[m] + decoder_bias[m]) / scale[m]
    return codes, rebuilt


@pytest.mark.parametrize("n_models", [1, 2])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("subtract", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_codes_and_reconstructions_equal_the_formula(kind, subtract, weighted, n_models):
    dictionary, raw = made(kind, n_models, weighted=weighted, subtract=subtract), activations(n_models)
    codes, rebuilt = by_hand(dictionary, raw)
    np.testing.assert_allclose(dictionary.encode(raw).numpy(), codes, atol=2e-5)
    np.testing.assert_allclose(dictionary.decode(torch.tensor(codes)).numpy(), rebuilt, atol=2e-5)
    dropped = codes < 0 if kind == "linear" else codes == 0
    assert (codes > 0).any() and dropped.any()  # the rule had something to keep and something to drop
    if kind == "topk":
        assert ((codes > 0).sum(1) <= K).all()


@pytest.mark.parametrize("weighted", [False, True])
def test_a_linear_code_fires_where_its_size_times_its_decoder_norms_exceeds_the_threshold(weighted):
    dictionary, raw = made("linear", weighted=weighted), activations(2)
    codes = by_hand(dictionary, raw)[0]
    norms = np.linalg.norm(dictionary.decoder.numpy(), axis=2).sum(0) if weighted else 1.0
    fires = dictionary.encode(raw).abs() > dictionary.fires_above
    assert np.array_equal(fires.numpy(), np.abs(codes) * norms > 1.5)
    assert fires[torch.tensor(codes < 0)].any() and not fires.all()


def test_a_linear_feature_without_decoder_rows_never_fires():
    linear = made("linear", weighted=True)
    silent = replace(linear, decoder=linear.decoder * (torch.arange(N_FEATURES) > 0)[:, None])
    assert torch.isinf(silent.fires_above[0]) and torch.isfinite(silent.fires_above[1:]).all()


def test_in_every_other_kind_a_code_fires_where_it_is_not_zero():
    assert all(not made(kind).fires_above.any() for kind in KINDS if kind != "linear")


def unequal(kind: str = "batchtopk", widths: tuple[int, int] = (4, D_MODEL)) -> Dictionary:
    """Of a base of width 4 and a distilled model of width 6."""
    own = (torch.arange(D_MODEL) < torch.tensor(widths)[:, None])[:, :, None].float()
    whole = made(kind)
    weights = {
        "encoder": whole.encoder * own,
        "decoder": whole.decoder * own.mT,
        "decoder_bias": whole.decoder_bias * own[:, :, 0],
    }
    return replace(whole, **weights, widths=widths)


@pytest.mark.parametrize("kind", KINDS)
def test_models_of_unequal_width_are_encoded_and_decoded_each_in_its_own(kind):
    """By the formula, with each model's matrices cut to its own shape."""
    dictionary, raw = unequal(kind), activations(2)
    streams = [raw[:, 0, :4], raw[:, 1]]
    before = dictionary.encoder_bias + sum(
        (stream * dictionary.scale[m]) @ dictionary.encoder[m, : stream.shape[1]] for m, stream in enumerate(streams)
    )
    codes = dictionary.encode(dictionary.side_by_side(streams))
    if kind == "linear":
        torch.testing.assert_close(codes, before, atol=1e-4, rtol=0)
    else:
        torch.testing.assert_close(codes[codes > 0], before[codes > 0], atol=1e-4, rtol=0)
    for m, stream in enumerate(streams):
        width = stream.shape[1]
        by_hand = codes @ dictionary.decoder[m, :, :width] + dictionary.decoder_bias[m, :width]
        rebuilt = dictionary.reconstruction(codes, m)
        assert rebuilt.shape == stream.shape and dictionary.raw_rows(m).shape == (N_FEATURES, width)
        torch.testing.assert_close(rebuilt, by_hand / dictionary.scale[m], atol=1e-4, rtol=1e-4)


def test_unequal_widths_are_part_of_the_id_and_equal_ones_are_not_said():
    dictionary = unequal()
    padded = replace(dictionary, widths=None)
    assert dictionary.dictionary_id != padded.dictionary_id
    assert dictionary.dictionary_id != replace(dictionary, widths=(5, D_MODEL)).dictionary_id


def test_the_ids_of_dictionaries_made_before_there_were_unequal_widths_are_as_they_were():
    """Computed by the version before: blake2b of the weights' sha256 and the rule."""
    assert {kind: made(kind).dictionary_id for kind in ("l1", "batchtopk")} == {
        "l1": "w6ea2becbf9bb",
        "batchtopk": "w3efd1d78e92c",
    }


def test_a_threshold_for_each_feature_and_one_for_all_agree_where_they_are_equal():
    one, raw = made("batchtopk"), activations(2)
    each = replace(one, threshold=torch.full((N_FEATURES,), 1.2))
    assert torch.equal(one.encode(raw), each.encode(raw))
    assert not torch.equal(one.encode(raw), replace(one, threshold=torch.tensor(2.0)).encode(raw))


def test_a_code_that_only_reaches_its_threshold_is_dropped():
    ones = torch.ones(1, 1, 2)
    weights = (ones, torch.zeros(2), ones.mT, torch.zeros(1, 1), torch.ones(1), torch.tensor([2.0, 1.5]))
    dictionary = Dictionary("jumprelu", *weights, k=None, weighted=False, subtract=False)
    assert dictionary.encode(torch.full((1, 1, 1), 2.0)).tolist() == [[0, 2]]


def test_a_token_is_encoded_alike_in_every_batch():
    for kind in KINDS:
        dictionary, raw = made(kind), activations(2)
        alone = torch.cat([dictionary.encode(raw[t : t + 1]) for t in range(N)])
        torch.testing.assert_close(alone, dictionary.encode(raw), atol=1e-5, rtol=0)


def test_doubling_the_scale_of_a_model_equals_doubling_its_activations():
    dictionary, raw = made(), activations(2)
    doubled = replace(dictionary, scale=dictionary.scale * torch.tensor([2.0, 1.0]))
    torch.testing.assert_close(doubled.encode(raw), dictionary.encode(raw * torch.tensor([2.0, 1.0])[:, None]))


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: made().encode(torch.zeros(4, D_MODEL)), r"activations have shape \(4, 6\); expected \(n, 2, 6\)"),
        (lambda: made().encode(torch.zeros(4, 1, D_MODEL)), r"shape \(4, 1, 6\); expected \(n, 2, 6\)"),
        (lambda: made().decode(torch.zeros(4, N_FEATURES + 1)), r"codes have shape \(4, 12\); expected \(n, 11\)"),
        (
            lambda: made(encoder=torch.zeros(D_MODEL, N_FEATURES)),
            r"encoder has shape \(6, 11\); expected \(models, width, features\)",
        ),
        (
            lambda: made(decoder=torch.zeros(2, D_MODEL, N_FEATURES)),
            r"decoder has shape \(2, 6, 11\); expected \(2, 11, 6\)",
        ),
        (lambda: made(decoder_bias=torch.zeros(D_MODEL)), r"decoder_bias has shape \(6,\); expected \(2, 6\)"),
        (lambda: made("jumprelu", threshold=torch.zeros(4)), r"threshold has shape \(4,\); expected \(11,\) or \(\)"),
        (lambda: made(scale=torch.tensor([1.0, 0.0])), r"scale is \[1.0, 0.0\]; expected finite factors above 0"),
        (lambda: made(scale=torch.tensor([1.0, torch.nan])), "expected finite factors"),
        (
            lambda: made(encoder_bias=torch.zeros(N_FEATURES, dtype=torch.float64)),
            "encoder_bias is torch.float64; expected torch.float32",
        ),
        (lambda: made("gated"), "kind is 'gated'; expected one of l1"),
        (lambda: made("batchtopk", threshold=None), "batchtopk needs a threshold"),
        (lambda: made("l1", threshold=torch.tensor(1.0)), "l1 has no threshold"),
        (lambda: made("topk", k=None), "k is None for kind topk; expected 1 to 11"),
        (lambda: made("topk", k=N_FEATURES + 1), "k is 12 for kind topk"),
        (lambda: made("linear", threshold=None), "linear needs a threshold"),
        (lambda: made(widths=(4, 6)), "encoder of model 0 is not zero beyond its width 4"),
        (lambda: made(widths=(6, 6)), "expected None, as the models' widths are equal"),
        (lambda: made(widths=(4, 5)), r"widths are \(4, 5\); expected one for each of 2 models, the largest 6"),
        (lambda: unequal().side_by_side([torch.zeros(3, 6), torch.zeros(3, 6)]), "has 6 values; expected the.* 4"),
    ],
)
def test_what_does_not_fit_is_refused_with_expected_and_found(call, told):
    with pytest.raises(DictionaryError, match=told):
        call()


def test_the_id_follows_from_weights_and_rule_and_not_from_facts():
    dictionary = made("batchtopk")
    assert dictionary.dictionary_id == replace(dictionary, facts={"layer": 14}).dictionary_id
    otherwise_laid_out = dictionary.decoder.transpose(1, 2).contiguous().transpose(1, 2)
    assert dictionary.dictionary_id == replace(dictionary, decoder=otherwise_laid_out).dictionary_id
    ids = {
        dictionary.dictionary_id,
        replace(dictionary, weighted=True).dictionary_id,
        replace(dictionary, subtract=True).dictionary_id,
    }
    for one in fields(Dictionary):
        if isinstance(value := getattr(dictionary, one.name), torch.Tensor):
            ids.add(replace(dictionary, **{one.name: value * 1.5}).dictionary_id)
    assert len(ids) == 9


def test_rounding_to_float16_moves_weights_by_its_precision_and_nothing_else():
    exact = made("batchtopk")
    rounded = exact.in_float16()
    assert rounded.dictionary_id != exact.dictionary_id and rounded.in_float16().dictionary_id == rounded.dictionary_id
    for name in ("encoder", "decoder"):
        torch.testing.assert_close(getattr(rounded, name), getattr(exact, name), rtol=2**-11, atol=2**-25)
    assert all(
        torch.equal(getattr(rounded, name), getattr(exact, name))
        for name in ("encoder_bias", "decoder_bias", "scale", "threshold")
    )
    with pytest.raises(DictionaryError, match="encoder has values up to 1e"):
        replace(exact, encoder=exact.encoder * 0 + 1e5).in_float16()
