"""Notes, stars and corrected tags: all are kept with who and when, the newest counts, and none is given to another
text.
"""

import os
import tempfile
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest

from backend.search.columns import known_columns
from backend.search.language import parse
from backend.store import notes
from backend.store.notes import NOTE, STAR, STARRED, TAG, NoteError, chunk, feature, give, history, in_force
from backend.store.store import Store
from tests import small_study

CHUNK = chunk("c1_0004", "Wait, let me check.")


@pytest.mark.parametrize("name", ["study", "study.duckdb"])
def test_the_newest_of_a_kind_counts_and_all_are_kept_with_author_and_time(tmp_path, name):
    study = tmp_path / name
    if not study.suffix:
        study.mkdir()
    give(study, CHUNK, NOTE, " an *odd* one\nsecond line ", "Ada")
    give(study, CHUNK, STAR, STARRED, "Ada")
    give(study, CHUNK, TAG, "self_checking", "Ada")
    give(study, CHUNK, TAG, "uncertainty_management", "Emmy  Noether")
    give(study, CHUNK, STAR, "", "Emmy")
    give(study, feature("w1", 7), NOTE, "sums", "Ada")
    assert in_force(study, CHUNK) == {NOTE: "an *odd* one\nsecond line", TAG: "uncertainty_management"}
    assert in_force(study, feature("w1", 7)) == {NOTE: "sums"} and in_force(study, feature("w2", 7)) == {}
    given = history(study, CHUNK)
    assert given[["kind", "value", "author"]].values.tolist() == [
        [NOTE, "an *odd* one\nsecond line", "Ada"],
        [STAR, STARRED, "Ada"],
        [TAG, "self_checking", "Ada"],
        [TAG, "uncertainty_management", "Emmy Noether"],
        [STAR, "", "Emmy"],
    ]
    assert given["created_at"].str.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}$").all()
    found = notes.of_features(study, "w1")
    assert found[["feature", NOTE]].values.tolist() == [[7, "sums"]] and found[STAR].isna().all()


def test_what_is_in_force_already_is_not_kept_again(tmp_path):
    for _ in range(2):
        give(tmp_path, CHUNK, NOTE, "once", "Ada")
        give(tmp_path, CHUNK, TAG, "", "Ada")
    assert len(history(tmp_path, CHUNK)) == 1


def test_a_chunk_of_another_text_has_what_was_said_of_it_shown_as_that(tmp_path):
    give(tmp_path, CHUNK, STAR, STARRED, "Ada")
    cut_anew = chunk(CHUNK.name, "Wait.")
    assert in_force(tmp_path, cut_anew) == {} and history(tmp_path, cut_anew)["is_current"].tolist() == [False]


@pytest.mark.parametrize(
    ("thing", "kind", "value", "author", "says"),
    [
        (CHUNK, NOTE, "x", " ", "needs its author"),
        (CHUNK, NOTE, "x" * 4001, "Ada", "4001 characters, at most 4000"),
        (CHUNK, NOTE, "x", "A" * 81, "81 characters, at most 80"),
        (CHUNK, TAG, "No Such; tag", "Ada", "is no tag of a chunk"),
        (CHUNK, STAR, "ten", "Ada", "is no star of a chunk"),
        (CHUNK, "colour", "red", "Ada", "is no colour of a chunk"),
        (feature("w1", 7), TAG, "self_checking", "Ada", "is no tag of a feature"),
    ],
)
def test_what_is_none_is_refused_in_words(tmp_path, thing, kind, value, author, says):
    with pytest.raises(NoteError, match=says):
        give(tmp_path, thing, kind, value, author)
    assert notes.everything(tmp_path).empty and not notes.file_of(tmp_path).exists()


def test_a_line_that_is_none_takes_no_other_with_it(tmp_path):
    give(tmp_path, CHUNK, NOTE, "first", "Ada")
    with notes.file_of(tmp_path).open("a") as file:
        file.write(
            '[1]\n{"of": "chunk"}\n{"of": "planet", "name": "x", "text": "", "kind": "note", "value": "x", "author":'
            ' "A", "created_at": "2026"}\n{"of": "feature", "name": "w1", "text": "", "kind": "note", "value": "x",'
            ' "author": "A", "created_at": "2026"}\n{"of": "chu'
        )
    give(tmp_path, CHUNK, STAR, STARRED, "Ada")
    assert in_force(tmp_path, CHUNK) == {NOTE: "first", STAR: STARRED}
    assert notes.of_features(tmp_path, "w1").empty


def test_a_place_that_cannot_be_written_says_what_to_do():
    with tempfile.TemporaryDirectory() as parent:  # not tmp_path, which other users may not enter
        study = Path(parent) / "study"
        study.mkdir()
        os.chmod(parent, 0o755)
        os.chmod(study, 0o555)
        user = os.geteuid()
        if user == 0:  # root may write anywhere
            os.seteuid(65534)
        try:
            with pytest.raises(NoteError, match=r"note was not kept"):
                give(study, CHUNK, NOTE, "x", "Ada")
        finally:
            os.seteuid(user)
        os.chmod(study, 0o755)


def test_it_is_known_before_that_nothing_can_be_written(tmp_path, monkeypatch):
    assert notes.why_not_kept(tmp_path) is None
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    why = notes.why_not_kept(tmp_path / "study.duckdb")
    assert str(tmp_path) in why and "read-only" in why and "copy the study" in why


# In the search


@pytest.fixture
def study(tmp_path):
    return small_study.make(tmp_path / "small")


def found(study: Path, query: str, *names: str) -> pd.DataFrame:
    with closing(Store(study)) as store:
        known = known_columns(store)
        return store.search(parse(query, known), [known[name] for name in names])


def test_what_people_said_is_searched_for_and_the_computed_tag_stays_what_it_was(study):
    chunks = found(study, "", "text", "tag")
    first, second = chunks.iloc[0], chunks.iloc[1]
    other = "plan_generation" if first["tag"] != "plan_generation" else "self_checking"
    give(study, chunk(first["chunk_id"], first["text"]), STAR, STARRED, "Ada")
    give(study, chunk(first["chunk_id"], first["text"]), NOTE, 'an O\'dd; "one" -- 100 %', "Ada")
    give(study, chunk(first["chunk_id"], first["text"]), TAG, other, "Ada")
    give(study, chunk(second["chunk_id"], "another text"), STAR, STARRED, "Ada")
    for query in ("starred:yes", 'note:"o\'DD;"', "known:note", f"corrected:{other}", "known:corrected"):
        assert found(study, query)["chunk_id"].tolist() == [first["chunk_id"]], query
    assert len(found(study, "starred:no")) == len(chunks) - 1
    now = found(study, "", "tag", "tag@corrected", "corrected")
    assert now["tag"].tolist() == chunks["tag"].tolist()
    assert now["tag@corrected"].tolist() == [f"{other}, corrected", *chunks["tag"][1:]]
    assert now["corrected"].iloc[0] == other and now["corrected"].iloc[1:].isna().all()
    corrected = set(found(study, f"tag@corrected:{other}")["chunk_id"])
    assert corrected == set(found(study, f"tag:{other}")["chunk_id"]) | {first["chunk_id"]}


def test_a_study_that_nobody_said_anything_of_has_the_columns(study):
    assert found(study, "starred:yes or known:note or known:corrected").empty
    assert found(study, "", "tag@corrected", "tag").pipe(lambda rows: rows["tag@corrected"].equals(rows["tag"]))
