"""Pull-back cosines on a tiny study: the metric is the mean of the chunks' own, its halves share no problem."""

import io
import shutil
from contextlib import closing

import duckdb
import numpy as np
import pytest
from rich.console import Console

from backend.feature_geometry import pullback as pull
from backend.feature_geometry import row_sets
from backend.geometry.fisher import LocalMetric
from backend.ids import cot_of
from backend.models.edits import encode
from backend.models.loading import load_model
from backend.store.store import Store, generation_of
from backend.store.unit_files import StudyFolder
from precompute import steered
from precompute.pipeline import run_study
from precompute.plan import plan_study
from precompute.stages import chunks, interference, problems, pullback
from precompute.study import Study
from precompute.units import Context
from tests.precompute.test_geometry_stages import Written

STAGES = (problems, Written, chunks, pullback, interference)
LAYER = 1


def study_of(model: str, workers: int = 1) -> Study:
    return Study.model_validate(
        {
            "name": "tiny",
            "seed": 3,
            "models": [{"name": model}],
            "problems": {"per_level": 1, "levels": [1, 2]},
            "activations": {"layers": [LAYER]},
            "map": {"layers": [LAYER]},
            "sweep": {"layers": [LAYER], "kinds": ["per_chunk"], "positions": ["anchor"]},
            "engine": {"workers": workers, "rows": 8},
            "pullback": {"layers": [LAYER], "chunks": 8},
        }
    )


def run(study: Study, folder: StudyFolder) -> None:
    run_study(study, folder, stages=STAGES, console=Console(file=io.StringIO()))


@pytest.fixture(scope="module")
def loaded(study):
    return load_model(study.models[0].name)


def test_each_half_is_the_sum_of_its_chunks_own_metrics_and_no_problem_is_in_both(store, study, loaded):
    parts = store.frame("SELECT half, chunk_ids FROM pullback_parts")
    halves = store.pullback_halves(loaded.model_id, LAYER)
    texts = {cot["cot_id"]: cot for cot in store.tokenised_cots()}
    problems_of = {}
    for half, own in parts.groupby("half"):
        taken = [chunk for chunk_ids in own["chunk_ids"] for chunk in chunk_ids]
        problems_of[half] = {texts[cot_of(chunk)]["problem_id"] for chunk in taken}
        total = np.zeros((loaded.d_model,) * 2)
        for chunk in taken:
            cot = texts[cot_of(chunk)]
            span = steered.spans(store.chunks_of([cot["cot_id"]])[cot["cot_id"]])[chunk]
            metric = LocalMetric(encode(loaded, cot["token_ids"], layers=[LAYER]), span, LAYER)
            total += metric.products(np.eye(loaded.d_model), "anchor")
        n, found = halves[half]
        assert n == len(taken) == 4 and np.linalg.norm(found - total) < 1e-4 * np.linalg.norm(total)
    assert len(problems_of) == 2 and not problems_of["a"] & problems_of["b"]


def test_shares_bins_and_pairs_are_those_of_the_rows_under_the_mean_metric(store, loaded):
    sets = store.pullback_sets()
    assert set(sets["kind"]) == {"mlp_out", "attention_out"} and set(sets["drawn"]) == {
        "rows",
        "covariance",
        "isotropic",
    }
    for (set_id, kind), own in sets.groupby(["set_id", "kind"]):
        rows, _kept = pull.unit_rows(row_sets.rows(kind, row_sets.Source(loaded, LAYER)))
        row = own[own["drawn"] == "rows"].iloc[0]
        assert row["n_rows"] == len(rows) and row["n_chunks"] == 8
        assert row["n_pairs"] == len(rows) * (len(rows) - 1) // 2
        bins = store.pullback_bins(set_id)
        assert bins.loc[bins["drawn"] == "rows", "n"].sum() == row["n_pairs"] - row["n_duplicates"]


def test_pairs_bear_the_numbers_of_their_rows_and_what_is_between_them(store, loaded, monkeypatch):
    monkeypatch.setattr(pull, "LARGE", 0.3)  # of random weights no pair goes beyond a thousandth
    halves = store.pullback_halves(loaded.model_id, LAYER)
    metric = sum(total for _, total in halves.values()) / sum(n for n, _ in halves.values())
    found = row_sets.rows("mlp_out", row_sets.Source(loaded, LAYER))
    found[2] = 0  # left out: numbers after it stay those of the set
    task = interference.Task(("u",), "mlp_out", None, 0, LAYER, halves, 3)
    pairs = interference.compared(task, loaded.model_id, found)["pullback_pairs"]
    assert {pair["relation"] for pair in pairs} == {"hidden", "apart"}
    for pair in pairs:
        u, v = (found[pair[end]].astype(float) / np.linalg.norm(found[pair[end]]) for end in ("first", "second"))
        assert pair["cosine"] == pytest.approx(u @ v, abs=1e-6)
        assert pair["nats"] == pytest.approx(u @ metric @ v, rel=1e-3, abs=1e-9)
        expected = [u @ g @ v / np.sqrt((u @ g @ u) * (v @ g @ v)) for g in (metric, *(h for _, h in halves.values()))]
        assert [pair["pullback_cosine"], *pair["by_half"]] == pytest.approx(expected, abs=1e-4)


def test_two_workers_find_the_same_and_nothing_is_done_twice(study, store, tmp_path):
    other = StudyFolder(tmp_path / "tiny")
    run(study_of(study.models[0].name, workers=2), other)
    with closing(Store(other.path)) as found:
        order = ["set_id", "drawn"]
        one, two = (s.pullback_sets().sort_values(order, ignore_index=True) for s in (store, found))
        numbers = ["hidden", "participation_ratio", "error_of_halves", "n_pairs"]
        assert one[order].equals(two[order])
        assert np.allclose(one[numbers].astype(float), two[numbers].astype(float), rtol=1e-5, equal_nan=True)
    lines = {line.stage: line for line in plan_study(study, other, stages=(pullback, interference))[0]}
    assert {name: (lines[name].units, lines[name].done) for name in ("pullback", "interference")} == {
        "pullback": (2, 2),
        "interference": (3, 2),
    }


@pytest.mark.parametrize("table", ["pullback_parts", "pullback_rows"])
def test_while_a_block_of_chunks_is_missing_nothing_is_compared(folder, study, tmp_path, table):
    file = tmp_path / "tiny.duckdb"
    shutil.copy(generation_of(folder.path), file)
    with closing(Store(file)) as store:
        assert len(interference.units(Context(study, "r", store, print))) == 2
    with duckdb.connect(str(file)) as connection:
        connection.execute(f"DELETE FROM {table} WHERE part = 'a0'")
    with closing(Store(file)) as store:
        assert interference.units(Context(study, "r", store, print)) == []
