"""Our own layout of a latent model's folder.

config.json (of transformers), model.safetensors (the language model's weights under `model.`, the projection's under
`projection.`, a pause sibling's embeddings as `thoughts`), tokenizer.json and its companions, and latent.json: what the
loop needs to know. Weights are float32 in memory; on disk they are float16 where that loses nothing.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from backend.latent.fresh import LAYOUT, projection
from backend.latent.kinds import SIBLINGS, LatentError
from backend.latent.loop import LatentModel
from backend.models.checkpoints import write_json

NOTE, WEIGHTS = "latent.json", "model.safetensors"
_KEYS = ("layout", "sibling", "before", "after", "end", "n_latents", "n_answer_tokens", "facts")


def save(latent: LatentModel, folder: Path) -> None:
    """Writes a model that `fresh` made, trained or not, into a folder of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    latent.model.config.save_pretrained(folder)
    latent.tokenizer.save_pretrained(folder)
    tensors = weights_of(latent)
    if all(torch.equal(tensor.half().float(), tensor) for tensor in tensors.values()):
        tensors = {key: tensor.half() for key, tensor in tensors.items()}
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, folder / WEIGHTS)
    write_json(folder / NOTE, {key: getattr(latent, key) for key in _KEYS})


def weights_of(latent: LatentModel) -> dict[str, torch.Tensor]:
    """Every weight by its name in the file: those of the tied unembedding once."""
    found = {key: value for key, value in latent.model.state_dict().items() if key != "lm_head.weight"}
    if latent.projection is not None:
        found |= {f"projection.{key}": value for key, value in latent.projection.state_dict().items()}
    if latent.thoughts is not None:
        found["thoughts"] = latent.thoughts
    return {key: value.detach() for key, value in found.items()}


def is_one(folder: Path) -> bool:
    return (folder / NOTE).is_file()


def load(folder: Path, name: str, revision: str) -> LatentModel:
    """The model that lies in `folder`. Raises LatentError where its files do not fit together."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    note = _note(folder)
    try:
        model = LlamaForCausalLM(LlamaConfig.from_pretrained(folder, local_files_only=True))
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        tensors = {key: tensor.float() for key, tensor in load_file(folder / WEIGHTS).items()}
    except Exception as error:  # other libraries raise errors of many kinds, all of them about this folder
        raise LatentError(f"{name} cannot be loaded from {folder}: {error}") from error
    thoughts = tensors.pop("thoughts", None)
    mapped = _part(tensors, "projection.")
    made = None
    if mapped:
        width, d_model = mapped["0.weight"].shape if "0.weight" in mapped else (1, 1)
        made = projection(d_model, width)
        _fill(folder, made, mapped, "projection.")
    _fill(folder, model, tensors, "", tied="lm_head.weight")
    model.tie_weights()
    _check_sibling(folder, note, made is not None, None if thoughts is None else tuple(thoughts.shape), model)
    return LatentModel(
        model=model.eval().requires_grad_(False),
        tokenizer=tokenizer,
        projection=None if made is None else made.eval().requires_grad_(False),
        thoughts=thoughts,
        before=tuple(note["before"]),
        after=tuple(note["after"]),
        end=note["end"],
        n_latents=note["n_latents"],
        n_answer_tokens=note["n_answer_tokens"],
        name=name,
        revision=revision,
        layout=LAYOUT,
        sibling=note["sibling"],
        facts=note["facts"],
    )


def _note(folder: Path) -> dict[str, Any]:
    file = folder / NOTE
    try:
        note = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LatentError(f"{file} cannot be read as JSON ({error}). Save the model again.") from error
    if missing := [key for key in _KEYS if not isinstance(note, dict) or key not in note]:
        raise LatentError(f"{file} has no {missing[0]!r}; expected {', '.join(_KEYS)}. Save the model again.")
    if note["layout"] != LAYOUT:
        raise LatentError(f"{file} names the layout {note['layout']!r}; expected {LAYOUT!r}.")
    return note


def _part(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """Takes the tensors of a part out, under their names in it."""
    keys = [key for key in tensors if key.startswith(prefix)]
    return {key.removeprefix(prefix): tensors.pop(key) for key in keys}


def _fill(
    folder: Path, module: torch.nn.Module, tensors: dict[str, torch.Tensor], prefix: str, *, tied: str | None = None
) -> None:
    wanted = {key: tuple(value.shape) for key, value in module.state_dict().items() if key != tied}
    found = {key: tuple(value.shape) for key, value in tensors.items()}
    for key in sorted({*wanted, *found}):
        if wanted.get(key) != found.get(key):
            raise LatentError(
                f"{folder / WEIGHTS}: {prefix}{key} has shape {found.get(key, 'none: it is missing')}, and"
                f" {wanted.get(key, 'no place')} by config.json. Save the model again."
            )
        if not torch.isfinite(tensors[key]).all():
            raise LatentError(f"{folder / WEIGHTS}: {prefix}{key} has values that are not finite. It is damaged.")
    module.load_state_dict(tensors, strict=False)


def _check_sibling(folder: Path, note: dict[str, Any], has_projection: bool, thoughts: Any, model: Any) -> None:
    of_pause = (note["n_latents"], model.config.hidden_size)
    wanted: dict[str, tuple[bool, Any]] = {"latent": (True, None), "pause": (False, of_pause), "none": (False, None)}
    sibling = SIBLINGS[note["sibling"]].name
    if (has_projection, thoughts) != wanted[sibling]:
        raise LatentError(
            f"{folder / WEIGHTS} has {'a' if has_projection else 'no'} projection and"
            f" {'no thoughts' if thoughts is None else f'thoughts of shape {thoughts}'}, which are not those of a"
            f" {sibling} sibling with {note['n_latents']} latents ({NOTE}). Save the model again."
        )
