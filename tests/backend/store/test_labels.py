"""Labels: the newest counts, all are kept, and a cut line takes no other with it."""

import multiprocessing

import pytest

from backend.store.labels import LabelError, add_label, file_of, history, labels


@pytest.mark.parametrize("name", ["study", "study.duckdb"])
def test_the_newest_label_counts_and_all_are_kept_with_author_and_time(tmp_path, name):
    study = tmp_path / name
    if not study.suffix:
        study.mkdir()
    add_label(study, "w1", 7, "sums", "Ada")
    add_label(study, "w1", 7, "  sums of\n two digits ", "Emmy")
    add_label(study, "w1", 3, "Wait", "Ada")
    add_label(study, "w2", 7, "another dictionary", "Ada")
    found = labels(study, "w1")
    assert found[["feature", "label", "author"]].values.tolist() == [
        [3, "Wait", "Ada"],
        [7, "sums of two digits", "Emmy"],
    ]
    assert history(study, "w1")["label"].tolist() == ["sums", "sums of two digits", "Wait"]
    assert found["created_at"].str.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}$").all()


def test_an_empty_label_takes_the_last_one_back(tmp_path):
    add_label(tmp_path, "w1", 7, "sums", "Ada")
    add_label(tmp_path, "w1", 7, "", "Ada")
    assert labels(tmp_path, "w1").empty and len(history(tmp_path, "w1")) == 2


def test_a_line_that_was_cut_off_or_is_no_label_takes_no_other_with_it(tmp_path):
    add_label(tmp_path, "w1", 1, "first", "Ada")
    with file_of(tmp_path).open("a") as file:
        file.write('[1]\n{"dictionary_id": "w1", "feature": "7"}\n{"dictionary_id": "w1", "feat')
    add_label(tmp_path, "w1", 2, "second", "Ada")
    assert labels(tmp_path, "w1")["label"].tolist() == ["first", "second"]


def _write(study, number):
    for feature in range(50):
        add_label(study, "w1", feature, f"{number}", "Ada")


def test_writers_at_the_same_time_lose_nothing(tmp_path):
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write, args=(tmp_path, number)) for number in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(history(tmp_path, "w1")) == 150 and len(labels(tmp_path, "w1")) == 50


def test_labels_without_author_or_too_long_are_refused(tmp_path):
    with pytest.raises(LabelError, match="needs its author"):
        add_label(tmp_path, "w1", 1, "sums", " ")
    with pytest.raises(LabelError, match="301 characters, at most 300"):
        add_label(tmp_path, "w1", 1, "x" * 301, "Ada")
    assert not file_of(tmp_path).exists() and labels(tmp_path, "w1").empty
