"""What the samples of interventions say: arms that belong together, the contrasts that tell the reconstruction from the
features.
"""

from datetime import datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from app.interventions.results import (
    arm_table,
    conclusion,
    contrast_rows,
    contrast_table,
    contrasts,
    figure_rows,
    grouped,
)
from backend.crosscoder.accuracy import summarise_arms
from backend.crosscoder.trials import Change, Trial, surprise

PROBLEMS = tuple(f"p{k}" for k in range(24))
PAIR = {"mb": "base", "md": "distilled"}


def tables(*trials: Trial) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of what was asked, the first asked first, and of its arms."""
    asked = [one.row() | {"created_at": datetime(2026, 1, 1) + timedelta(seconds=k)} for k, one in enumerate(trials)]
    arms = [arm for one in trials for arm in one.arms(list(PAIR), np.linspace(0, 1, 40))]
    return pd.DataFrame(asked), pd.DataFrame(arms)


@pytest.fixture
def trial() -> Trial:
    return Trial("w1", Change("zero", (3, 7)), PROBLEMS)


def samples(group, model: str, right: dict[str, int]) -> pd.DataFrame:
    """Samples of one model in which each arm, by its label, solves so many of the problems, the first ones."""
    rows = []
    for arm in group.arms[group.arms["model_id"] == model].itertuples():
        for number, problem in enumerate(PROBLEMS if arm.label in right else ()):
            rows.append(
                {
                    "model_id": model,
                    "arm": arm.key,
                    "problem_id": problem,
                    "sample": 0,
                    "answer": "1",
                    "finish": "eos",
                    "is_correct": number < right[arm.label],
                    "degenerate": False,
                    "n_tokens": 10 + number,
                    "text": f"{number} {arm.label if 'kept' not in arm.label else 'unedited'}",
                }
            )
    return pd.DataFrame(rows)


def test_what_was_sampled_alike_is_shown_together_and_each_shared_arm_once(trial):
    other = Trial("w1", Change("zero", (3, 7)), PROBLEMS, seed=2)
    groups = grouped(*tables(*surprise(trial, 1.5), other))
    assert [len(group.asked) for group in groups] == [4, 1]
    labels = groups[0].arms.loc[groups[0].arms["model_id"] == "md", "label"].tolist()
    assert labels == [
        "unedited",
        "reconstruction alone",
        "×1.5, error kept",
        "×1.5, error kept · random features",
        "×1.5, replaced",
        "×1.5, replaced · random features",
        "×1, error kept",
        "×1, replaced",
    ]
    assert groups[0].arms["arm_id"].is_unique
    two = grouped(*tables(trial, Trial("w1", Change("zero", (5,)), PROBLEMS)))[0]
    assert {"zero, error kept · 2 features", "zero, error kept · feature 5"} < set(two.arms["label"])


def test_the_reconstruction_is_told_from_the_features(trial):
    (group,) = grouped(*tables(*surprise(trial, 1.5)))
    right = {
        "unedited": 20,
        "reconstruction alone": 1,
        "×1.5, error kept": 20,
        "×1.5, error kept · random features": 19,
        "×1.5, replaced": 1,
        "×1.5, replaced · random features": 0,
        "×1, error kept": 20,
        "×1, replaced": 1,
    }
    own = samples(group, "md", right)
    rows = contrast_rows(own, group)
    assert len(rows) == len(contrasts(group)) == 9 and {row["quantity"] for row in rows} == {"solved"}
    by_words = {(row["words"], row["arm"]): row for row in rows}
    assert by_words["what replacing by the reconstruction does, no feature changed", "reconstruct"][
        "difference"
    ] == pytest.approx(-19 / 24)
    assert sum(row["difference"] == 0 for row in rows if "beyond the reconstruction" in row["words"]) == 2
    said = conclusion(rows, group)
    assert said.startswith("Replacing the residual stream by the reconstruction alone lowers what is solved (-79%")
    assert (
        "×1.5, error kept was not seen to change what is solved (+0%" in said and "×1.5, replaced was not seen" in said
    )
    assert said.count("beyond that") == 2
    broken = samples(group, "md", right | {"×1.5, error kept": 2})
    assert "×1.5, error kept lowers what is solved (-75%" in conclusion(contrast_rows(broken, group), group)


def test_what_has_no_samples_yet_is_in_no_row(trial):
    (group,) = grouped(*tables(*surprise(trial, 1.5)))
    some = samples(group, "mb", {"unedited": 20, "×1.5, error kept": 10})
    rows = contrast_rows(some, group)
    assert [row["words"] for row in rows] == ["what the features do"]
    summaries = {"mb": summarise_arms(some)}
    assert figure_rows(group, summaries, PAIR, {})["label"].tolist() == ["unedited", "×1.5, error kept"]
    table = arm_table(summaries["mb"], group)
    assert table["solved"].tolist() == ["83% [64%, 93%]", "42% [24%, 61%]"]
    assert table["same text as unedited"].tolist() == ["", "24 of 24"]
    assert conclusion([], group) == "" and contrast_table([], group).empty


def test_with_several_samples_a_problem_problems_are_what_is_compared(trial):
    (group,) = grouped(*tables(Trial("w1", Change("zero", (3, 7)), PROBLEMS, n_samples=2)))
    one = samples(group, "md", {"unedited": 20, "zero, error kept": 10})
    both = pd.concat([one, one.assign(sample=1)])
    (row,) = contrast_rows(both, group)
    assert row["quantity"] == "solved by problem" and row["n"] == 24 and row["difference"] == pytest.approx(-10 / 24)
