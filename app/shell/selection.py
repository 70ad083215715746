"""What the person is looking at: one selection for all pages, held in memory and in the URL.

The copy in memory is the truth between reruns (Streamlit empties the query string when the page changes), and it is
written back to the URL at the end of every run. A browser hears of a new URL, and of what a widget now shows, only
after a while, and goes on sending the old ones until then; those are no choices. So a URL counts when the page is
opened (typed, or by a link) and when the person goes back or forward, which the browser marks; and a widget whose value
something else changed becomes a new widget (`following`). Every value is a short word that the page checks against what
the store has before it is used; what the store does not have is left out and noted.

What can be selected is declared in `fields`, beside what offers it. Why Streamlit's own `bind="query-params"` does not
do: docs/selection.md.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, NoReturn, TypeVar

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from app.shell import fields, history, keys, parts
from app.shell.fields import FIELDS, Decimal, Field, Whole
from backend.errors import AnchorscopeError

Number = TypeVar("Number", Whole, Decimal)

LONGEST = 2000  # characters of one value in a link
FOLLOWED = "followed"  # in a link that selects something else: its values count in a session that is open too
_STATE, _NOTES, _STAND_INS, _SHOWN, _PAGE = (
    "selection",
    "selection_notes",
    "selection_stand_ins",
    "selection_shown",
    "selection_page",
)
_OFFERED: ContextVar[frozenset[str]] = ContextVar("choices that are offered above what is drawn", default=frozenset())


def begin(page: str = "") -> None:
    """Take over what the URL says, when the page was just opened or the person went back or forward."""
    is_new = _STATE not in st.session_state
    given = {name: st.query_params[name] for name in st.query_params}
    run = get_script_run_ctx()
    followed = FOLLOWED in given and st.session_state.get(_PAGE) != page
    if is_new or followed or (given and run is not None and run.is_history_navigation):
        found = fields.read(given)
        st.session_state[_STATE] = {name: value for name, value in found.items() if len(value) <= LONGEST}
        st.session_state[_NOTES] = [name for name, value in found.items() if len(value) > LONGEST]
    elif st.session_state.get(_PAGE) != page:
        st.session_state[_NOTES] = []
    st.session_state[_PAGE], st.session_state[_STAND_INS] = page, []
    parts.begin()


def page() -> str:
    """The name of the page that is open, empty where it is the one at the root."""
    return st.session_state.get(_PAGE, "")


def publish() -> None:
    """Write the selection to the URL, in one order, so that equal views have equal links."""
    wanted = all_of_it()
    history.note(wanted)
    if wanted != {name: st.query_params[name] for name in st.query_params}:
        st.query_params.from_dict(wanted)


def end() -> None:
    """The page was drawn as a whole."""
    parts.end(_state())
    publish()


def rerun() -> NoReturn:
    """Run the page again with what is selected now: a rerun starts from the URL."""
    publish()
    st.rerun()


def redraw() -> None:
    """Have everything drawn anew that has read what changed: last in a callback that changes the selection."""
    history.chosen()
    _redraw()


def _redraw() -> None:
    outdated = parts.outdated(_state())
    if not outdated:
        return  # what runs after a callback in any case is enough
    if parts.PAGE not in outdated or parts.is_alone():
        _run_again(outdated)


def _run_again(outdated: list[str]) -> NoReturn:
    """Draw these parts anew; the page, where it is among them. What reads all choices comes last: others may complete
    them.
    """
    if parts.PAGE in outdated:
        st.rerun()
    outdated.sort(key=lambda part: parts.has_read(part, FIELDS))
    parts.wait_for(outdated)
    st.rerun(outdated)


def redraw_page() -> None:
    """Have the page drawn anew as a whole, as something changed that is not of the selection: last in a callback."""
    if parts.is_alone():
        st.rerun()


def part(name: str, draw: Callable[[], None]) -> None:
    """Draw a part of the page that runs again by itself, where something that it read has changed."""
    key = keys.of(name)

    def noted() -> None:
        with parts.noting(key, _state()):
            draw()
        if parts.is_last():
            publish()
            if parts.outdated(_state()):  # by what the part itself did
                st.rerun()

    keys.fragment(noted, key=key)()


def undo() -> None:
    _step(history.undo)


def redo() -> None:
    _step(history.redo)


def _step(way: Callable[[], Mapping[str, str] | None]) -> None:
    history.note(all_of_it())  # the run that would have noted the last choice may have been cut off
    if (selected := way()) is not None:
        _state().clear()
        _state().update(selected)
        _redraw()  # a step back or forth is no new step


@contextmanager
def offered_above(*offered: Field) -> Iterator[None]:
    """These choices are offered already, above what is drawn inside, which follows them and shows no widget."""
    before = _OFFERED.set(_OFFERED.get() | {field.name for field in offered})
    try:
        yield
    finally:
        _OFFERED.reset(before)


def is_offered(field: Field) -> bool:
    """Whether the choice is offered above what is drawn."""
    return field.name in _OFFERED.get()


@contextmanager
def own_stand_ins() -> Iterator[list[tuple[str, str, str]]]:
    """What is noted inside to stand in for what is selected: said there, and not at the top of the page."""
    others = st.session_state.get(_STAND_INS, [])
    own: list[tuple[str, str, str]] = []
    st.session_state[_STAND_INS] = own
    try:
        yield own
    finally:
        st.session_state[_STAND_INS] = others


def values() -> dict[str, str]:
    """All that is selected, in one order."""
    parts.read(*FIELDS)
    return all_of_it()


def all_of_it() -> dict[str, str]:
    """`values`, which whoever asks does not show."""
    state = _state()
    return {name: state[name] for name in FIELDS if name in state}


def get(field: Field | str) -> str | None:
    """Raises AnchorscopeError for a choice that nobody declared; so do all that follow."""
    name = fields.named(field)
    parts.read(name)
    return _state().get(name)


def choose(chosen: Mapping[Field, str | None] = MappingProxyType({}), /, **by_name: str | None) -> None:
    """Select; None forgets a value. What belonged to a value that changes, and is not chosen with it, is forgotten."""
    values = {fields.named(field): value for field, value in chosen.items()}
    values |= {fields.named(name): value for name, value in by_name.items()}
    found, state = _with(_state(), values), _state()
    state.clear()
    state.update(found)


def values_with(chosen: Mapping[str, str]) -> dict[str, str]:
    """All that would be selected if these were chosen too, in one order: for a link."""
    found = _with(_state(), {fields.named(name): value for name, value in chosen.items()})
    return {name: found[name] for name in FIELDS if name in found}


def _with(state: Mapping[str, str], values: Mapping[str, str | None]) -> dict[str, str]:
    found = dict(state)
    for name in values:
        if found.get(name) not in (None, values[name]):
            for other in fields.belonging_to(name):
                found.pop(other, None)
    found.update({name: value for name, value in values.items() if value is not None})
    return {name: value for name, value in found.items() if values.get(name, value) is not None}


def checked(
    field: Field,
    options: Sequence[str] | None = None,
    default: str | None = None,
    *,
    elsewhere: Collection[str] = (),
    show: Callable[[str], str] = str,
) -> str | None:
    """The selected value where it is one of `options`, which are all that the field takes where none are given; else
    `default`, else the field's, else the first option, else None.

    A value that is not one here stays selected where the field takes it, or it is one `elsewhere`, and what stands in
    for it is said; any other is forgotten.
    """
    value, options = get(field), field.options if options is None else options
    if value in options:
        return value
    usual = next((usual for usual in (default, field.default, *options[:1]) if usual in options), None)
    if value is not None and (value in elsewhere or field.takes(value)):
        if usual is not None:
            stand_in(field, show(value), show(usual))
    elif value is not None:
        forget_unknown(field)
    return usual


def in_force(
    field: Field,
    options: Sequence[str] | None = None,
    default: str | None = None,
    *,
    elsewhere: Collection[str] = (),
    show: Callable[[str], str] = str,
) -> str:
    """`checked`, of at least one option. Raises ValueError where there is none."""
    value = checked(field, options, default, elsewhere=elsewhere, show=show)
    if value is None:
        raise ValueError(f"there is nothing to choose from for {field.name}")
    return value


def forget_unknown(field: Field | str) -> None:
    """Drop a value the study does not have, and say so until the person goes on."""
    _state().pop(fields.named(field), None)
    st.session_state.setdefault(_NOTES, []).append(fields.named(field))


def stand_in(field: Field | str, wanted: str, shown: str) -> None:
    """Note that this page has not what is selected, and what it shows instead. The selection stays."""
    st.session_state.setdefault(_STAND_INS, []).append((fields.named(field), wanted, shown))


def notes() -> list[str]:
    """Names of the values of the link that had to be ignored, each once."""
    return list(dict.fromkeys(st.session_state.get(_NOTES, ())))


def stand_ins() -> list[tuple[str, str, str]]:
    """What this run shows instead of what is selected: the name, what is selected, what is shown; each once."""
    return list(dict.fromkeys(st.session_state.get(_STAND_INS, ())))


def pick(
    field: Field,
    label: str,
    options: Sequence[str] | None = None,
    *,
    default: str | None = None,
    elsewhere: Collection[str] = (),
    show: Callable[[str], str] = str,
    widget: Callable[..., Any] = st.selectbox,
    then: Callable[[], None] | None = None,
    **how: Any,
) -> str:
    """A widget that shows and changes one value of the selection; returns the value in force, one of `options` (at
    least one), as `checked` has it; `show` words those that are not here too.
    """
    options = field.options if options is None else options
    chosen = in_force(field, options, default, elsewhere=elsewhere, show=show)
    if is_offered(field):
        return chosen

    def take(value: str) -> None:
        choose({field: value})
        if then:
            then()

    offer(f"pick_{field.name}", label, options, chosen, take, show=show, widget=widget, **how)
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

    Options that `show` words alike are numbered, as a browser answers with the words.
    """
    worded, seen = Counter(map(show, options)), Counter[str]()
    words: dict[str, str] = {}
    for option in dict.fromkeys(options):
        seen[said := show(option)] += 1
        words[option] = said if worded[said] == 1 else f"{said} ({seen[said]})"

    def taken(value: str | None) -> None:
        if value in words:  # a browser may send none, or words that were an option's before
            take(value)

    followed = following(key, chosen, taken, worded=None if chosen is None else words[chosen], initial="default")
    if widget in (st.selectbox, st.radio):
        followed["index"] = list(options).index(followed.pop("default")) if options else None
    elif widget in (st.pills, st.segmented_control):
        how.setdefault("wrap", True)  # where a row is full they go on in a second one, never out of sight
    widget(label, list(options), format_func=words.__getitem__, **followed, **how)


def pick_several(
    field: Field,
    label: str,
    options: Sequence[str],
    *,
    usual: Sequence[str] = (),
    show: Callable[[str], str] = str,
    **how: Any,
) -> list[str]:
    """A widget for several values of the selection; what is not among `options` is left out, and where none is chosen
    it is the usual ones.
    """
    chosen = [value for value in (get(field) or "").split("|") if value in options] or list(usual)

    def take(values: Sequence[str] | None) -> None:
        choose({field: "|".join(value for value in values or () if value in options) or None})

    followed = following(f"pick_{field.name}", chosen, take, initial="default")
    st.multiselect(label, options, format_func=show, **followed, **how)
    return chosen


def pick_switch(field: Field, label: str, *, then: Callable[[], None] | None = None, **how: Any) -> bool:
    """A switch whose state is part of the selection."""
    chosen = checked(field) == "yes"

    def take(value: bool | None) -> None:
        choose({field: "yes" if value else "no"})
        if then:
            then()

    st.toggle(label, **following(f"pick_{field.name}", chosen, take), **how)
    return chosen


def pick_whole(
    field: Field, label: str, usual: int | None = None, *, high: int | None = None, step: int = 1, **how: Any
) -> int:
    """An entry for a whole number of the selection, at first `usual`, where the field has no default; `high` where less
    is possible here than the field takes.
    """
    value, limits = usual if usual is not None else int(str(field.default)), _limits(field, Whole)
    high = limits.high if high is None else high
    if (text := get(field)) is not None:
        if limits(text) and int(text) <= high:
            value = int(text)
        else:
            forget_unknown(field)
    followed = following(f"number_{field.name}", value, _taker(field, "d"))
    st.number_input(label, limits.low, high, step=step, **followed, **how)
    return value


def pick_decimal(field: Field, label: str, usual: float | None = None, *, step: float, **how: Any) -> float:
    """An entry for a number of the selection, at first `usual`, where the field has no default."""
    value, limits = usual if usual is not None else float(str(field.default)), _limits(field, Decimal)
    if (text := get(field)) is not None:
        if limits(text):
            value = float(text)
        else:
            forget_unknown(field)
    followed = following(f"decimal_{field.name}", value, _taker(field, "g"))
    st.number_input(label, limits.low, limits.high, step=step, format="%g", **followed, **how)
    return value


def _limits(field: Field, numbers: type[Number]) -> Number:
    if not isinstance(field.allowed, numbers):
        raise AnchorscopeError(f"The values of {field.name} are not declared as numbers ({numbers.__name__}).")
    return field.allowed


def _taker(field: Field, form: str) -> Callable[[float | None], None]:
    return lambda value: choose({field: None if value is None else format(value, form)})


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
            redraw()

    return {"key": key, "on_change": changed, initial: value}


def _key(widget: str, turn: int) -> str:
    return f"{widget}_{turn}" if turn else widget


def _equal(one: Any, other: Any) -> bool:
    """Whether two values of a widget are one in the selection, where a number has six digits."""
    return f"{one:g}" == f"{other:g}" if isinstance(one, float) and isinstance(other, float) else one == other


def _state() -> dict[str, str]:
    return st.session_state.setdefault(_STATE, {})
