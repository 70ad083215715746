"""Importing: CoT by CoT, each whole or not at all, the same files once, and one of our models may read what others
wrote.
"""

import io

import numpy as np
import pytest
from rich.console import Console

from backend.errors import AnchorscopeError
from backend.models import embedded, sentences
from backend.models.sentences import Meter
from backend.store.store import Store
from backend.store.unit_files import StudyFolder
from precompute import importing
from precompute.importers import thought_anchors
from precompute.importing import import_folder
from tests.precompute.importers.test_thought_anchors import MODEL, folder, rollout, scenario_folder, write  # noqa: F401
from tests.shared_data import shared_folder

needs_encoder = pytest.mark.skipif(
    not embedded.is_ready(), reason="the embedded sentence encoder is missing; `make model` fetches it"
)


def bring(source: str, place, target: StudyFolder, **how) -> str:
    said = io.StringIO()
    import_folder(source, place, target, wait=False, console=Console(file=said, width=300), **how)
    return said.getvalue()


def another(folder, number: int):  # noqa: F811
    """A second CoT beside that of `folder`."""
    place = folder.parent / f"problem_{number}"
    for file in folder.glob("*.json"):
        write(place / file.name, file.read_text())
    write(place / "problem.json", {"problem": f"How many, {number}?", "gt_answer": "7"})
    return place


def fake_encoder(monkeypatch):
    """Vectors of letters in place of a model; returns the texts that were encoded, call by call."""
    calls = []

    class Encoder:
        meter = Meter()

        def encode(self, texts):
            calls.append(list(texts))
            rows = np.array(
                [[text.lower().count(letter) + 0.01 for letter in "abcdefghijklmnopqrstuvwxyz"] for text in texts],
                dtype=float,
            )
            return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    monkeypatch.setattr(sentences, "load_encoder", Encoder)
    return calls


@pytest.fixture
def imported(folder, tmp_path):  # noqa: F811
    write(
        folder / "chunk_0" / "solutions.json",
        [
            rollout(chunk_removed="", is_correct=True),
            rollout(chunk_removed="", chunk_resampled="Tom has three apples."),
        ],
    )
    write(folder / "chunk_1" / "solutions.json", [rollout(answer="8", is_correct=False), rollout()])
    target = StudyFolder(tmp_path / "stores" / "published")
    return target, bring("thought-anchors", folder.parents[2], target), folder


@needs_encoder
def test_published_values_stay_and_ours_stand_beside_them(imported):
    target, said, _ = imported
    store = Store(target.path)
    rows = store.frame(
        "SELECT convention, value FROM importance WHERE metric = 'counterfactual_accuracy' ORDER BY chunk_id,"
        " convention"
    )
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
    verdicts = Store(target.path).frame(
        "SELECT p.answer AS truth, is_correct, grader FROM cots JOIN problems p USING (problem_id)"
    )
    assert len(verdicts) == 8 and verdicts["grader"].notna().all()
    assert set(verdicts[~verdicts["is_correct"].astype(bool)]["truth"]) == {"60", "75"}


def test_a_broken_folder_leaves_nothing_behind(folder, tmp_path):  # noqa: F811
    write(folder / "chunks_labeled.json", "[{")
    target = StudyFolder(tmp_path / "stores" / "published")
    with pytest.raises(AnchorscopeError, match=r"chunks_labeled.json"):
        bring("thought-anchors", folder.parents[2], target)
    assert not target.path.exists()


# CoT by CoT


def test_a_killed_import_goes_on_and_reads_no_cot_twice(folder, tmp_path, monkeypatch):  # noqa: F811
    fake_encoder(monkeypatch)
    another(folder, 8), another(folder, 9)
    target = StudyFolder(tmp_path / "s")
    measure, measured = importing._measure, []

    def killed(tables, judge):
        if len(measured) == 2:
            raise KeyboardInterrupt
        measured.append(tables["cots"][0]["cot_id"])
        measure(tables, judge)

    with monkeypatch.context() as patch:
        patch.setattr(importing, "_measure", killed)
        with pytest.raises(KeyboardInterrupt):
            bring("thought-anchors", folder.parents[2], target)
    assert len(target.ledger().keys("imported")) == 2

    reads, read = [], thought_anchors._read_problem
    monkeypatch.setattr(
        thought_anchors, "_read_problem", lambda place, rollouts: reads.append(place.name) or read(place, rollouts)
    )
    said = bring("thought-anchors", folder.parents[2], target)
    assert "2 of 3 CoTs are there already" in said and set(reads) == {"problem_9"}
    assert Store(target.path).frame("SELECT count(*) AS n FROM cots")["n"].item() == 3
    assert Store(target.path).frame("SELECT count(*) AS n FROM cots JOIN runs USING (run_id)")["n"].item() == 3


def test_only_the_cot_whose_files_changed_is_replaced_and_an_old_state_comes_back(folder, tmp_path, monkeypatch):  # noqa: F811
    calls = fake_encoder(monkeypatch)
    other = another(folder, 8)
    target = StudyFolder(tmp_path / "s")
    bring("thought-anchors", folder.parents[2], target)
    before, kept = target.ledger().keys("imported"), (other / "chunks_resampled.json").read_text()
    calls.clear()
    write(other / "chunks_resampled.json", {"0": ["Something new."]})
    bring("thought-anchors", folder.parents[2], target)
    after = target.ledger().keys("imported")
    assert len(after) == 2 and len(after & before) == 1
    assert "Something new." in calls[0] and "He gets four." not in calls[0]
    rows = Store(target.path).frame("SELECT count(*) AS n FROM rollouts GROUP BY cot_id ORDER BY n")["n"].tolist()
    assert rows == [1, 3]
    write(other / "chunks_resampled.json", kept)
    assert "its store is built now" in bring("thought-anchors", folder.parents[2], target)
    assert target.ledger().keys("imported") == before
    assert Store(target.path).frame("SELECT count(*) AS n FROM rollouts")["n"].item() == 6


def test_the_same_cot_from_another_folder_above_it_is_known(folder, tmp_path, monkeypatch):  # noqa: F811
    fake_encoder(monkeypatch)
    target = StudyFolder(tmp_path / "s")
    bring("thought-anchors", folder, target)
    assert "nothing to do" in bring("thought-anchors", folder.parents[2], target)


def test_a_cot_whose_rollouts_have_a_fault_is_left_out_whole_and_named_at_the_end(folder, tmp_path, monkeypatch):  # noqa: F811
    fake_encoder(monkeypatch)
    bad = another(folder, 6) / "chunk_1" / "solutions.json"
    write(bad, "[{")
    target = StudyFolder(tmp_path / "s")
    with pytest.raises(
        AnchorscopeError, match=r"1 of 2 CoTs are left out, the others are in .*\n.*problem_6/chunk_1/solutions.json"
    ):
        bring("thought-anchors", folder.parents[2], target)
    assert Store(target.path).frame("SELECT question FROM problems")["question"].tolist() == ["How many?"]
    write(bad, [rollout()])
    assert "1 of 2 CoTs are there already" in bring("thought-anchors", folder.parents[2], target)


def test_a_fault_elsewhere_ends_the_import_before_anything_is_written(folder, tmp_path):  # noqa: F811
    write(another(folder, 8) / "chunks_labeled.json", "[{")
    target = StudyFolder(tmp_path / "s")
    with pytest.raises(AnchorscopeError, match=r"problem_8/chunks_labeled\.json"):
        bring("thought-anchors", folder.parents[2], target)
    assert not target.path.exists()


def test_without_rollouts_no_encoder_is_needed_and_they_can_come_later(folder, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(sentences, "load_encoder", lambda: pytest.fail("no encoder is needed"))
    target = StudyFolder(tmp_path / "s")
    bring("thought-anchors", folder.parents[2], target, rollouts=False)
    counts = "SELECT (SELECT count(*) FROM rollouts) AS rollouts, (SELECT count(*) FROM importance) AS importance"
    assert Store(target.path).frame(counts).iloc[0].tolist() == [0, 6]
    fake_encoder(monkeypatch)
    bring("thought-anchors", folder.parents[2], target)
    assert Store(target.path).frame(counts).iloc[0].tolist()[0] == 3


def test_a_sentence_is_encoded_once_for_all_cots(folder, tmp_path, monkeypatch):  # noqa: F811
    calls = fake_encoder(monkeypatch)
    another(folder, 8), another(folder, 9)
    bring("thought-anchors", folder.parents[2], StudyFolder(tmp_path / "s"))
    encoded = [text for call in calls for text in call]
    assert len(encoded) == len(set(encoded)) and "He gets four." in encoded


def test_what_is_kept_of_sentences_is_bounded(monkeypatch):
    calls = fake_encoder(monkeypatch)
    monkeypatch.setattr(importing, "_KEPT_VECTORS", 2)
    known = importing._Sentences(sentences.load_encoder())
    known.encode(["a", "b", "c"])
    assert len(known._kept) == 3  # those of one call are there together
    known.encode(["d"])
    assert len(known._kept) == 2
    assert known.encode(["a"]).shape == (1, 26) and calls[-1] == ["a"]


def test_progress_is_plain_lines_where_there_is_no_terminal(folder, tmp_path, monkeypatch):  # noqa: F811
    fake_encoder(monkeypatch)
    monkeypatch.setattr(importing, "_SAY_EVERY", 0.0)
    another(folder, 8)
    said = bring("thought-anchors", folder.parents[2], StudyFolder(tmp_path / "s"))
    assert "0 of 2 CoTs" in said and "1 of 2 CoTs" in said and "problem_7 · 5 of 5 sentences" in said
    assert "distinct sentences" in said and "GFLOP/s" in said


def test_an_import_of_before_in_one_unit_becomes_a_unit_a_cot(folder, tmp_path, monkeypatch):  # noqa: F811
    fake_encoder(monkeypatch)
    another(folder, 8)
    target, whole = StudyFolder(tmp_path / "s"), thought_anchors.read_thought_anchors(folder.parents[2])
    tables = {name: [dict(row) for row in rows] for name, rows in whole.tables.items() if rows}
    for row in tables["rollouts"]:
        row["similarity"] = 0.1
    with target.writing("test") as writer:
        writer.add("import", "i-of-before@0", tables)
    said = bring("thought-anchors", folder, target)
    ledger = target.ledger()
    assert not ledger.keys("import") and len(ledger.keys("imported")) == 2 and "CoT by CoT" in said
    store = Store(target.path)
    assert store.frame("SELECT count(*) AS n FROM cots")["n"].item() == 2
    assert (
        store.frame("SELECT count(*) AS n FROM rollouts WHERE similarity = 0.1")["n"].item() == 3
    )  # of the CoT that was not read again
    shares = store.frame(
        "SELECT value FROM importance WHERE metric = 'different_trajectories_fraction' AND convention = 'all'"
    )
    assert shares["value"].notna().sum() == 4


@needs_encoder
def test_a_scenario_without_an_answer_is_a_study_that_the_page_shows(folder, tmp_path):  # noqa: F811
    target = StudyFolder(tmp_path / "s")
    bring("thought-anchors", scenario_folder(folder), target)
    store = Store(target.path)
    assert store.frame("SELECT answer FROM problems")["answer"].isna().all()
    assert store.frame("SELECT is_correct FROM cots")["is_correct"].isna().all()


def test_an_unknown_format_is_refused_with_those_there_are(tmp_path):
    with pytest.raises(AnchorscopeError, match=r"there are seed-study .*, thought-anchors"):
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
