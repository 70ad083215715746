"""Merging an adapter is what peft computes, gives the same bits again, and refuses what it is not written for.

Other people's adapters are written here by peft itself, of tiny models.
"""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from backend.models import adapters
from backend.models.adapters import AdapterError
from backend.models.finetune import adapted, learned_state
from backend.models.loading import ModelLoadingError, check_model, identify_model, load_model, weights_sha256


@pytest.fixture(scope="module")
def trained(tiny_folder, tmp_path_factory):
    """The folder of an adapter of random weights on a tiny model, as training saves it."""
    loaded, folder = load_model(str(tiny_folder("llama"))), tmp_path_factory.mktemp("trained") / "adapter"
    wrapped = adapted(loaded.model, rank=4, alpha=12, layers=[1], seed=3)
    torch.manual_seed(5)
    for parameter in learned_state(wrapped).values():
        parameter.data.normal_(std=0.1)
    loaded.tokenizer.chat_template = "a template with </think>"
    adapters.save(wrapped, loaded.tokenizer, "embedded:base", folder)
    return folder


@pytest.fixture
def pair(tiny_folder, trained, tmp_path):
    """(base folder, adapter folder)"""
    return tiny_folder("llama"), shutil.copytree(trained, tmp_path / "adapter")


def merged(pair, folder):
    folder.mkdir()
    adapters.merge(*pair, folder)
    return folder


def test_merging_is_what_peft_computes(pair, tmp_path):
    from peft import PeftModel

    ours = load_model(str(merged(pair, tmp_path / "merged")))
    base = load_model(str(pair[0]))
    theirs = PeftModel.from_pretrained(base.model, pair[1]).merge_and_unload().state_dict()
    assert any(
        not torch.equal(weight, load_file(pair[0] / "model.safetensors")[key])
        for key, weight in ours.model.named_parameters()
        if key in load_file(pair[0] / "model.safetensors")
    )
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
    save_file(
        {key.replace("layers.1.", "layers.9."): weight for key, weight in weights.items()}, adapter / adapters.WEIGHTS
    )
    with pytest.raises(AdapterError, match=r"layers\.9\..*another model's adapter"):
        merged(pair, tmp_path / "two")


PROBE = torch.tensor([[5, 17, 99, 3, 250, 31, 8]])


def saved(config, base, folder, change=lambda model: None):
    """peft's own folder of an adapter with random weights, and the logits of the model that wears it."""
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(2)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    change(model)
    wrapped = get_peft_model(model, config).eval()
    for parameter in wrapped.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn(parameter.shape)
    wrapped.save_pretrained(folder)
    with torch.no_grad():
        return wrapped(input_ids=PROBE).logits


def kinds():
    import peft

    common = {"target_modules": ["q_proj", "down_proj"], "task_type": "CAUSAL_LM"}
    return {
        "lora": peft.LoraConfig(r=4, **common),
        "dora": peft.LoraConfig(r=4, use_dora=True, **common),
        "rslora, biased": peft.LoraConfig(r=4, use_rslora=True, rank_pattern={"q_proj": 2}, **common),
        "with a new head": peft.LoraConfig(r=4, modules_to_save=["lm_head"], **common),
        "ia3": peft.IA3Config(feedforward_modules=["down_proj"], **common),
        "loha": peft.LoHaConfig(r=4, **common),
        "oft": peft.OFTConfig(r=0, oft_block_size=4, **common),
        "norms": peft.LNTuningConfig(task_type="CAUSAL_LM", target_modules=["input_layernorm"]),
    }


@pytest.mark.parametrize("kind", ["lora", "dora", "rslora, biased", "with a new head", "ia3", "loha", "oft", "norms"])
def test_an_adapter_folder_loads_as_the_model_that_wears_it_without_a_wrapper(tiny_folder, tmp_path, kind):
    base = tiny_folder("qwen2")
    expected = saved(kinds()[kind], base, tmp_path / "adapter")
    loaded = load_model(str(tmp_path / "adapter"))
    with torch.no_grad():
        found = loaded.model(input_ids=PROBE).logits
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()
    assert (found - load_model(str(base)).model(input_ids=PROBE).logits).abs().max() > 1e-2 * expected.abs().max()
    assert not any("peft" in type(part).__module__ for part in loaded.model.modules())
    assert len(loaded.tokenizer) == len(load_model(str(base)).tokenizer)  # its base's: the adapter's folder has none


def test_base_and_adapter_together_are_the_identity(tiny_folder, tmp_path):
    folder = tmp_path / "adapter"
    base = shutil.copytree(tiny_folder("llama"), tmp_path / "base")
    saved(kinds()["lora"], base, folder)
    first = load_model(str(folder))
    own, learned = first.revision.split("+")
    assert own == weights_sha256(base) and learned.startswith(weights_sha256(folder))
    assert identify_model(str(folder)) == first.model_id
    config = json.loads((folder / adapters.CONFIG).read_text())
    (folder / adapters.CONFIG).write_text(json.dumps(config | {"lora_alpha": 2 * config["lora_alpha"]}))
    assert identify_model(str(folder)) != first.model_id  # the scale stands in the configuration alone
    (folder / adapters.CONFIG).write_text(json.dumps(config))
    weights = load_file(base / "model.safetensors")
    weights["model.norm.weight"] *= 2
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    assert identify_model(str(folder)) != first.model_id


def test_a_base_that_is_not_there_is_named(tiny_folder, tmp_path, monkeypatch):
    base = shutil.copytree(tiny_folder("llama"), tmp_path / "base")
    saved(kinds()["lora"], base, tmp_path / "adapter")
    base.rename(tmp_path / "moved")
    for check in (load_model, identify_model, check_model):
        with pytest.raises(
            ModelLoadingError, match=r"adapter of the model '.*/base' \(adapter_config.json: base_model_name_or_path\)"
        ):
            check(str(tmp_path / "adapter"))
    file = tmp_path / "adapter" / adapters.CONFIG
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name, said in (
        ("nobody/nothing-here", "could not be reached"),
        (None, "names no base"),
        (str(tmp_path / "adapter"), "itself"),
    ):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": name}))
        with pytest.raises((AdapterError, ModelLoadingError), match=said):
            check_model(str(tmp_path / "adapter"))


def test_an_adapter_beside_a_models_own_weights_is_refused_because_it_may_be_in_them(tiny_folder, tmp_path):
    base = tiny_folder("llama")
    saved(kinds()["lora"], base, tmp_path / "adapter")
    both = shutil.copytree(base, tmp_path / "both")
    for name in (adapters.CONFIG, adapters.WEIGHTS):
        shutil.copy(tmp_path / "adapter" / name, both)
    for check in (load_model, check_model):
        with pytest.raises(
            ModelLoadingError, match=r"own weights \(model.safetensors\) and an adapter beside them .* delete"
        ):
            check(str(both))


def test_an_adapter_that_cannot_be_merged_is_refused_before_anything_is_loaded(tiny_folder, tmp_path):
    from peft import PromptTuningConfig

    saved(PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM"), tiny_folder("llama"), tmp_path / "prompt")
    with pytest.raises(AdapterError, match="kind PROMPT_TUNING, which adds tokens"):
        check_model(str(tmp_path / "prompt"))
    saved(kinds()["lora"], tiny_folder("llama"), tmp_path / "adapter")
    file = tmp_path / "adapter" / adapters.CONFIG
    file.write_text(json.dumps(json.loads(file.read_text()) | {"init_lora_weights": "pissa_niter_16"}))
    with pytest.raises(AdapterError, match="also moved the weights of its base model"):
        check_model(str(tmp_path / "adapter"))


@pytest.mark.parametrize("change", ["lacks", "foreign", "shape"])
def test_an_adapter_that_does_not_fit_its_base_is_refused(tiny_folder, tmp_path, change):
    saved(kinds()["lora"], tiny_folder("llama"), tmp_path / "adapter")
    file = tmp_path / "adapter" / adapters.WEIGHTS
    weights = load_file(file)
    name = min(weights)
    match change:
        case "lacks":
            del weights[name]
        case "foreign":
            weights[name.replace("layers.0", "layers.40")] = weights[name].clone()
        case "shape":
            weights[name] = weights[name][:, :-1].contiguous()
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(
        AdapterError, match={"lacks": "lacks weights", "foreign": "layers.40", "shape": "cannot be merged"}[change]
    ):
        load_model(str(tmp_path / "adapter"))


def test_tokens_that_were_added_before_training_are_added_to_the_base(tiny_folder, tmp_path):
    import peft

    config = peft.LoraConfig(
        r=4, target_modules=["q_proj"], modules_to_save=["embed_tokens", "lm_head"], task_type="CAUSAL_LM"
    )
    grown = lambda model: model.resize_token_embeddings(400)  # noqa: E731
    expected = saved(config, tiny_folder("qwen2"), tmp_path / "adapter", grown)
    loaded = load_model(str(tmp_path / "adapter"))
    assert loaded.vocab_size == 400
    assert (loaded.model(input_ids=PROBE).logits - expected).abs().max() < 1e-4 * expected.abs().max()
