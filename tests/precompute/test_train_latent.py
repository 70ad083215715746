import json
from dataclasses import replace

import pytest
import torch

from backend.latent import files, training
from backend.latent.fresh import Shape
from backend.latent.kinds import SIBLINGS
from backend.latent.loading import load_latent
from precompute import train_latent
from precompute.train_latent import (
    RECIPES,
    TrainingError,
    begin,
    is_finished,
    lesson,
    rate,
    restore,
    store,
    task_of,
    train,
    train_all,
)

SHAPE = Shape(d_model=16, n_heads=2, d_mlp=16, d_projection=16, n_latents=4)
RECIPE = replace(RECIPES["permutations"], teacher=3, mixed=6, steps=8, batch=4, warmup=2, shape=SHAPE)


def test_a_resumed_training_is_the_unbroken_one_bit_for_bit(tmp_path):
    whole = begin(RECIPE, "latent", 1)
    for _ in range(8):
        whole.step()
    for stop in (2, 5):  # in the teacher's part, where a projection has no moments yet, and after it
        first = begin(RECIPE, "latent", 1)
        for _ in range(stop):
            first.step()
        store(first, tmp_path / str(stop))
        second = begin(RECIPE, "latent", 1)
        restore(second, tmp_path / str(stop))
        for _ in range(8 - stop):
            second.step()
        assert second.curve == whole.curve and second.n_tokens == whole.n_tokens
        assert all(torch.equal(second.learned[key], weight) for key, weight in whole.learned.items())


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    store(begin(RECIPE, "latent", 1), tmp_path)
    for other in (begin(RECIPE, "pause", 1), begin(RECIPE, "latent", 2), begin(replace(RECIPE, batch=5), "latent", 1)):
        with pytest.raises(TrainingError, match="a checkpoint of another recipe, sibling or seed"):
            restore(other, tmp_path)


def test_stopped_and_run_again_it_ends_with_the_model_that_is_loaded(tmp_path):
    work, out = tmp_path / "work", tmp_path / "out"
    assert not train(RECIPE, "pause", 0, work, out, minutes=0)
    assert not out.exists()
    assert train(RECIPE, "pause", 0, work, out)
    found = load_latent(str(out))
    assert found.sibling == "pause" and found.facts["recipe"]["steps"] == 8 and found.facts["seed"] == 0
    assert found.facts["n_weights"] == sum(weight.numel() for weight in files.weights_of(found).values())
    assert all(torch.equal(weight.half().float(), weight) for weight in files.weights_of(found).values())
    assert [row["step"] for row in found.facts["curve"]] == [8] and found.facts["curve"][0]["student"] > 0


def test_what_is_finished_is_not_trained_again_and_what_another_recipe_made_is(tmp_path, monkeypatch):
    trained = []

    def short(recipe, sibling, seed, work, out, **_):
        trained.append((sibling, seed))
        out.mkdir(parents=True)
        facts = {"identity": train_latent.identity(recipe, sibling, seed)}
        (out / files.NOTE).write_text(json.dumps({"facts": facts}))
        return True

    monkeypatch.setattr(train_latent, "train", short)
    arguments = (["latent", "none"], [0, 1], tmp_path / "work", tmp_path / "out")
    assert train_all(RECIPE, *arguments) and train_all(RECIPE, *arguments)
    assert trained == [("latent", 0), ("none", 0), ("latent", 1), ("none", 1)]
    assert not is_finished(replace(RECIPE, batch=5), "latent", 0, tmp_path / "out" / "latent-0")


def test_all_siblings_of_a_seed_learn_from_the_same_problems(monkeypatch):
    seen, real = {sibling: [] for sibling in SIBLINGS}, training.batch_of

    def noted(latent, problems):
        seen[latent.sibling].append([problem.question for problem in problems])
        return real(latent, problems)

    monkeypatch.setattr(training, "batch_of", noted)
    for sibling in SIBLINGS:
        course = begin(RECIPE, sibling, 3)
        for _ in range(8):
            course.step()
    assert len(seen["latent"]) == 8 and seen["latent"] == seen["pause"] == seen["none"]


def test_the_number_of_latents_is_that_of_the_steps_until_it_is_drawn():
    recipe = replace(RECIPES["permutations"], mixed=300)
    drawn = [lesson(recipe, 0, step) for step in range(1300)]
    assert all(one.n_latents == one.n_steps for one in drawn[:300])
    later = drawn[300:]
    assert {one.n_latents for one in later} == set(range(7))
    assert 0.5 < sum(one.n_latents == one.n_steps for one in later) / len(later) < 0.65  # 1/2 + 1/14
    assert {one.n_steps for one in drawn} == {1, 2, 3} and len({one.seed for one in drawn}) == 1300
    assert 0.2 < sum(one.has_distractor for one in drawn) / len(drawn) < 0.3


def test_the_rate_warms_up_stays_level_and_falls_while_the_number_of_latents_is_drawn():
    recipe = RECIPES["permutations"]
    rates = [rate(recipe, step) for step in range(recipe.steps)]
    assert rates[:2] == pytest.approx([recipe.learning_rate / recipe.warmup, 2 * recipe.learning_rate / recipe.warmup])
    assert set(rates[recipe.warmup : recipe.mixed + 1]) == {recipe.learning_rate}
    assert rates[recipe.mixed :] == sorted(rates[recipe.mixed :], reverse=True)
    assert rates[-1] == pytest.approx(recipe.last_rate, rel=0.01)


def test_each_task_has_a_recipe():
    assert [task_of(recipe).name for recipe in RECIPES.values()] == list(RECIPES)
    with pytest.raises(TrainingError, match="no recipe of latent models 'sums'"):
        RECIPES["sums"]
