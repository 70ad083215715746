"""Which families of models can be measured here, and how: quickly, plainly, or not at all (docs/families.md is the
table).

Quick: nothing but causal attention over the whole text mixes tokens, so that edits and rollouts share the prefix they
begin with.
Plain: transformers' own forward pass, with hooks. Any family can go this way whose blocks and logits are found
(`layers.py`) and whose earlier tokens do not see later ones. That is tried when a model is loaded, before anything is
measured, not read off its name.
"""

from collections.abc import Mapping
from typing import Any

from backend.errors import AnchorscopeError
from backend.models.model_files import ModelLoadingError, one_line

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
_SHOWN = 8  # tokens of the passes that are compared
_ROUNDING = 1e-3  # share of the largest logit by which two ways to compute logits may differ in float32


def check_config(name: str, config: Mapping[str, Any]) -> None:
    """Raises ModelLoadingError for a config.json whose model cannot be measured,
    by what is known without its weights."""
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    family = config.get("model_type")
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
    kinds = getattr(config, "layer_types", None) or ["full_attention" if window is None else "sliding_attention"]
    fits = window is not None and n_tokens is not None and n_tokens <= window
    return config.model_type in QUICK and (fits or set(kinds) == {"full_attention"})


def is_known(family: str) -> bool:
    """Whether models of this family were tried, so that nothing need be loaded to know what they can do."""
    return family in QUICK or family in PLAIN


def check(name: str, model: Any) -> None:
    """Raises ModelLoadingError where a loaded model's own forward pass cannot be taken apart as every measurement here
    does.

    Of a family that is not known its cache and its derivatives are tried too, so that nothing fails in the middle of a
    study.
    """
    whose = f"{name} (family {model.config.model_type}) cannot be measured"
    try:
        reason = _apart(model) or (None if is_known(model.config.get_text_config().model_type) else _untried(model))
    except AnchorscopeError as error:
        raise ModelLoadingError(f"{whose}: {error}") from error
    except Exception as error:  # whatever a family makes of a plain pass is the reason why it cannot be measured
        raise ModelLoadingError(f"{whose}: a pass over {_SHOWN} tokens fails ({one_line(error)}).") from error
    if reason is not None:
        raise ModelLoadingError(f"{whose}: {reason}.")


def _apart(model: Any) -> str | None:
    """Why logits do not follow from the last block's output, or earlier ones depend on later tokens; None where all is
    well.
    """
    import torch

    from backend.models.layers import layers_of, private_copy
    from backend.models.residuals import recording

    own = private_copy(model)
    parts = layers_of(own)
    tokens, last = _tokens(model), len(parts.blocks) - 1
    later = tokens.clone()
    later[:, -1] += 1
    with torch.inference_mode():
        with recording(parts.blocks, [last]) as residuals:
            logits = own(input_ids=tokens, use_cache=False).logits
        if not equal(parts.unembed(parts.final_norm(residuals[last])), logits):
            return (
                "its logits are not those of its last block's output, so they do not follow from an edited residual"
                " stream"
            )
        if not equal(own(input_ids=later, use_cache=False).logits[:, :-1], logits[:, :-1]):
            return "its predictions depend on later tokens, so it is no causal language model"
    return None


def _untried(model: Any) -> str | None:
    """Why the plain way fails a family that nobody tried; None where it does not."""
    from types import SimpleNamespace

    import torch

    from backend.models.edits import encode
    from backend.models.sampling import PlainRows
    from backend.models.tangents import UpperLayers

    tokens = _tokens(model)[0].tolist()
    loaded = SimpleNamespace(model=model)
    with torch.inference_mode():
        whole = model(input_ids=torch.tensor([tokens], device=model.device), use_cache=False).logits[0]
    rows = PlainRows(loaded, tokens[:-1], [()])
    rows.logits(tokens[-2:-1])
    rows.repeat(2)
    if not equal(rows.logits(tokens[-1:] * 2), whole[-1:].expand(2, -1)):
        return "with its cache it continues a text otherwise than it reads it as a whole"
    upper = UpperLayers(encode(loaded, tokens, layers=[0]), 0, first=2, end=4)
    step = torch.ones(1, 2, model.config.get_text_config().hidden_size, dtype=model.dtype, device=model.device)
    try:
        upper.pull(upper.push(step))
    except RuntimeError as error:
        return f"torch cannot differentiate its blocks, as exact geometry does ({one_line(error)})"
    return None


def _tokens(model: Any) -> Any:
    import torch

    return torch.arange(1, _SHOWN + 1, device=model.device)[None]


def equal(found: Any, expected: Any) -> bool:
    """Whether two ways to compute the same differ by rounding at most."""
    import torch

    share = max(_ROUNDING, 8 * torch.finfo(expected.dtype).eps)
    return found.shape == expected.shape and bool((found - expected).abs().max() <= share * expected.abs().max())
