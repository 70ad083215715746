"""Every edit equals a plain forward pass of the whole text with a hook, in every family, and leaves nothing behind."""

import copy
import threading
from types import SimpleNamespace

import pytest
import torch

from backend.models.edits import Edit, EditError, addition, encode
from backend.models.families import QUICK
from backend.models.layers import layers_of, residual_of, with_residual
from backend.models.residuals import record_residuals
from tests.conftest import FAMILIES
from tests.hooks import hooks_on

TOKENS = torch.randint(
    0, 384, (40,), generator=torch.Generator().manual_seed(0)
).tolist()  # longer than gemma's window of 16
LATE = list(range(25, 40))


def vector(seed: int, d_model: int = 64) -> torch.Tensor:
    return torch.randn(d_model, generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def hooked_logits(model, edits):
    """The independent reference: the model's own forward pass of the whole text, with one hook for each edit."""

    def hook(edit):
        def replace(_block, _inputs, output):
            h = residual_of(output).clone()
            h[0, list(edit.positions)] = edit.change(h[0, list(edit.positions)])
            return with_residual(output, h)

        return layers_of(model).blocks[edit.layer].register_forward_hook(replace)

    handles = [hook(edit) for edit in edits]
    try:
        return model(torch.tensor([TOKENS])).logits[0]
    finally:
        for handle in handles:
            handle.remove()


@torch.inference_mode()
def own_logits(model):
    return model(torch.tensor([TOKENS])).logits[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_an_edit_equals_a_forward_pass_with_a_hook(tiny, family):
    loaded = tiny(family)
    encoded = encode(loaded, TOKENS)
    assert encoded.is_shared_prefix == (family in QUICK)
    edits = [
        addition(1, [24], vector(1)),
        addition(0, [30], 3 * vector(2)),  # another layer, another position, the same batch
        addition(2, range(24, 39), vector(3)),
        addition(1, [26, 24], torch.stack([vector(4), vector(5)])),  # one vector for each position, in the order given
        Edit(3, (27,), torch.zeros_like),  # the last block: only the final norm lies above
        Edit(1, (33, 35), lambda h: h.flip(0)),  # the two positions exchange their residual streams
        addition(1, [0], vector(6)),  # no prefix at all
    ]
    logits = encoded.logits(edits, LATE)
    for edit, ours in zip(edits, logits, strict=True):
        assert (ours - hooked_logits(loaded.model, [edit])[LATE]).abs().max() < 1e-5


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_edits_made_together_equal_hooks_made_together(tiny, family):
    loaded = tiny(family)
    groups = [(addition(0, [25], vector(1)), addition(2, [20, 28], vector(2))), (addition(3, [26], vector(3)),)]
    logits = encode(loaded, TOKENS).logits(groups, LATE)
    for group, ours in zip(groups, logits, strict=True):
        assert (ours - hooked_logits(loaded.model, group)[LATE]).abs().max() < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_no_change_gives_the_models_own_logits_bit_for_bit(tiny, family):
    loaded = tiny(family)
    encoded = encode(loaded, TOKENS)
    everything = range(len(TOKENS))
    own = own_logits(loaded.model)
    assert torch.equal(encoded.base_logits(everything), own)
    changed, beta_zero, nothing = encoded.logits(
        [addition(1, [24], vector(1)), addition(1, [24], 0 * vector(1)), ()], everything
    )
    assert torch.equal(beta_zero, own) and torch.equal(nothing, own)
    assert not torch.equal(changed[24:], own[24:])


@pytest.mark.parametrize("family", FAMILIES)
def test_positions_before_the_edit_do_not_move(tiny, family):
    loaded = tiny(family)
    edits = [addition(1, [20], vector(1)), addition(1, [30], vector(1))]
    encoded = encode(loaded, TOKENS)
    early, late = encoded.logits(edits, range(len(TOKENS)))
    own = own_logits(loaded.model)
    assert torch.equal(early[:20], own[:20]) and torch.equal(late[:30], own[:30])
    assert (early[20:] != own[20:]).any(-1).all() and (late[30:] != own[30:]).any(-1).all()
    assert encoded.edited(edits, [19, 20, 30]).moved.tolist() == [[False, True, True], [False, False, True]]


@pytest.mark.parametrize("family", ["llama", "gpt_neox", "gemma3"])
def test_a_result_does_not_depend_on_its_batch(tiny, family):
    encoded = encode(tiny(family), TOKENS)
    edits = [addition(1, [24], beta * vector(1)) for beta in (-2, -1, 1, 2, 3)]
    together = encoded.logits(edits, LATE)
    alone = torch.cat([encoded.logits([edit], LATE) for edit in edits])
    assert (together - alone).abs().max() < 1e-5


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_an_edit_beside_another_model_is_given_what_that_model_reads_there(tiny, family):
    loaded, other = tiny(family), tiny("qwen2")
    encoded, read = encode(loaded, TOKENS), record_residuals(other, TOKENS, [1, 2])
    add = [lambda h, theirs: h + theirs, lambda h, theirs: h - theirs]
    edits = [Edit(1, (30, 24), add[0], beside=other), Edit(2, (26,), add[1], onward=True, beside=other)]
    alike = [addition(1, [30, 24], read[1][[30, 24]]), addition(2, range(26, 40), -read[2][26:])]
    assert torch.allclose(
        encoded.logits([*edits, tuple(edits)], LATE), encoded.logits([*alike, tuple(alike)], LATE), atol=1e-5
    )
    nothing = Edit(1, (24,), lambda h, theirs: h + 0 * theirs, onward=True, beside=other)
    assert torch.equal(encoded.logits([nothing], range(40))[0], own_logits(loaded.model))
    assert encoded.beside(other, [1]) is encoded.beside(other, [2])  # read once
    with pytest.raises(EditError, match="Layer 4"):
        encoded.logits([Edit(4, (24,), add[0], beside=other)], LATE)


def test_in_float64_the_shared_prefix_is_exact_to_rounding(tiny):
    loaded = SimpleNamespace(model=copy.deepcopy(tiny("llama").model).double())
    edit = addition(1, [24], vector(1).double())
    ours = encode(loaded, TOKENS).logits([edit], LATE)[0]
    assert (ours - hooked_logits(loaded.model, [edit])[LATE]).abs().max() < 1e-12


@pytest.mark.parametrize("family", ["llama", "gemma2"])
@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (addition(1, [24], torch.ones(63)), "63 values"),
        (Edit(1, (24,), lambda h: h[:, :-1]), "returned"),
        (Edit(1, (24,), lambda h: None), "NoneType"),
        (addition(1, [24], torch.full((64,), torch.nan)), "NaN"),
        (addition(1, [24], torch.full((64,), torch.inf)), "NaN or infinite"),
        (addition(1, [40], torch.ones(64)), "tokens 0 to 39"),
        (addition(1, [-1], torch.ones(64)), "tokens 0 to 39"),
        (addition(1, [], torch.ones(64)), "one or more"),
        (addition(1, [24, 24], torch.ones(64)), "different"),
        (addition(4, [24], torch.ones(64)), "Layer 4"),
        (addition(-1, [24], torch.ones(64)), "Layer -1"),
    ],
)
def test_an_edit_that_cannot_be_made_raises(tiny, family, edit, said):
    encoded = encode(tiny(family), TOKENS)
    with pytest.raises(EditError, match=said):
        encoded.logits([edit], LATE)
    with pytest.raises(EditError, match=said):
        encoded.logits([addition(0, [30], vector(1)), edit], LATE)


@pytest.mark.parametrize("family", ["llama", "gpt_neox", "gemma2"])
def test_the_unedited_text_computed_again_differs_by_rounding_alone(tiny, family):
    encoded = encode(tiny(family), TOKENS)
    for layer in range(4):
        again = encoded.recomputed(layer, LATE)
        assert (again - encoded.normed[LATE]).abs().max() < 1e-5


def test_positions_asked_for_and_vectors_given_are_checked_too(tiny):
    encoded = encode(tiny("llama"), TOKENS, layers=[1])
    with pytest.raises(EditError, match="tokens 0 to 39"):
        encoded.logits([], [40])
    with pytest.raises(EditError, match="not kept"):
        encoded.logits([addition(2, [24], vector(1))], LATE)
    with pytest.raises(EditError, match="2 vectors were given for 1"):
        addition(1, [24], torch.ones(2, 64))


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_an_exception_inside_an_edit_leaves_the_model_as_it_was(tiny, family):
    loaded = tiny(family)
    before, attention = own_logits(loaded.model), loaded.model.config._attn_implementation
    hooks = hooks_on(loaded.model)  # transformers keeps some of its own
    encoded = encode(loaded, TOKENS)
    calls = []

    def fails_in_the_pass(h):
        calls.append(h)
        if len(calls) > 1:  # the first call is the check on the kept residual stream
            raise RuntimeError("interrupted")
        return h + 1

    with pytest.raises(RuntimeError, match="interrupted"):
        encoded.logits([Edit(1, (24,), fails_in_the_pass)], LATE)
    assert torch.equal(own_logits(loaded.model), before) and loaded.model.config._attn_implementation == attention
    assert hooks_on(loaded.model) == hooks
    healthy = addition(1, [24], vector(1))
    assert (encoded.logits([healthy], LATE)[0] - hooked_logits(loaded.model, [healthy])[LATE]).abs().max() < 1e-5


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_a_pass_of_the_shared_model_during_an_edit_is_not_contaminated(tiny, family):
    loaded = tiny(family)
    clean = own_logits(loaded.model)
    encoded = encode(loaded, TOKENS)
    seen = []

    def add_while_another_thread_reads(h):
        thread = threading.Thread(target=lambda: seen.append(own_logits(loaded.model)))
        thread.start()
        thread.join()
        return h + 10

    encoded.logits([Edit(1, (24,), add_while_another_thread_reads)], LATE)
    assert len(seen) == 2 and all(torch.equal(logits, clean) for logits in seen)


def test_a_model_with_a_sliding_window_takes_the_plain_way_beyond_it():
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=384,
        hidden_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=96,
        use_sliding_window=True,
        sliding_window=16,
        max_window_layers=1,
        initializer_range=0.2,
        pad_token_id=None,
        bos_token_id=None,
        eos_token_id=None,
    )
    loaded = SimpleNamespace(model=Qwen2ForCausalLM(config).eval())
    assert "sliding_attention" in config.layer_types
    assert encode(loaded, TOKENS[:16]).is_shared_prefix
    encoded = encode(loaded, TOKENS)
    assert not encoded.is_shared_prefix
    edit = addition(0, [22], vector(1))
    assert (encoded.logits([edit], LATE)[0] - hooked_logits(loaded.model, [edit])[LATE]).abs().max() < 1e-5


@torch.inference_mode()
def eager_attention(loaded, edits):
    """transformers' own weights (n_layers, n_heads, n_tokens, n_tokens) of a whole pass with hooks."""
    model = copy.deepcopy(loaded.model)
    model.set_attn_implementation("eager")

    def hook(edit):
        def replace(_block, _inputs, output):
            h = residual_of(output).clone()
            h[0, list(edit.positions)] = edit.change(h[0, list(edit.positions)])
            return with_residual(output, h)

        return layers_of(model).blocks[edit.layer].register_forward_hook(replace)

    for edit in edits:
        hook(edit)
    return torch.stack([layer[0] for layer in model(torch.tensor([TOKENS]), output_attentions=True).attentions])


@pytest.mark.parametrize("family", sorted(set(FAMILIES) & QUICK))
def test_attention_is_that_of_transformers_unsteered_and_steered(tiny, family, monkeypatch):
    loaded, keys, queries = tiny(family), (20, 26), (26, 40)
    monkeypatch.setattr("backend.models.attention._QUERIES", 5)
    none, steered = Edit(1, (19,), lambda h: h), addition(1, [25], 5 * vector(1))
    found = encode(loaded, TOKENS).attention([none, steered], layer=1, keys=keys, queries=queries)
    for row, edits in zip(found, ([], [steered]), strict=True):
        weights = eager_attention(loaded, edits)[2:, :, queries[0] :]
        torch.testing.assert_close(row, weights[..., slice(*keys)].sum(-1).mean((1, 2)), rtol=1e-4, atol=1e-6)
    assert (found[0] - found[1]).abs().max() > 1e-3


def test_attention_to_all_tokens_sums_to_one(tiny):
    edits = [Edit(0, (3,), lambda h: h), addition(0, [9], 9 * vector(2))]
    found = encode(tiny("llama"), TOKENS).attention(edits, layer=0, keys=(0, 40), queries=(10, 40))
    torch.testing.assert_close(found, torch.ones(2, 3))


def test_attention_is_refused_where_it_is_not_what_is_asked_for(tiny):
    none = Edit(1, (30,), lambda h: h)
    for family, queries in (("gemma2", (31, 40)), ("llama", (29, 40))):
        with pytest.raises(EditError, match="Attention from tokens"):
            encode(tiny(family), TOKENS).attention([none], layer=1, keys=(5, 9), queries=queries)


@pytest.mark.parametrize("family", FAMILIES)
def test_other_tokens_after_a_part_of_a_text_are_read_as_in_a_text_of_their_own(tiny, family):
    loaded, other = tiny(family), [7, 200, 31, 5]
    found = encode(loaded, TOKENS).continued(22, other, [0, 2])
    plain = record_residuals(loaded, [*TOKENS[:22], *other], [0, 2])
    for layer in (0, 2):
        torch.testing.assert_close(found[layer], plain[layer][22:], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_other_tokens_of_unequal_length_are_read_side_by_side_as_each_by_itself(tiny, family):
    loaded, rows = tiny(family), [[7, 200, 31, 5], [9], [200, 7, 7]]
    encoded = encode(loaded, TOKENS)
    found = encoded.branched(22, rows, [0, 2])
    for row, streams in zip(rows, found, strict=True):
        alone = encoded.continued(22, row, [0, 2])
        for layer in (0, 2):
            torch.testing.assert_close(streams[layer], alone[layer], rtol=1e-4, atol=1e-4)
