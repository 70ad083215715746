"""What the person is looking at: one selection for all pages, held in memory and in the URL.

The copy in memory is the truth between reruns (Streamlit empties the query string when the page changes), and it is written back to the
URL at the end of every run. A URL that somebody typed, or that a link opened, is adopted. Every value is a short word that the page checks
against what the store has before it is used; what the store does not have is left out and noted.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import streamlit as st

FIELDS = (
    "study",
    "problem",
    "cot",
    "chunk",
    "layer",
    "map",
    "swept",
    "kind",
    "position",
    "metric",
    "tags",
    "colour",
    "highlight",
    "panel",
    "scale",
    "intervals",
    "click",
    "level",
    "writer",
    "verdict",
    "candidates",
    "live",
    "own",
    "direction",
    "of",
    "other",
    "about",
    "component",
    "drawn",
    "made",
    "layers",
    "place",
    "operation",
    "beta",
    "unit",
    "while",
    "start",
    "what",
    "n",
    "seed",
    "run",
    "against",
    "dictionary",
    "feature",
    "pinned",
    "norm",
    "scaling",
    "filters",
)
_FOLLOWERS = {  # what a choice makes meaningless
    "study": tuple(field for field in FIELDS if field not in ("study", "panel", "click", "scale", "intervals", "colour")),
    "problem": ("cot", "chunk", "run", "against", "own"),
    "cot": ("chunk", "run", "against", "own"),
    "chunk": ("run", "against"),
    "dictionary": ("feature", "pinned", "filters"),
}
_LONGEST = 200
_STATE, _WRITTEN, _REPLACED, _NOTES = "selection", "selection_in_url", "selection_replaced", "selection_notes"
_ON_ITS_WAY = 1.0  # seconds that a new URL may take to the browser; going back sooner than that is not noticed


def begin() -> None:
    """Take over what the URL says, when the page was just opened or the URL was changed by hand."""
    in_url = {name: value for name in FIELDS if (value := st.query_params.get(name)) and len(value) <= _LONGEST}
    if _STATE not in st.session_state or (in_url and in_url != st.session_state[_WRITTEN] and not _is_late(in_url)):
        st.session_state[_STATE] = in_url
    st.session_state[_NOTES] = []
    st.session_state[_WRITTEN] = in_url


def publish() -> None:
    """Write the selection to the URL, in one order, so that equal views have equal links."""
    wanted = values()
    if wanted != {name: st.query_params[name] for name in st.query_params}:
        st.query_params.from_dict(wanted)
    if wanted != (before := st.session_state[_WRITTEN]):
        st.session_state.setdefault(_REPLACED, []).append((before, time.monotonic()))
    st.session_state[_WRITTEN] = wanted


def _is_late(in_url: dict[str, str]) -> bool:
    """Whether this is a URL that was replaced a moment ago: what the browser sent before it had heard of the new one."""
    recent = [(url, at) for url, at in st.session_state.get(_REPLACED, []) if time.monotonic() - at < _ON_ITS_WAY]
    st.session_state[_REPLACED] = recent
    return any(in_url == url for url, _ in recent)


def rerun() -> NoReturn:
    """Run the page again with what is selected now: a rerun starts from the URL."""
    publish()
    st.rerun()


def values() -> dict[str, str]:
    """All that is selected, in one order."""
    return {name: _state()[name] for name in FIELDS if name in _state()}


def get(name: str) -> str | None:
    return _state().get(name)


def choose(**values: str | None) -> None:
    """Select; None forgets a value. A change of study, problem or CoT forgets what belonged to the old one and is not chosen with it."""
    state = _state()
    for name in values:
        if state.get(name) not in (None, values[name]):
            for follower in _FOLLOWERS.get(name, ()):
                state.pop(follower, None)
    state.update({name: value for name, value in values.items() if value is not None})
    for name in (name for name, value in values.items() if value is None):
        state.pop(name, None)


def checked(name: str, options: Sequence[str], default: str | None = None) -> str | None:
    """The selected value where it is one of `options`; else `default`, else the first option, else None."""
    value = get(name)
    if value in options:
        return value
    if value is not None:
        forget_unknown(name)
    if default in options:
        return default
    return options[0] if options else None


def forget_unknown(name: str) -> None:
    """Drop a value the study does not have, and say so once."""
    _state().pop(name, None)
    st.session_state[_NOTES].append(name)


def notes() -> list[str]:
    """Names of the values that this run had to ignore."""
    return st.session_state[_NOTES]


def pick(
    name: str,
    label: str,
    options: Sequence[str],
    *,
    default: str | None = None,
    show: Callable[[str], str] = str,
    widget: Callable[..., Any] = st.selectbox,
    then: Callable[[], None] | None = None,
    **how: Any,
) -> str | None:
    """A widget that shows and changes one value of the selection; returns the value in force, one of `options`."""
    chosen = checked(name, options, default)
    key = f"pick_{name}"
    if chosen is not None:
        st.session_state[key] = chosen

    def take() -> None:
        if st.session_state[key] is not None:
            choose(**{name: st.session_state[key]})
            if then:
                then()

    widget(label, list(options), key=key, format_func=show, on_change=take, **how)
    return chosen


def pick_switch(name: str, label: str, *, default: bool, then: Callable[[], None] | None = None, **how: Any) -> bool:
    """A switch whose state is part of the selection."""
    chosen = checked(name, ("yes", "no"), "yes" if default else "no") == "yes"
    key = f"pick_{name}"
    st.session_state[key] = chosen

    def take() -> None:
        choose(**{name: "yes" if st.session_state[key] else "no"})
        if then:
            then()

    st.toggle(label, key=key, on_change=take, **how)
    return chosen


def _state() -> dict[str, str]:
    return st.session_state[_STATE]
