"""Shards hold what each model does at each token, a stopped recording goes on, and what does not fit is refused."""

import copy
import itertools
import json
from dataclasses import replace

import numpy as np
import pytest

from backend.crosscoder.shards import ShardError, Shards, Text, record
from backend.crosscoder.shards import recorded as shards_of
from backend.models.residuals import record_residuals

TEXTS = [Text(f"text {number}", f"Number {number} says: " + "so it goes on. " * (3 + number)) for number in range(6)]


@pytest.fixture
def pair(tiny):
    return [tiny("llama"), tiny("llama")]


def recorded(pair, folder, texts=TEXTS, **how):
    return list(record(pair, texts, 1, folder, **{"dtype": "float32", "tokens_a_shard": 40, **how}))


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
    list(itertools.islice(record(pair, TEXTS, 1, tmp_path / "stopped", dtype="float32", tokens_a_shard=40), 3))
    with open(tmp_path / "stopped" / "manifest.jsonl", "a") as file:
        file.write('{"shard": "0000')  # a kill in the middle of a line
    recorded(pair, tmp_path / "stopped")
    whole, stopped = Shards(tmp_path / "whole"), Shards(tmp_path / "stopped")
    rows = np.arange(len(whole))
    assert whole.texts() == stopped.texts() and np.array_equal(whole.tokens(rows), stopped.tokens(rows))
    assert np.array_equal(whole.activations(rows), stopped.activations(rows))


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
        list(record(pair, TEXTS, 0, tmp_path, dtype="float32"))
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
