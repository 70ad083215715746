"""What somebody sees who waits for the live worker."""

import streamlit as st

from app.shell.progress import duration
from app.shell.untrusted import for_markdown
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
