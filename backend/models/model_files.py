"""What the files of a model's folder are, said in words before anything is loaded from them.

Folders come as other people published, copied or half downloaded them: quantised, as pointers of Git LFS, with a shard
missing. transformers answers each with an error of its own kind, or not at all. Here every file is looked at (a few
bytes of each), and what cannot be used is refused in a sentence that says what it is and what to do.
"""

import json
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from backend.errors import AnchorscopeError, stands_for_another

ADAPTER_WEIGHTS, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"
_TOKENIZERS = (
    "tokenizer.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "vocab.json",
    "vocab.txt",
    "tekken.json",
)
_LOOKED_AT = (
    "*.safetensors",
    "*.index.json",
    "*config.json",
    "tokenizer*.json",
    "vocab.*",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "*.model",
    "*.jinja",
)
_NOTES = {
    "quantize_config.json": "gptq",
    "quant_config.json": "awq",
    "hf_quant_config.json": "modelopt",
}  # beside the weights
_OTHER_WEIGHTS = {
    ".gguf": "a GGUF file",
    ".bin": "pickled weights",
    ".pt": "pickled weights",
    ".pth": "pickled weights",
    ".ckpt": "pickled weights",
    ".h5": "TensorFlow weights",
    ".msgpack": "Flax weights",
    ".onnx": "an ONNX graph",
}
_FLOATS = ("F64", "F32", "F16", "BF16")
_HEADER = 100_000_000  # bytes of a safetensors header, at most


class ModelLoadingError(AnchorscopeError):
    """No model by this name, or one whose weights cannot be trusted."""


class DamagedFiles(ModelLoadingError):
    """Files that are not those that were published; fetched again they may be."""


def is_adapter(folder: Path) -> bool:
    """Whether the folder holds an adapter alone. Raises ModelLoadingError where the model's weights lie beside it."""
    if not (folder / ADAPTER_CONFIG).is_file():
        return False
    beside = [file.name for file in weight_files(folder) if file.name != ADAPTER_WEIGHTS]
    beside += [file.name for file in folder.glob("pytorch_model*.bin")]
    if beside:
        raise ModelLoadingError(
            f"{folder} has a model's own weights ({sorted(beside)[0]}) and an adapter beside them ({ADAPTER_CONFIG}), "
            "and nothing says whether the weights hold the adapter already. If they do (a merged model), delete "
            f"{ADAPTER_CONFIG} and {ADAPTER_WEIGHTS}; if not, move the two to a folder of their own and name that one."
        )
    if not (folder / ADAPTER_WEIGHTS).is_file():
        there = (
            " (pickled ones are not loaded: save the adapter again with peft)"
            if (folder / "adapter_model.bin").is_file()
            else ""
        )
        raise ModelLoadingError(f"{folder} has an {ADAPTER_CONFIG}, but no {ADAPTER_WEIGHTS}{there}.")
    return True


def weight_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def check_files(folder: Path) -> None:
    """Raises ModelLoadingError where a file of the folder is not what its name says, is missing, or holds quantised
    weights.
    """
    for pattern in _LOOKED_AT:
        for file in folder.glob(pattern):
            refuse_placeholder(file)
    adapter = is_adapter(folder)
    if not adapter:
        config = read_json(folder, "config.json")
        if method := _quantised(folder, config):
            raise ModelLoadingError(
                f"{folder} holds weights quantised by {method}, whose rounding would be measured as the model's "
                "geometry. Name the model they were made from, in float32, float16 or bfloat16."
            )
        if not config.get("model_type"):
            raise ModelLoadingError(f"{folder / 'config.json'} has no model_type, so nothing says which model this is.")
    if not weight_files(folder):
        raise ModelLoadingError(no_weights(folder, _names(folder)))
    for index in folder.glob("*.safetensors.index.json"):
        shards = set(map(str, read_json(folder, index.name).get("weight_map", {}).values()))
        if missing := sorted(shard for shard in shards if not (folder / shard).is_file()):
            raise DamagedFiles(
                f"{folder} lacks {missing[0]} ({len(missing)} of the {len(shards)} files of weights that {index.name} "
                "lists). Download them again."
            )
    for file in weight_files(folder):
        check_weights(file)


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """A JSON object in the folder. Raises ModelLoadingError where there is none."""
    file = folder / name
    if not file.is_file():
        raise ModelLoadingError(_no_config(folder) if name == "config.json" else f"{folder} has no {name}.")
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedFiles(f"{file} cannot be read as JSON ({one_line(error)}). Download it again.") from error
    if not isinstance(found, dict):
        raise ModelLoadingError(f"{file} is no JSON object, so it describes no model.")
    return found


def has_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _TOKENIZERS)


def one_line(error: BaseException, most: int = 300) -> str:
    """The first line of another library's message, as plain text."""
    line = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return "".join(character for character in line if character.isprintable())[:most]


def refuse_placeholder(file: Path) -> None:
    """Raises ModelLoadingError where the file is empty, cannot be read, or only stands for the one that was meant."""
    try:
        with file.open("rb") as opened:
            start = opened.read(64)
    except OSError as error:
        raise DamagedFiles(f"{file} cannot be read ({error.strerror}).") from error
    if (placeholder := stands_for_another(start)) is not None:
        raise DamagedFiles(f"{file} {placeholder}")
    if not start and file.suffix != ".jinja":
        raise DamagedFiles(f"{file} is empty. Download it again.")
    if file.suffix != ".jinja" and start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise DamagedFiles(
            f"{file} is a web page, not the file of that name: the download was answered by one. Download it again."
        )


def _quantised(folder: Path, config: dict[str, Any]) -> str | None:
    """How the weights are quantised, by what the configurations say."""
    for part in (config, *(part for part in config.values() if isinstance(part, dict))):
        for key in ("quantization_config", "compression_config", "quantization"):
            if isinstance(said := part.get(key), dict) and said:
                method = said.get("quant_method") or (
                    "bitsandbytes" if said.get("load_in_4bit") or said.get("load_in_8bit") else None
                )
                return str(
                    method or f"{said['bits']}-bit groups" if "bits" in said or method else "a method it does not name"
                )
    return next((method for name, method in _NOTES.items() if (folder / name).is_file()), None)


def check_weights(file: Path) -> None:
    """Raises ModelLoadingError where the header of a safetensors file says that the file is not whole, or that its
    weights are no floating-point numbers.
    """
    size = file.stat().st_size
    with file.open("rb") as opened:
        start = opened.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else _HEADER + 1
        head = opened.read(length) if length <= min(_HEADER, size) else b""
    try:
        header = json.loads(head)
        tensors = {name: about for name, about in header.items() if name != "__metadata__"}
        end = 8 + length + max((about["data_offsets"][1] for about in tensors.values()), default=0)
        dtypes = {name: str(about["dtype"]) for name, about in tensors.items()}
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise DamagedFiles(f"{file} is no safetensors file: its header cannot be read. Download it again.") from error
    if end != size:
        raise DamagedFiles(
            f"{file} has {size:,} bytes, but its header says {end:,}: a copy or download broke off. Download it again."
        )
    odd = sorted(name for name, dtype in dtypes.items() if name.endswith("weight") and dtype not in _FLOATS)
    if odd:
        raise ModelLoadingError(
            f"{file}: {odd[0]} is stored as {dtypes[odd[0]]}, so the weights are quantised ({len(odd)} such). Name the "
            "model they were made from, in float32, float16 or bfloat16."
        )


def no_weights(where: object, names: Iterable[str]) -> str:
    """The sentence of a folder, or repository, that has files of these names and no weights that are loaded."""
    said = f"{where} has no .safetensors file"
    if found := next(_other_weights(names), None):
        return (
            f"{said}, but {_OTHER_WEIGHTS[Path(found).suffix]} ({found}). Only safetensors are loaded (pickled .bin "
            "and .pt files can run code, and GGUF files are quantised): convert the model, for example with "
            "transformers' save_pretrained."
        )
    return f"{said}. Only safetensors are loaded. Is the download complete?"


def _no_config(folder: Path) -> str:
    said = f"{folder} has no config.json"
    if inner := sorted(folder.glob(f"*/{ADAPTER_CONFIG}")):
        return f"{said}. An adapter lies in {inner[0].parent}: name that folder."
    if (folder / "params.json").is_file() or list(folder.glob("consolidated*")):
        return (
            f"{said}: these are its maker's own files (params.json, consolidated…). Name a folder in the layout of"
            " transformers."
        )
    if found := next(_other_weights(_names(folder)), None):
        return (
            f"{said}, but {_OTHER_WEIGHTS[Path(found).suffix]} ({found}). A folder in the layout of transformers is"
            " needed."
        )
    return f"{said}, so it is no model in the layout of transformers."


def _other_weights(names: Iterable[str]) -> Iterator[str]:
    return (
        name for name in sorted(names) if Path(name).suffix in _OTHER_WEIGHTS and not name.startswith("training_args")
    )


def _names(folder: Path) -> list[str]:
    return [file.name for file in folder.iterdir()]
