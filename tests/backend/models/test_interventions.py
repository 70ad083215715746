"""Every operation keeps its law, in every place, and equals a plain forward pass with a hook."""

import pickle

import numpy as np
import pytest
import torch

from backend.models.edits import EditError, encode
from backend.models.interventions import OPERATIONS, PLACES, UNITS, Gate, Intervention, InterventionError, changed
from backend.models.layers import layers_of, residual_of, with_residual

TOKENS = torch.randint(3, 384, (36,), generator=torch.Generator().manual_seed(2)).tolist()
SPAN, N_PROMPT = (24, 31), 9


def unit(seed: int, d_model: int = 64) -> np.ndarray:
    vector = np.random.default_rng(seed).standard_normal(d_model)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def made(
    operation: str, beta: float, *, unit_name: str = "rms", place: str = "anchor", layers=(1,), gate=None
) -> Intervention:
    return Intervention(layers, place, operation, unit(1), beta, unit_name, gate)


def streams(n: int = 40) -> torch.Tensor:
    return 5 * torch.randn(n, 64, generator=torch.Generator().manual_seed(3))


def component(h: torch.Tensor) -> torch.Tensor:
    return h.double() @ torch.from_numpy(unit(1)).double()


SIZES = {
    "rms": lambda h: h.double().square().mean(-1).sqrt(),
    "norm": lambda h: h.double().norm(dim=-1),
    "absolute": lambda h: torch.ones(len(h)),
}


@pytest.mark.parametrize("unit_name", UNITS)
def test_adding_moves_each_position_by_beta_sizes_along_the_vector(unit_name):
    h = streams()
    step = changed(h, intervention=made("add", -2.5, unit_name=unit_name)).double() - h.double()
    assert torch.allclose(step.norm(dim=-1), 2.5 * SIZES[unit_name](h).double(), rtol=1e-5)
    assert torch.allclose(component(step), -step.norm(dim=-1), rtol=1e-5)


@pytest.mark.parametrize("unit_name", UNITS)
def test_replacing_sets_the_component_and_leaves_the_rest(unit_name):
    h = streams()
    new = changed(h, intervention=made("replace", 1.5, unit_name=unit_name))
    assert torch.allclose(component(new), 1.5 * SIZES[unit_name](h).double(), atol=1e-5)
    rest = new.double() - h.double()
    assert torch.allclose(rest.norm(dim=-1), component(rest).abs(), atol=1e-5)


def test_removing_leaves_no_component_and_doing_it_twice_changes_little():
    new = changed(streams(), intervention=made("ablate", 0.0))
    assert component(new).abs().max() < 1e-5
    assert torch.allclose(changed(new, intervention=made("ablate", 0.0)), new, atol=1e-6)


def test_a_cap_lowers_what_is_above_it_and_touches_nothing_else():
    h = streams()
    limit = 0.5 * SIZES["rms"](h)
    new = changed(h, intervention=made("cap", 0.5))
    below = component(h) <= limit
    assert below.any() and (~below).any()
    assert torch.equal(new[below], h[below])
    assert torch.allclose(component(new)[~below], limit[~below], atol=1e-5)


def test_rotating_keeps_the_norm_and_turns_towards_the_vector():
    h = streams()
    new = changed(h, intervention=made("rotate", 3.0))
    assert torch.allclose(new.double().norm(dim=-1), h.double().norm(dim=-1), rtol=1e-6)
    assert (component(new) > component(h)).all()
    far = changed(h, intervention=made("rotate", 1e9))
    assert torch.allclose(component(far), h.double().norm(dim=-1), rtol=1e-5)


@pytest.mark.parametrize("operation", ["add", "rotate"])
@pytest.mark.parametrize("unit_name", UNITS)
def test_beta_zero_changes_nothing_bit_for_bit(operation, unit_name):
    h = streams()
    assert torch.equal(changed(h, intervention=made(operation, 0.0, unit_name=unit_name)), h)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_shut_gate_leaves_its_positions_bit_for_bit(operation):
    h, probe = streams(), unit(9)
    gate = Gate(probe, 0.5, "it leans to the probe")
    is_open = h.double() @ torch.from_numpy(probe).double() > 0.5
    new = changed(h, intervention=made(operation, -2.0, gate=gate))
    assert is_open.any() and torch.equal(new[~is_open], h[~is_open])
    assert torch.equal(new[is_open], changed(h, intervention=made(operation, -2.0))[is_open])


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_row_is_treated_by_itself(operation):
    h = streams()
    whole = changed(h, intervention=made(operation, 2.0))
    assert torch.allclose(
        torch.cat([changed(row[None], intervention=made(operation, 2.0)) for row in h]), whole, atol=1e-6
    )


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma2", "gpt2"])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_intervention_equals_a_forward_pass_with_hooks_and_moves_nothing_before(tiny, family, place, operation):
    loaded = tiny(family)
    intervention = made(operation, 3.0, place=place, layers=(1, 2))
    positions = {
        "anchor": [23],
        "chunk": list(range(23, 30)),
        "onward": list(range(23, 36)),
        "prompt": list(range(1, 9)),
    }[place]

    def hook(_block, _inputs, output):
        h = residual_of(output).clone()
        h[0, positions] = changed(h[0, positions], intervention=intervention)
        return with_residual(output, h)

    handles = [layers_of(loaded.model).blocks[layer].register_forward_hook(hook) for layer in (1, 2)]
    try:
        with torch.inference_mode():
            expected = loaded.model(torch.tensor([TOKENS])).logits[0]
    finally:
        for handle in handles:
            handle.remove()
    encoded = encode(loaded, TOKENS)
    everywhere = range(len(TOKENS))
    found = encoded.logits([intervention.edits(SPAN, n_prompt=N_PROMPT)], everywhere)[0]
    assert (found - expected).abs().max() < 1e-5
    assert torch.equal(found[: positions[0]], encoded.base_logits(everywhere)[: positions[0]])


def test_an_intervention_survives_the_way_to_another_process():
    sent = made("add", 2.0, gate=Gate(unit(3), 0.1, "x"))
    received = pickle.loads(pickle.dumps(sent))
    assert torch.equal(changed(streams(), intervention=received), changed(streams(), intervention=sent))


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ({"beta": float("nan")}, "β is nan"),
        ({"beta": float("inf")}, "β is inf"),
        ({"place": "nowhere"}, "anchor, chunk"),
        ({"operation": "x"}, "add, replace"),
        ({"unit": "x"}, "rms, norm"),
        ({"layers": ()}, "one or more"),
        ({"layers": (-1,)}, "from 0 on"),
        ({"vector": 2 * unit(1)}, "of length 2"),
        ({"vector": np.full(64, np.nan, np.float32)}, "length nan"),
        ({"vector": np.ones((2, 2), np.float32)}, "shape"),
    ],
)
def test_what_makes_no_sense_is_refused_at_birth(broken, words):
    with pytest.raises(InterventionError, match=words):
        Intervention(
            **({"layers": (1,), "place": "anchor", "operation": "add", "vector": unit(1), "beta": 1.0} | broken)
        )


def test_positions_that_do_not_exist_are_refused(tiny):
    with pytest.raises(InterventionError, match="no tokens of its own"):
        made("add", 1.0, place="chunk").edits((5, 5), n_prompt=2)
    with pytest.raises(InterventionError, match="no token before"):
        made("add", 1.0).edits((0, 4), n_prompt=0)
    with pytest.raises(InterventionError, match="none after the first"):
        made("add", 1.0, place="prompt").edits((5, 9), n_prompt=1)
    encoded = encode(tiny("llama"), TOKENS)
    narrow = Intervention((1,), "anchor", "add", unit(1, 32), 1.0)
    with pytest.raises(InterventionError, match="32 values, but the residual stream has 64"):
        encoded.logits([narrow.edits(SPAN, n_prompt=N_PROMPT)], [30])
    with pytest.raises(EditError, match="Layer 9"):
        encoded.logits([made("add", 1.0, layers=(9,)).edits(SPAN, n_prompt=N_PROMPT)], [30])
