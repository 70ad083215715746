"""Merging an adapter is what peft computes, gives the same bits again, and refuses what it is not written for."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from backend.models import adapters
from backend.models.adapters import AdapterError
from backend.models.finetune import adapted, learned_state
from backend.models.loading import load_model


@pytest.fixture
def pair(tiny_folder, tmp_path):
    """(base folder, adapter folder): an adapter of random weights on a tiny model, as training saves it."""
    base = tiny_folder("llama")
    loaded = load_model(str(base))
    wrapped = adapted(loaded.model, rank=4, alpha=12, layers=[1], seed=3)
    torch.manual_seed(5)
    for parameter in learned_state(wrapped).values():
        parameter.data.normal_(std=0.1)
    loaded.tokenizer.chat_template = "a template with </think>"
    adapters.save(wrapped, loaded.tokenizer, "embedded:base", tmp_path / "adapter")
    return base, tmp_path / "adapter"


def merged(pair, folder):
    folder.mkdir()
    adapters.merge(*pair, folder)
    return folder


def test_merging_is_what_peft_computes(pair, tmp_path):
    from peft import PeftModel

    ours = load_model(str(merged(pair, tmp_path / "merged")))
    base = load_model(str(pair[0]))
    theirs = PeftModel.from_pretrained(base.model, pair[1]).merge_and_unload().state_dict()
    assert any(not torch.equal(weight, load_file(pair[0] / "model.safetensors")[key]) for key, weight in ours.model.named_parameters()
               if key in load_file(pair[0] / "model.safetensors"))
    for key, weight in ours.model.state_dict().items():
        assert torch.allclose(weight, theirs[key], atol=1e-6, rtol=1e-5), key
    assert ours.tokenizer.chat_template == "a template with </think>"
    assert ours.tokenizer.get_vocab() == base.tokenizer.get_vocab()


def test_merging_again_gives_the_same_bytes_however_many_threads(pair, tmp_path):
    first = (merged(pair, tmp_path / "one") / "model.safetensors").read_bytes()
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if threads > 1 else 2)
    try:
        assert (merged(pair, tmp_path / "two") / "model.safetensors").read_bytes() == first
    finally:
        torch.set_num_threads(threads)


def test_an_adapter_is_saved_in_float16_and_names_its_base_not_a_folder(pair):
    assert {weight.dtype for weight in load_file(pair[1] / adapters.WEIGHTS).values()} == {torch.float16}
    assert json.loads((pair[1] / adapters.CONFIG).read_text())["base_model_name_or_path"] == "embedded:base"


def test_an_adapter_of_another_kind_or_shape_is_refused(pair, tmp_path):
    adapter = pair[1]
    config = json.loads((adapter / adapters.CONFIG).read_text())
    (adapter / adapters.CONFIG).write_text(json.dumps(config | {"use_dora": True}))
    with pytest.raises(AdapterError, match="use_dora is True, and only False"):
        merged(pair, tmp_path / "one")
    (adapter / adapters.CONFIG).write_text(json.dumps(config))
    weights = load_file(adapter / adapters.WEIGHTS)
    save_file({key.replace("layers.1.", "layers.9."): weight for key, weight in weights.items()}, adapter / adapters.WEIGHTS)
    with pytest.raises(AdapterError, match=r"layers\.9\..*another model's adapter"):
        merged(pair, tmp_path / "two")
