"""LoRA adapters in peft's layout, merged into the weights of their base model.

The merged weight is W + (alpha / r) · B · A (Hu et al. 2021), computed in float64 and rounded to float32 once. An adapter in float16 has
products that float64 holds exactly, so the merged weights, and with them the model's id, are the same on every machine.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from backend.errors import AnchorscopeError

WEIGHTS, CONFIG, TEMPLATE = "adapter_model.safetensors", "adapter_config.json", "chat_template.jinja"
_PREFIX = "base_model.model."
_PLAIN = {  # what merging is written for; peft's other variants need other formulas
    "peft_type": "LORA", "bias": "none", "use_dora": False, "use_rslora": False, "fan_in_fan_out": False, "modules_to_save": None,
    "rank_pattern": {}, "alpha_pattern": {},
}  # fmt: skip


class AdapterError(AnchorscopeError):
    """An adapter that does not fit its base model, or is of a kind that is not merged here."""


def merge(base: Path, adapter: Path, out: Path) -> None:
    """Writes the merged model to the folder `out`: weights, configuration, and the tokenizer with the adapter's chat template.

    `base` has one model.safetensors in float32. Raises AdapterError for an adapter of another kind, and for weights without a
    counterpart of their shape.
    """
    import torch
    from safetensors.torch import load_file, save_file
    from transformers import AutoTokenizer

    config = _config(adapter)
    weights, learned = load_file(base / "model.safetensors"), load_file(adapter / WEIGHTS)
    scale = config["lora_alpha"] / config["r"]
    for key in sorted(key for key in learned if key.endswith(".lora_A.weight")):
        name = key.removeprefix(_PREFIX).removesuffix(".lora_A.weight") + ".weight"
        down, up = (learned.pop(part).to(torch.float64) for part in (key, key.replace(".lora_A.", ".lora_B.")) if part in learned)
        if name not in weights or weights[name].shape != (up.shape[0], down.shape[1]):
            raise AdapterError(f"{adapter / WEIGHTS}: {key} has no weight {name} of its shape in {base}. Is it another model's adapter?")
        weights[name] = (weights[name].to(torch.float64) + scale * (up @ down)).to(torch.float32).contiguous()
    if learned:
        raise AdapterError(f"{adapter / WEIGHTS}: {min(learned)} is no LoRA weight of a linear layer ({len(learned)} such).")
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    for name in ("config.json", "generation_config.json"):
        if (base / name).is_file():
            shutil.copyfile(base / name, out / name)
    tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True)
    tokenizer.chat_template = (adapter / TEMPLATE).read_text(encoding="utf-8")
    tokenizer.save_pretrained(out)


def save(wrapped: Any, tokenizer: Any, base: str, folder: Path) -> None:
    """Writes a trained peft model's adapter to `folder`, in float16, with the tokenizer's chat template. `base` names its base model."""
    import torch
    from safetensors.torch import load_file, save_file

    folder.mkdir(parents=True, exist_ok=True)
    wrapped.peft_config["default"].base_model_name_or_path = base
    wrapped.save_pretrained(folder, safe_serialization=True, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # peft's form of a model card, not filled in
    halves = {name: weight.to(torch.float16) for name, weight in load_file(folder / WEIGHTS).items()}
    if broken := [name for name, weight in halves.items() if not torch.isfinite(weight).all()]:
        raise AdapterError(f"{folder / WEIGHTS}: {broken[0]} has values that float16 cannot hold. Train with a smaller learning rate.")
    save_file(halves, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / WEIGHTS).chmod(0o644)
    (folder / TEMPLATE).write_text(tokenizer.chat_template, encoding="utf-8")


def _config(adapter: Path) -> dict[str, Any]:
    try:
        config = json.loads((adapter / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AdapterError(f"{adapter / CONFIG} cannot be read ({error}); expected peft's configuration of a LoRA adapter.") from error
    for key, expected in _PLAIN.items():
        if (config.get(key) or expected) != expected:
            raise AdapterError(f"{adapter / CONFIG}: {key} is {config[key]!r}, and only {expected!r} is merged here.")
    return config
