"""Features are changed as the definitions say, in full forward passes with hooks on both models, and while generating
token by token.
"""

import math
import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from backend.crosscoder.dictionary import Dictionary
from backend.crosscoder.feature_interventions import FeatureIntervention, accuracy_run
from backend.errors import AnchorscopeError
from backend.models import sampling
from backend.models.edits import addition, encode
from backend.models.interventions import InterventionError
from backend.models.layers import layers_of, residual_of, with_residual
from backend.models.sampling import SampleRequest, SamplingParameters, next_tokens, sample, uniform
from tests.conftest import tuned

D_MODEL, N_FEATURES, LAYER = 64, 40, 1
TOKENS = tuple(torch.randint(3, 384, (24,), generator=torch.Generator().manual_seed(2)).tolist())
PARAMETERS = SamplingParameters(temperature=2.0, top_p=0.95, max_new_tokens=14)
NEVER = 7  # a feature that never fires


@pytest.fixture(scope="module")
def pair(tiny):
    """`pair(family)`: a base model, and another that was made from it."""
    made = {}

    def models(family):
        if family not in made:
            base = tiny(family)
            made[family] = base, tuned(base)
        return made[family]

    return models


def made(kind="batchtopk", n_models=2, **changes) -> Dictionary:
    draw = torch.Generator().manual_seed(4)

    def normal(*shape):
        return torch.randn(shape, generator=draw)

    bias = normal(N_FEATURES)
    bias[NEVER] = -1e4
    values = {
        "kind": kind,
        "encoder": 0.2 * normal(n_models, D_MODEL, N_FEATURES),
        "encoder_bias": bias,
        "decoder": 0.3 * normal(n_models, N_FEATURES, D_MODEL),
        "decoder_bias": normal(n_models, D_MODEL),
        "scale": torch.tensor([0.8, 1.3])[:n_models],
        "threshold": torch.tensor(0.5) if kind == "batchtopk" else None,
        "k": 6 if kind in ("topk", "batchtopk") else None,
        "weighted": False,
        "subtract": False,
    }
    return Dictionary(**(values | changes))


FEATURES = (3, 11, 20, 33)
CHANGES = {
    "zero": {"operation": "zero"},
    "scale": {"operation": "scale", "factor": 1.5},
    "steer": {"operation": "steer", "beta": 3.0},
    "patch": {"operation": "patch"},
    "replace": {"operation": "scale", "factor": 0.5, "keep_error": False},
    "replace steer": {"operation": "steer", "beta": 2.0, "keep_error": False},
}


def intervention(which="zero", model=1, dictionary=None, features=FEATURES, **changes) -> FeatureIntervention:
    return FeatureIntervention(dictionary or made(), model, LAYER, features=features, **(CHANGES[which] | changes))


def by_hand(which: str, dictionary: Dictionary, model: int, a: np.ndarray) -> np.ndarray:
    """h after the change, in float64 and for one token, from both models' residual streams a (2, d_model)."""
    encoder, bias, decoder, decoder_bias, scale = (
        getattr(dictionary, name).double().numpy()
        for name in ("encoder", "encoder_bias", "decoder", "decoder_bias", "scale")
    )

    def codes(scaled):
        before = bias + sum(scaled[m] @ encoder[m] for m in range(len(scaled)))
        return np.where(before > 0.5, before, 0)

    f = codes([scale[m] * a[m] for m in range(len(a))])
    wanted = f.copy()
    for k in FEATURES if which != "reconstruct" else ():
        if which == "zero":
            wanted[k] = 0
        elif which in ("scale", "replace"):
            wanted[k] = {"scale": 1.5, "replace": 0.5}[which] * f[k]
        elif "steer" in which:
            wanted[k] = f[k] + CHANGES[which]["beta"]
        else:
            other = scale[1 - model] * a[1 - model]
            wanted[k] = codes([other, other])[k]
    if which in ("replace", "replace steer", "reconstruct"):
        return (wanted @ decoder[model] + decoder_bias[model]) / scale[model]
    return a[model] + (wanted - f) @ decoder[model] / scale[model]


@torch.inference_mode()
def reference_logits(models, model, tokens, which, dictionary, positions):
    """(n_tokens, vocab_size): a hook on each model's own forward pass of the whole text."""
    kept, inputs = {}, torch.tensor([list(tokens)])

    def keep(_block, _inputs, output):
        kept["other"] = residual_of(output)[0].clone()

    handle = layers_of(models[1 - model].model).blocks[LAYER].register_forward_hook(keep)
    models[1 - model].model(inputs)
    handle.remove()

    def change(_block, _inputs, output):
        h = residual_of(output).clone()
        for t in positions:
            both = [h[0, t], kept["other"][t]] if model == 0 else [kept["other"][t], h[0, t]]
            h[0, t] = torch.from_numpy(by_hand(which, dictionary, model, torch.stack(both).double().numpy())).float()
        return with_residual(output, h)

    handle = layers_of(models[model].model).blocks[LAYER].register_forward_hook(change)
    try:
        return models[model].model(inputs).logits[0]
    finally:
        handle.remove()


def recorded(models, tokens=TOKENS) -> torch.Tensor:
    """(n_tokens, n_models, d_model)"""
    return torch.stack([encode(one, tokens, layers=[LAYER]).residual(LAYER) for one in models], 1)


def reconstruction(model, dictionary=None) -> FeatureIntervention:
    return FeatureIntervention(dictionary or made(), model, LAYER, "reconstruct", keep_error=False)


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2", "gemma2"])
@pytest.mark.parametrize("model", [0, 1])
def test_every_change_equals_a_forward_pass_with_hooks_on_both_models(pair, family, model):
    models, dictionary = pair(family), made()
    encoded = encode(models[model], TOKENS, layers=[LAYER])
    changes = {which: intervention(which, model, dictionary) for which in CHANGES} | {
        "reconstruct": reconstruction(model, dictionary)
    }
    positions = [5, 6, 17]
    ours = encoded.logits([one.edit(positions, models[1 - model]) for one in changes.values()], range(len(TOKENS)))
    for which, logits in zip(changes, ours, strict=True):
        theirs = reference_logits(models, model, TOKENS, which, dictionary, positions)
        assert (logits - theirs).abs().max() < 1e-5, which
        assert torch.equal(logits[:5], encoded.base_logits(range(5)))  # before the first changed position nothing moves
        assert (logits[5:] - encoded.base_logits(range(5, len(TOKENS)))).abs().max() > 1e-3, which


@pytest.mark.parametrize("kind", ["l1", "topk", "batchtopk"])
def test_reconstruct_puts_the_reconstruction_in_place_of_what_was_read(pair, kind):
    models, dictionary = pair("llama"), made(kind)
    encoded, rebuilt = (
        encode(models[0], TOKENS, layers=[LAYER]),
        dictionary.decode(dictionary.encode(recorded(models)))[:, 0],
    )
    put = addition(LAYER, range(1, 24), (rebuilt - encoded.residual(LAYER))[1:])
    ours, theirs = encoded.logits([reconstruction(0, dictionary).everywhere(24, models[1]), put], range(24))
    assert torch.allclose(ours, theirs, atol=1e-4)
    assert torch.equal(ours[0], encoded.base_logits([0])[0])  # the first token is left as it is


@pytest.mark.parametrize(
    "nothing",
    [
        {"which": "scale", "factor": 1.0},
        {"which": "steer", "beta": 0.0},
        {"which": "zero", "features": (NEVER,)},
        {"which": "scale", "factor": 9.0, "features": (NEVER,)},
    ],
    ids=str,
)
@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_what_changes_no_code_changes_nothing_bit_for_bit(pair, family, nothing):
    models, edit = pair(family), intervention(**nothing).everywhere(len(TOKENS), pair(family)[0])
    encoded = encode(models[1], TOKENS, layers=[LAYER])
    assert not encoded.edited([edit], range(len(TOKENS))).moved.any()
    written = drawn(models, 1, {"plain": [], "edited": [edit]}, n=2)
    assert [written["plain", k] for k in range(2)] == [written["edited", k] for k in range(2)]


def test_two_equal_models_patch_nothing_and_different_ones_do(pair):
    base, tuned = pair("qwen2")
    alike = made(scale=torch.ones(2))
    encoded = encode(base, TOKENS, layers=[LAYER])
    same, other = (intervention("patch", 0, alike).everywhere(len(TOKENS), partner) for partner in (base, tuned))
    assert encoded.edited([same, other], range(len(TOKENS))).moved.any(1).tolist() == [False, True]


def test_the_partners_codes_are_encoded_with_its_scaled_activation_in_both_places(pair):
    dictionary, activations = made(), recorded(pair("qwen2"))
    found = intervention("patch", 0, dictionary).partner_codes(activations)
    theirs = dictionary.scaled(activations)[:, 1]
    before = theirs @ dictionary.encoder.sum(0) + dictionary.encoder_bias
    torch.testing.assert_close(found, before * (before > 0.5))
    assert (found > 0).any()


def test_a_sparse_autoencoder_needs_no_partner(pair):
    dictionary, encoded = made("topk", n_models=1), encode(pair("gpt2")[1], TOKENS, layers=[LAYER])
    features = tuple(range(N_FEATURES // 2))
    ours = encoded.logits([intervention("zero", 0, dictionary, features).edit([9])], [23])[0]
    codes = dictionary.encode(encoded.residual(LAYER)[9:10, None])
    gone = -(codes[:, list(features)] @ dictionary.decoder[0][list(features)]) / dictionary.scale[0]
    assert torch.allclose(ours, encoded.logits([addition(LAYER, [9], gone)], [23])[0], atol=1e-5)


def test_a_row_is_the_same_bit_for_bit_however_many_there_are(pair):
    activations = torch.cat([recorded(pair("llama"), TOKENS[k:] + TOKENS[:k]) for k in range(3)])
    h, other = activations[:, 1], activations[:, 0]
    for which in CHANGES:
        change = intervention(which).change
        whole = change(h, other)
        order = torch.randperm(len(h), generator=torch.Generator().manual_seed(0))
        for some in (order[:1], order[:7], order[:33], order):
            assert torch.equal(change(h[some], other[some]), whole[some]), which


# Generating


def drawn(models, model, edits, n, rows=16, tokens=TOKENS, order=None):
    """(arm, number) -> sampled tokens; sample k draws with seed k in every arm."""
    requests = [SampleRequest(f"{arm} {k}", arm, len(tokens), k) for arm in edits for k in range(n)]
    random.Random(order).shuffle(requests) if order is not None else None
    found = sample(models[model], dict.fromkeys(edits, tokens), requests, PARAMETERS, edits=edits, rows=rows)
    return {(one.request_id.split()[0], int(one.request_id.split()[1])): one.token_ids for one in found}


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2", "gemma2"])
def test_sampling_under_an_intervention_equals_a_loop_of_forward_passes(pair, family, monkeypatch):
    monkeypatch.setattr(sampling.shared, "PAGE", 8)
    models, dictionary, model = pair(family), made(), 1
    arms = {
        "zero": intervention("zero", model, dictionary),
        "patch": intervention("patch", model, dictionary),
        "reconstruct": reconstruction(model, dictionary),
    }
    found = drawn(
        models,
        model,
        {arm: [one.everywhere(len(TOKENS), models[0])] for arm, one in arms.items()} | {"plain": []},
        n=2,
        rows=5,
    )
    ends = sampling.end_tokens(models[model])
    for arm in arms:
        for k in range(2):
            written = found[arm, k]
            text = [*TOKENS, *written]
            logits = reference_logits(models, model, text, arm, dictionary, range(1, len(text)))[len(TOKENS) - 1 :]
            likely = next_tokens(logits, [uniform(k, step) for step in range(len(logits))], PARAMETERS)
            assert likely[:-1] == list(written), (arm, k)
            assert len(written) == PARAMETERS.max_new_tokens or likely[-1] in ends
    assert len({found[arm, 0] for arm in (*arms, "plain")}) == 4


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_samples_do_not_depend_on_what_is_sampled_beside_them(pair, family):
    models = pair(family)
    edits = {
        which: [intervention(which).everywhere(len(TOKENS), models[0])] for which in ("zero", "patch", "steer")
    } | {"plain": []}
    reference = drawn(models, 1, edits, n=3, rows=12)
    assert drawn(models, 1, edits, n=3, rows=5, order=1) == reference
    alone = drawn(models, 1, {"patch": edits["patch"]}, n=2)
    assert alone == {key: reference[key] for key in alone}
    assert drawn(models, 1, {"plain": []}, n=3) == {
        key: tokens for key, tokens in reference.items() if key[0] == "plain"
    }


def test_streamed_distributions_are_those_of_forward_passes(pair):
    from backend.models.streaming import Arm, stream

    models, dictionary = pair("llama"), made()
    edit = intervention("patch", 0, dictionary).everywhere(len(TOKENS), models[1])
    written = list(TOKENS)
    for step in stream(models[0], Arm(TOKENS), Arm(TOKENS, (edit,)), SamplingParameters(1.0, 1.0, 5), seed=3):
        changed = (
            reference_logits(models, 0, written, "patch", dictionary, range(1, len(written)))[-1].double().softmax(-1)
        )
        for token, _, probability in step.changed.top if step.changed else ():
            assert probability == pytest.approx(float(changed[token]), abs=1e-4)
        if step.changed is None:
            break
        written.append(step.changed.token_id)
    assert len(written) > len(TOKENS)


# Models of unequal width

NARROW = 40  # of the base model; the distilled one has D_MODEL


def unequal(kind="batchtopk") -> Dictionary:
    whole = made(kind)
    encoder, decoder, bias = whole.encoder.clone(), whole.decoder.clone(), whole.decoder_bias.clone()
    encoder[0, NARROW:], decoder[0, :, NARROW:], bias[0, NARROW:] = 0, 0, 0
    return replace(whole, encoder=encoder, decoder=decoder, decoder_bias=bias, widths=(NARROW, D_MODEL))


@pytest.mark.parametrize("model", [0, 1])
@pytest.mark.parametrize("which", [which for which in CHANGES if which != "patch"])
def test_each_of_two_unequal_models_is_changed_in_its_own_width(which, model):
    dictionary, rng = unequal(), np.random.default_rng(1)
    a = rng.normal(size=(18, 2, D_MODEL)) * 3
    a[:, 0, NARROW:] = 0
    streams = [torch.tensor(a[:, 0, :NARROW]).float(), torch.tensor(a[:, 1]).float()]
    change = intervention(which, model, dictionary)
    found = change.changed(streams[model], streams[1 - model] if change.needs_partner else None)
    expected = np.array([by_hand(which, dictionary, model, token) for token in a])[:, : (NARROW, D_MODEL)[model]]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)


def test_nothing_is_patched_across_unequal_widths():
    with pytest.raises(InterventionError, match=r"their widths are 40 and 64\. Use zero, scale or steer"):
        intervention("patch", 1, unequal())


def test_a_linear_code_is_zeroed_and_scaled_whatever_its_sign():
    linear = made("linear", threshold=torch.tensor(0.5))
    a = torch.tensor(np.random.default_rng(2).normal(size=(9, 2, D_MODEL))).float()
    codes = linear.encode(a)[:, list(FEATURES)]
    assert (codes < 0).any() and (codes > 0).any()
    rows = linear.raw_rows(1)[list(FEATURES)]
    for which, factor in (("zero", 0.0), ("scale", 1.5)):
        found = intervention(which, 1, linear).changed(a[:, 1], a[:, 0])
        torch.testing.assert_close(found, a[:, 1] + (factor - 1) * codes @ rows, atol=1e-4, rtol=1e-4)


# What cannot be done


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"features": (3, N_FEATURES)}, "Feature 40 does not exist: the dictionary has features 0 to 39"),
        ({"features": (-1,)}, "Feature -1"),
        ({"features": ()}, "one or more"),
        ({"features": (3, 3)}, "different"),
        ({"model": 2}, "Model 2"),
        ({"operation": "erase"}, "zero, scale, steer"),
        ({"factor": 2.0}, "only scale"),
        ({"beta": 2.0}, "only steer"),
        ({"which": "scale", "factor": math.nan}, "finite number"),
        ({"which": "scale", "factor": None}, "finite number"),
        ({"dictionary": made(facts={"layer": 3})}, "layer is 1; expected 3"),
        ({"which": "patch", "model": 0, "dictionary": made(n_models=1)}, "of one"),
        ({"operation": "reconstruct"}, "expected none"),
        ({"operation": "reconstruct", "features": ()}, "keep_error=False"),
    ],
)
def test_a_contradiction_is_refused_with_what_was_found_and_expected(wrong, said):
    with pytest.raises(InterventionError, match=said):
        intervention(**wrong)


def test_an_intervention_that_does_not_fit_the_models_raises_where_it_is_made(pair):
    models = pair("llama")
    encoded = encode(models[1], TOKENS)
    with pytest.raises(InterventionError, match="pass the other model"):
        intervention().edit([4])
    with pytest.raises(InterventionError, match="1 tokens; expected 2 or more"):
        intervention().everywhere(1, models[0])
    narrow = made(
        encoder=torch.randn(2, 48, N_FEATURES), decoder=torch.randn(2, N_FEATURES, 48), decoder_bias=torch.zeros(2, 48)
    )
    for which in ("zero", "steer"):
        edit = intervention(which, dictionary=narrow).everywhere(len(TOKENS), models[0])
        with pytest.raises(InterventionError, match="64 values; expected the dictionary's 48"):
            encoded.logits([edit], [20])
        with pytest.raises(InterventionError, match="64 values; expected the dictionary's 48"):
            drawn(models, 1, {"edited": [edit]}, n=1)
    deep = replace(intervention(), layer=4).everywhere(len(TOKENS), models[0])
    with pytest.raises(AnchorscopeError, match="Layer 4 was not kept"):
        encoded.logits([deep], [20])
    with pytest.raises(AnchorscopeError, match="layers 0 to 3"):
        drawn(models, 1, {"edited": [deep]}, n=1)


# Accuracy runs

PROMPTS = {"p1": "What is 12 + 30?", "p2": "We need the cost of 3 apples."}


def run(models, arms, done=(), rows=16, n=3, **other):
    units = accuracy_run(
        models, 1, PROMPTS, arms, SamplingParameters(2.0, 1.0, 10), n=n, seed=5, done=done, rows=rows, **other
    )
    return {(unit.problem_id, unit.arm): unit.samples for unit in units}


def test_an_accuracy_run_goes_on_unit_by_unit_with_the_same_random_numbers_in_every_arm(pair):
    models = pair("qwen2")
    sets = [tuple(k + shift for k in FEATURES) for shift in (1, 2)]
    arms = {"base": (), "changed": (intervention(),), "reconstruct": (reconstruction(1, made()),)}
    arms["random"] = tuple(intervention(features=some) for some in sets)
    arms["unchanged"] = (intervention("scale", factor=1.0),)
    whole = run(models, arms)
    assert set(whole) == {(problem, arm) for problem in PROMPTS for arm in arms} and all(
        len(unit) == 3 for unit in whole.values()
    )
    for problem in PROMPTS:
        texts = {arm: [one["text"] for one in whole[problem, arm]] for arm in arms}
        assert texts["unchanged"] == texts["base"] and len({tuple(own) for own in texts.values()}) == 4
        assert len({tuple(one["seed"] for one in whole[problem, arm]) for arm in arms}) == 1
        turns = [sets.index(tuple(one["features"])) for one in whole[problem, "random"]]
        assert turns in ([0, 1, 0], [1, 0, 1])  # in turn
    done = [("p1", "changed"), ("p2", "base"), ("p2", "random")]
    assert run(models, arms, done, rows=4) == {unit: samples for unit, samples in whole.items() if unit not in done}
    steps = iter(range(6))
    assert run(models, arms, should_stop=lambda: next(steps, None) is None) == {}
    with pytest.raises(InterventionError, match="changes model 0, but model 1"):
        run(models, {"changed": (intervention(model=0),)})
