"""The page Prompts tells model from prompt where a study can and says where it cannot; About this study leads there."""

import pandas as pd
import pytest

from app.figures.overview import accuracy_by_level, accuracy_by_prompt
from app.prompts.by_prompt import confounding_line, in_this_study
from backend.store.unit_files import StudyFolder
from tests import small_study
from tests.pages.conftest import words

BOTH = (("base", "plain"), ("base", "steps"), ("reasoner", "plain"), ("reasoner", "steps"))


@pytest.fixture
def study(tmp_path):
    """`study(cells)`: a study of nothing but CoTs of these models under these prompts."""

    def make(cells):
        with StudyFolder(tmp_path / "small").writing("test"):
            pass
        small_study.add_prompts(tmp_path / "small", cells=cells)
        return tmp_path / "small"

    return make


def test_both_models_under_both_prompts_show_each_cell_and_each_difference(opened, study):
    test = opened("prompts", study(BOTH))
    assert not test.exception
    assert "Only both models under both prompts tell them apart, as here" in words(test)
    shown, lengths, differences, asked = (frame.value for frame in list(test.dataframe)[:4])
    assert set(lengths["answer forced"]) == {"50% [22%, 78%]"} and set(lengths["without an answer"]) == {"0% [0%, 32%]"}
    assert list(shown["accuracy"]) == ["50.0%", "50.0%", "50.0%", "75.0%"]
    assert list(differences["points"]) == ["+0.0", "+25.0", "+0.0", "+25.0", "+25.0"]
    assert differences["difference"].iloc[-1] == "(steps − plain) of reasoner − that of base"
    assert list(asked["thinking"].unique()) == ["no thought is opened", "the chat template opens the thought"]
    assert small_study.HOSTILE[0] in asked["the user's turn"].iloc[0]  # text in a cell of a table, and only that


def test_a_study_of_one_model_and_one_prompt_shows_no_comparison_and_says_which_has_one(opened, whole):
    test = opened("prompts", whole)
    assert not test.exception and not test.dataframe and "One model was asked under one prompt" in words(test)
    assert "studies/prompts.toml" in words(test) and "pairs of a model and a prompt" not in words(
        opened("overview", whole)
    )


def test_overview_leads_to_the_page(opened, study):
    assert "4 pairs of a model and a prompt were asked" in words(opened("overview", study(BOTH)))


def test_the_crossed_comparison_is_said_beside_what_holds_under_one_prompt():
    cells = pd.DataFrame(BOTH, columns=["model_id", "prompt_name"]).assign(accuracy=[0.2, 0.5, 0.4, 0.9])
    said = in_this_study(cells, cells.assign(model=cells["model_id"]))
    assert (
        "(base under plain, reasoner under steps) says +70.0 points" in said
        and "differ by +20.0 (plain) and +40.0 (steps)" in said
    )
    assert "changes base by +30.0 and reasoner by +50.0" in said
    assert "cannot show that" in in_this_study(cells.head(3), cells.head(3).assign(model="m"))


def test_a_model_under_one_prompt_against_another_under_another_is_called_confounded(opened, study):
    test = opened("prompts", study((BOTH[0], BOTH[3])))
    assert not test.exception
    assert "may be the model's or the prompt's" in words(test)


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (BOTH[:2], "One model was asked under several prompts"),
        (BOTH[::2], "All models were asked under one prompt"),
        (BOTH[:3], "No two models share two prompts"),
        (BOTH, "Only both models under both prompts tell them apart"),
    ],
)
def test_what_the_design_can_tell_is_said_in_a_line(cells, said):
    assert said in confounding_line(pd.DataFrame(cells, columns=["model_id", "prompt_name"]))


def test_the_list_of_chains_names_the_prompt_where_there_are_several(store_names):
    several, one = store_names(["model", "prompt_name"]), store_names([])
    assert several.startswith("m · plain · sample 0") and one.startswith("sample 0")


@pytest.fixture
def store_names():
    from types import SimpleNamespace

    from app.shared.chosen_chain import _cot_name

    row = SimpleNamespace(
        model="m", prompt_name="plain", sample=0, is_correct=True, answer="4", n_chunks=3, has_rollouts=False
    )
    return lambda of_several: _cot_name(row, of_several)


def test_a_model_has_one_colour_in_both_figures_whatever_its_name():
    bounds = {"low": [0.1, 0.4], "high": [0.3, 0.6]}
    levels = pd.DataFrame(
        {"model": ["z base", "a distilled"], "level": [1, 1], "n": [10, 10], "n_correct": [2, 5], **bounds}
    )
    cells = pd.DataFrame(
        {"model": levels["model"], "prompt_name": "boxed", "accuracy": [0.2, 0.5], "n": 5, "n_chains": 10, **bounds}
    )
    figures = accuracy_by_level(levels), accuracy_by_prompt(cells)
    colours = [[(line.name, line.marker.color) for line in figure.data] for figure in figures]
    assert colours[0] == colours[1] and len({colour for _, colour in colours[0]}) == 2


def test_the_figure_joins_a_models_prompts_and_leaves_out_what_is_unknown():
    nan = float("nan")
    cells = pd.DataFrame(
        {
            "model": ["a", "a", "b", "b"],
            "prompt_name": ["plain", "steps"] * 2,
            "accuracy": [0.2, 0.4, 0.5, nan],
            "low": [0.1, 0.3, nan, nan],
            "high": [0.4, 0.6, nan, nan],
            "n": [9, 9, 8, 0],
            "n_chains": [18, 18, 8, 0],
        }
    )
    first, second = accuracy_by_prompt(cells).data
    assert (
        list(first.y) == [0.2, 0.4] and "lines" in first.mode and list(first.error_y.array) == pytest.approx([0.2, 0.2])
    )
    assert list(second.y) == [0.5] and "lines" not in second.mode
    assert accuracy_by_prompt(cells.head(0)).layout.annotations[0].text.startswith("No accuracy is known")
