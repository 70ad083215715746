"""Directions are unit vectors with ids of their own, made only from what is known."""

import json
import math

import numpy as np
import pytest
import torch

from backend.geometry.directions import (
    Direction,
    DirectionError,
    category,
    category_gate,
    centered,
    diff_in_means,
    from_vector,
    on_manifold,
    pair,
    per_chunk,
    random,
)
from backend.models.interventions import Intervention, changed

RNG = np.random.default_rng(0)
ACTIVATIONS = {
    f"cot{cot}_{chunk:04d}": RNG.standard_normal(16).astype(np.float32) for cot in range(3) for chunk in range(4)
}
OF = {"model_id": "m1", "layer": 5}


def by_chunk(directions):
    return {direction.chunk_id: direction for direction in directions.made}


def test_per_chunk_and_centered_times_norm_are_the_activation_and_its_deviation():
    mean = np.mean(list(ACTIVATIONS.values()), axis=0)
    plain, deviation = by_chunk(per_chunk(ACTIVATIONS, **OF)), by_chunk(centered(ACTIVATIONS, **OF))
    for chunk, activation in ACTIVATIONS.items():
        assert np.allclose(plain[chunk].norm * plain[chunk].vector, activation, atol=1e-6)
        assert np.allclose(deviation[chunk].norm * deviation[chunk].vector, activation - mean, atol=1e-6)
    total = sum(direction.norm * direction.vector for direction in deviation.values())
    assert np.allclose(total, 0, atol=1e-5)


def test_diff_in_means_is_anchors_less_the_rest_and_unknown_importance_takes_no_part():
    chunks = list(ACTIVATIONS)
    importance = (
        dict.fromkeys(chunks[:4], 0.2) | dict.fromkeys(chunks[4:9], 0.19) | {chunks[9]: None, chunks[10]: math.nan}
    )  # 11: missing
    (direction,) = diff_in_means(ACTIVATIONS, importance, **OF).made
    expected = np.mean([ACTIVATIONS[c] for c in chunks[:4]], axis=0) - np.mean(
        [ACTIVATIONS[c] for c in chunks[4:9]], axis=0
    )
    assert np.allclose(direction.norm * direction.vector, expected, atol=1e-6)
    about = json.loads(direction.parameters)
    assert (about["n_anchors"], about["n_rest"], about["n_unknown"], direction.chunk_id) == (4, 5, 3, None)


@pytest.mark.parametrize(
    "importance", [dict.fromkeys(ACTIVATIONS, 0.5), dict.fromkeys(ACTIVATIONS, 0.0), {}, dict.fromkeys(ACTIVATIONS)]
)
def test_diff_in_means_without_one_of_its_sides_is_no_direction(importance):
    result = diff_in_means(ACTIVATIONS, importance, **OF)
    assert result.made == () and "both must be more than 0" in result.refused[0].reason


def test_zero_and_unknown_vectors_are_refused_by_chunk():
    odd = {"zero": np.zeros(16), "unknown": np.full(16, np.nan), "good": np.ones(16)}
    result = per_chunk(odd, **OF)
    assert [direction.chunk_id for direction in result.made] == ["good"]
    assert {refused.chunk_id: refused.reason.split()[-1] for refused in result.refused} == {
        "zero": "nowhere",
        "unknown": "unknown",
    }
    assert "zero" in centered({"only": np.ones(16)}, **OF).refused[0].reason  # the mean of one chunk is that chunk
    assert diff_in_means({"a": np.ones(16), "b": np.ones(16)}, {"a": 1.0, "b": 0.0}, **OF).made == ()
    known = by_chunk(centered({**ACTIVATIONS, "unknown": np.full(16, np.nan)}, **OF))
    assert known.keys() == ACTIVATIONS.keys()
    with pytest.raises(DirectionError, match="unit vector"):
        Direction("d1", "per_chunk", "m1", 5, None, 1.0, np.ones(16, np.float32), None, "{}")


def test_random_directions_are_seeded_and_uniform_on_the_sphere():
    directions = random(2000, 16, **OF, seed=7).made
    vectors = np.array([direction.vector for direction in directions])
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert np.abs(vectors.mean(0)).max() < 4 / math.sqrt(16 * 2000)  # no preferred side
    assert np.allclose(vectors.T @ vectors / 2000, np.eye(16) / 16, atol=0.01)  # no preferred axis
    again = random(3, 16, **OF, seed=7).made  # fewer of them: the first ones are the same
    assert all(np.array_equal(a.vector, b.vector) and a == b for a, b in zip(again, directions, strict=False))
    assert not np.array_equal(random(1, 16, **OF, seed=8).made[0].vector, directions[0].vector)
    assert not np.array_equal(random(1, 16, model_id="m1", layer=6, seed=7).made[0].vector, directions[0].vector)


def test_ids_name_what_a_direction_is_and_do_not_depend_on_order():
    every = [
        *per_chunk(ACTIVATIONS, **OF).made,
        *per_chunk(ACTIVATIONS, model_id="m1", layer=6).made,
        *centered(ACTIVATIONS, **OF).made,
        *random(5, 16, **OF, seed=7).made,
    ]
    assert len({direction.direction_id for direction in every}) == len(every)
    backwards = dict(reversed(ACTIVATIONS.items()))
    for make in (per_chunk, centered):
        assert by_chunk(make(backwards, **OF)) == by_chunk(make(ACTIVATIONS, **OF))
    few = dict(list(ACTIVATIONS.items())[:5])
    assert by_chunk(centered(few, **OF)) != by_chunk(
        centered(ACTIVATIONS, **OF)
    )  # another mean, another direction, another id


def test_a_pair_is_the_difference_of_two_chunks_and_turns_round_with_them():
    first, second = list(ACTIVATIONS)[:2]
    (there,), (back,) = pair(ACTIVATIONS, first, second, **OF).made, pair(ACTIVATIONS, second, first, **OF).made
    assert np.allclose(there.norm * there.vector, ACTIVATIONS[first] - ACTIVATIONS[second], atol=1e-6)
    assert np.array_equal(there.vector, -back.vector) and there.direction_id != back.direction_id
    assert (there.chunk_id, json.loads(there.parameters)) == (first, {"minus": second})
    assert "zero" in pair(ACTIVATIONS, first, first, **OF).refused[0].reason


def test_centered_on_a_population_leaves_the_chunk_itself_out_of_the_mean():
    own = {"typed": RNG.standard_normal(16)}
    (direction,) = centered(own, population=ACTIVATIONS, **OF).made
    assert np.allclose(
        direction.norm * direction.vector, own["typed"] - np.mean(list(ACTIVATIONS.values()), axis=0), atol=1e-6
    )
    assert json.loads(direction.parameters)["n_chunks"] == len(ACTIVATIONS)


TAGS = {
    chunk: ("self_checking" if i < 4 else "unknown") for i, chunk in enumerate(ACTIVATIONS) if i < 11
}  # the last has no tag


def test_a_category_is_its_mean_less_that_of_the_other_tagged_chunks():
    chunks = list(ACTIVATIONS)
    (direction,) = category(ACTIVATIONS, TAGS, "self_checking", source="me", **OF).made
    expected = np.mean([ACTIVATIONS[c] for c in chunks[:4]], axis=0) - np.mean(
        [ACTIVATIONS[c] for c in chunks[4:11]], axis=0
    )
    assert np.allclose(direction.norm * direction.vector, expected, atol=1e-6)
    about = json.loads(direction.parameters)
    assert (about["n_category"], about["n_rest"], about["n_unknown"], about["source"]) == (4, 7, 1, "me")
    (rest,) = category(ACTIVATIONS, TAGS, "unknown", source="me", **OF).made
    assert np.allclose(rest.vector, -direction.vector, atol=1e-6)  # with two categories, each is the other turned round


@pytest.mark.parametrize(
    "tags", [{}, dict.fromkeys(ACTIVATIONS, "self_checking"), dict.fromkeys(ACTIVATIONS, "unknown")]
)
def test_a_category_without_one_of_its_sides_is_no_direction(tags):
    result = category(ACTIVATIONS, tags, "self_checking", source="me", **OF)
    assert result.made == () and "both must be more than 0" in result.refused[0].reason


def test_a_direction_on_the_manifold_lies_in_the_plane_that_the_chunks_lie_in():
    plane = np.linalg.qr(RNG.standard_normal((16, 2)))[0].T
    points = 7 + RNG.standard_normal((40, 2)) @ (np.array([[3.0], [1.0]]) * plane)
    cloud = {f"c{i:02d}": point for i, point in enumerate(points)} | {"far": np.full(16, 1e3)}
    (first,), (second,) = (on_manifold(cloud, "c00", component=number, k=39, **OF).made for number in (1, 2))
    for direction in (first, second):
        assert np.linalg.norm(plane @ direction.vector) == pytest.approx(1, abs=1e-6)
    assert first.vector @ second.vector == pytest.approx(0, abs=1e-6)
    about = json.loads(first.parameters)
    assert (about["component"], about["k"]) == (1, 39)  # the far chunk is not among the 39 nearest of 40
    assert about["variance_share"] + json.loads(second.parameters)["variance_share"] == pytest.approx(1, abs=1e-5)
    others = points[1:] - points[1:].mean(0)
    assert first.norm == pytest.approx((others @ first.vector).std(ddof=1), rel=1e-5)  # the chunk itself is left out
    assert first.norm > second.norm
    assert "do not vary along component 3" in on_manifold(cloud, "c00", component=3, k=39, **OF).refused[0].reason


def test_a_direction_on_the_manifold_does_not_depend_on_order_or_mirror():
    first, backwards = dict(ACTIVATIONS), dict(reversed(ACTIVATIONS.items()))
    chunk = next(iter(first))
    (one,), (other,) = (on_manifold(some, chunk, component=1, k=6, **OF).made for some in (first, backwards))
    assert one == other and np.array_equal(one.vector, other.vector)
    assert one.vector[np.argmax(np.abs(one.vector))] > 0
    (mirrored,) = on_manifold({name: -vector for name, vector in first.items()}, chunk, component=1, k=6, **OF).made
    assert np.allclose(mirrored.vector, one.vector, atol=1e-6)  # a tangent has no side


@pytest.mark.parametrize("component", [0, 3, 9])
def test_more_components_than_neighbours_span_are_refused(component):
    result = on_manifold(ACTIVATIONS, next(iter(ACTIVATIONS)), component=component, k=3, **OF)
    assert result.made == () and "3 neighbours span 2 directions" in result.refused[0].reason


def test_a_vector_from_a_file_is_known_by_the_file_and_its_key():
    about = {"file": "v.npy", "key": "array", "sha256": "ab"}
    (direction,) = from_vector(np.array([3.0, 4.0]), **about, **OF).made
    assert np.allclose(direction.vector, [0.6, 0.8]) and direction.norm == 5
    assert (direction.kind, json.loads(direction.parameters)) == ("file", about)
    (other,) = from_vector(np.array([3.0, 4.0]), **about | {"sha256": "cd"}, **OF).made
    assert other.direction_id != direction.direction_id


def planted(n: int, shift: float, d_model: int = 64) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """n chunks of a category and n others, whose means differ by `shift` standard deviations along one axis."""
    cloud = np.random.default_rng(5).standard_normal((2 * n, d_model))
    cloud[:n, 3] += shift
    names = [f"c{i:04d}" for i in range(2 * n)]
    return dict(zip(names, cloud, strict=True)), {
        name: ("self_checking" if i < n else "unknown") for i, name in enumerate(names)
    }


def test_a_category_gate_is_open_on_the_side_of_the_category_and_says_how_often_it_errs():
    activations, tags = planted(400, 4)
    found = category_gate(activations, tags, "self_checking")
    w = found.gate.vector / np.linalg.norm(found.gate.vector)
    assert w[3] > 0.9 and (found.n_category, found.n_rest) == (400, 400)
    right = 0.5 * (1 + math.erf(2 / math.sqrt(2)))  # halfway between means 4 standard deviations apart
    assert found.true_share == pytest.approx(right, abs=0.04) and found.false_share == pytest.approx(
        1 - right, abs=0.04
    )


def test_a_gate_that_separates_nothing_does_not_look_as_if_it_did():
    activations, tags = planted(
        12, 0, d_model=512
    )  # so few chunks in so many dimensions: their own means separate them perfectly
    found = category_gate(activations, tags, "self_checking")
    open_on = {name: vector @ found.gate.vector > found.gate.threshold for name, vector in activations.items()}
    assert all(open_on[name] == (tag == "self_checking") for name, tag in tags.items())
    assert (found.true_share + 1 - found.false_share) / 2 < 0.6


def test_the_shares_are_those_of_gates_made_without_the_chunk():
    activations, tags = planted(8, 1)

    def passes(name: str) -> bool:
        gate = category_gate({k: v for k, v in activations.items() if k != name}, tags, "self_checking").gate
        return activations[name] @ gate.vector > gate.threshold

    found = category_gate(activations, tags, "self_checking")
    assert found.true_share == np.mean([passes(name) for name, tag in tags.items() if tag == "self_checking"])
    assert found.false_share == np.mean([passes(name) for name, tag in tags.items() if tag == "unknown"])


def test_a_category_gate_restricts_an_intervention_to_its_tokens():
    activations, tags = planted(400, 8)
    gate = category_gate(activations, tags, "self_checking").gate
    h = torch.from_numpy(np.array([activations["c0000"], activations["c0700"]])).float()
    vector = np.eye(64, dtype=np.float32)[9]
    new = changed(h, intervention=Intervention((1,), "chunk", "add", vector, 2.0, gate=gate))
    assert not torch.equal(new[0], h[0]) and torch.equal(new[1], h[1])


def test_a_gate_needs_two_chunks_on_each_side_and_different_means():
    activations, tags = planted(3, 1)
    with pytest.raises(DirectionError, match="at least 2 chunks of the category"):
        category_gate(activations, tags | {"c0000": "unknown", "c0001": "unknown"}, "self_checking")
    with pytest.raises(DirectionError, match="nothing tells them apart"):
        category_gate(dict.fromkeys(activations, np.ones(4)), tags, "self_checking")
