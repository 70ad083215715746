"""The shape of a model, found without its weights: from its configuration where that is on this machine, else from a
table of models that the documents are about; else it is unknown.

Parameters are counted from the shape: embedding (twice where the unembedding is its own), and in each block the
products of attention and of the MLP, their biases and norms.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend.live.available import is_here
from backend.models.loading import find_weights, is_hub_id
from backend.models.model_files import read_json, weight_files
from precompute.study import Model

_GATED = {"llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi3", "olmo2"}
_PLAIN = {"gpt2", "gpt_neox", "opt", "phi"}  # an MLP of two products


@dataclass(frozen=True)
class Shape:
    """Of a model. `source` says where it is from, in words."""

    parameters: int
    d_model: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    d_mlp: int
    vocab_size: int
    source: str

    @property
    def kept_a_token(self) -> int:
        """Numbers that a token's keys and values are, over all layers."""
        return 2 * self.n_layers * self.n_kv_heads * self.head_dim


def shape_of(model: Model) -> Shape | None:
    """None where it is not known: a model of a hub without a configuration here that the table has not either, and a
    configuration of a family whose parameters are not counted so.
    """
    if model.name.startswith("embedded:") or not is_hub_id(model.name):
        return _of_weights(model) if is_here(model.name, model.revision) else None
    if is_here(model.name, model.revision):
        return _of_weights(model)
    return _of_cache(model) or known(model.name)


def known(name: str) -> Shape | None:
    """Of a model of the table, by its hub id."""
    config = _KNOWN.get(name)
    return None if config is None else from_config(config, f"config.json of {name}, from a table")


def from_config(config: Mapping[str, Any], source: str, parameters: int | None = None) -> Shape | None:
    """The shape that a configuration says; its `parameters` where they are known otherwise."""
    text = config.get("text_config") or config  # of a model that also sees: its language model

    def number(*names: str) -> int | None:
        return next((value for name in names if isinstance(value := text.get(name), int) and value > 0), None)

    width, layers = number("hidden_size", "n_embd"), number("num_hidden_layers", "n_layer")
    heads, vocabulary = number("num_attention_heads", "n_head"), number("vocab_size")
    if width is None or layers is None or heads is None or vocabulary is None:
        return None
    mlp = number("intermediate_size", "n_inner") or 4 * width
    kv, head = number("num_key_value_heads") or heads, number("head_dim") or width // heads
    counted = _counted(text, width, layers, heads, kv, head, mlp, vocabulary) if parameters is None else parameters
    return None if counted is None else Shape(counted, width, layers, heads, kv, head, mlp, vocabulary, source)


def _counted(
    text: Mapping[str, Any], width: int, layers: int, heads: int, kv: int, head: int, mlp: int, vocabulary: int
) -> int | None:
    family = text.get("model_type")
    if family not in _GATED | _PLAIN or any("expert" in key and value for key, value in text.items()):
        return None
    tied = text.get("tie_word_embeddings", family.startswith(("gemma", "gpt2")))
    attention = 2 * width * heads * head + 2 * width * kv * head
    block = attention + (3 if family in _GATED else 2) * width * mlp + 2 * width
    block += {
        "qwen2": (heads + 2 * kv) * head,  # biases of queries, keys and values
        "qwen3": 2 * head,  # norms of queries and keys
        "gemma2": 2 * width,  # norms after attention and MLP too
        "gemma3_text": 2 * width + 2 * head,
    }.get(family, 0)
    positions = 0
    if family in _PLAIN:  # a bias of every product, and of every norm
        block += 4 * width + mlp + width + 2 * width
        positions = text.get("n_positions", 0) * width if family == "gpt2" else 0
    last = 2 * width if family in _PLAIN else width
    return vocabulary * width * (1 if tied else 2) + layers * block + positions + last


def _of_weights(model: Model) -> Shape | None:
    weights = find_weights(model.name, model.revision)
    folder = (weights.base or weights).folder
    config = read_json(folder, "config.json")
    text = config.get("text_config") or config
    kept = str(text.get("dtype") or text.get("torch_dtype") or config.get("dtype") or config.get("torch_dtype"))
    size = sum(file.stat().st_size for file in weight_files(folder))
    return from_config(config, "its files", size // {"float64": 8, "float32": 4}.get(kept, 2))


def _of_cache(model: Model) -> Shape | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(model.name, "config.json", revision=model.revision)
    if not isinstance(found, str):
        return None
    return from_config(read_json(Path(found).parent, "config.json"), "its configuration in the hub's cache")


def _config(
    family: str, width: int, layers: int, heads: int, kv: int, head: int, mlp: int, vocabulary: int, tied: bool
) -> dict[str, Any]:
    return {
        "model_type": family,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "head_dim": head,
        "intermediate_size": mlp,
        "vocab_size": vocabulary,
        "tie_word_embeddings": tied,
    }


_QWEN_1_5B = ("qwen2", 1536, 28, 12, 2, 128, 8960, 151_936)
_QWEN_7B = ("qwen2", 3584, 28, 28, 4, 128, 18_944, 152_064)
_QWEN_14B = ("qwen2", 5120, 48, 40, 8, 128, 13_824, 152_064)
_LLAMA_1B = ("llama", 2048, 16, 32, 8, 64, 8192, 128_256)
_LLAMA_8B = ("llama", 4096, 32, 32, 8, 128, 14_336, 128_256)
_GEMMA_2B = ("gemma2", 2304, 26, 8, 4, 256, 9216, 256_000)
_GEMMA_9B = ("gemma2", 3584, 42, 16, 8, 256, 14_336, 256_000)
# What config.json of each repository of huggingface.co says, as of 2025.
_KNOWN: dict[str, dict[str, Any]] = {
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B": _config(*_QWEN_1_5B, False),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": _config(*_QWEN_7B, False),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B": _config(*_QWEN_14B, False),
    "deepseek-ai/DeepSeek-R1-Distill-Llama-8B": _config(*_LLAMA_8B, False),
    "Qwen/Qwen2.5-1.5B": _config(*_QWEN_1_5B, True),
    "Qwen/Qwen2.5-Math-1.5B": _config(*_QWEN_1_5B, True),
    "Qwen/Qwen2.5-Math-1.5B-Instruct": _config(*_QWEN_1_5B, True),
    "Qwen/Qwen2.5-7B": _config(*_QWEN_7B, False),
    "Qwen/Qwen2.5-Math-7B": _config(*_QWEN_7B, False),
    "Qwen/Qwen2.5-14B": _config(*_QWEN_14B, False),
    "meta-llama/Llama-3.1-8B": _config(*_LLAMA_8B, False),
    "meta-llama/Llama-3.1-8B-Instruct": _config(*_LLAMA_8B, False),
    "meta-llama/Llama-3.2-1B": _config(*_LLAMA_1B, True),
    "meta-llama/Llama-3.2-1B-Instruct": _config(*_LLAMA_1B, True),
    "Qwen/Qwen3-0.6B": _config("qwen3", 1024, 28, 16, 8, 128, 3072, 151_936, True),
    "Qwen/Qwen3-1.7B": _config("qwen3", 2048, 28, 16, 8, 128, 6144, 151_936, True),
    "Qwen/Qwen3-8B": _config("qwen3", 4096, 36, 32, 8, 128, 12_288, 151_936, False),
    "google/gemma-2-2b": _config(*_GEMMA_2B, True),
    "google/gemma-2-2b-it": _config(*_GEMMA_2B, True),
    "google/gemma-2-9b": _config(*_GEMMA_9B, True),
    "google/gemma-2-9b-it": _config(*_GEMMA_9B, True),
    "openai-community/gpt2": {**_config("gpt2", 768, 12, 12, 12, 64, 3072, 50_257, True), "n_positions": 1024},
    "HuggingFaceTB/SmolLM2-135M-Instruct": _config("llama", 576, 30, 9, 3, 64, 1536, 49_152, True),
}
_KNOWN["gpt2"] = _KNOWN["openai-community/gpt2"]
