"""Undo and redo of what is selected: the last selections of this session, besides the browser's own Back.

What a page completes by itself (the chunk it opens on, the study) is no step of its own: it joins the step before.
"""

from collections.abc import Mapping

import streamlit as st

LONGEST = 100  # steps that can be undone
_NOW, _PAST, _FUTURE, _CHOSEN = "history_now", "history_past", "history_future", "history_chosen"

Selected = Mapping[str, str]


def chosen() -> None:
    """A person has chosen something: what follows is a step, even where it only adds to what was selected."""
    st.session_state[_CHOSEN] = True


def note(selected: Selected) -> None:
    """The selection is this one now."""
    now, was_chosen = st.session_state.get(_NOW), st.session_state.pop(_CHOSEN, False)
    if now == selected:
        return
    is_completed = not was_chosen and now is not None and now.items() <= selected.items()
    if now is not None and not is_completed:
        _past().append(now)
        del _past()[:-LONGEST]
        _future().clear()
    st.session_state[_NOW] = dict(selected)


def undo() -> Selected | None:
    """The selection before this one, which is then the one that is selected; None where there is none."""
    return _step(_past(), _future())


def redo() -> Selected | None:
    """The selection that was undone last."""
    return _step(_future(), _past())


def can_undo() -> bool:
    return bool(_past())


def can_redo() -> bool:
    return bool(_future())


def _step(back: list[Selected], forth: list[Selected]) -> Selected | None:
    if not back:
        return None
    st.session_state.pop(_CHOSEN, None)
    forth.append(st.session_state.get(_NOW, {}))
    st.session_state[_NOW] = found = back.pop()
    return found


def _past() -> list[Selected]:
    return st.session_state.setdefault(_PAST, [])


def _future() -> list[Selected]:
    return st.session_state.setdefault(_FUTURE, [])
