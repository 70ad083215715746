"""The table of what was found."""

from typing import Any

import pandas as pd
import streamlit as st

from app.browse import asked as asking
from app.browse import saved
from app.browse.asked import Asked, asked
from app.shared import chosen_chunk, chunk_colours, clicks, searched
from app.shared.views import Here
from app.shell import keys, selection
from app.shell.data_table import data_table
from app.shell.more import more
from app.shell.untrusted import for_markdown, one_line, show
from backend.ids import stable_id
from backend.search.columns import KnownColumns
from backend.search.language import parse
from backend.store.notes import stamp
from backend.store.search_queries import Column
from backend.store.store import Store

ROWS = 100  # of one page of the table
_WIDTHS = {"tag": 140, "model": 80, "text": 250, "question": 250}  # pixels; of others the head decides
_MATCHING = "matching"


def draw(here: Here, store: Store) -> None:
    known = searched.columns(store)
    row, problems = st.container(horizontal=True, vertical_alignment="bottom", gap="small"), st.container()
    with row:
        now = asked(store, known, problems)
        saved.draw(store, now)
        with more(asking.COLUMNS):
            asking.columns(store, known, now)
            _export(store, now)
    counts = _answered(store, known, now, "counts")
    pages = max(1, -(-int(counts["n"].iloc[0]) // ROWS))
    page = min(now.page, pages)
    rows = _answered(store, known, now, "rows", page=page)
    show(_counted(counts, now))
    _table(rows, now, page)
    if pages > 1:
        _pages(page, pages, int(counts["n"].iloc[0]))


def _answered(store: Store, known: KnownColumns, now: Asked, what: str, page: int = 1) -> pd.DataFrame:
    """The store's answer, remembered for the generation it was asked of."""
    shown = tuple(column.name for column in now.shown)
    source = selection.checked(chunk_colours.TAGS, store.tag_sources()) or ""
    return _remembered(
        store,
        known,
        (str(store.generation), store.published_at, stamp(store.path), source, known.dictionary),
        what,
        now.query,
        now.level,
        shown if what == "rows" else (),
        (now.sort.name if now.sort else "", now.falling) if what == "rows" else (),
        page,
    )


@st.cache_data(max_entries=64, show_spinner=False)
def _remembered(
    _store: Store,
    _known: KnownColumns,
    of: tuple[Any, ...],
    what: str,
    query: str,
    level: Any,
    shown: tuple[str, ...],
    order: tuple[Any, ...],
    page: int,
) -> pd.DataFrame:
    condition = parse(query, _known)
    if what == "counts":
        return _store.search_counts(condition, level=level)
    name, falling = order
    return _store.search(
        condition,
        [_known[name] for name in shown],
        level=level,
        sort=_known[name] if name else None,
        falling=falling,
        limit=ROWS,
        offset=ROWS * (page - 1),
    )


def _counted(counts: pd.DataFrame, now: Asked) -> str:
    """How many were found, and how many are left out for what is not known of them."""
    things = "chunks" if now.level == "chunks" else "CoTs"
    first = counts.iloc[0]
    words = f"{int(first['n']):,} of {int(first['n_all']):,} {things}"
    unknown = counts[counts["n_unknown"] > 0]
    if len(unknown):
        left = ", ".join(f"{row.n_unknown:,} without a known {row.name}" for row in unknown.itertuples(index=False))
        words += f" · left out: {left}"
    if now.level == "cots":
        words += " · numbers of chunks are the largest among the CoT’s chunks that match, q and p the smallest"
    return words


def _table(rows: pd.DataFrame, now: Asked, page: int) -> None:
    view = (now.query, now.level, now.sort and now.sort.name, now.falling, page)
    key = keys.of(f"browse_{stable_id('t', *map(str, view))}")

    def taken() -> None:
        if (name := clicks.picked_column(key, list(rows.columns))) is not None:
            asking.sort_by(name, now)
        elif (picked := clicks.picked_cell(key, len(rows))) is not None:
            _go(rows.iloc[picked])

    data_table(
        shown_rows(rows, now),
        hide_index=True,
        column_config=_heads(now),
        row_height=30,
        height=470 if len(rows) > 14 else "content",
        key=key,
        on_select=taken,
        selection_mode=("single-cell", "single-column"),
    )


def _go(row: pd.Series) -> None:
    if isinstance(row["chunk_id"], str):
        chosen_chunk.go(row["chunk_id"])
    else:  # the CoT matches as a whole, and none of its chunks does by itself
        selection.choose({chosen_chunk.PROBLEM: None, chosen_chunk.COT: row["cot_id"], chosen_chunk.CHUNK: None})


def shown_rows(rows: pd.DataFrame, now: Asked) -> pd.DataFrame:
    """The columns as a person reads them."""
    found = {column.name: _said(column, rows[column.name]) for column in now.shown}
    if now.level == "cots":
        found = {_MATCHING: rows["n_matching"], **found}
    return pd.DataFrame(found, index=rows.index)


def _said(column: Column, values: pd.Series) -> Any:
    if column.holds == "text":
        return [None if pd.isna(text) else one_line(text, 300) for text in values]
    if column.holds == "yes or no":
        return [None if pd.isna(value) else "yes" if value else "no" for value in values]
    if column.holds == "word":
        return [None if (said := searched.word(column, value)) is None else one_line(said, 80) for value in values]
    return values


def _heads(now: Asked) -> dict[str, Any]:
    found: dict[str, Any] = {_MATCHING: st.column_config.NumberColumn(width=80, help="Chunks of the CoT that match.")}
    for column in now.shown:
        words = asking.head(column, now), for_markdown(searched.meaning(column), 400)
        width = max(7 * len(words[0]) + 24, _WIDTHS.get(column.name, 60))
        if column.holds == "number":
            number, width = ("%d", width) if column.is_whole else ("%.3g", max(width, 82))
            found[column.name] = st.column_config.NumberColumn(words[0], help=words[1], format=number, width=width)
        else:
            found[column.name] = st.column_config.TextColumn(words[0], help=words[1], width=width)
    return found


def _pages(page: int, pages: int, n: int) -> None:
    def turn(to: int) -> None:
        selection.choose({asking.PAGE: str(to)})

    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.button(
            "Before",
            icon=":material/chevron_left:",
            disabled=page == 1,
            on_click=turn,
            args=(page - 1,),
            key=keys.of("browse_before"),
        )
        st.button(
            "Next",
            icon=":material/chevron_right:",
            disabled=page == pages,
            on_click=turn,
            args=(page + 1,),
            key=keys.of("browse_next"),
        )
        st.text(f"{ROWS * (page - 1) + 1:,}–{min(n, ROWS * page):,} of {n:,}")


def _export(store: Store, now: Asked) -> None:
    """A button for all that was found; it is asked for where it is pressed."""
    st.download_button(
        "All of it as CSV",
        lambda: as_csv(store, now),
        file_name=f"{now.level}.csv",
        mime="text/csv",
        icon=":material/download:",
        key=keys.of("browse_csv"),
        on_click="ignore",
    )


def as_csv(store: Store, now: Asked) -> str:
    """One line a chunk or CoT with its ids and the columns that are shown, texts whole; unknown is empty."""
    return store.search(now.condition, now.shown, level=now.level, sort=now.sort, falling=now.falling).to_csv(
        index=False
    )
