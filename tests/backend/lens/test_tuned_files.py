"""Files of tuned lenses: the other tool's are read right, ours by its rule, and what does not fit is refused.

The golden files are made here by the published rule, in plain code: translator i reads `hidden_states[i]` of
transformers, which is the *input* of block i, as h + weight h + bias, and the final norm and the head follow. A lens
that took inputs for outputs would read them wrong by a whole block.
"""

import copy
import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from backend.lens.kinds import LensError
from backend.lens.lens import Readout, TunedLens
from backend.lens.tuned_files import read, unembedding_hash, write
from backend.models.residuals import record_residuals
from tests.backend.lens.conftest import D

TOKENS = torch.randint(3, 384, (9,), generator=torch.Generator().manual_seed(0)).tolist()


def golden(loaded, folder, **changed):
    """What the other tool saves: a translator for each of hidden_states but the last, and its config."""
    draw = torch.Generator().manual_seed(7)
    params = {}
    for number in range(loaded.n_layers):
        params[f"{number}.weight"] = 0.3 * torch.randn(D, D, generator=draw)
        params[f"{number}.bias"] = torch.randn(D, generator=draw)
    head = loaded.model.lm_head.weight.float().numpy()
    config = {
        "base_model_name_or_path": "owner/Some-Model",
        "d_model": D,
        "num_hidden_layers": loaded.n_layers,
        "bias": True,
        "base_model_revision": None,
        "unembed_hash": hashlib.sha256(str.encode(np.array_str(head, precision=1))).hexdigest(),
        "lens_type": "linear_tuned_lens",
    }
    folder.mkdir(exist_ok=True)
    torch.save(params | changed.pop("params", {}), folder / "params.pt")
    (folder / "config.json").write_text(json.dumps(config | changed))
    return folder, params


def their_readout(loaded, params, number):
    """Their log-probabilities at hidden_states[number]."""
    with torch.inference_mode():
        h = loaded.model(torch.tensor([TOKENS]), output_hidden_states=True).hidden_states[number][0]
        moved = h + (h @ params[f"{number}.weight"].T + params[f"{number}.bias"])
        return loaded.model.lm_head(loaded.model.model.norm(moved)).log_softmax(-1)


def test_of_a_model_of_one_block_there_is_the_embeddings_translator_alone(small, tmp_path):
    loaded = small(1)
    folder, params = golden(loaded, tmp_path / "lens")
    found = read(folder, loaded)
    assert found.lens.translators == {} and torch.equal(found.embeddings[0], params["0.weight"])
    h = record_residuals(loaded, TOKENS, [0])[0]
    with torch.inference_mode():
        own = loaded.model(torch.tensor([TOKENS])).logits[0].log_softmax(-1)
    assert torch.equal(Readout(loaded).log_probs(found.lens, h, 0), own)


def test_of_a_model_of_two_blocks_the_second_translator_reads_the_output_of_the_first(small, tmp_path):
    loaded = small(2)
    folder, params = golden(loaded, tmp_path / "lens")
    found = read(folder, loaded)
    assert list(found.lens.translators) == [0]
    h = record_residuals(loaded, TOKENS, [0])[0]
    ours = Readout(loaded).log_probs(found.lens, h, 0)
    assert torch.allclose(ours, their_readout(loaded, params, 1), atol=1e-5)
    assert not torch.allclose(ours, their_readout(loaded, params, 0), atol=0.1)


def test_what_is_written_is_read_by_their_rule_and_back_by_ours(small, tmp_path):
    loaded = small(3)
    maps = {layer: (torch.randn(D, D), torch.randn(D)) for layer in (0,)}
    lens = TunedLens(3, maps, frozenset({1}))
    write(lens, loaded, tmp_path / "lens")
    params = torch.load(tmp_path / "lens" / "params.pt", weights_only=True)
    config = json.loads((tmp_path / "lens" / "config.json").read_text())
    assert (config["d_model"], config["num_hidden_layers"], config["lens_type"]) == (D, 3, "linear_tuned_lens")
    assert sorted(params) == sorted(f"{number}.{part}" for number in range(3) for part in ("weight", "bias"))
    streams = record_residuals(loaded, TOKENS, [0, 1, 2])
    for layer in (0, 1):
        ours = Readout(loaded).log_probs(lens, streams[layer], layer)
        assert torch.allclose(ours, their_readout(loaded, params, layer + 1), atol=1e-5)
    assert not params["0.weight"].any(), "the embeddings are read as they stand"
    again = read(tmp_path / "lens", loaded)
    assert torch.equal(again.lens.translators[0][0], maps[0][0]) and not again.lens.translators[1][0].any()


def test_a_file_goes_through_whole_with_the_embeddings_translator(small, tmp_path):
    loaded = small(2)
    folder, params = golden(loaded, tmp_path / "lens")
    found = read(folder, loaded)
    write(found.lens, loaded, tmp_path / "copy", embeddings=found.embeddings)
    again = torch.load(tmp_path / "copy" / "params.pt", weights_only=True)
    assert set(again) == set(params) and all(torch.equal(again[key], params[key]) for key in params)


def test_a_lens_with_gaps_cannot_be_written(small, tmp_path):
    with pytest.raises(LensError, match=r'does not read layers 1; .*lens\.layers = "all"'):
        write(TunedLens(3, {0: (torch.zeros(D, D), torch.zeros(D))}), small(3), tmp_path)


@pytest.mark.parametrize(
    "changed, words",
    [
        ({"base_model_name_or_path": "owner/Other"}, "base_model_name_or_path is owner/Other, .* owner/Some-Model"),
        ({"d_model": 8}, "d_model is 8, and owner/Some-Model has 16"),
        ({"num_hidden_layers": 3}, "num_hidden_layers is 3, and owner/Some-Model has 2"),
        ({"base_model_revision": "b" * 40}, "base_model_revision is b{40}, and this one is a{40}"),
        ({"unembed_hash": "f" * 64}, "unembed_hash is f{16}…, and the unembedding of owner/Some-Model"),
        ({"lens_type": "other"}, "lens_type is 'other'"),
        ({"params": {"2.weight": torch.zeros(D, D)}}, r"expected 0.weight to 1.bias, 2 translators; .*2\.weight"),
        ({"params": {"1.bias": torch.zeros(8)}}, r"1\.bias is \(8,\); numbers of shape \(16,\)"),
        ({"params": {"1.weight": torch.full((D, D), float("nan"))}}, r"1\.weight has values that are NaN"),
        ({"params": {"1.weight": 3}}, r"1\.weight is int"),
    ],
)
def test_a_lens_of_something_else_is_refused_by_name(small, tmp_path, changed, words):
    folder, _ = golden(small(2), tmp_path / "lens", **changed)
    with pytest.raises(LensError, match=words) as refused:
        read(folder, small(2))
    assert str(folder) in str(refused.value)


def test_a_branch_is_no_revision_and_a_model_may_be_known_by_another_name(small, tmp_path):
    changed = {"base_model_revision": "main", "base_model_name_or_path": "someone/the-hubs-name"}
    folder, _ = golden(small(2), tmp_path / "lens", **changed)
    assert read(folder, small(2), known_as="the-hubs-name").config["base_model_revision"] == "main"


def test_folded_norms_are_refused(small, tmp_path):
    loaded = small(2)
    folded = replace(loaded, model=copy.deepcopy(loaded.model))
    folded.model.lm_head.weight.data *= folded.model.model.norm.weight.data
    folded.model.model.norm.weight.data[:] = 1
    folder, _ = golden(loaded, tmp_path / "lens", unembed_hash=None)
    with pytest.raises(LensError, match="folded"):
        read(folder, folded)
    with pytest.raises(LensError, match="unembed_hash"):
        read(golden(loaded, tmp_path / "other")[0], folded)


def test_a_pickle_is_refused_and_nothing_of_it_runs(small, tmp_path):
    folder, _ = golden(small(2), tmp_path / "lens")
    torch.save({"0.weight": Loud()}, folder / "params.pt")
    with pytest.raises(LensError, match="is refused: it holds"):
        read(folder, small(2))
    (folder / "params.pt").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(LensError, match="git lfs pull"):
        read(folder, small(2))
    (folder / "config.json").write_text("[]")
    with pytest.raises(LensError, match="lacks a dictionary"):
        read(folder, small(2))


class Loud:
    def __reduce__(self):
        return (pytest.fail, ("it ran",))


def test_the_hash_is_that_of_how_the_unembedding_is_printed(small):
    loaded = small(2)
    printed = np.array_str(loaded.model.lm_head.weight.float().numpy(), precision=1)
    assert unembedding_hash(loaded) == hashlib.sha256(printed.encode()).hexdigest()
