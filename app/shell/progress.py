"""A running precompute as the pages show it, and the watch that notices what it publishes."""

from pathlib import Path

import streamlit as st

from app.shell import selection, studies
from app.shell.untrusted import show
from backend.store.progress import Progress, read_progress
from backend.store.unit_files import StudyFolder

_LOOK_EVERY = "4s"


@st.fragment(run_every=_LOOK_EVERY)
def watch(study: Path) -> None:
    """A few lines in the sidebar while something runs; the whole page is run again when something new was published."""
    seen, now = st.session_state.get("published_stamp"), (str(study), studies.stamp_of(study))
    st.session_state["published_stamp"] = now
    if seen is not None and seen != now and seen[0] == now[0]:
        selection.rerun()
    progress = read_progress(study)
    if progress and progress.state == "running":
        bar(progress, held=False)


@st.fragment(run_every=_LOOK_EVERY)
def in_full(study: Path) -> None:
    """What runs on the study now or ran last, and who holds it."""
    progress, holder = read_progress(study), StudyFolder(study).holder() if study.is_dir() else None
    if progress is None and holder is None:
        st.caption("Nothing is running on this study.")
        return
    if progress and progress.state == "running":
        bar(progress, held=holder is not None)
    elif progress:
        st.caption(f"Last run: {progress.done:,} of {progress.total:,} units of its last stage, {progress.state}.")
    if holder:
        show(
            f"Process {holder.get('pid', '?')} on {holder.get('host', '?')} is writing: {holder.get('command', '?')}, "
            f"since {holder.get('since', '?')} UTC."
        )


def bar(progress: Progress, *, held: bool = True) -> None:
    """Stage, units done, rate, time left. A run whose process is gone has ended; where that cannot be known, one that
    says nothing for a minute has, unless somebody still holds the study.
    """
    state = (
        progress.state
        if not progress.stale
        else "on a long unit"
        if held and progress.pid is None
        else "ended without a word"
    )
    st.progress(_share(progress))
    written = (
        "" if not progress.most_tokens else f" · {progress.tokens or 0:,} of at most {progress.most_tokens:,} tokens"
    )
    if written and not progress.tokens and state == "running":  # which takes a minute or more, and nothing moves
        written += ", once the models have read the prompts"
    show(f"{progress.stage}: {progress.done:,} of {progress.total:,} units{written} · {state}{_pace(progress)}")


def _share(progress: Progress) -> float:
    """How full the bar is: by tokens where they are counted, as units that are worked at side by side all end late."""
    if progress.most_tokens:
        return min(1.0, (progress.tokens or 0) / progress.most_tokens)
    return min(1.0, progress.done / progress.total) if progress.total else 0.0


def _pace(progress: Progress) -> str:
    if progress.state != "running" or progress.stale:
        return ""
    rate = "" if progress.rate is None else f" · {progress.rate:.2g} units/s"
    return rate + ("" if progress.seconds_left is None else f" · {duration(progress.seconds_left)} left")


def duration(seconds: float) -> str:
    """As a person says it: 40 s, 12 min, 3 h 5 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
