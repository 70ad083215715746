import pytest
import torch

from backend.latent.fitted import Fitting, Lesson, _batches, _loss, fitted
from backend.latent.loop import branch
from backend.latent.rotary import rotation_of
from backend.latent.steering import SITES, Asked, Cell, steered_answers, steps, unsteered_answers
from backend.latent.vectors import Vector

QUESTIONS = [[1, 2, 3], [4, 5, 6], [7, 8, 9], [2, 2], [3, 9], [11, 12]]
TOKEN = 21  # what every answer is to be


@pytest.fixture(scope="module")
def lesson():
    return Lesson(tuple(map(tuple, QUESTIONS)), ((TOKEN,),) * len(QUESTIONS))


def like(tiny, space, *lengths):
    shape = SITES[space].read(next(steps(tiny, torch.tensor(QUESTIONS[:1]), 1)), rotation_of(tiny.model))
    ones = Vector(space, tuple(torch.ones(len(lengths), *part.shape[1:]) for part in shape))
    scale = [length / float(ones.length[0]) for length in lengths]
    return Vector(
        space, tuple(torch.stack([s * row for s, row in zip(scale, part, strict=True)]) for part in ones.parts)
    )


@pytest.mark.parametrize("space", ["z", "h", "kv"])
def test_a_fitted_vector_makes_the_answer_likelier_the_longer_it_may_be_and_keeps_its_bound(tiny, lesson, space):
    rotation, how = rotation_of(tiny.model), Fitting(steps=40, batch=4, rate=0.5)
    found = fitted(tiny, lesson, like(tiny, space, 0.5, 4.0), target=2, rotation=rotation, how=how)
    assert found.space == space and (found.length <= torch.tensor([0.5, 4.0]) * (1 + 1e-5)).all()
    batches = _batches(tiny, lesson, 2, how)

    def loss(vector):
        with torch.no_grad():
            return sum(float(_loss(tiny, batch, vector, rotation)) * len(batch.targets) for batch in batches)

    none = loss(found[[0]] * 0.0)
    assert loss(found[[1]]) < loss(found[[0]]) < none


def test_a_vector_that_can_do_it_makes_the_wanted_answer_be_given(tiny, lesson):
    """Values of a latent that may be as long as they need to be drown all others."""
    rotation, how = rotation_of(tiny.model), Fitting(steps=60, batch=6, rate=0.2)
    found = fitted(tiny, lesson, like(tiny, "v", 200.0), target=1, rotation=rotation, how=how)
    before = unsteered_answers(tiny, QUESTIONS, n_latents=1, max_tokens=1)[1]
    after = steered_answers(tiny, QUESTIONS, Asked("v", {1: found}, 1, 1), rotation)[Cell(0, 1, 1)]
    assert (TOKEN,) not in before and after == [(TOKEN,)] * len(QUESTIONS)


def test_the_loss_is_the_cross_entropy_of_the_steered_answer(tiny, lesson):
    """Against logits of the loop itself, which is run without gradients."""
    rotation, vector = rotation_of(tiny.model), like(tiny, "z", 1.5)
    (batch,) = _batches(tiny, Lesson(lesson.questions[:2], lesson.answers[:2]), 2, Fitting(batch=8))
    whole = []
    for question in QUESTIONS[:2]:
        *_, step = steps(tiny, torch.tensor([question]), 2)
        state = tiny.feed(branch(step.before), step.z + vector.parts[0])
        for fed, target in ((28, TOKEN), (TOKEN, tiny.end)):
            h = tiny.model.base_model(input_ids=torch.tensor([[fed]]), past_key_values=state.cache).last_hidden_state
            whole.append(torch.log_softmax(tiny.model.lm_head(h[0, -1])[: tiny.n_answer_tokens], -1)[target])
    with torch.no_grad():
        assert float(_loss(tiny, batch, vector, rotation)) == pytest.approx(-float(torch.stack(whole).mean()), rel=1e-4)
