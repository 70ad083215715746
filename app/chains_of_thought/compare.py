"""Two chains of one problem from where they part, and two chunks by every metric: what is open beside what is pinned.

Chunks are the same as long as their texts are, spaces at the ends aside. From the first that differs on they stand side
by side in their order, which is no alignment of what they say.
"""

from itertools import takewhile, zip_longest

import pandas as pd
import streamlit as st

from app.shared import chosen_chain, chunk_colours, views
from app.shared.chosen_chunk import CHUNK
from app.shared.chunk_list import three_digits
from app.shared.views import Here
from app.shell import keys, selection, studies
from app.shell.data_table import data_table
from app.shell.fields import Field, declare
from app.shell.untrusted import one_line, show
from app.shell.vocabulary import metric, metric_choice
from backend.store.store import Store

PINNED = declare(Field("pinned_chunk", "pinned chunk", None))
BESIDE = declare(Field("compared_cot", "chain that is compared", None, of="problem"))


def pin() -> None:
    """Pin the chunk that is open, or let go of it where it is the pinned one."""
    now = selection.get(CHUNK)
    selection.choose({PINNED: None if selection.get(PINNED) == now else now})


def draw(here: Here, store: Store) -> None:
    where, pinned = here.chunk, _pinned(store)
    others = _others(store, where.cot, pinned)
    if not others:
        st.caption("The problem of this chain has no other one. Press p to pin a chunk, and open another chain.")
        return
    with views.controls():
        other = selection.pick(BESIDE, "Beside", others, show=lambda cot: chosen_chain.in_words(store, cot), width=260)
    choices = chunk_colours.importance_options(store)
    choice = chunk_colours.metric_in_force(choices) if choices else ":"
    name, _, convention = choice.partition(":")
    own, second = (chunk_colours.chunks(store, cot, "", name, convention) for cot in (where.cot, other))
    n_same = shared(own["text"].tolist(), second["text"].tolist())
    show(
        f"{chosen_chain.in_words(store, where.cot)}, beside {chosen_chain.in_words(store, other)}. "
        + parted(n_same, len(own), len(second))
    )
    table = side_by_side(own.iloc[n_same:], second.iloc[n_same:])
    data_table(
        table,
        hide_index=True,
        row_height=30,
        height="content" if len(table) <= 12 else 400,
        key=keys.of("compared_chains"),
        column_config=three_digits(table),
    )
    if choices:
        st.caption(f"Values: {metric_choice(choice)}; an empty cell is unknown. Difference: this less the other.")
    if pinned is not None and pinned != where.chunk:
        st.markdown("**This chunk, and the pinned one**")
        both = of_chunks(store.importance_of_chunk(where.chunk), store.importance_of_chunk(pinned))
        data_table(
            both,
            hide_index=True,
            row_height=30,
            height="content" if len(both) <= 12 else 400,
            key=keys.of("compared_chunks"),
            column_config=three_digits(both),
        )


def _pinned(store: Store) -> str | None:
    """The pinned chunk, where the study has it."""
    chunk = selection.get(PINNED)
    if chunk is not None and store.chunk_place(chunk).empty:
        selection.forget_unknown(PINNED)
        return None
    return chunk


def _others(store: Store, cot: str, pinned: str | None) -> list[str]:
    """What can stand beside the chain: first that of the pinned chunk, then the problem's of another verdict, then of
    another model, then the rest.
    """
    cots = studies.ask(store.cot_index)
    own = cots[cots["cot_id"] == cot].iloc[0]
    there = cots[(cots["problem_id"] == own.problem_id) & (cots["cot_id"] != cot) & (cots["n_chunks"] > 0)]
    ranked = there.assign(
        alike=(there["is_correct"].astype(object) == own.is_correct).astype(int),
        own_model=(there["model_id"] == own.model_id).astype(int),
    ).sort_values(["alike", "own_model", "sample", "cot_id"], kind="stable")
    first = [] if pinned is None else store.chunk_place(pinned)["cot_id"].tolist()
    return [one for one in dict.fromkeys([*first, *ranked["cot_id"]]) if one != cot]


# Numbers


def shared(own: list[str], other: list[str]) -> int:
    """How many chunks from the beginning on are the same in both."""
    pairs = zip(own, other, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0].strip() == pair[1].strip(), pairs))


def parted(n_same: int, n_own: int, n_other: int) -> str:
    """Where two chains part, in words."""
    if n_same == n_own == n_other:
        return f"All {n_own} chunks are the same."
    if not n_same:
        return "They part at the first chunk."
    return f"The first {n_same} chunk{'s are' if n_same > 1 else ' is'} the same; they part at chunk {n_same + 1}."


def side_by_side(own: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """Chunks (`number`, `text`, `value`) in their order, row by row; empty where one chain has ended."""
    columns = ["number", "text", "value"]
    pairs = zip_longest(own[columns].itertuples(), other[columns].itertuples())
    rows = [
        {
            "chunk": None if one is None else one.number,
            "this chain": None if one is None else one_line(one.text, 160),
            "the other": None if two is None else one_line(two.text, 160),
            "value": None if one is None else one.value,
            "other's": None if two is None else two.value,
            "difference": None if one is None or two is None else one.value - two.value,
        }
        for one, two in pairs
    ]
    found = pd.DataFrame(rows, columns=["chunk", "this chain", "the other", "value", "other's", "difference"])
    return found.astype({name: "float64" for name in ("value", "other's", "difference")})


def of_chunks(own: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """Rows of `Store.importance_of_chunk` of two chunks, by metric and convention, with their difference."""
    both = own[["metric", "convention", "value"]].merge(
        other[["metric", "convention", "value"]], on=["metric", "convention"], how="outer", suffixes=("", "_other")
    )
    values = both[["value", "value_other"]].astype("float64")
    return pd.DataFrame(
        {
            "metric": [
                metric(row.metric).short + ("" if row.convention == "all" else f" · {row.convention}")
                for row in both.itertuples()
            ],
            "this": values["value"],
            "pinned": values["value_other"],
            "difference": values["value"] - values["value_other"],
        }
    )
