"""Charts of a dictionary's features that filter and open."""

import pandas as pd
import streamlit as st

from app.crosscoder import nulls
from app.crosscoder.classes import firing, how_compared
from app.crosscoder.filters import MOST_ROWS, choose, chosen_filters, filtered
from app.figures.crosscoder import frequency_histogram, nrn_and_scaling, nrn_histogram
from app.shared import chosen_dictionary
from app.shared.clicks import boxes
from app.shared.feature_filters import Between, Filters
from app.shared.views import Here
from app.shell import keys
from app.shell.data_figure import data_figure
from backend.crosscoder.null_kinds import PAIRS
from backend.store.store import Store

_TURN = "feature_chart_turn"


def draw(here: Here, store: Store) -> None:
    """Of two models what compares them; of one how often its features fire."""
    if chosen_dictionary.compares(here.dictionary):
        _compared(here)
    else:
        _alone(here.features, here.once(filtered).filters)


def _compared(here: Here) -> None:
    """NRN as a histogram to drag over, and against latent scaling, to click."""
    rows, dictionary, found, how = here.features, here.dictionary, here.once(filtered), here.once(how_compared)
    kept, filters, norm, scaling = found.kept, found.filters, how.norm, how.scaling
    left, right = st.columns(2, gap="medium")
    column, turn = f"nrn_{norm}", st.session_state.get(_TURN, 0)
    with left:
        histogram = keys.of(f"nrn_histogram_{turn}")
        data_figure(
            nrn_histogram(
                firing(rows), norm=norm, chosen=_chosen(filters, column, 0.0, 1.0), nulls=_pairs(here), band=_ends(here)
            ),
            key=histogram,
            selection_mode="box",
            on_select=lambda: _brushed(histogram, x=column),
        )
        st.caption(
            "Drag over a range to keep only its features in the chart beside and in the table. Dashed: 0.5, equal"
            f" norms. The {len(rows) - len(firing(rows)):,} features that never fire are left out."
            + (" Grey: the 99% band of the null pairs; lines: their own features." if _ends(here) else "")
        )
    with right:
        drawn, scatter = kept.head(MOST_ROWS), keys.of(f"nrn_and_scaling_{turn}")
        share = {"nu_eps": "share_eps", "nu_r": "share_r"}[scaling]
        data_figure(
            nrn_and_scaling(drawn, norm=norm, scaling=scaling, selected=chosen_dictionary.feature(dictionary)),
            key=scatter,
            selection_mode=("points", "box"),
            config={"scrollZoom": True},
            on_select=lambda: _taken(scatter, dictionary, x=column, y=share),
        )
        left_out = f" Only the first {MOST_ROWS:,} of {len(kept):,} are drawn." if len(kept) > len(drawn) else ""
        st.caption(
            "Click a mark to select its feature; the toolbar's box keeps what is in it. Shaded: the norms say one model"
            " only and this ν finds the feature in both: faked. A class asks both ν and reads L2 norms: a few marks"
            " stand outside their shade." + left_out
        )


def _pairs(here: Here) -> pd.DataFrame:
    """Live features of the null pairs."""
    found = here.once(nulls.null_features)
    return found[found["null"].isin(PAIRS) & (found["frequency"] > 0)]


def _ends(here: Here) -> tuple[float, float] | None:
    """Of the null pairs' band."""
    found = here.once(nulls.band)
    return None if found is None else (found.low, found.high)


def _alone(rows: pd.DataFrame, filters: Filters) -> None:
    """For a dictionary of one model: how often features fire."""
    st.caption("This dictionary reads one model. NRN, latent scaling and classes compare two: here they are unknown.")
    key = keys.of(f"frequency_histogram_{st.session_state.get(_TURN, 0)}")
    data_figure(
        frequency_histogram(rows, chosen=_chosen(filters, "frequency", 0.0, 1.0)),
        key=key,
        selection_mode="box",
        on_select=lambda: _brushed(key, x="frequency", logarithmic=True),
    )
    st.caption("Drag over a range to keep only its features in the table.")


def _chosen(filters: Filters, column: str, lowest: float, highest: float) -> tuple[float, float] | None:
    """The bounds of a filter, to be shaded; None where there are none."""
    given = filters.get(column)
    if not isinstance(given, Between) or given == Between():
        return None
    return lowest if given.low is None else given.low, highest if given.high is None else given.high


def _brushed(key: str, *, x: str, y: str | None = None, logarithmic: bool = False) -> None:
    """Filter by the box that was drawn on the chart `key`; the next chart starts without it."""
    if not (drawn := boxes(key)):
        return
    filters = chosen_filters()
    for column, side in ((x, "x"), (y, "y")):
        if column is not None:
            low, high = (round(float(end), 6) for end in sorted(drawn[0][side])[:: len(drawn[0][side]) - 1])
            filters[column] = Between(10**low, 10**high) if logarithmic else Between(max(0.0, low), min(1.0, high))
    choose(filters)
    st.session_state[_TURN] = st.session_state.get(_TURN, 0) + 1


def _taken(key: str, dictionary: pd.Series, *, x: str, y: str) -> None:
    if boxes(key):
        _brushed(key, x=x, y=y)
    else:
        chosen_dictionary.choose_clicked(key, dictionary)
