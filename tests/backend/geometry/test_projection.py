import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy.spatial.distance import pdist
from sklearn.neighbors import NearestNeighbors

from backend.geometry.projection import METRICS, ProjectionError, exact_neighbours, latent_maps
from backend.schema.tables import TABLES

N, WIDTH = 60, 24


def ids(n):
    return [f"c{i:03d}" for i in range(n)]


@pytest.fixture(scope="module")
def activations():
    """Three layers of three groups of chunks; the second layer lacks ten chunks and is the first one turned."""
    rng = np.random.default_rng(0)
    group = np.repeat(np.eye(3), N // 3, axis=0) @ (5 * rng.normal(size=(3, WIDTH)))
    first = group + rng.normal(size=(N, WIDTH))
    turn, _ = np.linalg.qr(rng.normal(size=(WIDTH, WIDTH)))
    return {
        0: (ids(N), first),
        3: (ids(N)[10:], (first @ turn)[10:]),
        7: (ids(N), first + 0.3 * rng.normal(size=(N, WIDTH))),
    }


@pytest.fixture(scope="module")
def result(activations):
    return latent_maps(activations, model_id="m", seed=5)


def named(result, layer, method):
    return next(m for m in result.maps if (m.layer, m.method) == (layer, method))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("n", "k"), [(5, 3), (200, 15), (1200, 30)])
def test_neighbours_are_those_of_a_brute_force_search(metric, n, k):
    points = np.random.default_rng(n).normal(size=(n, 16)) + 3
    found = exact_neighbours(points, k, metric)
    distances, indices = (
        NearestNeighbors(n_neighbors=k, metric=metric, algorithm="brute").fit(points).kneighbors(points)
    )
    assert (found.indices == indices).all()
    np.testing.assert_allclose(
        found.distances, distances, atol=1e-6
    )  # its own product cancels: 4e-7 from a row to itself
    assert (found.indices[:, 0] == np.arange(n)).all() and (found.distances[:, 0] == 0).all()


def test_a_map_leaves_the_number_of_threads_as_it_was():
    """UMAP's compiled code runs on threads of its own; who computes in this process has those that were asked for."""
    script = (
        "import numpy as np, torch, threadpoolctl; from backend.geometry.projection import latent_maps;"
        " points = np.random.default_rng(0).normal(size=(40, 8));"
        " found = latent_maps({0: ([str(n) for n in range(40)], points)}, model_id='m', seed=5);"
        " pools = [one['num_threads'] for one in threadpoolctl.threadpool_info() if one['user_api'] == 'openmp'];"
        " print([one.method for one in found.maps], torch.get_num_threads(), *pools)"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "2"}
    run = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, env=environment)
    methods, threads = run.stdout.split("]")
    assert "umap_2d" in methods and set(threads.split()) == {"1"}


def test_cosine_distance_knows_no_length():
    points = np.random.default_rng(0).normal(size=(40, 8))
    longer = points * np.random.default_rng(1).lognormal(0, 3, (40, 1))
    assert (exact_neighbours(points, 9, "cosine").indices == exact_neighbours(longer, 9, "cosine").indices).all()


def test_a_large_common_offset_hides_no_neighbour():
    points = np.random.default_rng(2).normal(size=(80, 8))
    assert (
        exact_neighbours(points + 1e6, 9, "euclidean").indices == exact_neighbours(points, 9, "euclidean").indices
    ).all()


@pytest.mark.parametrize("metric", METRICS)
def test_equal_rows_are_at_distance_zero_and_ties_go_to_the_lower_row(metric):
    points = np.random.default_rng(3).normal(size=(3, 300))[[0, 1, 0, 2, 0, 0]]
    found = exact_neighbours(points, 4, metric)
    assert found.indices[[0, 2, 4, 5]].tolist() == [[0, 2, 4, 5], [2, 0, 4, 5], [4, 0, 2, 5], [5, 0, 2, 4]]
    assert (found.distances[0] == 0).all()
    assert found.indices[4, :2].tolist() == exact_neighbours(points, 2, metric).indices[4].tolist() == [4, 0]


@pytest.mark.parametrize("metric", METRICS)
def test_of_many_equal_rows_the_lowest_are_the_neighbours(metric):
    kind = np.random.default_rng(11).integers(0, 3, 611)
    points = np.random.default_rng(12).normal(size=(3, 301))[kind]
    found = exact_neighbours(points, 6, metric).indices
    for row in range(611):
        others = [i for i in np.flatnonzero(kind == kind[row]) if i != row]
        assert found[row].tolist() == [row, *others[:5]]


def test_rows_equally_far_up_to_rounding_are_taken_from_the_lowest():
    turn, _ = np.linalg.qr(np.random.default_rng(13).normal(size=(40, 40)))
    corners = np.concatenate([turn, -turn])  # all at distance 1 from the centre, the last row
    found = exact_neighbours(np.concatenate([corners, np.zeros((1, 40))]), 11, "euclidean")
    assert sorted(found.indices[80]) == [*range(10), 80]


def test_there_are_three_maps_a_layer_and_they_fit_the_tables(result):
    assert [(m.layer, m.method) for m in result.maps] == [
        (ly, m) for ly in (0, 3, 7) for m in ("umap_2d", "umap_3d", "pca_3d")
    ]
    assert result.skipped == ()
    maps, points = result.map_rows(), result.projection_rows()
    stored = pa.Table.from_pandas(maps, schema=TABLES["maps"].arrow, preserve_index=False)
    assert stored.column("explained_variance").null_count == 6
    stored = pa.Table.from_pandas(points, schema=TABLES["projections"].arrow, preserve_index=False)
    assert stored.column("z").null_count == (points.method == "umap_2d").sum() == 170
    assert stored.num_rows == maps.n.sum() == 510
    assert not points.duplicated(list(TABLES["projections"].key)).any()
    parameters = json.loads(maps.parameters[0])
    assert parameters["versions"]["umap-learn"] and parameters["n_neighbors"] == 15
    assert np.isfinite(points[["x", "y"]]).all(axis=None)


def test_maps_keep_groups_apart(result):
    assert all(m.trustworthiness > 0.8 for m in result.maps)
    placed = named(result, 0, "umap_2d").coordinates.reshape(3, N // 3, 2)
    centres = placed.mean(1)
    assert pdist(centres).min() > 2 * placed.std(1).max()


def test_row_order_changes_nothing(activations, result):
    rng = np.random.default_rng(4)
    shuffled = {}
    for layer in (7, 0, 3):
        chunk_ids, matrix = activations[layer]
        order = rng.permutation(len(chunk_ids))
        shuffled[layer] = ([chunk_ids[i] for i in order], matrix[order])
    again = latent_maps(shuffled, model_id="m", seed=5)
    pd.testing.assert_frame_equal(again.projection_rows(), result.projection_rows(), check_exact=True)
    pd.testing.assert_frame_equal(again.map_rows(), result.map_rows(), check_exact=True)


def test_the_seed_moves_umap_and_not_pca(activations, result):
    other = latent_maps({0: activations[0]}, model_id="m", seed=6)
    assert not np.allclose(named(other, 0, "umap_2d").coordinates, named(result, 0, "umap_2d").coordinates, atol=0.01)
    assert (named(other, 0, "pca_3d").coordinates == named(result, 0, "pca_3d").coordinates).all()


def test_alignment_turns_a_map_and_leaves_its_distances(activations, result):
    for layer in (3, 7):
        alone = latent_maps({layer: activations[layer]}, model_id="m", seed=5)
        for method in ("umap_2d", "umap_3d", "pca_3d"):
            aligned, plain = named(result, layer, method), named(alone, layer, method)
            np.testing.assert_allclose(pdist(aligned.coordinates), pdist(plain.coordinates), rtol=1e-9, atol=1e-9)
            assert plain.parameters["alignment"] is None
            assert aligned.parameters["alignment"]["n_common"] == 50
            assert aligned.trustworthiness == pytest.approx(plain.trustworthiness)


def test_no_turn_brings_a_map_nearer_to_the_layer_before(result):
    rng = np.random.default_rng(6)
    for method in ("umap_2d", "umap_3d"):
        before, after = named(result, 0, method), named(result, 3, method)
        there = before.coordinates[10:] - before.coordinates[10:].mean(0)
        here = after.coordinates - after.coordinates.mean(0)
        np.testing.assert_allclose(after.coordinates.mean(0), before.coordinates[10:].mean(0), atol=1e-9)
        for _ in range(200):
            turn, _ = np.linalg.qr(rng.normal(size=(here.shape[1],) * 2))
            assert ((here @ turn - there) ** 2).sum() >= ((here - there) ** 2).sum()


def test_components_of_the_same_points_keep_their_signs_from_layer_to_layer(activations):
    chunk_ids, matrix = activations[0]
    turned = latent_maps({0: (chunk_ids, matrix), 1: (chunk_ids, -matrix)}, model_id="m", seed=0)
    np.testing.assert_allclose(
        named(turned, 1, "pca_3d").coordinates, named(turned, 0, "pca_3d").coordinates, atol=1e-9
    )


def test_a_component_keeps_its_sign_though_its_largest_chunk_changes_sides():
    first, second = np.array([-2.0, -1, 0, 3]), np.array([-5.0, -1, 0, 3])
    layers = {layer: (ids(4), np.outer(along, [1, 2])) for layer, along in enumerate([first, second])}
    found = latent_maps(layers, model_id="m", seed=0, metric="euclidean")
    np.testing.assert_allclose(
        named(found, 1, "pca_3d").coordinates[:, 0], (second - second.mean()) * np.sqrt(5), atol=1e-9
    )


def test_pca_shares_are_those_of_the_singular_values(activations, result):
    matrix = activations[0][1] - activations[0][1].mean(0)
    variance = np.linalg.svd(matrix, compute_uv=False) ** 2
    found = named(result, 0, "pca_3d")
    np.testing.assert_allclose(found.explained_variance, variance[:3] / variance.sum(), rtol=1e-9)
    np.testing.assert_allclose((found.coordinates**2).sum(0), variance[:3], rtol=1e-9)


@pytest.mark.filterwarnings("error")  # UMAP warns when it ignores the neighbours handed to it
@pytest.mark.parametrize(
    ("n", "methods"), [(1, set()), (2, {"pca_3d"}), (3, {"pca_3d"}), (4, {"umap_2d", "umap_3d", "pca_3d"})]
)
def test_few_chunks_get_the_maps_that_are_possible_and_the_rest_a_reason(n, methods):
    matrix = np.random.default_rng(7).normal(size=(n, 6))
    found = latent_maps({2: (ids(n), matrix)}, model_id="m", seed=0)
    assert {m.method for m in found.maps} == methods
    assert len(found.skipped) == 3 - len(methods)
    assert all(f"{n} chunks" in s.reason for s in found.skipped)
    assert all(np.isfinite(m.coordinates).all() for m in found.maps)
    for m in found.maps:
        assert (m.trustworthiness is None) == (n < 3)
    if n == 2:
        assert (named(found, 2, "pca_3d").coordinates[:, 1:] == 0).all()  # two points span a line
    pa.Table.from_pandas(found.projection_rows(), schema=TABLES["projections"].arrow, preserve_index=False)
    pa.Table.from_pandas(found.map_rows(), schema=TABLES["maps"].arrow, preserve_index=False)


def test_identical_activations_have_no_map_and_say_so():
    found = latent_maps({0: (ids(6), np.ones((6, 4)))}, model_id="m", seed=0)
    assert found.maps == () and len(found.skipped) == 3
    assert "identical" in found.skipped[0].reason


@pytest.mark.parametrize("metric", METRICS)
def test_many_equal_chunks_among_others_are_still_placed(metric):
    matrix = np.random.default_rng(8).normal(size=(40, 6))
    matrix[:30] = matrix[0]
    found = latent_maps({0: (ids(40), matrix)}, model_id="m", seed=0, metric=metric)
    assert all(np.isfinite(m.coordinates).all() for m in found.maps) and len(found.maps) == 3


@pytest.mark.parametrize("bad", [1e20, -1e20, np.inf, np.nan])
def test_a_value_that_no_map_can_hold_is_refused_with_its_chunk(bad):
    matrix = np.random.default_rng(9).normal(size=(20, 6))
    matrix[13, 2] = bad
    with pytest.raises(ProjectionError, match=r"layer 4.*c013"):
        latent_maps({4: (ids(20), matrix)}, model_id="m", seed=0)


def test_what_cannot_be_read_as_one_row_a_chunk_is_refused():
    matrix = np.random.default_rng(10).normal(size=(5, 6))
    with pytest.raises(ProjectionError, match="c001 occurs twice"):
        latent_maps({0: (["c000", "c001", "c001", "c002", "c003"], matrix)}, model_id="m", seed=0)
    with pytest.raises(ProjectionError, match="4 chunk ids"):
        latent_maps({0: (ids(4), matrix)}, model_id="m", seed=0)
    with pytest.raises(ProjectionError, match="manhattan"):
        latent_maps({0: (ids(5), matrix)}, model_id="m", seed=0, metric="manhattan")
    with pytest.raises(ProjectionError, match=r"c002.*no cosine"):
        latent_maps({0: (ids(5), matrix * (np.arange(5) != 2)[:, None])}, model_id="m", seed=0)


def test_importing_the_module_imports_neither_umap_nor_torch():
    check = "import sys, backend.geometry.projection; print({'umap', 'torch', 'numba', 'sklearn'} & set(sys.modules))"
    assert (
        subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout.strip()
        == "set()"
    )
