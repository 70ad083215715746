"""A whole study on a tiny model: every stage's rows, resumption, and that how work is divided changes nothing."""

import io
import itertools
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from backend.importance.metric_registry import METRICS, metrics_to_compute
from backend.models import embedded
from backend.store.progress import read_progress, write_progress
from backend.store.store import Store
from backend.store.unit_files import StudyFolder
from precompute.pipeline import run_study
from precompute.study import Study

pytestmark = [
    pytest.mark.embedded,
    pytest.mark.skipif(
        not embedded.is_ready(),
        reason="the embedded sentence encoder is not in the cache folder; `make model` fetches it",
    ),
]


def tiny_study(model: str, **changes) -> Study:
    study = {
        "name": "tiny",
        "seed": 3,
        "models": [{"name": model}],
        "problems": {"per_level": 2, "levels": [1, 2]},
        "sampling": {"samples": 3, "temperature": 1.0, "top_p": 1.0, "max_new_tokens": 64, "forced_max_tokens": 6},
        "rollouts": {"n": 3, "forced": 2, "cots": 2, "min_chunks": 1},
        "activations": {"layers": [1, 2]},
        "map": {"n_neighbors": 4, "layers": [1]},
        "sweep": {"layers": [1], "kinds": ["per_chunk", "centered", "random"], "random": 1, "points": 5},
        "engine": {"workers": 1, "rows": 8},
    }
    return Study.model_validate(
        {name: {**part, **changes.get(name, {})} if isinstance(part, dict) else part for name, part in study.items()}
    )


def run(study: Study, folder: StudyFolder, without: tuple[str, ...] = (), **options) -> str:
    from precompute.stages import STAGES

    said = io.StringIO()
    stages = [stage for stage in STAGES if stage.NAME not in without]
    run_study(study, folder, stages=stages, console=Console(file=said, width=200), **options)
    return said.getvalue()


@pytest.fixture(scope="module")
def finished(tiny_folder, tmp_path_factory) -> tuple[Study, StudyFolder]:
    study = tiny_study(str(tiny_folder("llama")))
    folder = StudyFolder(tmp_path_factory.mktemp("stores") / "tiny")
    run(study, folder)
    return study, folder


@pytest.fixture
def store(finished):
    store = Store(finished[1].path)
    yield store
    store.close()


def count(store: Store, sql: str) -> int:
    return int(store.frame(sql).iloc[0, 0])


def test_every_table_of_the_path_is_filled(store):
    for table in (
        "runs",
        "models",
        "problems",
        "cots",
        "problem_accuracy",
        "chunks",
        "categories",
        "rollouts",
        "importance",
        "activations",
        "maps",
        "projections",
        "directions",
        "kl_curves",
        "steepness",
    ):
        assert count(store, f"SELECT count(*) FROM {table}") > 0, table


def test_chunks_tile_their_cot_in_text_and_in_tokens(store):
    for cot in store.tokenised_cots():
        chunks = store.chunks_of([cot["cot_id"]]).get(cot["cot_id"], [])
        assert "".join(chunk["text"] for chunk in chunks) == cot["text"]
        if chunks:
            edges = [(chunk["token_start"], chunk["token_end"]) for chunk in chunks]
            assert edges[0][0] >= cot["n_prompt_tokens"] - 1 and edges[-1][1] == len(cot["token_ids"])
            assert all(before[1] == after[0] for before, after in itertools.pairwise(edges))


def test_rollouts_carry_the_seed_that_makes_them_again(store):
    rollouts = store.frame(
        "SELECT count(*) AS n, count(seed) AS seeds, count(DISTINCT seed) AS distinct_seeds FROM rollouts"
    ).iloc[0]
    assert rollouts["n"] == rollouts["seeds"] == rollouts["distinct_seeds"]


def test_the_last_chunk_has_no_importance_and_that_is_null(store):
    last = store.frame(
        "SELECT value FROM importance JOIN chunks USING (chunk_id) WHERE metric = 'counterfactual_importance_kl' "
        "QUALIFY row_number() OVER (PARTITION BY cot_id, convention ORDER BY chunk_index DESC) = 1"
    )
    assert len(last) and last["value"].isna().all()


def test_both_stages_of_importance_write_every_chunk_of_their_cots(store):
    rows = store.frame("SELECT metric, convention, count(*) AS n FROM importance GROUP BY ALL").set_index(
        ["metric", "convention"]
    )["n"]
    assert set(METRICS) == set(rows.index.get_level_values("metric")) and rows.nunique() == 1


def test_every_chunk_is_steered_with_its_own_vector(store):
    rows = store.frame(
        "SELECT c.chunk_id, d.chunk_id AS made_from, d.vector, a.vector AS activation FROM kl_curves c JOIN directions"
        " d USING (direction_id) JOIN activations a ON a.chunk_id = c.chunk_id AND a.layer = c.layer WHERE c.kind ="
        " 'per_chunk' ORDER BY c.curve_id"
    )
    assert rows["chunk_id"].nunique() > 1 and (rows["chunk_id"] == rows["made_from"]).all()
    for row in rows.itertuples():
        unit = np.asarray(row.activation, np.float64) / np.linalg.norm(np.asarray(row.activation, np.float64))
        assert np.allclose(np.asarray(row.vector, np.float64), unit, atol=1e-6)


def test_beta_zero_moves_nothing(store):
    curves = store.frame("SELECT betas, kl FROM kl_curves")
    assert all(kl[list(betas).index(0.0)] == 0.0 for betas, kl in zip(curves["betas"], curves["kl"], strict=True))


def test_a_finished_study_does_nothing_and_its_store_stays(finished):
    from precompute.stages import STAGES

    study, folder = finished
    before = folder.manifest.read_bytes(), folder.pointer.read_text()
    said = run(study, folder)
    assert (folder.manifest.read_bytes(), folder.pointer.read_text()) == before
    assert said.count("all done") == len(STAGES)


def test_a_run_with_nothing_left_to_do_ends_what_a_killed_one_left_as_running(finished):
    study, folder = finished
    write_progress(folder.path, replace(read_progress(folder.path), state="running", updated_at=0.0))
    run(study, folder)
    assert read_progress(folder.path).state == "finished"


def test_dividing_the_work_otherwise_changes_no_row(finished, tmp_path):
    study, folder = finished
    other = StudyFolder(tmp_path / "tiny")
    uncompared = ("resilience", "maps", "neighbourhoods", "geometry", "evidence", "claims")
    run(tiny_study(study.models[0].name, engine={"workers": 2, "rows": 3}), other, without=uncompared)
    one, two = Store(folder.path), Store(other.path)
    for table, columns in {
        "cots": "* EXCLUDE (run_id)",
        "rollouts": "*",
        f"importance WHERE metric NOT IN {metrics_to_compute(needs_returns=True)}": "*",
        "chunks": "*",
        "categories": "*",
        "directions": "* EXCLUDE vector",
    }.items():
        sql = f"SELECT {columns} FROM {table} ORDER BY ALL"
        # Texts, tokens, seeds and verdicts exactly; cosines and scores but for last bits, which kernels may owe to
        # memory alignment.
        pd.testing.assert_frame_equal(one.frame(sql), two.frame(sql), check_exact=False, rtol=0, atol=1e-5, obj=table)
    one.close()
    two.close()


def test_asking_for_more_rollouts_computes_only_what_follows_from_it(finished, tmp_path):
    study, folder = finished
    copy = StudyFolder(tmp_path / "tiny")
    shutil.copytree(folder.path, copy.path)
    said = run(tiny_study(study.models[0].name, rollouts={"n": 4}), copy)
    assert "rollouts" in said and "kept on disk, not shown" in said
    for stage in ("problems", "cots", "chunks", "categories", "activations", "maps"):
        assert f"{stage:<12} " in said and "all done" in next(
            line for line in said.splitlines() if line.strip().startswith(stage)
        )
    store = Store(copy.path)
    assert (
        count(
            store, "SELECT max(n) FROM (SELECT count(*) AS n FROM rollouts WHERE kind = 'resample' GROUP BY chunk_id)"
        )
        == 4
    )
    store.close()
    before = copy.ledger().keys("rollouts")
    assert "shown again" in run(study, copy)
    assert copy.ledger().keys("rollouts") != before == before


def test_cutting_chunks_by_another_rule_makes_all_that_rests_on_them_work_again(finished, store, monkeypatch):
    """A chunk's id holds its place, not its text: the rule is what tells old rows from new ones."""
    from precompute.stages import STAGES
    from precompute.units import Context

    def keys() -> dict[str, set[str]]:
        context = Context(finished[0], "r", store, print)
        return {stage.NAME: {unit.key for unit in stage.units(context)} for stage in STAGES}

    before = keys()
    monkeypatch.setattr("precompute.stages.chunks.newest_rule", lambda text: 99)
    after = keys()
    for name in ("chunks", "categories", "activations", "rollouts", "importance", "resilience", "maps", "sweep"):
        assert before[name] and not before[name] & after[name], name
    assert before["cots"] == after["cots"]


def test_a_layer_that_the_model_lacks_is_refused(finished, tmp_path):
    from backend.errors import AnchorscopeError

    study, folder = finished
    copy = StudyFolder(shutil.copytree(folder.path, tmp_path / "tiny"))
    changed = tiny_study(study.models[0].name, activations={"layers": [1, 9]})
    with pytest.raises(AnchorscopeError, match=r"activations.layers has \[9\], but the model has 4 layers, 0 to 3"):
        run(changed, copy)
