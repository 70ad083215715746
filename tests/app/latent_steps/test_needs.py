import math

import numpy as np
import pandas as pd

from app.latent_steps.needs import control_words, marks, own_words, runs_of
from backend.latent.needed import Effect
from backend.statistics.intervals import wilson
from backend.statistics.paired import mcnemar


def effect(step, *, lost=0, moved=0, by_mean=0, n=20):
    """Of `n` problems, all right plainly: so many are lost, and so many answers become the donor's."""
    return Effect(
        step,
        mcnemar([True] * n, [k >= lost for k in range(n)]),
        (n - lost) / n if n else math.nan,
        wilson(n - lost, n),
        moved / n if n else math.nan,
        wilson(moved, n),
        by_mean / n if n else math.nan,
        mcnemar([k < by_mean for k in range(n)], [k < moved for k in range(n)]),
    )


MODEL = {"model_id": "m", "label": "latent", "sibling": "latent"}


def test_a_mark_is_what_is_lost_and_what_is_moved_in_points_each_with_its_interval():
    found = effect(2, lost=5, moved=12, by_mean=2)
    row = marks([(MODEL, [found])]).iloc[0]
    assert (row["mark"], row["name"], row["needed"], row["specific"]) == ("m.2", "2", 25, 50)
    assert row["needed_low"] == -100 * found.needed.high < 25 < row["needed_high"] == -100 * found.needed.low
    assert row["specific_low"] == 100 * found.specific.low < 50 < row["specific_high"]
    assert marks([(MODEL, [])]).empty


def test_the_control_says_whether_swaps_carry_the_other_problems_answer():
    works = control_words("latent", [effect(1), effect(None, moved=18, by_mean=2)])
    assert "90 % of the answers become its answer" in works and "10 % do under the mean (n = 20)" in works
    assert works.endswith("told apart by them.")
    fails = control_words("pause", [effect(None, moved=2, by_mean=2)])
    assert "Swaps do not carry" in fails
    assert "no problem has a donor" in control_words("pause", [effect(None, n=0)])
    assert control_words("none", []) == ""


def test_a_models_own_numbers_stand_beside_what_is_published():
    groups = pd.Series({"a": "needs", "b": "does without", "c": "never", "d": "needs"})
    found = [effect(1, lost=2, moved=3), effect(2, lost=9, moved=8), effect(3, lost=4, moved=4), effect(None)]
    said = own_words("latent", found, groups)
    r = np.corrcoef([2, 9, 4], [3, 8, 4])[0, 1]
    assert said.startswith(f"Here, latent: r = {r:.2f} over 3 latents; 50 % of 4 problems need latents")
    assert "67 % of those answered right" in said
    assert "is unknown over 1 latents" in own_words("latent", [effect(1, lost=2)], groups)
    assert own_words("none", [], groups) == "Here, none: it has no latents."


def test_the_runs_of_a_latent_are_a_row_a_problem_with_every_replacement():
    rows = pd.DataFrame(
        [
            ("p", "plain", None, None, None, "3", "7"),
            ("p", "mean", 1.0, "z", "recomputed", "4", "7"),
            ("p", "swap", 1.0, "z", "recomputed", "7", "7"),
            ("p", "swap", 1.0, "whole", "recomputed", "8", "7"),
            ("p", "swap", None, "z", "recomputed", "9", "7"),
            ("q", "plain", None, None, None, "5", None),
        ],
        columns=["problem_id", "replacement", "step", "place", "after", "answer", "donors_answer"],
    ).assign(model_id="m")
    found = runs_of(rows, "m", 1, "z", "recomputed").set_index("problem_id")
    assert found.loc["p", ["plain", "mean", "swap", "donors_answer"]].tolist() == ["3", "4", "7", "7"]
    assert pd.isna(found.loc["p", "zero"]) and pd.isna(found.loc["q", "swap"])
    assert runs_of(rows, "m", None, "z", "recomputed").set_index("problem_id").loc["p", "swap"] == "9"
