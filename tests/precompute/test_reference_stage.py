"""One more CoT costs its own work: study-wide directions and tangents rest on a set that is frozen when they are first
made.
"""

import io
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from backend.geometry.direction_kinds import DirectionSpec
from backend.geometry.direction_library import make_direction
from backend.geometry.neighbourhoods import tangent_spaces
from backend.ids import cot_of
from backend.store.publish import publish
from backend.store.store import Store
from backend.store.unit_files import StudyFolder
from precompute.pipeline import _Runner, run_study
from precompute.stages import before_after, geometry, reference, sweep
from precompute.steered import reference_now, reference_of, study_directions
from precompute.study import Study
from precompute.terminal import ours
from precompute.units import Context, Finished, Unit
from tests import small_study

MODEL = small_study._MODEL
RESTING = (sweep, geometry, before_after)


def study_of(name: str = "first") -> Study:
    return Study.model_validate(
        {
            "name": "s",
            "seed": 3,
            "models": [{"name": "tiny"}],
            "problems": {"per_level": 1},
            "sweep": {"layers": [5], "kinds": ["per_chunk", "centered", "diff_in_means"], "reference": name},
            "geometry": {"layers": [5], "spectra": 4, "before_after": 2},
        }
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    return small_study.make(tmp_path_factory.mktemp("finished") / "s")


@pytest.fixture
def folder(finished, tmp_path, monkeypatch) -> StudyFolder:
    """A finished study that has no reference set."""
    monkeypatch.setattr("precompute.models.reader_of", lambda study, cot: MODEL)
    return StudyFolder(shutil.copytree(finished, tmp_path / "s"))


@contextmanager
def opened(folder: StudyFolder, name: str = "first") -> Iterator[Context]:
    with closing(Store(folder.path)) as store:
        yield Context(study_of(name), "r", store, lambda words: None)


def last_cot(folder: StudyFolder) -> str:
    with opened(folder) as context:
        return cot_of(context.store.chunks_with_activations(MODEL)[-1])


def take(folder: StudyFolder, cot: str) -> None:
    """Nothing of the CoT's importance and activations is there any more."""
    with closing(Store(folder.path)) as store, folder.writing("test") as writer:
        for table in ("importance", "activations"):
            rows = [row for row in store.whole_table(table).to_pylist() if cot_of(row["chunk_id"]) != cot]
            writer.add(table, "fewer", {table: rows})
            writer.keep_only(table, {"fewer"})
        publish(writer)


def give_back(folder: StudyFolder) -> None:
    with folder.writing("test") as writer:
        for table in ("importance", "activations"):
            writer.keep_only(table, {"all"})
        publish(writer)


def freeze(folder: StudyFolder, name: str = "first") -> list[str]:
    """Run the stage; the ids of the units that were left to do."""
    with opened(folder, name) as context, folder.writing("test") as writer:
        units = reference.units(context)
        writer.keep_only(reference.NAME, {unit.key for unit in units})
        todo = [unit for unit in units if unit.key not in writer.ledger.keys(reference.NAME)]
        for finished in reference.compute(context, todo):
            writer.add(reference.NAME, finished.unit.key, finished.tables)
        publish(writer)
    return [unit.unit_id for unit in todo]


def keys(folder: StudyFolder) -> dict[str, str]:
    """Of every unit that rests on the set."""
    with opened(folder) as context:
        return {f"{stage.NAME}.{unit.unit_id}": unit.key for stage in RESTING for unit in stage.units(context)}


def frozen(folder: StudyFolder) -> dict[str, bool]:
    with opened(folder) as context:
        return context.store.reference_chunks(MODEL)


def test_what_rests_on_the_set_that_is_implied_has_the_keys_that_it_had_before_there_were_sets(folder):
    before = keys(folder)
    assert len(before) == 12 and not frozen(folder)
    assert len(freeze(folder)) == 2
    with opened(folder) as context:
        assert reference_of(context, MODEL) == reference_now(context, MODEL) == frozen(folder)
    assert keys(folder) == before


def test_one_more_cot_costs_its_own_units_only(folder):
    everything, new = keys(folder), last_cot(folder)
    take(folder, new)
    before = keys(folder)
    assert not before.items() & everything.items(), "without a set, all would be computed again"
    freeze(folder)
    give_back(folder)
    after = keys(folder)
    assert after.items() >= before.items()
    assert sorted(after.keys() - before.keys()) == [f"{stage.NAME}.{MODEL}.{new}" for stage in (geometry, sweep)]
    assert freeze(folder) == [], "the set stays as it is"


def test_chunks_outside_the_set_are_steered_along_its_mean_and_never_anchors(folder):
    new = last_cot(folder)
    take(folder, new)
    freeze(folder)
    with opened(folder) as context:
        (before,) = (one for one in study_directions(context, MODEL, [5]) if one.kind == "diff_in_means")
    give_back(folder)
    with opened(folder) as context:
        made, known = study_directions(context, MODEL, [5]), reference_of(context, MODEL)
        vectors = dict(zip(*context.store.activations(MODEL, 5), strict=True))
        mean = np.mean([vectors[chunk] for chunk in known], axis=0, dtype=np.float64)
        own = [one for one in made if one.kind == "centered" and cot_of(one.chunk_id) == new]
        assert own and not any(cot_of(chunk) == new for chunk in known)
        for one in own:
            expected = vectors[one.chunk_id] - mean
            assert np.allclose(one.vector, expected / np.linalg.norm(expected), atol=1e-6)
            by_hand = make_direction(context.store, DirectionSpec("centered", MODEL, 5, chunk_id=one.chunk_id))
            assert by_hand.direction_id == one.direction_id and (by_hand.vector == one.vector).all()
        (difference,) = (one for one in made if one.kind == "diff_in_means")
        by_hand = make_direction(context.store, DirectionSpec("diff_in_means", MODEL, 5))
        assert difference.direction_id == by_hand.direction_id == before.direction_id


def test_another_name_freezes_another_set_and_the_earlier_name_finds_its_own(folder):
    take(folder, last_cot(folder))
    freeze(folder)
    first = frozen(folder)
    give_back(folder)
    assert len(freeze(folder, "second")) == 2 and len(frozen(folder)) > len(first)
    assert freeze(folder) == [] and frozen(folder) == first


def test_a_set_that_lost_a_chunk_gives_way_and_counts_again_when_it_is_whole(folder):
    freeze(folder)
    everything, gone = frozen(folder), last_cot(folder)
    take(folder, gone)
    assert len(freeze(folder)) == 2
    assert frozen(folder) == {chunk: known for chunk, known in everything.items() if cot_of(chunk) != gone}
    give_back(folder)
    assert freeze(folder) == [] and frozen(folder) == everything


def test_anchors_of_a_set_keep_their_convention_when_another_becomes_known(folder):
    new = last_cot(folder)
    with closing(Store(folder.path)) as store, folder.writing("test") as writer:
        ours = [row for row in store.whole_table("importance").to_pylist() if row["convention"] == "fl"]
        published = [{**row, "convention": "published"} for row in ours]
        mixed = [(other if cot_of(row["chunk_id"]) != new else row) for row, other in zip(ours, published, strict=True)]
        writer.add("importance", "published", {"importance": [one for one in mixed if cot_of(one["chunk_id"]) != new]})
        writer.add("importance", "mixed", {"importance": mixed})
        writer.keep_only("importance", {"published"})
        publish(writer)
    freeze(folder)
    before = keys(folder)
    with folder.writing("test") as writer:
        writer.keep_only("importance", {"mixed"})
        publish(writer)
    assert keys(folder).items() >= before.items()


def test_tangents_at_a_chunk_outside_the_set_move_none_within_it():
    rng = np.random.default_rng(0)
    cloud = {f"c{k:02d}": rng.normal(size=12).astype(np.float32) for k in range(30)}
    outside = {"new": rng.normal(size=12).astype(np.float32), "broken": np.full(12, np.nan, np.float32)}
    alone, more = tangent_spaces(cloud), tangent_spaces(cloud, others=outside)
    assert more.keys() - alone.keys() == {"new"} and all((more[name] == alone[name]).all() for name in alone)
    assert np.allclose(more["new"] @ more["new"].T, np.eye(4), atol=1e-5)
    near = sorted(cloud, key=lambda name: np.linalg.norm(cloud[name].astype(float) - outside["new"]))[:16]
    mean = np.mean([cloud[name] for name in near], axis=0, dtype=np.float64)
    _, _, principal = np.linalg.svd(np.array([cloud[name] for name in near], np.float64) - mean, full_matrices=False)
    assert np.allclose(np.abs((more["new"] * principal[:4]).sum(1)), 1, atol=1e-5)


def test_a_study_that_was_swept_before_there_were_sets_freezes_what_it_holds_first(tmp_path, monkeypatch):
    order = []

    def stage(name: str, **more) -> SimpleNamespace:
        def compute(context, units):
            for unit in units:
                order.append(name)
                yield Finished(unit, {})

        return SimpleNamespace(
            NAME=name, UNIT="thing", RULE=1, units=lambda context: [Unit("all", {})], compute=compute, **more
        )

    study, folder = study_of(), StudyFolder(tmp_path / "old")
    quiet = Console(file=io.StringIO())
    swept, cots, sets = stage("sweep"), stage("cots"), stage("reference", FREEZES=reference.FREEZES)
    with folder.writing("test") as writer:
        runner = _Runner(study, folder, writer, ours(quiet))
        assert not runner.predates(sets), "a new study freezes it when directions are first made"
        writer.add("sweep", "old", {})
        assert runner.predates(sets) and not runner.predates(swept)
        runner.store.close()
    monkeypatch.setattr("precompute.pipeline.require_usable", lambda study: None)
    run_study(study, folder, stages=[cots, sets, swept], console=quiet)
    assert order == ["reference", "cots", "sweep"]
