"""Shards hold what each model does at each token, a stopped recording goes on, and what does not fit is refused."""

import copy
import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from backend.crosscoder import reading
from backend.crosscoder.shards import ShardError, Shards, Text, record
from backend.crosscoder.shards import recorded as shards_of
from backend.models import residuals
from backend.models.residuals import record_residuals

TEXTS = [Text(f"text {number}", f"Number {number} says: " + "so it goes on. " * (3 + number)) for number in range(6)]


@pytest.fixture
def pair(tiny):
    return [tiny("llama"), tiny("llama")]


def recorded(pair, folder, texts=TEXTS, **how):
    return recorded_at(pair, {1: folder}, texts, **how)


def recorded_at(pair, folders, texts=TEXTS, **how):
    return list(record(pair, texts, folders, **{"dtype": "float32", "tokens_a_shard": 40, **how}))


@pytest.fixture
def passes(monkeypatch) -> list[list[int]]:
    """The layers of every pass over a whole text, of whatever model."""
    made: list[list[int]] = []
    ours = residuals.ResidualReader.__call__
    monkeypatch.setattr(
        residuals.ResidualReader, "__call__", lambda self, ids: made.append(list(self.layers)) or ours(self, ids)
    )
    return made


def files_of(folder) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_each_row_is_the_residual_stream_of_its_token(pair, tmp_path):
    counts = recorded(pair, tmp_path)
    shards = Shards(tmp_path)
    assert len(shards) == counts[-1] and len(shards.lines) > 2 and shards.texts() == [text.text_id for text in TEXTS]
    rows = np.random.default_rng(0).permutation(len(shards))
    activations, tokens = shards.activations(rows), shards.tokens(rows)
    for number, text in enumerate(TEXTS):
        ids = pair[0].tokenizer(text.text, add_special_tokens=False)["input_ids"]
        stream = record_residuals(pair[0], ids, [1])[1].numpy()
        own = tokens[:, 0] == number
        assert sorted(tokens[own, 1]) == list(range(1, len(ids)))  # the first token is left out
        for place, token, row in zip(tokens[own, 1], tokens[own, 2], activations[own], strict=True):
            assert (
                token == ids[place] and np.array_equal(row[0], stream[place]) and np.array_equal(row[1], stream[place])
            )


def test_the_rows_of_a_text_are_its_tokens_in_order(pair, tmp_path):
    recorded(pair, tmp_path)
    shards = Shards(tmp_path)
    assert shards_of(tmp_path) == {text.text_id for text in TEXTS}
    for number, text in enumerate(TEXTS):
        tokens = shards.tokens(shards.rows_of(text.text_id))
        assert set(tokens[:, 0]) == {number} and tokens[:, 1].tolist() == list(range(1, len(tokens) + 1))
    with pytest.raises(ShardError, match="no text nobody"):
        shards.rows_of("nobody")


def test_a_stopped_recording_goes_on_and_gives_the_same(pair, tmp_path):
    recorded(pair, tmp_path / "whole")
    stopped = record(pair, TEXTS, {1: tmp_path / "stopped"}, dtype="float32", tokens_a_shard=40)
    list(itertools.islice(stopped, 3))
    with open(tmp_path / "stopped" / "manifest.jsonl", "a") as file:
        file.write('{"shard": "0000')  # a kill in the middle of a line
    recorded(pair, tmp_path / "stopped")
    whole, stopped = Shards(tmp_path / "whole"), Shards(tmp_path / "stopped")
    rows = np.arange(len(whole))
    assert whole.texts() == stopped.texts() and np.array_equal(whole.tokens(rows), stopped.tokens(rows))
    assert np.array_equal(whole.activations(rows), stopped.activations(rows))


def test_layers_of_one_pass_are_recorded_as_one_by_one_bit_for_bit(pair, tmp_path, passes):
    for layer in (2, 0):
        recorded_at(pair, {layer: tmp_path / f"alone-{layer}"}, dtype="float16")
    alone = len(passes)
    counts = recorded_at(pair, {layer: tmp_path / f"together-{layer}" for layer in (2, 0)}, dtype="float16")
    assert len(passes) - alone == len(pair) * len(TEXTS) == alone / 2
    for layer in (2, 0):
        assert files_of(tmp_path / f"together-{layer}") == files_of(tmp_path / f"alone-{layer}")
    assert counts[-1] == 2 * len(Shards(tmp_path / "together-0"))


def test_a_layer_that_has_a_text_is_not_recorded_again_beside_one_that_lacks_it(pair, tmp_path, passes):
    recorded_at(pair, {2: tmp_path / "two"}, TEXTS[:2])
    recorded_at(pair, {layer: tmp_path / name for layer, name in ((0, "none"), (2, "two"))})
    recorded_at(pair, {0: tmp_path / "alone"})
    assert passes[2 * 2 :][: 2 * len(TEXTS)] == [*[[0]] * 4, *[[0, 2]] * 8]
    assert files_of(tmp_path / "none") == files_of(tmp_path / "alone")
    assert Shards(tmp_path / "two").texts() == [text.text_id for text in TEXTS]


def test_a_text_of_given_tokens_is_read_as_these(pair, tmp_path):
    tokenizer = pair[0].tokenizer
    ids = (1, *(tokenizer(letter, add_special_tokens=False)["input_ids"][0] for letter in "so it goes"))
    whole = tokenizer(tokenizer.decode(ids), add_special_tokens=False)["input_ids"]
    assert whole != list(ids)  # cut anew it has other tokens
    recorded(pair, tmp_path, [Text("own", tokenizer.decode(ids), ids=ids)])
    shards = Shards(tmp_path)
    assert shards.tokens(shards.rows_of("own"))[:, 2].tolist() == list(ids[1:])
    stream = record_residuals(pair[0], ids, [1])[1].numpy()
    assert np.array_equal(shards.activations(shards.rows_of("own"))[:, 0], stream[1:])
    with pytest.raises(ShardError, match="text own is not the one"):
        recorded(pair, tmp_path, [Text("own", tokenizer.decode(ids))])


def test_texts_that_go_on_from_one_place_are_recorded_as_each_is_read_whole(pair, tmp_path, passes, monkeypatch):
    """What they share is read once for all, and what each adds side by side with the others'."""
    shared = []
    ours = reading.encode
    monkeypatch.setattr(reading, "encode", lambda model, ids, **how: shared.append(len(ids)) or ours(model, ids, **how))
    before, other = "Number 7 says: so it goes on. ", "Nobody says "
    rollouts = [Text(f"o{k}", before + "And 3 pears. " * k + f"It is {k}.", len(before)) for k in (3, 1, 2, 0)]
    alone = Text("alone", other + "that it goes on.", len(other))
    counts = recorded(pair, tmp_path, [TEXTS[0], *rollouts, alone], tokens_a_shard=10_000)
    assert len(shared) == 2 and len(passes) == 4  # of two models
    shards, tokenizer = Shards(tmp_path), pair[0].tokenizer
    assert shards.texts() == ["text 0", "o3", "o1", "o2", "o0", "alone"] and counts[-1] == len(shards)
    for text in (*rollouts, alone):
        whole = tokenizer(text.text, add_special_tokens=False, return_offsets_mapping=True)
        first = sum(start < text.start for start, _ in whole["offset_mapping"])
        rows = shards.rows_of(text.text_id)
        assert shards.tokens(rows)[:, 1].tolist() == list(range(first, len(whole["input_ids"])))
        assert shards.tokens(rows)[:, 2].tolist() == whole["input_ids"][first:]
        stream = record_residuals(pair[0], whole["input_ids"], [1])[1][first:].numpy()
        np.testing.assert_allclose(shards.activations(rows)[:, 0], stream, rtol=1e-4, atol=1e-4)


def test_a_text_that_is_given_twice_is_recorded_once(pair, tmp_path):
    recorded(pair, tmp_path, [TEXTS[0], TEXTS[0], TEXTS[1]])
    assert Shards(tmp_path).texts() == ["text 0", "text 1"]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files")
def test_an_opened_recording_holds_no_file_open(pair, tmp_path):
    """Of two million tokens there are more shards than a process may have files."""
    recorded(pair, tmp_path)
    before = len(list(Path("/proc/self/fd").iterdir()))
    shards = Shards(tmp_path)
    shards.activations(np.arange(len(shards)))
    assert len(shards.lines) > 2 and len(list(Path("/proc/self/fd").iterdir())) == before


def test_scaled_activations_have_a_mean_norm_of_the_square_root_of_the_width(pair, tmp_path):
    recorded(pair, tmp_path)
    shards = Shards(tmp_path)
    scaled = shards.activations(np.arange(len(shards))) * shards.scale()[:, None]
    assert np.linalg.norm(scaled, axis=2).mean(0) == pytest.approx([np.sqrt(shards.width)] * 2, rel=1e-6)


def test_batches_show_every_row_once_a_pass_and_can_be_taken_up_again(pair, tmp_path):
    recorded(pair, tmp_path)
    shards = Shards(tmp_path)
    size = len(shards) // 4
    seen = list(itertools.islice(shards.batches(size, seed=1), 10))
    assert len(np.unique(np.concatenate(seen[:4]))) == 4 * size
    assert not np.array_equal(seen[0], seen[4])
    for batch, again in zip(seen[6:], shards.batches(size, seed=1, skip=6), strict=False):
        assert np.array_equal(batch, again)
    with pytest.raises(ShardError, match="fewer than one batch"):
        next(shards.batches(len(shards) + 1, seed=1))


def test_other_tokenizers_layers_and_texts_are_refused(pair, tmp_path):
    tokenizer = copy.deepcopy(pair[1].tokenizer)
    tokenizer.add_tokens(["naïve"])
    with pytest.raises(ShardError, match="different tokenizers"):
        recorded([pair[0], replace(pair[1], tokenizer=tokenizer)], tmp_path / "other")
    recorded(pair, tmp_path)
    with pytest.raises(ShardError, match="another layer"):
        recorded_at(pair, {0: tmp_path})
    with pytest.raises(ShardError, match="text 2 is not the one that was recorded"):
        recorded(pair, tmp_path, [Text("text 2", "something else")])
    with pytest.raises(ShardError, match="dtype 'int8'"):
        recorded(pair, tmp_path / "new", dtype="int8")


def test_a_shard_that_was_cut_off_is_named(pair, tmp_path):
    recorded(pair, tmp_path)
    line = json.loads((tmp_path / "manifest.jsonl").read_text().splitlines()[0])
    np.save(tmp_path / "000000.npy", np.load(tmp_path / "000000.npy")[:-1])
    with pytest.raises(ShardError, match=rf"000000\.npy has {line['n_tokens'] - 1} tokens"):
        Shards(tmp_path)
    (tmp_path / "000000.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(ShardError, match=r"000000\.npy cannot be read"):
        Shards(tmp_path)
