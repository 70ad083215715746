"""Importing: all of a folder or nothing of it, the same folder once, and one of our models may read what others wrote."""

import io

import pytest
from rich.console import Console

from backend.errors import AnchorscopeError
from backend.models import embedded
from backend.store.store import Store
from backend.store.unit_files import StudyFolder
from precompute.importing import import_folder
from tests.precompute.importers.test_thought_anchors import MODEL, folder, rollout, write  # noqa: F401
from tests.shared_data import shared_folder

needs_encoder = pytest.mark.skipif(not embedded.is_ready(), reason="the embedded sentence encoder is missing; `make model` fetches it")


def bring(source: str, place, target: StudyFolder) -> str:
    said = io.StringIO()
    import_folder(source, place, target, wait=False, console=Console(file=said, width=300))
    return said.getvalue()


@pytest.fixture
def imported(folder, tmp_path):  # noqa: F811
    write(
        folder / "chunk_0" / "solutions.json",
        [rollout(chunk_removed="", is_correct=True), rollout(chunk_removed="", chunk_resampled="Tom has three apples.")],
    )
    write(folder / "chunk_1" / "solutions.json", [rollout(answer="8", is_correct=False), rollout()])
    target = StudyFolder(tmp_path / "stores" / "published")
    return target, bring("thought-anchors", folder.parents[2], target), folder


@needs_encoder
def test_published_values_stay_and_ours_stand_beside_them(imported):
    target, said, _ = imported
    store = Store(target.path)
    rows = store.frame("SELECT convention, value FROM importance WHERE metric = 'counterfactual_accuracy' ORDER BY chunk_id, convention")
    assert rows[rows["convention"] == "published"]["value"].tolist() == [0.5, 0.5, 0.5]
    assert rows[rows["convention"] == "all"]["value"].dropna().tolist() == [1.0, 0.5]
    assert "Imported 1 problems, 1 cots, 3 chunks" in said


@needs_encoder
def test_resampled_sentences_are_compared_with_the_chunk(imported):
    store = Store(imported[0].path)
    rows = store.frame("SELECT resampled_chunk, similarity FROM rollouts ORDER BY rollout_id")
    same = rows[rows["resampled_chunk"] == "Tom has three apples."]["similarity"]
    assert same.tolist() == pytest.approx([1.0], abs=1e-5) and rows["similarity"].min() < 0.9


@needs_encoder
def test_the_same_folder_twice_changes_nothing(imported):
    target, _, place = imported
    before = target.manifest.read_bytes()
    assert "nothing to do" in bring("thought-anchors", place.parents[2], target)
    assert target.manifest.read_bytes() == before


@needs_encoder
def test_a_folder_that_changed_replaces_what_it_brought(imported):
    target, _, place = imported
    write(place / "chunk_1" / "solutions.json", [rollout()])
    bring("thought-anchors", place.parents[2], target)
    store = Store(target.path)
    assert int(store.frame("SELECT count(*) AS n FROM rollouts WHERE text IS NOT NULL")["n"].iloc[0]) == 3


def test_cots_published_without_a_verdict_are_judged(tmp_path):
    target = StudyFolder(tmp_path / "seed")
    bring("seed-study", shared_folder("seed_study"), target)
    verdicts = Store(target.path).frame("SELECT p.answer AS truth, is_correct, grader FROM cots JOIN problems p USING (problem_id)")
    assert len(verdicts) == 8 and verdicts["grader"].notna().all()
    assert set(verdicts[~verdicts["is_correct"].astype(bool)]["truth"]) == {"60", "75"}


def test_a_broken_folder_leaves_nothing_behind(folder, tmp_path):  # noqa: F811
    write(folder / "chunks_labeled.json", "[{")
    target = StudyFolder(tmp_path / "stores" / "published")
    with pytest.raises(AnchorscopeError, match=r"chunks_labeled.json"):
        bring("thought-anchors", folder.parents[2], target)
    assert not target.path.exists()


def test_an_unknown_format_is_refused_with_those_there_are(tmp_path):
    with pytest.raises(AnchorscopeError, match="thought-anchors, seed-study"):
        bring("spreadsheet", tmp_path, StudyFolder(tmp_path / "s"))


@needs_encoder
def test_a_model_that_reads_imported_cots_gives_them_activations_and_steepness(imported, tiny_folder):
    from precompute.pipeline import run_study
    from precompute.stages import STAGES
    from precompute.study import Study

    target, _, _ = imported
    before = Store(target.path).frame("SELECT chunk_id, text, char_start FROM chunks ORDER BY chunk_id")
    study = Study.model_validate(
        {
            "name": "published",
            "models": [{"name": str(tiny_folder("qwen2")), "reads": [MODEL]}],
            "activations": {"layers": [2]},
            "sweep": {"layers": [2], "kinds": ["per_chunk"], "points": 5},
            "engine": {"workers": 1},
        }
    )
    run_study(study, target, stages=STAGES, console=Console(file=io.StringIO()))
    store = Store(target.path)
    assert store.frame("SELECT chunk_id, text, char_start FROM chunks ORDER BY chunk_id").equals(before)
    (cot,) = store.tokenised_cots()
    assert cot["model_name"] == MODEL
    assert store.frame("SELECT DISTINCT m.name FROM activations a JOIN models m USING (model_id)")["name"].tolist() == [
        str(tiny_folder("qwen2"))
    ]
    assert store.frame("SELECT count(*) AS n FROM steepness WHERE steepness IS NOT NULL")["n"].iloc[0] == 3 * 2
    assert store.read_by_others().to_dict("records") == [{"reader": str(tiny_folder("qwen2")), "writer": MODEL}]
    assert store.frame("SELECT count(*) AS n FROM importance WHERE convention = 'published'")["n"].iloc[0] > 0
