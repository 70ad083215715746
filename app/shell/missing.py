"""What a study does not have yet, and the command that makes it."""

from pathlib import Path
from typing import NoReturn, TypeVar

import pandas as pd
import streamlit as st

from backend.root import PRECOMPUTE, RUN
from backend.store.undone import Missing as Missing
from backend.store.undone import command as command
from backend.store.undone import is_text
from backend.store.undone import missing as missing
from backend.store.undone import no_tokens as no_tokens
from backend.store.undone import study_file as study_file
from backend.store.undone import undone as undone

T = TypeVar("T")


FIRST_STUDY = f"{PRECOMPUTE} run studies/quick.toml"
NO_STUDY = Missing(
    f"There is no study yet. `{RUN}` is making the first one where it opened this page: reload it in a minute."
    " Otherwise this command makes it, in a few minutes on two cores.",
    FIRST_STUDY,
)


def no_activations(coverage: pd.Series, path: Path) -> Missing:
    """Why a study has none, and what to run."""
    return no_tokens(path) if is_text(coverage) else undone(path, "activations")


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
