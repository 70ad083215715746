"""The part Cosine tails of the page Geometry: what was counted, what a click opens, and what is missing."""

import shutil
from pathlib import Path

import duckdb
import pytest

from app.geometry.cosines import BIN, KIND, MARK, SUBSET
from backend.schema.tables import TABLES
from backend.store.publish import publish
from backend.store.store import Store, generation_of
from backend.store.unit_files import StudyFolder
from tests import cosine_sets, small_dictionary, small_study
from tests.pages.conftest import words

pytestmark = pytest.mark.usefixtures("no_embedded_model")
D = 24


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """A portable study with sets of three kinds; those of its dictionary have features that fire."""
    folder = small_study.make(tmp_path_factory.mktemp("cosines") / "small")
    dictionary = small_dictionary.add(folder)
    with StudyFolder(folder).writing("test") as writer:
        for kind, layers, how in (
            ("mlp_out", (0, 2, 5), {}),
            ("unembedding", (None,), {}),
            ("dictionary", (small_dictionary.LAYER,), {"source": dictionary, "n": small_dictionary.N_FEATURES}),
        ):
            writer.add("cosines", kind, cosine_sets.tables_of(kind=kind, layers=layers, d=D, **how))
        publish(writer)
    file = folder.parent / "small.duckdb"
    shutil.copy(generation_of(folder), file)
    shutil.copytree(folder / "dictionaries", file.with_suffix(".dictionaries"))
    return file


def chosen(test, **selection: str):
    test.session_state["selection"].update(selection)
    return test.run()


def test_the_page_says_what_the_sets_are_and_what_chance_would_give(opened, study):
    test = opened("geometry", study, geometry_part="cosines")
    assert not test.exception, test.exception
    said = words(test)
    for told in (
        "MLP output columns",
        "n = 6 sets, 720 rows",
        "Red: the exact distribution of isotropic rows",
        "isotropic rows have",
        "Gaussian rows with its own mean and covariance have",
        "Feature Geometry",
        "By chance 1 in 20 intervals leaves out 1",
        "It is not known how often the features of these rows fire",
    ):
        assert told in said, told


@pytest.mark.parametrize("kind", ["mlp_out", "unembedding", "dictionary"])
@pytest.mark.parametrize(("subset", "mark"), [("all", "0.1"), ("live", "1e-6"), ("distinct", "1e-3")])
def test_every_choice_shows_something(opened, study, kind, subset, mark):
    link = {"geometry_part": "cosines", KIND.name: kind, SUBSET.name: subset, MARK.name: mark}
    test = opened("geometry", study, **link)
    assert not test.exception, test.exception
    assert len(test.get("plotly_chart")) >= 3


def test_a_bin_that_was_clicked_lists_its_pairs_and_where_both_features_fire(opened, study):
    store = Store(study)
    tails = store.cosine_tails("dictionary")
    own = tails[(tails["subset"] == "all") & tails["drawn_from"].isna() & (tails["role"] == "base")].iloc[0]
    bin_ = max(k for k, n in enumerate(own.positive) if n)
    pairs = store.cosine_pairs(own.set_id)
    low = 0.1 + 0.02 * bin_
    inside = pairs[pairs["is_drawn"].astype(bool) & (pairs["cosine"] > low)]
    store.close()
    link = {"geometry_part": "cosines", KIND.name: "dictionary", BIN.name: f"{own.set_id}|{bin_ + 1}"}
    test = opened("geometry", study, **link)
    assert not test.exception, test.exception
    said = words(test)
    assert f"{own.positive[bin_]:,} pairs have cos in" in said and f"{len(inside)} of them are kept" in said
    for feature in inside.iloc[0][["a", "b"]].astype(int):
        assert f"**Feature {feature}**" in said


def test_what_hangs_together_is_told_with_what_chance_would_connect(opened, study):
    test = opened("geometry", study, geometry_part="cosines", cosine_rows="mlp_out", cosine_linked="0.6")
    said = words(test)
    assert "clusters by cosines above 0.6" in said and "by the exact distribution" in said
    test = opened("geometry", study, geometry_part="cosines", cosine_rows="mlp_out", cosine_linked="0.99")
    assert "connected into 1 clusters" in words(test) or "clusters by cosines above 0.99" in words(test)


def test_a_link_to_a_bin_that_is_gone_asks_for_a_click(opened, study):
    test = opened("geometry", study, geometry_part="cosines", cosine_bin="nowhere|3")
    assert not test.exception and "Click a mark" in words(test)


def test_a_study_without_it_names_the_command(opened, whole):
    said = words(opened("geometry", whole, geometry_part="cosines"))
    assert "It is not known yet how the directions of this study lie" in said and "--stage cosines" in said


def test_tables_that_lost_rows_break_nothing(opened, study, tmp_path):
    for table in (name for name in TABLES if name.startswith("cosine_")):
        file = tmp_path / f"{table}.duckdb"
        shutil.copy(study, file)
        with duckdb.connect(str(file)) as connection:
            connection.execute(f'DELETE FROM "{table}"')
        test = opened("geometry", file, geometry_part="cosines")
        assert not test.exception, (table, test.exception)
