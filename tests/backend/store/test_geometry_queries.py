"""Geometry beside importance, each answer checked against another way to it."""

import shutil
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from backend.errors import AnchorscopeError
from backend.evidence.multiple import judged
from backend.schema.tables import TABLES
from backend.store.geometry_columns import (
    CLOUDS,
    COLUMNS,
    EXACT,
    IMPORTANCE,
    LOCAL,
    NO_LAYER,
    STEPS,
    SWEPT,
    columns_of,
)
from backend.store.publish import publish
from backend.store.store import Store
from backend.store.unit_files import StudyFolder
from tests import shaped_study, small_study

METRIC = {"source": "classifier 1", "metric": "counterfactual_importance_kl", "convention": "ta"}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = small_study.make(tmp_path_factory.mktemp("geometry") / "small")
    shaped_study.add(folder)
    with closing(Store(folder)) as store:
        chunks = store.frame("SELECT chunk_id, model_id FROM chunks JOIN cots USING (cot_id)").to_dict("records")
    measured = {"suppressed": "all", "out_influence": 0.5, "in_influence": None, "last_reader": 2}
    with StudyFolder(folder).writing("test") as writer:
        rows = [dict.fromkeys(TABLES["chunk_influences"].columns) | chunk | measured for chunk in chunks]
        writer.add("influence", "all", {"chunk_influences": rows})
        publish(writer)
    return folder


@pytest.fixture(scope="module")
def store(study):
    return Store(study)


@pytest.fixture(scope="module")
def columns(store):
    return store.geometry_choices()


def asked(store, column, **changes) -> pd.DataFrame:
    name = {key: column[key] for key in ("x", "kind", "model_id", "layer", "position", "unit")}
    return store.geometry_and_importance(**name, **METRIC | changes)


def test_every_geometry_column_is_offered_once_with_what_is_known_of_it(store, columns):
    assert list(dict.fromkeys(columns["x"])) == list(COLUMNS)
    assert not columns.duplicated(["x", "kind", "model_id", "layer", "position", "unit"]).any()
    for _, column in columns.iterrows():
        rows = asked(store, column)
        assert (len(rows), rows["x"].notna().sum()) == (column.n_chunks, column.n_known), column.x
        assert rows["chunk_id"].is_unique


def test_a_column_of_curves_is_the_mean_over_the_kinds_directions(store, columns):
    of_kind = columns[
        (columns["x"] == "fisher_steepness") & (columns["kind"] == "random") & (columns["position"] == "anchor")
    ].iloc[0]
    rows = store.frame("SELECT chunk_id, fisher_steepness FROM fisher WHERE kind = 'random' AND position = 'anchor'")
    expected = rows.groupby("chunk_id")["fisher_steepness"].mean()
    found = asked(store, of_kind).set_index("chunk_id")
    np.testing.assert_allclose(found["x"], expected.loc[found.index])
    assert (found["n_directions"] == 2).all() and found["r2"].isna().all() and found["below_floor"].isna().all()


def test_the_variation_over_random_directions_is_that_of_magnitude_1(store, columns):
    column = columns[(columns["x"] == "random_cv") & (columns["position"] == "chunk")].iloc[0]
    rows = asked(store, column)
    assert column.n_chunks > column.n_known > 0 and set(rows["x"].dropna()) == {0.4}


def test_random_steps_are_those_of_every_chunk_and_where_there_are_none_the_few_of_the_exact_geometry(store):
    place = {"model_id": small_study._MODEL, "layer": small_study.LAYERS[1], "unit": "rms"}
    every, few = (store.random_steps_at(**place, position=name) for name in ("anchor", "chunk"))
    table, old = store.whole_table("random_steps").to_pandas(), store.whole_table("local_geometry").to_pandas()
    assert set(every["chunk_id"]) == set(table["chunk_id"]) and every["kl_at_1"].notna().all()
    known = old[(old["position"] == "chunk") & old["n_random"].notna()]
    assert set(few["chunk_id"]) == set(known["chunk_id"]) and few["kl_at_1"].isna().all()
    assert every["chunk_id"].is_unique and set(every["isotropic_steepness"]) <= set(old["isotropic_steepness"])
    ratio = [max(kl) / min(kl) for kl in every["kl_at_1"]]
    assert every["ratio_as_published"].tolist() == pytest.approx(ratio)
    floored = every["n_below_floor"] > 0
    assert floored.any() and every.loc[floored, "anisotropy_ratio"].isna().all()
    assert every.loc[~floored, "anisotropy_ratio"].tolist() == pytest.approx(every.loc[~floored, "ratio_as_published"])


def test_a_chunk_has_the_random_steps_of_every_place_where_they_were_made(store):
    chunk = store.frame("SELECT chunk_id FROM local_geometry WHERE n_random IS NOT NULL ORDER BY chunk_id LIMIT 1")
    found = store.random_steps_of(chunk["chunk_id"][0]).set_index("position")
    assert set(found.index) == {"anchor", "chunk"} and set(found["n_random"]) == {16}
    at = {"model_id": small_study._MODEL, "layer": small_study.LAYERS[1], "unit": "rms", "position": "anchor"}
    every = store.random_steps_at(**at).set_index("chunk_id")
    expected = every.loc[chunk["chunk_id"][0]]
    assert found.loc["anchor", "n_below_floor"] == expected["n_below_floor"]


def test_where_there_are_no_random_steps_the_evidence_rests_on_what_it_did(store, monkeypatch):
    """Stored evidence is not computed again because a table came in."""
    first, second = small_study.LAYERS
    found = [store.evidence_digest(small_study._MODEL, layer) for layer in (first, second)]
    without = {name: column for name, column in COLUMNS.items() if column.source is not STEPS}
    monkeypatch.setattr("backend.store.geometry_queries.COLUMNS", without)
    assert store.evidence_digest(small_study._MODEL, first) == found[0]
    assert store.evidence_digest(small_study._MODEL, second) != found[1]


def test_covariates_are_the_chunks_own(store, columns):
    column = columns[columns["x"] == "isotropic_steepness"].iloc[0]
    rows = asked(store, column).set_index("chunk_id")
    norms = store.frame(
        "SELECT chunk_id, residual_norm FROM neighbourhoods WHERE layer = $l", l=int(column.layer)
    ).set_index("chunk_id")
    assert (rows["residual_norm"] == norms["residual_norm"].loc[rows.index]).all()
    assert rows["entropy"].isna().sum() == 1
    for cot, own in rows.groupby("cot_id"):
        spans = store.chunk_spans(cot)
        assert own["n_tokens"].tolist() == (spans["token_end"] - spans["token_start"]).tolist()
        assert own["place"].tolist() == [number / len(spans) for number in range(len(spans))]


def test_an_importance_metric_can_stand_as_x(store, columns):
    column = columns[columns["x"] == "different_trajectories_fraction"].iloc[0]
    assert (column.kind, column.layer, column.position, column.unit) == ("all", NO_LAYER, "none", "none")
    rows = asked(store, column).set_index("chunk_id")
    assert rows["x"].to_dict() == {
        chunk: pytest.approx(value)
        for chunk, value in store.metric_by_chunk("different_trajectories_fraction", ["all"]).items()
    }
    assert rows["value"].isna().sum() == rows["cot_id"].nunique()  # of the last chunks
    assert rows["residual_norm"].isna().all()


def test_an_unknown_column_is_refused_and_an_unknown_place_is_empty(store, columns):
    with pytest.raises(AnchorscopeError, match="no geometry column 'vector'"):
        asked(store, dict(columns.iloc[0]) | {"x": "vector"})
    assert asked(store, columns.iloc[0], metric="nothing")["value"].isna().all()
    assert asked(store, dict(columns.iloc[0]) | {"kind": "x'; DROP TABLE fisher; --"}).empty


def test_pairs_come_with_their_q_and_what_it_leaves_of_their_verdicts(store):
    pairs = judged(store.associations())
    stored = store.frame("SELECT p, verdict, subset FROM associations")
    assert len(pairs) == len(stored) and pairs["model"].eq("embedded:Tiny").all()
    assert pairs["within"].abs().is_monotonic_decreasing
    for _, family in pairs.groupby("subset"):
        sorted_p, m = np.sort(family["p"]), len(family)
        expected = [min(min(sorted_p[k] * m / (k + 1) for k in range(m) if sorted_p[k] >= p), 1) for p in family["p"]]
        np.testing.assert_allclose(family["q"].astype(float), expected)
    assert (stored["verdict"] == "inverse").sum() == 2 and (pairs["verdict"] == "inverse").sum() == 1


def test_pairs_of_two_importance_metrics_are_a_family_of_their_own(study, tmp_path):
    folder = Path(shutil.copytree(study, tmp_path / "small"))
    with closing(Store(study)) as store:
        pair = store.whole_table("associations").to_pylist()[0]
    pair |= {
        "x": "different_trajectories_fraction",
        "kind": "all",
        "layer": NO_LAYER,
        "position": "none",
        "unit": "none",
        "p": 0.04,
        "partial_p": None,
        "metric": "forced_importance_kl",
    }
    with StudyFolder(folder).writing("test") as writer:
        writer.add("evidence", "metrics", {"associations": [pair]})
        publish(writer)
    pairs = judged(Store(folder).associations())
    assert pairs.loc[pairs["layer"] == NO_LAYER, "q"].tolist() == [0.04]


def test_a_chunk_has_all_its_rows_and_a_stranger_has_none(store):
    chunk = store.frame("SELECT chunk_id FROM local_geometry ORDER BY chunk_id")["chunk_id"][0]
    assert store.local_geometry_of(chunk)["position"].tolist() == ["anchor", "chunk"]
    assert store.neighbourhood_of(chunk)["layer"].tolist() == list(small_study.LAYERS)
    fisher = store.fisher_of(chunk)
    swept = store.kl_curves_of(chunk).set_index("curve_id")
    assert (fisher["amplitude"] == swept["amplitude"].loc[fisher["curve_id"]].to_numpy()).all() and len(fisher) == 10
    cot = chunk.split("_")[0]
    assert store.before_after_of("stranger").empty and store.fisher_of("stranger").empty
    steered = store.frame("SELECT count(*) AS n FROM before_after")["n"][0]
    rows = store.before_after_of(small_study.ids.stable_id("c", 0, 0))
    assert len(rows) == steered > 0 and rows["chunk_index"].is_monotonic_increasing
    assert set(rows["kind"]) == {"per_chunk", "diff_in_means", "random"} and cot


def test_what_rests_on_a_value_is_made_again_when_it_changes(study, tmp_path):
    folder = Path(shutil.copytree(study, tmp_path / "small"))
    with closing(Store(study)) as one, closing(Store(folder)) as other:
        (model,) = one.models()["model_id"]
        places = [(model, layer) for layer in (NO_LAYER, *small_study.LAYERS)]
        before = [one.evidence_digest(*place) for place in places]
        assert before == [other.evidence_digest(*place) for place in places] and len(set(before)) == 3
        row = one.whole_table("fisher").to_pylist()[0]
    with StudyFolder(folder).writing("test") as writer:
        writer.add("geometry", "more", {"fisher": [row | {"fisher_steepness": row["fisher_steepness"] * 1.001}]})
        publish(writer)
    after = [Store(folder).evidence_digest(*place) for place in places]
    assert after[:2] == before[:2] and after[2] != before[2]


def test_an_entropy_of_any_layer_is_held_fixed_at_all_and_so_all_are_made_again(study, tmp_path):
    folder = Path(shutil.copytree(study, tmp_path / "small"))
    with closing(Store(study)) as store:
        (model,) = store.models()["model_id"]
        places = [(model, layer) for layer in (NO_LAYER, *small_study.LAYERS)]
        before = [store.evidence_digest(*place) for place in places]
        row = store.whole_table("local_geometry").to_pylist()[0]
    with StudyFolder(folder).writing("test") as writer:
        writer.add("geometry", "more", {"local_geometry": [row | {"entropy": 0.0}]})
        publish(writer)
    after = [Store(folder).evidence_digest(*place) for place in places]
    assert not set(after) & set(before)


def test_a_study_without_geometry_has_nothing_to_offer_but_its_importance(tmp_path):
    store = Store(small_study.make_imported(tmp_path / "imported"))
    assert store.geometry_choices().empty and judged(store.associations()).empty
    young = set(Store(small_study.make(tmp_path / "small", geometry=False)).geometry_choices()["x"])
    assert young >= {*columns_of(SWEPT, IMPORTANCE)} and young.isdisjoint(columns_of(EXACT, LOCAL, CLOUDS))
