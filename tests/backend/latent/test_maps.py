"""Stored cells, and the published study as a view of them, against the published recipe written out."""

from dataclasses import replace

import pytest
import torch

from backend.latent.asked import answer_of, question_ids
from backend.latent.loop import branch, run
from backend.latent.maps import Setting, difference_map, fitted_map, moves_anything
from backend.latent.outcomes import read_map, seen
from backend.latent.published import PUBLISHED, Arm
from backend.latent.steering import unsteered_answers
from backend.latent.tasks import PERMUTATIONS
from tests.backend.latent.steered import frames
from tests.latent_models import tiny_latent

K = 4


@pytest.fixture(scope="module")
def model():
    return tiny_latent()


@pytest.fixture(scope="module")
def setting(model):
    """Problems whose truths are what the model answers by itself, after two latents or all, so that some are right."""
    drawn = PERMUTATIONS.problems(20, steps=(2, 3), seed=1, held_out=True)
    answers = unsteered_answers(model, [question_ids(model, p.question) for p in drawn], n_latents=K, max_tokens=2)
    taught = []
    for number, problem in enumerate(drawn):
        own = answer_of(model, answers[(2, 3, K)[number % 3]][number])
        taught.append(replace(problem, answer=own or problem.answer))
    return Setting(tuple(taught[:12]), tuple(taught[12:]), K, 2, 3, 0)


def a_map(model, setting, arm, coefficient):
    rows = difference_map(model, setting, arm.move, coefficient)
    return read_map(*frames(rows))


def test_a_map_has_every_pair_and_random_vector_at_every_target_early_and_at_the_end(model, setting):
    own = a_map(model, setting, Arm("z"), 0.5)
    n_pairs, n_exits = K * (K - 1) // 2, 2 * K - 1  # at the last latent both exits are one
    assert len(own.where("pair")) == n_pairs * n_exits and len(own.where("random")) == 3 * n_exits
    assert own.where("none")["exit"].tolist() == list(range(K + 1))
    assert (own.where("pair")["a"] < own.where("pair")["b"]).all()
    assert 0 < own.where("none")["n_right"].sum() < own.where("none")["n"].sum()


def test_counts_are_those_of_the_answers(model, setting):
    own = a_map(model, setting, Arm("z"), 1.0)
    unsteered = own.right[own.where("none").index]
    for place, cell in own.cells.iterrows():
        right, before = own.right[place], unsteered[int(cell["exit"])]
        assert [cell["n"], cell["n_right"], cell["n_unsteered"]] == [12, right.sum(), before.sum()]
        assert [cell["n_gained"], cell["n_lost"]] == [(right & ~before).sum(), (before & ~right).sum()]


def test_a_coefficient_of_nothing_gives_the_unsteered_answers(model, setting):
    own = a_map(model, setting, Arm("kv"), 0.0)
    assert (own.cells["n_gained"] == 0).all() and (own.cells["n_lost"] == 0).all() and (own.cells["p"] == 1).all()
    assert (own.cells["length"] == 0).all()


def test_random_vectors_are_as_long_as_the_differences_typically_are_and_shared_by_the_pairs(model, setting):
    own = a_map(model, setting, Arm("h"), -0.5)
    typical = own.facts["typical_length"] * 0.5
    assert own.where("random")["length"].to_numpy() == pytest.approx(typical, rel=1e-5)
    squares = own.where("pair").drop_duplicates("vector")["length"] ** 2
    assert squares.mean() ** 0.5 == pytest.approx(typical, rel=1e-5)


def states(model, problem, n):
    """The state after each number of latents; what goes on from one copies it."""
    question = torch.tensor([question_ids(model, problem.question)])
    return [run(model, question, number) for number in range(n + 1)]


def one_token(model, state, problem):
    (tokens,) = model.answer(state, 1)
    answer = answer_of(model, tokens[:1])
    return answer is not None and int(answer) == int(problem.answer)


def test_the_published_hidden_steering_is_remade(model, setting):
    """Literally: means of h at latents 1 … of the scored prompts; after latent l the next embedding is moved by
    c (mean[B] − mean[A]), fed, and one token is read."""
    coefficient = 1.0
    found = seen(a_map(model, setting, Arm("h", PUBLISHED["h"]), -coefficient), Arm("h", PUBLISHED["h"]), early=True)
    each = [states(model, problem, K) for problem in setting.scored]
    mean = {i: torch.stack([own[i].h[0] for own in each]).double().mean(0).float() for i in range(1, K)}
    pairs = [(a, b) for a in range(1, K) for b in range(a + 1, K)]
    assert len(found.labels) == len(pairs) * (K - 1)
    for number, label in enumerate(found.labels.to_dict("records")):
        a, b, step = (int(label[name]) for name in ("a", "b", "target"))
        right = []
        for problem, own in zip(setting.scored, each, strict=True):
            z = model.projection(own[step].h) + coefficient * (mean[b] - mean[a])
            right.append(one_token(model, model.feed(branch(own[step]), z), problem))
        assert found.right[number].tolist() == right, label
        assert label["exit"] == step + 1  # one latent more than its label says


def test_the_published_steering_of_keys_and_values_is_remade(model, setting):
    """Literally: means of keys and values as they are stored, of the scored prompts; added at the last position after
    latent l, and one token read."""
    coefficient = -1.0
    arm = Arm("kv", PUBLISHED["kv"])
    found = seen(a_map(model, setting, arm, -coefficient), arm, early=True)
    each = [states(model, problem, K) for problem in setting.scored]

    def kept(state):
        return [(layer.keys[0, :, -1], layer.values[0, :, -1]) for layer in state.cache.layers]

    def mean(step):
        rows = [kept(own[step]) for own in each]
        return [
            tuple(torch.stack([row[layer][part] for row in rows]).double().mean(0).float() for part in (0, 1))
            for layer in range(len(rows[0]))
        ]

    means = {step: mean(step) for step in range(1, K + 1)}
    assert len(found.labels) == K * K * (K - 1) // 2
    for number, label in enumerate(found.labels.to_dict("records")):
        a, b, step = (int(label[name]) for name in ("a", "b", "target"))
        right = []
        for problem, own in zip(setting.scored, each, strict=True):
            state = branch(own[step])
            for layer, first, second in zip(state.cache.layers, means[a], means[b], strict=True):
                layer.keys[0, :, -1] += coefficient * (second[0] - first[0])
                layer.values[0, :, -1] += coefficient * (second[1] - first[1])
            right.append(one_token(model, state, problem))
        assert found.right[number].tolist() == right, label


def test_each_defect_alone_changes_what_it_should(model, setting):
    plain = a_map(model, setting, Arm("h"), 1.0)
    flipped = a_map(model, setting, Arm("h", frozenset({"flipped"})), -1.0)
    ours = seen(plain, Arm("h"), early=True)
    other = seen(flipped, Arm("h", frozenset({"flipped"})), early=True)
    torch.testing.assert_close(torch.tensor(ours.labels["length"]), torch.tensor(other.labels["length"]))
    shifted = seen(plain, Arm("h", frozenset({"one_more"})), early=True)
    both = ours.labels.reset_index().merge(
        shifted.labels.reset_index().assign(
            a=lambda x: x["a"] + 1, b=lambda x: x["b"] + 1, target=lambda x: x["target"] + 1
        ),
        on=["a", "b", "target"],
    )
    assert len(both) == len(shifted.labels) > 0
    assert (ours.right[both["index_x"]] == shifted.right[both["index_y"]]).all()
    scored = difference_map(model, setting, Arm("h", frozenset({"scored_means"})).move, 1.0)
    assert scored["latent_steerings"][0]["n_means"] == 12 and plain.facts["n_means"] == 8


def test_the_number_in_the_first_token_is_not_the_whole_answer(model, setting):
    """A truth that the first token alone gives."""
    question = question_ids(model, setting.scored[0].question)
    tokens = unsteered_answers(model, [question], n_latents=K, max_tokens=2)[K][0]
    assert len(tokens) == 2  # the tiny model does not stop
    first = answer_of(model, tokens[:1])
    problem = replace(setting.scored[0], answer=str(first))
    own = a_map(model, replace(setting, scored=(problem,), n_random=0), Arm("z"), 0.0)
    end = own.where("none").index[-1]
    assert own.first_right[end, 0] and own.right[end, 0] == (answer_of(model, tokens) == first)


def test_hidden_states_of_a_pause_sibling_move_nothing(setting):
    pause = tiny_latent("pause")
    own = a_map(pause, setting, Arm("h"), 5.0)
    assert (own.cells["n_gained"] == 0).all() and (own.cells["n_lost"] == 0).all()
    assert not moves_anything("pause", Arm("h").move)
    assert moves_anything("pause", Arm("h", frozenset({"wrong_space"})).move) and moves_anything(
        "latent", Arm("h").move
    )


def test_fitted_vectors_are_stored_with_their_bound_and_how_they_were_fitted(model, setting):
    from backend.latent.fitted import Fitting

    rows = fitted_map(model, setting, "h", (0.5, 2.0), Fitting(steps=4, batch=4))
    own = read_map(*frames(rows))
    cells = own.where("fitted")
    assert cells["vector"].unique().tolist() == ["fitted-0.5", "fitted-2"] and (cells["exit"] == cells["target"]).all()
    allowed = cells["bound"].astype(float) * own.facts["typical_length"]
    assert (cells["length"] <= allowed * (1 + 1e-5)).all()
    assert own.facts["fitting_steps"] == 4 and 0 < own.facts["n_fitted_on"] <= 8 and own.facts["coefficient"] is None


def test_a_model_that_solves_nothing_has_nothing_to_be_fitted_to(model, setting):
    hopeless = replace(setting, others=tuple(replace(problem, answer="1000000") for problem in setting.others))
    assert fitted_map(model, hopeless, "z", (1.0,)) == {}
