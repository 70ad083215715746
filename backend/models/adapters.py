"""Adapters in peft's layout, merged into the weights of their base model: whatever is measured is one model without
wrappers.

Ours (`merge`) is written to a folder once. The merged weight is W + (alpha / r) · B · A (Hu et al. 2021), computed in
float64 and rounded to float32 once. An adapter in float16 has products that float64 holds exactly, so the merged
weights, and with them the model's id, are the same on every machine. Other people's (`merged`) are merged by peft
itself when they are loaded, of any kind that it can write into weights (LoRA in its variants, IA3, …); that it did is
checked against the wrapped model's own logits. Their identity is their base's and their own.
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from backend.errors import AnchorscopeError
from backend.models.model_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, one_line, read_json

CONFIG, WEIGHTS = ADAPTER_CONFIG, ADAPTER_WEIGHTS
TEMPLATE = "chat_template.jinja"
_PREFIX = "base_model.model."
_PLAIN = {  # what merging is written for; peft's other variants need other formulas
    "peft_type": "LORA",
    "bias": "none",
    "use_dora": False,
    "use_rslora": False,
    "fan_in_fan_out": False,
    "modules_to_save": None,
    "rank_pattern": {},
    "alpha_pattern": {},
}


_BESIDE_THE_WEIGHTS = {
    "base_model_name_or_path",
    "revision",
    "inference_mode",
    "peft_version",
    "auto_mapping",
}  # change nothing learned
_DRAWN = (
    "pissa_niter",
    "corda",
    "eva",
    "loftq",
    "lora_ga",
)  # initialisations that also move the base's weights, not the same each time
_MERGED = 1e-3  # share of the largest logit by which the merged model's may differ from the wrapped one's, by rounding


class AdapterError(AnchorscopeError):
    """An adapter that does not fit its base model, or is of a kind that is not merged here."""


def base_of(adapter: Path) -> tuple[str, str | None]:
    """Name and revision of the model that the adapter was trained on.

    Raises AdapterError for one that cannot be written into weights.
    """
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
    from peft.tuners.tuners_utils import BaseTuner

    config = read_json(adapter, CONFIG)
    method, drawn = str(config.get("peft_type")).upper(), config.get("init_lora_weights")
    tuner = next((tuner for known, tuner in PEFT_TYPE_TO_TUNER_MAPPING.items() if known.value == method), None)
    if tuner is None:
        raise AdapterError(
            f"{adapter / CONFIG}: peft_type is {config.get('peft_type')!r}, which the installed peft does not know."
        )
    if not issubclass(tuner, BaseTuner):
        raise AdapterError(
            f"{adapter} is an adapter of kind {method}, which adds tokens or parts to the model's pass and cannot be"
            " merged into its weights. Only merged adapters are measured."
        )
    if isinstance(drawn, str) and drawn.lower().startswith(_DRAWN):
        raise AdapterError(
            f"{adapter}: init_lora_weights = {drawn!r} also moved the weights of its base model, which cannot be done"
            " again exactly. Save the adapter converted to plain LoRA (peft's"
            " path_initial_model_for_weight_conversion)."
        )
    base = config.get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise AdapterError(f"{adapter / CONFIG} names no base model (base_model_name_or_path).")
    return base, config.get("revision") or None


def sha256_of_config(adapter: Path) -> str:
    """Of all that the configuration says of what was learned: the scale is there, not among the weights."""
    learned = {key: value for key, value in read_json(adapter, CONFIG).items() if key not in _BESIDE_THE_WEIGHTS}
    return hashlib.sha256(json.dumps(learned, sort_keys=True).encode()).hexdigest()


def merged(model: Any, adapter: Path) -> Any:
    """`model` with the adapter in its weights, and nothing of peft left.

    Raises AdapterError where that is not the adapter's model.
    """
    import warnings

    import torch
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import safe_open

    with safe_open(adapter / WEIGHTS, "pt") as learned:
        names = set(learned.keys())
        _fit_vocabulary(model, {name: learned.get_slice(name).get_shape() for name in names})
    probe, own = torch.arange(1, 9)[None], set(model.state_dict())
    with warnings.catch_warnings(record=True) as said, torch.inference_mode(False), torch.no_grad():
        warnings.simplefilter("always")
        try:
            wrapped = PeftModel.from_pretrained(model, adapter, local_files_only=True).eval()
            known = set(get_peft_model_state_dict(wrapped, save_embedding_layers=False))
            expected = wrapped(input_ids=probe).logits
            whole = wrapped.merge_and_unload(safe_merge=True)
        except (
            Exception
        ) as error:  # an adapter that does not fit makes peft raise errors of many kinds, all about this adapter
            raise AdapterError(f"{adapter} cannot be merged into its base model: {one_line(error)}") from error
        found = whole(input_ids=probe).logits
    if missing := [str(warning.message) for warning in said if "missing adapter keys" in str(warning.message)]:
        raise AdapterError(f"{adapter / WEIGHTS} lacks weights that {CONFIG} speaks of: {missing[0][:200]}")
    if foreign := sorted(name for name in names - known if _whole(name) not in own):
        raise AdapterError(
            f"{adapter / WEIGHTS}: {foreign[0]} has no counterpart in the base model ({len(foreign)} such). Is it"
            " another model's adapter?"
        )
    left = [name for name, part in whole.named_modules() if type(part).__module__.startswith("peft.")]
    if left or not (found - expected).abs().max() <= _MERGED * expected.abs().max():
        raise AdapterError(
            f"{adapter} cannot be written into the weights of its base model: merged, the model would predict something"
            " else."
        )
    if hasattr(whole, "peft_config"):
        del whole.peft_config
    return whole


def _fit_vocabulary(model: Any, shapes: dict[str, list[int]]) -> None:
    """Gives the model as many tokens as an adapter's own embedding has,
    where tokens were added to it before training."""
    (embedding,) = [name for name, part in model.named_modules() if part is model.get_input_embeddings()]
    rows = {shape[0] for name, shape in shapes.items() if _whole(name) == f"{embedding}.weight"}
    if len(rows) == 1 and (n := rows.pop()) != model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(n, mean_resizing=False)


def _whole(name: str) -> str:
    """The base model's own name of a weight that an adapter's file may hold a whole copy of: one of another size, or
    learned as it is.
    """
    for part in (".base_layer", ".modules_to_save", ".original_module"):
        name = name.replace(part, "")
    return name.removeprefix(_PREFIX)


def merge(base: Path, adapter: Path, out: Path) -> None:
    """Writes the merged model to the folder `out`: weights, configuration, and the tokenizer with the adapter's chat
    template.

    `base` has one model.safetensors in float32. Raises AdapterError for an adapter of another kind, and for weights
    without a counterpart of their shape.
    """
    import torch
    from safetensors.torch import load_file, save_file
    from transformers import AutoTokenizer

    config = _config(adapter)
    weights, learned = load_file(base / "model.safetensors"), load_file(adapter / WEIGHTS)
    scale = config["lora_alpha"] / config["r"]
    for key in sorted(key for key in learned if key.endswith(".lora_A.weight")):
        name = key.removeprefix(_PREFIX).removesuffix(".lora_A.weight") + ".weight"
        down, up = (
            learned.pop(part).to(torch.float64)
            for part in (key, key.replace(".lora_A.", ".lora_B."))
            if part in learned
        )
        if name not in weights or weights[name].shape != (up.shape[0], down.shape[1]):
            raise AdapterError(
                f"{adapter / WEIGHTS}: {key} has no weight {name} of its shape in {base}. Is it another model's"
                " adapter?"
            )
        weights[name] = (weights[name].to(torch.float64) + scale * (up @ down)).to(torch.float32).contiguous()
    if learned:
        raise AdapterError(
            f"{adapter / WEIGHTS}: {min(learned)} is no LoRA weight of a linear layer ({len(learned)} such)."
        )
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    for name in ("config.json", "generation_config.json"):
        if (base / name).is_file():
            shutil.copyfile(base / name, out / name)
    tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True)
    tokenizer.chat_template = (adapter / TEMPLATE).read_text(encoding="utf-8")
    tokenizer.save_pretrained(out)


def save(wrapped: Any, tokenizer: Any, base: str, folder: Path) -> None:
    """Writes a trained peft model's adapter to `folder`, in float16, with the tokenizer's chat template.

    `base` names its base model.
    """
    import torch
    from safetensors.torch import load_file, save_file

    folder.mkdir(parents=True, exist_ok=True)
    wrapped.peft_config["default"].base_model_name_or_path = base
    wrapped.save_pretrained(folder, safe_serialization=True, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # peft's form of a model card, not filled in
    halves = {name: weight.to(torch.float16) for name, weight in load_file(folder / WEIGHTS).items()}
    if broken := [name for name, weight in halves.items() if not torch.isfinite(weight).all()]:
        raise AdapterError(
            f"{folder / WEIGHTS}: {broken[0]} has values that float16 cannot hold. Train with a smaller learning rate."
        )
    save_file(halves, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / WEIGHTS).chmod(0o644)
    (folder / TEMPLATE).write_text(tokenizer.chat_template, encoding="utf-8")


def _config(adapter: Path) -> dict[str, Any]:
    try:
        config = json.loads((adapter / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AdapterError(
            f"{adapter / CONFIG} cannot be read ({error}); expected peft's configuration of a LoRA adapter."
        ) from error
    for key, expected in _PLAIN.items():
        if (config.get(key) or expected) != expected:
            raise AdapterError(f"{adapter / CONFIG}: {key} is {config[key]!r}, and only {expected!r} is merged here.")
    return config
