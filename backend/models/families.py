"""Which families of models can be measured here, and how: quickly, plainly, or not at all (docs/families.md is the
table).

Quick: nothing but causal attention over the whole text mixes tokens, so that edits and rollouts share the prefix they
begin with.
Plain: transformers' own forward pass, with hooks. Any family can go this way whose blocks and logits are found
(`layers.py`) and whose earlier tokens do not see later ones. That is tried when a model is loaded (`trial.py`), before
anything is measured, not read off its name.
"""

from collections.abc import Mapping
from typing import Any

from backend.models.model_files import ModelLoadingError

QUICK = frozenset(
    {
        "arcee",
        "cohere",
        "gemma",
        "gpt2",
        "gpt_neox",
        "granite",
        "llama",
        "mistral",
        "olmo",
        "olmo2",
        "phi",
        "phi3",
        "qwen2",
        "qwen3",
        "starcoder2",
    }
)
PLAIN = frozenset(
    {
        "bamba",
        "bloom",
        "cohere2",
        "deepseek_v2",
        "deepseek_v3",
        "falcon",
        "falcon_h1",
        "falcon_mamba",
        "gemma2",
        "gemma3_text",
        "gpt_bigcode",
        "gpt_oss",
        "gptj",
        "granitemoehybrid",
        "jamba",
        "lfm2",
        "mamba",
        "mamba2",
        "minimax",
        "mixtral",
        "olmoe",
        "opt",
        "qwen2_moe",
        "qwen3_5_text",
        "qwen3_moe",
        "qwen3_next",
        "rwkv",
    }
)
REFUSED: Mapping[str, str] = {
    "recurrent_gemma": (
        "it keeps the state of a text in its blocks instead of a cache, so that texts cannot be read side by side"
    ),
}
LENGTHLESS_ROPES = frozenset({"default", "linear", "llama3", "yarn"})  # their angles do not depend on the length
_ROUNDING = 1e-3  # share of the largest logit by which two ways to compute logits may differ in float32


def check_config(name: str, config: Mapping[str, Any]) -> None:
    """Raises ModelLoadingError for a config.json whose model cannot be measured,
    by what is known without its weights."""
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    family: Any = config.get("model_type")  # whatever the file says
    if family not in CONFIG_MAPPING_NAMES:
        code = config.get("auto_map")
        own = next(iter(code.values()), None) if isinstance(code, dict) else None
        if own is not None:
            raise ModelLoadingError(
                f"{name} is of a kind ({family!r}) that needs custom code from its own folder ({own}), and code that "
                "comes with a model is never run. Only kinds that transformers itself knows are loaded."
            )
        raise ModelLoadingError(
            f"{name} is of a kind ({family!r}) that transformers {transformers.__version__} does not know."
        )
    if config.get("is_encoder_decoder") or family not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        what = ", ".join(map(str, config.get("architectures") or [])) or family
        inside = (
            " Its language model alone may be: save that in a folder of its own." if "text_config" in config else ""
        )
        raise ModelLoadingError(
            f"{name} ({what}, {family!r}) is no decoder-only language model, so it has no chain of blocks to "
            f"read.{inside}"
        )
    if family in REFUSED:
        raise ModelLoadingError(f"{name} is of the family {family}, which cannot be measured: {REFUSED[family]}.")


def shares_prefix(config: Any, n_tokens: int | None = None) -> bool:
    """Whether attention is plain causal attention over the whole of a text of `n_tokens`; None:
    however long it grows."""
    window = getattr(config, "sliding_window", None)
    attentions = getattr(config, "layer_types", None) or ["full_attention" if window is None else "sliding_attention"]
    fits = window is not None and n_tokens is not None and n_tokens <= window
    return config.model_type in QUICK and (fits or set(attentions) == {"full_attention"})


def continues_prefix(config: Any) -> bool:
    """Whether a text can be continued as far as one likes from what was read of it: besides `shares_prefix`, no
    position is turned otherwise as the text grows, and there is no other text to attend to.
    """
    rope = getattr(config, "rope_parameters", None) or {}
    return (
        shares_prefix(config)
        and rope.get("rope_type", "default") in LENGTHLESS_ROPES
        and not getattr(config, "add_cross_attention", False)
    )


def is_known(family: str) -> bool:
    """Whether models of this family were tried, so that nothing need be loaded to know what they can do."""
    return family in QUICK or family in PLAIN


def equal(found: Any, expected: Any) -> bool:
    """Whether two ways to compute the same differ by rounding at most."""
    import torch

    share = max(_ROUNDING, 8 * torch.finfo(expected.dtype).eps)
    return found.shape == expected.shape and bool((found - expected).abs().max() <= share * expected.abs().max())
