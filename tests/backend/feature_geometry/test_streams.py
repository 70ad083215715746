"""Streams of a text and of what continues it are those of plain forward passes of the whole texts."""

import numpy as np
import pytest
import torch

from backend.feature_geometry import streams
from backend.feature_geometry.streams import Recording, StreamError, random_weights, streams_of
from backend.feature_geometry.text_trees import Continuation, TextTree
from backend.models.residuals import record_residuals

TREE = TextTree(
    "a",
    "p",
    tuple(range(10, 34)),
    (Continuation(9, (7, 8, 9), 1), Continuation(20, (5,)), Continuation(9, (3, 4, 5, 6, 7)), Continuation(9, (200,))),
    own=4,
)


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
def test_streams_are_those_of_plain_passes_in_the_order_of_the_text(tiny, family, monkeypatch):
    monkeypatch.setattr(streams, "_TOKENS_A_PASS", 8)
    loaded, layers = tiny(family), (0, 2)
    found = streams_of(loaded, TREE, layers)
    own = record_residuals(loaded, TREE.token_ids, layers)
    for layer in layers:
        expected = [own[layer][4:]]
        for one in TREE.continuations:
            whole = record_residuals(loaded, [*TREE.token_ids[: one.start], *one.token_ids], layers)
            expected.append(whole[layer][one.start + one.own :])
        assert len(found[layer]) == TREE.n_rows
        np.testing.assert_allclose(found[layer], torch.cat(expected), rtol=1e-4, atol=1e-4)


def test_a_recording_is_written_in_any_order_and_what_is_cut_off_counts_as_unread(tmp_path):
    recording = Recording(tmp_path / "r", (1,), 5, 3, "float16")
    recording.begin()
    recording.write(2, {1: np.full((3, 3), 2.0)})
    recording.note("b")
    recording.begin()  # a second start leaves what is there
    recording.write(0, {1: np.ones((2, 3))})
    with (recording.folder / "done").open("a") as file:
        file.write("half a na")
    assert recording.done == {"b"}
    np.testing.assert_array_equal(recording.rows(1)[:, 0], [1, 1, 2, 2, 2])
    with pytest.raises(StreamError, match=r"which float16 cannot hold\. Set dictionaries"):
        recording.write(0, {1: np.full((1, 3), 1e6)})


def test_a_model_with_random_weights_follows_from_its_seed_and_leaves_the_generator_alone(tiny):
    loaded = tiny("llama")
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    one, again, other = (random_weights(loaded, seed) for seed in (5, 5, 6))
    assert torch.equal(torch.rand(1), expected)
    weights = [found.model.get_output_embeddings().weight for found in (one, again, other, loaded)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2]) and not torch.equal(weights[0], weights[3])
    assert weights[0].shape == weights[3].shape and one.n_layers == loaded.n_layers
