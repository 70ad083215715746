"""A language model by name, with what identifies it, refused when anything about its weights is unclear.

A name is `embedded:SmolLM2-135M-Instruct`, a local folder, or a hub id; a folder may hold an adapter, which is merged
into its base model. Weights are safetensors, never pickle, and no code from a model's repository is run. transformers
loads a checkpoint with a layer missing (filled with random numbers) or with NaN weights and only logs it; here both are
errors. What a folder holds is looked at first (`model_files.py`), and what the model can do last (`trial.py`).
"""

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backend.errors import AnchorscopeError
from backend.ids import stable_id
from backend.models import adapters, embedded, families, hub
from backend.models.devices import require_device
from backend.models.loaded import NO_END, LoadedModel
from backend.models.model_files import (
    ModelLoadingError,
    check_files,
    has_tokenizer,
    is_adapter,
    one_line,
    read_json,
    weight_files,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SMALL_FILES = ("*.json", "*.model", "*.jinja", "merges.txt", "vocab.txt")  # configuration and tokenizer
FILES = (*SMALL_FILES, "*.safetensors")
DTYPES = ("float32", "float64", "bfloat16", "float16")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


@dataclass(frozen=True)
class Weights:
    """A model's files on this machine."""

    folder: Path  # of the model, or of its adapter
    identity: str  # hub commit, or sha256 of the weights; of an adapter: its base's and its own, joined by +
    base: "Weights | None" = None  # what an adapter is merged into


def load_model(name: str, *, revision: str | None = None, dtype: str = "float32", device: str = "cpu") -> LoadedModel:
    """The model called `name`, ready for forward passes.

    Attention is transformers' own choice: torch's scaled-dot-product attention, and the plain one for families that cap
    attention scores (Gemma 2), which the former would compute wrongly. `revision` is a branch, tag or commit and only
    means something for hub ids; what comes back is always the commit itself. Raises ModelLoadingError for an unknown
    name or dtype, a hub that cannot be reached, a checkpoint with missing or misshapen keys or values that are not
    finite, weights that differ from the sha256 beside them, and a tokenizer without character offsets; before that
    NoDevice for a device that is not here.
    """
    import torch

    from backend.models import trial

    if dtype not in DTYPES:
        raise ModelLoadingError(f"dtype {dtype!r} is not one of {', '.join(DTYPES)}.")
    require_device(device)
    weights = find_weights(name, revision)
    if weights.base is None:
        model = _model(name, weights.folder, getattr(torch, dtype))
    else:
        whole = _model(name, weights.base.folder, torch.float64 if dtype == "float64" else torch.float32)
        model = adapters.merged(whole, weights.folder)
        refuse_not_finite(name, model)
        model = model.to(getattr(torch, dtype))
    tokenizer = _tokenizer(name, weights)
    model.requires_grad_(False)
    trial.check(name, model.eval())
    config = model.config.get_text_config()
    return LoadedModel(
        model=model.to(device),
        tokenizer=tokenizer,
        name=name,
        revision=weights.identity,
        dtype=dtype,
        family=model.config.model_type,
        n_layers=config.num_hidden_layers,
        d_model=config.hidden_size,
        vocab_size=model.get_output_embeddings().weight.shape[0],
    )


def identify_model(name: str, *, revision: str | None = None, dtype: str = "float32") -> str:
    """The model's id, without loading it (a hub id is fetched if need be)."""
    return stable_id("m", name, find_weights(name, revision).identity, dtype)


def check_model(name: str, *, revision: str | None = None, dtype: str = "float32") -> None:
    """Raises as `load_model` does, and for a model without an end token.

    The weights are loaded only where that must be tried: of a family that is not known, and of an adapter.
    """
    weights = find_weights(name, revision)
    folder = (weights.base or weights).folder
    config = read_json(folder, "config.json")
    families.check_config(name, config)
    tokenizer = _tokenizer(name, weights)
    said = [read_json(folder, file) for file in ("generation_config.json", "config.json") if (folder / file).is_file()]
    said += [part for part in config.values() if isinstance(part, dict)]
    if tokenizer.eos_token_id is None and all(one.get("eos_token_id") in (None, []) for one in said):
        raise ModelLoadingError(f"{name} has no end token. {NO_END}")
    if weights.base is not None or not families.is_known(config["model_type"]):
        load_model(name, revision=revision, dtype=dtype)


def load_tokenizer(name: str, *, revision: str | None = None) -> "PreTrainedTokenizerBase":
    """The model's tokenizer alone; raises as `load_model` does."""
    return _tokenizer(name, find_weights(name, revision))


def find_weights(name: str, revision: str | None = None) -> Weights:
    """The weights on this machine, fetched if need be, their files looked at.

    Raises ModelLoadingError where they cannot be used.
    """
    folder, identity = _checked(name, revision)
    return Weights(folder, identity) if not is_adapter(folder) else _with_base(name, folder, identity)


def _with_base(name: str, folder: Path, identity: str) -> Weights:
    base, revision = adapters.base_of(folder)
    is_hub = not base.startswith("embedded:") and not Path(base).expanduser().is_dir()
    try:
        found, found_identity = _checked(base, revision if is_hub else None)
        if is_adapter(found):
            raise ModelLoadingError(f"{found} is an adapter itself. Merge the two first.")
    except AnchorscopeError as error:
        raise ModelLoadingError(
            f"{name} is an adapter of the model {base!r} ({adapters.CONFIG}: base_model_name_or_path), which cannot be"
            f" used: {error}"
        ) from error
    own = f"{identity}-{adapters.sha256_of_config(folder)[:16]}"
    return Weights(folder, f"{found_identity}+{own}", Weights(found, found_identity))


def _checked(name: str, revision: str | None) -> tuple[Path, str]:
    """Folder of the model's files, looked at, and what identifies them."""
    folder, commit = find_folder(name, revision)
    if commit is None:
        check_files(folder)
        return folder, weights_sha256(folder)
    with hub.named(name, folder):
        check_files(folder)
    return folder, commit


def find_folder(name: str, revision: str | None, *, files: Sequence[str] = FILES) -> tuple[Path, str | None]:
    """Folder of the model's files on this machine, fetched if need be (of a hub's, those that match `files`), and the
    hub's commit; None: its files say who it is.
    """
    if name.startswith("embedded:"):
        makers: dict[str, Callable[[], Path]] = {
            embedded.MODEL_NAME: embedded.model_folder,
            **{reasoner: partial(embedded.reasoner_folder, name=reasoner) for reasoner in embedded.REASONERS},
            embedded.ENCODER_NAME: embedded.encoder_folder,
        }
        if (short := name.removeprefix("embedded:")) not in makers:
            raise ModelLoadingError(f"There is no embedded model {short!r}; there are {', '.join(makers)}.")
        return makers[short](), None
    folder = Path(name).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise ModelLoadingError(f"{name} is a folder, and a revision ({revision!r}) can only be asked of a hub id.")
        return folder, None
    if not is_hub_id(name):
        raise ModelLoadingError(
            f"There is no folder {name!r} on this machine, and it is neither a hub id (owner/name) nor"
            f" embedded:{embedded.MODEL_NAME}."
        )
    instead = f"name a folder with the model's files, or use embedded:{embedded.MODEL_NAME}."
    return hub.snapshot(name, revision, files, instead=instead)


def is_hub_id(name: str) -> bool:
    """Whether a name that is no folder here may be a model of the hub: owner/name, or a name alone."""
    return _HUB_ID.fullmatch(name) is not None


def weights_sha256(folder: Path) -> str:
    """sha256 of the folder's safetensors: the file's own, or that of the list "sha256  name" when there are several.

    A file with NAME.sha256 beside it must agree with it. Hashing is skipped for a file whose size and time of change
    are those of the last time it was hashed (remembered in the cache folder).
    """
    lines = []
    for file in weight_files(folder):
        found = remembered_sha256(file)
        beside = file.with_name(file.name + ".sha256")
        if beside.is_file() and (expected := (beside.read_text().split() or [""])[0]) != found:
            raise ModelLoadingError(
                f"{file} has sha256 {found}, but {beside.name} says {expected}: the weights were changed or damaged. "
                f"Delete the folder {folder} and run again to have it made anew."
            )
        lines.append(f"{found}  {file.name}\n")
    if len(lines) == 1:
        return lines[0].split()[0]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def remembered_sha256(file: Path) -> str:
    """Of a file's bytes, as they were when a file of this size and time of change was last hashed."""
    file, stat = file.resolve(), file.stat()
    key = {"path": str(file), "size": stat.st_size, "changed": stat.st_mtime_ns}
    memory = embedded.cache_folder() / "sha256" / (stable_id("f", str(file)) + ".json")
    try:
        known = json.loads(memory.read_text())
        if all(known[k] == v for k, v in key.items()):
            return known["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not hashed before, or the note is unreadable: hash it
    found = embedded.file_sha256(file)
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        memory.write_text(json.dumps(key | {"sha256": found}))
    except OSError:
        pass  # a cache that cannot be written only costs time
    return found


def _model(name: str, folder: Path, dtype: Any) -> Any:
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    families.check_config(name, read_json(folder, "config.json"))
    try:
        model, loading = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are named, and refused, below
        )
    except (
        Exception
    ) as error:  # other people's files make transformers raise errors of many kinds, all of them about this folder
        raise ModelLoadingError(f"{name} cannot be loaded from {folder}: {one_line(error)}") from error
    refuse_doubtful_weights(name, model, loading)
    return model


def refuse_doubtful_weights(name: str, model: Any, loading: dict[str, Any]) -> None:
    """Raises, naming the key, where transformers' loading report has missing, misshapen or dropped keys or a weight is
    not finite.
    """
    if misshapen := sorted(loading["mismatched_keys"]):
        key, found, wanted = misshapen[0]
        raise ModelLoadingError(
            f"{name}: {key} has shape {tuple(found)} in the checkpoint, and {tuple(wanted)} by config.json"
            f" ({len(misshapen)} such). Is config.json that of these weights?"
        )
    if missing := sorted(str(key) for key in loading["missing_keys"]):
        raise ModelLoadingError(
            f"{name}: the checkpoint has missing keys, first {missing[0]} ({len(missing)} in all), "
            "which transformers would fill with random numbers. The files are incomplete or of another model."
        )
    parts = {path for path, part in model.named_modules() if next(part.parameters(recurse=False), None) is not None}
    if dropped := sorted(str(key) for key in loading["unexpected_keys"] if str(key).rpartition(".")[0] in parts):
        raise ModelLoadingError(
            f"{name}: the checkpoint has {dropped[0]} ({len(dropped)} such), for which the model that config.json"
            " describes has no place, so that another model would be measured. Is config.json that of these weights?"
        )
    refuse_not_finite(name, model)


def refuse_not_finite(name: str, model: Any) -> None:
    import torch

    for key, weight in model.named_parameters():
        low, high = torch.aminmax(weight)  # NaN travels through both
        if not (torch.isfinite(low) and torch.isfinite(high)):
            raise ModelLoadingError(f"{name}: {key} has values that are NaN or infinite. The checkpoint is damaged.")


def _tokenizer(name: str, weights: Weights) -> Any:
    """That of the folder; where an adapter's has none, its base's."""
    folder = weights.folder if weights.base is None or has_tokenizer(weights.folder) else weights.base.folder
    return tokenizer_in(name, folder)


def tokenizer_in(name: str, folder: Path) -> Any:
    """The tokenizer of a folder, of the model `name`. Raises ModelLoadingError where there is none that gives character
    offsets.
    """
    from transformers import AutoTokenizer

    if not has_tokenizer(folder):
        raise ModelLoadingError(
            f"{name} has no tokenizer in {folder} (tokenizer.json and its companions). Copy the model's own there."
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # as in `_model`
        raise ModelLoadingError(f"{name}: its tokenizer cannot be loaded from {folder}: {one_line(error)}") from error
    if not tokenizer.is_fast:
        raise ModelLoadingError(
            f"{name}: its tokenizer gives no character offsets (is tokenizer.json missing?), so chunks have no tokens."
        )
    tokenizer.name_or_path = name  # as asked for, not the folder it was found in: sentences name it
    return tokenizer
