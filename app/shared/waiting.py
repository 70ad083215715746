"""What somebody sees who waits for the live worker."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

import streamlit as st

from app.shared import live
from app.shell import keys, selection
from app.shell.missing import PageEnds
from app.shell.progress import duration
from app.shell.untrusted import for_markdown, show
from backend.live.requests import TOKENS
from backend.live.service import Status


def place_in_line(status: Status, doing: str) -> None:
    """Where a request is: its place in the line, or what is done for it now, with an estimate where there is one."""
    if status.place is not None:
        st.progress(0.0, text=f"Number {status.place} in the line")
        return
    words = for_markdown(status.doing or doing)
    if status.progress and status.progress[1]:
        done, total, *counted = status.progress
        left = (
            f", about {duration(status.seconds / done * (total - done))} left"
            if done and status.seconds and done < total
            else ""
        )
        of = f"{done} of {total}" if TOKENS not in counted else f"{done:,} of at most {total:,} tokens"
        st.progress(min(1.0, done / total), text=f"{words}: {of}{left}")
        return
    st.progress(0.0, text=f"{words}, {status.seconds or 0:.0f} s")


@dataclass(frozen=True)
class Reading:
    """A text that the live worker was asked to read."""

    status: Status
    doing: str  # in words, while the worker says nothing itself
    key: str  # what its buttons' keys begin with
    again: Callable[[], object]  # asks for it anew
    is_enough: Callable[[Status], bool] = lambda _status: False  # before it ends
    can_be_stopped: bool = False


def wait_for(reading: Reading) -> NoReturn:
    """Says how far it is, looks again, and ends the page; an error is said, and can be tried again."""
    status = reading.status
    if status.ended:
        with st.container(border=True):
            show(status.error or "Reading this text was stopped.")
            if st.button("Try again", icon=":material/refresh:", key=keys.of(f"{reading.key}_again")):
                reading.again()
                selection.rerun()
        raise PageEnds

    def look() -> None:
        now = live.service().status(status.ticket_id)
        if now is None or now.ended or reading.is_enough(now):
            selection.rerun()
        place_in_line(now, reading.doing)
        if reading.can_be_stopped and st.button("Stop", icon=":material/stop:", key=keys.of(f"{reading.key}_stop")):
            live.stop(status.ticket_id)
            selection.rerun()

    keys.fragment(look, run_every=live.EVERY)()
    raise PageEnds
