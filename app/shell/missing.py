"""What a study does not have yet, and the command that makes it."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TypeVar

import pandas as pd
import streamlit as st

from app.shell import studies
from backend.root import PRECOMPUTE, ROOT, RUN
from backend.schema.tables import FILLED, Filled
from backend.store.store import Store

T = TypeVar("T")


@dataclass(frozen=True)
class Missing:
    """One thing that is not there: a sentence, and the command that makes it (None where nothing can)."""

    what: str
    command: str | None


FIRST_STUDY = f"{PRECOMPUTE} run studies/quick.toml"
NO_STUDY = Missing(
    f"There is no study yet. `{RUN}` is making the first one where it opened this page: reload it in a minute."
    " Otherwise this command makes it, in a few minutes on two cores.",
    FIRST_STUDY,
)


def no_tokens(path: Path) -> Missing:
    """Why an imported study has no activations, and how a model can read it."""
    return Missing(
        "These chains of thought were imported as text. Without a model's tokens there is no residual stream: no"
        " activations, no map, no steering. To have a model read them, name their writer under `reads` of one of the"
        " [[models]] in a study file, and run it here:",
        command(path),
    )


def missing(store: Store) -> list[Missing]:
    """What stages that every study runs have not done yet, in their order."""
    found = [
        Missing(words, command(store.path, row.stage))
        for row in store.progress().itertuples()
        if (words := _left(FILLED[row.stage], row.done, row.wanted)) is not None
    ]
    return found + ([no_tokens(store.path)] if _is_text(store.coverage().iloc[0]) else [])


def _left(filled: Filled, done: int, wanted: int) -> str | None:
    if done >= wanted:
        return None
    if not done:
        return filled.none
    return filled.some and filled.some.format(left=wanted - done, of=wanted)


def undone(path: Path, stage: str) -> Missing:
    """That nothing of a stage is there, in the stage's own words, and the command that does it."""
    return Missing(FILLED[stage].none, command(path, stage))


def no_activations(coverage: pd.Series, path: Path) -> Missing:
    """Why a study has none, and what to run."""
    return no_tokens(path) if _is_text(coverage) else undone(path, "activations")


def _is_text(coverage: pd.Series) -> bool:
    return bool(coverage.chunks and not coverage.chunks_with_tokens)


def no_rollouts(coverage: pd.Series, path: Path, *, has_tokens: bool) -> Missing:
    """Why a chunk has none, and what to run."""
    if not has_tokens:
        return Missing("No rollouts were published for this chunk.", None)
    if coverage.cots_resampled:
        return Missing(
            f"{coverage.cots_resampled} of {coverage.cots} CoTs have been resampled, and this one is not among them."
            " Raise `cots` under [rollouts] in the study file, and run it again.",
            command(path),
        )
    return undone(path, "rollouts")


def command(path: Path, stage: str | None = None) -> str:
    """The command that runs a stage of the study at `path`, with its study file where the repository has one of that
    name.
    """
    step = f" --stage {stage}" if stage else ""
    file = study_file(path)
    if file is None:
        return f"{PRECOMPUTE} run STUDY.toml{step} --store {path}"
    elsewhere = "" if path.parent == studies.STORES else f" --store {path}"
    return f"{PRECOMPUTE} run {file.relative_to(ROOT)}{step}{elsewhere}"


def study_file(path: Path) -> Path | None:
    """The study file under `studies/` that names this study."""
    for file in sorted((ROOT / "studies").glob("*.toml")):
        try:
            if tomllib.loads(file.read_text(encoding="utf-8")).get("name") == path.stem:
                return file
        except tomllib.TOMLDecodeError:
            continue
    return None


class PageEnds(Exception):
    """Raised where a page has nothing more to show; the app's shell ends the run there in good order."""


def say_and_end(what: Missing) -> NoReturn:
    """Show it as all there is to this page."""
    say(what)
    raise PageEnds


def there(found: T | Missing) -> T:
    """What was found. Where it is missing, says so as all there is to this page."""
    return say_and_end(found) if isinstance(found, Missing) else found


def say(what: Missing) -> None:
    """Show it: the sentence, and the command in a box to copy from."""
    with st.container(border=True, gap="small"):
        st.text(what.what)
        if what.command:
            st.code(what.command, language="bash", wrap_lines=True)
