"""What is searched for, in which order, and what is shown of it: all of it in the link."""

from dataclasses import dataclass

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app.shared import chunk_colours, searched
from app.shell import keys, selection
from app.shell.fields import Field, Whole, declare
from app.shell.untrusted import show, show_exactly
from backend.search.columns import KnownColumns
from backend.search.language import LONGEST, QueryError, parse
from backend.store.search_queries import Column, Condition, Every, Level
from backend.store.store import Store

_LEVELS = {"chunks": "Chunks", "cots": "CoTs"}
SEARCH = declare(Field("search", "search", None))
LEVEL = declare(Field("browse_level", "what is listed", _LEVELS, default="chunks", of=None))
SORT = declare(Field("browse_sort", "order of the table", None))
PAGE = declare(Field("browse_page", "page of the table", Whole(1, 10**6), default="1", of="search"))
COLUMNS = declare(Field("browse_columns", "columns of the table", None))

READING_ORDER = "reading order"
_FALLING, _RISING = "down", "up"
_ARROWS = {_FALLING: "↓", _RISING: "↑"}
USUAL: dict[Level, tuple[str, ...]] = {
    "chunks": ("chunk", "text", "tag", "importance", "q", "rollouts", "correct", "level", "model"),
    "cots": ("question", "importance", "q", "chunks", "answer", "correct", "level", "model", "text"),
}
_LAST = "browse_last_search"
HELP = """Words side by side are all meant.

- `importance > 0.2`, `q <= 0.05`, `level:2`: comparisons of any number
- `tag:self_checking`, `model:reasoner`, `correct:no`, `rollouts:yes`, `fires:1234`
- `"wait"`: these characters in the chunk's text, in capitals or not
- `starred:yes`, `note:"..."`, `corrected:self_checking`; `tag@corrected:...`: the corrected tag where there is one
- `known:steepness`: it has a value; a comparison with an unknown value is never met
- `-` before anything negates it, `or` takes either, brackets group

Behind an @ stands which one: `steepness@20,random`, `counterfactual_importance_kl@ta`. All columns are under *More*."""


@dataclass(frozen=True)
class Asked:
    query: str
    condition: Condition
    level: Level
    shown: tuple[Column, ...]
    sort: Column | None
    falling: bool
    page: int  # from 1


def asked(store: Store, known: KnownColumns, problems: DeltaGenerator) -> Asked:
    """The condition and the order, behind their controls; for a query that means nothing, what is wrong with it and
    the last that meant something.
    """
    query, level = _query(), _level()
    problem = None
    try:
        condition = parse(query, known)
    except QueryError as error:
        problem, last = error, _last_good(store)
        query, condition = last, parse(last, known) if last else Every()
    st.session_state[keys.of(_LAST)] = (str(store.path), query)
    shown = shown_columns(known, level)
    name, how = _order(known, shown)
    if problem is not None:
        with problems:
            _say(problem, query)
    page = selection.get(PAGE) or "1"
    if PAGE.takes(page):
        number = int(page)
    else:
        selection.forget_unknown(PAGE)
        number = 1
    return Asked(query, condition, level, shown, searched.named(known, name), how != _RISING, number)


def _query() -> str:
    now = selection.get(SEARCH) or ""

    def take(said: str | None) -> None:
        choose_search((said or "").strip())

    st.text_input(
        "Search",
        placeholder='importance > 0.2 tag:self_checking "wait"',
        max_chars=LONGEST,
        help=HELP,
        width="stretch",
        **selection.following("search", now, take),
    )
    return now


def choose_search(query: str, level: str | None = None) -> None:
    """Look for this, from its first row on."""
    selection.choose({SEARCH: query or None, PAGE: None} | ({} if level is None else {LEVEL: level}))


def _level() -> Level:
    level = selection.pick(
        LEVEL,
        "List",
        show=_LEVELS.__getitem__,
        widget=st.segmented_control,
        required=True,
        then=lambda: selection.choose({SORT: None, PAGE: None}),
        help="A CoT is listed where it matches itself, or any of its chunks does.",
        width="content",
    )
    return "cots" if level == "cots" else "chunks"


def shown_columns(known: KnownColumns, level: Level) -> tuple[Column, ...]:
    """Those that were chosen, else the usual ones, as far as the study has them."""
    chosen = (selection.get(COLUMNS) or "").split("|")
    found = [column for name in chosen if name and (column := searched.named(known, name))]
    return tuple(found or (known[name] for name in USUAL[level] if name in known))


def _order(known: KnownColumns, shown: tuple[Column, ...]) -> tuple[str, str]:
    """By which column, and whether falling or rising."""
    sortable = [column.name for column in shown]
    usual = f"importance:{_FALLING}" if "importance" in known else READING_ORDER
    chosen = selection.get(SORT) or usual
    name, _, how = chosen.rpartition(":")
    if chosen != READING_ORDER and (how not in _ARROWS or searched.named(known, name) is None):
        selection.forget_unknown(SORT)
        chosen = usual
    options = [READING_ORDER, *(f"{name}:{how}" for name in sortable for how in _ARROWS)]
    options = options if chosen in options else [chosen, *options]
    selection.offer(
        "browse_sort",
        "Sort by",
        options,
        chosen,
        lambda value: selection.choose({SORT: value, PAGE: None}),
        show=_order_words,
        width=210,
        help="A click on a column's head sorts by it, a second one the other way round.",
    )
    name, _, how = chosen.rpartition(":")
    return name, how


def _order_words(value: str) -> str:
    name, _, how = value.rpartition(":")
    return value if value == READING_ORDER else f"{name} {_ARROWS.get(how, '')}"


def sort_by(name: str, now: Asked) -> None:
    """By this column, and where it is that already, the other way round."""
    again = now.sort is not None and now.sort.name == name
    selection.choose({SORT: f"{name}:{_RISING if again and now.falling else _FALLING}", PAGE: None})


def head(column: Column, now: Asked) -> str:
    """What stands above the column."""
    if now.sort is None or now.sort.name != column.name:
        return column.name
    return f"{column.name} {_ARROWS[_FALLING if now.falling else _RISING]}"


def columns(store: Store, known: KnownColumns, now: Asked) -> None:
    """What few people need: which columns are shown, and whose tags count."""
    names = [column.name for column in now.shown]
    options = [*dict.fromkeys([*known, *names])]
    followed = selection.following("browse_columns", names, _choose_columns, initial="default")
    st.multiselect(
        "Columns",
        options,
        help="Any of them can stand in a search. A feature's activations: type fires:12 in the search.",
        **followed,
    )
    if len(sources := store.tag_sources()) > 1:
        selection.pick(chunk_colours.TAGS, "Tags from", sources)


def _choose_columns(names: list[str] | None) -> None:
    selection.choose({COLUMNS: "|".join(names or ()) or None})


def _last_good(store: Store) -> str:
    path, query = st.session_state.get(keys.of(_LAST), ("", ""))
    return query if path == str(store.path) else ""


def _say(problem: QueryError, last: str) -> None:
    with st.container(border=True, gap="xsmall", key=keys.of("browse_problem")):
        show(str(problem))
        show_exactly(problem.pointed)
        show(f"The table is still of: {last}" if last else "The table is still of everything.")
