"""What the person is looking at: one selection for all pages, held in memory and in the URL.

The copy in memory is the truth between reruns (Streamlit empties the query string when the page changes), and it is written back to the
URL at the end of every run. A browser hears of a new URL, and of what a widget now shows, only after a while, and goes on sending the old
ones until then; those are no choices. So a URL counts when the page is opened (typed, or by a link) and when the person goes back or
forward, which the browser marks; and a widget whose value something else changed becomes a new widget (`following`). Every value is a
short word that the page checks against what the store has before it is used; what the store does not have is left out and noted.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

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
    "prompt",
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
    "typed",
    "token",
    "cells",
    "rank",
    "rows",
    "chosen",
    "prompted",
    "scheme",
    "measure",
    "above",
    "reasoning",
    "source",
    "beyond",
    "top",
    "numbers",
    "change",
    "factor",
    "added",
    "error",
    "solved",
    "asked",
    "view",
    "column",
    "claimed",
    "subset",
    "rest",
)
_FOLLOWERS = {  # what a choice makes meaningless
    "study": tuple(field for field in FIELDS if field not in ("study", "panel", "click", "scale", "intervals", "colour", "view")),
    "problem": ("cot", "chunk", "run", "against", "own", "token"),
    "cot": ("chunk", "run", "against", "own", "token"),
    "chunk": ("run", "against", "token"),
    "dictionary": ("feature", "pinned", "filters", "chosen", "above", "numbers", "asked"),
}
_LONGEST = 200
_STATE, _NOTES, _SHOWN = "selection", "selection_notes", "selection_shown"


def begin() -> None:
    """Take over what the URL says, when the page was just opened or the person went back or forward."""
    in_url = {name: value for name in FIELDS if (value := st.query_params.get(name)) and len(value) <= _LONGEST}
    if _STATE not in st.session_state or (in_url and get_script_run_ctx().is_history_navigation):
        st.session_state[_STATE] = in_url
    st.session_state[_NOTES] = []


def publish() -> None:
    """Write the selection to the URL, in one order, so that equal views have equal links."""
    wanted = values()
    if wanted != {name: st.query_params[name] for name in st.query_params}:
        st.query_params.from_dict(wanted)


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
    """A widget that shows and changes one value of the selection; returns the value in force, one of `options`.

    Options that `show` words alike bear their own value too: a browser answers with the words.
    """
    chosen = checked(name, options, default)
    worded = Counter(map(show, options))
    show = {option: show(option) if worded[show(option)] == 1 else f"{show(option)} ({option})" for option in options}.__getitem__

    def take(value: str | None) -> None:
        if value in options:  # a browser may send none, or words that were an option's before
            choose(**{name: value})
            if then:
                then()

    followed = following(f"pick_{name}", chosen, take, worded=None if chosen is None else show(chosen), initial="default")
    if widget in (st.selectbox, st.radio):
        followed["index"] = list(options).index(followed.pop("default")) if options else None
    widget(label, list(options), format_func=show, **followed, **how)
    return chosen


def pick_switch(name: str, label: str, *, default: bool, then: Callable[[], None] | None = None, **how: Any) -> bool:
    """A switch whose state is part of the selection."""
    chosen = checked(name, ("yes", "no"), "yes" if default else "no") == "yes"

    def take(value: bool) -> None:
        choose(**{name: "yes" if value else "no"})
        if then:
            then()

    st.toggle(label, **following(f"pick_{name}", chosen, take), **how)
    return chosen


def following(
    widget: str, value: Any, take: Callable[[Any], None], *, worded: str | None = None, initial: str = "value"
) -> dict[str, Any]:
    """Arguments of a widget that shows `value` of the selection; `take` is called with what the person makes of it.

    They are its key, its `on_change` and what it shows at first, which this kind of widget calls `initial`. The key stays while only the
    person changes the widget, so that the focus and keys pressed meanwhile are not lost. Where something else changed the value, or how it
    is `worded`, the widget becomes a new one: until the browser has heard of the change it sends the old value, which is then said of the
    old widget and not taken for a choice. A value set in the session would not do: Streamlit tells the browser once, in a message that is
    dropped when the next run begins before it was sent, and the browser then answers with the widget's default.
    """
    shown = st.session_state.setdefault(_SHOWN, {})
    turn, last, words = shown.get(widget, (0, value, worded))
    said = st.session_state.get(_key(widget, turn), last)
    if not _equal(said, value) or (_equal(last, value) and words not in (None, worded)):
        turn += 1
    key, shown[widget] = _key(widget, turn), (turn, value, worded)

    def changed() -> None:
        now, last, _ = shown[widget]
        if now == turn and not _equal(said := st.session_state[key], last):
            shown[widget] = turn, said, None
            take(said)

    return {"key": key, "on_change": changed, initial: value}


def _key(widget: str, turn: int) -> str:
    return f"{widget}_{turn}" if turn else widget


def _equal(one: Any, other: Any) -> bool:
    """Whether two values of a widget are one in the selection, where a number has six digits."""
    return f"{one:g}" == f"{other:g}" if isinstance(one, float) and isinstance(other, float) else one == other


def _state() -> dict[str, str]:
    return st.session_state[_STATE]
