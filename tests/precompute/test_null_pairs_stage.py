"""Nulls of a crosscoder of a tiny pair: trained as it is, measured as it is, the same after any stop, and no part of
what travels with the study.
"""

import io
import json
import shutil
from contextlib import closing

import numpy as np
import pytest
from rich.console import Console

from backend.crosscoder import train
from backend.crosscoder.null_bands import nrn_band
from backend.crosscoder.null_kinds import A_STRENGTH, NULL_KINDS, STRENGTHS
from backend.store.store import Store
from backend.store.unit_files import StudyFolder
from precompute.pipeline import run_study
from precompute.stages import null_pairs
from tests.dictionary_study import N_FEATURES, STAGES, Made, pair_of, study_of

NULLS, STEPS = list(NULL_KINDS), 24


@pytest.fixture(scope="module")
def pair(tiny_folder, tmp_path_factory) -> tuple[str, str]:
    return pair_of(tiny_folder, tmp_path_factory)


@pytest.fixture(scope="module")
def before(pair, tmp_path_factory) -> StudyFolder:
    """The study with its crosscoder, and no null."""
    folder = StudyFolder(tmp_path_factory.mktemp("stores") / "before")
    run_study(study_of(pair, steps=STEPS), folder, stages=STAGES, console=Console(file=io.StringIO()))
    return folder


def run(made: Made) -> str:
    said = io.StringIO()
    run_study(made.study, made.folder, stages=(*STAGES, null_pairs), console=Console(file=said, width=200))
    return said.getvalue()


@pytest.fixture(scope="module")
def finished(pair, before, tmp_path_factory) -> Made:
    folder = StudyFolder(shutil.copytree(before.path, tmp_path_factory.mktemp("stores") / "nulls"))
    made = Made(study_of(pair, steps=STEPS, nulls=NULLS, null_seeds=2), folder)
    run(made)
    return made


@pytest.fixture(scope="module")
def store(finished):
    store = Store(finished.folder.path)
    yield store
    store.close()


TABLES = ("null_dictionaries", "null_features", "planted_directions")


def rows_of(folder: StudyFolder) -> dict[str, list]:
    with closing(Store(folder.path)) as store:
        rows = {table: store.whole_table(table).to_pylist() for table in TABLES}
    for row in rows["null_dictionaries"]:
        row["parameters"] = {key: value for key, value in json.loads(row["parameters"]).items() if key != "seconds"}
    return rows


def test_pairs_are_trained_as_often_as_asked_and_the_other_nulls_once(store, finished):
    (name,) = store.dictionary_ids()
    nulls = store.null_dictionaries(name)
    assert sorted(zip(nulls["null"], nulls["number"], strict=True)) == [
        ("frozen_decoder", 0),
        ("frozen_encoder", 0),
        ("noise", 0),
        ("noise", 1),
        ("planted", 0),
        ("same", 0),
        ("same", 1),
    ]
    assert set(nulls["n_features"]) == {N_FEATURES} and (nulls[nulls["number"] == 0]["seed"] == 3).all()
    assert (nulls[nulls["number"] == 1]["seed"] != 3).all()
    own = store.dictionaries().iloc[0]
    assert set(nulls["n_judged"]) == {own.n_judged} and set(nulls["n_tokens"]) == {own.n_tokens}
    settings = [json.loads(parameters)["settings"] for parameters in nulls["parameters"]]
    expected = json.loads(own.parameters)["settings"]
    for found in settings:
        assert {**found, "seed": 3, "frozen": None} == expected


def test_a_null_pair_has_rows_alike_and_a_frozen_decoder_an_nrn_of_a_half(store):
    nulls = store.null_features(store.dictionary_ids()[0])
    assert len(nulls) == 7 * N_FEATURES
    frozen = nulls[nulls["null"] == "frozen_decoder"]
    assert np.allclose(frozen["nrn_l1"], 0.5, atol=1e-6) and np.allclose(frozen["nrn_l2"], 0.5, atol=1e-6)
    band = nrn_band(nulls, "l2")
    assert 0.2 < band.low < 0.5 < band.high < 0.8 and band.n_trainings == 4
    live = nulls[nulls["frequency"] > 0]
    assert live["peak_share"].between(1 / 20, 1).all() and nulls[nulls["frequency"] == 0]["peak_share"].isna().all()


def test_a_planted_direction_is_told_with_the_feature_that_is_nearest(store):
    planted = store.planted_directions(store.dictionary_ids()[0])
    assert len(planted) == len(STRENGTHS) * A_STRENGTH and planted["cosine"].between(-1, 1).all()
    assert (planted["frequency"] > 0).all()


def test_their_weights_are_no_dictionaries_of_the_study(finished, before):
    assert sorted(one.name for one in (finished.folder.path / "dictionaries").iterdir()) == sorted(
        one.name for one in (before.path / "dictionaries").iterdir()
    )
    assert len(list((finished.folder.path / "scratch").glob("null-*"))) == 7


def test_killed_anywhere_they_go_on_and_no_row_changes(finished, before, tmp_path, monkeypatch):
    made = Made(finished.study, StudyFolder(shutil.copytree(before.path, tmp_path / "killed")))
    monkeypatch.setattr("precompute.stages.crosscoder.CHECKPOINT_EVERY", 0.0)

    def killed_at(target, name: str, call: int) -> None:
        calls, original = [], getattr(target, name)

        def until(*given, **options):
            calls.append(0)
            if len(calls) == call:
                raise KeyboardInterrupt
            return original(*given, **options)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(target, name, until)
            run(made)

    from backend.crosscoder import judge

    killed_at(train.Trainer, "step", 20)
    shutil.rmtree(next((made.folder.path / "scratch").glob("recording-*")))
    killed_at(judge.Judge, "findings", 1)  # its weights are there
    killed_at(train.Trainer, "step", 100)
    shutil.rmtree(made.folder.path / "scratch")
    monkeypatch.undo()
    run(made)
    assert rows_of(made.folder) == rows_of(finished.folder)


def test_without_scratch_a_finished_study_does_nothing(finished, tmp_path):
    folder = StudyFolder(shutil.copytree(finished.folder.path, tmp_path / "done"))
    shutil.rmtree(folder.path / "scratch")
    assert run(Made(finished.study, folder)).count("all done") == len(STAGES) + 1


def test_nulls_change_nothing_of_the_dictionary_and_are_of_pairs_alone(finished, before, pair):
    with closing(Store(finished.folder.path)) as one, closing(Store(before.path)) as other:
        assert one.dictionary_ids() == other.dictionary_ids()
    with pytest.raises(ValueError, match=r"crosscoder\.nulls are of a base and a distilled model"):
        study_of(pair[:1], nulls=["same"])
    with pytest.raises(ValueError, match="null_seeds says how often"):
        study_of(pair, null_seeds=2)
    with pytest.raises(ValueError, match="there is no null of crosscoders 'shuffled'; allowed are same, noise"):
        study_of(pair, nulls=["shuffled"])
