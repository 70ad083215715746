"""What the person is looking at: one selection for all pages, held in memory and in the URL.

The copy in memory is the truth between reruns (Streamlit empties the query string when the page changes), and it is
written back to the URL at the end of every run. A browser hears of a new URL, and of what a widget now shows, only
after a while, and goes on sending the old ones until then; those are no choices. So a URL counts when the page is
opened (typed, or by a link) and when the person goes back or forward, which the browser marks; and a widget whose value
something else changed becomes a new widget (`following`). Every value is a short word that the page checks against what
the store has before it is used; what the store does not have is left out and noted.
"""

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NoReturn

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from app.shell import keys

FIELDS = (
    "study",
    "problem",
    "cot",
    "chunk",
    "model",
    "layer",
    "unit",
    "map",
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
    "own",
    "question",
    "written",
    "truth",
    "direction",
    "of",
    "other",
    "about",
    "component",
    "drawn",
    "made",
    "through",
    "place",
    "operation",
    "beta",
    "convention",
    "while",
    "start",
    "what",
    "n",
    "seed",
    "longest",
    "limit",
    "deleted",
    "reworded",
    "run",
    "against",
    "dictionary",
    "feature",
    "pinned",
    "norm",
    "scaling",
    "filters",
    "typed",
    "words",
    "after",
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
    "temperature",
    "nucleus",
    "sets",
    "asked",
    "view",
    "column",
    "claimed",
    "subset",
    "columns",
    "metrics",
    "every",
    "rest",
    "size",
    "rollouts",
    "halfwidth",
    "most",
)
_TYPED = ("own", "question", "written", "truth")
_FOLLOWERS = {  # what a choice makes meaningless
    "study": tuple(
        field for field in FIELDS if field not in ("study", "panel", "click", "scale", "intervals", "colour", "view")
    ),
    "problem": ("cot", "chunk", "run", "against", "token", "reworded", *_TYPED),
    "cot": ("chunk", "run", "against", "token", "reworded", *_TYPED),
    "chunk": ("run", "against", "token", "reworded"),
    "layer": ("through",),
    "own": ("question", "written", "truth"),
    "dictionary": ("feature", "pinned", "filters", "chosen", "above", "numbers", "asked"),
}
LONGEST = 2000  # characters of one value in a link
_STATE, _NOTES, _STAND_INS, _SHOWN, _PAGE = (
    "selection",
    "selection_notes",
    "selection_stand_ins",
    "selection_shown",
    "selection_page",
)


def _former_stream(value: str) -> dict[str, str]:
    model, _, rest = value.partition(":")
    layer, _, unit = rest.partition(":")
    found = {"model": model, "layer": layer, "unit": unit}
    return {name: word for name, word in found.items() if word not in ("", "none", "-1")}


def _former_layers(value: str) -> dict[str, str]:
    first, _, last = value.partition("-")
    return {"layer": first} | ({"through": last} if last not in ("", first) else {})


# What links and kept runs said before one model and one layer held for every page; of two that say the same the first
# counts.
_FORMER: dict[str, Callable[[str], dict[str, str]]] = {
    "live": lambda value: {"model": value},
    "layers": _former_layers,
    "swept": _former_stream,
    "layer": _former_stream,
    "kind": lambda value: {"direction": value},
}


def begin(page: str = "") -> None:
    """Take over what the URL says, when the page was just opened or the person went back or forward."""
    is_new = _STATE not in st.session_state
    given = {name: st.query_params[name] for name in st.query_params}
    if is_new or (given and get_script_run_ctx().is_history_navigation):
        found = named(given)
        st.session_state[_STATE] = {name: value for name, value in found.items() if len(value) <= LONGEST}
        st.session_state[_NOTES] = [name for name, value in found.items() if len(value) > LONGEST]
    elif st.session_state.get(_PAGE) != page:
        st.session_state[_NOTES] = []
    st.session_state[_PAGE], st.session_state[_STAND_INS] = page, []


def named(link: Mapping[str, str]) -> dict[str, str]:
    """What a link says, by today's names; of two that say the same the first counts.

    What is no name of a choice is left out.
    """
    found = {name: link[name] for name in FIELDS if link.get(name) and not (name in _FORMER and ":" in link[name])}
    for name, former in _FORMER.items():
        if link.get(name) and name not in found:
            found = former(link[name]) | found
    return {name: found[name] for name in FIELDS if name in found}


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
    """Select; None forgets a value.

    A change of study, problem or CoT forgets what belonged to the old one and is not chosen with it.
    """
    state = _state()
    for name in values:
        if state.get(name) not in (None, values[name]):
            for follower in _FOLLOWERS.get(name, ()):
                state.pop(follower, None)
    state.update({name: value for name, value in values.items() if value is not None})
    for name in (name for name, value in values.items() if value is None):
        state.pop(name, None)


def checked(
    name: str,
    options: Sequence[str],
    default: str | None = None,
    *,
    elsewhere: Collection[str] = (),
    show: Callable[[str], str] = str,
) -> str | None:
    """The selected value where it is one of `options`; else `default`, else the first option, else None.

    A value that is not one here stays selected where it is one `elsewhere`, and what stands in for it is said; any
    other is forgotten.
    """
    value = get(name)
    if value in options:
        return value
    usual = default if default in options else options[0] if options else None
    if value is not None and value in elsewhere:
        if usual is not None:
            stand_in(name, show(value), show(usual))
    elif value is not None:
        forget_unknown(name)
    return usual


def forget_unknown(name: str) -> None:
    """Drop a value the study does not have, and say so until the person goes on."""
    _state().pop(name, None)
    st.session_state.setdefault(_NOTES, []).append(name)


def stand_in(name: str, wanted: str, shown: str) -> None:
    """Note that this page has not what is selected, and what it shows instead. The selection stays."""
    st.session_state.setdefault(_STAND_INS, []).append((name, wanted, shown))


def notes() -> list[str]:
    """Names of the values of the link that had to be ignored, each once."""
    return list(dict.fromkeys(st.session_state.get(_NOTES, ())))


def stand_ins() -> list[tuple[str, str, str]]:
    """What this run shows instead of what is selected: the name, what is selected, what is shown; each once."""
    return list(dict.fromkeys(st.session_state.get(_STAND_INS, ())))


def pick(
    name: str,
    label: str,
    options: Sequence[str],
    *,
    default: str | None = None,
    elsewhere: Collection[str] = (),
    show: Callable[[str], str] = str,
    widget: Callable[..., Any] = st.selectbox,
    then: Callable[[], None] | None = None,
    **how: Any,
) -> str | None:
    """A widget that shows and changes one value of the selection; returns the value in force, one of `options`.

    `elsewhere` as in `checked`; `show` words its values too.
    """
    chosen = checked(name, options, default, elsewhere=elsewhere, show=show)

    def take(value: str) -> None:
        choose(**{name: value})
        if then:
            then()

    offer(f"pick_{name}", label, options, chosen, take, show=show, widget=widget, **how)
    return chosen


def offer(
    key: str,
    label: str,
    options: Sequence[str],
    chosen: str | None,
    take: Callable[[str], None],
    *,
    show: Callable[[str], str] = str,
    widget: Callable[..., Any] = st.selectbox,
    **how: Any,
) -> None:
    """A widget that shows which of `options` is chosen; `take` is called with another one of them when the person
    chooses it.

    Options that `show` words alike bear their own value too: a browser answers with the words.
    """
    worded = Counter(map(show, options))
    words = {option: show(option) if worded[show(option)] == 1 else f"{show(option)} ({option})" for option in options}

    def taken(value: str | None) -> None:
        if value in words:  # a browser may send none, or words that were an option's before
            take(value)

    followed = following(key, chosen, taken, worded=None if chosen is None else words[chosen], initial="default")
    if widget in (st.selectbox, st.radio):
        followed["index"] = list(options).index(followed.pop("default")) if options else None
    widget(label, list(options), format_func=words.__getitem__, **followed, **how)


def pick_several(
    name: str, label: str, options: Sequence[str], *, show: Callable[[str], str] = str, **how: Any
) -> list[str]:
    """A widget for several values of the selection, none included; what is not among `options` is left out."""
    chosen = [value for value in (get(name) or "").split("|") if value in options]

    def take(values: Sequence[str] | None) -> None:
        choose(**{name: "|".join(value for value in values or () if value in options) or None})

    st.multiselect(
        label, options, format_func=show, **following(f"pick_{name}", chosen, take, initial="default"), **how
    )
    return chosen


def pick_switch(name: str, label: str, *, default: bool, then: Callable[[], None] | None = None, **how: Any) -> bool:
    """A switch whose state is part of the selection."""
    chosen = checked(name, ("yes", "no"), "yes" if default else "no") == "yes"

    def take(value: bool | None) -> None:
        choose(**{name: "yes" if value else "no"})
        if then:
            then()

    st.toggle(label, **following(f"pick_{name}", chosen, take), **how)
    return chosen


def pick_whole(name: str, label: str, usual: int, *, low: int, high: int, step: int = 1, **how: Any) -> int:
    """A field for a whole number of the selection, from `low` to `high`."""
    text, value = get(name), usual
    if text is not None:
        if text.isascii() and text.isdecimal() and len(text) < 16 and low <= int(text) <= high:
            value = int(text)
        else:
            forget_unknown(name)
    st.number_input(label, low, high, step=step, **following(f"number_{name}", value, _taker(name, "d")), **how)
    return value


def pick_decimal(name: str, label: str, usual: float, *, low: float, high: float, step: float, **how: Any) -> float:
    """A field for a number of the selection, from `low` to `high`."""
    value = usual
    if (text := get(name)) is not None:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            forget_unknown(name)
            value = usual
    st.number_input(
        label, low, high, step=step, format="%g", **following(f"decimal_{name}", value, _taker(name, "g")), **how
    )
    return value


def _taker(name: str, form: str) -> Callable[[float | None], None]:
    return lambda value: choose(**{name: None if value is None else format(value, form)})


def following(
    widget: str, value: Any, take: Callable[[Any], None], *, worded: str | None = None, initial: str = "value"
) -> dict[str, Any]:
    """Arguments of a widget that shows `value` of the selection; `take` is called with what the person makes of it.

    They are its key, its `on_change` and what it shows at first, which this kind of widget calls `initial`. The key
    stays while only the person changes the widget, so that the focus and keys pressed meanwhile are not lost. Where
    something else changed the value, or how it is `worded`, the widget becomes a new one: until the browser has heard
    of the change it sends the old value, which is then said of the old widget and not taken for a choice. A value set
    in the session would not do: Streamlit tells the browser once, in a message that is dropped when the next run begins
    before it was sent, and the browser then answers with the widget's default.
    """
    widget, shown = keys.of(widget), st.session_state.setdefault(_SHOWN, {})
    turn, last, words = shown.get(widget, (0, value, worded))
    said = st.session_state.get(_key(widget, turn), last)
    if not _equal(said, value) or (_equal(last, value) and words not in (None, worded)):
        turn += 1
    key, shown[widget] = _key(widget, turn), (turn, value, worded)

    def changed() -> None:
        now, last, _ = shown[widget]
        said = st.session_state.get(key, last)  # a message may come so late that the widget is gone
        if now == turn and not _equal(said, last):
            shown[widget] = turn, said, None
            st.session_state[_NOTES] = []
            take(said)

    return {"key": key, "on_change": changed, initial: value}


def _key(widget: str, turn: int) -> str:
    return f"{widget}_{turn}" if turn else widget


def _equal(one: Any, other: Any) -> bool:
    """Whether two values of a widget are one in the selection, where a number has six digits."""
    return f"{one:g}" == f"{other:g}" if isinstance(one, float) and isinstance(other, float) else one == other


def _state() -> dict[str, str]:
    return st.session_state.setdefault(_STATE, {})
