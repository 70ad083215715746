"""The figure of where models part: a line a kind of position, the band of all, and unknown left out."""

import pandas as pd

from app.figures.geometry_divergence import divergence_by_layer
from tests import parted_study

ROWS = pd.DataFrame(parted_study.rows("a", "b"))


def named(figure, name):
    return [trace for trace in figure.data if trace.name == name]


def test_each_measure_has_its_panel_with_lines_of_three_kinds_and_the_base_alone():
    figure = divergence_by_layer(ROWS, with_null=False)
    assert [len(named(figure, name)) for name in ("all positions", "prompt", "chain of thought", "base alone")] == [
        4
    ] * 4
    assert not named(figure, "nothing shared")
    assert [trace.showlegend for trace in named(figure, "prompt")] == [True, False, False, False]
    (reverse,) = named(figure, "all positions, KL(reasoner ‖ base), nats")
    assert reverse.y[29] == 1.25 and figure.layout.yaxis4.title.text == "KL(base ‖ reasoner), nats"
    norm = named(figure, "all positions")[0]
    assert norm.x == tuple(range(30)) and norm.y[9] == 0 and norm.y[29] == 0.4


def test_the_null_is_drawn_where_it_is_wanted():
    figure = divergence_by_layer(ROWS, with_null=True)
    assert [trace.y[0] for trace in named(figure, "nothing shared")] == [0.95, 0.0, 83.6, 4.0]


def test_what_is_unknown_is_not_drawn():
    unknown = ROWS.assign(control=float("nan"), low=float("nan"))
    figure = divergence_by_layer(unknown, with_null=True)
    assert not named(figure, "base alone") and len(named(figure, "all positions")) == 4
    assert not divergence_by_layer(ROWS.assign(value=float("nan")), with_null=True).data
