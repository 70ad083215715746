"""Studies side by side: few numbers a model, by its size, seed or step of training."""

import pandas as pd
import streamlit as st

from app.figures.compared_studies import by_axis
from app.shared.views import Here
from app.shell import keys, selection, studies
from app.shell.data_figure import data_figure
from app.shell.data_table import data_table
from app.shell.fields import Field, declare
from app.shell.numbers import count, interval, number
from app.shell.untrusted import one_line, show
from backend.errors import AnchorscopeError
from backend.findings.across_studies import AXES, QUANTITIES, Point, frame_of, points
from backend.models.names import role_words
from backend.root import PRECOMPUTE
from backend.store.store import Store

COMPARED = declare(Field("compared_studies", "studies that are compared", None, of=None))
ALONG = declare(Field("compared_along", "what studies are compared along", AXES, default="size", of=None))
_AT_FIRST = 6  # each is opened


def draw(here: Here, store: Store) -> None:
    """The pickers, the figure, and every number in a table."""
    known = studies.found()
    open_now = [name for name, path in known.items() if path == store.path]
    usual = list(dict.fromkeys([*open_now, *known]))[:_AT_FIRST]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = selection.pick_several(COMPARED, "Studies", list(known), usual=usual, width=620)
        along = selection.pick(ALONG, "Along", show=AXES.__getitem__, width=220)
    found: list[Point] = []
    for name in chosen:
        try:
            found += _points(studies.open_store(known[name]), name)
        except AnchorscopeError as error:
            show(f"{one_line(name, 60)} is left out: {error}")
    rows = frame_of(found)
    data_figure(by_axis(rows, along=along, axis=AXES[along], quantities=QUANTITIES), key=keys.of("studies_by_axis"))
    placed = rows[rows["value"].notna()]
    if n_out := int(placed[along].isna().sum()):
        show(f"{n_out} of {len(placed)} values have no place along {AXES[along]}, which is unknown: see the table.")
    show(
        "Grey is what chance alone gives at that point: features shared by both models, shuffled word pairs, directions"
        " drawn in their stead, importance permuted within CoTs. Studies differ in more than the axis says: the last"
        " column says what each number is of."
    )
    data_table(table(rows), hide_index=True, key=keys.of("studies_compared"))
    show(f"The same from a terminal: {PRECOMPUTE} compare, and the studies' names or paths.")


def _points(store: Store, name: str) -> list[Point]:
    return _remembered(store, str(store.generation), store.published_at, name)


@st.cache_data(max_entries=32, show_spinner=False)
def _remembered(_store: Store, generation: str, published_at: str, name: str) -> list[Point]:
    return points(_store, name)


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Every quantity of every model, with interval, n and null; unknown is said."""
    return pd.DataFrame(
        {
            "study": [one_line(name, 60) for name in rows["study"]],
            "model": [one_line(name, 60) for name in rows["model"]],
            "role": [role_words(role) for role in rows["role"]],
            "parameters": [_parameters(row) for row in rows.to_dict("records")],
            "seed": [_whole(value) for value in rows["seed"]],
            "step": [_whole(value) for value in rows["step"]],
            "quantity": [QUANTITIES[name] for name in rows["quantity"]],
            "value": [number(value) for value in rows["value"]],
            "95 %": [interval(low, high) for low, high in zip(rows["low"], rows["high"], strict=True)],
            "n": [_counted(row) for row in rows.to_dict("records")],
            "chance": [_null(row) for row in rows.to_dict("records")],
            "of": [one_line(where, 120) or "unknown" for where in rows["where"]],
        }
    )


def _parameters(row: dict[str, object]) -> str:
    return "unknown" if pd.isna(row["size"]) else f"{float(str(row['size'])):.3g}, by {row['size_from']}"


def _whole(value: float | None) -> str:
    return "unknown" if value is None or pd.isna(value) else f"{int(value)}"


def _counted(row: dict[str, object]) -> str:
    n = row["n"]
    return "unknown" if n is None or pd.isna(n) else f"{count(float(str(n)))} {row['of']}"


def _null(row: dict[str, object]) -> str:
    low, high = (None if pd.isna(row[name]) else float(str(row[name])) for name in ("null_low", "null_high"))
    return number(low) if low == high else interval(low, high)
