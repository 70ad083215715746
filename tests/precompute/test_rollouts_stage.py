"""Rollouts are one unit a CoT; those of studies that have one a chunk and kind count, and only what they lack is
sampled.
"""

import shutil
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest

from backend.models import embedded
from backend.store.store import Store
from backend.store.unit_files import StudyFolder
from precompute import cli
from precompute.stages import activations, chunks, cots, problems, rollouts
from precompute.units import Context, Unit
from tests.precompute.test_pipeline import run, tiny_study

BEFORE = {stage.NAME for stage in (problems, cots, chunks, activations)}

pytestmark = [
    pytest.mark.embedded,
    pytest.mark.skipif(not embedded.is_ready(), reason="the sentence encoder is not in the cache; `make model`"),
]


def run_to_rollouts(study, folder) -> str:
    from precompute.stages import STAGES

    return run(study, folder, without=tuple({stage.NAME for stage in STAGES} - BEFORE - {rollouts.NAME}))


@pytest.fixture(scope="module")
def study(tiny_folder):
    return tiny_study(str(tiny_folder("llama")), sampling={"samples": 2, "max_new_tokens": 24})


@pytest.fixture(scope="module")
def new(study, tmp_path_factory):
    """The study's folder as it is written today."""
    folder = StudyFolder(tmp_path_factory.mktemp("new") / "tiny")
    run_to_rollouts(study, folder)
    return folder


@pytest.fixture
def old(study, new, tmp_path):
    """`old(share)`: the same study as it was once, with so many of its units of rollouts."""

    def made(n_lost: int = 0) -> StudyFolder:
        folder = StudyFolder(shutil.copytree(new.path, tmp_path / f"lacks{n_lost}"))
        stored = rows(folder)
        with closing(Store(folder.path)) as store:
            parts = [part for unit in rollouts.units(Context(study, "r", store, print)) for part in unit.parts]
        with folder.writing("test") as writer:
            writer.keep_only(rollouts.NAME, set())
            for part in parts[n_lost:]:
                chunk, kind = part.unit_id.split(".")
                own = stored[(stored["chunk_id"] == chunk) & (stored["kind"] == kind)]
                writer.add(
                    rollouts.NAME,
                    part.key,
                    {"rollouts": own.astype(object).where(own.notna(), None).to_dict("records")},
                )
        lines = folder.manifest.read_text().splitlines(keepends=True)
        new_line = [
            line
            for line in lines
            if '"stage":"rollouts"' in line
            and '"kind":"unit"' in line
            and "." not in line.split('"key":"')[1].split("@")[0]
        ]
        folder.manifest.write_text("".join(line for line in lines if line not in new_line))
        return folder

    return made


def rows(folder) -> pd.DataFrame:
    with closing(Store(folder.path)) as store:
        return store.frame("SELECT * FROM rollouts ORDER BY rollout_id")


def test_a_cot_is_one_unit_with_every_kind_at_every_chunk(study, new):
    keys = new.ledger().keys(rollouts.NAME)
    found = rows(new)
    assert {key.split("@")[0] for key in keys} == set(found["cot_id"]) and len(keys) == study.rollouts.cots
    n = found.groupby(["chunk_id", "kind"]).size().unstack()
    assert (n["resample"] == study.rollouts.n).all() and (n["forced"] == study.rollouts.forced).all()
    assert "2 CoT units, all done" in run_to_rollouts(study, new)


def test_old_units_that_are_all_there_count_and_nothing_is_sampled(study, new, old, monkeypatch):
    folder = old()
    before = folder.ledger().keys(rollouts.NAME)
    assert all("." in key for key in before) and len(before) > 2
    monkeypatch.setattr(rollouts, "draw", lambda *_: pytest.fail("something was sampled"))
    assert "2 CoT units, all done" in run_to_rollouts(study, folder)
    assert folder.ledger().keys(rollouts.NAME) == before and not folder.ledger().retired
    pd.testing.assert_frame_equal(rows(folder), rows(new))


@pytest.mark.parametrize("n_lost", [1, 2, 3])
def test_of_a_cot_with_some_old_units_only_what_lacks_is_sampled_and_the_whole_is_one_unit(
    study, new, old, n_lost, monkeypatch
):
    folder, drawn, draw = old(n_lost), [], rollouts.draw

    def watched(loaded, task, kind):
        for one in draw(loaded, task, kind):
            drawn.append((one.point.chunk_id, kind))
            yield one

    monkeypatch.setattr(rollouts, "draw", watched)
    run_to_rollouts(study, folder)
    assert len(drawn) == n_lost
    whole = [key for key in folder.ledger().keys(rollouts.NAME) if "." not in key.split("@")[0]]
    assert {key.split("@")[0] for key in whole} == {chunk.rsplit("_", 1)[0] for chunk, _ in drawn}
    pd.testing.assert_frame_equal(rows(folder), rows(new))
    assert "all done" in run_to_rollouts(study, folder).splitlines()[-1]
    pd.testing.assert_frame_equal(rows(folder), rows(new))


def test_the_key_of_an_old_unit_is_rebuilt_exactly():
    sampling = {"samples": 2, "temperature": 0.6, "top_p": 0.95, "max_new_tokens": 128, "forced_max_tokens": 16}
    inputs = {"sampling": sampling, "seed": 3, "encoder": "embedded:all-MiniLM-L6-v2", "chunks": 1, "n": 4}
    assert Unit("c75293fe171fa_0002.resample", inputs).key == "c75293fe171fa_0002.resample@0061685583a5e8f0"


def test_a_unit_counts_through_its_parts_until_it_has_a_line_of_its_own():
    parts = Unit("a.x", {}), Unit("a.y", {})
    whole = Unit("a", {}, parts)
    x, y = (part.key for part in parts)
    assert whole.keys({x}) == {whole.key, x, y} and whole.keys({x, whole.key}) == {whole.key}
    assert whole.lacking({x, y}) is None and whole.lacking({whole.key}) is None
    assert whole.lacking({x}).parts == parts[1:] and whole.lacking(set()).key == whole.key
    assert Unit("b", {}).lacking(set()) is not None


@pytest.fixture(scope="module")
def until(study, tmp_path_factory):
    """The same with rollouts that go on until known, and are re-used; at most 24."""
    asked = study.model_copy(
        update={
            "rollouts": study.rollouts.model_copy(update={"until": 0.25, "n": 24}),
            "sampling": study.sampling.model_copy(update={"temperature": 0.2}),
        }
    )
    folder = StudyFolder(tmp_path_factory.mktemp("until") / "tiny")
    run_to_rollouts(asked, folder)
    return asked, folder


def test_without_until_keys_and_rows_know_nothing_of_it(study, new):
    with closing(Store(new.path)) as store:
        asked = rollouts.units(Context(study, "r", store, print))
        other = study.model_copy(update={"rollouts": study.rollouts.model_copy(update={"until": 0.25})})
        assert not {unit.key for unit in asked} & {
            unit.key for unit in rollouts.units(Context(other, "r", store, print))
        }
    assert all("until" not in unit.inputs for unit in asked)
    assert rows(new)[["n_kept", "departing_chunk", "departing_similarity"]].isna().all(axis=None)


def test_until_draws_whole_batches_of_first_numbers_and_says_what_is_kept(until):
    asked, folder = until
    found = rows(folder)
    own = found[found["kind"] == "resample"]
    n = own.groupby("chunk_id")["sample"].agg(["size", "max"])
    assert (n["size"] == n["max"] + 1).all() and n["size"].isin([10, 20, 24]).all()
    assert own["n_kept"].notna().all() and found[found["kind"] == "forced"]["n_kept"].isna().all()
    kept = own[own["n_kept"] > 0]
    with closing(Store(folder.path)) as store:
        chunks = {row["chunk_id"]: row for cot in own["cot_id"].unique() for row in store.chunks_of([cot])[cot]}
    for row in kept.itertuples():
        chunk = chunks[row.chunk_id]
        assert row.text.startswith(chunk["text"])
    assert "all done" in run_to_rollouts(asked, folder).splitlines()[-1]


def test_two_workers_draw_what_one_does(until, tmp_path):
    asked, folder = until
    other = StudyFolder(tmp_path / "two")
    run_to_rollouts(
        asked.model_copy(update={"engine": asked.engine.model_copy(update={"workers": 2, "rows": 3})}), other
    )
    # Texts and numbers exactly; cosines but for last bits.
    pd.testing.assert_frame_equal(rows(other), rows(folder), check_exact=False, rtol=0, atol=1e-5)


def test_the_plan_says_that_tokens_are_the_most_and_what_was_saved_so_far(until, study, new, monkeypatch, capsys):
    def said(asked, folder) -> str:
        monkeypatch.setattr("precompute.study.load_study", lambda _: asked)
        cli.plan(Path("study.toml"), folder.path)
        return " ".join(capsys.readouterr().out.split())

    asked, folder = until
    own = rows(folder)
    own = own[own["kind"] == "resample"]
    words = said(asked, folder)
    assert "Tokens of rollouts are the most there may be: they go on until known." in words
    assert f"So far: {len(own):,} rollouts until known, {own['n_tokens'].sum():,} tokens: " in words
    assert f"of what 24 at each of {own['chunk_id'].nunique()} chunks would be" in words
    nothing_yet = said(asked, StudyFolder(folder.path.parent / "nowhere"))
    assert "until known" in nothing_yet and "So far" not in nothing_yet
    assert "until known" not in said(study, new)


def test_what_is_drawn_does_not_depend_on_who_is_drawn_beside(until, tmp_path, tiny_folder):
    """One CoT a task, few rows a batch."""
    asked, folder = until
    other = StudyFolder(tmp_path / "alone")
    rollouts_alone = pytest.MonkeyPatch()
    with rollouts_alone.context() as patch:
        patch.setattr(rollouts, "_COTS_A_TASK", 1)
        run_to_rollouts(asked.model_copy(update={"engine": asked.engine.model_copy(update={"rows": 3})}), other)
    pd.testing.assert_frame_equal(rows(other), rows(folder))
