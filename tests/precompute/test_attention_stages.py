"""The stages from attention to agreement: what they read, what their rows say, and what is computed again."""

from contextlib import closing

import numpy as np
import pandas as pd
import pytest

from backend.ids import rollout_id
from backend.influence.attention import chunk_attention
from backend.store.packed import pack
from backend.store.publish import publish
from backend.store.store import Store
from backend.store.unit_files import StudyFolder
from precompute import models
from precompute.influence import influence_cots
from precompute.pipeline import run_study
from precompute.refresh import FILLS, refresh
from precompute.rules import units_of
from precompute.stages import attention, influence_agreement, receivers, resampled_influence
from precompute.study import Study
from precompute.terminal import ours
from precompute.units import Context
from tests import small_study, steerable_study

PLANTED = 3  # of 6 heads: layer 1, head 1


@pytest.fixture(scope="module")
def study(tiny_folder) -> Study:
    return Study.model_validate(
        {
            "name": "s",
            "seed": 1,
            "models": [{"name": str(tiny_folder("llama"))}],
            "problems": {"per_level": 1},
            "sweep": {"layers": [0, 2]},
            "influence": {"nearest": 1, "top": 2, "n_bootstrap": 50, "n_permutations": 19},
            "engine": {"workers": 1},
        }
    )


def asking(study: Study, **influence) -> Study:
    whole = study.model_dump()
    return Study.model_validate(whole | {"influence": whole["influence"] | influence})


@pytest.fixture(scope="module")
def read(study, tiny, tmp_path_factory) -> StudyFolder:
    """Every CoT of the small study of a real model, read once for all tests that only look."""
    folder = StudyFolder(steerable_study.make(tmp_path_factory.mktemp("read") / "s", tiny("llama")))
    run_study(study, folder, stages=[attention])
    return folder


@pytest.fixture
def small(tmp_path) -> StudyFolder:
    """A study whose attention is made up: the head PLANTED looks at one chunk of each chain. Each chunk has six more
    rollouts than the small study's, all dissimilar.
    """
    folder = StudyFolder(small_study.make(tmp_path / "small"))
    rng, rows = np.random.default_rng(0), {"chunk_attention": [], "head_attention": []}
    with closing(Store(folder.path)) as store:
        (model_id,) = store.models()["model_id"]
        chains = store.chunks_of([cot["cot_id"] for cot in store.tokenised_cots()])
        layers = store.model_facts(model_id)["n_layers"]
        sampled = store.rollout_rows(next(iter(chains)))[0]
    for chunks in chains.values():
        looked_at = rng.integers(len(chunks) - 1)
        for source in range(len(chunks)):
            for target in range(source + 1, len(chunks)):
                by_head = np.exp(rng.normal(0, 0.1, 2 * layers)) / (target - source)
                by_head[PLANTED] *= 9 if source == looked_at else 1
                ids = {"source_chunk_id": chunks[source]["chunk_id"], "target_chunk_id": chunks[target]["chunk_id"]}
                pair = ids | {"model_id": model_id}
                rows["chunk_attention"].append(pair | {"attention": by_head.mean(), "n_source": 5, "n_target": 6})
                rows["head_attention"].append(pair | {"by_head": by_head.astype(np.float32)})
    texts = [chunk["text"] for chunks in chains.values() for chunk in chunks]
    rows["rollouts"] = [
        sampled
        | {"rollout_id": rollout_id(chunk["chunk_id"], "resample", 6 + n), "sample": 6 + n, "similarity": 0.2}
        | {"cot_id": cot, "chunk_id": chunk["chunk_id"], "kind": "resample", "text": "".join(rng.choice(texts, 3))}
        for cot, chunks in chains.items()
        for chunk in chunks
        for n in range(6)
    ]
    with folder.writing("test") as writer:
        writer.add("attention", "all", rows)
        publish(writer)
    return folder


def frame(folder: StudyFolder, sql: str) -> pd.DataFrame:
    with closing(Store(folder.path)) as store:
        return store.frame(sql)


def keys(stage, study: Study, folder: StudyFolder) -> list[str]:
    with closing(Store(folder.path)) as store:
        return [unit.key for unit in units_of(stage, Context(study, "r", store, print))]


def test_every_pair_of_chunks_has_the_attention_of_each_head_and_their_mean(read, tiny):
    rows = frame(
        read,
        "SELECT a.*, by_head, s.cot_id, s.chunk_index AS i, t.chunk_index AS j FROM chunk_attention a JOIN"
        " head_attention h USING (source_chunk_id, target_chunk_id, model_id) JOIN chunks s ON s.chunk_id ="
        " source_chunk_id JOIN chunks t ON t.chunk_id = target_chunk_id",
    )
    with closing(Store(read.path)) as store:
        cots = store.tokenised_cots()
        chunks = store.chunks_of([cot["cot_id"] for cot in cots])
    assert len(rows) == sum(len(own) * (len(own) - 1) // 2 for own in chunks.values()) > 6
    for cot in cots:
        spans = {one["chunk_id"]: (one["token_start"], one["token_end"]) for one in chunks[cot["cot_id"]]}
        found = chunk_attention(tiny("llama"), cot["token_ids"], spans).by_head
        for row in rows[rows["cot_id"] == cot["cot_id"]].itertuples():
            wanted = found[:, :, row.j, row.i]
            assert row.attention == pytest.approx(wanted.mean(), rel=1e-6)
            assert row.by_head == pytest.approx(wanted.ravel(), rel=1e-5)
            source, target = spans[row.source_chunk_id], spans[row.target_chunk_id]
            assert (row.n_source, row.n_target) == (source[1] - source[0], target[1] - target[0])


def test_without_the_table_in_the_study_file_nothing_is_asked_for(study, read):
    silent = Study.model_validate(study.model_dump() | {"influence": None})
    for stage in (attention, receivers, resampled_influence, influence_agreement):
        assert keys(stage, silent, read) == []


def test_as_many_cots_are_read_as_are_asked_for_and_those_with_rollouts_come_first(study, small):
    with closing(Store(small.path)) as store:
        own = {cot["cot_id"] for cot in store.tokenised_cots()}

        def chosen(n: int | None) -> list[str]:
            return list(influence_cots(Context(asking(study, cots=n), "r", store, print)))

        assert len(own) == 5 and set(chosen(None)) == own == set(chosen(9))
        first = store.frame("SELECT cot_id, problem_id FROM cots").set_index("cot_id")["problem_id"][chosen(3)]
        assert first.nunique() == 3 and chosen(3) == chosen(None)[:3]


def test_both_models_of_a_pair_read_every_cot(study, read, tiny_folder):
    roles = {"llama": "base", "qwen2": "distilled"}
    pair = [{"name": str(tiny_folder(family)), "role": role} for family, role in roles.items()]
    both = Study.model_validate(study.model_dump() | {"models": pair})
    asked = keys(attention, both, read)
    assert len(asked) == 4 and {key.split(".")[0] for key in asked} == set(models.by_id(both))


def test_a_planted_receiver_head_has_the_first_rank_and_its_rows(study, small):
    run_study(study, small, stages=[receivers])
    heads = frame(small, "SELECT * FROM receiver_heads ORDER BY rank")
    n_layers = heads["layer"].max() + 1
    assert len(heads) == 2 * n_layers and heads["rank"].tolist() == list(range(1, len(heads) + 1))
    first = heads.iloc[0]
    assert (first["layer"], first["head"]) == divmod(PLANTED, 2)
    assert first["kurtosis"] > max(first["shuffled_high"], first["placed"])
    assert (heads["n_problems"] == 3).all() and heads["low"].isna().all()  # too few problems for an interval
    received = frame(small, "SELECT * FROM received_attention ORDER BY layer, head, chunk_id")
    assert set(zip(received["layer"], received["head"], strict=True)) == set(
        heads[["layer", "head"]].head(2).itertuples(index=False, name=None)
    )
    own = received[(received["layer"] == first["layer"]) & (received["head"] == first["head"])]
    assert (own["received"].isna() == (own["n_later"] == 0)).all() and own["received"].isna().sum() == 5
    pairs = frame(small, "SELECT * FROM head_attention")
    some = own.iloc[0]
    wanted = [by_head[PLANTED] for by_head in pairs[pairs["source_chunk_id"] == some["chunk_id"]]["by_head"]]
    assert some["received"] == pytest.approx(np.mean(wanted)) and some["n_later"] == len(wanted)


def test_chains_too_short_for_receiver_heads_give_none_and_a_warning(study, small):
    run_study(asking(study, nearest=9), small, stages=[receivers])
    assert frame(small, "SELECT * FROM receiver_heads").empty
    assert frame(small, "SELECT * FROM received_attention").empty
    (said,) = frame(small, "SELECT warnings FROM runs ORDER BY started_at DESC LIMIT 1")["warnings"][0]
    assert "the 13 chunks that receiver heads need" in said and "influence.nearest" in said


def test_other_attention_or_another_setting_is_computed_again(study, small):
    asked = keys(receivers, study, small)
    assert keys(receivers, asking(study, nearest=2), small) != asked == keys(receivers, study, small)
    with small.writing("test") as writer:
        rows = frame(small, "SELECT * FROM head_attention").head(1).to_dict("records")
        writer.add("attention", "more", {"head_attention": [rows[0] | {"by_head": rows[0]["by_head"] * 2}]})
        publish(writer)
    assert keys(receivers, study, small) != asked


class Hashed:
    """Texts that begin alike are alike."""

    def encode(self, texts):
        return np.eye(256)[[sum(text[:12].encode()) % 256 for text in texts]]


@pytest.fixture
def hashed(monkeypatch):
    monkeypatch.setattr(resampled_influence, "_encoder", lambda name: Hashed())


def test_pairs_of_chunks_with_rollouts_of_both_have_an_effect_or_are_unknown(study, small, hashed):
    run_study(study, small, stages=[resampled_influence])
    rows = frame(small, "SELECT * FROM resampled_influences")
    chunks = frame(small, "SELECT cot_id, count(*) AS n FROM chunks WHERE token_start IS NOT NULL GROUP BY cot_id")
    assert len(rows) == sum(n * (n - 1) // 2 for n in chunks["n"])
    enough = rows[["n_kept", "n_replaced"]].min(axis=1) >= 5
    assert (rows["effect"].notna() == enough).all() and enough.any()
    known = rows[enough]
    assert (known["effect"] == known["kept"] - known["replaced"]).all()
    assert (known["low"] <= known["effect"]).all() and (known["effect"] <= known["high"]).all()


def test_what_was_said_in_a_rollout_is_part_of_what_is_asked(study, small):
    asked = keys(resampled_influence, study, small)
    row = frame(small, "SELECT * FROM rollouts WHERE kind = 'resample' ORDER BY rollout_id LIMIT 1").to_dict("records")
    with small.writing("test") as writer:
        writer.add("rollouts", "more", {"rollouts": [row[0] | {"text": "Something else."}]})
        publish(writer)
    assert len({*asked} & {*keys(resampled_influence, study, small)}) == len(asked) - 1


def test_ways_are_set_against_each_other_by_reader_and_writer(study, small, hashed):
    run_study(study, small, stages=[resampled_influence, influence_agreement])
    rows = frame(small, "SELECT * FROM influence_agreement")
    assert set(zip(rows["first"], rows["second"], strict=True)) == {
        ("attention", "resampling"),
        ("attention", "published"),
        ("resampling", "published"),
    }
    nobody = rows["model_id"] == "none"
    assert (nobody == ((rows["first"] == "resampling") & (rows["second"] == "published"))).all()
    assert (rows["writer_id"] == "all").all()  # there is one writer
    known = rows[rows["second"] == "resampling"].iloc[0]
    assert known["n_cots"] >= 3 and -1 <= known["low"] <= known["spearman"] <= known["high"] <= 1
    published = rows[rows["second"] == "published"]  # of a CoT that no model read and that has no rollouts
    assert published["spearman"].isna().all() and (published["n_cots"] == 0).all()


def test_agreement_with_what_is_the_same_is_one(study, small):
    """Suppression that is the attention itself."""
    rows = frame(small, "SELECT source_chunk_id, target_chunk_id, model_id, attention AS kl FROM chunk_attention")
    same = [row | {"suppressed": "all", "log_kl": None, "n_tokens": 6} for row in rows.to_dict("records")]
    other = [row | {"suppressed": "head 0.0", "kl": -row["kl"]} for row in same]
    with small.writing("test") as writer:
        writer.add("influence", "all", {"influences": [*same, *other]})
        publish(writer)
    run_study(study, small, stages=[influence_agreement])
    row = frame(small, "SELECT * FROM influence_agreement WHERE second = 'attention'").iloc[0]
    assert row["first"] == "suppression" and row["spearman"] == pytest.approx(1)
    assert 0 < row["at_distance"] < 1 and row["p"] == 1 / 20 and row["n_cots"] == 5


def test_a_pack_gets_them_from_its_stored_rows_alone(study, tiny, tmp_path, monkeypatch, hashed):
    """Attention head by head is left out of the pack, and nothing else."""
    monkeypatch.chdir(tmp_path)
    folder = StudyFolder(steerable_study.make(tmp_path / "stores" / "s", tiny("llama")))
    pack(folder.path, tmp_path / "pack")
    names = [stage.NAME for stage in (attention, receivers, resampled_influence, influence_agreement)]
    made = refresh(tmp_path / "pack", names, ours(None), study=study, without=["head_attention"])
    assert {"chunk_attention", "resampled_influences"} <= set(made) and "head_attention" not in made
    assert {"head_attention", "received_attention"} <= {table for name in names for table in FILLS[name][1]}
