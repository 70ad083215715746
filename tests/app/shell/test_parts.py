"""Parts of a page: each is drawn anew where something that it read has changed, and nothing else is."""

import pytest
from streamlit.runtime.scriptrunner import RerunData, RerunException

from app import views
from app.shared import chosen_chunk
from app.shell import fields, parts, selection

views.registered()  # declares every choice


@pytest.fixture(autouse=True)
def session(monkeypatch):
    state: dict = {"selection": {"study": "small"}}
    monkeypatch.setattr(parts.st, "session_state", state)
    return state


@pytest.fixture
def page(session):
    """A page that reads the study, a part that reads the metric, and one that reads the layer."""
    values = session["selection"]
    parts.begin()
    selection.get(fields.STUDY)
    with parts.noting("metric", values):
        selection.get("metric")
    with parts.noting("layer", values):
        selection.get("layer")
        with parts.noting("inner", values):
            selection.get("direction")
    parts.end(values)
    return values


def test_only_the_parts_that_read_a_choice_are_drawn_anew_when_it_changes(page):
    assert parts.outdated(page) == []
    selection.choose(metric="m")
    assert parts.outdated(page) == ["metric"]
    selection.choose(layer="3")
    assert parts.outdated(page) == ["metric", "layer"]


def test_what_an_inner_part_reads_is_no_reason_to_draw_the_outer_one(page):
    selection.choose(direction="random")
    assert parts.outdated(page) == ["inner"]


def test_what_is_read_outside_of_parts_draws_the_page(page):
    selection.choose(study="another")
    assert parts.PAGE in parts.outdated(page)


def test_a_part_that_was_drawn_with_the_new_value_is_up_to_date(page):
    selection.choose(metric="m")
    with parts.noting("metric", page):
        selection.get("metric")
    assert parts.outdated(page) == []


def test_a_value_that_is_completed_while_a_part_is_drawn_is_the_one_it_was_drawn_with(session):
    values = session["selection"]
    parts.begin()
    with parts.noting("chunk", values):
        assert selection.get("chunk") is None
        selection.choose(chunk="c1")
    parts.end(values)
    assert parts.outdated(values) == []


def test_who_shows_the_whole_selection_is_drawn_anew_at_every_choice(session):
    values = session["selection"]
    parts.begin()
    with parts.noting("links", values):
        selection.values()
    parts.end(values)
    selection.choose(map_method="pca_2d")
    assert parts.outdated(values) == ["links"]


def test_who_shows_the_whole_selection_is_drawn_after_those_who_may_complete_it(session, monkeypatch):
    values, again = session["selection"], []
    monkeypatch.setattr(selection.st, "rerun", again.append)
    parts.begin()
    with parts.noting("links", values):
        selection.values()
    for name in ("chain", "metric"):
        with parts.noting(name, values):
            selection.get("chunk")
    parts.end(values)
    selection.choose(chunk="c1")
    selection.redraw()
    assert again == [["chain", "metric", "links"]]


def test_another_chunk_of_the_open_chain_is_no_news_to_who_shows_the_chain_alone(session):
    values = session["selection"]
    selection.choose(problem="p", cot="c", chunk="c1")
    parts.begin()
    with parts.noting("bar", values):
        selection.get("cot")
    parts.end(values)
    chosen_chunk.go_along("c2")
    assert parts.outdated(values) == [] and selection.get("chunk") == "c2"


def test_a_part_that_was_cut_off_is_drawn_anew_whatever_it_had_read(page):
    with pytest.raises(RerunException), parts.noting("metric", page):
        raise RerunException(RerunData())  # before it read anything
    assert parts.outdated(page) == ["metric"]
    with pytest.raises(ValueError), parts.noting("metric", page):
        raise ValueError("a fault is drawn as well")
    assert parts.outdated(page) == []


def test_what_is_read_without_being_noted_is_nobodys(session):
    values = session["selection"]
    parts.begin()
    with parts.unnoted():
        selection.get("metric")
    parts.end(values)
    selection.choose(metric="m")
    assert parts.outdated(values) == []


def test_while_a_page_is_being_drawn_nothing_is_known_of_it(session):
    parts.begin()
    with parts.noting("metric", session["selection"]):
        selection.get("metric")
    assert parts.outdated(session["selection"]) is None
