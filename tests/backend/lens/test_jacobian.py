"""The Jacobian lens is the published average of the model's own derivatives, and its named rows are rows of it."""

import copy
from dataclasses import replace

import pytest
import torch

from backend.lens import local
from backend.lens.jacobian import (
    FEWEST_TOKENS,
    MAX_TOKENS,
    NamedRows,
    PromptMean,
    cotangents_of,
    positions_of,
    prompt_rows,
)
from backend.lens.kinds import LensError
from backend.lens.lens import JacobianLens, Readout
from backend.lens.local import agreement
from backend.models.edits import encode
from backend.models.layers import layers_of, private_copy, residual_of, with_residual
from backend.models.pullbacks import Pullbacks
from backend.models.residuals import ResidualError, record_residuals
from tests.hooks import hooks_on

FAMILIES = ("llama", "qwen2", "qwen3", "gpt2", "gemma2")
TOKENS = torch.randint(3, 384, (24,), generator=torch.Generator().manual_seed(0)).tolist()
LAYERS = (0, 1, 2)
NAMED = (5, 77, 140, 300, 301)


@pytest.fixture(scope="module")
def uneven(tiny):
    """`uneven(family)`: the tiny model with gains (and biases) of its norms drawn, which are all alike in a new one."""
    made = {}

    def model(family):
        if family not in made:
            loaded = tiny(family)
            own, draw = copy.deepcopy(loaded.model), torch.Generator().manual_seed(2)
            for name, weight in own.named_parameters():
                if weight.ndim == 1 and ("norm" in name or "ln_" in name):
                    weight.data += 0.3 * torch.randn(weight.shape, generator=draw)
            made[family] = replace(loaded, model=own)
        return made[family]

    return model


def local_reading(loaded, token_ids, layer, *where, **more):
    return local.local_reading(loaded, encode(loaded, token_ids), layer, *where, **more)


def stream_at_the_end(model, layer, h, token_ids):
    """The last block's output of a plain pass in which the stream at `layer` is `h` (n_tokens, d)."""
    parts, seen = layers_of(private_copy(model)), []
    handles = [
        parts.blocks[layer].register_forward_hook(lambda _block, _inputs, output: with_residual(output, h[None])),
        parts.blocks[-1].register_forward_hook(lambda _block, _inputs, output: seen.append(residual_of(output)[0])),
    ]
    parts.trunk(input_ids=torch.tensor([token_ids]), use_cache=False)
    for handle in handles:
        handle.remove()
    return seen[0]


def plain_jacobian(model, layer, h, token_ids):
    """The published estimator, said plainly: the mean over sources p in 16 … T − 2 of Σ_{p' ≥ p} ∂h_last,p' / ∂h_p."""
    valid = range(16, len(token_ids) - 1)

    def targets(at):
        return stream_at_the_end(model, layer, torch.cat([h[:16], at, h[valid.stop :]]), token_ids)[16 : valid.stop]

    whole = torch.autograd.functional.jacobian(targets, h[16 : valid.stop].clone())
    n = len(valid)
    sums = [sum(whole[later, :, source, :] for later in range(n) if later >= source) for source in range(n)]
    return torch.stack(sums).mean(0)


def test_the_first_16_positions_and_the_last_take_no_part_and_128_tokens_are_read():
    assert positions_of(24) == range(16, 23)
    assert positions_of(18) == range(16, 17) and FEWEST_TOKENS == 18
    assert positions_of(500) == range(16, MAX_TOKENS - 1) and MAX_TOKENS == 128
    with pytest.raises(LensError, match="17 tokens is too short"):
        positions_of(17)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_matrices_are_those_of_autograd_with_the_published_sum_and_masks(uneven, family):
    loaded = uneven(family)
    text, hooks = TOKENS[:19], hooks_on(loaded.model)
    found = prompt_rows(Pullbacks(loaded), text, torch.eye(loaded.d_model), LAYERS)
    for layer in LAYERS if family == "llama" else [1]:
        h = record_residuals(loaded, text, [layer])[layer].clone()
        expected = plain_jacobian(loaded.model, layer, h, text)
        assert (found[layer] - expected).norm() < 1e-5 * expected.norm()
    assert hooks_on(loaded.model) == hooks


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_of_named_tokens_are_those_of_the_whole_matrix(uneven, family):
    loaded = uneven(family)
    pullbacks, named = Pullbacks(loaded), cotangents_of(loaded, NAMED)
    matrices = prompt_rows(pullbacks, TOKENS, torch.eye(loaded.d_model), LAYERS)
    rows = prompt_rows(pullbacks, TOKENS, named.vectors, LAYERS)
    expected = named.vectors @ matrices
    assert ((rows - expected).norm(dim=-1) < 1e-5 * expected.norm(dim=-1)).all()


def test_cotangents_do_not_depend_on_what_shares_their_pass(tiny, monkeypatch):
    pullbacks, drawn = Pullbacks(tiny("llama")), torch.randn((5, 64), generator=torch.Generator().manual_seed(1))
    together = prompt_rows(pullbacks, TOKENS, drawn, LAYERS)
    monkeypatch.setattr("backend.models.pullbacks._COTANGENTS", 2)
    assert (prompt_rows(pullbacks, TOKENS, drawn, LAYERS) - together).norm() < 1e-5 * together.norm()


def test_tokens_beyond_the_128th_change_nothing(tiny):
    pullbacks, drawn = Pullbacks(tiny("llama")), torch.randn((1, 64), generator=torch.Generator().manual_seed(1))
    long = (TOKENS * 7)[:140]
    assert torch.equal(
        prompt_rows(pullbacks, long, drawn, [2]), prompt_rows(pullbacks, [*long[:128], 9, 9], drawn, [2])
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_named_logits_have_the_sign_and_order_of_the_whole_readout(uneven, family):
    """And for a LayerNorm with a bias that holds once the bias that is named is added at the right size."""
    loaded = uneven(family)
    named, n = cotangents_of(loaded, NAMED), len(layers_of(loaded.model).blocks)
    matrices = prompt_rows(Pullbacks(loaded), TOKENS, torch.eye(loaded.d_model), LAYERS)
    lens = JacobianLens(n, dict(zip(LAYERS, matrices, strict=True)))
    rows = NamedRows(n, named, {layer: named.vectors @ matrices[layer] for layer in LAYERS})
    readout = Readout(loaded)
    streams = record_residuals(loaded, TOKENS, range(n))
    assert named.is_exact == (family != "gpt2")
    for layer, h in streams.items():
        carried = lens.carried(h, layer)
        whole = readout.logits(carried)[:, list(NAMED)]
        scores = rows.scores(h, layer)
        if named.is_exact:
            assert (scores.sign() == whole.sign()).all()
            assert torch.equal(scores.argsort(-1), whole.argsort(-1))
        else:
            size = carried.var(-1, correction=0, keepdim=True).add(1e-5).sqrt()
            torch.testing.assert_close(scores / size + named.constants, whole, rtol=1e-3, atol=1e-3)


def test_a_bias_after_the_norm_is_said_and_its_lack_too(uneven):
    assert "leave out" in cotangents_of(uneven("gpt2"), NAMED).words
    assert "exact" in cotangents_of(uneven("llama"), NAMED).words


def test_at_the_last_layer_the_lens_is_the_model_itself_bit_for_bit(uneven):
    """J = I there, and the last block's output is what it is carried to."""
    for family in FAMILIES:
        loaded = uneven(family)
        named = cotangents_of(loaded, NAMED)
        h = record_residuals(loaded, TOKENS, [3])[3]
        assert torch.equal(JacobianLens(4, {}).carried(h, 3), h)
        torch.testing.assert_close(NamedRows(4, named, {}).scores(h, 3), h @ named.vectors.T, rtol=0, atol=0)
        reading = local_reading(loaded, TOKENS, 3, range(20, 21))
        assert torch.equal(reading.carried, h[20])
        assert torch.equal(
            reading.log_probs, Readout(loaded).logits(h[20]).log_softmax(-1)
        )  # the model's own: test_lens
        with pytest.raises(ResidualError, match="below the last"):
            prompt_rows(Pullbacks(loaded), TOKENS, named.vectors, [3])


def test_the_mean_is_that_of_prompts_and_its_halves_are_every_second_one():
    draw = torch.randn((5, 2, 3, 4), generator=torch.Generator().manual_seed(0))
    mean = PromptMean()
    moved = [mean.add(one) for one in draw]
    torch.testing.assert_close(mean.mean, draw.mean(0))
    expected = torch.nn.functional.cosine_similarity(draw[::2].mean(0), draw[1::2].mean(0), dim=-1)
    torch.testing.assert_close(mean.cosine_of_halves.float(), expected)
    before, after = draw[:4].mean(0).flatten(1), draw.mean(0).flatten(1)
    assert moved[0] is None
    assert moved[-1] == pytest.approx(float(((after - before).norm(dim=1) / after.norm(dim=1)).mean()), rel=1e-5)
    again = PromptMean(mean.sums.clone(), mean.n)
    again.add(draw[0])
    torch.testing.assert_close(again.mean, torch.cat([draw, draw[:1]]).mean(0))
    assert PromptMean().cosine_of_halves is None


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("sources", [range(17, 18), range(15, 19)])
def test_the_local_product_is_the_central_difference_of_the_models_own_passes(uneven, family, sources):
    loaded = uneven(family)
    double = replace(loaded, model=copy.deepcopy(loaded.model).double())
    reading = local_reading(double, TOKENS, 1, sources, later=6)
    h = record_residuals(double, TOKENS, [1])[1].clone()
    step = torch.zeros_like(h)
    step[sources.start : sources.stop] = h[sources.start : sources.stop]
    with torch.no_grad():
        ends = [stream_at_the_end(double.model, 1, h + sign * 2e-3 * step, TOKENS) for sign in (1, -1)]
    moved = (ends[0] - ends[1]) / 4e-3
    assert reading.summed == range(sources.start, sources.start + 6)
    expected = moved[reading.summed.start : reading.summed.stop].sum(0) / len(sources)
    assert (reading.carried - expected).norm() < 1e-3 * expected.norm()  # norms compute in float32
    torch.testing.assert_close(reading.stream, h[sources.start : sources.stop].mean(0))


def test_the_average_over_one_place_is_that_place(uneven):
    """A text with a single position that takes part: the averaged and the local product are the same derivative."""
    loaded = uneven("llama")
    text = TOKENS[:18]
    (matrix,) = prompt_rows(Pullbacks(loaded), text, torch.eye(64), [1])
    named = cotangents_of(loaded, NAMED)
    reading = local_reading(loaded, text, 1, range(16, 17), later=1)
    lens, rows = JacobianLens(4, {1: matrix}), NamedRows(4, named, {1: named.vectors @ matrix})
    for average in (lens, rows):
        assert agreement(reading, average).cosine == pytest.approx(1, abs=1e-5)
        assert "misleads" not in agreement(reading, average).words
    assert agreement(reading, JacobianLens(4, {1: -matrix})).cosine == pytest.approx(-1, abs=1e-5)
    assert "misleads here" in agreement(reading, JacobianLens(4, {1: -matrix})).words
    few = NamedRows(4, cotangents_of(loaded, NAMED[:2]), {1: named.vectors[:2] @ matrix})
    assert agreement(reading, few).cosine is None and "not known" in agreement(reading, few).words


def test_places_that_do_not_exist_are_refused(tiny):
    with pytest.raises(LensError, match="layers 0 to 3"):
        local_reading(tiny("llama"), TOKENS, 4, range(1, 2))
    with pytest.raises(LensError, match="24 tokens"):
        local_reading(tiny("llama"), TOKENS, 1, range(20, 25))
    with pytest.raises(LensError, match="no token 384"):
        cotangents_of(tiny("llama"), [384])
    with pytest.raises(LensError, match="no rows for layer 2"):
        NamedRows(4, cotangents_of(tiny("llama"), NAMED), {}).scores(torch.zeros(64), 2)


def test_a_reading_says_what_is_summed(tiny):
    words = local_reading(tiny("llama"), TOKENS, 1, range(3, 5)).words
    assert words.startswith("Streams of positions 3 to 4 at layer 1; their effects on positions 3 to 23 are summed")
    assert "leave the first positions" in words
