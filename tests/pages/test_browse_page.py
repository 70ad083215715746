"""Browse: what is searched for stands in the link and in the table; what is wrong is said; nothing is lost."""

from contextlib import closing
from types import SimpleNamespace

import pandas as pd
import pytest

from app.browse import table
from app.browse.saved import EXAMPLES
from backend.search.columns import known_columns
from backend.search.language import parse
from backend.store import filters
from backend.store.store import Store
from tests import small_study
from tests.pages.conftest import words


@pytest.fixture
def study(tmp_path):
    folder = small_study.make(tmp_path / "of" / "small")
    small_study.add_divergence(folder, [(k, 0.4 - k / 10, (k + 1) / 100) for k in range(8)])
    return folder


def listed(test) -> pd.DataFrame:
    return test.dataframe[0].value


def search(test, query: str):
    return next(one for one in test.text_input if one.label == "Search").set_value(query).run()


def test_a_search_is_listed_sorted_counted_and_in_the_link(opened, study):
    test = opened("browse", study, study="small")
    everything = listed(test)
    assert not test.exception and f"{len(everything)} of {len(everything)} chunks" in words(test)
    values = everything["importance"].dropna().tolist()
    assert len(values) == 8 and values == sorted(values, reverse=True)
    assert everything["importance"].iloc[8:].isna().all()
    test = search(test, "importance > 0.05")
    assert listed(test)["importance"].tolist() == [value for value in values if value > 0.05]
    n_unknown = len(everything) - 8
    assert f"left out: {n_unknown} without a known importance" in words(test)
    assert test.session_state["selection"]["search"] == "importance > 0.05"
    linked = opened("browse", study, study="small", search="importance > 0.05", browse_sort="importance:up")
    assert listed(linked)["importance"].tolist() == sorted(value for value in values if value > 0.05)


def test_a_wrong_search_says_what_is_wrong_and_keeps_the_table(opened, study):
    test = search(opened("browse", study, study="small"), "importance > 0.05")
    before = listed(test)
    test = search(test, "importance > 0.05 lvel:2")
    said = words(test)
    assert "“lvel” (character 19)" in said and "Nearest: level" in said and "^^^^" in said
    assert "still of: importance > 0.05" in said
    pd.testing.assert_frame_equal(listed(test), before)
    assert "still of everything" in words(opened("browse", study, study="small", search="lvel:2"))


def test_cots_are_listed_where_any_of_their_chunks_matches(opened, study):
    test = opened("browse", study, study="small", search="importance > 0.05", browse_level="cots")
    with closing(Store(study)) as store:
        found = store.search(parse("importance > 0.05", known_columns(store)), [])
    assert not test.exception and sorted(listed(test)["matching"]) == sorted(found["cot_id"].value_counts())
    assert "the largest among the CoT’s chunks that match" in words(test)


def test_a_chosen_row_is_selected_and_opens_in_its_chain_by_a_button(opened, study, monkeypatch):
    test = opened("browse", study, study="small", search="importance > 0.05")
    with closing(Store(study)) as store:
        known = known_columns(store)
        rows = store.search(parse("importance > 0.05", known), [], sort=known["importance"])
    chosen = {}
    monkeypatch.setattr(table.chosen_chunk, "go", lambda chunk: chosen.update(chunk=chunk))
    table._go(rows.iloc[1])
    assert chosen["chunk"] == rows["chunk_id"].iloc[1]
    monkeypatch.undo()
    test = opened("browse", study, study="small", chunk=rows["chunk_id"].iloc[1])
    assert f"Chunk {rows['chunk_index'].iloc[1] + 1} ·" in words(test)
    next(button for button in test.button if button.label.startswith("Open in")).click().run()
    assert not test.exception and test.session_state["selection"]["chunk"] == rows["chunk_id"].iloc[1]


def test_a_head_that_is_clicked_sorts_by_it_and_then_the_other_way_round(monkeypatch):
    chosen = {}
    monkeypatch.setattr(table.asking.selection, "choose", lambda values: chosen.update(values))
    now = SimpleNamespace(sort=SimpleNamespace(name="level"), falling=True)
    for name, wanted in (("level", "level:up"), ("q", "q:down")):
        table.asking.sort_by(name, now)
        assert chosen[table.asking.SORT] == wanted


def test_searches_are_saved_by_name_and_a_few_are_offered_where_none_are(opened, study):
    test = opened("browse", study, study="small")
    assert {button.label.replace("\\", "") for button in test.button} >= set(EXAMPLES)
    test = next(one for one in test.button if one.label == "Beyond chance").click().run()
    assert test.session_state["selection"]["search"] == "q <= 0.05"
    fields = {one.label: one for one in test.text_input}
    fields["Save this search as"].set_value("mine, *all* of it")
    fields["Your name, kept with it"].set_value("Ada")
    test = next(one for one in test.button if one.label == "Save").click().run()
    assert filters.saved(study)[["name", "query", "author"]].values.tolist() == [
        ["mine, *all* of it", "q <= 0.05", "Ada"]
    ]
    assert any(button.label == r"mine\, \*all\* of it" for button in test.button)
    test = next(one for one in test.button if one.icon == ":material/delete:").click().run()
    assert filters.saved(study).empty and not test.exception


def test_what_is_listed_leaves_as_csv_whole(study):
    with closing(Store(study)) as store:
        known = known_columns(store)
        now = SimpleNamespace(
            condition=parse('"wait"', known), shown=(known["text"],), level="chunks", sort=None, falling=True
        )
        lines = pd.read_csv(pd.io.common.StringIO(table.as_csv(store, now)))
        assert len(lines) == len(store.search(now.condition, [])) > 0
        assert lines["text"].str.contains("Wait", regex=False).all()


@pytest.mark.parametrize("state", ["running", "imported"])
def test_a_study_with_little_is_browsed_by_what_it_has(opened, request, state):
    test = opened("browse", request.getfixturevalue(state), study="small")
    assert not test.exception and len(listed(test)) and "text" in listed(test)


def test_a_study_of_before_is_searched_with_what_it_has(opened, of_schema):
    test = opened("browse", of_schema(12), study="small", search="rollouts:yes")
    assert not test.exception and len(listed(test))


@pytest.mark.parametrize("colour", ["tag", "category", "metric", "level", "correct", "model", "steepness", "fires@1"])
def test_the_map_takes_any_column_as_its_colour(opened, whole, colour):
    test = opened("latent_map", whole, study="small", map_colour=colour)
    assert not test.exception
    assert ("Not here: fires@1. Shown: Tag." in words(test)) == (colour == "fires@1")
    picker = next(one for one in test.selectbox if one.label == "Colour")
    with closing(Store(whole)) as store:
        known = known_columns(store)
    assert len(picker.options) == len([name for name in known if known[name].holds != "text"])
