"""A language model by name, with what identifies it, refused when anything about its weights is unclear.

A name is `embedded:SmolLM2-135M-Instruct`, a local folder, or a hub id. Weights are safetensors, never pickle, and no code from a
model's repository is run. transformers loads a checkpoint with a layer missing (it is filled with random numbers) or with NaN weights
and only logs it; here both are errors.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backend.errors import AnchorscopeError
from backend.ids import stable_id
from backend.models import embedded

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

DTYPES = ("float32", "bfloat16", "float16")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


class ModelLoadingError(AnchorscopeError):
    """No model by this name, or one whose weights cannot be trusted."""


@dataclass(frozen=True)
class LoadedModel:
    model: "PreTrainedModel"                # in eval mode, no gradients
    tokenizer: "PreTrainedTokenizerBase"    # a fast one: it maps tokens to characters
    name: str                               # as asked for: embedded:NAME, folder, or hub id
    revision: str                           # hub commit, or sha256 of the weights
    dtype: str                              # of the forward pass
    family: str                             # transformers' model_type
    n_layers: int                           # blocks
    d_model: int                            # width of the residual stream
    vocab_size: int                         # rows of the unembedding

    @property
    def model_id(self) -> str:
        return stable_id("m", self.name, self.revision, self.dtype)


def load_model(name: str, *, revision: str | None = None, dtype: str = "float32", device: str = "cpu") -> LoadedModel:
    """The model called `name`, ready for forward passes.

    Attention is transformers' own choice: torch's scaled-dot-product attention, and the plain one for families that cap attention
    scores (Gemma 2), which the former would compute wrongly.
    `revision` is a branch, tag or commit and only means something for hub ids; what comes back is always the commit itself.
    Raises ModelLoadingError for an unknown name or dtype, a hub that cannot be reached, a checkpoint with missing or misshapen keys or
    values that are not finite, weights that differ from the sha256 beside them, and a tokenizer without character offsets.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    if dtype not in DTYPES:
        raise ModelLoadingError(f"dtype {dtype!r} is not one of {', '.join(DTYPES)}.")
    folder, identity = find_weights(name, revision)
    try:
        model, loading = AutoModelForCausalLM.from_pretrained(
            folder, dtype=getattr(torch, dtype), use_safetensors=True, trust_remote_code=False, local_files_only=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelLoadingError(f"{name} cannot be loaded from {folder}: {error}") from error
    refuse_doubtful_weights(name, model, loading)
    tokenizer = _tokenizer(name, folder)
    config = model.config.get_text_config()
    model.requires_grad_(False)
    return LoadedModel(
        model=model.eval().to(device), tokenizer=tokenizer, name=name, revision=identity, dtype=dtype, family=model.config.model_type,
        n_layers=config.num_hidden_layers, d_model=config.hidden_size, vocab_size=model.get_output_embeddings().weight.shape[0],
    )


def identify_model(name: str, *, revision: str | None = None, dtype: str = "float32") -> str:
    """The model's id, without loading it (a hub id is fetched if need be)."""
    return stable_id("m", name, find_weights(name, revision)[1], dtype)


def load_tokenizer(name: str, *, revision: str | None = None) -> "PreTrainedTokenizerBase":
    """The model's tokenizer alone; raises as `load_model` does."""
    return _tokenizer(name, find_weights(name, revision)[0])


def find_weights(name: str, revision: str | None = None) -> tuple[Path, str]:
    """Folder of the weights on this machine, fetched if need be, and their identity: hub commit, or sha256."""
    if name.startswith("embedded:"):
        makers = {
            embedded.MODEL_NAME: embedded.model_folder, embedded.REASONER_NAME: embedded.reasoner_folder,
            embedded.ENCODER_NAME: embedded.encoder_folder,
        }  # fmt: skip
        if (short := name.removeprefix("embedded:")) not in makers:
            raise ModelLoadingError(f"There is no embedded model {short!r}; there are {', '.join(makers)}.")
        folder = makers[short]()
        return folder, weights_sha256(folder)
    folder = Path(name).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise ModelLoadingError(f"{name} is a folder, and a revision ({revision!r}) can only be asked of a hub id.")
        return folder, weights_sha256(folder)
    if not _HUB_ID.fullmatch(name):
        raise ModelLoadingError(
            f"There is no folder {name!r} on this machine, and it is neither a hub id (owner/name) nor embedded:{embedded.MODEL_NAME}."
        )
    return _hub_snapshot(name, revision)


def weights_sha256(folder: Path) -> str:
    """sha256 of the folder's safetensors: the file's own, or that of the list "sha256  name" when there are several.

    A file with NAME.sha256 beside it must agree with it. Hashing is skipped for a file whose size and time of change are those of the
    last time it was hashed (remembered in the cache folder).
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelLoadingError(
            f"{folder} has no .safetensors file. Only safetensors are loaded (pickled .bin and .pt files can run code): "
            "convert the model, for example with transformers' save_pretrained."
        )
    lines = []
    for file in files:
        found = _remembered_sha256(file)
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


def _remembered_sha256(file: Path) -> str:
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


def _hub_snapshot(name: str, revision: str | None) -> tuple[Path, str]:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

    wanted = f"{name}" + (f" at revision {revision}" if revision else "")
    patterns = ["*.json", "*.safetensors", "*.model", "*.jinja", "merges.txt", "vocab.txt"]
    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    except RevisionNotFoundError as error:
        raise ModelLoadingError(f"The model hub has {name}, but no revision {revision!r} of it.") from error
    except RepositoryNotFoundError as error:
        raise ModelLoadingError(
            f"The model hub has no model {name!r} that may be read. Check the spelling; a gated or private model needs `hf auth login`."
        ) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise ModelLoadingError(
            f"{wanted} could not be reached on the model hub and is not in its local cache ({type(error).__name__}). "
            f"Check the network, or name a folder with the model's files, or use embedded:{embedded.MODEL_NAME}."
        ) from error
    if not list(folder.glob("*.safetensors")):
        raise ModelLoadingError(f"{wanted} has no .safetensors file on the hub, and pickled weights are not loaded.")
    return folder, folder.name  # the cache names a snapshot by its commit


def refuse_doubtful_weights(name: str, model: Any, loading: dict[str, Any]) -> None:
    """Raises, naming the key, where transformers' loading report has missing or misshapen keys or a weight is not finite."""
    import torch

    for problem in ("missing_keys", "mismatched_keys"):
        if keys := sorted(str(key) for key in loading[problem]):
            raise ModelLoadingError(
                f"{name}: the checkpoint has {problem.replace('_', ' ')}, first {keys[0]} ({len(keys)} in all), "
                "which transformers would fill with random numbers. The files are incomplete or of another model."
            )
    for key, weight in model.named_parameters():
        low, high = torch.aminmax(weight)  # NaN travels through both
        if not (torch.isfinite(low) and torch.isfinite(high)):
            raise ModelLoadingError(f"{name}: {key} has values that are NaN or infinite. The checkpoint is damaged.")


def _tokenizer(name: str, folder: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ModelLoadingError(f"{name}: its tokenizer cannot be loaded from {folder}: {error}") from error
    if not tokenizer.is_fast:
        raise ModelLoadingError(f"{name}: its tokenizer gives no character offsets (is tokenizer.json missing?), so chunks have no tokens.")
    tokenizer.name_or_path = name  # as asked for, not the folder it was found in: sentences name it
    return tokenizer
