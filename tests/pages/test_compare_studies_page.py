"""The page Compare studies draws a point a model and study, and its table says what is unknown."""

import pandas as pd
import pytest

from app.compare_studies.points import table
from app.figures.compared_studies import by_axis
from backend.findings.across_studies import AXES, QUANTITIES, Point, frame_of
from precompute.cli import app
from tests import small_study
from tests.pages.conftest import words


def some() -> pd.DataFrame:
    return frame_of(
        [
            Point("a", "m-1.5B", "model", "accuracy", 0.4, 0.3, 0.5, 20, "problems", size=1.5e9, size_from="its name"),
            Point("b", "m-7B", "model", "accuracy", 0.7, 0.6, 0.9, 20, "problems", size=7e9, size_from="its name"),
            Point("b", "m-7B", "model", "tail", 0.1, None, None, 9, "directions", 0.02, 0.02, "rows", 7e9, "its name"),
            Point("c", "mine", "model", "accuracy", 0.9),
            Point("c", "mine", "model", "nrn"),
        ]
    )


def test_a_panel_a_quantity_with_intervals_and_nulls_and_nobody_without_a_place():
    figure = by_axis(some(), along="size", axis=AXES["size"], quantities=QUANTITIES)
    titles = [axis.title.text for axis in figure.select_yaxes()]
    assert titles == [QUANTITIES["tail"], QUANTITIES["accuracy"]]
    points = [trace for trace in figure.data if trace.mode == "markers"]
    assert [list(trace.x) for trace in points] == [[7e9], [1.5e9, 7e9]]
    assert list(points[1].error_y.array) == pytest.approx([0.1, 0.2])
    assert [value for trace in figure.data if trace.mode != "markers" for value in trace.y if value] == [0.02, 0.02]


def test_without_a_place_for_any_the_figure_says_so():
    figure = by_axis(some(), along="step", axis=AXES["step"], quantities=QUANTITIES)
    assert "step of training" in figure.layout.annotations[0].text


def test_the_table_says_what_is_unknown():
    shown = table(some()).set_index(["study", "quantity"])
    assert (
        shown.loc[("a", "accuracy"), "n"] == "20 problems" and shown.loc[("c", QUANTITIES["nrn"]), "value"] == "unknown"
    )
    assert (
        shown.loc[("c", "accuracy"), "parameters"] == "unknown"
        and "by its name" in shown.loc[("a", "accuracy"), "parameters"]
    )


def test_the_page_shows_the_studies_that_are_chosen(opened, tmp_path):
    one, other = (small_study.make(tmp_path / name) for name in ("one", "other"))
    test = opened("compare_studies", one, other, study="one")
    assert not test.exception and set(test.dataframe[0].value["study"]) == {"one", "other"}
    assert "Grey is what chance alone gives" in words(test)
    test.session_state["selection"]["compared_studies"] = "other"
    assert set(test.run().dataframe[0].value["study"]) == {"other"} and not test.exception


def test_the_command_prints_a_table_a_quantity(tmp_path, capsys):
    study = small_study.make(tmp_path / "one")
    app(["compare", str(study), "--by", "seed"], standalone_mode=False)
    said = capsys.readouterr().out
    assert "accuracy" in said and "unknown" in said
