"""A definition gives the study's own direction, and says in words what is missing where it cannot."""

import json
import subprocess
import sys
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import torch

from backend.errors import AnchorscopeError
from backend.geometry import directions
from backend.geometry.direction_kinds import (
    DIRECTION_KINDS,
    DirectionSpec,
    SpecError,
    StudyChunks,
    kinds_by_hand,
    swept_kinds,
)
from backend.geometry.direction_library import (
    anchor_importance,
    available,
    category_gate_of,
    make_direction,
)
from backend.store.dictionaries import DictionaryLost
from backend.store.store import Store
from tests import small_dictionary, small_study

TAGS, SEED = "classifier 1", 3
LAYER = small_study.LAYERS[1]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store = Store(small_study.make(tmp_path_factory.mktemp("library") / "small"))
    yield store
    store.close()


@pytest.fixture(scope="module")
def model(store):
    return store.models()["model_id"][0]


@pytest.fixture(scope="module")
def study(store, model) -> dict[str, np.ndarray]:
    ids, vectors = store.activations(model, LAYER)
    return dict(zip(ids, vectors, strict=True))


def spec(model: str, kind: str, **how) -> DirectionSpec:
    return DirectionSpec(kind, model, LAYER, **how)


def same(one: directions.Direction, other: directions.Direction) -> bool:
    return one == other and np.array_equal(one.vector, other.vector)


@pytest.mark.parametrize("kind", swept_kinds())
@pytest.mark.parametrize("threshold", [0.2, 0.5])
def test_a_definition_gives_the_direction_that_the_sweep_makes(store, model, study, kind, threshold):
    importance = store.metric_by_chunk(directions.ANCHOR_METRIC, directions.ANCHOR_CONVENTIONS)
    chunks = StudyChunks(model, LAYER, study, importance, seed=SEED, n_random=3, threshold=threshold)
    expected = DIRECTION_KINDS[kind].swept.make(chunks).made
    sizes = {"per_chunk": len(study), "centered": len(study), "on_manifold": len(study)}
    sizes |= {"diff_in_means": 1, "random": 3}
    assert len(expected) == sizes.get(kind, len(expected)) > 0
    for number, direction in enumerate(expected):
        how = {"diff_in_means": {"threshold": threshold}, "random": {"seed": SEED, "number": number}}
        how["on_manifold"] = {"chunk_id": direction.chunk_id, "component": 1}
        assert same(
            make_direction(store, spec(model, kind, **how.get(kind, {"chunk_id": direction.chunk_id}))), direction
        )


def test_a_pair_a_category_and_a_tangent_are_of_the_studys_chunks(store, model, study):
    of = {"model_id": model, "layer": LAYER}
    first, second = list(study)[:2]
    made = make_direction(store, spec(model, "pair", chunk_id=first, other_chunk_id=second))
    assert same(made, directions.pair(study, first, second, **of).made[0])
    made = make_direction(store, spec(model, "category", category="self_checking", tags=TAGS))
    rows = store.frame(
        "SELECT chunk_id, category FROM categories WHERE source = $s AND rank = 0 ORDER BY chunk_id", s=TAGS
    )
    tagged = dict(zip(rows["chunk_id"], rows["category"], strict=True))
    inside = [study[chunk] for chunk in study if tagged[chunk] == "self_checking"]
    outside = [study[chunk] for chunk in study if tagged[chunk] != "self_checking"]
    assert np.allclose(made.norm * made.vector, np.mean(inside, axis=0) - np.mean(outside, axis=0), atol=1e-6)
    made = make_direction(store, spec(model, "on_manifold", chunk_id=first, component=2, neighbours=5))
    assert same(made, directions.on_manifold(study, first, component=2, k=5, **of).made[0])


def test_a_typed_text_has_directions_of_its_own_and_no_part_in_any_mean(store, model, study):
    typed = {"typed_0000": np.full(small_study.WIDTH, 2.0), "typed_0001": np.arange(small_study.WIDTH, dtype=float)}
    plain = make_direction(store, spec(model, "per_chunk", chunk_id="typed_0001"), activations=typed)
    assert np.allclose(plain.norm * plain.vector, typed["typed_0001"], atol=1e-5)
    centered = make_direction(store, spec(model, "centered", chunk_id="typed_0000"), activations=typed)
    assert np.allclose(centered.norm * centered.vector, 2 - np.mean(list(study.values()), axis=0), atol=1e-6)
    stored = next(iter(study))
    mixed = make_direction(store, spec(model, "pair", chunk_id="typed_0000", other_chunk_id=stored), activations=typed)
    assert np.allclose(mixed.norm * mixed.vector, 2 - study[stored], atol=1e-6)
    tangent = make_direction(
        store, spec(model, "on_manifold", chunk_id="typed_0000", component=1, neighbours=5), activations=typed
    )
    among = {**study, "typed_0000": typed["typed_0000"]}
    assert same(
        tangent, directions.on_manifold(among, "typed_0000", component=1, k=5, model_id=model, layer=LAYER).made[0]
    )
    for how in ({"kind": "diff_in_means"}, {"kind": "category", "category": "self_checking", "tags": TAGS}):
        asked = DirectionSpec(model_id=model, layer=LAYER, **how)
        assert same(make_direction(store, asked, activations=typed), make_direction(store, asked))
    own = make_direction(store, spec(model, "per_chunk", chunk_id=stored), activations={stored: typed["typed_0000"]})
    assert np.allclose(own.vector, 2 / own.norm)  # what is given goes before what is stored


def test_a_typed_text_needs_no_study_for_its_own_directions(store, model):
    typed = {"a": np.ones(9), "b": np.zeros(9)}
    elsewhere = DirectionSpec("pair", "another model", 77, chunk_id="a", other_chunk_id="b")
    assert make_direction(store, elsewhere, activations=typed).norm == 3


def test_a_file_and_a_random_direction_need_no_activations(store, model):
    about = {"file": "v.npy", "key": "array", "sha256": "ab"}
    made = make_direction(store, DirectionSpec("file", model, 2, **about), vector=np.array([0.0, 2.0]))
    assert (made.kind, made.norm, made.layer) == ("file", 2, 2) and np.array_equal(made.vector, [0, 1])
    unit = make_direction(store, DirectionSpec("file", model, 2, **about, norm=2.0), vector=made.vector)
    assert same(unit, made)  # a kept run has the unit vector, and its definition the length
    stranger = DirectionSpec("random", "another model", 2, seed=1)
    assert len(make_direction(store, stranger, d_model=64).vector) == 64
    with pytest.raises(SpecError, match="load the model"):
        make_direction(store, stranger)


def test_the_gate_of_a_category_counts_the_studys_chunks(store, model, study):
    found = category_gate_of(store, model, LAYER, "self_checking", TAGS)
    assert found.n_category + found.n_rest == len(study) and 0 <= found.false_share <= 1
    direction = make_direction(store, spec(model, "category", category="self_checking", tags=TAGS))
    assert np.allclose(found.gate.vector, direction.norm * direction.vector, atol=1e-6)


def test_what_is_missing_is_said(store, model, study):
    assert available(store, model) == list(small_study.LAYERS) and available(store, "nobody") == []
    chunk = next(iter(study))
    for asked, said in [
        (
            DirectionSpec("per_chunk", model, 6, chunk_id=chunk),
            "no chunk activations at layer 6; there are some at layers 5, 15",
        ),
        (DirectionSpec("diff_in_means", "nobody", 5), "none of this model at any layer"),
        (spec(model, "centered", chunk_id="stranger"), "Chunk stranger has no activation at layer 15"),
        (spec(model, "pair", chunk_id=chunk, other_chunk_id=chunk), "points nowhere"),
        (spec(model, "category", category="no such", tags=TAGS), "0 chunks with activations are tagged no such"),
        (spec(model, "category", category="self_checking", tags="nobody"), "0 otherwise"),
        (spec(model, "on_manifold", chunk_id=chunk, component=40), "neighbours span"),
        (spec(model, "diff_in_means", threshold=1e9), "both must be more than 0"),
        (spec(model, "file", file="v.npy", key="array", sha256="ab"), "choose the file again"),
    ]:
        with pytest.raises(SpecError, match=said):
            make_direction(store, asked)
    with pytest.raises(AnchorscopeError, match="at least 2 chunks"):
        category_gate_of(store, model, LAYER, "no such", TAGS)


def test_a_feature_points_along_its_decoder_row_and_its_norm_is_what_a_code_of_1_adds(tmp_path):
    study = small_study.make(tmp_path / "small")
    name = small_dictionary.add(study)
    weights, at = small_dictionary.weights(), small_dictionary.LAYER
    with closing(Store(study)) as store:
        row = store.dictionaries().iloc[0]
        for place, model_id in enumerate((row.base_model_id, row.distilled_model_id)):
            found = make_direction(store, DirectionSpec("feature", model_id, at, dictionary_id=name, feature=3))
            codes = torch.zeros(2, weights.n_features)
            codes[1, 3] = 1
            added = weights.decode(codes)[:, place].diff(dim=0)[0].double().numpy()
            assert found.norm == pytest.approx(np.linalg.norm(added), rel=1e-4) and found.kind == "feature"
            assert found.vector * found.norm == pytest.approx(added, abs=1e-4)
        own = {
            model: make_direction(store, DirectionSpec("feature", model, at, dictionary_id=name, feature=3))
            for model in (row.base_model_id, row.distilled_model_id)
        }
        asked = DirectionSpec(
            "feature", row.base_model_id, at, dictionary_id=name, feature=3, decoder=row.distilled_model_id
        )
        lent, of_distilled = make_direction(store, asked), own[row.distilled_model_id]
        assert (lent.vector == of_distilled.vector).all() and lent.norm == of_distilled.norm  # the same vector
        assert lent.model_id == row.base_model_id  # put into the base model
        assert lent.direction_id not in {one.direction_id for one in own.values()}
        assert json.loads(lent.parameters)["decoder"] == row.distilled_model_id
        assert DirectionSpec.from_json(asked.to_json()) == asked
        itself = make_direction(store, replace(asked, decoder=row.base_model_id))
        assert itself == own[row.base_model_id]  # a model's own row, said or not, has one id
        for wrong, said in [
            ({"decoder": "m0"}, "no decoder for model m0"),
            ({"dictionary_id": "w0"}, "no dictionary w0"),
            ({"feature": 6}, "features 0 to 5 at layer 5"),
            ({"model_id": "m0"}, "no decoder for model m0"),
            ({"layer": 2}, "feature 3 at layer 2 was asked for"),
        ]:
            with pytest.raises(SpecError, match=said):
                given = {
                    "kind": "feature",
                    "model_id": row.base_model_id,
                    "layer": at,
                    "dictionary_id": name,
                    "feature": 3,
                }
                make_direction(store, DirectionSpec(**(given | wrong)))
        (study / "dictionaries" / name / "dictionary.safetensors").write_bytes(b"another's")
        with pytest.raises(DictionaryLost, match="not what the study was made with"):
            make_direction(store, DirectionSpec("feature", row.base_model_id, at, dictionary_id=name, feature=3))


def test_an_analogy_of_features_is_b_less_a_plus_c_of_their_rows(tmp_path):
    study = small_study.make(tmp_path / "small")
    name, at = small_dictionary.add(study), small_dictionary.LAYER
    with closing(Store(study)) as store:
        model = store.dictionaries().iloc[0].distilled_model_id
        rows = [
            make_direction(store, DirectionSpec("feature", model, at, dictionary_id=name, feature=k)) for k in range(3)
        ]
        a, b, c = (row.vector.astype(float) * row.norm for row in rows)
        spec = DirectionSpec("feature_analogy", model, at, dictionary_id=name, feature_a=0, feature_b=1, feature_c=2)
        made = make_direction(store, spec)
        assert made.vector * made.norm == pytest.approx(b - a + c, abs=1e-4)
        assert json.loads(made.parameters) == {"a": 0, "b": 1, "c": 2, "dictionary": name}
        with pytest.raises(SpecError, match="features 0 to 5"):
            make_direction(store, replace(spec, feature_c=6))


def test_an_analogy_of_chunks_is_b_less_a_plus_c_of_their_activations(tmp_path):
    with closing(Store(small_study.make(tmp_path / "small"))) as store:
        place = store.activation_places().iloc[0]
        model, at = place["model_id"], int(place["layer"])
        ids, vectors = store.activations(model, at)
        a, b, c = ids[:3]
        spec = DirectionSpec("chunk_analogy", model, at, chunk_a=a, chunk_b=b, chunk_c=c)
        made = make_direction(store, spec)
        assert made.vector * made.norm == pytest.approx(vectors[1] - vectors[0] + vectors[2], abs=1e-4)
        assert json.loads(made.parameters) == {"a": a, "b": b, "c": c} and spec.chunks == (a, b, c)
        with pytest.raises(SpecError, match="the model must read its text first"):
            make_direction(store, replace(spec, chunk_c="nowhere_0001"))


@pytest.mark.parametrize("kind", kinds_by_hand())
def test_a_definition_survives_being_written_down(kind):
    every = {
        "chunk_id": "c_0001",
        "vector_id": "v1",
        "other_chunk_id": "c_0002",
        "category": "self_checking",
        "tags": "me",
        "component": 2,
        "seed": 5,
        "file": "v.npy",
        "key": "array",
        "sha256": "ab",
        "dictionary_id": "w1",
        "feature": 3,
        **{f"feature_{corner}": place for place, corner in enumerate("abc")},
        **{f"chunk_{corner}": f"c_000{place}" for place, corner in enumerate("abc")},
        **{f"word_{corner}": f"word {corner}" for corner in "abc"},
    }
    asked = DirectionSpec(kind, "m1", 4, **{name: every[name] for name in kinds_by_hand()[kind].needs})
    assert DirectionSpec.from_json(asked.to_json()) == asked and hash(asked)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({"kind": "latent"}, "no direction of kind 'latent'"),
        ({"kind": "feature"}, "feature needs dictionary_id and feature"),
        ({"kind": "pair", "chunk_id": "c"}, "pair needs other_chunk_id"),
        ({"layer": -1}, "layer is -1"),
        ({"layer": "5"}, "layer is '5'"),
        ({"number": -1}, "number is -1"),
        ({"seed": "1"}, "seed is '1'"),
        ({"component": 0}, "component is 0; a whole number from 1"),
        ({"norm": float("nan")}, "norm is nan"),
        ({"threshold": "x"}, "threshold is 'x'"),
    ],
)
def test_a_definition_that_makes_no_sense_is_refused(broken, said):
    with pytest.raises(SpecError, match=said):
        DirectionSpec(**({"kind": "random", "model_id": "m", "layer": 1, "seed": 1} | broken))


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"kind": "random"}', '{"kind": "random", "model_id": "m", "layer": 1, "seed": 1, "x": 2}']
)
def test_what_is_no_written_definition_is_refused(text):
    with pytest.raises(SpecError, match=r"definition|defined"):
        DirectionSpec.from_json(text)


def test_importing_it_costs_no_torch():
    check = (
        "import sys, backend.geometry.direction_library; print({'torch', 'sklearn', 'transformers', 'umap'} &"
        " set(sys.modules))"
    )
    assert (
        subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout.strip()
        == "set()"
    )


def test_anchors_are_chosen_by_one_convention_that_of_the_set_or_the_first_that_is_known():
    class Stored:
        def __init__(self, frozen=None, **by_convention):
            self.frozen, self.by_convention = frozen, by_convention

        def reference_convention(self, model_id):
            return self.frozen

        def metric_by_chunk(self, metric, conventions):
            return {chunk: value for name in conventions for chunk, value in self.by_convention.get(name, {}).items()}

        def given_metric_by_chunk(self, metric, convention):
            return self.metric_by_chunk(metric, [convention])

    def of(stored, **steered):
        return anchor_importance(stored, "m", dict.fromkeys("abc", True) | steered)

    both = {"fl": {"a": 0.3, "b": None}, "published": {"b": 9.0, "c": 9.0}}
    assert of(Stored(**both)) == {"a": 0.3, "b": None} and of(Stored(**both), a=False) == {"b": None}
    assert of(Stored("published", **both)) == {"b": 9.0, "c": 9.0}
    assert of(Stored(fl={"a": None}, published={"b": 9.0})) == {"b": 9.0}
    assert of(Stored()) == {}
