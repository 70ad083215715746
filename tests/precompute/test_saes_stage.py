"""Small autoencoders of a tiny model and of clouds become rows of its study, whatever runs beside them or is killed."""

import contextlib
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from backend import ids
from backend.crosscoder import stored
from backend.errors import AnchorscopeError
from backend.feature_geometry.decoder_tails import distinct, tail
from backend.feature_geometry.feature_quadruples import SEARCHED
from backend.feature_geometry.text_trees import held_out_problems
from backend.models.loading import load_tokenizer
from backend.models.word_contexts import vocabulary
from backend.store.packed import pack, unpack
from backend.store.publish import publish
from backend.store.store import Store
from backend.store.unit_files import StudyFolder
from precompute import dictionary_texts
from precompute.estimates import Lengths, Quantities
from precompute.export import export_duckdb
from precompute.stages import parallelograms, saes
from precompute.study import Parallelograms, Study
from precompute.units import Context
from tests import lens_study
from tests.lens_study import PROBLEMS, WIDTH, row

TABLES = ("saes", "sae_features", "sae_tails")
WANTED = {
    "layers": [0, 2],
    "n_features": 48,
    "k": 4,
    "tokens": 1024,
    "batch": 128,
    "seeds": 2,
    "warmup": 2,
    "dead_after": 500,
    "held_out": 200,
}


@pytest.fixture(scope="module")
def made(tiny_folder, tmp_path_factory) -> StudyFolder:
    """Chains of twelve problems, with rollouts from before their second chunk."""
    from backend.models.loading import load_model

    folder = lens_study.make(tmp_path_factory.mktemp("saes") / "study", load_model(str(tiny_folder("llama"))))
    with contextlib.closing(Store(folder.path)) as store:
        chunks = [chunk for chunk in store.whole_table("chunks").to_pylist() if chunk["chunk_index"] == 1]
    rollouts = [
        row(
            "rollouts",
            rollout_id=ids.rollout_id(chunk["chunk_id"], "resample", sample),
            chunk_id=chunk["chunk_id"],
            cot_id=chunk["cot_id"],
            kind="resample",
            sample=sample,
            seed=1,
            text=f"Then {sample} pears and {number} apples make a sum. The answer is {number}.",
        )
        for number, chunk in enumerate(chunks)
        for sample in range(3)
    ]
    with folder.writing("test") as writer:
        writer.add("rollouts", "all", {"rollouts": rollouts})
        publish(writer)
    return folder


@pytest.fixture
def folder(made, tmp_path) -> StudyFolder:
    return StudyFolder(shutil.copytree(made.path, tmp_path / "study"))


def asked(tiny_folder, workers=1, **wanted) -> Study:
    model = {"name": str(tiny_folder("llama"))}
    return Study.model_validate(
        {
            "name": "clouds",
            "models": [model],
            "problems": {"per_level": 1},
            "sweep": {"layers": [1]},
            "dictionaries": [WANTED | wanted],
            "engine": {"workers": workers},
        }
    )


def run(study: Study, folder: StudyFolder, stages=(saes,)) -> str:
    return lens_study.run(study, folder, stages=stages)


def tables(folder: StudyFolder) -> dict[str, list[dict]]:
    with contextlib.closing(Store(folder.path)) as store:
        found = {table: store.whole_table(table).to_pylist() for table in TABLES}
    for one in found["saes"]:
        one["parameters"] = {key: value for key, value in json.loads(one["parameters"]).items() if key != "seconds"}
    return found


@pytest.fixture(scope="module")
def whole(made, tiny_folder, tmp_path_factory) -> StudyFolder:
    folder = StudyFolder(shutil.copytree(made.path, tmp_path_factory.mktemp("whole") / "study"))
    run(asked(tiny_folder), folder)
    return folder


def test_every_layer_has_its_seeds_and_each_null_one_trained_alike(whole):
    found = tables(whole)
    trained = sorted((one["layer"], one["trained_on"]) for one in found["saes"])
    each = ["gaussian", "model", "model", "random_weights"]
    assert trained == [(layer, name) for layer in (0, 2) for name in each]
    settings = [{**one["parameters"]["settings"], "seed": None} for one in found["saes"]]
    assert all(one == settings[0] for one in settings) and settings[0]["kind"] == "topk"
    of_model = [one for one in found["saes"] if one["trained_on"] == "model"]
    assert len({one["seed"] for one in of_model}) == 2
    assert {one["parameters"]["corpus"] for one in found["saes"]} == {of_model[0]["parameters"]["corpus"]}
    assert {one["parameters"]["random_weights_seed"] is not None for one in of_model} == {False}
    for one in found["saes"]:
        assert 0 < one["l0"] <= WANTED["k"] and one["tokens"] == 1024 and one["variance_explained"] < 1


def test_frequencies_and_tails_are_those_of_the_kept_weights(whole):
    found = tables(whole)
    for one in found["saes"]:
        dictionary = stored.read(whole.path, one["dictionary_id"])
        frequency = np.array([each["frequency"] for each in found["sae_features"] if each["sae_id"] == one["sae_id"]])
        assert frequency.sum() == pytest.approx(one["l0"]) and (frequency == 0).mean() == one["dead"]
        assert dictionary.facts["layer"] == one["layer"] and dictionary.n_features == len(frequency) == 48
        rows = dictionary.raw_rows(0).numpy()
        live = rows[frequency > 0]
        expected = {"all": rows, "live": live, "distinct": live[distinct(live)]}
        for each in (each for each in found["sae_tails"] if each["sae_id"] == one["sae_id"]):
            own = tail(expected[each["rows"]], each["exceedance"])
            assert (each["share"], each["n_pairs"], each["n_rows"]) == (own.share, own.n_pairs, own.n_rows)


def test_neither_workers_nor_what_is_trained_beside_it_changes_a_training(whole, folder, tiny_folder):
    run(asked(tiny_folder, workers=2, layers=[2], seeds=1, nulls=["gaussian"]), folder)
    by_id = {one["sae_id"]: one for one in tables(whole)["saes"]}
    found = tables(folder)["saes"]
    assert [one["trained_on"] for one in found].count("model") == 1 and len(found) == 2
    for one in found:
        assert one == by_id[one["sae_id"]]


def test_a_killed_run_goes_on_with_what_is_left_and_comes_to_the_same(whole, folder, tiny_folder, monkeypatch):
    def compute(context, units):
        for number, finished in enumerate(saes.compute(context, units)):
            if number == 3:
                raise AnchorscopeError("cut")
            yield finished

    cut = SimpleNamespace(**{**vars(saes), "compute": compute})
    with pytest.raises(AnchorscopeError, match="cut"):
        run(asked(tiny_folder), folder, stages=(cut,))
    assert list((folder.path / "scratch").iterdir()), "what was read stays"
    read_again = []
    monkeypatch.setattr(
        saes, "_read", lambda one, recording, own=saes._read: read_again.append(one) or own(one, recording)
    )
    monkeypatch.setattr(saes, "read", _refuses_a_text_of(whole))
    run(asked(tiny_folder), folder)
    assert tables(folder) == tables(whole) and not list((folder.path / "scratch").iterdir())
    assert "all done" in run(asked(tiny_folder), folder)


def _refuses_a_text_of(whole: StudyFolder):
    """Reads random weights alone: the model's own streams were read before the cut."""

    def read(loaded, task, own=saes.read):
        assert task.random_seed is not None
        yield from own(loaded, task)

    return read


def test_what_is_measured_on_are_problems_that_nothing_learned_from(made, tiny_folder):
    study = asked(tiny_folder)
    with contextlib.closing(Store(made.path)) as store:
        context = Context(study, "r", store, print)
        corpus = dictionary_texts.texts_of(context, study.dictionaries[0], study.models[0])
    expected = held_out_problems([ids.stable_id("p", number) for number in range(PROBLEMS)], 0.1, 0)
    assert len(expected) == 2 and {tree.problem_id for tree in corpus.held_out} <= expected
    assert not {tree.problem_id for tree in corpus.learned} & expected


def test_rollouts_go_on_from_before_their_chunk(made, tiny_folder):
    study = asked(tiny_folder)
    tokenizer = load_tokenizer(str(tiny_folder("llama")))
    with contextlib.closing(Store(made.path)) as store:
        context = Context(study, "r", store, print)
        trees = list(dictionary_texts._cots(context, study.dictionaries[0], tokenizer))
        cots = {cot["cot_id"]: cot for cot in store.tokenised_cots()}
        written = {}
        for one in store.rollout_texts().itertuples():
            cot = cots[one.cot_id]
            written.setdefault(one.cot_id, []).append(cot["prompt"] + cot["text"][: one.char_start] + one.text)
    for tree in trees:
        found = [tokenizer.decode([*tree.token_ids[: one.start], *one.token_ids]) for one in tree.continuations]
        assert found == written[tree.text_id]


def test_too_few_tokens_are_said_and_train_nothing(folder, tiny_folder):
    said = run(asked(tiny_folder, batch=1000, tokens=100_000, max_tokens=4, nulls=[]), folder)
    assert "No autoencoder of" in said and "dictionaries.texts" in said and not tables(folder)["saes"]


def test_tokens_that_are_learned_from_again_are_said(folder, tiny_folder):
    said = run(asked(tiny_folder, tokens=50_000, batch=512, n_features=16, layers=[0], seeds=1, nulls=[]), folder)
    (one,) = tables(folder)["saes"]
    assert f"each {50_000 / one['distinct_tokens']:.1f} times" in said.replace("\n", " ")
    assert one["distinct_tokens"] < one["tokens"] == 97 * 512


def test_a_study_leaves_with_its_rows_alone(whole, tmp_path):
    export_duckdb(whole.path, tmp_path / "one.duckdb")
    pack(whole.path, tmp_path / "pack")
    unpack(tmp_path / "pack", tmp_path / "two.duckdb")
    for path in (tmp_path / "one.duckdb", tmp_path / "two.duckdb"):
        with contextlib.closing(Store(path)) as store:
            assert len(store.whole_table("saes")) == 8 and len(store.whole_table("sae_features")) == 8 * 48


def test_the_plan_counts_trainings_and_what_is_read(tiny_folder):
    quantities = Quantities(asked(tiny_folder), Lengths(100, 20, True), 4, 10**6, WIDTH, 4, 1e9, {})
    line = saes.estimate(quantities)
    assert line.units == 8 and line.tokens == 2 * (1024 + 200)
    without = Quantities(asked(tiny_folder, nulls=[]), Lengths(100, 20, True), 4, 10**6, WIDTH, 4, 1e9, {})
    assert saes.estimate(without).units == 4 and saes.estimate(without).minutes < line.minutes


def test_settings_that_contradict_themselves_are_refused(tiny_folder):
    for wanted, words in (({"k": 99}, "k is 99, more than the 48 features"), ({"batch": 2000}, "batch is 2,000, more")):
        with pytest.raises(ValueError, match=words):
            asked(tiny_folder, **wanted)
    with pytest.raises(ValueError, match="no null of dictionaries 'frozen'"):
        asked(tiny_folder, nulls=["frozen"])
    with pytest.raises(AnchorscopeError, match=r"dictionaries.layers has \[9\]"):
        raise_for_layers(tiny_folder)


def raise_for_layers(tiny_folder):
    study = asked(tiny_folder, layers=[9])
    store = SimpleNamespace(model_facts=lambda model_id: {"n_layers": 4})
    saes.layers_of(Context(study, "r", store, print), study.dictionaries[0], "m")


def test_the_first_training_of_each_layer_and_source_is_searched(folder, tiny, tiny_folder, tmp_path):
    there = list(vocabulary(tiny("llama").tokenizer, leading_space=True).values())
    words = [{"input": one, "output": two} for one, two in zip(there[:12:2], there[1:12:2], strict=True)]
    (tmp_path / "pairs").mkdir()
    (tmp_path / "pairs" / "some.json").write_text(json.dumps(words))
    wanted = {"pairs": str(tmp_path / "pairs"), "cleanings": ["raw"], "components": [0], "fitted_on": ["vocabulary"]}
    small = {"vocabulary": 64, "shuffles": 20, "sides": 40, "draws": 1, "features": 3}
    study = asked(tiny_folder).model_copy(update={"parallelograms": Parallelograms.model_validate({**wanted, **small})})
    run(study, folder, stages=(saes, parallelograms))
    with contextlib.closing(Store(folder.path)) as store:
        trained, found = store.saes(), store.searched_dictionaries()
        quadruples = store.whole_table("feature_quadruples").to_pylist()
    first = trained[trained["seed"] == saes.seed_of(study, 0)]
    assert len(trained) == 8 and len(first) == 6  # two layers: two seeds and two nulls
    assert set(found["sae_id"]) == set(first["sae_id"])
    assert set(found["trained_on"]) == {"model", "gaussian", "random_weights"}
    assert len(found) == 6 * len(SEARCHED) and set(found["searched"]) == set(SEARCHED)
    assert {row["dictionary_id"] for row in quadruples} == set(first["dictionary_id"])
    assert "are searched" not in run(study, folder, stages=(parallelograms,))
