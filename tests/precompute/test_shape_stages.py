"""The stages shape, curves and paths on a tiny model's chains: their rows, and that workers change nothing."""

import contextlib
import io
import shutil

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from backend.feature_geometry.curve_sets import SETS
from backend.feature_geometry.path_outcomes import COMPARISONS, MEASURES
from backend.feature_geometry.shape import ALL
from backend.feature_geometry.shape import MEASURES as OF_CLOUDS
from backend.ids import cot_of
from backend.models.residuals import record_residuals
from backend.schema.tables import TABLES
from backend.store.store import Store
from backend.store.unit_files import StudyFolder
from precompute.pipeline import run_study
from precompute.plan import plan_study
from precompute.rules import units_of
from precompute.stages import STAGES, activations, chunks, curves, evidence, paths, shape
from precompute.study import Study, StudyError
from precompute.units import Context
from tests import shaped_study

LAYERS = (0, 2)
FILLED = ("shapes", "curve_sets", "curves", "curve_points", "paths", "path_steps", "path_outcomes")


def asked(model: str, **wanted) -> Study:
    parts = {
        "shape": {"draws": 2, "tokens": 30},
        "curves": {"draws": 19, "sets": ["weekdays"]},
        "paths": {"draws": 5, "n_permutations": 19},
    }
    return Study.model_validate(
        {
            "name": "shaped",
            "models": [{"name": model}],
            "problems": {"per_level": 1},
            "sweep": {"layers": [LAYERS[0]]},
            "activations": {"layers": list(LAYERS)},
            "engine": {"workers": 1},
            **parts,
            **wanted,
        }
    )


def run(study: Study, folder: StudyFolder, *stages) -> None:
    run_study(study, folder, stages=stages or (shape, curves, paths), console=Console(file=io.StringIO(), width=200))


def same(found: list[dict], expected: list[dict]) -> None:
    """The rows agree, but for last bits, which kernels may owe to memory alignment, and the digit that is kept."""
    one, other = pd.DataFrame(found), pd.DataFrame(expected)
    pd.testing.assert_frame_equal(one, other, rtol=1e-3, atol=1e-6)


def tables(folder: StudyFolder) -> dict[str, list[dict]]:
    with contextlib.closing(Store(folder.path)) as store:
        return {table: store.whole_table(table).to_pylist() for table in FILLED}


@pytest.fixture(scope="module")
def read(tiny, tiny_folder, tmp_path_factory):
    """Chains that are cut and read, and nothing more."""
    folder = shaped_study.make(tmp_path_factory.mktemp("read") / "study", tiny("llama"))
    run(asked(str(tiny_folder("llama"))), folder, chunks, activations)
    return folder


@pytest.fixture(scope="module")
def done(read, tiny_folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("done") / "study"
    shutil.copytree(read.path, path)
    run(asked(str(tiny_folder("llama"))), StudyFolder(path))
    return StudyFolder(path)


def test_every_cloud_has_every_measure_of_chunks_and_of_tokens(done):
    rows = tables(done)["shapes"]
    whole = {(row["points"], row["layer"], row["measure"]): row for row in rows if row["category"] == ALL}
    assert whole.keys() == {
        (kind, layer, name) for kind in ("chunks", "tokens") for layer in LAYERS for name in OF_CLOUDS
    }
    for (kind, _, _), row in whole.items():
        assert row["n"] == (30 if kind == "tokens" else 24 * 5) and row["any_category"] is None
    ranks = [whole["chunks", layer, "effective_rank"] for layer in LAYERS]
    assert all(row["low"] < row["value"] < row["high"] and row["isotropic"] > 0 for row in ranks)


def test_a_path_is_that_of_the_stored_activations(done):
    with contextlib.closing(Store(done.path)) as store:
        (model,) = store.models()["model_id"]
        ids, vectors = store.activations(model, LAYERS[1])
    found = tables(done)
    path = next(row for row in found["paths"] if row["layer"] == LAYERS[1])
    points = vectors[[cot_of(chunk) == path["cot_id"] for chunk in ids]].astype(float)
    steps = np.diff(points, axis=0)
    net = np.linalg.norm(points[-1] - points[0])
    assert path["n_chunks"] == len(points) == 5
    assert path["progress"] == pytest.approx(net / np.linalg.norm(steps, axis=1).sum(), rel=1e-3)
    own = [
        row for row in found["path_steps"] if cot_of(row["chunk_id"]) == path["cot_id"] and row["layer"] == LAYERS[1]
    ]
    lengths = [row["step_length"] for row in sorted(own, key=lambda row: row["chunk_id"])]
    assert lengths[0] is None and lengths[1:] == pytest.approx(np.linalg.norm(steps, axis=1), rel=1e-3)
    assert len(found["paths"]) == 24 * 2 and len(found["path_steps"]) == 24 * 5 * 2


def test_correct_and_wrong_are_compared_at_every_layer(done):
    rows = tables(done)["path_outcomes"]
    assert {(row["layer"], row["comparison"], row["measure"]) for row in rows} == {
        (layer, kind, name) for layer in LAYERS for kind in COMPARISONS for name in MEASURES
    }
    matched = [row for row in rows if row["comparison"] == "matched"]
    assert all((row["n_correct"], row["n_wrong"]) == (16, 8) and 0 < row["p"] <= 1 for row in matched)


def test_words_are_read_at_their_last_token_and_fitted(tiny, done):
    found, loaded = tables(done), tiny("llama")
    (card,) = found["curve_sets"]
    n_last = len({loaded.tokenizer(f"Today is {word}")["input_ids"][-1] for word in SETS["weekdays"].words})
    if card["reason"] is None:
        assert card["n"] == 7 and card["n_last"] == n_last and [row["layer"] for row in found["curves"]] == [*LAYERS]
        assert len(found["curve_points"]) == 7 * 2
    else:
        assert card["dropped"] and not found["curves"], "a tokenizer that splits some of them"


def test_what_a_worker_reads_is_the_stream_at_the_last_token(tiny):
    loaded = tiny("llama")
    ((_, words),) = curves.read(loaded, curves.Task(("unit",), "months", LAYERS))
    ids = loaded.tokenizer("The month is March")["input_ids"]
    stream = record_residuals(loaded, ids, LAYERS)[LAYERS[1]]
    assert words.points[LAYERS[1]][2] == pytest.approx(stream[-1].numpy()) and words.last[2] == ids[-1]
    assert len(words.n_tokens) == 12


def test_digits_of_numbers_are_seen_as_split(tiny):
    loaded = tiny("llama")
    ((_, words),) = curves.read(loaded, curves.Task(("unit",), "integers", LAYERS[:1]))
    assert words.is_split == (len(set(words.n_tokens)) > 1 or len(set(words.last)) < 100)


def test_two_workers_make_the_rows_of_one_and_a_second_run_makes_none(read, done, tiny_folder, tmp_path):
    model, path = str(tiny_folder("llama")), tmp_path / "study"
    shutil.copytree(read.path, path)
    run(asked(model, engine={"workers": 2}), StudyFolder(path), shape, paths)
    one, other = tables(done), tables(StudyFolder(path))
    for table in ("shapes", "paths", "path_steps", "path_outcomes"):
        same(other[table], one[table])
    with contextlib.closing(Store(path)) as store:
        stored = Context(asked(model), "r", store, print)
        keys = [unit.key for stage in (shape, paths) for unit in units_of(stage, stored)]
    ledger = StudyFolder(path).ledger()
    assert set(keys) == ledger.keys("shape") | ledger.keys("paths")


def test_a_study_without_the_tables_asks_for_nothing_and_its_pairs_keep_their_keys(read, done, tiny_folder):
    without = asked(str(tiny_folder("llama")), shape=None, curves=None, paths=None)
    with contextlib.closing(Store(read.path)) as store, contextlib.closing(Store(done.path)) as later:
        assert not [
            unit for stage in (shape, curves, paths) for unit in stage.units(Context(without, "r", store, print))
        ]
        (model,) = store.models()["model_id"]
        assert store.evidence_digest(model, LAYERS[0]) != later.evidence_digest(model, LAYERS[0])
    order = [stage.NAME for stage in STAGES]
    assert order.index(paths.NAME) < order.index(evidence.NAME)


def test_the_plan_has_a_line_for_each(tiny_folder, tmp_path):
    study = asked(str(tiny_folder("llama")))
    lines = {line.stage: line for line in plan_study(study, StudyFolder(tmp_path))[0]}
    assert {"shape", "curves", "paths"} <= lines.keys()


@pytest.mark.parametrize("wrong", [{"shape": {"layers": [1]}}, {"paths": {"layers": [1]}}, {"curves": {"sets": ["x"]}}])
def test_a_layer_without_activations_and_an_unknown_set_are_refused(tiny_folder, wrong):
    with pytest.raises(ValueError, match=r"activations\.layers|there is no set of words in order 'x'"):
        asked(str(tiny_folder("llama")), **wrong)


def test_too_few_draws_to_show_anything_are_warned_of(read, tiny_folder):
    study, said = asked(str(tiny_folder("llama")), curves={"draws": 19, "sets": ["weekdays"]}), []
    with contextlib.closing(Store(read.path)) as store:
        context = Context(study, "r", store, print, said.append)
        next(curves.compute(context, curves.units(context)))
    assert "curves.draws is 19: with 2 layers and models" in said[0] and "40 or more" in said[0]


def test_a_layer_that_the_model_lacks_is_named(read, tiny_folder):
    study = asked(str(tiny_folder("llama")), curves={"layers": [99]})
    with contextlib.closing(Store(read.path)) as store, pytest.raises(Exception, match=r"curves\.layers"):
        curves.units(Context(study, "r", store, print))


def test_a_study_says_what_it_lacks():
    study = asked("embedded:SmolLM2-135M-Instruct", shape=None, curves=None, paths=None)
    for part in ("shape", "curves", "paths"):
        with pytest.raises(StudyError, match=part):
            getattr(study, f"its_{part}")


def test_the_columns_of_rows_are_those_of_the_tables(done):
    assert all(rows[0].keys() == TABLES[table].columns.keys() for table, rows in tables(done).items() if rows)
