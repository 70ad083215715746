"""Checkpoints of a training: tensors and a state, as safetensors and JSON, whole or not at all.

Only the newest is kept.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

_STATE = "state.json"


@dataclass(frozen=True)
class Checkpoint:
    state: dict[str, Any]
    tensors: dict[str, torch.Tensor]


def save(folder: Path, step: int, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> None:
    """Tensors under the number of the step, then the state, which names their file; the checkpoint before is deleted
    last.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = f"step-{step:06d}.safetensors"
    save_file(dict(tensors), folder / (name + ".tmp"))
    os.replace(folder / (name + ".tmp"), folder / name)
    write_json(folder / _STATE, {**state, "file": name})
    for old in folder.glob("step-*.safetensors"):
        if old.name != name:
            old.unlink()


def load(folder: Path, *, device: str = "cpu") -> Checkpoint | None:
    """The newest checkpoint, or None where there is none."""
    if not (folder / _STATE).is_file():
        return None
    state = json.loads((folder / _STATE).read_text(encoding="utf-8"))
    return Checkpoint(state, {name: tensor.to(device) for name, tensor in load_file(folder / state["file"]).items()})


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """The file has all of the content or what it had before."""
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")
    os.replace(temporary, file)
