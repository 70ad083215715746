"""What directions are made of comes out of the store by chunk id, whole and in one order."""

import duckdb
import numpy as np
import pandas as pd
import pytest

from backend.store.store import Store
from backend.store.unit_queries import UnitQueries
from tests import small_study


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store = Store(small_study.make(tmp_path_factory.mktemp("queries") / "small"))
    yield store
    store.close()


@pytest.fixture(scope="module")
def model(store):
    return store.models()["model_id"][0]


def test_activations_of_a_layer_are_each_chunks_own(store, model):
    for layer in small_study.LAYERS:
        chunks, vectors = store.activations(model, layer)
        assert (
            chunks == sorted(set(chunks))
            and vectors.shape == (len(chunks), small_study.WIDTH)
            and vectors.dtype == np.float32
        )
        for chunk, vector in zip(chunks, vectors, strict=True):
            row = store.frame("SELECT vector FROM activations WHERE chunk_id = $c AND layer = $l", c=chunk, l=layer)
            assert np.array_equal(row["vector"][0], vector)


def test_layers_are_those_of_the_model_alone(store, model):
    assert store.activation_layers(model) == sorted(small_study.LAYERS)
    assert store.activation_layers("nobody") == []
    chunks, vectors = store.activations("nobody", small_study.LAYERS[0])
    assert chunks == [] and vectors.size == 0


def test_first_tags_are_those_of_rank_0_by_one_source(store):
    tagged = store.frame("SELECT DISTINCT chunk_id FROM categories WHERE rank = 0")
    seen = set()
    for source in store.tag_sources():
        tags = store.first_tags(source)
        rows = store.frame("SELECT chunk_id, category FROM categories WHERE source = $s AND rank = 0", s=source)
        assert tags == dict(zip(rows["chunk_id"], rows["category"], strict=True)) and list(tags) == sorted(tags)
        assert set(tags.values()) <= set(small_study.CATEGORIES)
        seen |= tags.keys()
    assert seen == set(tagged["chunk_id"])
    assert store.first_tags("nobody") == {}


def test_a_metric_is_read_under_the_first_convention_that_a_chunk_has(store):
    metric = "counterfactual_importance_kl"
    ours, published = (store.metric_by_chunk(metric, [convention]) for convention in ("fl", "published"))
    assert ours and published
    assert store.metric_by_chunk(metric, ["fl", "published"]) == {**published, **ours}
    assert store.metric_by_chunk(metric, ["published", "fl"]) == {**ours, **published}
    assert None in store.metric_by_chunk(metric, ["ta"]).values()  # a last chunk, whose importance nobody can know


class Made(UnitQueries):
    """The queries over tables of the test's own."""

    def __init__(self, **tables):
        self._connection = duckdb.connect()
        for name, rows in tables.items():
            self._connection.register(name, pd.DataFrame(rows))

    def frame(self, sql, **values):
        return self._connection.execute(sql, values).df()


def test_models_take_turns_for_rollouts_each_with_its_best_chains_first():
    def cot(name, model, problem, sample, finish="eos", chunks=3):
        row = {
            "cot_id": name,
            "model_id": model,
            "problem_id": problem,
            "sample": sample,
            "seed": 1,
            "finish": finish,
            "prompt_name": "boxed",
        }
        return row, [{"cot_id": name}] * chunks

    made = [
        cot("a1", "a", "p", 0),
        cot("a2", "a", "p", 1),
        cot("a3", "a", "q", 0),
        cot("a4", "a", "q", 1, finish="cap"),
        cot("b1", "b", "q", 0),
        cot("b2", "b", "p", 0, chunks=9),
    ]
    accuracy = [
        {"problem_id": problem, "model_id": model, "prompt_name": "boxed", "accuracy": share, "candidate": share == 0.5}
        for problem, model, share in (("p", "a", 0.5), ("q", "a", 1.0), ("p", "b", 0.5), ("q", "b", 0.5))
    ]
    queries = Made(
        cots=[row for row, _ in made],
        chunks=[chunk for _, chunks in made for chunk in chunks],
        problem_accuracy=accuracy,
    )
    assert queries.cots_worth_rollouts(2, 9) == ["a1", "b1", "a2", "b2", "a3", "a4"]
    assert queries.cots_worth_rollouts(2, 8) == ["a1", "b1", "a2", "a3", "a4"]
    assert queries.cots_worth_rollouts(2, 9, {"a": 1}) == ["a1", "b1", "b2"]
