"""A geometry column is one entry: its table, its SQL, its words; queries, evidence and pages follow."""

from contextlib import closing
from dataclasses import replace

import pytest

from backend.evidence.multiple import shared
from backend.feature_geometry.divergence_kinds import MEASURES
from backend.importance.metric_registry import METRICS
from backend.schema.tables import TABLES
from backend.store.geometry_columns import (
    ACTIVATIONS,
    COLUMNS,
    IMPORTANCE,
    INFLUENCE,
    NO_LAYER,
    PATHS,
    SWEPT,
    ColumnError,
    GeometryColumn,
    columns_of,
    rules,
)
from backend.store.publish import publish
from backend.store.store import Store
from backend.store.unit_files import StudyFolder
from tests import shaped_study, small_study
from tests.registering import lists_of, registered

LARGEST = GeometryColumn(
    "spikiness",
    "Spikiness",
    "largest / RMS",
    "Of the chunk's mean residual stream, over its root mean square.",
    ACTIVATIONS,
    "greatest(list_max(vector), -list_min(vector)) / rms",
)
METRIC = {"source": "classifier 1", "metric": "counterfactual_importance_kl", "convention": "ta"}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store = Store(small_study.make(tmp_path_factory.mktemp("columns") / "small"))
    yield store
    store.close()


def test_a_new_column_is_had_from_what_is_stored_and_set_beside_importance(store):
    with registered(COLUMNS, LARGEST):
        choices = store.geometry_choices()
        own = choices[choices["x"] == "spikiness"]
        name = own.iloc[0][["x", "kind", "model_id", "layer", "position", "unit"]].to_dict()
        assert name["kind"] == name["position"] == name["unit"] == "none" and (own["n_known"] > 0).all()
        rows = store.geometry_and_importance(**name, **METRIC).set_index("chunk_id")
        ids, vectors = store.activations(name["model_id"], name["layer"])
    rms = store.frame(
        "SELECT chunk_id, rms FROM activations WHERE model_id = $m AND layer = $l", m=name["model_id"], l=name["layer"]
    ).set_index("chunk_id")["rms"]
    for chunk, vector in zip(ids, vectors, strict=True):
        assert rows.loc[chunk, "x"] == pytest.approx(abs(vector).max() / rms[chunk], rel=1e-5)
    assert "spikiness" not in set(store.geometry_choices()["x"])


def test_steps_of_paths_are_columns_where_they_are_stored_and_the_pairs_of_a_study_without_them_keep_their_keys(
    store, tmp_path
):
    assert not {"step_length", "step_progress", "turning_angle"} & set(store.geometry_choices()["x"])
    assert not {column.name for column in COLUMNS.values() if column.source is PATHS and column.rule}
    folder = small_study.make(tmp_path / "small")
    shaped_study.add(folder)
    with closing(Store(folder)) as walked:
        choices = walked.geometry_choices()
        model, layer = choices[["model_id", "layer"]].iloc[0]
        assert walked.evidence_digest(model, layer) != store.evidence_digest(model, layer)
        for name in columns_of(PATHS):
            own = choices[choices["x"] == name].iloc[0]
            rows = walked.geometry_and_importance(
                **own[["x", "kind", "model_id", "layer", "position", "unit"]].to_dict(), **METRIC
            ).set_index("chunk_id")["x"]
            stored = walked.frame(
                f"SELECT chunk_id, {name} AS x FROM path_steps WHERE model_id = $m AND layer = $l",
                m=own["model_id"],
                l=int(own["layer"]),
            ).set_index("chunk_id")["x"]
            assert rows.sort_index().equals(stored.sort_index()) and 0 < rows.notna().sum() < len(rows)


def test_influence_is_a_column_of_the_writers_own_reading_and_of_no_layer(store, tmp_path):
    assert not set(columns_of(INFLUENCE)) & set(store.geometry_choices()["x"])
    assert not {column.name for column in COLUMNS.values() if column.source is INFLUENCE and column.rule}
    folder = small_study.make(tmp_path / "small")
    with closing(Store(folder)) as unread:
        (own,) = unread.models()["model_id"]
        chunks = unread.frame("SELECT chunk_id FROM chunks ORDER BY chunk_id")["chunk_id"].tolist()
        places = [(own, layer) for layer in (NO_LAYER, *small_study.LAYERS)]
        before = [unread.evidence_digest(*place) for place in places]
    rows = [
        dict.fromkeys(TABLES["chunk_influences"].columns)
        | {"chunk_id": chunk, "model_id": reader, "suppressed": part, "in_influence": None}
        | {"out_influence": number + 0.25 * len(part), "last_reader": number % 5}
        for number, chunk in enumerate(chunks)
        for reader, part in ((own, "all"), (own, "layers 0-1"), ("another", "all"))
    ]
    with StudyFolder(folder).writing("test") as writer:
        writer.add("influence", "all", {"chunk_influences": rows})
        publish(writer)
    with closing(Store(folder)) as read:
        after = [read.evidence_digest(*place) for place in places]
        assert after[0] != before[0] and after[1:] == before[1:]
        choices = read.geometry_choices()
        column = choices[choices["x"] == "out_influence"]
        assert column[["kind", "model_id", "layer", "position"]].to_numpy().tolist() == [["none", own, -1, "none"]]
        assert choices.loc[choices["x"] == "in_influence", "n_known"].tolist() == [0]
        name = column.iloc[0][["x", "kind", "model_id", "layer", "position", "unit"]].to_dict()
        found = read.geometry_and_importance(**name, **METRIC).set_index("chunk_id")["x"]
        assert found.to_dict() == {chunk: number + 0.75 for number, chunk in enumerate(chunks)}


def test_of_chains_whose_writer_reads_nothing_the_reader_is_taken(tmp_path):
    folder = small_study.make(tmp_path / "small")
    with closing(Store(folder)) as store:
        chunk = store.frame("SELECT chunk_id FROM chunks ORDER BY chunk_id")["chunk_id"][0]
    row = {"chunk_id": chunk, "model_id": "reader", "suppressed": "all", "out_influence": 2.0}
    with StudyFolder(folder).writing("test") as writer:
        rows = [dict.fromkeys(TABLES["chunk_influences"].columns) | row]
        writer.add("influence", "all", {"chunk_influences": rows})
        publish(writer)
    with closing(Store(folder)) as store:
        found = store.frame(COLUMNS["out_influence"].sql())
        assert found[["chunk_id", "model_id", "x"]].to_numpy().tolist() == [[chunk, "reader", 2.0]]


def test_pairs_are_tested_anew_for_a_new_column_and_keep_their_keys_without_one(store):
    model, layer = store.geometry_choices()[["model_id", "layer"]].iloc[0]
    before = store.evidence_digest(model, layer)
    known = rules().get("columns", {})
    assert not {name for name in known if COLUMNS[name].rule == 0}
    with registered(COLUMNS, LARGEST):
        assert rules() == {"columns": known | {"spikiness": 1}}
    with registered(COLUMNS, replace(LARGEST, source=replace(ACTIVATIONS, table="maps", key="method"))):
        assert store.evidence_digest(model, layer) != before  # which rests on one table more
    assert store.evidence_digest(model, layer) == before


def test_a_new_column_has_its_words_on_every_axis():
    from app.shell.vocabulary import column

    with registered(COLUMNS, LARGEST):
        assert column("spikiness").axis("none") == "Spikiness, largest / RMS"
    assert column("spikiness").label == "spikiness"


def test_what_stands_in_one_table_has_different_labels():
    labels = [one.label for one in (*COLUMNS.values(), *MEASURES.values())]
    assert len(labels) == len(set(labels))


def test_a_column_that_no_entry_knows_is_refused_with_those_there_are(store):
    with pytest.raises(ColumnError, match="no geometry column 'spikiness'; expected one of steepness, ampl"):
        store.geometry_and_importance("spikiness", "none", "m", 1, "none", "none", **METRIC)


@pytest.mark.parametrize("part", ["label", "unit", "meaning", "source", "value"])
def test_an_entry_without_one_of_its_parts_is_refused(part):
    with pytest.raises(ColumnError, match=f"needs {part}"):
        COLUMNS.register(replace(LARGEST, **{part: None}))
    with pytest.raises(ColumnError, match="letters, digits and _"):
        replace(LARGEST, name="it's")
    with pytest.raises(TypeError):
        GeometryColumn("x")


def test_every_source_is_a_table_and_every_column_has_a_stage_that_fills_it():
    from precompute.stages import STAGES

    for column in COLUMNS.values():
        assert column.source.table in TABLES and column.source.stage in {stage.NAME for stage in STAGES}


def test_an_importance_that_stands_as_a_column_is_called_what_the_metric_is_and_shares_its_rollouts():
    for name in columns_of(IMPORTANCE):
        column, metric = COLUMNS[name], METRICS[name]
        assert (column.label, column.unit, column.meaning) == (metric.label, metric.unit, metric.meaning)
    pair = {"kind": "none", "metric": "counterfactual_importance_kl"}
    assert {name for name in COLUMNS if shared(pair | {"x": name})} == set(columns_of(IMPORTANCE))


def test_what_the_evidence_calls_shared_is_what_the_registries_say():
    from backend.geometry.direction_kinds import DIRECTION_KINDS, kinds_of_importance

    pair = {"x": "steepness", "metric": "counterfactual_importance_kl"}
    assert {kind for kind in DIRECTION_KINDS if shared(pair | {"kind": kind})} == kinds_of_importance()
    pair = {"x": "steepness", "kind": "diff_in_means"}
    apart = {name for name in METRICS if not shared(pair | {"metric": name})}
    assert apart == {metric.name for metric in METRICS.values() if metric.rollouts == "forced"}


def test_swept_columns_are_means_over_the_directions_of_a_kind():
    assert columns_of(SWEPT) == ("steepness", "amplitude")
    assert all("GROUP BY chunk_id, kind" in COLUMNS[name].sql() for name in columns_of(SWEPT))


def test_of_a_chunk_at_a_layer_every_column_has_its_own_value_error_and_n(store):
    local = store.frame("SELECT * FROM local_geometry WHERE isotropic_se IS NOT NULL ORDER BY chunk_id").iloc[0]
    rows = store.geometry_of(local.chunk_id, local.model_id, local.layer)
    at = rows[(rows["position"] == local.position) & (rows["unit"] == local.unit)].set_index("name")
    for name, error, n in (
        ("isotropic_steepness", "isotropic_se", "n_probes"),
        ("participation_ratio", "participation_se", "n_probes"),
    ):
        assert at.loc[name, ["x", "se", "n"]].tolist() == local[[name, error, n]].tolist()
    swept = store.frame(
        "SELECT kind, position, unit, avg(steepness) AS x, count(steepness) AS n FROM steepness WHERE chunk_id = $chunk"
        " AND model_id = $model AND layer = $layer GROUP BY ALL ORDER BY ALL",
        chunk=local.chunk_id,
        model=local.model_id,
        layer=int(local.layer),
    )
    own = rows[rows["name"] == "steepness"]
    assert len(swept) and own[["kind", "position", "unit", "n"]].values.tolist() == (
        swept[["kind", "position", "unit", "n"]].values.tolist()
    )
    assert own["x"].tolist() == pytest.approx(swept["x"].tolist()) and own["se"].isna().all()
    assert set(rows["name"]) <= set(COLUMNS) and rows["name"].nunique() > 8


def test_no_other_module_lists_the_columns():
    own = (
        "backend/store/geometry_columns.py",
        "backend/schema/tables.py",  # what is stored
        "backend/geometry/",  # what is measured
        "backend/feature_geometry/paths.py",  # likewise
        "backend/influence/suppression.py",
        "app/chains_of_thought/influence",  # show what a chunk does of one chain
        "app/influence/",
        "app/shared/influence_ways.py",
        "backend/store/influence_queries.py",
        "backend/live/influence.py",
        "app/figures/geometry.py",  # draws certain of them against each other
        "app/steepness/local_geometry.py",
    )
    assert lists_of(COLUMNS.keys(), allowed=own) == []
