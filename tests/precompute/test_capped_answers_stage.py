"""Rollouts that the token cap cut are made to answer, and what counts as a rollout's answer is said in one place."""

import shutil
from contextlib import closing

import pandas as pd
import pytest

from backend.cot.answers import Judge, extract_answer
from backend.cot.prompts import forced_suffix
from backend.ids import rollout_id, seed_for
from backend.models.continuation import continuation_text
from backend.store.publish import publish
from backend.store.store import Store
from backend.store.unit_files import StudyFolder
from precompute.pipeline import run_study
from precompute.rules import units_of
from precompute.stages import capped_answers, importance
from precompute.stages.cots import encode
from precompute.study import Study
from precompute.units import Context
from tests import steerable_study

N_CUT = 3


def rollout(chunk: str, sample: int, answer: str | None, *, finish: str = "eos", **words) -> dict:
    row = {
        "rollout_id": rollout_id(chunk, "resample", sample),
        "chunk_id": chunk,
        "cot_id": chunk.rpartition("_")[0],
        "kind": "resample",
        "sample": sample,
        "seed": 100 + sample,
        "text": "So it is more than I thought and",
        "resampled_chunk": "So it is more than I thought and",
        "similarity": 0.1,
        "answer": answer,
        "is_correct": None if answer is None else answer == "42",
        "grader": "g",
        "finish": finish,
        "n_tokens": 9,
        "n_kept": None,
        "departing_chunk": None,
        "departing_similarity": None,
    }
    return row | words


@pytest.fixture
def study(tiny_folder) -> Study:
    return Study.model_validate(
        {
            "name": "s",
            "seed": 1,
            "models": [{"name": str(tiny_folder("llama"))}],
            "problems": {"per_level": 1},
            "sampling": {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 16, "forced_max_tokens": 6},
            "sweep": {"layers": [0]},
            "engine": {"workers": 1, "rows": 4},
        }
    )


@pytest.fixture
def folder(tiny, tmp_path) -> StudyFolder:
    """A study of the tiny model whose first CoT has three rollouts that were cut without an answer; of two further ones
    without an answer one ended by itself, and one was imported.
    """
    made = StudyFolder(steerable_study.make(tmp_path / "s", tiny("llama")))
    with closing(Store(made.path)) as store:
        first, second = store.frame("SELECT chunk_id FROM chunks ORDER BY chunk_id LIMIT 2")["chunk_id"]
    rows = [rollout(first, number, None, finish="cap") for number in range(10, 10 + N_CUT)]
    rows += [
        rollout(first, 20, None),
        rollout(first, 21, "42", finish="cap"),
        rollout(second, 22, None, finish="cap", seed=None),
    ]
    with made.writing("test") as writer:
        writer.add("rollouts", "more", {"rollouts": rows})
        publish(writer)
    return made


def frame(folder: StudyFolder, sql: str) -> pd.DataFrame:
    with closing(Store(folder.path)) as store:
        return store.frame(sql)


def forced(study: Study, folder: StudyFolder) -> pd.DataFrame:
    run_study(study, folder, stages=[capped_answers])
    return frame(folder, "SELECT * FROM capped_answers ORDER BY rollout_id")


def test_only_what_the_cap_cut_without_an_answer_and_we_sampled_is_forced(study, folder):
    made = forced(study, folder)
    assert [name[-5:] for name in made["rollout_id"]] == ["r0010", "r0011", "r0012"] and made["chunk_id"].nunique() == 1
    assert (made["n_tokens"] <= study.sampling.forced_max_tokens).all() and made["seed"].is_unique


def test_a_forced_answer_is_that_of_a_plain_loop_over_prompt_chain_rollout_and_suffix(study, folder, tiny):
    """The reference reads all of it as one text, and draws each token from a whole forward pass of its own."""
    import torch

    from backend.models.sampling.draws import uniform

    loaded = tiny("llama")
    made = forced(study, folder).set_index("rollout_id")
    with closing(Store(folder.path)) as store:
        (cot,) = store.capped_rollouts([made["cot_id"].iloc[0]])
    assert len(cot["rollouts"]) == N_CUT
    for row in cot["rollouts"]:
        text = cot["prompt"] + cot["text"][: row["char_start"]] + row["text"]
        suffix = forced_suffix(text, cot["think_close"])
        ids = [*encode(loaded.tokenizer, text), *encode(loaded.tokenizer, suffix)]
        drawn: list[int] = []
        while len(drawn) < study.sampling.forced_max_tokens:
            with torch.no_grad():
                shares = loaded.model(torch.tensor([ids + drawn])).logits[0, -1].double().softmax(-1)
            ranked = shares.sort(descending=True, stable=True)
            number = uniform(seed_for(row["seed"], "forced"), len(drawn))
            token = int(ranked.indices[int((ranked.values.cumsum(-1) <= number).sum())])
            if token == loaded.tokenizer.eos_token_id:
                break
            drawn.append(token)
        said, found = suffix + continuation_text(loaded.tokenizer, ids, drawn), made.loc[row["rollout_id"]]
        assert (found["text"], found["n_tokens"]) == (said, len(drawn))
        assert (None if pd.isna(found["answer"]) else found["answer"]) == extract_answer(said)


def test_a_run_that_was_stopped_goes_on_to_the_same_rows(study, folder, monkeypatch):
    with closing(Store(folder.path)) as store:
        other = store.frame("SELECT max(chunk_id) AS c FROM chunks")["c"].item()
    with folder.writing("test") as writer:
        writer.add("rollouts", "other", {"rollouts": [rollout(other, 30, None, finish="cap")]})
        publish(writer)
    twin = StudyFolder(shutil.copytree(folder.path, folder.path.parent / "twin"))
    whole, compute = forced(study, twin), capped_answers.compute

    def stopped(context, units):
        yield next(compute(context, units))
        raise KeyboardInterrupt

    monkeypatch.setattr(capped_answers, "compute", stopped)
    with pytest.raises(KeyboardInterrupt):
        run_study(study, folder, stages=[capped_answers])
    assert len(folder.ledger().keys(capped_answers.NAME)) == 1
    monkeypatch.undo()
    pd.testing.assert_frame_equal(forced(study, folder), whole)
    assert whole["cot_id"].nunique() == 2


# What counts as a rollout's answer


def answer_row(rollout: str, answer: str | None) -> dict:
    return {
        "rollout_id": rollout,
        "chunk_id": rollout.rpartition("_")[0],
        "cot_id": rollout.split("_")[0],
        "seed": 1,
        "text": "forced",
        "answer": answer,
        "answer_source": answer and "forced at the cap",
        "is_correct": None if answer is None else answer == "42",
        "grader": "g",
        "finish": "eos",
        "n_tokens": 2,
        "as_sampled": True,
    }


def keys_of(study: Study, folder: StudyFolder, stage) -> dict[str, str]:
    with closing(Store(folder.path)) as store:
        return {unit.unit_id: unit.key for unit in units_of(stage, Context(study, "r", store, print))}


def with_answers(folder: StudyFolder, *answers: str | None) -> None:
    cut = frame(folder, "SELECT rollout_id FROM rollouts WHERE finish = 'cap' AND answer IS NULL ORDER BY ALL")
    with folder.writing("test") as writer:
        rows = [answer_row(name, answer) for name, answer in zip(cut["rollout_id"], answers, strict=False)]
        writer.add("capped_answers", "planted", {"capped_answers": rows})
        publish(writer)


def accuracy(folder: StudyFolder, answers: str) -> tuple[int, float]:
    """Of the first chunk's rollouts: how many are judged, and the share of them that is right."""
    with closing(Store(folder.path)) as store:
        first = store.frame("SELECT min(chunk_id) AS c FROM chunks")["c"].item()
        rows = store.rollouts_of(first.rpartition("_")[0])
    judged = rows.loc[rows["chunk_id"] == first, answers].dropna().astype(float)
    return len(judged), judged.mean()


def test_forcing_moves_an_accuracy_as_planted_and_the_given_answers_stay_beside_it(folder):
    assert accuracy(folder, "is_correct") == accuracy(folder, "given_is_correct") == (4, 0.75)  # 41, 42, 42 and 42
    with_answers(folder, "7", "7", None)
    assert accuracy(folder, "is_correct") == (6, 0.5) and accuracy(folder, "given_is_correct") == (4, 0.75)


def test_every_answer_says_where_it_is_from_and_none_is_from_nowhere(folder):
    with_answers(folder, "7", "42", None)
    with closing(Store(folder.path)) as store:
        first = store.frame("SELECT min(chunk_id) AS c FROM chunks")["c"].item()
        rows = store.rollouts_at(first).set_index("sample")
        counts = store.answers_in_cot(first.rpartition("_")[0]).set_index("chunk_id").loc[first]
    assert rows.loc[[10, 11], "answer_source"].tolist() == ["forced at the cap"] * 2
    assert rows.loc[[0, 21], "answer_source"].tolist() == ["given"] * 2
    assert rows.loc[[12, 20], ["answer", "answer_source"]].isna().all(axis=None)
    assert rows.loc[11, "is_correct"] and not rows.loc[10, "is_correct"] and rows.loc[10, "forced_text"] == "forced"
    assert (counts["n"], counts["n_without_answer"], counts["n_forced"], counts["n_added"]) == (8, 2, 2, 0)


def test_importance_is_computed_again_only_of_a_cot_that_has_answers_forced_at_the_cap(study, folder):
    before = keys_of(study, folder, importance)
    with_answers(folder, None, None, None)
    assert keys_of(study, folder, importance) == before and len(before) == 2
    with_answers(folder, "7", "42", None)
    after = keys_of(study, folder, importance)
    assert [before[cot] == after[cot] for cot in sorted(before)] == [False, True]


def test_keys_are_those_of_before_answers_were_forced(study, folder):
    """The digest over rollouts as it was when there were no others."""
    with closing(Store(folder.path)) as store:
        was = store.frame(
            "SELECT cot_id, kind, count(*) AS n, md5(string_agg(rollout_id || coalesce(answer, ''), ',' ORDER BY"
            " rollout_id)) AS digest FROM rollouts WHERE seed IS NOT NULL GROUP BY cot_id, kind ORDER BY cot_id, kind"
        )
        assert store.answers_by_rollout() == was.to_dict("records")


def test_a_store_of_before_reads_as_one_in_which_nothing_was_forced(folder):
    import duckdb

    from backend.store.store import generation_of

    with duckdb.connect(str(generation_of(folder.path))) as connection:
        for table in ("capped_answers", "added", "added_rollouts"):
            connection.execute(f"DROP TABLE {table}")
        connection.execute("UPDATE about SET value = '7' WHERE name = 'schema_version'")
    assert accuracy(folder, "is_correct") == (4, 0.75)


def test_importance_counts_the_forced_answers(study, folder):
    with_answers(folder, "7", "7", None)
    with closing(Store(folder.path)) as store, Judge() as judge:
        first = store.frame("SELECT min(chunk_id) AS c FROM chunks")["c"].item()
        cot = first.rpartition("_")[0]
        texts = {chunk["chunk_id"]: chunk["text"] for chunk in store.chunks_of([cot])[cot]}
        made = importance.importance_tables(cot, texts, store.rollouts_of(cot), judge, seed=1)["importance"].to_pandas()
    row = made[(made["chunk_id"] == first) & (made["metric"] == "counterfactual_accuracy")].iloc[0]
    assert (row["value"], row["n"]) == (0.5, 6)


def test_importance_without_them_is_that_of_before_and_is_kept_for_those_chains_alone(study, folder):
    run_study(study, folder, stages=[importance])
    every = "SELECT i.* FROM importance i ORDER BY chunk_id, metric, convention"
    before = frame(folder, every)
    assert frame(folder, "SELECT count(*) AS n FROM importance_given")["n"].item() == 0
    with_answers(folder, "7", "7", None)
    run_study(study, folder, stages=[importance])
    given = frame(folder, every.replace("importance i", "importance_given i"))
    own = before[before["chunk_id"].isin(given["chunk_id"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(given, own)
    assert given["chunk_id"].str.rpartition("_")[0].nunique() == 1
    after = frame(folder, every)
    assert not after.equals(before) and len(after) == len(before)
    with closing(Store(folder.path)) as store:
        for convention in ("fl", "ta"):
            was = before[(before["metric"] == "counterfactual_importance_kl") & (before["convention"] == convention)]
            now = pd.Series(store.given_metric_by_chunk("counterfactual_importance_kl", convention))
            pd.testing.assert_series_equal(now, was.set_index("chunk_id")["value"], check_names=False)
