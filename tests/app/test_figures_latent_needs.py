import pandas as pd

from app.figures.latent_needs import needed_and_specific
from app.shell.theme import sibling_colour


def marks() -> pd.DataFrame:
    rows = []
    for model, sibling in (("latent", "latent"), ("<b>pause</b>", "pause")):
        for name, needed, specific in (
            ("1", 10.0, 5.0),
            ("2", 0.0, None if sibling == "pause" else 0.0),
            ("all", 60.0, 40.0),
        ):
            rows.append(
                {
                    "mark": f"{sibling}.{name}",
                    "model": model,
                    "sibling": sibling,
                    "name": name,
                    "needed": needed,
                    "needed_low": needed - 2,
                    "needed_high": needed + 3,
                    "specific": specific,
                    "specific_low": None if specific is None else specific - 1,
                    "specific_high": None if specific is None else specific + 4,
                    "n": 50,
                }
            )
    return pd.DataFrame(rows)


def test_each_latent_is_a_mark_with_its_intervals_and_all_together_a_square():
    figure = needed_and_specific(marks(), lost_by="the mean")
    latent, pause = figure.data
    assert list(latent.x) == [10, 0, 60] and list(latent.y) == [5, 0, 40] and list(latent.text) == ["1", "2", "all"]
    assert list(latent.error_x.array) == [3, 3, 3] and list(latent.error_x.arrayminus) == [2, 2, 2]
    assert list(latent.error_y.array) == [4, 4, 4] and list(latent.error_y.arrayminus) == [1, 1, 1]
    assert list(latent.marker.symbol) == ["circle", "circle", "square"]
    assert [mark[0] for mark in pause.customdata] == ["pause.1", "pause.all"]
    assert figure.layout.xaxis.title.text == "needed: right answers lost under the mean, percentage points"


def test_an_unknown_mark_is_counted_and_siblings_have_their_colours():
    figure = needed_and_specific(marks(), lost_by="zeros")
    assert [line.name for line in figure.data] == ["latent (n = 50)", "&lt;b&gt;pause&lt;/b&gt; (n = 50, 1 unknown)"]
    assert [line.marker.color for line in figure.data] == [sibling_colour("latent"), sibling_colour("pause")]
    assert sibling_colour("latent") != sibling_colour("pause")


def test_a_model_of_which_nothing_is_known_is_named_and_an_empty_figure_says_so():
    rows = marks()
    rows.loc[rows["sibling"] == "pause", "specific"] = None
    assert "no mark: &lt;b&gt;pause" in needed_and_specific(rows, lost_by="zeros").layout.annotations[0].text
    empty = needed_and_specific(rows.assign(specific=None), lost_by="zeros")
    assert "Neither is known of any latent" in empty.layout.annotations[0].text
