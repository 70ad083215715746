"""What is recorded of a run, against whole texts read at once and transformers' own attention."""

import pytest
import torch

from backend.latent.asked import batches
from backend.latent.loop import run
from backend.latent.question_parts import SPLITS
from backend.latent.recording import attention, attention_by_part, record, record_all
from backend.latent.tasks import PERMUTATIONS
from tests.latent_models import tiny_latent

K = 3


@pytest.fixture(scope="module")
def model():
    return tiny_latent()


@pytest.fixture(scope="module")
def problems():
    return PERMUTATIONS.problems(12, steps=[2], seed=1, held_out=False)


@pytest.fixture(scope="module")
def questions(model, problems):
    return next(iter(batches(model, problems)))[1]


def whole_text(model, questions, z):
    before = torch.tensor([model.before]).expand(len(questions), -1)
    embedded = model.model.get_input_embeddings()(torch.cat([questions, before], 1))
    return torch.cat([embedded, z], 1)


def test_streams_are_the_hidden_states_of_the_whole_text_read_at_once(model, questions):
    found = record(model, questions, K)
    whole = whole_text(model, questions, found.z)
    hidden = model.model.base_model(inputs_embeds=whole, output_hidden_states=True).hidden_states
    first = questions.shape[1] + len(model.before) - 1
    torch.testing.assert_close(found.streams[:, :, 0], hidden[1][:, first:], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.h, hidden[-1][:, first:])  # transformers' last one is normed
    assert found.first.tolist() == [first] * len(questions)


def test_the_last_stream_is_not_normed_and_its_norm_is_h(model, questions):
    found = record(model, questions, K)
    assert torch.equal(model.model.base_model.norm(found.streams[:, :, -1]), found.h)
    assert not torch.allclose(found.streams[:, :, -1], found.h)


def test_recording_is_the_loop_itself_and_leaves_no_hook(model, questions):
    hooks = [dict(module._forward_hooks) for module in model.model.modules()]
    found = record(model, questions, K)
    state = run(model, questions, K)
    assert torch.equal(found.h[:, -1], state.h)
    keys = torch.stack([layer.keys[:, :, -K - 1 :].transpose(1, 2) for layer in state.cache.layers], 2)
    assert torch.equal(found.keys, keys)
    assert hooks == [dict(module._forward_hooks) for module in model.model.modules()]


def test_problems_of_all_lengths_come_back_in_their_order(model, problems):
    together = record_all(model, problems, K)
    alone = [record_all(model, [problem], K) for problem in problems]
    assert len(set(together.first.tolist())) > 1
    torch.testing.assert_close(together.streams, torch.cat([one.streams for one in alone]), rtol=0.01, atol=0.01)
    torch.testing.assert_close(together.z, torch.cat([one.z for one in alone]), rtol=0.01, atol=0.01)


def test_a_model_without_latents_has_position_0_alone(problems):
    found = record_all(tiny_latent("none"), problems, 0)
    assert found.streams.shape[1] == 1 and found.z.shape[1] == 0


def test_attention_sums_to_1_and_is_that_of_transformers(model, questions):
    found = attention(model, questions, K)
    torch.testing.assert_close(found.sum(-1), torch.ones(found.shape[:-1]))
    z = record(model, questions, K).z
    model.model.set_attn_implementation("eager")
    try:
        answer = model.model.base_model(inputs_embeds=whole_text(model, questions, z), output_attentions=True)
    finally:
        model.model.set_attn_implementation("sdpa")
    torch.testing.assert_close(found, torch.stack([one[:, :, -K - 1 :] for one in answer.attentions], 1))


def test_parts_of_a_text_share_out_all_of_its_attention(model, problems):
    found = attention_by_part(model, problems, K)
    assert set(found) == set(SPLITS)
    for looked in found.values():
        torch.testing.assert_close(looked.share.sum(-1), torch.ones(looked.share.shape[:-1]))
        assert looked.share[..., 0, -K:].max() == 0  # position 0 sees no latent
        assert looked.parts[-K:] == ("1", "2", "3")


def test_the_attention_of_a_problem_among_others_is_its_own(model, problems):
    together, alone = (attention_by_part(model, some, K)["kind"] for some in (problems, problems[4:5]))
    torch.testing.assert_close(together.share[4], alone.share[0], rtol=0.01, atol=0.001)
