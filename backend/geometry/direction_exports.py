"""Vectors of the library as files for other tools: safetensors, and control vectors in GGUF (repeng, llama.cpp).

What is written is the vector as it was given, in float32, so that `direction_files` reads the same direction from it,
to the last bit. A safetensors file says all that is known of the vector in its header, `layer` among it. A GGUF control
vector has a place for the model's family and the block alone: `direction.k` is added to the output of block k, and as
llama.cpp counts from 1 it has none for block 0.
"""

import json
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from backend.errors import AnchorscopeError
from backend.store.library import KeptVector

KEY = "direction"


class NotExported(AnchorscopeError):
    """A vector that a format has no place for."""


def to_safetensors(kept: KeptVector) -> bytes:
    """One tensor, `direction`, with everything known of it in the header."""
    from safetensors.numpy import save

    about = {
        "name": kept.name,
        "model": kept.model,
        "model_id": kept.model_id,
        "revision": kept.revision or "unknown",
        "layer": str(kept.layer),
        "site": "output",
        "norm": repr(kept.norm),
        "sha256": kept.sha256,
        "kind": kept.kind,
        "made": json.dumps(dict(kept.made), sort_keys=True),
    }
    return save({KEY: kept.vector}, metadata=about)


def to_gguf(kept: KeptVector, family: str | None) -> bytes:
    """A control vector of one block, for models of `family` (transformers' model_type).

    Raises NotExported for block 0.
    """
    from gguf import GGUFWriter

    if kept.layer == 0:
        raise NotExported(
            f"“{kept.name}” is of the output of block 0, and control vectors in GGUF begin at block 1: llama.cpp"
            " refuses direction.0. Export it as safetensors."
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vector.gguf"
        writer = GGUFWriter(path, "controlvector")
        writer.add_string("controlvector.model_hint", family or "unknown")
        writer.add_uint32("controlvector.layer_count", 1)
        writer.add_name(kept.name)
        writer.add_tensor(f"{KEY}.{kept.layer}", kept.vector)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path.read_bytes()


@dataclass(frozen=True)
class Format:
    """How a vector leaves as a file of one kind."""

    words: str
    ending: str
    encoded: Callable[[KeptVector, str | None], bytes]  # of the vector and the model's family


FORMATS = (
    Format("safetensors", ".safetensors", lambda kept, _: to_safetensors(kept)),
    Format("GGUF control vector", ".gguf", to_gguf),
)


def exported_name(kept: KeptVector, ending: str) -> str:
    """A name that says the vector's own and its layer, of letters that every system takes."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", kept.name).strip("-") or kept.vector_id
    return f"{plain}-layer_{kept.layer}{ending}"
