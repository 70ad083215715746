"""Word pairs of a tiny model: the vectors are its residual streams, rows are the measures of these, units resume."""

import json
from contextlib import closing

import numpy as np
import pytest

from backend.feature_geometry.parallelograms import loss
from backend.feature_geometry.word_pairs import WordPair
from backend.models.residuals import record_residuals
from backend.models.word_contexts import CONTEXTS, WordError, before, one_token, vocabulary, word_ids
from backend.models.word_vectors import word_vectors
from backend.store.store import Store
from backend.store.unit_files import StudyFolder
from precompute.estimates import Lengths, Quantities
from precompute.pipeline import run_study
from precompute.stages import parallelograms
from precompute.study import Study, StudyError, load_study
from tests import steerable_study

PAIRS = 6


@pytest.fixture
def pairs(tiny, tmp_path):
    """A folder with two classes of words that the tiny model has as one token, and a third of which it has too few."""
    there = list(vocabulary(tiny("llama").tokenizer, leading_space=True).values())
    folder = tmp_path / "pairs"
    folder.mkdir()
    for number, name in enumerate(("first", "second")):
        own = there[number * 2 * PAIRS :][: 2 * PAIRS]
        rows = [{"input": own[2 * k], "output": own[2 * k + 1]} for k in range(PAIRS)]
        (folder / f"{name}.json").write_text(json.dumps([*rows, {"input": "xylophone", "output": own[0]}]))
    (folder / "few.json").write_text(json.dumps([{"input": "xylophone", "output": "zither"}]))
    return folder


def study_of(tiny_folder, pairs, **wanted) -> Study:
    return Study.model_validate(
        {
            "name": "s",
            "seed": 1,
            "models": [{"name": str(tiny_folder("llama"))}],
            "problems": {"per_level": 1},
            "sweep": {"layers": [0]},
            "engine": {"workers": 1},
            "parallelograms": {
                "pairs": str(pairs), "components": [0, 2], "fitted_on": ["vocabulary"], "shuffles": 20,
                "vocabulary": 64, **wanted,
            },
        }
    )  # fmt: skip


@pytest.fixture
def folder(tiny, tmp_path) -> StudyFolder:
    return StudyFolder(steerable_study.make(tmp_path / "s", tiny("llama")))


def test_rows_are_the_losses_of_the_models_own_streams_at_half_depth(tiny, tiny_folder, folder, pairs):
    loaded = tiny("llama")
    run_study(study_of(tiny_folder, pairs, context="bos"), folder, stages=[parallelograms])
    with closing(Store(folder.path)) as store:
        rows = store.parallelograms(1, "raw", "vocabulary", 0).set_index("word_class")
        classes = store.word_classes().set_index("word_class")
        examples = store.parallelogram_examples(1, "raw", "vocabulary", 0)
    assert list(rows.index) == ["first", "second"] and set(rows["layer"]) == {1}  # of 4 layers, input of the third
    assert classes.loc["first", ["n_pairs", "n_kept", "n_input", "n_both"]].tolist() == [7, 6, 1, 0]
    assert classes.loc["few", "n_kept"] == 0 and classes.loc["few", "n_both"] == 1

    def stream(word):
        token = one_token(loaded.tokenizer, word, leading_space=True)
        return record_residuals(loaded, [loaded.tokenizer.bos_token_id, token], [1])[1][-1].numpy()

    best = examples[(examples["word_class"] == "first") & (examples["place"] == 1)].iloc[0]
    expected = loss(*(stream(best[corner]).astype(float)[None] for corner in "abcd"))[0]
    assert best["loss"] == pytest.approx(expected, abs=1e-3)
    assert rows.loc["first", "n_quadruples"] == 15 and rows.loc["first", "losses"][0] == pytest.approx(
        expected, abs=1e-3
    )


def test_a_finished_layer_is_not_read_again_and_another_one_is(tiny_folder, folder, pairs, monkeypatch):
    run_study(study_of(tiny_folder, pairs), folder, stages=[parallelograms])
    read, found = parallelograms.word_rows.found, []
    monkeypatch.setattr(parallelograms.word_rows, "found", lambda words, spaces: found.append(1) or read(words, spaces))
    run_study(study_of(tiny_folder, pairs), folder, stages=[parallelograms])
    assert not found
    run_study(study_of(tiny_folder, pairs, layers=[1, 2]), folder, stages=[parallelograms])
    assert len(found) == 1
    with closing(Store(folder.path)) as store:
        assert set(store.parallelogram_spaces()["layer"]) == {1, 2}


def test_layers_are_read_in_one_pass_and_one_by_one_where_memory_is_small(
    tiny_folder, tiny, folder, pairs, monkeypatch, tmp_path
):
    run, passes = parallelograms.read, []
    monkeypatch.setattr(parallelograms, "read", lambda loaded, task: passes.append(task.layers) or run(loaded, task))
    run_study(study_of(tiny_folder, pairs, layers=[0, 1, 2]), folder, stages=[parallelograms])
    assert set(passes) == {(0, 1, 2)}
    other = StudyFolder(steerable_study.make(tmp_path / "other", tiny("llama")))
    monkeypatch.setattr(parallelograms, "_MOST_BYTES", 1)
    run_study(study_of(tiny_folder, pairs, layers=[0, 1, 2]), other, stages=[parallelograms])
    assert set(passes) == {(0, 1, 2), (0,), (1,), (2,)}
    with closing(Store(folder.path)) as one, closing(Store(other.path)) as two:
        losses = [
            store.frame("SELECT loss FROM parallelograms ORDER BY layer, cleaning, components, word_class")["loss"]
            for store in (one, two)
        ]
    assert len(losses[0]) > 6 and losses[0].tolist() == pytest.approx(losses[1].tolist(), rel=1e-4, nan_ok=True)


def test_words_that_no_model_has_as_one_token_are_said(tiny_folder, folder, tmp_path):
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "a.json").write_text(json.dumps([{"input": "xylophone", "output": "zither"}] * 5))
    with pytest.raises(Exception, match="single tokens of every model"):
        run_study(study_of(tiny_folder, tmp_path / "odd"), folder, stages=[parallelograms])


def test_of_a_large_class_some_pairs_are_drawn_by_the_seed_in_their_order():
    pairs = tuple(WordPair(f"a{k}", f"b{k}") for k in range(500))
    found = parallelograms.drawn(pairs, "large", 1)
    assert len(found) == parallelograms.MOST_PAIRS and found == parallelograms.drawn(pairs, "large", 1)
    assert list(found) == sorted(found, key=pairs.index) and found != parallelograms.drawn(pairs, "large", 2)
    assert parallelograms.drawn(pairs[:9], "small", 1) == pairs[:9]


@pytest.mark.parametrize("context", CONTEXTS)
def test_a_word_is_read_behind_what_its_context_says(tiny, context):
    loaded = tiny("llama")
    first = before(loaded.tokenizer, context)
    tokens = list(vocabulary(loaded.tokenizer, leading_space=True))[:5]
    found = word_vectors(loaded, first, tokens, (0, 2))
    for place, token in enumerate(tokens):
        alone = record_residuals(loaded, [*first, token], [0, 2])
        for layer in (0, 2):
            np.testing.assert_allclose(found[layer][place], alone[layer][-1].numpy(), rtol=1e-4, atol=1e-4)
    lengths = {"bos": 1, "alone": 0}
    assert len(first) == lengths.get(context, len(first)) and (context != "phrase" or len(first) > 3)


def test_a_word_of_several_tokens_is_refused_with_its_pieces(tiny):
    tokenizer = tiny("llama").tokenizer
    with pytest.raises(WordError, match=r"“xylophone” is \d+ tokens of this model after a space"):
        one_token(tokenizer, "xylophone", leading_space=True)
    token, word = next(iter(vocabulary(tokenizer, leading_space=True).items()))
    assert word_ids(tokenizer, word, leading_space=True) == (token,)
    with pytest.raises(WordError, match="no context 'dream'"):
        before(tokenizer, "dream")


def test_the_plan_counts_layers_and_a_study_without_the_table_has_no_line(tiny_folder, pairs):
    study = study_of(tiny_folder, pairs, layers=[0, 1, 2])
    of = Quantities(study, Lengths(100, 10, False), 1, 1000, 64, 4, 1e9, {})
    line = parallelograms.estimate(of)
    assert line.units == 4 and line.minutes > 0 and line.gigabytes > 0
    without = Study.model_validate(study.model_dump(mode="json") | {"parallelograms": None})
    assert parallelograms.estimate(Quantities(without, Lengths(1, 1, False), 1, 1, 1, 1, 1.0, {})) is None


def test_what_a_study_file_cannot_ask_for_is_refused_by_name(tmp_path):
    file = tmp_path / "s.toml"
    file.write_text(
        'name = "s"\n[[models]]\nname = "m"\n[problems]\nper_level = 1\n[sweep]\nlayers = [0]\n[parallelograms]\n'
        'cleanings = ["soap"]\nfitted_on = ["all"]\ncontext = "dream"\n'
    )
    with pytest.raises(StudyError) as refused:
        load_study(file)
    for word in ("'soap'; allowed are raw, centred", "'all'; allowed are class", "'dream'; allowed are phrase"):
        assert word in str(refused.value)
