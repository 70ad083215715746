"""What answers forced at the cap, and rollouts drawn later, change: this chunk's metrics with and without them, and one
metric over the study.
"""

import pandas as pd
import streamlit as st

from app.figures.chunk_metrics import with_and_without
from app.shared import chunk_colours
from app.shared.answer_shares import part_of
from app.shared.clicks import go_to_clicked
from app.shared.views import Here
from app.shell import keys, selection
from app.shell.data_figure import data_figure
from app.shell.data_table import data_table
from app.shell.missing import command, no_rollouts, say, undone
from app.shell.numbers import count, interval, number
from app.shell.untrusted import show
from app.shell.vocabulary import metric, metric_choice
from backend.importance.with_and_without import Moves, moves
from backend.store.answered import FORCED_AT_CAP
from backend.store.store import Store


def draw(here: Here, store: Store) -> None:
    where, choices = here.chunk, chunk_colours.importance_options(store)
    answers = store.rollout_answers()
    if answers.empty or not choices:
        say(no_rollouts(store.coverage().iloc[0], store.path, has_tokens=True))
        return
    if not answers[["n_forced", "n_added"]].to_numpy().any():
        if answers["n_capped"].sum():
            say(undone(store.path, "capped_answers"))
        else:
            st.caption("No rollout of this study was cut by the token cap, so none was made to answer.")
        return
    st.markdown("**This chunk, with and without**")
    _chunk(store, where.cot, where.chunk)
    name, _, convention = selection.in_force(
        chunk_colours.METRIC, choices, chunk_colours.usual_choice(choices)
    ).partition(":")
    rows, key = store.with_and_without(name, convention), keys.of("with_and_without")
    st.markdown(f"**All chunks of the study: {metric_choice(f'{name}:{convention}')}**")
    shown = metric(name)
    data_figure(
        with_and_without(rows, shown, selected=where.chunk),
        words={shown.unit: f"{shown.label}. {shown.meaning}"},
        key=key,
        on_select=lambda: go_to_clicked(key, rows["chunk_id"]),
        selection_mode="points",
        config={"displayModeBar": False},
    )
    show(moves_line(moves(rows), rows))


def _chunk(store: Store, cot: str, chunk: str) -> None:
    rows = store.given_importance_of_chunk(chunk)
    if rows.empty:
        own = store.answers_in_cot(cot)[["n_forced", "n_added"]].sum()
        if own.any():
            show(
                "This chain has answers forced at the cap, or rollouts drawn later, that its stored importance does"
                f" not count yet. `{command(store.path, 'importance')}` takes them in."
            )
        else:
            st.caption("No rollout of this chain was forced at the cap or drawn later: both are the same here.")
        return
    table = both_table(rows)
    data_table(table, hide_index=True, row_height=30, height="content" if len(table) <= 12 else 360)
    st.caption(
        f"With: all rollouts, answers {FORCED_AT_CAP} counted, as everywhere else. Without: the study's own rollouts"
        f" and the answers that they gave. {len(rows) - len(table)} metrics are the same both ways. n: rollouts with an"
        " outcome, of the side that is named first : of the other. Intervals: bootstrap over rollouts, 95 %."
    )


def both_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of `Store.given_importance_of_chunk` whose value or n differs, as text, side by side."""
    differs = [
        (row.n, row.n_comparator) != (row.n_without, row.n_comparator_without) or row.value != row.value_without
        for row in rows.astype(object).where(rows.notna(), None).itertuples()
    ]
    kept = rows[differs]
    return pd.DataFrame(
        {
            "metric": [
                metric(row.metric).short + ("" if row.convention == "all" else f" · {row.convention}")
                for row in kept.itertuples()
            ],
            "with": [_side(row.value, row.ci_low, row.ci_high, row.n, row.n_comparator) for row in kept.itertuples()],
            "without": [
                _side(
                    row.value_without, row.ci_low_without, row.ci_high_without, row.n_without, row.n_comparator_without
                )
                for row in kept.itertuples()
            ],
        }
    )


def _side(value: float, low: float, high: float, n: float, n_comparator: float) -> str:
    against = "" if pd.isna(n_comparator) else f" : {count(n_comparator)}"
    return f"{number(value)} {interval(low, high)}, n {count(n)}{against}"


def moves_line(found: Moves, rows: pd.DataFrame) -> str:
    """How many chunks move, how far the farthest does, and how alike the two orders are."""
    if not found.n:
        return f"No chunk has both values; {found.n_gained} have one only with the forced answers."
    farthest = ""
    if found.chunk_id is not None:
        at = rows.set_index("chunk_id").loc[found.chunk_id]
        farthest = (
            f"; the farthest by {number(found.largest).replace('-', '−')} (chunk {at['number']} of CoT {at['cot_id']})"
        )
    gained = f"; {found.n_gained} more have a value only with them" if found.n_gained else ""
    return (
        f"{part_of(found.n_moved, found.n)} chunks move{farthest}{gained}. Spearman's ρ of the two = {found.rho:.3f},"
        f" n = {found.n}."
    )
