"""Every chain with rollouts is read by both models of a pair: its own answer, and another one as a control."""

from contextlib import closing

import pandas as pd
import pytest
import torch

from backend.cot.prompts import forced_suffix
from backend.lens import stored
from backend.lens.lens import Readout, TunedLens
from backend.models.loading import load_model
from backend.models.residuals import record_residuals
from backend.schema.tables import TABLES
from backend.store.packed import pack, unpack
from backend.store.publish import publish
from backend.store.store import Store
from backend.store.unit_files import StudyFolder
from precompute import models
from precompute.pipeline import run_row, run_study
from precompute.refresh import FILLS, refresh
from precompute.rules import units_of
from precompute.stages import commitment
from precompute.study import Study
from precompute.terminal import ours
from precompute.units import Context
from tests import steerable_study
from tests.checking_device import DEVICE, checking


@pytest.fixture(scope="module")
def study(tiny_folder) -> Study:
    return Study.model_validate(
        {
            "name": "s",
            "seed": 1,
            "models": [{"name": str(tiny_folder("llama"))}],
            "problems": {"per_level": 1},
            "sweep": {"layers": [0, 2]},
            "commitment": {"layers": [1]},
            "engine": {"workers": 1},
        }
    )


@pytest.fixture
def folder(tiny, tmp_path) -> StudyFolder:
    return StudyFolder(steerable_study.make(tmp_path / "s", tiny("llama")))


@pytest.fixture(scope="module")
def finished(study, tiny, tmp_path_factory) -> StudyFolder:
    """The same study, read once for all tests that only look."""
    made = StudyFolder(steerable_study.make(tmp_path_factory.mktemp("read") / "s", tiny("llama")))
    read(study, made)
    return made


def frame(folder: StudyFolder, sql: str) -> pd.DataFrame:
    with closing(Store(folder.path)) as store:
        return store.frame(sql)


def read(study: Study, folder: StudyFolder) -> pd.DataFrame:
    run_study(study, folder, stages=[commitment])
    return readings(folder)


def readings(folder: StudyFolder) -> pd.DataFrame:
    return frame(folder, "SELECT * FROM answer_readings ORDER BY chunk_id, side, layer")


def asked(study: Study, folder: StudyFolder) -> list[str]:
    with closing(Store(folder.path)) as store:
        return [unit.key for unit in units_of(commitment, Context(study, "r", store, print))]


def test_every_cut_is_read_by_the_model_itself_and_at_the_layers_asked_for(finished):
    rows = readings(finished)
    n_chunks = frame(finished, "SELECT cot_id, count(*) AS n FROM chunks GROUP BY cot_id")["n"]
    assert len(rows) == 2 * sum(n_chunks + 1)
    assert set(rows["layer"]) == {1, 3} and set(rows["lens"]) == set(rows["lens_id"]) == {"logit"}
    assert (rows.groupby("cot_id")["side"].agg(lambda sides: (sides == "before").sum()) == 2).all()
    assert set(rows["answer"]) == {"42"} and set(rows["other_answer"]) == {"41"}
    assert (rows["logprob"] < rows["first_logprob"]).all() and (rows["n_tokens"] == 2).all()


def test_the_last_cut_of_the_last_layer_is_the_models_own_probability(finished, tiny):
    rows, loaded = readings(finished), tiny("llama")
    with closing(Store(finished.path)) as store:
        for cot in store.tokenised_cots():
            suffix = forced_suffix(cot["prompt"] + cot["text"], None)
            ids = [*cot["token_ids"], *loaded.tokenizer(suffix)["input_ids"]]
            last = rows[(rows["cot_id"] == cot["cot_id"]) & (rows["layer"] == 3)].iloc[-1]
            assert last["side"] == "after"
            for answer, column in (("42", "logprob"), ("41", "other_logprob")):
                own = loaded.tokenizer(answer)["input_ids"]
                with torch.inference_mode():
                    found = loaded.model(torch.tensor([ids + own])).logits[0].log_softmax(-1)
                wanted = sum(float(found[len(ids) - 1 + k, token]) for k, token in enumerate(own))
                assert last[column] == pytest.approx(wanted, abs=2e-4)


def add_lens(folder: StudyFolder, loaded) -> tuple[torch.Tensor, torch.Tensor]:
    """A tuned lens of the model at layers 1 and 2, and another variant of it."""
    draw = torch.Generator().manual_seed(0)
    weight, bias = (0.1 * torch.randn(size, generator=draw) for size in ((loaded.d_model, loaded.d_model), 64))
    lens = {"model_id": loaded.model_id, "kind": "tuned", "source": "fitted"}
    layers = [
        {"lens_id": name, "layer": layer, "kept": kept}
        for name in ("l1", "l2")
        for layer, kept in ((1, "tuned"), (2, "identity"))
    ]
    cards = [lens | {"lens_id": "l1", "variant": "all"}, lens | {"lens_id": "l2", "variant": "cot"}]
    rows = [row for name in ("l1", "l2") for row in stored.rows_of(name, 1, weight, bias)]
    tables = {"lenses": cards, "lens_layers": layers, "lens_rows": rows}
    whole = {name: [dict.fromkeys(TABLES[name].columns) | row for row in found] for name, found in tables.items()}
    with folder.writing("test") as writer:
        writer.add("lens", "all", whole)
        publish(writer)
    return weight, bias


def test_a_fitted_lens_reads_beside_the_logit_lens_and_the_model_itself_is_read_once(study, folder, tiny):
    loaded = tiny("llama")
    weight, bias = add_lens(folder, loaded)
    rows = read(study, folder)
    assert set(zip(rows["lens_id"], rows["lens"], rows["layer"], strict=True)) == {
        ("logit", "logit", 1),
        ("logit", "logit", 3),
        ("l1", "tuned", 1),
    }
    with closing(Store(folder.path)) as store:
        cot = store.tokenised_cots()[0]
    of_cot = rows[(rows["cot_id"] == cot["cot_id"]) & (rows["side"] == "after")]
    last = of_cot[of_cot["lens"] == "tuned"].iloc[-1]
    own = loaded.tokenizer("42")["input_ids"]
    ids = [*cot["token_ids"], *loaded.tokenizer(forced_suffix(cot["prompt"] + cot["text"], None))["input_ids"]]
    stream = record_residuals(loaded, [*ids, *own], [1])[1][len(ids) - 1 : -1]
    log_probs = Readout(loaded).log_probs(TunedLens(4, {1: (weight, bias)}), stream, 1)
    assert last["logprob"] == pytest.approx(sum(float(log_probs[k, token]) for k, token in enumerate(own)), abs=2e-4)


def test_the_reading_asks_for_each_of_its_transfers_between_devices(study, folder, tiny):
    add_lens(folder, tiny("llama"))
    away = study.model_copy(update={"engine": study.engine.model_copy(update={"device": DEVICE})})
    with checking() as waits:
        rows = read(away, folder)
    assert waits["cpu"] > 0 and set(rows["lens"]) == {"logit", "tuned"}


def test_a_lens_that_comes_in_is_read_with(study, folder, tiny):
    before = set(asked(study, folder))
    add_lens(folder, tiny("llama"))
    assert not before & set(asked(study, folder))


def test_what_is_read_is_not_read_again_and_another_layer_is(study, finished):
    before = set(asked(study, finished))
    assert before <= finished.ledger().keys(commitment.NAME)
    deeper = study.model_copy(update={"commitment": study.commitment.model_copy(update={"layers": (0, 1)})})
    assert not set(asked(deeper, finished)) & before


def test_without_the_table_in_the_study_file_nothing_is_asked_for(study, folder):
    assert asked(study.model_copy(update={"commitment": None}), folder) == []
    assert "answer_readings" in FILLS["commitment"][1]


def test_a_pack_is_read_from_its_stored_rows_alone(study, folder, tmp_path, monkeypatch):
    """What a model reads of a pack is what it reads of the study itself."""
    monkeypatch.chdir(tmp_path)
    add_lens(folder, load_model(study.models[0].name))
    with folder.writing("test") as writer:
        row = run_row("r9", "run", study.name, study.seed, study.model_dump_json())
        writer.add("runs", "r9", {"runs": [row]})
        publish(writer)
    pack(folder.path, tmp_path / "pack")
    assert set(refresh(tmp_path / "pack", ["commitment"], ours(None))) == {"answer_readings", "runs"}
    columns = ["chunk_id", "side", "lens_id", "layer", "answer", "other_answer", "n_tokens"]
    with closing(Store(unpack(tmp_path / "pack", tmp_path / "again.duckdb"))) as store:
        packed = store.whole_table("answer_readings").to_pandas()
    own = read(study, folder).sort_values(columns[:4]).reset_index(drop=True)
    packed = packed.sort_values(columns[:4]).reset_index(drop=True)
    assert packed[columns].equals(own[columns])
    assert packed["logprob"].to_numpy() == pytest.approx(own["logprob"].to_numpy(), abs=0.02)  # maps are float16 there


def test_an_answer_that_equals_the_chains_own_is_no_control(study, folder):
    """The most frequent other answer is 42.0, which is 42 written otherwise; the next is 41."""
    with closing(Store(folder.path)) as store:
        rows = store.whole_table("rollouts").to_pylist()
    again = [row | {"rollout_id": f"{row['rollout_id']}x", "sample": 90, "answer": "42.0"} for row in rows] + [
        row | {"rollout_id": f"{row['rollout_id']}y", "sample": 91, "answer": "42.0"} for row in rows
    ]
    with folder.writing("test") as writer:
        writer.add("rollouts", "more", {"rollouts": again})
        publish(writer)
    with closing(Store(folder.path)) as store:
        assert set(store.other_answers(2).values()) == {("42.0", "41")}
    assert set(read(study, folder)["other_answer"]) == {"41"}


def test_both_models_of_a_pair_read_every_chain_of_either(study, tiny_folder):
    pair = [
        {"name": str(tiny_folder("llama")), "role": "base"},
        {"name": str(tiny_folder("qwen2")), "role": "distilled"},
    ]
    both = Study.model_validate(study.model_dump() | {"models": pair})
    ids = [models.model_id(model) for model in both.pair]
    for writer in ids:
        assert models.readers(both, {"model_id": writer, "model_name": "m"}) == ids
    assert models.readers(both, {"model_id": "mother", "model_name": "m"}) == []
    (own,) = models.by_id(study)
    assert models.readers(study, {"model_id": own, "model_name": "m"}) == [own]
