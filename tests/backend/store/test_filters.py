"""Saved searches: the newest line of a name counts, and nobody's is overwritten."""

import pytest

from backend.store import filters
from backend.store.filters import FilterError


@pytest.fixture
def study(tmp_path):
    return tmp_path


def test_a_search_is_saved_with_who_and_when_listed_and_removed(study):
    assert filters.saved(study).empty
    filters.save(study, "  beyond   chance ", " q <= 0.05 ", "chunks", "Ada")
    filters.save(study, "a first", "level:2", "cots", "Bo")
    found = filters.saved(study)
    assert found[["name", "query", "level", "author"]].values.tolist() == [
        ["a first", "level:2", "cots", "Bo"],
        ["beyond chance", "q <= 0.05", "chunks", "Ada"],
    ]
    assert found["created_at"].str.match(r"\d{4}-\d\d-\d\dT").all()
    filters.remove(study, "a first", "Ada")
    filters.remove(study, "never there", "Ada")
    assert filters.saved(study)["name"].tolist() == ["beyond chance"]
    filters.save(study, "a first", "level:3", "chunks", "Cy")
    assert filters.saved(study)["query"].tolist() == ["level:3", "q <= 0.05"]
    assert len((study / "filters.jsonl").read_text().splitlines()) == 4


@pytest.mark.parametrize(
    ("name", "query", "author", "says"),
    [
        ("", "q < 1", "Ada", "needs its name"),
        ("x" * 81, "q < 1", "Ada", "81 characters"),
        ("mine", "  ", "Ada", "nothing to save"),
        ("mine", "q < 1", " ", "needs its author"),
        ("taken", "q < 1", "Ada", "already"),
    ],
)
def test_what_cannot_be_saved_is_refused_in_words(study, name, query, author, says):
    filters.save(study, "taken", "level:2", "chunks", "Bo")
    with pytest.raises(FilterError, match=says):
        filters.save(study, name, query, "chunks", author)


def test_damaged_and_foreign_lines_are_left_out(study):
    filters.save(study, "mine", "level:2", "chunks", "Ada")
    with (study / "filters.jsonl").open("a") as file:
        file.write('{"name": 1}\nnot json\n[1]\n{"name": "cut')
    filters.save(study, "another", "level:3", "chunks", "Ada")
    assert filters.saved(study)["name"].tolist() == ["another", "mine"]


def test_beside_a_portable_file_they_bear_its_name(tmp_path):
    assert filters.file_of(tmp_path / "demo.duckdb") == tmp_path / "demo.filters.jsonl"


def test_a_folder_that_may_not_be_written_to_is_said(study, monkeypatch):
    def refused(file, record):
        raise PermissionError(13, "Permission denied", str(file))

    monkeypatch.setattr(filters.lines, "append", refused)
    with pytest.raises(FilterError, match="not saved"):
        filters.save(study, "mine", "level:2", "chunks", "Ada")
