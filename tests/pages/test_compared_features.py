"""Two to four features side by side on the page Feature: what the link says, examples before numbers, and the numbers
against a count and a product of their own; on a whole study, an old one, and one of which nothing is known.
"""

import shutil
from contextlib import closing
from itertools import combinations

import duckdb
import numpy as np
import pytest

from app.feature import compared, side_by_side
from app.feature.views import COMPARED
from backend.schema.tables import TABLES
from backend.store.store import Store
from tests import small_dictionary, small_study
from tests.pages.conftest import words
from tests.small_dictionary import N_FEATURES, SILENT, code


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = small_study.make(
        tmp_path_factory.mktemp("compared") / "small", rollouts=False, activations=False, steering=False
    )
    small_dictionary.add(folder)
    return folder


def table(test, column):
    """The first table with such a column."""
    return next(frame.value for frame in test.dataframe if column in frame.value.columns)


def compared_with(test):
    return test.session_state["selection"].get("compared_features")


def test_a_link_says_which_features_are_compared_and_examples_come_first(opened, study):
    test = opened("feature", study, study="small", feature="3", compared_features="0|1|4")
    assert not test.exception
    heads = [head.value for head in test.header]
    assert heads == ["Where it fires most", "On one chain", "On the same tokens", "How alike their rows are"]
    named = [one.value for one in test.markdown if "Feature" in one.value]
    assert named == ["### Feature 3", "### Feature 0", "### Feature 1", "### Feature 4"]
    assert len(test.get("bidi_component")) >= 4 and compared_with(test) == "0|1|4"


def test_a_link_of_before_with_a_pinned_feature_compares_the_two(opened, study):
    for word in ("pinned", "pinned_feature"):
        test = opened("feature", study, study="small", feature="3", **{word: "0"})
        assert not test.exception and compared_with(test) == "0" and "### Feature 0" in words(test)


def test_the_nearest_by_decoder_cosine_is_offered_first_and_any_number_can_be_typed(opened, study):
    test = opened("feature", study, study="small", feature="3")
    assert "## Feature 3" in words(test) and len(test.get("bidi_component")) == 1 + len(_shell(test))
    (control,) = test.multiselect
    assert control.label == "Compare with" and control.options[0] == "4 · cosine 0.9"
    test.button(key="compare_nearest").click().run()
    assert not test.exception and compared_with(test) == "4"
    test.multiselect[0].set_value(["4", "1", "77", "no number"]).run()
    assert not test.exception and compared_with(test) == "4|1" and test.multiselect[0].value == ["4", "1"]
    test.multiselect[0].set_value([]).run()
    assert compared_with(test) is None and not [one for one in test.markdown if one.value.startswith("###")]


def _shell(test):
    """Components that every page has."""
    return [one for one in test.get("bidi_component") if "examples" not in str(one.proto)]


def test_a_feature_compared_with_itself_or_twice_is_shown_once_and_a_fifth_is_not(opened, study):
    test = opened("feature", study, study="small", feature="3", compared_features="3|0|0")
    assert [one.value for one in test.markdown if "Feature" in one.value] == ["### Feature 3", "### Feature 0"]
    test = opened("feature", study, study="small", feature="3", compared_features="0|1|2|4")
    assert not test.exception and "### Feature 2" in words(test) and "### Feature 4" not in words(test)


def test_how_often_they_fire_together_is_counted_token_by_token(opened, study):
    test = opened("feature", study, study="small", feature="0", compared_features="1|2")
    rows = table(test, "both fire on").set_index("features")
    with closing(Store(study)) as store:
        places = [
            range(max(int(store.cot_to_read(cot["cot_id"])["n_prompt_tokens"][0]), 1), len(cot["token_ids"]))
            for cot in store.tokenised_cots()
        ]
    n = sum(map(len, places))
    for a, b in combinations((0, 1, 2), 2):
        fires = [[(bool(code(a, at)), bool(code(b, at))) for at in own] for own in places]
        n_a, n_b, both = (
            sum(sum(map(pick, own)) for own in fires) for pick in (lambda x: x[0], lambda x: x[1], lambda x: all(x))
        )
        within = sum(sum(x for x, _ in own) * sum(y for _, y in own) / len(own) for own in fires)
        row = rows.loc[f"{a} and {b}"]
        assert row["both fire on"] == both and float(row["expected"]) == pytest.approx(n_a * n_b / n, rel=5e-3)
        assert float(row["lift"].split()[0]) == pytest.approx(both * n / (n_a * n_b), rel=5e-3)
        assert float(row["lift within chains"].split()[0]) == pytest.approx(both / within, rel=5e-3)
    assert f"n = {n:,} tokens of {len(places)} chains" in words(test)


def test_cosines_are_those_of_the_weights_in_each_model(opened, study):
    test = opened("feature", study, study="small", feature="0", compared_features="3")
    row, weights = table(test, "encoder, base").set_index("features").loc["0 and 3"], small_dictionary.weights()
    for model, role in enumerate(("base", "reasoner")):
        for side, rows in (("decoder", weights.decoder[model]), ("encoder", weights.encoder[model].T)):
            a, b = rows[0].double().numpy(), rows[3].double().numpy()
            cosine = float(np.sum(a * b) / np.sqrt(np.sum(a * a) * np.sum(b * b)))
            assert float(row[f"{side}, {role}"]) == pytest.approx(cosine, rel=5e-3)
    assert "other features that fire" in words(test)


def test_texts_where_they_fire_together_have_each_f_and_open_their_chunk(opened, study, monkeypatch):
    monkeypatch.setattr(compared, "picked_row", lambda key, n: None)
    test = opened("feature", study, study="small", feature="0", compared_features="1", compared_part="places")
    rows = table(test, "f of 1")
    assert not test.exception and len(rows) and rows["text"].str.contains("‹").all()
    for row in rows.itertuples():
        assert row.token % 6 == 0 and row[2] == pytest.approx(code(0, row.token))
        assert row[3] == pytest.approx(code(1, row.token))
    silent = opened("feature", study, study="small", feature="0", compared_features=str(SILENT), compared_part="places")
    assert not silent.exception and "No two of them fire on one token" in words(silent)


@pytest.mark.parametrize("part", COMPARED)
@pytest.mark.parametrize("others", ["1", f"1|{SILENT}|2"])
def test_every_part_shows_all_of_them(opened, study, part, others):
    test = opened("feature", study, study="small", feature="3", compared_features=others, compared_part=part)
    assert not test.exception and test.header[0].value == "Where it fires most" and len(test.header) > 1
    if part == "known":
        assert table(test, "what").columns.tolist() == [
            "what",
            "feature 3",
            *(f"feature {k}" for k in others.split("|")),
        ]
    if part == "near":
        assert len([one for one in test.dataframe if "cosine" in one.value.columns]) == 2 * (1 + len(others.split("|")))


def test_a_neighbour_that_is_clicked_takes_the_place_of_its_column_or_joins(opened, study, monkeypatch):
    for column, adds, expected in ((0, False, ("4", "0")), (1, False, ("3", "1")), (1, True, ("3", "0|1"))):
        chosen = {"feature": "3", "compared_features": "0"}
        monkeypatch.setattr(side_by_side.selection, "_state", lambda chosen=chosen: chosen)
        shown, neighbour = [3, 0], 4 if column == 0 else 1
        side_by_side._replace([*shown, neighbour] if adds else shown, 2 if adds else column, neighbour)
        assert (chosen["feature"], chosen["compared_features"]) == expected


def test_where_none_fires_on_the_chain_one_where_it_does_is_a_click_away(opened, study, tmp_path):
    shutil.copytree(study, copied := tmp_path / "small")
    generation = copied / "generations" / (copied / "CURRENT").read_text().strip()
    with duckdb.connect(str(generation)) as connection:
        (chain,) = connection.execute("SELECT cot_id FROM feature_examples WHERE feature = 3 AND rank = 0").fetchone()
        connection.execute(
            "UPDATE cot_codes SET positions = [1], features = [2], codes = [1.0] WHERE cot_id <> $chain",
            {"chain": chain},
        )
        (other,) = connection.execute("SELECT min(cot_id) FROM cot_codes WHERE cot_id <> $c", {"c": chain}).fetchone()
    test = opened("feature", copied, study="small", feature="3", compared_features="0", cot=other)
    test.button(key="chain_where_it_fires").click().run()
    assert not test.exception and test.session_state["selection"]["cot"] == chain
    assert not [one for one in test.button if one.key == "chain_where_it_fires"]


def test_without_the_files_of_the_weights_the_rest_is_shown(opened, study, tmp_path):
    shutil.rmtree(shutil.copytree(study, copied := tmp_path / "small") / "dictionaries")
    test = opened("feature", copied, study="small", feature="3", compared_features="0")
    assert not test.exception and "travels with the study" in words(test)
    assert len(table(test, "both fire on")) == 1 and test.get("plotly_chart")


@pytest.fixture
def without(study, tmp_path):
    """`without(tables)`: the study with no row in these tables."""

    def make(tables):
        shutil.copytree(study, copied := tmp_path / f"without-{len(tables)}" / "small")
        generation = copied / "generations" / (copied / "CURRENT").read_text().strip()
        with duckdb.connect(str(generation)) as connection:
            for name in tables:
                connection.execute(f"DELETE FROM {name}")
        return copied

    return make


@pytest.mark.parametrize("part", COMPARED)
def test_a_study_without_codes_and_examples_says_what_to_run(opened, without, part):
    folder = without(["cot_codes", "feature_neighbours", "feature_examples", "feature_logits"])
    test = opened("feature", folder, study="small", feature="3", compared_features="0", compared_part=part)
    assert not test.exception and not [one for one in test.button if one.key == "compare_nearest"]
    assert part != "together" or "--stage codes" in words(test)


def test_a_study_with_nothing_has_no_features_to_compare(opened, without):
    folder = without(set(TABLES) - {"about", "models"})
    test = opened("feature", folder, study="small", feature="3", compared_features="0")
    assert not test.exception and "no dictionary of activations" in words(test)


def test_an_old_study_compares_its_features_too(opened, study, tmp_path):
    """Made before there were null pairs, nulls' evidence or ablations among those that fire."""
    shutil.copytree(study, copied := tmp_path / "small")
    generation = copied / "generations" / (copied / "CURRENT").read_text().strip()
    with duckdb.connect(str(generation)) as connection:
        for name in ("null_dictionaries", "null_features", "firing_ablations", "null_peaks", "null_categories"):
            connection.execute(f"DROP TABLE {name}")
        connection.execute("UPDATE about SET value = '8' WHERE name = 'schema_version'")
    test = opened("feature", copied, study="small", feature="3", compared_features="0")
    assert not test.exception and len(table(test, "both fire on")) == 1


def test_neighbours_are_told_by_the_larger_cosine_of_either_model(study):
    with closing(Store(study)) as store:
        found = store.feature_neighbours(store.dictionary_ids()[0], 3)
    near = side_by_side.nearest(found)
    assert list(near) == [4, 5] and list(near.values()) == pytest.approx([0.9, 0.7])
    found.loc[found["neighbour"] == 5, "cosine"] = [0.95, np.nan]
    assert list(side_by_side.nearest(found)) == [5, 4] and N_FEATURES == 6
