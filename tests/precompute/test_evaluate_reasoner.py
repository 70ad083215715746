"""The evaluation's numbers from made samples whose answer is known; what was asked in training does not count."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from backend.cot.word_problems import generate
from backend.errors import AnchorscopeError
from backend.models.embedded import REASONER_2_NAME, REASONER_ASSETS, REASONER_NAME
from precompute.evaluate_reasoner import (
    EVALUATIONS,
    as_markdown,
    bars,
    judged_cots,
    model_card,
    recipe_of,
    shipped_table,
    table,
)
from precompute.train_reasoner import Phase, Recipe

STUDY, COUNTED = EVALUATIONS[REASONER_NAME].study, EVALUATIONS[REASONER_NAME].counted
PER_LEVEL = COUNTED[1]
SAMPLING = STUDY.sampling.model_dump()


def asking(*problems, seed=STUDY.seed):
    """A recipe whose training asks so many problems of each level."""
    return Recipe(phases=(Phase(seed, problems, steps=1, cooldown=0, horizon=1),))


RECIPE = asking(30, 30, 30, 30, 30)  # the first 30 of each level that the evaluation asks


def written(problem, role, sample, *, correct, thinking="So 1 + 1 = 2."):
    closed = role == "distilled"
    return {
        "problem_id": problem.problem_id,
        "level": problem.level,
        "question": problem.question,
        "role": role,
        "text": thinking,
        "after_text": "\n\n2." if closed else None,
        "think_close": "</think>",
        "finish": "eos",
        "is_correct": correct,
        "n_tokens": 10,
    }


def study(rows):
    return SimpleNamespace(frame=lambda sql: pd.DataFrame(rows), path="stores/made")


@pytest.fixture(scope="module")
def cots():
    """Eighty problems a level: the base solves every problem's first sample, the reasoner the first three of four; it
    says Wait twice.
    """
    rows = []
    for problem in generate(80, seed=STUDY.seed):
        for sample in range(4):
            rows.append(written(problem, "base", sample, correct=sample < 1))
            rows.append(
                written(problem, "distilled", sample, correct=sample < 3, thinking="Wait, no. Hmm, wait. Thus 2.")
            )
    return judged_cots(study(rows), RECIPE, COUNTED)


def test_questions_of_the_training_do_not_count_and_forty_others_of_each_level_do(cots):
    trained = {problem.problem_id for problem in generate(30, seed=STUDY.seed)}
    assert not trained & set(cots["problem_id"])
    assert (
        cots.groupby("level")["problem_id"].nunique().tolist() == [PER_LEVEL] * 5 and len(cots) == 5 * PER_LEVEL * 4 * 2
    )


def test_too_few_unseen_problems_are_an_error():
    rows = [
        written(problem, role, 0, correct=True)
        for problem in generate(41, seed=STUDY.seed)
        for role in ("base", "distilled")
    ]
    with pytest.raises(AnchorscopeError, match="11 unseen problems of level 1, 40 are needed"):
        judged_cots(study(rows), RECIPE, COUNTED)


def test_the_table_has_the_planted_rates(cots):
    rows = {row.name: row for row in table(cots)}
    level = rows["accuracy, level 3"]
    assert (level.base.value, level.reasoner.value, level.difference.value) == (0.25, 0.75, 0.5)
    assert level.base.n == PER_LEVEL and rows["accuracy, all levels"].base.n == 5 * PER_LEVEL
    within = rows["problems with accuracy in [0.2, 0.8]"]
    assert within.reasoner.value == 1 and within.reasoner.low == pytest.approx(
        1 / (1 + 3.8415 / 200), abs=1e-4
    )  # Wilson's, 200 of 200
    assert rows["self-reflection (Wait)"].reasoner.value == 2 and rows["self-reflection (Wait)"].base.value == 0
    assert rows["thinking closed"].base is None and rows["thinking closed"].reasoner.value == 1
    assert [bar.met for bar in bars(table(cots))] == [True] * 6


def test_a_sample_without_a_verdict_counts_as_wrong():
    problems = generate(40, seed=1)
    rows = [
        written(p, role, s, correct=None if s else True)
        for p in problems
        for role in ("base", "distilled")
        for s in range(2)
    ]
    cots = judged_cots(study(rows), asking(1, seed=99), COUNTED)
    assert table(cots)[0].reasoner.value == 0.5


def test_intervals_are_those_of_problems_not_of_samples():
    """Four samples of one problem that always agree are one observation: the interval is as wide as with one sample a
    problem.
    """
    problems = generate(40, seed=1)
    rng = np.random.default_rng(0)
    luck = {problem.problem_id: bool(rng.random() < 0.5) for problem in problems}

    def width(samples):
        rows = [
            written(p, role, s, correct=luck[p.problem_id])
            for p in problems
            for role in ("base", "distilled")
            for s in range(samples)
        ]
        row = table(judged_cots(study(rows), asking(1, seed=99), COUNTED))[0]
        return row.reasoner.high - row.reasoner.low

    assert width(4) == width(1) == pytest.approx(2 * 1.96 * math.sqrt(0.25 / 40), rel=0.15)


def test_the_table_reads_as_markdown(cots):
    rows = table(cots)
    text = as_markdown(rows, bars(rows), SAMPLING)
    assert "| accuracy, level 1 | 25.0 % [25.0, 25.0] | 75.0 % [75.0, 75.0] | 50.0 % [50.0, 50.0] |" in text
    assert "| at least 60 % on level 1 | 75.0% | yes |" in text and "no think tags" in text
    assert "| above the base at every level | 5 of 5 levels | yes |" in text
    assert "| self-reflection at least five times the base's | 2.00 a CoT, and none in the base's | yes |" in text


def test_a_level_whose_difference_may_be_chance_is_named():
    problems = generate(40, seed=1)
    lucky = {problems[-1].problem_id}  # one problem of level 5, by the reasoner alone
    rows = [
        written(p, role, 0, correct=role == "distilled" and (p.level < 5 or p.problem_id in lucky))
        for p in problems
        for role in ("base", "distilled")
    ]
    asked = bars(table(judged_cots(study(rows), asking(1, seed=99), COUNTED)))[1]
    assert asked.met and asked.reached == "5 of 5 levels; not beyond chance: level 5"


def test_long_chains_are_held_to_bars_of_their_own():
    evaluation = EVALUATIONS[REASONER_2_NAME]
    told = "Wait, no. " * 2 + "But it is so. Alternatively, I see that. Thus it is "
    rows = [
        written(p, role, sample, correct=role == "distilled", thinking=f"{told} {p.problem_id} {sample}.")
        for p in generate(dict.fromkeys((1, 2, 3), 67), seed=1)
        for role in ("base", "distilled")
        for sample in range(2)
    ]
    cots = judged_cots(study(rows), asking(1, seed=99), evaluation.counted)
    found = table(cots, long=True)
    rows = {row.name: row for row in found}
    assert sum(row.reasoner.n for name, row in rows.items() if name.startswith("accuracy, level")) == 200
    distinct, n = rows["distinct among all chunk texts"].reasoner, rows["chunks"].reasoner.value
    assert n == 4 and distinct.value == pytest.approx((3 + 400) / (4 * 400))  # "Wait, no." merges into "Wait, no."
    assert distinct.low < distinct.value < distinct.high
    missed = {bar.asked for bar in bars(found, long=True) if not bar.met}
    assert missed == {
        "at least 30 % of problems with accuracy in [0.2, 0.8]",
        "at least 14 chunks a CoT",
        "at least 60 % of chunk texts distinct",
    }


def test_the_shipped_model_card_says_what_the_shipped_files_say():
    training = json.loads((REASONER_ASSETS / "training.json").read_text())
    assert (REASONER_ASSETS / "README.md").read_text() == model_card(training, shipped_table(REASONER_ASSETS))


def test_the_shipped_record_is_of_the_recipe_that_the_command_follows():
    assert recipe_of(json.loads((REASONER_ASSETS / "training.json").read_text())) == Recipe()


def test_the_shipped_adapter_is_small_and_names_no_folder():
    assert (REASONER_ASSETS / "adapter_model.safetensors").stat().st_size <= 12e6
    config = json.loads((REASONER_ASSETS / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "embedded:SmolLM2-135M-Instruct"
