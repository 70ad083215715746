"""Every axis and scale of colour has words, below every figure; a figure says nothing that data wrote."""

import ast
from collections.abc import Iterator
from pathlib import Path

import plotly.graph_objects as go
import pytest
from streamlit.testing.v1 import AppTest

from app.shell import axes
from app.shell.data_figure import DOOR, titles
from app.shell.theme import blank
from app.shell.vocabulary import METRICS, column
from backend.importance.steered_effects import QUANTITIES
from backend.models.interventions import UNITS
from backend.store.geometry_columns import COLUMNS

ROOT = Path(__file__).resolve().parents[3]
SOURCES = [path for folder in ("app", "pages") for path in sorted((ROOT / folder).rglob("*.py"))]
FIGURES = sorted((ROOT / "app" / "figures").glob("*.py"))
REST = "{}"  # what a figure is given to stand in a title


def two_axes() -> None:
    import plotly.graph_objects as go

    from app.shell.data_figure import data_figure

    data_figure(go.Figure(layout={"xaxis": {"title": "layer"}, "yaxis": {"title": "![x](y)<br>cosine, log scale"}}))


def nothing_drawn() -> None:
    from app.shell.data_figure import data_figure
    from app.shell.theme import blank

    data_figure(blank("No data"))


def test_below_a_figure_stands_what_its_axes_mean_and_nothing_that_data_wrote():
    test = AppTest.from_function(two_axes, default_timeout=60).run()
    (said,) = test.caption
    assert said.value == DOOR and len(test.get("plotly_chart")) == 1
    assert said.help.count("\n\n") == 1 and "**layer**" in said.help and "‖" in said.help and "![" not in said.help


def test_a_figure_without_axes_has_no_words_below_it():
    assert not AppTest.from_function(nothing_drawn, default_timeout=60).run().caption and not list(
        titles(blank("No data"))
    )


def test_titles_are_those_of_axes_scenes_and_scales_that_are_seen():
    figure = go.Figure([go.Heatmap(z=[[1]], colorbar={"title": "entropy"}), go.Scatter(marker={"color": [1]})])
    figure.update_layout(xaxis={"title": "layer"}, yaxis={"title": "hidden", "visible": False}, title="n = 3")
    figure.update_layout(scene={"zaxis": {"title": "UMAP 3"}}, coloraxis={"colorbar": {"title": "CV"}})
    figure.add_scatter(marker={"color": [1], "showscale": True, "colorbar": {"title": "accuracy"}})
    assert set(titles(figure)) == {"layer", "UMAP 3", "CV", "entropy", "accuracy"}


def test_the_longest_term_at_a_place_counts_and_a_part_of_a_word_is_none():
    assert axes.terms_of("KL(steered ‖ unsteered), nats, log scale<br>mean") == ["kl(steered ‖ unsteered)", "nats"]
    assert axes.terms_of("pull-back<br>cosine") == ["pull-back cosine"] and not axes.terms_of("chunky players")
    assert axes.without_words(["layer", "", "nobody's", "<b>nobody's</b>"]) == {"nobody's"}


def test_every_metric_column_and_unit_of_a_step_has_its_own_words():
    for name in COLUMNS:
        term = axes.terms_of(column(name).axis("rms"))[0]
        assert term in axes.TERMS or column(name).meaning in axes.meaning(term), name
    for metric in METRICS.values():
        assert metric.meaning == axes.meaning(axes.terms_of(metric.axis)[0]), metric.name
    assert all(axes.terms_of(f"β ({unit.words})")[1:] for unit in UNITS.values())


def test_every_text_is_a_sentence_of_a_term_in_small_letters():
    assert all(words.endswith((".", ":")) and term == term.lower() for term, words in axes.TERMS.items())


def written(node: ast.AST) -> Iterator[str]:
    """The texts that an expression may come to, as far as they stand in it."""
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.JoinedStr(values=values):
            yield "".join(value.value if isinstance(value, ast.Constant) else REST for value in values)
        case ast.IfExp(body=body, orelse=orelse):
            yield from (*written(body), *written(orelse))
        case ast.BinOp(left=left):
            yield from written(left)
        case ast.Dict(keys=keys, values=values):
            for key, value in zip(keys, values, strict=True):
                if isinstance(key, ast.Constant) and key.value in ("text", "title"):
                    yield from written(value)


def axis_titles(path: Path) -> Iterator[str]:
    """Titles of axes and of scales of colour that are written in the file; of a figure's heading none."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("update_xaxes", "update_yaxes"):
            for keyword in node.keywords:
                yield from written(keyword.value) if keyword.arg in ("title", "title_text") else ()
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and key.value in ("colorbar", "xaxis", "yaxis"):
                    yield from written(value)


def test_every_axis_title_of_every_figure_has_words():
    """Those that a figure is given are looked at where pages draw them (tests/pages/conftest.py)."""
    found = {(path.name, title) for path in FIGURES for title in axis_titles(path) if not title.startswith(REST)}
    assert len(found) > 80
    assert not {(name, title) for name, title in found if axes.without_words([title])}


def test_a_term_of_several_files_of_figures_is_declared_to_mean_the_same_in_each():
    files: dict[str, set[str]] = {}
    for path in FIGURES:
        for term in (term for title in axis_titles(path) for term in axes.terms_of(title)):
            files.setdefault(term, set()).add(path.name)
    assert {term for term, its in files.items() if len(its) > 1} == axes.SHARED


def test_of_what_a_study_measures_no_term_but_its_own_and_shared_ones_has_words():
    units = axes.SHARED | {"jsd", "difference of accuracies", "rollouts"}  # of all that is measured in them
    for quantity in QUANTITIES.values():
        own = {quantity.label.lower()}
        assert set(axes.terms_of(f"{quantity.label}, {quantity.unit}")) <= own | units, quantity.name


def test_a_figures_own_words_come_before_all_others():
    own = axes.own_words({"KL, nats": "Of the answers.", "chunk": ""})
    assert axes.terms_of("KL, nats of the chunk", own) == ["kl, nats", "chunk"]
    said = axes.explained(("KL, nats of the chunk",), own)
    assert "Of the answers" in said and axes.meaning("chunk")[:20] in said and "1 nat" not in said


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_figure_is_put_on_its_page_there(path):
    if path.name == "data_figure.py":
        return
    made = [node.attr for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Attribute)]
    assert "plotly_chart" not in made
