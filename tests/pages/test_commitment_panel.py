"""The panel Commitment: with readings and without them, in a study that has no rollouts, and in one of before."""

import math

import numpy as np
import pandas as pd
import pytest

from app.chains_of_thought import commitment as panel
from backend.importance import commitment
from backend.statistics.commitment import change_of_counts
from tests import small_study
from tests.commitment_study import add_readings, rolled
from tests.pages.conftest import words

PANEL = {"chunk_panel": "commitment"}


def test_without_readings_the_rollouts_are_drawn_and_the_command_is_said(opened, whole):
    page = opened("chains_of_thought", whole, cot=rolled(whole), **PANEL)
    assert not page.exception
    said = words(page)
    assert "This chain:" in said and "[commitment]" in said and "--stage commitment" in said
    assert "All chains with rollouts" in said and "This study:" in said


def test_with_readings_the_models_commitment_is_said_with_its_control(opened, tmp_path):
    study = small_study.make(tmp_path / "small")
    cot = add_readings(study)
    page = opened("chains_of_thought", study, cot=cot, **PANEL)
    assert not page.exception
    said = words(page)
    assert "the model itself" in said and "at 3" in said and "logit lens, layer 5" in said
    assert "--stage commitment" not in said
    assert "Control (dotted)" in said
    (table,) = [frame.value for frame in page.dataframe if "other priors" in frame.value]
    read = table[table["curve"].str.contains("the model itself")].iloc[0]
    assert read["change"] == "commits at 3" and read["other answer"] == "no known change"

    by_log = opened("chains_of_thought", study, cot=cot, commitment_scale="log", **PANEL)
    assert not by_log.exception and "they change in the log-probability itself" in words(by_log)


@pytest.mark.parametrize("counted", list(commitment.COUNTED))
def test_what_counts_as_an_outcome_is_part_of_the_link(opened, whole, counted):
    page = opened("chains_of_thought", whole, cot=rolled(whole), commitment_counts=counted, **PANEL)
    assert not page.exception and commitment.COUNTED[counted].words in words(page)
    assert page.query_params["commitment_counts"] == counted


def test_a_study_without_rollouts_says_what_to_run(opened, running):
    page = opened("chains_of_thought", running, **PANEL)
    assert not page.exception and "--stage rollouts" in words(page)


def test_an_imported_chain_says_that_it_has_none(opened, imported):
    page = opened("chains_of_thought", imported, **PANEL)
    assert not page.exception and "rollouts" in words(page)


def test_a_study_of_before_has_its_rollouts_drawn(opened, of_schema):
    study = of_schema(8)
    page = opened("chains_of_thought", study, cot=rolled(study), **PANEL)
    assert not page.exception and "This chain:" in words(page)


def along(label, counts):
    change = change_of_counts(counts) if counts is not None else None
    return panel.Along(panel.Curve(label, label, "#000000", ""), label, change)


def test_the_sentence_says_where_each_curve_commits_and_of_which_nothing_is_known():
    early = np.array([[0, 20], [20, 0], [20, 0], [20, 0]])
    late = np.array([[0, 20], [0, 20], [0, 20], [20, 0]])
    found = [
        along("text", late),
        along("forced answers", early),
        along("lens", np.full((3, 2), 5)),
        along("none", None),
    ]
    assert panel.sentence([*found, along("drift", late[:, ::-1])]) == (
        "text commits at 3, forced answers at 1; drift turns away at 3; unknown (Bayes factor below 3): lens; not"
        " measured: none"
    )
    assert panel.sentence([]) == "nothing was counted or read"


def test_a_gap_over_what_was_not_measured_names_all_its_chunks():
    assert (panel.chunk_words((2, 3)), panel.chunk_words((2, 5))) == ("3", "3–5")


def test_the_words_over_all_chains_say_power_where_nothing_is_shown():
    rows = [
        {"cot_id": f"c{k}", "problem_id": f"p{k}", "curve": curve, "state": "commits", "chunk": chunk}
        for k in range(12)
        for curve, chunk in (("resample", 4 if k % 2 else 2), ("forced", 3), ("own_model", 5))
    ]
    (pair, *others) = commitment.all_compared(pd.DataFrame(rows))
    said = panel.all_words([pair, *others])
    assert "neither text nor forced answers is shown to come first (n = 12 chains of 12 problems" in said
    assert "the change of forced answers comes 2 chunks before that of own model" in said and math.isfinite(
        pair.detectable
    )
