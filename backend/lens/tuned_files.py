"""Tuned lenses in files, in the layout in which they are published.

    config.json    which model: base_model_name_or_path, base_model_revision, d_model, num_hidden_layers, bias,
                   unembed_hash, lens_type
    params.pt      "{i}.weight" [d, d] and "{i}.bias" [d], for i from 0 to num_hidden_layers − 1

1. Translator i reads `hidden_states[i]`, the *input* of block i, as h + weight h + bias. So translator i is of our
   layer i − 1; number 0 reads the embeddings, which are no layer here, and our last layer has none: it is the model.
2. The unembedding is known by a hash of how NumPy prints it, to one digit: enough to tell one model from another, and
   the same in float16.
3. A lens is of one model's weights: another name, revision, width, number of layers or unembedding is refused, and so
   are weights whose norms were folded into the matrices behind them, which have other streams.

Files are not to be trusted: nothing in them is run (`weights_only`), and every shape is checked.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from backend.errors import words_of
from backend.lens.jacobian_files import has_folded_norm
from backend.lens.kinds import LensError
from backend.lens.lens import TunedLens
from backend.lens.torch_files import dictionary_in

if TYPE_CHECKING:
    from backend.models.loaded import LoadedModel

CONFIG, WEIGHTS = "config.json", "params.pt"
LENS_TYPE = "linear_tuned_lens"
_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?(\+[0-9a-f]+)?")
_MOST_CONFIG = 1 << 20  # bytes

Map = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, eq=False)
class FromFile:
    """A lens that was read, and what its files say."""

    lens: TunedLens
    embeddings: Map  # the translator of the embeddings, which no lens here reads
    config: Mapping[str, Any]


def write(lens: TunedLens, loaded: "LoadedModel", folder: Path, *, embeddings: Map | None = None) -> None:
    """The lens of the model in `folder`, in the published layout. Layers that keep the identity, and the embeddings
    where nothing is given, get a translator of zeros.

    Raises LensError for a lens that does not read every layer: the layout has no place for gaps.
    """
    d, n_layers = loaded.d_model, loaded.n_layers
    nothing = torch.zeros(d, d), torch.zeros(d)
    if missing := [layer for layer in range(n_layers - 1) if layer not in {*lens.translators, *lens.identity}]:
        raise LensError(
            f"This lens does not read layers {', '.join(map(str, missing))}; the layout holds every layer. Fit it with"
            ' lens.layers = "all".'
        )
    maps = [embeddings or nothing, *(lens.translators.get(layer, nothing) for layer in range(n_layers - 1))]
    content = {}
    for number, (weight, bias) in enumerate(maps):
        content[f"{number}.weight"], content[f"{number}.bias"] = weight.float().clone(), bias.float().clone()
    config = {
        "base_model_name_or_path": loaded.name,
        "d_model": d,
        "num_hidden_layers": n_layers,
        "bias": True,
        "base_model_revision": loaded.revision,
        "unembed_hash": unembedding_hash(loaded),
        "lens_type": LENS_TYPE,
    }
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(content, folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def read(folder: Path, loaded: "LoadedModel", *, known_as: str | None = None) -> FromFile:
    """The lens in `folder` for the model, whose name elsewhere may be `known_as`.

    Raises LensError, naming the file, for anything that is no such lens, or one of another model.
    """
    config = _config(folder / CONFIG)
    _refuse_another_model(folder / CONFIG, config, loaded, {loaded.name, known_as or loaded.name})
    maps = _maps(folder / WEIGHTS, loaded.n_layers, loaded.d_model, has_bias=config.get("bias", True) is not False)
    if has_folded_norm(loaded):
        raise LensError(
            f"Every gain of the final norm of {loaded.name} is 1: its norms were folded into the weights behind them"
            f" (or it was never trained), so that its streams are not those that {folder} was fitted on. Load the"
            " weights as they were published."
        )
    translators = {number - 1: affine for number, affine in maps.items() if number}
    return FromFile(TunedLens(loaded.n_layers, translators), maps[0], config)


def is_one(path: Path) -> bool:
    """Whether the folder has the files of this layout."""
    return (path / CONFIG).is_file() and (path / WEIGHTS).is_file()


def unembedding_hash(loaded: "LoadedModel") -> str | None:
    """The layout's name of an unembedding; None where it has no weight."""
    weight = getattr(loaded.model.get_output_embeddings(), "weight", None)
    if weight is None:
        return None
    with np.printoptions(threshold=1000, edgeitems=3, linewidth=75, suppress=False, floatmode="maxprec"):
        printed = np.array_str(weight.detach().cpu().float().numpy(), precision=1)
    return hashlib.sha256(printed.encode()).hexdigest()


def _refuse_another_model(file: Path, config: Mapping[str, Any], loaded: "LoadedModel", names: set[str]) -> None:
    said = str(config["base_model_name_or_path"])
    if _short(said) not in {_short(name) for name in names}:
        raise LensError(
            f"{file}: base_model_name_or_path is {said}, and this model is {loaded.name}: a lens of other weights says"
            " nothing here."
        )
    for key, own in (("d_model", loaded.d_model), ("num_hidden_layers", loaded.n_layers)):
        if config[key] != own:
            raise LensError(f"{file}: {key} is {config[key]!r:.40}, and {loaded.name} has {own}.")
    if (kind := config.get("lens_type", LENS_TYPE)) != LENS_TYPE:
        raise LensError(f"{file}: lens_type is {kind!r:.60}; {LENS_TYPE!r} was expected.")
    revision = config.get("base_model_revision")
    if (
        revision is not None and _COMMIT.fullmatch(str(revision)) and revision != loaded.revision
    ):  # a branch says little
        raise LensError(
            f"{file}: base_model_revision is {revision}, and this one is {loaded.revision}. Fit it again for these"
            " weights."
        )
    own_hash = unembedding_hash(loaded)
    if (found := config.get("unembed_hash")) and own_hash and found != own_hash:
        raise LensError(
            f"{file}: unembed_hash is {str(found)[:16]}…, and the unembedding of {loaded.name} has {own_hash[:16]}…:"
            " the lens was fitted for other weights."
        )


def _config(file: Path) -> dict[str, Any]:
    try:
        raw = file.read_bytes()[: _MOST_CONFIG + 1]
        config = json.loads(raw.decode("utf-8")) if len(raw) <= _MOST_CONFIG else None
    except (OSError, ValueError, RecursionError) as error:
        raise LensError(f"{file} cannot be read as the JSON of a tuned lens: {words_of(error)}") from error
    wanted = ("base_model_name_or_path", "d_model", "num_hidden_layers")
    if not isinstance(config, dict) or (lacking := [key for key in wanted if key not in config]):
        what = ", ".join(lacking) if isinstance(config, dict) else "a dictionary"
        raise LensError(f"{file} is not the config of a tuned lens: it lacks {what}.")
    return config


def _maps(file: Path, n_layers: int, d_model: int, *, has_bias: bool) -> dict[int, Map]:
    """By the number of the translator, float32, each looked at."""
    content = dictionary_in(file, "a dictionary of translators was expected")
    parts = ("weight", "bias") if has_bias else ("weight",)
    expected = [f"{number}.{part}" for number in range(n_layers) for part in parts]
    if strangers := sorted(map(str, set(content) ^ set(expected))):
        raise LensError(
            f"{file}: expected {expected[0]} to {expected[-1]}, {n_layers} translators; what differs:"
            f" {', '.join(strangers[:4])}."
        )
    maps = {}
    for number in range(n_layers):
        weight = _tensor(file, content, f"{number}.weight", (d_model, d_model))
        bias = _tensor(file, content, f"{number}.bias", (d_model,)) if has_bias else torch.zeros(d_model)
        maps[number] = weight, bias
    return maps


def _tensor(file: Path, content: Mapping[str, Any], key: str, shape: tuple[int, ...]) -> torch.Tensor:
    found = content[key]
    if not isinstance(found, torch.Tensor) or found.shape != shape or not found.is_floating_point():
        got = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
        raise LensError(f"{file}: {key} is {got}; numbers of shape {shape} were expected.")
    if not bool(torch.isfinite(found).all()):
        raise LensError(f"{file}: {key} has values that are NaN or infinite.")
    return found.float()


def _short(name: str) -> str:
    """The model's own name, without its owner or folder, in lower case."""
    return re.split(r"[/:\\]", name.rstrip("/"))[-1].lower()
