from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy, smooth_l1_loss

from backend.latent import training
from backend.latent.kinds import SIBLINGS
from backend.latent.loop import run
from backend.latent.tasks import PERMUTATIONS
from tests.latent_models import tiny_latent

ANS = 102


@pytest.fixture(params=SIBLINGS)
def latent(request):
    made = tiny_latent(request.param)
    made.model.double()
    made = replace(
        made,
        projection=None if made.projection is None else made.projection.double(),
        thoughts=None if made.thoughts is None else made.thoughts.double(),
    )
    for weight in training.weights(made).values():
        weight.requires_grad_(True)
    return made


@pytest.fixture(scope="module")
def batch():
    problems = PERMUTATIONS.lesson(5, n_steps=3, seed=1, has_distractor=True)
    return training.batch_of(tiny_latent(), problems)


def states_of(latent, embeddings):
    """Every hidden state (n_layers + 1, n_tokens, d) of one text, read as a whole."""
    found = latent.model.base_model(inputs_embeds=embeddings[None], use_cache=False, output_hidden_states=True)
    return torch.stack(found.hidden_states)[:, 0]


def thinking_of(latent, question, n_latents):
    """Embeddings of the question, <bot> and the latents, everything read again for each latent."""
    embed = latent.model.get_input_embeddings().weight
    text = torch.cat([embed[question], embed[list(latent.before)]])
    for step in range(n_latents if latent.sibling != "none" else 0):
        h = states_of(latent, text)[-1, -1]
        z = latent.thoughts[step] if latent.sibling == "pause" else latent.projection(h)
        text = torch.cat([text, z[None]])
    return text


def plain(latent, batch, n_latents, gamma):
    """The loss, row by row and without a cache; transformers' norms round to float32 whatever they are given."""
    embed, teachers, students, mine, theirs = latent.model.get_input_embeddings().weight, [], [], [], []
    for question, results in zip(batch.questions, batch.results, strict=True):
        end = torch.tensor([ANS, results[-1], latent.end])
        text = torch.cat([question, torch.tensor(latent.before), results, end])
        states = states_of(latent, embed[text])
        predicted = states[-1, len(question) : -1] @ embed.T
        teachers.append(cross_entropy(predicted, text[len(question) + 1 :], reduction="none"))
        theirs.append(states[:, -3].detach())
        states = states_of(latent, torch.cat([thinking_of(latent, question, n_latents), embed[end]]))
        students.append(cross_entropy(states[-1, -3:-1] @ embed.T, end[1:], reduction="none"))
        mine.append(states[:, -3])
    of_layers = zip(torch.stack(mine, 1), torch.stack(theirs, 1), strict=True)
    distance = torch.stack([smooth_l1_loss(one, other) / other.std() for one, other in of_layers]).mean()
    return torch.stack(students).mean() + gamma * distance + torch.stack(teachers).mean()


@pytest.mark.parametrize("n_latents", [0, 1, 4])
def test_the_loss_and_its_gradient_are_those_of_rows_read_one_by_one_as_a_whole(latent, batch, n_latents):
    names, weights = zip(*training.weights(latent).items(), strict=True)
    if latent.sibling == "none":
        n_latents = 0
    loss = training.losses(latent, batch, n_latents).total(3.0)
    reference = plain(latent, batch, n_latents, 3.0)
    torch.testing.assert_close(loss, reference)
    found, expected = (torch.autograd.grad(one, weights, allow_unused=True) for one in (loss, reference))
    assert any(gradient is not None for gradient in found)
    for name, weight, one, other in zip(names, weights, found, expected, strict=True):
        one, other = (torch.zeros_like(weight) if gradient is None else gradient for gradient in (one, other))
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5, msg=lambda said, name=name: f"{name}: {said}")


def test_the_teacher_alone_has_the_teachers_loss(latent, batch):
    assert torch.equal(training.teacher_loss(latent, batch), training.losses(latent, batch, 0).teacher)


def test_a_student_is_drawn_to_its_teacher_and_not_the_other_way(latent, batch):
    distance = training.losses(latent, batch, 0).distance
    embed = latent.model.get_input_embeddings().weight
    words = set(batch.results[:, :-1].flatten().tolist()) - set(batch.questions.flatten().tolist())
    words -= set(batch.results[:, -1].tolist())
    assert words  # they stand in the teacher's text alone
    gradient = torch.autograd.grad(distance, embed)[0]
    assert not gradient[sorted(words)].any() and gradient[batch.questions[0]].any()


def test_the_student_that_learns_is_the_loop_that_runs(latent, batch):
    """The answer's logits of the loop and of the training agree."""
    n_latents = min(3, latent.n_latents)
    loss = training.losses(latent, batch, n_latents).student
    state = run(latent, batch.questions, n_latents)
    first = latent._forward(state.cache, input_ids=torch.full((5, 1), ANS))
    second = latent._forward(state.cache, input_ids=batch.results[:, -1:])
    logits = torch.stack([first, second], 1) @ latent.model.get_input_embeddings().weight.T
    targets = torch.stack([batch.results[:, -1], torch.full((5,), latent.end)], 1)
    torch.testing.assert_close(loss, cross_entropy(logits.flatten(0, 1), targets.flatten()))
