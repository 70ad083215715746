"""Notes, stars and corrected tags on the pages: given beside the chunk and the feature, found again, shown as text."""

import re

import pytest

from app.shared import chunk_colours
from app.shell import selection
from backend.ids import cot_of
from backend.store import notes
from backend.store.notes import NOTE, STAR, STARRED, TAG, chunk, feature, give, in_force
from backend.store.store import Store
from tests import small_dictionary, small_study
from tests.pages.conftest import words

pytestmark = pytest.mark.usefixtures("no_embedded_model")
PAGE = "chains_of_thought"
HOSTILE = "![p](http://x.invalid/p.png) <img src=x onerror=alert(1)> :red[x] $\\frac12$ **b**"
UNESCAPED = re.compile(r"(?<!\\)(!|<img|\*\*|\]|\$)|:red")  # behind a colon an escaped one has a mark


@pytest.fixture
def study(tmp_path):
    return small_study.make(tmp_path / "of" / "small")


def boxes(test) -> dict:
    every = (*test.toggle, *test.text_area, *test.selectbox, *test.text_input)
    return {
        one.label: one for one in every if one.label in ("Star", "Note", "Corrected tag", "Your name, kept with it")
    }


def keep(test, **said):
    for label, value in said.items():
        boxes(test)[label.replace("_", " ")].set_value(value)
    return next(one for one in test.button if one.label == "Keep" and "note_form" in one.proto.form_id).click().run()


def first_chunk(study):
    row = Store(study).frame("SELECT chunk_id, text FROM chunks ORDER BY chunk_id LIMIT 1").iloc[0]
    return row["chunk_id"], chunk(row["chunk_id"], row["text"])


def test_what_is_kept_beside_a_chunk_is_in_the_ledger_and_said_beside_it(opened, study, monkeypatch):
    monkeypatch.setattr(notes, "usual_author", lambda: "ada")
    name, thing = first_chunk(study)
    test = opened(PAGE, study, study="small", chunk=name)
    assert not test.exception and boxes(test)["Your name, kept with it"].value == "ada"
    test = keep(test, Star=True, Note="an odd one", Corrected_tag="plan_generation")
    assert not test.exception
    assert in_force(study, thing) == {NOTE: "an odd one", STAR: STARRED, TAG: "plan_generation"}
    assert set(notes.history(study, thing)["author"]) == {"ada"}
    assert "★ · corrected" in words(test).replace("\\", "").replace("\u2060", "")
    test = keep(test, Star=False, Note="less odd")
    assert in_force(study, thing) == {NOTE: "less odd", TAG: "plan_generation"}
    shown = next(one.value for one in test.dataframe if "author" in one.value)
    assert sorted(shown["value"]) == sorted(["(taken back)", "less odd", "plan_generation", STARRED, "an odd one"])
    other = opened(PAGE, study, study="small", chunk=name[:-1] + "1")
    assert boxes(other)["Note"].value == "" and boxes(other)["Star"].value is False


def test_a_corrected_tag_changes_the_colour_and_the_legend_at_once(opened, study, monkeypatch):
    name, _ = first_chunk(study)
    test = opened(PAGE, study, study="small", chunk=name)
    legend = next(one.proto.body for one in test.get("html") if "swatch" in one.proto.body)
    redrawn = []
    monkeypatch.setattr(selection, "redraw_page", lambda: redrawn.append(True))
    test = keep(test, Corrected_tag="plan_generation")
    assert not test.exception and redrawn == [True]
    store = Store(study)
    rows = chunk_colours.chunks(store, cot_of(name), store.tag_sources()[0], None, None)
    assert rows["category"].iloc[0] == "plan_generation" and not rows["is_unsure"].iloc[0]
    assert rows["tags"].iloc[0] == list(store.tagged_chunks(cot_of(name), store.tag_sources()[0])["categories"].iloc[0])
    assert next(one.proto.body for one in test.get("html") if "swatch" in one.proto.body) != legend


def test_a_search_finds_them_and_says_corrected(opened, study):
    thing = first_chunk(study)[1]
    give(study, thing, TAG, "plan_generation", "Ada")
    asked = {"search": "corrected:plan_generation", "browse_columns": "chunk|text|tag|tag@corrected|note"}
    test = opened("browse", study, study="small", **asked)
    rows = test.dataframe[0].value
    assert len(rows) == 1 and rows["tag@corrected"].iloc[0].endswith(", corrected")
    assert "corrected" not in rows["tag"].iloc[0] and rows["note"].isna().all()
    give(study, thing, NOTE, HOSTILE, "Ada")  # what is asked again is not answered from memory
    assert test.run().dataframe[0].value["note"].iloc[0].startswith("![p](http")


def test_a_feature_has_a_note_and_a_star_that_the_table_filters_by(opened, study):
    dictionary = small_dictionary.add(study)
    test = opened("feature", study, study="small", feature="1")
    assert not test.exception and "Corrected tag" not in boxes(test)
    test = keep(test, Star=True, Note="sums")
    assert in_force(study, feature(dictionary, 1)) == {NOTE: "sums", STAR: STARRED}
    assert "note: “sums”" in words(test)
    test = opened("crosscoder", study, study="small", feature_filters="starred:yes,note:sum")
    assert not test.exception and "**1 of" in words(test)


def test_hostile_text_is_shown_as_text(opened, study):
    name, thing = first_chunk(study)
    give(study, thing, NOTE, HOSTILE, HOSTILE[:60])
    test = opened(PAGE, study, study="small", chunk=name)
    assert not test.exception
    said = [str(one.value) for kind in (test.markdown, test.caption, test.title, test.header) for one in kind]
    said += [one.label for one in test.button]
    assert any("invalid" in text for text in said)
    assert not [text for text in said if "invalid" in text and UNESCAPED.search(text)]
    assert boxes(test)["Note"].value == HOSTILE


def test_where_nothing_can_be_written_it_says_what_to_do(opened, study, monkeypatch):
    monkeypatch.setattr(notes, "why_not_kept", lambda study: "the folder is read-only. Copy the study elsewhere.")
    test = opened(PAGE, study, study="small")
    assert not test.exception and "cannot be kept: the folder is read-only. Copy" in words(test)
    assert next(one for one in test.button if one.label == "Keep").disabled


def test_a_name_is_asked_for(opened, study, monkeypatch):
    monkeypatch.setattr(notes, "usual_author", lambda: "")
    test = keep(opened(PAGE, study, study="small"), Note="x")
    assert "needs its author" in words(test) and notes.everything(study).empty


@pytest.mark.parametrize("state", ["running", "imported"])
def test_a_study_with_little_takes_notes_too(opened, request, state):
    test = opened(PAGE, request.getfixturevalue(state), study="small")
    assert not test.exception and "Note" in boxes(test)


def test_a_study_of_before_takes_notes_too(opened, of_schema):
    study = of_schema(12)
    test = keep(opened(PAGE, study, study="small"), Note="old")
    assert not test.exception and notes.everything(study)["value"].tolist() == ["old"]
