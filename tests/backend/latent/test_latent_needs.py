from dataclasses import dataclass, replace

import pytest
import torch
from transformers import DynamicCache

from backend.latent.asked import question_ids
from backend.latent.loop import State, branch
from backend.latent.need_kinds import AFTER, KEPT, MEAN, PLACES, PLAIN, RECOMPUTED, SWAP, WHOLE, WITHOUT, ZERO, Z
from backend.latent.needs import Asked, answers, replaced, run_others, run_plainly
from backend.latent.problems import LatentProblem
from backend.latent.tasks import PERMUTATIONS
from tests.latent_models import tiny_latent

K = 4


@pytest.fixture(scope="module")
def model():
    return tiny_latent()


@pytest.fixture(scope="module")
def problems(model):
    """Of one length of question."""
    drawn = PERMUTATIONS.problems(40, steps=(3,), seed=1, held_out=True)
    return [problem for problem in drawn if not problem.has_distractor][:20]


def run_of(model, problems):
    return run_plainly(model, torch.tensor([question_ids(model, problem.question) for problem in problems]), K)


def test_latents_replaced_by_the_runs_own_give_the_run(model, problems):
    run = run_of(model, problems[:5])
    for place in PLACES:
        for after in AFTER:
            for steps in ({1, 2, 3, 4}, {2}, {1, 4}):
                state = replaced(model, run, run.latents, frozenset(steps), place=place, after=after)
                torch.testing.assert_close(state.h, run.state.h)
                for layer, own in zip(state.cache.layers, run.state.cache.layers, strict=True):
                    torch.testing.assert_close(layer.keys, own.keys)
                    torch.testing.assert_close(layer.values, own.values)
                assert model.answer(state, 3) == model.answer(run.state, 3)


def test_replacing_z_is_what_the_whole_text_gives_when_another_embedding_stands_in_it(model, problems):
    """Written out over whole texts, without a cache, with later latents recomputed or kept."""
    run, other = run_of(model, problems[:3]), run_of(model, problems[5:8])
    embed = model.model.get_input_embeddings()
    ids = torch.tensor([question_ids(model, problem.question) for problem in problems[:3]])
    begin = embed(torch.cat([ids, torch.tensor([model.before]).expand(3, -1)], 1))
    for after in AFTER:
        whole = begin
        for step in range(1, K + 1):
            h = model.model.base_model(inputs_embeds=whole).last_hidden_state[:, -1]
            made = run.latents.z[:, step - 1] if after == KEPT else model.projection(h)
            whole = torch.cat([whole, (other.latents.z[:, 1] if step == 2 else made)[:, None]], 1)
        h = model.model.base_model(inputs_embeds=whole).last_hidden_state[:, -1]
        state = replaced(model, run, other.latents, frozenset({2}), place=Z, after=after)
        torch.testing.assert_close(state.h, h, rtol=1e-4, atol=1e-5)


def test_a_whole_latent_of_another_run_stands_in_the_cache_and_the_next_one_is_made_of_its_state(model, problems):
    """The cache is put together from the two runs' own."""
    run, other = run_of(model, problems[:3]), run_of(model, problems[5:8])
    n = run.n_tokens
    cache = DynamicCache()
    for number, (own, theirs) in enumerate(zip(run.state.cache.layers, other.state.cache.layers, strict=True)):
        keys, values = (
            torch.cat([getattr(own, part)[:, :, : n + 1], getattr(theirs, part)[:, :, n + 1 : n + 2]], 2)
            for part in ("keys", "values")
        )
        cache.update(keys, values, number)
    expected = State(cache, other.latents.h[:, 1], 2)
    for _ in range(2):
        expected = model.feed(expected, model.next_z(expected))
    state = replaced(model, run, other.latents, frozenset({2}), place=WHOLE, after=RECOMPUTED)
    torch.testing.assert_close(state.h, expected.h)
    assert model.answer(state, 3) == model.answer(expected, 3)
    kept = replaced(model, run, other.latents, frozenset({2}), place=WHOLE, after=KEPT)
    for now, own, theirs in zip(kept.cache.layers, run.state.cache.layers, other.state.cache.layers, strict=True):
        assert torch.equal(now.keys[:, :, n + 1], theirs.keys[:, :, n + 1])
        for position in {*range(n + K)} - {n + 1}:
            assert torch.equal(now.values[:, :, position], own.values[:, :, position])


def test_each_problem_is_answered_alike_alone_and_among_others(model, problems):
    k = 2
    others = run_others(model, problems[8:], k, 3)
    asked = Asked(k, 3, after=tuple(AFTER))
    together = list(answers(model, problems[:3], others, asked))
    alone = [one for problem in problems[:3] for one in answers(model, [problem], others, asked)]
    assert sorted(map(repr, together)) == sorted(map(repr, alone))
    assert len(together) == 3 * (2 + 2 * 3 * 2 * (k + 1))


def test_where_no_question_is_as_long_the_answer_is_unknown_and_not_wrong(model, problems):
    longer = [problem for problem in PERMUTATIONS.problems(20, steps=(5,), seed=1, held_out=True)]
    others = run_others(model, longer, K, 3)
    found = list(answers(model, problems[:2], others, Asked(K, 3)))
    unknown = {(one.replacement, one.place) for one in found if not one.is_known}
    assert unknown == {(SWAP, Z), (SWAP, WHOLE), (MEAN, WHOLE)}
    assert all((one.answer, one.is_correct, one.is_donors) == (None,) * 3 for one in found if not one.is_known)


def test_a_model_that_was_trained_to_answer_at_once_does_so_in_its_own_way(model, problems):
    asked = Asked(0, 3)
    other_way = replace(model, direct=(7, 9))
    found = [one.answer for one in answers(other_way, problems, [], asked)]
    ids = [torch.tensor([[*question_ids(model, problem.question), 7]]) for problem in problems]
    expected = []
    for question in ids:
        whole = torch.cat([question, torch.tensor([[9]])], 1)
        logits = model.model(input_ids=whole).logits[0, -1, : model.n_answer_tokens]
        expected.append(int(logits.argmax()))
    assert [one for one in found if one is not None]
    for answer, first in zip(found, expected, strict=True):
        assert (answer is None) == (first == model.end) or answer is not None


@dataclass(frozen=True)
class Planted:
    """Hands its answer from latent to latent, and reads it off what the last latent left: nothing else matters."""

    before: tuple[int, ...] = (0,)
    sibling: str = "latent"

    @property
    def tokenizer(self):
        return self

    def __call__(self, text):
        return {"input_ids": [int(word) for word in text.split()]}

    def decode(self, ids, skip_special_tokens):
        return " ".join(map(str, ids))

    def start(self, questions):
        state = State(DynamicCache(), questions.sum(1, keepdim=True).float(), 0)
        return self._grown(state, torch.full((*questions.shape, 1), -1.0), torch.full((len(questions), 1, 1), -1.0))

    def next_z(self, state):
        return state.h

    def feed(self, state, z):
        grown = self._grown(state, z[:, None])
        return State(grown.cache, z, state.n_latents + 1)

    def _grown(self, state, *parts):
        kept = torch.cat(parts, 1)[:, None]
        state.cache.update(kept, kept.clone(), 0)
        return state

    def answer(self, state, max_tokens):
        return [(round(float(value)),) for value in state.cache.layers[0].values[:, 0, -1, 0]]

    def answer_directly(self, questions, max_tokens):
        return [(7,)] * len(questions)


def planted(n, first):
    return [
        LatentProblem(f"p{k}", f"{k} 1", str(k + 1), (str(k + 1),), (str(k),), False) for k in range(first, first + n)
    ]


def test_where_latents_alone_carry_the_answer_another_problems_latents_move_it_to_that_problems():
    """Recomputed, each latent does, since it is handed on; kept, only the last one, which is read."""
    model = Planted()
    others = run_others(model, planted(30, 100), 3, 1)
    assert all(other.is_correct for other in others)
    found = list(answers(model, planted(9, 0), others, Asked(3, 1, after=tuple(AFTER))))
    plain = [one for one in found if one.replacement == PLAIN]
    assert all(one.is_correct and not one.is_donors for one in plain)
    for place in PLACES:
        for after in AFTER:
            for step in (1, 2, 3, None):
                here = [one for one in found if (one.place, one.after, one.step) == (place, after, step)]
                moves = after == RECOMPUTED or step in (3, None)
                swapped = [one for one in here if one.replacement == SWAP]
                assert {one.is_donors for one in swapped} == {moves} == {not one.is_correct for one in swapped}
                zeros = {one.answer for one in here if one.replacement == ZERO}
                assert zeros == ({"0"} if moves else {str(k + 1) for k in range(9)})
                means = {one.answer for one in here if one.replacement == MEAN}
                assert means == ({"116"} if moves else {str(k + 1) for k in range(9)})  # the mean of 101 … 130, to even
    without = [one for one in found if one.replacement == WITHOUT]
    assert [one.answer for one in without] == ["7"] * 9 and sum(one.is_correct for one in without) == 1


def test_a_branch_of_a_run_leaves_the_run_as_it_was(model, problems):
    run, other = run_of(model, problems[:2]), run_of(model, problems[2:4])
    before = [layer.values.clone() for layer in run.state.cache.layers]
    replaced(model, run, other.latents, frozenset({1}), place=WHOLE, after=RECOMPUTED)
    replaced(model, run, other.latents, frozenset({1}), place=WHOLE, after=KEPT)
    assert all(torch.equal(a, layer.values) for a, layer in zip(before, run.state.cache.layers, strict=True))
    assert branch(run.state).n_latents == K
