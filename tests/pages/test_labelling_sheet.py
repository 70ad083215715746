"""The labelling sheet keeps a label at once, says how many there are, and opens where somebody stopped."""

import csv
import io
import shutil

import pandas as pd
import pytest

from app.crosscoder.labelling import first_unlabelled, sheet_csv
from backend.store.labels import add_label, labels
from backend.store.store import Store
from tests import small_dictionary, small_study
from tests.pages.conftest import words

ORDER = (3, 4, 0, 2, 1)  # of NRN 0.98, 0.95, 0.5 · 0.02, 0.45; feature 5 never fires


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = small_study.make(tmp_path_factory.mktemp("labelled") / "small")
    small_dictionary.add(folder)
    return folder


@pytest.fixture
def study(made, tmp_path):
    return shutil.copytree(made, tmp_path / "small")


def fields(test) -> list[int]:
    """The features that are shown, by their label fields."""
    return [int(one.label.removeprefix("Label of feature ")) for one in test.text_input if "Label of" in one.label]


def field(test, feature: int):
    return next(one for one in test.text_input if one.label == f"Label of feature {feature}")


def test_a_label_is_kept_at_once_and_counted_and_an_empty_one_takes_it_back(opened, study):
    test = opened("crosscoder", study, label_sheet="yes")
    name = Store(study).dictionaries()["dictionary_id"].iloc[0]
    assert fields(test) == list(ORDER) and "«" in words(test) and not test.exception
    field(test, 3).set_value("waits").run()
    assert "say who you are" in words(test) and labels(study, name).empty  # a label has its author
    next(one for one in test.text_input if one.label.startswith("Your name")).set_value("Ada").run()
    field(test, 3).set_value("waits again").run()
    kept = labels(study, name)
    assert kept[["feature", "label", "author"]].to_numpy().tolist() == [[3, "waits again", "Ada"]]
    assert "1 of 5 labelled" in words(test)
    field(test, 3).set_value("").run()
    assert labels(study, name).empty and "0 of 5 labelled" in words(test)


def test_the_sheet_is_not_made_until_it_is_asked_for(opened, study):
    assert fields(opened("crosscoder", study)) == []


def test_it_opens_at_the_first_without_a_label_and_stays_there_while_labels_are_given(opened, study, monkeypatch):
    monkeypatch.setattr("app.crosscoder.labelling.AT_ONCE", 2)
    name = Store(study).dictionaries()["dictionary_id"].iloc[0]
    for feature in ORDER[:2]:
        add_label(study, name, feature, "known", "Ada")
    test = opened("crosscoder", study, label_sheet="yes")
    assert fields(test) == list(ORDER[2:4])
    next(one for one in test.text_input if one.label.startswith("Your name")).set_value("Ada").run()
    for feature in ORDER[2:4]:
        field(test, feature).set_value("new").run()
    assert fields(test) == list(ORDER[2:4]) and test.session_state["selection"]["label_place"] == "2"
    next(one for one in test.button if one.label == "Next ten").click().run()
    assert fields(test) == [ORDER[4]]
    again = opened("crosscoder", study, label_sheet="yes")  # another day
    assert fields(again) == [ORDER[4]] and not again.exception


def test_a_place_beyond_the_end_is_none(opened, study):
    test = opened("crosscoder", study, label_sheet="yes", label_place="5000")
    assert fields(test) == list(ORDER) and not test.exception


def test_the_csv_has_every_feature_labelled_or_not():
    sheet = pd.DataFrame(
        {
            "end": ["highest", "lowest"],
            "feature": [3, 2],
            "nrn_l1": [0.98, 0.02],
            "frequency": [0.1, 0.2],
            "top_category": [None, "self_checking"],
            "label": ["waits, “twice”", None],
            "author": ["Ada", None],
            "created_at": ["2026-01-01T00:00:00.000", None],
        }
    )
    rows = list(csv.DictReader(io.StringIO(sheet_csv(sheet, "nrn_l1"))))
    assert [(row["end"], row["feature"], row["label"]) for row in rows] == [
        ("highest", "3", "waits, “twice”"),
        ("lowest", "2", ""),
    ]
    assert first_unlabelled(sheet) == 0
