"""What a study does not have yet, and the command that makes it."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TypeVar

import pandas as pd
import streamlit as st

from app.shell import studies
from backend.root import PRECOMPUTE, ROOT, RUN

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


def missing(coverage: pd.Series, path: Path) -> list[Missing]:
    """What later stages have not done yet, in the order they run. `coverage` is the row of `Queries.coverage`."""
    c = coverage
    steps = [
        ("problems", c.problems == 0, "no problems"),
        ("cots", c.problems > 0 and c.cots == 0, f"none of the {c.problems} problems has a chain of thought"),
        ("chunks", c.cots_in_chunks < c.cots, f"{c.cots - c.cots_in_chunks} of {c.cots} CoTs are not cut into chunks"),
        ("categories", c.tagged < c.chunks, f"{c.chunks - c.tagged} of {c.chunks} chunks have no category"),
    ]
    if c.chunks_with_tokens:
        steps += [
            ("rollouts", c.resampled == 0, f"none of the {c.chunks} chunks has rollouts"),
            (
                "importance",
                c.computed_importance < c.resampled_with_answers,
                _lag(c.computed_importance, c.resampled, "importance", "resampled "),
            ),
            (
                "activations",
                c.with_activations < c.chunks_with_tokens,
                _lag(c.with_activations, c.chunks_with_tokens, "activation"),
            ),
            ("maps", c.mapped_layers < c.layers, f"{c.layers - c.mapped_layers} of {c.layers} layers have no map"),
            ("sweep", c.steered == 0, "no chunk has been steered, so there is no KL(β) and no steepness"),
        ]
    found = [Missing(_sentence(words), command(path, stage)) for stage, lacks, words in steps if lacks]
    return found + ([no_tokens(path)] if c.chunks and not c.chunks_with_tokens else [])


def no_activations(coverage: pd.Series, path: Path) -> Missing:
    """Why a study has none, and what to run."""
    if coverage.chunks and not coverage.chunks_with_tokens:
        return no_tokens(path)
    return Missing("This study has no activations yet.", command(path, "activations"))


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
    return Missing("Nothing has been resampled yet: no rollouts, no importance.", command(path, "rollouts"))


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


def _lag(done: int, wanted: int, what: str, which: str = "") -> str:
    return f"{wanted - done} of {wanted} {which}chunks have no {what}"


def _sentence(words: str) -> str:
    return words[0].upper() + words[1:] + "."
