"""Jacobian lenses in files, in the layout in which they are published.

    MODEL/jlens/CORPUS/Model_jacobian_lens.pt    {"J": {layer: [d, d]}, "n_prompts", "source_layers", "d_model"}
                      /config.yaml               which model and texts (`hf_model_name`, `fit`, `results`)
                      /Model_convergence.csv     how the mean moved, text by text (`mean_rel_change`), and how far the
                                                 deepest layer's is from the identity (`identity_distance`)

1. Layers are those of block outputs, as everywhere here; row i of a matrix is the gradient of coordinate i of the last
   block's output, so that J h is `h @ J.T`. The last layer has no matrix: it is the model itself.
2. Matrices are written in float16, as published, and read as float32.
3. A fit that goes on writes checkpoints with other keys (sums); the key `J` tells a lens from them.
4. A lens is of one model's weights. What the file and the config.yaml beside it say of the model is checked, and so are
   sizes. Weights whose norms were folded into the matrices behind them have other streams: they are refused.

Files are not to be trusted: nothing in them is run (`weights_only`), and every shape is checked.
"""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from backend.lens.kinds import LensError
from backend.lens.lens import JacobianLens
from backend.lens.torch_files import dictionary_in
from backend.models.final_norm import undivided
from backend.models.layers import layers_of

if TYPE_CHECKING:
    from backend.models.loaded import LoadedModel

SUFFIX, CONFIG = "_jacobian_lens.pt", "config.yaml"
_KEYS = ("J", "n_prompts", "source_layers", "d_model")


@dataclass(frozen=True)
class Card:
    """What is said of a lens beside its matrices."""

    model: str  # hub id, folder, or embedded:NAME
    revision: str | None
    corpus: str  # of the texts
    n_prompts: int
    max_tokens: int
    dtype: str  # of the forward passes
    changes: Sequence[float | None] = ()  # relative change of the mean as each text came in


@dataclass(frozen=True, eq=False)
class FromFile:
    """A lens that was read, and what its files say."""

    lens: JacobianLens
    n_prompts: int | None
    model: str | None  # None where no config.yaml says it


def write(lens: JacobianLens, card: Card, root: Path) -> Path:
    """The lens under `root`, in the published layout; returns the folder of its files."""
    if not lens.jacobians:
        raise LensError("This Jacobian lens has no matrices (rows of named tokens alone), so that no file can hold it.")
    short = _file_name(_short(card.model))
    folder = root / short / "jlens" / _file_name(card.corpus)
    folder.mkdir(parents=True, exist_ok=True)
    layers = sorted(lens.jacobians)
    content = {
        "J": {layer: lens.jacobians[layer].to(torch.float16) for layer in layers},
        "n_prompts": card.n_prompts,
        "source_layers": layers,
        "d_model": int(lens.jacobians[layers[0]].shape[0]),
    }
    torch.save(content, folder / f"{short}{SUFFIX}")
    (folder / CONFIG).write_text(_config(card, short, identity_distance(lens)), encoding="utf-8")
    with (folder / f"{short}_convergence.csv").open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow(["n_done", "identity_distance", "mean_rel_change"])
        for n, change in enumerate(card.changes, start=1):
            # Of the means on the way the matrices are gone: theirs is unknown.
            distance = identity_distance(lens) if n == len(card.changes) else ""
            lines.writerow((n, distance, "" if change is None else change))
    return folder


def read(path: Path, loaded: "LoadedModel", *, known_as: str | None = None) -> FromFile:
    """The lens of a file, or of a folder with one, for the model, whose name elsewhere may be `known_as`.

    Raises LensError, naming the file, for anything that is no such lens, or one of another model.
    """
    file = _file_in(path)
    content, said = _loaded(file), _said(file)
    matrices = _matrices(file, content)
    _refuse_another_model(file, said, loaded, [loaded.name, known_as or loaded.name])
    if content["d_model"] != loaded.d_model:
        raise LensError(
            f"{file} is a lens of streams of {content['d_model']} values; {loaded.name} has {loaded.d_model}."
        )
    _refuse_other_layers(file, said, loaded, list(matrices))
    if has_folded_norm(loaded):
        raise LensError(
            f"Every gain of the final norm of {loaded.name} is 1: its norms were folded into the weights behind them"
            f" (or it was never trained), so that its streams are not those that {file.name} was averaged over. Load"
            " the weights as they were published."
        )
    return FromFile(JacobianLens(loaded.n_layers, matrices), content.get("n_prompts"), said.model)


def _refuse_another_model(file: Path, said: "_Said", loaded: "LoadedModel", names: Sequence[str]) -> None:
    if said.model is not None and _short(said.model) not in map(_short, names):
        raise LensError(
            f"{file.parent / CONFIG} says that the lens is of {said.model}, and this model is {loaded.name}: a lens of"
            " other weights says nothing here."
        )
    if said.revision is not None and said.revision != loaded.revision:
        raise LensError(
            f"{file.parent / CONFIG} says that the lens is of revision {said.revision} of {said.model}, and this one is"
            f" {loaded.revision}. Average it again for these weights."
        )


def _refuse_other_layers(file: Path, said: "_Said", loaded: "LoadedModel", layers: Sequence[int]) -> None:
    """A lens that does not say its target is one of all layers below it, as they are published."""
    last = loaded.n_layers - 1
    target = max(layers, default=last - 1) + 1 if said.target is None else said.target
    if target != last or max(layers, default=-1) >= last:
        raise LensError(
            f"{file} reads layers up to {max(layers, default='none')} towards layer {target}, and {loaded.name} has"
            f" {loaded.n_layers} layers, the last of them {last}: the lens is of another model, or of another target."
        )


def has_folded_norm(loaded: "LoadedModel") -> bool:
    """Whether the final norm could have a gain, and has 1 everywhere: no trained model has."""
    parts = layers_of(loaded.model)
    gains = [part.weight for part in undivided(parts) if part.weight.ndim == 1]
    is_learned = any(True for _ in parts.final_norm.parameters())
    return is_learned and any(bool((gain - 1).abs().max() < 1e-5) for gain in gains)


def _file_in(path: Path) -> Path:
    if path.is_file():
        return path
    found = sorted(path.rglob(f"*{SUFFIX}")) if path.is_dir() else []
    if len(found) != 1:
        names = ", ".join(str(one.relative_to(path)) for one in found[:5]) or "none"
        raise LensError(f"{path}: one file *{SUFFIX} was expected there, found {names}. Name the file itself.")
    return found[0]


def _loaded(file: Path) -> dict[str, Any]:
    """The content, its keys and plain values checked."""
    content = dictionary_in(file, "a Jacobian lens is a dictionary with the key J")
    if "J" not in content:
        keys = ", ".join(sorted(map(str, content))[:8])
        raise LensError(
            f"{file} has no J (it has {keys}): it is a checkpoint of a fit that was going on, or something else, and no"
            " lens. Let the fit end, and give the file that it writes then."
        )
    d_model = content.get("d_model")
    if type(d_model) is not int or d_model < 1:
        raise LensError(f"{file}: d_model is {d_model!r}; a whole number was expected.")
    return content


def _matrices(file: Path, content: Mapping[str, Any]) -> dict[int, torch.Tensor]:
    """By layer, float32, each looked at."""
    found, d = content["J"], content["d_model"]
    if not isinstance(found, dict):
        raise LensError(f"{file}: J is {type(found).__name__}; a dictionary from layers to matrices was expected.")
    matrices: dict[int, torch.Tensor] = {}
    for key, matrix in found.items():
        if not re.fullmatch(r"[0-9]{1,4}", str(key)):
            raise LensError(f"{file}: J has the key {str(key)[:40]!r}; layers are whole numbers from 0 on.")
        if not isinstance(matrix, torch.Tensor) or matrix.shape != (d, d) or not matrix.is_floating_point():
            got = tuple(matrix.shape) if isinstance(matrix, torch.Tensor) else type(matrix).__name__
            raise LensError(f"{file}: J of layer {key} is {got}; a matrix of ({d}, {d}) numbers was expected.")
        if not bool(torch.isfinite(matrix).all()):
            raise LensError(f"{file}: J of layer {key} has values that are NaN or infinite.")
        matrices[int(key)] = matrix.float()
    listed = content.get("source_layers")
    if listed is not None and sorted(listed) != sorted(matrices):
        raise LensError(f"{file}: source_layers are {list(listed)[:8]}, and J has layers {sorted(matrices)[:8]}.")
    return matrices


@dataclass(frozen=True)
class _Said:
    """What the config.yaml beside a lens says; None is unsaid."""

    model: str | None = None
    revision: str | None = None
    target: int | None = None


def _said(file: Path) -> _Said:
    config = file.parent / CONFIG
    if not config.is_file():
        return _Said()
    text = config.read_text(encoding="utf-8", errors="replace")
    target = _value(text, "target_layer")
    return _Said(
        _value(text, "hf_model_name"),
        _value(text, "revision"),
        int(target) if target is not None and target.isdecimal() else None,
    )


def _value(text: str, key: str) -> str | None:
    """Of a line `key: value` at any depth; these files hold nothing but such lines."""
    found = re.search(rf"^[ ]*{key}:[ ]*(?:\"([^\"\n]*)\"|'([^'\n]*)'|([^\s#]+))", text, re.MULTILINE)
    value = None if found is None else next(group for group in found.groups() if group is not None)
    return None if value in ("null", "~", "") else value


def identity_distance(lens: JacobianLens) -> float:
    """‖J − 1‖ / √d of the deepest layer that has a matrix: as the published files have it."""
    matrix = lens.jacobians[max(lens.jacobians)].double()
    return float((matrix - torch.eye(len(matrix), dtype=matrix.dtype)).norm() / len(matrix) ** 0.5)


def _config(card: Card, short: str, distance: float) -> str:
    said = [change for change in card.changes if change is not None]
    lines = [
        "# Jacobian lens, averaged by Anchorscope",
        f"np_model_id: {_quoted(short)}",
        f"hf_model_name: {_quoted(card.model)}",
        f"revision: {_quoted(card.revision)}",
        "dataset:",
        f"  name: {_quoted(card.corpus)}",
        "fit:",
        f"  n_prompts: {card.n_prompts}",
        f"  max_seq_len: {card.max_tokens}",
        "  target_layer: null",
        f"  dtype: {_quoted(card.dtype)}",
        "results:",
        f"  prompts_fitted: {card.n_prompts}",
        f"  final_identity_distance: {distance}",
        f"  final_mean_rel_change: {said[-1] if said else 'null'}",
    ]
    return "\n".join(lines) + "\n"


def _quoted(value: str | None) -> str:
    return "null" if value is None else '"' + value.replace("\\", "/").replace('"', "'").replace("\n", " ") + '"'


def _short(name: str) -> str:
    """The model's own name, without its owner or folder, in lower case."""
    return re.split(r"[/:\\]", name.rstrip("/"))[-1].lower()


def _file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.") or "unnamed"
