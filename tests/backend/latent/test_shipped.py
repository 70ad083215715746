"""The embedded latent models as they are shipped, and their card."""

import json

import pytest

from backend.latent.kinds import SIBLINGS
from backend.latent.loading import ASSETS, EMBEDDED, embedded_names, identify, load_latent
from backend.latent.loop import run
from backend.latent.tasks import PERMUTATIONS
from backend.models.loading import weights_sha256

CARD = json.loads((ASSETS / "card.json").read_text(encoding="utf-8"))


def test_three_siblings_in_three_seeds_are_shipped_in_six_megabytes():
    assert embedded_names() == [f"{EMBEDDED}{sibling}-{seed}" for sibling in sorted(SIBLINGS) for seed in range(3)]
    assert sum(file.stat().st_size for file in ASSETS.rglob("*") if file.is_file()) <= 6_000_000


@pytest.mark.parametrize("name", CARD["models"])
def test_the_card_is_of_these_weights(name):
    said = CARD["models"][name]
    assert said["sha256"] == weights_sha256(ASSETS / name)
    latent = load_latent(EMBEDDED + name)
    assert latent.model_id == identify(EMBEDDED + name) and latent.facts["recipe"] == CARD["recipe"]
    assert said["n_weights"] <= 400_000 and said["cpu_minutes"] <= 30


@pytest.mark.parametrize("name", CARD["models"])
def test_the_cards_accuracy_is_found_again_on_some_held_out_problems(name):
    latent = load_latent(EMBEDDED + name)
    k = min(3, latent.n_latents)
    problems = PERMUTATIONS.problems(100, steps=(3,), seed=CARD["problems_seed"] + 1, held_out=True)
    problems = [problem for problem in problems if not problem.has_distractor]  # of one length
    questions = latent.tokenizer([problem.question for problem in problems], return_tensors="pt")["input_ids"]
    answers = [latent.tokenizer.decode(list(answer)) for answer in latent.answer(run(latent, questions, k), 2)]
    right = sum(answer == problem.answer for answer, problem in zip(answers, problems, strict=True))
    share = next(row["share"] for row in CARD["models"][name]["accuracy"] if row["n_steps"] == 3 and row["k"] == k)
    assert abs(right / len(problems) - share) < 4 * ((share * (1 - share) + 0.01) / len(problems)) ** 0.5


def test_the_recurrence_is_used_in_every_seed():
    rows = [row for row in CARD["differences"] if row["against"] == "pause" and row["n_steps"] == row["k"] == 3]
    assert [row["seed"] for row in rows] == [0, 1, 2] and all(row["n"] == 2000 for row in rows)
    assert all(row["difference"] >= 0.1 and row["low"] > 0 for row in rows)


def test_the_teacher_masters_the_task_that_was_kept_and_pause_does_not():
    of = {"latent": [], "pause": []}
    for model in CARD["models"].values():
        if model["sibling"] in of:
            of[model["sibling"]].append(model)
    taught = [row["share"] for model in of["latent"] for row in model["teacher"] if row["n_steps"] == 3]
    paused = [row["share"] for model in of["pause"] for row in model["accuracy"] if row["n_steps"] == 3]
    assert min(taught) >= 0.99 and max(paused) <= 0.6
