"""A crosscoder of a tiny pair from its texts to its features: each row is what a plain computation gives, and no kill
changes any.
"""

import io
import json
import shutil
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import torch
from rich.console import Console

from backend.cot.categories import CATEGORIES
from backend.cot.reasoning import target_starts
from backend.crosscoder import train
from backend.crosscoder.diff import classify, nrn
from backend.crosscoder.files import export_crosscoder_learning
from backend.crosscoder.shards import ShardError, Shards
from backend.crosscoder.splicing import spliced_losses
from backend.crosscoder.stored import read_from
from backend.errors import AnchorscopeError
from backend.models import residuals
from backend.models.loading import load_model
from backend.models.residuals import record_residuals
from backend.store.store import Store
from backend.store.unit_files import StudyFolder
from precompute import corpus, pipeline
from precompute.pipeline import run_study
from precompute.stages import codes, crosscoder, splices
from precompute.units import Context
from tests.dictionary_study import LAYER, N_FEATURES, STAGES, STEPS, Made, pair_of, run, study_of
from tests.lens_study import row as row_with

CONTINUED = "Then 3 pears and 4 apples make a sum of 7."


@pytest.fixture(scope="module")
def pair(tiny_folder, tmp_path_factory) -> tuple[str, str]:
    return pair_of(tiny_folder, tmp_path_factory)


@pytest.fixture(scope="module")
def written(pair, tmp_path_factory) -> StudyFolder:
    """The study's CoTs with their tags, and nothing else: what every test here begins with."""
    folder = StudyFolder(tmp_path_factory.mktemp("stores") / "written")
    run_study(study_of(pair), folder, stages=STAGES[:5], console=Console(file=io.StringIO()))
    return folder


@pytest.fixture(scope="module")
def finished(pair, written, tmp_path_factory) -> Made:
    folder = StudyFolder(shutil.copytree(written.path, tmp_path_factory.mktemp("stores") / "pair"))
    study = study_of(pair)
    run(study, folder)
    return Made(study, folder)


@pytest.fixture(scope="module")
def store(finished):
    store = Store(finished.folder.path)
    yield store
    store.close()


@pytest.fixture(scope="module")
def row(store) -> dict:
    (row,) = store.whole_table("dictionaries").to_pylist()
    return row


@pytest.fixture(scope="module")
def dictionary(store, row):
    return read_from(store, row["dictionary_id"])


@pytest.fixture(scope="module")
def read(store, pair, dictionary) -> dict[str, dict]:
    """Every CoT as a plain pass of both models reads it: `streams` (n, 2, d), `codes` (n, D) of all tokens but the
    first, and `own`, which of these are the CoT's.
    """
    loaded = [load_model(name) for name in pair]
    result = {}
    for cot in store.tokenised_cots():
        streams = torch.stack([record_residuals(one, cot["token_ids"], [LAYER])[LAYER][1:] for one in loaded], 1)
        own = np.arange(1, len(cot["token_ids"])) >= cot["n_prompt_tokens"]
        result[cot["cot_id"]] = {
            **cot,
            "streams": streams.numpy(),
            "codes": dictionary.encode(streams).numpy(),
            "own": own,
        }
    return result


# Training


def test_the_texts_are_the_cots_of_both_models_and_the_traces(finished, store, row):
    (folder,) = (finished.folder.path / "scratch").glob("recording-*")
    shards = Shards(folder)
    cots = {cot["cot_id"] for cot in store.tokenised_cots()}
    assert set(shards.texts()) > cots and len(shards.texts()) == len(cots) + 6
    facts = json.loads(row["parameters"])
    assert (facts["n_cots"], facts["n_generated"], facts["n_tokens"]) == (len(cots), 6, len(shards))
    assert [model["role"] for model in facts["models"]] == ["base", "distilled"] and facts["layer"] == row[
        "layer"
    ] == LAYER


def test_the_weights_are_those_of_a_training_in_one_go(finished, dictionary, row, store):
    (folder,) = (finished.folder.path / "scratch").glob("recording-*")
    shards, wanted = Shards(folder), finished.study.crosscoder[0]
    settings = train.Settings(
        2,
        64,
        N_FEATURES,
        k=4,
        learning_rate=4e-3,
        steps=STEPS,
        warmup=5,
        batch=64,
        dead_after=640,
        aux_k=8,
        aux=wanted.aux,
        seed=3,
    )
    trainer, scale, losses = train.Trainer(settings), torch.tensor(shards.scale(), dtype=torch.float32), []
    for rows, _ in zip(shards.batches(64, 3), range(STEPS), strict=False):
        losses.append(trainer.step(torch.from_numpy(shards.activations(rows)) * scale[:, None]).loss)
    assert trainer.dictionary(scale, {}).in_float16().dictionary_id == dictionary.dictionary_id == row["dictionary_id"]
    metrics = store.training_metrics(row["training_id"]).pivot(index="step", columns="metric", values="value")
    assert (
        metrics.index.tolist() == list(range(1, STEPS + 1))
        and metrics["loss"].tolist() == losses
        and metrics.notna().all(axis=None)
    )
    assert set(metrics) == {
        "loss",
        "l0",
        "dead_share",
        "learning_rate",
        "variance_explained_base",
        "variance_explained_distilled",
    }
    assert metrics["learning_rate"].tolist()[:6] == pytest.approx([8e-4, 1.6e-3, 2.4e-3, 3.2e-3, 4e-3, 4e-3])
    (trained,) = store.dictionary_trainings().itertuples()
    assert (trained.kind, trained.n_steps, trained.n_tokens) == (
        "crosscoder",
        STEPS,
        64 * STEPS,
    ) and trained.seconds > 0
    assert trained.n_weights == sum(weights.numel() for weights in trainer.parameters)
    assert not list((finished.folder.path / "scratch").glob("training-*"))  # its checkpoint is of no more use


def test_a_finished_study_does_nothing_even_when_its_scratch_is_gone(finished, tmp_path):
    folder = StudyFolder(shutil.copytree(finished.folder.path, tmp_path / "pair"))
    shutil.rmtree(folder.path / "scratch")
    before = folder.manifest.read_bytes()
    assert run(finished.study, folder).count("all done") == len(STAGES) and folder.manifest.read_bytes() == before


def rows_of(folder: StudyFolder) -> dict[str, list]:
    with closing(Store(folder.path)) as store:
        tables = (
            "dictionaries",
            "training_metrics",
            "features",
            "feature_examples",
            "cot_codes",
            "spliced_losses",
            "feature_categories",
        )
        return {table: store.whole_table(table).to_pylist() for table in tables}


def test_killed_anywhere_it_goes_on_and_no_row_changes(finished, written, pair, tmp_path, monkeypatch):
    """In the middle of recording, of training with and without a checkpoint, before and after the weights are kept, and
    in what follows.
    """
    folder = StudyFolder(shutil.copytree(written.path, tmp_path / "pair"))
    monkeypatch.setattr(crosscoder, "_TEXTS_A_UNIT", 4)
    monkeypatch.setattr(codes, "_COTS_AT_ONCE", 3)

    def killed_at(target, name: str, call: int) -> None:
        made, original = [], getattr(target, name)

        def until(*given, **options):
            made.append(0)
            if len(made) == call:
                raise KeyboardInterrupt
            return original(*given, **options)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(target, name, until)
            run(study_of(pair), folder)

    from backend.crosscoder import judge, shards, stored
    from backend.models import checkpoints

    killed_at(shards, "_write", 2)
    killed_at(train.Trainer, "step", 25)
    monkeypatch.setattr(crosscoder, "CHECKPOINT_EVERY", 0.0)
    killed_at(train.Trainer, "step", 31)
    monkeypatch.setattr(crosscoder, "CHECKPOINT_EVERY", 1e9)
    killed_at(checkpoints, "write_json", 1)  # of the checkpoint after the last step
    shutil.rmtree(folder.path / "scratch" / next((folder.path / "scratch").glob("recording-*")).name)
    killed_at(stored, "keep", 1)
    killed_at(crosscoder, "_run_row", 1)
    killed_at(pipeline.Writer, "add", 3)  # the weights are there, their row is not
    killed_at(shards, "_write", 2)
    killed_at(judge.Judge, "findings", 1)
    shutil.rmtree(folder.path / "scratch")
    killed_at(splices, "measure", 1)
    run(study_of(pair), folder)
    expected, found = rows_of(finished.folder), rows_of(folder)
    for table in expected:
        assert found[table] == expected[table], table


def test_several_crosscoders_of_a_study_are_each_as_if_alone(finished, written, pair, row, tmp_path):
    """Two of one layer, which learn from one recording, and one of another layer."""
    folder = StudyFolder(shutil.copytree(written.path, tmp_path / "pair"))
    (own,) = finished.study.crosscoder
    more = (own, own.model_copy(update={"k": 6, "steps": 21}), own.model_copy(update={"layer": 2, "steps": 20}))
    run(finished.study.model_copy(update={"crosscoder": more}), folder)
    assert len(list((folder.path / "scratch").glob("recording-*"))) == 2
    with closing(Store(folder.path)) as store:
        rows = store.whole_table("dictionaries").to_pylist()
        assert sorted((one["layer"], one["k"]) for one in rows) == [(LAYER, 4), (LAYER, 6), (2, 4)]
        assert row["dictionary_id"] in {one["dictionary_id"] for one in rows}
        assert all(len(store.features(one["dictionary_id"])) == N_FEATURES for one in rows)
        context = Context(finished.study.model_copy(update={"crosscoder": more}), "r", store, print)
        assert {crosscoder.wanted_of(context, one) for one in rows} == set(more)
        assert all(crosscoder.wanted_of(context, one).k == one["k"] for one in rows)


@pytest.fixture
def passes(monkeypatch) -> list[tuple[int, ...]]:
    """The layers of every pass over a text, of whatever model."""
    made: list[tuple[int, ...]] = []
    ours = residuals.ResidualReader.__call__
    monkeypatch.setattr(
        residuals.ResidualReader, "__call__", lambda self, ids: made.append(self.layers) or ours(self, ids)
    )
    return made


def test_two_layers_of_the_same_texts_have_them_read_once(finished, written, tmp_path, passes):
    """Their shards are those of each alone, bit for bit, and so are the keys of all units."""
    (own,) = finished.study.crosscoder
    found = {}
    for name, layers in (("early", (0,)), ("late", (2,)), ("both", (0, 2))):
        wanted = tuple(own.model_copy(update={"layer": layer, "steps": 2, "warmup": 0}) for layer in layers)
        study = finished.study.model_copy(update={"crosscoder": wanted})
        folder = StudyFolder(shutil.copytree(written.path, tmp_path / name))
        with closing(Store(folder.path)) as store:
            context = Context(study, "r", store, print)
            units = crosscoder.units(context)
            n_texts = len(corpus.sources(context, wanted[0]))
            passes.clear()
            assert {made.unit.key for made in crosscoder.compute(context, units)} == {unit.key for unit in units}
        assert passes == [layers] * 2 * n_texts, name  # two models
        recordings = (folder.path / "scratch").glob("recording-*")
        files = {file.relative_to(folder.path): file.read_bytes() for one in recordings for file in one.iterdir()}
        found[name] = ({unit.key for unit in units}, files)
    assert found["both"][0] == found["early"][0] | found["late"][0]
    assert found["both"][1] == found["early"][1] | found["late"][1] and len(found["both"][1]) > 6


def test_cots_are_read_once_for_the_dictionaries_of_two_layers(finished, tmp_path, passes, monkeypatch):
    with closing(Store(finished.folder.path)) as store:
        context = Context(finished.study, "r", store, print, folder=tmp_path)
        (row,) = codes.dictionaries(context)
        monkeypatch.setattr(codes, "dictionaries", lambda _: [row, {**row, "layer": 2, "dictionary_id": "other"}])
        monkeypatch.setattr(codes, "read_from", lambda *_: read_from(store, row["dictionary_id"]))
        units = codes.units(context)
        assert len(list(codes.compute(context, units))) == len(units)
    assert passes == [(LAYER, 2)] * len(units)  # half as many CoTs, of two models


@pytest.fixture(scope="module")
def budgeted(pair, written, tmp_path_factory) -> Made:
    """So many tokens: of CoTs, of a rollout's continuation, and of a corpus in a folder; centred."""
    corpus = tmp_path_factory.mktemp("corpus")
    lines = (json.dumps({"text": f"Of {k} other things. " * 12}) for k in range(300))
    (corpus / "c4_sample.jsonl").write_text("\n".join(lines))
    folder = StudyFolder(shutil.copytree(written.path, tmp_path_factory.mktemp("stores") / "budgeted"))
    with closing(Store(folder.path)) as store:
        chunk = max(store.whole_table("chunks").to_pylist(), key=lambda one: one["char_start"])
    own = {"chunk_id": chunk["chunk_id"], "cot_id": chunk["cot_id"], "sample": 0, "seed": 1}
    rows = [
        row_with("rollouts", rollout_id="o1", kind="resample", text=CONTINUED, **own),
        row_with("rollouts", rollout_id="o2", kind="forced", text="7}", **own),
    ]
    with folder.writing("test") as writer:
        writer.add("rollouts", "all", {"rollouts": rows})
        pipeline.publish(writer)
    keys = {"corpus": str(corpus), "generated": 0, "epochs": 3, "centred": True, "max_tokens": 700, "rollouts": True}
    study = study_of(pair, tokens=6000, **keys)
    run(study, folder)
    return Made(study, folder)


def recorded_by(made: Made) -> tuple[Shards, dict]:
    """What its dictionary learned from, and the dictionary's row."""
    (folder,) = (made.folder.path / "scratch").glob("recording-*")
    with closing(Store(made.folder.path)) as store:
        (told,) = store.whole_table("dictionaries").to_pylist()
    return Shards(folder), told


def test_of_so_many_tokens_reasoning_has_its_share(budgeted):
    """There is too little of it for 6,000: what else is learned from is two thirds of what there is, not more."""
    shards, told = recorded_by(budgeted)
    by_text = shards.tokens_by_text()
    assert sum(by_text.values()) == len(shards) and "o2" not in by_text
    other = sum(n for name, n in by_text.items() if name.startswith("corpus-"))
    reasoning = len(shards) - other
    with closing(Store(budgeted.folder.path)) as store:
        assert {cot["cot_id"] for cot in store.tokenised_cots()} < set(by_text)
    assert 0 < other - reasoning * 2 / 3 < max(by_text.values()) and reasoning < 0.6 * 6000
    facts = json.loads(told["parameters"])
    assert (facts["n_reasoning_tokens"], facts["n_rollouts"], facts["n_tokens"]) == (reasoning, 1, len(shards))
    assert facts["n_corpus"] == sum(name.startswith("corpus-") for name in by_text) and facts["n_lines"] == 0
    assert facts["settings"]["steps"] == facts["steps"] == round(3 * len(shards) / 64)
    assert facts["passes"] == pytest.approx(3, abs=0.1)


def test_of_a_rollout_its_own_tokens_are_recorded_as_the_whole_text_has_them(budgeted, pair):
    shards, _ = recorded_by(budgeted)
    rows, loaded = shards.rows_of("o1"), load_model(pair[1])
    tokens = shards.tokens(rows)
    assert loaded.tokenizer.decode(tokens[:, 2]) == CONTINUED
    with closing(Store(budgeted.folder.path)) as store:
        chunk_id = store.whole_table("rollouts").to_pylist()[0]["chunk_id"]
        (chunk,) = [one for one in store.whole_table("chunks").to_pylist() if one["chunk_id"] == chunk_id]
        (cot,) = [one for one in store.tokenised_cots() if one["cot_id"] == chunk["cot_id"]]
    text = cot["prompt"] + cot["text"][: chunk["char_start"]] + CONTINUED
    ids = loaded.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokens[:, 1].tolist() == list(range(len(ids) - len(rows), len(ids)))
    streams = record_residuals(loaded, ids, [LAYER])[LAYER][-len(rows) :].numpy()
    np.testing.assert_allclose(shards.activations(rows)[:, 1], streams, rtol=1e-3, atol=1e-2)  # kept in float16


def test_a_centred_dictionary_reads_raw_activations(budgeted):
    """Trained on activations less their mean; the biases take it away and put it back."""
    shards, told = recorded_by(budgeted)
    raw = shards.activations(np.arange(len(shards)))
    mean = raw.astype(np.float64).mean(0)
    scale = 8 / np.linalg.norm(raw - mean, axis=2).mean(0)  # √64
    with closing(Store(budgeted.folder.path)) as store:
        dictionary = read_from(store, told["dictionary_id"])
    np.testing.assert_allclose(dictionary.scale.numpy(), scale, rtol=1e-5)
    moved = torch.tensor(mean * scale[:, None]).float()
    added = torch.einsum("md,mdk->k", moved, dictionary.encoder)
    plain = replace(
        dictionary, encoder_bias=dictionary.encoder_bias + added, decoder_bias=dictionary.decoder_bias - moved
    )
    some, less = torch.from_numpy(raw[:64]), torch.from_numpy((raw[:64] - mean).astype(np.float32))
    codes = plain.encode(less)
    torch.testing.assert_close(dictionary.encode(some), codes, atol=2e-3, rtol=1e-3)
    back = plain.decode(codes) + torch.tensor(mean).float()
    torch.testing.assert_close(dictionary.decode(codes), back, atol=1e-4, rtol=1e-4)


def test_an_unfinished_training_is_seen(written, pair, tmp_path, monkeypatch):
    folder = StudyFolder(shutil.copytree(written.path, tmp_path / "pair"))
    step, done = train.Trainer.step, []

    def stop(trainer, activations):
        if len(done) == 45:
            raise KeyboardInterrupt
        done.append(0)
        return step(trainer, activations)

    monkeypatch.setattr(train.Trainer, "step", stop)
    with pytest.raises(KeyboardInterrupt):
        run(study_of(pair), folder)
    with folder.writing("publish") as writer:
        pipeline.publish(writer)
    with closing(Store(folder.path)) as store:
        (trained,) = store.dictionary_trainings().itertuples()
        assert (trained.n_steps == 40 and trained.n_tokens == 40 * 64 and trained.dictionary_id is None) or np.isnan(
            trained.dictionary_id
        )
        assert len(store.training_metrics(trained.training_id)) == 6 * 40 and store.dictionaries().empty


# A linear dictionary of two models of unequal width, trained as published

PUBLISHED = {"kind": "linear", "k": 4, "learns_from": "as_published", "steps": 12}


@pytest.fixture(scope="module")
def published(pair, tmp_path_factory) -> Made:
    """The base of the pair is a model of width 48 with the same tokenizer."""
    import transformers as hf

    narrow = tmp_path_factory.mktemp("narrow")
    config = hf.AutoConfig.from_pretrained(pair[0])
    config.hidden_size, config.head_dim = 48, 12
    torch.manual_seed(2)
    hf.AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(narrow)
    hf.AutoTokenizer.from_pretrained(pair[0]).save_pretrained(narrow)
    settings = {"generated": 6, "n_features": N_FEATURES, "batch": 64, "warmup": 5, "learning_rate": 4e-3}
    study = study_of((str(narrow), pair[1]), **settings, **PUBLISHED)
    folder = StudyFolder(tmp_path_factory.mktemp("stores") / "published")
    run(study, folder)
    return Made(study, folder)


@pytest.fixture(scope="module")
def theirs(published):
    store = Store(published.folder.path)
    yield store
    store.close()


def test_training_as_published_reads_the_first_50_tokens_of_each_response(published, theirs):
    (row,) = theirs.whole_table("dictionaries").to_pylist()
    (folder,) = (published.folder.path / "scratch").glob("recording-*")
    shards, n_tokens = Shards(folder), 0
    n_prompts = {cot["cot_id"]: cot["n_prompt_tokens"] for cot in theirs.tokenised_cots()}
    for number, name in enumerate(shards.texts()):
        places = [place for text, place, _ in shards.tokens(np.arange(len(shards))) if text == number]
        if name in n_prompts:
            n_tokens += sum(n_prompts[name] <= place < n_prompts[name] + 50 for place in places)
        else:  # a trace, after the distilled model's prompt
            n_tokens += 50
    facts = json.loads(row["parameters"])
    assert row["n_tokens"] == facts["n_tokens"] == n_tokens < len(shards)
    assert (facts["learns_from"], facts["response_tokens"]) == ("as_published", 50)
    assert (row["kind"], row["k"], row["d_model"]) == ("linear", 4, None)


def test_a_linear_dictionary_of_unequal_models_goes_through_every_stage(published, theirs):
    (row,) = theirs.whole_table("dictionaries").to_pylist()
    name, dictionary = row["dictionary_id"], read_from(theirs, row["dictionary_id"])
    assert dictionary.widths == (48, 64) and dictionary.facts["models"][0]["role"] == "base"
    loaded = [load_model(model.name) for model in published.study.pair]
    own, streams = [], ([], [])
    for cot in theirs.tokenised_cots():
        read = [record_residuals(one, cot["token_ids"], [LAYER])[LAYER][1:] for one in loaded]
        codes = dictionary.encode(dictionary.side_by_side(read))
        _, _, values = theirs.codes(name, cot["cot_id"])
        assert len(values) == codes.numel()  # every code is kept, none is 0
        np.testing.assert_allclose(values.reshape(codes.shape), codes.numpy(), atol=1e-3)
        fires = codes.abs() > dictionary.fires_above
        (shown,) = [theirs.codes_of_cot(name, cot["cot_id"], above=float(dictionary.threshold))]
        assert abs(len(shown) - int(fires.sum())) <= 2
        first = cot["n_prompt_tokens"] - 1
        own.append(codes[first:])
        for side, stream in zip(streams, read, strict=True):
            side.append(stream[first:])
    codes = torch.cat(own)
    frame = theirs.features(name)
    fires = codes.abs() > dictionary.fires_above
    np.testing.assert_allclose(frame["frequency"], fires.float().mean(0), atol=2e-3)
    assert frame["decoder_cosine"].isna().all() and frame["class"].notna().any()
    np.testing.assert_allclose(frame["nrn_rms"], nrn(dictionary, "rms"), rtol=1e-6)
    assert not np.allclose(frame["nrn_rms"], frame["nrn_l2"])
    (judged,) = theirs.dictionaries().itertuples()
    assert judged.l0 == pytest.approx(fires.sum().item() / len(fires), rel=1e-2)
    for model, side in enumerate(("base", "distilled")):
        raw = torch.cat(streams[model]).double()
        left = (raw - dictionary.reconstruction(codes, model).double()).square().sum()
        explained = 1 - left / (raw - raw.mean(0)).square().sum()
        assert getattr(judged, f"variance_explained_{side}") == pytest.approx(explained.item(), abs=1e-3)
        assert np.isfinite(getattr(judged, f"loss_spliced_{side}"))
    means = theirs.fitted_means(name)
    assert [len(means[row[f"{side}_model_id"]]) for side in ("base", "distilled")] == [48, 64]
    examples = theirs.frame("SELECT activation, contribution_base FROM feature_examples")
    assert (examples["activation"] < 0).any() and (examples["contribution_base"] >= 0).all()


# What is judged


def test_codes_are_those_of_both_models_reading_the_same_tokens(store, row, read, dictionary):
    for name, cot in read.items():
        positions, which, values = store.codes(row["dictionary_id"], name)
        dense = np.zeros_like(cot["codes"])
        dense[positions - 1, which] = values
        np.testing.assert_allclose(dense, cot["codes"], atol=1e-4)
        assert (np.diff(positions) >= 0).all() and len(positions) > len(dense)
        shown = store.tokens_of_cot(row["dictionary_id"], name)["token"]
        assert "".join(shown) == cot["prompt"] + cot["text"] and len(shown) == len(cot["token_ids"])


def test_features_are_measured_on_the_cots_without_their_prompts(store, row, read, dictionary):
    own = np.concatenate([cot["codes"][cot["own"]] for cot in read.values()])
    streams = np.concatenate([cot["streams"][cot["own"]] for cot in read.values()]).astype(np.float64)
    frame = store.features(row["dictionary_id"])
    np.testing.assert_allclose(frame["frequency"], (own > 0).mean(0), atol=1e-3)
    fires = (own > 0).any(0)
    np.testing.assert_allclose(frame["max_activation"][fires], own.max(0)[fires], rtol=1e-4)
    assert frame["mean_activation"].isna().tolist() == (~fires).tolist()
    np.testing.assert_allclose(frame["nrn_l2"], nrn(dictionary, 2))
    assert frame["class"].fillna("").tolist() == [
        name or "" for name in classify(nrn(dictionary, 2), frame["nu_eps"], frame["nu_r"])
    ]
    rebuilt = dictionary.decode(torch.tensor(own)).double().numpy()
    explained = 1 - ((streams - rebuilt) ** 2).sum((0, 2)) / ((streams - streams.mean(0)) ** 2).sum((0, 2))
    (judged,) = store.dictionaries().itertuples()
    assert (judged.variance_explained_base, judged.variance_explained_distilled) == pytest.approx(
        explained.tolist(), rel=1e-3
    )
    assert judged.l0 == pytest.approx((own > 0).sum() / len(own), rel=1e-3) and judged.n_judged == len(own)
    assert judged.dead_share == pytest.approx((~fires).mean())


def test_categories_count_tokens_of_chunks_and_of_target_words(store, row, read):
    tags, chunked = store.first_tags("test"), store.chunks_of(list(read))
    counted = {
        (scheme, category): np.zeros(N_FEATURES)
        for scheme in ("function", "reasoning", "before_reasoning")
        for category in (*CATEGORIES, *target_starts(""))
    }
    n_tokens = dict.fromkeys(counted, 0)
    for name, cot in read.items():
        shown = store.tokens_of_cot(row["dictionary_id"], name)["token"].tolist()
        where = {
            ("function", tags[chunk["chunk_id"]], place)
            for chunk in chunked.get(name, [])
            for place in range(chunk["token_start"], chunk["token_end"])
        }
        for category, starts in target_starts(cot["text"]).items():
            for start in starts:
                before = 0
                for place, token in enumerate(shown):
                    if before <= len(cot["prompt"]) + start < before + len(token):
                        where |= {("reasoning", category, place), ("before_reasoning", category, place - 1)}
                    before += len(token)
        for scheme, category, place in where:
            if place >= cot["n_prompt_tokens"]:
                n_tokens[scheme, category] += 1
                counted[scheme, category] += cot["codes"][place - 1] > 0
    frame = store.frame("SELECT * FROM feature_categories")
    assert len(frame) and set(zip(frame["scheme"], frame["category"], strict=True)) == {
        one for one, n in n_tokens.items() if n
    }
    for found in frame.itertuples():
        assert found.n_tokens == n_tokens[found.scheme, found.category]
        assert abs(found.n_fired - counted[found.scheme, found.category][found.feature]) <= 1
        assert found.frequency == found.n_fired / found.n_tokens


def test_examples_are_strong_tokens_with_what_they_add(store, row, read, dictionary):
    frame, chunked = store.frame("SELECT * FROM feature_examples ORDER BY feature, rank"), store.chunks_of(list(read))
    assert frame["feature"].nunique() > 20
    for found in frame.itertuples():
        cot = read[found.cot_id]
        column = cot["codes"][:, found.feature]
        assert found.position >= cot["n_prompt_tokens"] and found.activation == pytest.approx(
            column[found.position - 1], abs=1e-4
        )
        np.testing.assert_allclose(
            found.window_values, column[found.window_start - 1 :][: len(found.window_values)], atol=1e-4
        )
        for place, side in enumerate(("base", "distilled")):
            added = (
                found.activation
                * np.linalg.norm(dictionary.decoder[place, found.feature].numpy())
                / float(dictionary.scale[place])
            )
            assert getattr(found, f"contribution_{side}") == pytest.approx(added, rel=1e-4)
        (chunk,) = [one for one in chunked[found.cot_id] if one["chunk_id"] == found.chunk_id]
        assert chunk["token_start"] <= found.position < chunk["token_end"]
    for k, of_one in frame.groupby("feature"):
        strongest = max(cot["codes"][cot["own"], k].max() for cot in read.values())
        assert (
            of_one["activation"].iloc[0] == pytest.approx(strongest, rel=1e-4)
            and (np.diff(of_one["activation"]) <= 0).all()
        )
        histogram = store.feature_histogram(row["dictionary_id"], k).iloc[0]
        assert (
            abs(sum(histogram["counts"]) - sum((cot["codes"][cot["own"], k] > 0).sum() for cot in read.values())) <= 1
        )


def test_logits_and_neighbours_are_of_each_models_own_rows(store, row, dictionary, pair):
    for place, (name, model_id) in enumerate(zip(pair, (row["base_model_id"], row["distilled_model_id"]), strict=True)):
        loaded = load_model(name)
        rows = dictionary.decoder[place] / dictionary.scale[place]
        effects = rows * loaded.model.model.norm.weight @ loaded.model.lm_head.weight.T
        unit = torch.nn.functional.normalize(rows, dim=1)
        for k in (0, 7):
            logits = store.feature_logits(row["dictionary_id"], k)
            top = logits[(logits["model_id"] == model_id) & (logits["side"] == "top")]
            best = effects[k, : len(loaded.tokenizer)].topk(10)
            np.testing.assert_allclose(top["effect"], best.values.numpy(), rtol=1e-3)
            assert top["token"].tolist() == [loaded.tokenizer.decode([token]) for token in top["token_id"]]
            near = store.feature_neighbours(row["dictionary_id"], k)
            near = near[near["model_id"] == model_id]
            cosines = (unit @ unit[k]).numpy()
            cosines[k] = -2
            np.testing.assert_allclose(near["cosine"], np.sort(cosines)[::-1][:10], atol=1e-5)


def test_losses_are_those_of_the_reconstruction_in_each_models_own_stream(store, row, read, dictionary, pair):
    own = np.concatenate([cot["streams"][cot["own"]] for cot in read.values()])
    frame = store.frame("SELECT * FROM spliced_losses ORDER BY cot_id, model_id")
    assert len(frame) == 2 * sum(cot["own"].any() for cot in read.values())
    for place, (name, model_id) in enumerate(zip(pair, (row["base_model_id"], row["distilled_model_id"]), strict=True)):
        loaded = load_model(name)
        for found in frame[frame["model_id"] == model_id].itertuples():
            cot = read[found.cot_id]
            rebuilt = dictionary.decode(torch.tensor(cot["codes"]))[:, place]
            mean = torch.tensor(own.astype(np.float64).mean(0)[place], dtype=torch.float32)
            expected = spliced_losses(loaded, cot["token_ids"], cot["n_prompt_tokens"], LAYER, rebuilt, mean)
            assert (found.n_tokens, found.loss) == (expected.n_tokens, pytest.approx(expected.loss, rel=1e-4))
            measured = (found.loss_spliced, found.loss_zeroed, found.loss_averaged)
            assert measured == pytest.approx((expected.spliced, expected.zeroed, expected.averaged), rel=1e-2)


# Other dictionaries


def test_a_dictionary_from_a_file_is_judged_like_a_trained_one(finished, written, dictionary, pair, tmp_path):
    export_crosscoder_learning(replace(dictionary, facts={}), tmp_path / "published")
    folder = StudyFolder(shutil.copytree(written.path, tmp_path / "pair"))
    study = study_of(pair, dictionary=tmp_path / "published")
    run(study, folder)
    expected, found = rows_of(finished.folder), rows_of(folder)
    assert found["features"] == expected["features"] and found["training_metrics"] == []
    (row,) = found["dictionaries"]
    assert row["dictionary_id"] == dictionary.dictionary_id and row["training_id"] is row["n_tokens"] is None
    assert run(study, folder).count("all done") == len(STAGES)


def test_a_file_that_does_not_fit_the_study_is_refused(written, dictionary, pair, tmp_path):
    export_crosscoder_learning(dictionary, tmp_path / "published")
    export_crosscoder_learning(replace(dictionary, facts={}), tmp_path / "run" / "layers.3")
    export_crosscoder_learning(replace(dictionary, facts={}), tmp_path / "run" / "layers.2.mlp")
    for study, words in (
        (
            study_of(pair, dictionary=tmp_path / "published", layer=2),
            "is 2, but the dictionary is of layer 1.*Set crosscoder.layer to 1",
        ),
        (study_of(pair, dictionary=tmp_path / "run" / "layers.3"), r"of layer 3 \(layers.3 is the output of block 3\)"),
        (study_of(pair, dictionary=tmp_path / "run" / "layers.2.mlp"), "the MLP of block 2"),
        (
            study_of(pair, dictionary=tmp_path / "run"),
            "one of the folders that have one, by name: layers.2.mlp, layers.3",
        ),
        (study_of(pair, dictionary=tmp_path / "nowhere"), "There is no dictionary at"),
        (study_of(pair[:1], dictionary=tmp_path / "published"), "is of 2 models; the study has 1"),
    ):
        folder = StudyFolder(shutil.copytree(written.path, tmp_path / "pair", dirs_exist_ok=True))
        with pytest.raises(AnchorscopeError, match=words):
            run_study(study, folder, stages=(crosscoder,), console=Console(file=io.StringIO()))


def test_a_study_of_one_model_has_an_autoencoder(pair, tmp_path):
    study, folder = study_of(pair[:1], kind="l1", steps=30), StudyFolder(tmp_path / "one")
    run(study, folder)
    with closing(Store(folder.path)) as store:
        (row,) = store.dictionaries().itertuples()
        assert (
            row.distilled_model_id is None
            and row.kind == "l1"
            and row.l0 > 0
            and row.loss_spliced_base != row.loss_base
        )
        frame = store.features(row.dictionary_id)
        assert frame["norm_base_l1"].notna().all() and frame[
            ["nrn_l1", "norm_distilled_l2", "nu_eps", "class"]
        ].isna().all(axis=None)
        assert store.frame("SELECT DISTINCT metric FROM training_metrics")["metric"].nunique() == 5
        assert store.dictionary_trainings()["kind"].tolist() == ["sae"]


# Texts


def test_a_file_of_texts_is_read_line_by_line_and_its_faults_are_named(pair, written, tmp_path):
    file = tmp_path / "texts.txt"
    file.write_text("One plus one is two.\n\nWait, is it?\n")
    folder = StudyFolder(shutil.copytree(written.path, tmp_path / "pair"))
    with pytest.raises(ShardError, match="fewer than one batch of 100,000"):
        run(study_of(pair, texts=file, batch=100_000), folder)
    (recorded,) = (folder.path / "scratch").glob("recording-*")
    assert Shards(recorded).texts()[-2:] == ["line-0000001", "line-0000002"]
    for content, words in (
        ('{"text": "a b"}\n{"other": 1}', "line 2: expected a JSON record"),
        ('{"text": 3}', "`text` is int"),
    ):
        (tmp_path / "texts.jsonl").write_text(content)
        with pytest.raises(AnchorscopeError, match=words):
            run(study_of(pair, texts=tmp_path / "texts.jsonl"), folder)
    with pytest.raises(AnchorscopeError, match=r"nowhere.txt cannot be read"):
        run(study_of(pair, texts=tmp_path / "nowhere.txt"), folder)


def test_a_layer_that_the_models_lack_is_refused(pair, written, tmp_path):
    folder = StudyFolder(shutil.copytree(written.path, tmp_path / "pair"))
    with pytest.raises(AnchorscopeError, match=r"crosscoder.layer, for .*, has \[9\], but the model has 4 layers"):
        run(study_of(pair, layer=9), folder)
