import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from backend.ids import stable_id
from backend.models.loading import ModelLoadingError, load_model, weights_sha256
from tests.conftest import FAMILIES


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ANCHORSCOPE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def copied(tiny_folder, tmp_path):
    return shutil.copytree(tiny_folder("llama"), tmp_path / "copy")


def change_weights(folder, change):
    file = folder / "model.safetensors"
    weights = load_file(file)
    change(weights)
    save_file(weights, file, metadata={"format": "pt"})


@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_of_every_family_loads_with_its_sizes(tiny_folder, family):
    loaded = load_model(str(tiny_folder(family)))
    assert (loaded.n_layers, loaded.d_model, loaded.vocab_size, loaded.dtype) == (4, 64, 384, "float32")
    assert loaded.family == {"gemma3": "gemma3_text"}.get(family, family)
    assert not loaded.model.training and not any(p.requires_grad for p in loaded.model.parameters())
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}
    text = "What is 12 + 30?\n\nÜber 42."
    encoded = loaded.tokenizer(text, return_offsets_mapping=True)
    assert loaded.tokenizer.decode(encoded["input_ids"]) == text
    assert encoded["offset_mapping"][0][0] == 0 and encoded["offset_mapping"][-1][1] == len(text)


def test_the_id_follows_from_name_revision_and_dtype_and_the_revision_from_the_weights(copied):
    loaded = load_model(str(copied))
    assert loaded.model_id == stable_id("m", str(copied), weights_sha256(copied), "float32")
    change_weights(copied, lambda weights: weights["model.norm.weight"].mul_(2))
    assert load_model(str(copied)).revision != loaded.revision


def test_a_missing_key_is_refused_by_name(copied):
    change_weights(copied, lambda weights: weights.pop("model.layers.1.mlp.up_proj.weight"))
    with pytest.raises(ModelLoadingError, match=r"missing keys, first model\.layers\.1\.mlp\.up_proj\.weight"):
        load_model(str(copied))


def test_weights_of_another_shape_than_the_configuration_says_are_refused_by_name_with_both_shapes(copied):
    def cut(weights):
        weights["model.layers.1.mlp.up_proj.weight"] = weights["model.layers.1.mlp.up_proj.weight"][:-1].clone()

    change_weights(copied, cut)
    with pytest.raises(
        ModelLoadingError,
        match=r"model\.layers\.1\.mlp\.up_proj\.weight has shape \(\d+, \d+\) in the checkpoint, and \(",
    ):
        load_model(str(copied))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_weight_that_is_not_finite_is_refused_by_name(copied, value):
    change_weights(copied, lambda weights: weights["model.layers.2.self_attn.q_proj.weight"][3, 5].fill_(value))
    with pytest.raises(
        ModelLoadingError, match=r"model\.layers\.2\.self_attn\.q_proj\.weight has values that are NaN or infinite"
    ):
        load_model(str(copied))


def test_weights_that_differ_from_the_sha256_beside_them_are_refused_even_after_a_good_load(copied):
    file = copied / "model.safetensors"
    file.with_name(file.name + ".sha256").write_text(f"{weights_sha256(copied)}  {file.name}\n")
    load_model(str(copied))
    damaged = bytearray(file.read_bytes())
    damaged[-5] ^= 1
    file.write_bytes(damaged)
    with pytest.raises(ModelLoadingError, match=r"model\.safetensors has sha256 .* says"):
        load_model(str(copied))


def test_several_weight_files_have_one_identity_that_changes_with_each(tmp_path):
    for name in ("a", "b"):
        save_file({"x": torch.ones(2)}, tmp_path / f"{name}.safetensors")
    first = weights_sha256(tmp_path)
    save_file({"x": torch.zeros(2)}, tmp_path / "b.safetensors")
    assert weights_sha256(tmp_path) != first


def test_pickled_weights_are_not_loaded(copied):
    torch.save(load_file(copied / "model.safetensors"), copied / "pytorch_model.bin")
    (copied / "model.safetensors").unlink()
    with pytest.raises(ModelLoadingError, match=r"no \.safetensors file"):
        load_model(str(copied))


def test_code_in_a_model_folder_is_not_run(copied):
    config = json.loads((copied / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "evil.Evil", "AutoConfig": "evil.Evil"}
    config["model_type"] = "evil"
    (copied / "config.json").write_text(json.dumps(config))
    (copied / "evil.py").write_text(f"open({str(copied / 'ran')!r}, 'w')\nclass Evil: pass\n")
    with pytest.raises(ModelLoadingError, match="custom code"):
        load_model(str(copied))
    assert not (copied / "ran").exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("embedded:other", "no embedded model 'other'; there are SmolLM2-135M-Instruct"),
        ("/no/such/folder", "no folder '/no/such/folder'"),
        ("two words", "neither a hub id"),
    ],
)
def test_an_unknown_name_says_what_there_is(name, said):
    with pytest.raises(ModelLoadingError, match=said):
        load_model(name)


def test_a_hub_that_cannot_be_reached_is_said_so(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelLoadingError, match=r"nobody/nothing-here could not be reached .* name a folder"):
        load_model("nobody/nothing-here")


def test_an_unknown_dtype_and_a_revision_of_a_folder_are_refused(copied):
    with pytest.raises(ModelLoadingError, match="int8"):
        load_model(str(copied), dtype="int8")
    with pytest.raises(ModelLoadingError, match="only be asked of a hub id"):
        load_model(str(copied), revision="main")
