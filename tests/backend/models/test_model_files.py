"""Folders as other people publish, copy and half download them: each is refused in a sentence that says what it is,
before loading.
"""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from backend.models.loading import ModelLoadingError, check_model, identify_model, load_model
from backend.models.sampling import SampleRequest, SamplingError, SamplingParameters, sample

POINTER = (  # as Git LFS leaves it in a clone without it
    "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 538090408\n"
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ANCHORSCOPE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tiny_folder, tmp_path):
    return shutil.copytree(tiny_folder("llama"), tmp_path / "model")


def edit(folder, name, **keys):
    file = folder / name
    file.write_text(json.dumps((json.loads(file.read_text()) if file.is_file() else {}) | keys))


def refused(folder, words):
    for ask in (check_model, load_model):
        with pytest.raises(ModelLoadingError, match=words) as said:
            ask(str(folder))
        assert str(folder) in str(said.value) and "\n" not in str(said.value)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json", "tokenizer_config.json"])
def test_a_pointer_of_git_lfs_in_place_of_a_file_is_called_so(folder, name):
    (folder / name).write_text(POINTER)
    refused(folder, rf"{name} is a pointer of Git LFS, not the file itself. Run `git lfs pull`")
    with pytest.raises(ModelLoadingError, match="Git LFS"):
        identify_model(str(folder))


@pytest.mark.parametrize(
    ("said", "method"),
    [
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "gptq"),
        ({"quantization_config": {"quant_method": "awq", "bits": 4}}, "awq"),
        ({"quantization_config": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}}, "bitsandbytes"),
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}}, "bitsandbytes"),
        ({"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}, "fp8"),
        (
            {"quantization_config": {"quant_method": "compressed-tensors", "format": "pack-quantized"}},
            "compressed-tensors",
        ),
        ({"compression_config": {"quant_method": "compressed-tensors"}}, "compressed-tensors"),
        ({"quantization_config": {"quant_method": "mxfp4"}}, "mxfp4"),
        ({"text_config": {"quantization_config": {"quant_method": "hqq"}}}, "hqq"),
        ({"quantization": {"group_size": 64, "bits": 4}}, "4-bit groups"),  # how MLX says it
    ],
)
def test_quantised_weights_are_refused_by_the_name_of_the_method(folder, said, method):
    edit(folder, "config.json", **said)
    refused(folder, f"weights quantised by {method}, whose rounding")


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("quantize_config.json", "gptq"),
        ("quant_config.json", "awq"),
        ("hf_quant_config.json", "modelopt"),
    ],
)
def test_a_note_of_the_quantiser_beside_the_weights_is_read(folder, name, method):
    edit(folder, name, bits=4)
    refused(folder, f"quantised by {method}")


def test_a_configuration_that_says_it_is_not_quantised_is_no_quantised_one(folder):
    edit(folder, "config.json", quantization_config=None)
    check_model(str(folder))


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.int8])
def test_weights_stored_in_eight_bits_are_refused_whatever_the_configuration_says(folder, dtype):
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.0.mlp.up_proj.weight"] = weights["model.layers.0.mlp.up_proj.weight"].to(dtype)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    refused(folder, r"model\.layers\.0\.mlp\.up_proj\.weight is stored as (F8_E4M3|I8)")


def test_weights_in_another_layout_are_named(folder):
    (folder / "model.safetensors").unlink()
    refused(folder, r"has no \.safetensors file\. Only safetensors")
    for name, what in (
        ("model-Q4_K_M.gguf", "a GGUF file"),
        ("flax_model.msgpack", "Flax weights"),
        ("a_pytorch_model.bin", "pickled"),
    ):
        (folder / name).write_bytes(b"x")
        refused(folder, rf"no \.safetensors file, but {what} .*save_pretrained")
        (folder / name).unlink()
    (folder / "config.json").unlink()
    refused(folder, "has no config.json, so it is no model in the layout")
    (folder / "model.gguf").write_bytes(b"GGUF")
    refused(folder, r"no config\.json, but a GGUF file \(model\.gguf\)")
    edit(folder, "params.json", dim=64)
    refused(folder, "its maker's own files")


def test_a_missing_shard_is_named_and_a_broken_download_measured(folder):
    edit(
        folder,
        "model.safetensors.index.json",
        weight_map={"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"},
    )
    refused(folder, r"lacks model-00002-of-00002\.safetensors \(1 of the 2 files")
    (folder / "model.safetensors.index.json").unlink()
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    refused(folder, rf"has {len(whole) // 2:,} bytes, but its header says {len(whole):,}")
    page, pickle = b"<!DOCTYPE html><html>", b"\x80\x02" + bytes(40)
    for content, said in ((b"", "is empty"), (page, "is a web page"), (pickle, "is no safetensors file")):
        file.write_bytes(content)
        refused(folder, rf"model\.safetensors {said}")


@pytest.mark.parametrize(
    ("content", "said"), [("{", "cannot be read as JSON"), ("[]", "no JSON object"), ("{}", "no model_type")]
)
def test_a_configuration_that_says_nothing_is_refused(folder, content, said):
    (folder / "config.json").write_text(content)
    refused(folder, said)


def test_a_folder_without_a_tokenizer_is_refused(folder):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    refused(folder, "has no tokenizer in")


def test_values_that_the_configuration_has_no_place_for_are_refused(folder):
    """A checkpoint with biases read by a configuration without: transformers drops them and says so only in its log."""
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.0.self_attn.q_proj.bias"] = torch.ones(64)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelLoadingError, match=r"has model\.layers\.0\.self_attn\.q_proj\.bias \(1 such\), for which"):
        load_model(str(folder))


def test_a_model_without_an_end_token_is_said_before_anything_is_sampled(folder):
    for name in ("config.json", "generation_config.json"):
        edit(folder, name, eos_token_id=None)
    file = folder / "tokenizer_config.json"
    file.write_text(
        json.dumps({key: value for key, value in json.loads(file.read_text()).items() if key != "eos_token"})
    )
    with pytest.raises(ModelLoadingError, match=r"has no end token\. It would write on until it is cut"):
        check_model(str(folder))
    loaded = load_model(str(folder))  # it can be read all the same
    with pytest.raises(SamplingError, match="has no end token"):
        list(sample(loaded, {"a": [5, 6, 7]}, [SampleRequest("a", "a", 3, 1)], SamplingParameters(1.0, 1.0, 4)))


def test_a_tied_unembedding_need_not_be_in_the_file(folder):
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")
    assert load_model(str(folder), dtype="float64").vocab_size == 384
