"""What is generated under edits equals, token by token, full forward passes with hooks; and nobody's edits touch
anybody else.
"""

import itertools
import threading

import pytest
import torch

from backend.errors import AnchorscopeError
from backend.models.edits import Edit, addition, encode
from backend.models.kl import kl_reference
from backend.models.layers import layers_of, residual_of, with_residual
from backend.models.sampling import SampleRequest, SamplingError, SamplingParameters, sample
from backend.models.streaming import Arm, stream
from tests.conftest import FAMILIES

TOKENS = tuple(torch.randint(3, 384, (30,), generator=torch.Generator().manual_seed(5)).tolist())
SAMPLED = SamplingParameters(temperature=0.8, top_p=0.95, max_new_tokens=12)
GREEDY = SamplingParameters(temperature=0, top_p=1, max_new_tokens=12)


def pushed(seed: int, layer: int, positions, *, onward: bool = False, size: float = 3.0) -> Edit:
    vector = size * torch.randn(64, generator=torch.Generator().manual_seed(seed))
    return Edit(layer, tuple(positions), lambda h: h + vector, onward)


EDITS = {
    "one token": lambda: (pushed(1, 1, [24]),),
    "the last token": lambda: (pushed(2, 1, [29]),),
    "several, onward": lambda: (pushed(3, 2, [20, 25], onward=True),),
    "two layers": lambda: (pushed(4, 0, [29], onward=True), pushed(5, 3, [10])),
    "beyond the text": lambda: (pushed(6, 1, [28, 31, 33]),),
}


@torch.inference_mode()
def reference_logits(model, tokens, edits):
    """Logits (n_tokens, vocab_size) after each token: one full forward pass with a hook for each edit."""

    def hook(edit):
        where = list(edit.positions_in(0, len(tokens)))

        def replace(_block, _inputs, output):
            h = residual_of(output).clone()
            h[0, where] = edit.change(h[0, where])
            return with_residual(output, h)

        return layers_of(model).blocks[edit.layer].register_forward_hook(replace)

    handles = [hook(edit) for edit in edits]
    try:
        return model(torch.tensor([list(tokens)])).logits[0]
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma2", "gpt2"])
@pytest.mark.parametrize("which", EDITS)
def test_every_streamed_distribution_equals_a_full_forward_pass_with_hooks(tiny, family, which):
    loaded, edits = tiny(family), EDITS[which]()
    written = {"base": [], "changed": []}
    for pair in itertools.islice(stream(loaded, Arm(TOKENS), Arm(TOKENS, edits), SAMPLED, seed=3), 8):
        for arm, drawn in (("base", pair.base), ("changed", pair.changed)):
            if drawn is None:
                continue
            written[arm].append(drawn)
    assert written["base"]
    for drawns in written.values():
        text = [*TOKENS, *(drawn.token_id for drawn in drawns)]
        base = reference_logits(loaded.model, text, ())[len(TOKENS) - 1 :]
        changed = reference_logits(loaded.model, text, edits)[len(TOKENS) - 1 :]
        kl = kl_reference(changed, base).tolist()
        for step, drawn in enumerate(drawns):
            p, q = base[step].double().softmax(-1), changed[step].double().softmax(-1)
            for token, in_base, in_changed in drawn.top:
                assert in_base == pytest.approx(float(p[token]), abs=1e-5)
                assert in_changed == pytest.approx(float(q[token]), abs=1e-5)
            assert drawn.kl == pytest.approx(kl[step], rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_change_that_changes_nothing_writes_the_same_with_kl_zero(tiny, family):
    nothing = (Edit(1, (20, 25), lambda h: h + 0 * h, onward=True), addition(2, [29], torch.zeros(64)))
    for pair in stream(tiny(family), Arm(TOKENS), Arm(TOKENS, nothing), SAMPLED, seed=8):
        if pair.base is None:
            assert pair.changed is None
            continue
        assert pair.base == pair.changed and pair.base.kl == 0


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2", "gpt_neox"])
def test_sampling_under_edits_takes_the_tokens_that_full_forward_passes_take(tiny, family):
    loaded = tiny(family)
    edits = {name: make() for name, make in EDITS.items()} | {"none": ()}
    requests = [SampleRequest(name, name, len(TOKENS), 1) for name in edits]
    for found in sample(loaded, dict.fromkeys(edits, TOKENS), requests, GREEDY, edits=edits):
        after = reference_logits(loaded.model, (*TOKENS, *found.token_ids), edits[found.request_id])[len(TOKENS) - 1 :]
        for logits, token in zip(after, found.token_ids, strict=False):
            assert logits[token] >= logits.max() - 1e-4  # the likeliest, or one that rounding cannot tell from it
        assert len(found.token_ids) == GREEDY.max_new_tokens or found.finish == "eos"


def test_an_arm_is_the_same_whatever_runs_beside_it(tiny):
    loaded = tiny("llama")
    one, other = EDITS["one token"](), EDITS["several, onward"]()
    alone = [pair.base for pair in stream(loaded, Arm(TOKENS), Arm(TOKENS, one), SAMPLED, seed=4)]
    beside = [pair.base for pair in stream(loaded, Arm(TOKENS), Arm(TOKENS, other), SAMPLED, seed=4)]
    assert [d and d.token_id for d in alone if d] == [d and d.token_id for d in beside if d]
    requests = [SampleRequest(f"{name} {n}", name, len(TOKENS), n) for name in ("plain", "edited") for n in range(3)]
    sequences = {"plain": TOKENS, "edited": TOKENS}
    together = {s.request_id: s for s in sample(loaded, sequences, requests, SAMPLED, edits={"edited": one})}
    apart = {s.request_id: s for r in requests for s in sample(loaded, sequences, [r], SAMPLED, edits={"edited": one})}
    assert together == apart


def test_an_encoding_at_hand_gives_the_same_continuation(tiny):
    loaded, edits = tiny("qwen2"), EDITS["one token"]()
    longer = encode(loaded, (*TOKENS, 7, 8, 9))
    fresh = list(stream(loaded, Arm(TOKENS), Arm(TOKENS, edits), SAMPLED, seed=2))
    held = list(stream(loaded, Arm(TOKENS, (), longer), Arm(TOKENS, edits, longer), SAMPLED, seed=2))
    assert [p.changed and p.changed.token_id for p in fresh] == [p.changed and p.changed.token_id for p in held]
    with pytest.raises(SamplingError, match="another text"):
        next(stream(loaded, Arm(TOKENS), Arm(tuple(reversed(TOKENS)), edits, longer), SAMPLED, seed=2))


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_two_texts_of_different_length_can_be_compared(tiny, family):
    pairs = list(stream(tiny(family), Arm(TOKENS), Arm(TOKENS[:20]), GREEDY, seed=0))
    own = reference_logits(tiny(family).model, TOKENS[:20], ())[-1]
    assert own[pairs[0].changed.token_id] == pytest.approx(float(own.max()), abs=1e-4)
    assert any(pair.changed and pair.changed.kl > 0 for pair in pairs)


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_an_edit_that_cannot_be_made_raises_while_generating(tiny, family):
    def breaks(h):
        return h * float("nan")

    bad = {
        "NaN": Edit(1, (29,), breaks, onward=True),
        "width": addition(1, [29], torch.ones(9)),
        "layer": pushed(1, 99, [29]),
    }
    for edit in bad.values():
        with pytest.raises(AnchorscopeError, match=r"NaN|values|Layer 99"):
            next(stream(tiny(family), Arm(TOKENS), Arm(TOKENS, (edit,)), SAMPLED, seed=1))


def test_a_text_too_long_for_the_model_is_refused(tiny):
    with pytest.raises(SamplingError, match="2048 positions"):
        next(stream(tiny("llama"), Arm(TOKENS * 68), Arm(TOKENS), SAMPLED, seed=1))


def test_hundreds_of_interleaved_forwards_are_never_contaminated(tiny):
    """Four threads generate under edits of their own while others read the text unedited: every result is the one had
    alone.
    """
    loaded = tiny("llama")
    arms = [Arm(TOKENS, EDITS[name]()) for name in ("one token", "several, onward", "two layers", "the last token")]
    alone = [
        [p.changed and (p.changed.token_id, p.changed.kl) for p in stream(loaded, Arm(TOKENS), arm, SAMPLED, seed=6)]
        for arm in arms
    ]
    own = encode(loaded, TOKENS).normed
    hooks = [len(module._forward_hooks) for module in loaded.model.modules()]
    forwards, wrong = itertools.count(), []

    def generate(k):
        for _ in range(4):
            found = [
                p.changed and (p.changed.token_id, p.changed.kl)
                for p in stream(loaded, Arm(TOKENS), arms[k], SAMPLED, seed=6)
            ]
            for _ in found:
                next(forwards)
            wrong.extend([k] if found != alone[k] else [])

    def read():
        for _ in range(75):
            next(forwards)
            wrong.extend(["read"] if not torch.equal(encode(loaded, TOKENS).normed, own) else [])

    threads = [threading.Thread(target=generate, args=(k,)) for k in range(4)] + [
        threading.Thread(target=read) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert next(forwards) >= 300 and wrong == []
    assert [len(module._forward_hooks) for module in loaded.model.modules()] == hooks
