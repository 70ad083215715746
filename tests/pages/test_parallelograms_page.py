"""The parts of the page Geometry that show parallelograms: on a study that has them, on one that has not, on an old
one.
"""

import shutil
from contextlib import closing
from pathlib import Path

import pytest

from backend.feature_geometry.word_rows import EVERY_CLASS
from backend.store.publish import publish
from backend.store.store import Store
from backend.store.unit_files import StudyFolder
from tests import parallelogram_study, small_dictionary, small_study
from tests.pages.conftest import words

pytestmark = pytest.mark.usefixtures("no_embedded_model")
PAGE = "geometry"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = small_study.make(tmp_path_factory.mktemp("parallelograms") / "small")
    small_dictionary.add(folder)
    parallelogram_study.add_to_pair(folder)
    return folder


def open_with(opened, study, **link):
    test = opened(PAGE, study, study="small", **{"geometry_part": "parallelograms", **link})
    assert not test.exception, test.exception
    return test


def test_word_pairs_are_said_beside_their_shuffles_and_what_was_published(opened, study):
    said = words(open_with(opened, study))
    assert "1 of 3 ratios lie below 1 with their whole interval" in said and "from capitalize 0.0" in said
    assert "1 of 3 classes have a p of at most 0.05 by Holm" in said
    assert "By chance each ratio would be about 1" in said and "Baek and Tegmark (2025" in said
    assert "over 3 classes (p = " in said and "36 pairs of 3 classes; 9 are left out" in said


def test_the_space_is_chosen_in_a_link_and_what_is_not_there_is_said(opened, study):
    test = open_with(opened, study, word_cleaning="centred", word_components="5", layer="1")
    assert "mean taken away" in words(test) and "PCA to 5" in words(test)
    test = open_with(opened, study, word_cleaning="distractors", layer="3")
    assert not test.exception and "Output of block 1" in words(test) and "as they are" in words(test)


def test_quadruples_of_a_class_are_listed_and_one_of_them_can_be_chosen(opened, study):
    test = open_with(opened, study, word_class="antonym")
    table = next(frame.value for frame in test.dataframe if "a → b" in frame.value.columns)
    assert set(table["which"]) == {"best 1", "best 2", "worst 1", "worst 2"} and len(table) == 8
    assert "not on this machine, so that its words cannot be read" in words(test)


def test_one_layer_has_no_curve_and_several_are_said_with_what_chance_would_give(opened, study, tmp_path):
    assert "One layer was read" in words(open_with(opened, study))
    folder = Path(shutil.copytree(study, tmp_path / "small"))
    tables = ("parallelograms", "parallelogram_comparisons", "word_readings")
    with closing(Store(folder)) as store:
        deeper = {name: [row | {"layer": 2} for row in store.whole_table(name).to_pylist()] for name in tables}
    with StudyFolder(folder).writing("test") as writer:
        writer.add("parallelograms", "deeper", deeper)
        publish(writer)
    said = words(open_with(opened, folder))
    assert (
        "n = 3 classes: the ratio to shuffled pairs is least at layer 1" in said and "By chance it would be 1" in said
    )
    assert "ratios differ at 0 of 2 layers" in said


def test_words_along_one_direction_are_warned_of(opened, tmp_path):
    folder = small_study.make(tmp_path / "small")
    with closing(Store(folder)) as store:
        models = store.models()["model_id"].tolist()
    parallelogram_study.add(folder, models[:1], large=True)
    said = words(open_with(opened, folder))
    assert "differ along one direction at this layer" in said and "99.9%" in said
    assert "There is no pair of a base and a reasoner" in said


def test_decoder_rows_are_said_beside_every_null(opened, study):
    test = open_with(opened, study, geometry_part="quadruples")
    said = words(test)
    assert "the median loss of best matches is 0.7" in said and "By chance, the same search gives" in said
    assert "rows of shuffled coordinates 0.85" in said and "turned at random" in said and "Li et al. (2024" in said
    assert len(next(frame.value for frame in test.dataframe if "cosine of the sides" in frame.value.columns)) == 4


def test_autoencoders_that_were_searched_are_chosen_and_stand_beside_their_trained_nulls(opened, tmp_path):
    folder = small_study.make(tmp_path / "small")
    with closing(Store(folder)) as store:
        model_id = store.models()["model_id"][0]
    parallelogram_study.add_autoencoders(folder, model_id, {"wm": "model", "wg": "gaussian"})
    said = words(test := open_with(opened, folder, geometry_part="quadruples", searched_rows="wg"))
    assert "n = 2 autoencoders" in said and "Where an autoencoder's features fire is not kept" in said
    (picker,) = (box for box in test.selectbox if box.label == "Decoder rows of")
    assert picker.value == "wg" and any("layer 3, trained on a Gaussian cloud" in one for one in picker.options)
    table = next(frame.value for frame in test.dataframe if "lower by, %" in frame.value.columns)
    assert list(table["trained on"]) == ["a Gaussian cloud", "the model"] and table["lower by, %"][0] > 10


def test_a_study_without_them_and_an_old_one_say_what_to_run(opened, of_schema, tmp_path):
    bare = small_study.make(tmp_path / "bare" / "small")
    for folder in (bare, of_schema(10)):
        said = words(open_with(opened, folder))
        assert "[parallelograms]" in said and "--stage parallelograms" in said


def test_the_store_answers_with_every_class_and_one_row_of_all(study):
    with closing(Store(study)) as store:
        (space, *_), n = store.parallelogram_spaces().to_dict("records"), len(store.parallelogram_spaces())
        rows = store.parallelograms(**space)
        compared = store.parallelogram_comparisons(**space)
    assert n == 4 and len(rows) == 6 and set(rows["role"]) == {"model", "distilled"}
    assert set(compared["word_class"]) == {EVERY_CLASS, *parallelogram_study.CLASSES}
