"""The pages' questions, each checked against another way to the same answer."""

from contextlib import closing

import duckdb
import numpy as np
import pandas as pd
import pytest
from scipy.stats import false_discovery_control

from backend.store.decided import DECIDED
from backend.store.store import Store
from tests import small_study


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(small_study.make(tmp_path_factory.mktemp("queries") / "small"))


@pytest.fixture(scope="module")
def model(store):
    return store.models()["model_id"][0]


def test_the_most_important_chunk_is_the_largest_known_value_with_an_interval(store):
    rows = store.frame("SELECT * FROM importance WHERE metric = 'counterfactual_importance_kl' AND convention = 'ta'")
    best = rows[rows["ci_low"].notna()].sort_values("value").iloc[-1]
    found = store.most_important_chunk().iloc[0]
    assert (found.chunk_id, found.value, found.convention) == (best.chunk_id, best.value, "ta")


def with_p(folder, rows):
    study = small_study.make(folder)
    chunks = small_study.add_divergence(study, rows)
    return Store(study), chunks


def test_the_most_important_chunk_is_the_largest_of_those_that_chance_does_not_give(tmp_path):
    rows = [(0, 0.1, 0.0004), (1, 0.6, 0.3), (2, 0.2, 0.001), (3, -0.1, 1.0)]
    store, chunks = with_p(tmp_path / "small", rows)
    with closing(store):
        found = store.most_important_chunk().iloc[0]
        assert (found.chunk_id, found.convention, found.value, found.n_tested) == (chunks[2], "jsd", 0.2, 4)
        q = store.frame(f"SELECT value, p, q FROM {DECIDED} WHERE p IS NOT NULL ORDER BY chunk_id")
        assert q["q"].tolist() == pytest.approx(false_discovery_control(q["p"]).tolist())
        assert store.frame(f"SELECT q, n_tested FROM {DECIDED} WHERE p IS NULL").isna().all().all()
        assert store.importance_of_chunk(chunks[0]).set_index("convention").loc["jsd", "q"] == pytest.approx(0.0016)


def test_where_no_chunk_is_beyond_chance_the_largest_estimate_is_opened(tmp_path):
    store, chunks = with_p(tmp_path / "small", [(0, 0.1, 0.2), (1, 0.3, 0.4), (2, 0.2, 0.2)])
    with closing(store):
        found = store.most_important_chunk().iloc[0]
        assert found.chunk_id == chunks[1] and found.q > 0.05


def test_equal_p_have_the_same_q(tmp_path):
    store, _ = with_p(tmp_path / "small", [(k, 0.1, (0.01, 0.01, 0.5, 0.01)[k]) for k in range(4)])
    with closing(store):
        found = store.frame(f"SELECT p, q FROM {DECIDED} WHERE p IS NOT NULL ORDER BY chunk_id")
    assert found["q"].tolist() == pytest.approx(false_discovery_control(found["p"]).tolist())


def test_the_most_important_chunk_of_a_cot_is_one_of_its_own(store):
    for cot in store.cot_index()["cot_id"]:
        found = store.most_important_chunk(cot_id=cot).iloc[0]
        assert found.chunk_id.startswith(cot)
    imported = store.frame("SELECT cot_id FROM cots WHERE token_ids IS NULL")["cot_id"][0]
    assert store.most_important_chunk(cot_id=imported)["convention"][0] == "published"


def test_where_no_importance_is_known_the_first_chunk_is_opened(tmp_path):
    store = Store(small_study.make(tmp_path / "small", rollouts=False))
    found = store.most_important_chunk().iloc[0]
    assert pd.isna(found.metric) and found.chunk_id.endswith("_0000")


def test_an_id_the_study_does_not_have_finds_nothing(store):
    stranger = "x'; DROP TABLE chunks; --"
    assert store.chunk_place(stranger).empty
    assert store.cot(stranger).empty
    assert store.most_important_chunk(cot_id=stranger).empty
    assert store.rollouts_at(stranger).empty and store.kl_curves_of(stranger).empty


def test_chunks_come_in_reading_order_and_tile_the_text(store):
    for cot in store.cot_index()["cot_id"]:
        chunks = store.tagged_chunks(cot, "classifier 1")
        assert "".join(chunks["text"]) == store.cot(cot)["text"][0]
        assert list(chunks["chunk_index"]) == list(range(len(chunks)))


def test_tags_are_those_of_the_source_asked_for_in_rank_order(store):
    cot = store.frame("SELECT cot_id FROM cots WHERE token_ids IS NULL")["cot_id"][0]
    by_classifier, published, nobody = (
        store.tagged_chunks(cot, source)["categories"] for source in ("classifier 1", "published", "nobody")
    )
    rows = store.frame(
        "SELECT chunk_id, category FROM categories WHERE source = 'classifier 1' ORDER BY chunk_id, rank"
    )
    expected = [list(tags) for chunk, tags in rows.groupby("chunk_id")["category"] if chunk.startswith(cot)]
    assert [list(tags) for tags in by_classifier] == expected
    assert all(len(tags) == 1 for tags in published) and all(len(tags) == 0 for tags in nobody)


def test_a_metric_that_a_chunk_does_not_have_is_unknown_and_not_left_out(store):
    cot = store.frame("SELECT cot_id FROM cots WHERE token_ids IS NOT NULL")["cot_id"][0]
    values = store.importance_in_cot(cot, "counterfactual_importance_kl", "ta")
    assert len(values) == len(store.tagged_chunks(cot, "classifier 1"))
    assert pd.isna(values["value"].iloc[-1])
    assert store.importance_in_cot(cot, "no such metric", "ta")["value"].isna().all()


def test_rollouts_are_counted_by_the_answer_they_count_as(store):
    chunk = store.frame("SELECT chunk_id FROM rollouts ORDER BY chunk_id LIMIT 1")["chunk_id"][0]
    rows = store.rollouts_at(chunk)
    assert set(rows.loc[rows["answer"] == "54.0", "cluster"]) <= {"54"}
    outcomes = store.outcomes_around(chunk, "resample")
    before = outcomes[outcomes["side"] == "before"]
    assert before["n"].sum() == len(rows)
    assert before.loc[before["cluster"].isna(), "n"].sum() == rows["answer"].isna().sum()
    following = chunk.replace("_0000", "_0001")
    assert outcomes.loc[outcomes["side"] == "after", "n"].sum() == len(store.rollouts_at(following))


def test_neighbours_are_the_nearest_by_cosine_in_float64(store, model):
    rows = store.frame("SELECT chunk_id, vector FROM activations WHERE layer = 15 ORDER BY chunk_id")
    vectors = np.stack(rows["vector"].to_list()).astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = vectors @ vectors[0]
    order = [k for k in np.argsort(-cosines) if k != 0][:5]
    found = store.neighbours(rows["chunk_id"][0], model, 15, 5)
    assert list(found["chunk_id"]) == [rows["chunk_id"][k] for k in order]
    assert found["cosine"].to_numpy() == pytest.approx(cosines[order], abs=1e-5)


def test_steepness_of_several_directions_is_their_mean_over_the_known(store, model):
    place = {"kind": "random", "model_id": model, "layer": 15, "position": "anchor", "unit": "rms"}
    importance = {"metric": "counterfactual_importance_kl", "convention": "ta"}
    rows = store.geometry_and_importance("steepness", **place, source="classifier 1", **importance)
    raw = store.frame(
        "SELECT chunk_id, steepness FROM steepness WHERE kind = 'random' AND position = 'anchor' AND layer = 15"
    )
    expected = raw.groupby("chunk_id")["steepness"].mean()
    assert rows.set_index("chunk_id")["x"].sort_index().to_numpy() == pytest.approx(
        expected.sort_index().to_numpy(), nan_ok=True
    )
    assert rows["n_directions"].max() == 2
    assert rows.loc[rows["x"].isna(), "n_directions"].eq(0).all()


def test_map_points_are_the_chunks_of_the_layer_with_their_first_tag(store, model):
    points = store.map_points(model, 15, "umap_2d", "classifier 1").set_index("chunk_id")
    tags = store.frame("SELECT chunk_id, category FROM categories WHERE source = 'classifier 1' AND rank = 0")
    assert len(points) == 45
    assert points["category"].dropna().to_dict().items() <= tags.set_index("chunk_id")["category"].to_dict().items()


def test_accuracy_by_level_adds_up_to_all_cots_judged(store):
    levels = store.accuracy_by_level()
    assert levels["n"].sum() == store.frame("SELECT sum(n)::BIGINT AS n FROM problem_accuracy")["n"][0]
    assert pd.isna(levels["level"].iloc[-1]) and int(levels["n_candidates"].sum()) == 1


def test_coverage_counts_chunks_once_however_many_rows_they_have(store):
    counts = store.coverage().iloc[0]
    assert counts.chunks == 55 and counts.chunks_with_tokens == 45
    done = store.progress().set_index("stage")["done"]
    assert done["categories"] == 55 and done["maps"] == 2
    assert done["rollouts"] == done["activations"] == done["sweep"] == 45


def test_a_training_has_its_model_its_last_step_and_its_metrics_in_order(tmp_path, store):
    assert store.training_runs().empty and store.training_metrics("t1").empty
    study = small_study.make_imported(tmp_path / "small")
    training_id = small_study.add_training(study)
    trained = Store(study)
    (run,) = trained.training_runs().itertuples()
    assert (run.training_id, run.model, run.n_steps, run.n_tokens) == (training_id, "embedded:Tiny", 60, 120_000)
    metrics = trained.training_metrics(training_id)
    assert list(metrics["metric"].unique()) == ["learning_rate", "loss"]
    loss = metrics[metrics["metric"] == "loss"]
    assert list(loss["step"]) == list(range(1, 61)) and list(loss["tokens"]) == list(range(2000, 122_000, 2000))
    assert loss["value"].iloc[0] == 2.5 and loss["step"][loss["value"].isna()].tolist() == [3]
    trained.close()


def test_answers_that_count_as_one_in_a_cot_are_one_of_the_problem(tmp_path):
    study = small_study.make(tmp_path / "small")
    with closing(Store(study)) as store:
        cots = store.frame("SELECT cot_id, problem_id FROM cots ORDER BY problem_id, cot_id")
    here, beside = cots[cots["problem_id"] == cots["problem_id"][0]]["cot_id"][:2]
    other = cots[cots["problem_id"] != cots["problem_id"][0]]["cot_id"].iloc[0]
    pairs = [(here, "1/2", "1/2"), (here, "0.5", "1/2"), (beside, "0.50", "0.5"), (beside, "0.5", "0.5")]
    pairs += [(beside, "3", "3"), (other, "9", "9")]
    generation = study / "generations" / (study / "CURRENT").read_text().strip()
    with duckdb.connect(str(generation)) as connection:
        connection.execute("DELETE FROM answer_clusters")
        for cot, answer, cluster in pairs:
            connection.execute(
                "INSERT INTO answer_clusters (cot_id, answer, cluster) VALUES (?, ?, ?)", [cot, answer, cluster]
            )
    with closing(Store(study)) as store:
        assert (store.n_outcomes(here), store.n_outcomes(beside), store.n_outcomes(other)) == (2, 2, 1)
        assert store.n_outcomes("nowhere") == 0
