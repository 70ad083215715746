"""What a study does not have yet, and the command that makes it."""

import contextlib
import functools
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from backend.root import PRECOMPUTE, ROOT, own_stores
from backend.schema.tables import FILLED, Filled
from backend.store.store import Store


@dataclass(frozen=True)
class Missing:
    """One thing that is not there: a sentence, and the command that makes it (None where nothing can)."""

    what: str
    command: str | None


def missing(store: Store) -> list[Missing]:
    """What stages that every study runs have not done yet, in their order."""
    found = [
        Missing(words, command(store.path, row.stage))
        for row in store.progress().itertuples()
        if (words := _left(FILLED[row.stage], row.done, row.wanted)) is not None
    ]
    return found + ([no_tokens(store.path)] if is_text(store.coverage().iloc[0]) else [])


def _left(filled: Filled, done: int, wanted: int) -> str | None:
    if done >= wanted:
        return None
    if not done:
        return filled.none
    return filled.some and filled.some.format(left=wanted - done, of=wanted)


def undone(path: Path, stage: str) -> Missing:
    """That nothing of a stage is there, in the stage's own words, and the command that does it."""
    return Missing(FILLED[stage].none, command(path, stage))


def lacking(store: Store, stage: str) -> Missing:
    """`undone`; of chains that were imported as text, which no stage can help, the words alone."""
    if is_text(store.coverage().iloc[0]):
        what = FILLED[stage].none.rstrip(":.")
        return Missing(f"{what}. No model of the study has read its chains, which were imported.", None)
    return undone(store.path, stage)


def no_tokens(path: Path) -> Missing:
    """Why an imported study has no activations, and how a model can read it."""
    return Missing(
        "These chains of thought were imported as text. Without a model's tokens there is no residual stream: no"
        " activations, no map, no steering. To have a model read them, name their writer under `reads` of one of the"
        " [[models]] in a study file, and run it here:",
        command(path),
    )


def is_text(coverage: pd.Series) -> bool:
    """Whether no model of the study has the tokens of any chunk."""
    return bool(coverage.chunks and not coverage.chunks_with_tokens)


def command(path: Path, stage: str | None = None) -> str:
    """The command that runs a stage of the study at `path`, with its study file where the repository has one of that
    name.
    """
    step = f" --stage {stage}" if stage else ""
    file = study_file(path)
    if file is None:
        return f"{PRECOMPUTE} run STUDY.toml{step} --store {path}"
    elsewhere = "" if path.parent == own_stores() else f" --store {path}"
    return f"{PRECOMPUTE} run {file.relative_to(ROOT)}{step}{elsewhere}"


def study_file(path: Path) -> Path | None:
    """The study file under `studies/` that names this study."""
    files = sorted((ROOT / "studies").glob("*.toml"))
    return next((file for file in files if _name_in(file, file.stat().st_mtime_ns) == path.stem), None)


@functools.lru_cache(maxsize=64)
def _name_in(file: Path, written: int) -> str | None:
    """The name in a study file, as it was written then; None in what is no TOML, or where it has none."""
    with contextlib.suppress(tomllib.TOMLDecodeError):
        return tomllib.loads(file.read_text(encoding="utf-8")).get("name")
    return None
