"""Receiver heads: which heads read few chunks of a chain much, and what each chunk of a chain receives in one."""

import pandas as pd
import streamlit as st

from app.figures import influence as figures
from app.shared import chunk_colours
from app.shared.chunk_list import three_digits
from app.shared.clicks import go_to_clicked, marks, picked_row
from app.shared.influence_ways import identical_words
from app.shared.model_names import called, in_full
from app.shared.views import Here
from app.shell import keys, selection, studies
from app.shell.data_figure import data_figure
from app.shell.data_table import data_table
from app.shell.fields import Field, declare
from app.shell.missing import Missing, undone
from app.shell.numbers import interval, number
from app.shell.untrusted import show
from backend.influence.over_study import shared_heads
from backend.store.store import Store

MODEL = declare(Field("influence_heads_of", "model whose heads are looked at", None))
HEAD = declare(Field("influence_head", "receiver head", None, of="influence_heads_of"))
_LISTED = 20


def measured(here: Here) -> Missing | None:
    """Heads whose kurtosis is known."""
    return undone(here.store.path, "receivers") if studies.ask(here.store.receiver_heads).empty else None


def chosen(here: Here) -> tuple[str, pd.DataFrame, tuple[int, int]]:
    """The model, its heads, and the one that is looked at, at first the one of the largest kurtosis."""
    rows = studies.ask(here.store.receiver_heads)
    words = {row.model_id: called(here.store, row.model_id) for row in rows.itertuples(index=False)}
    model = next(iter(words))
    if len(words) > 1:
        model = selection.pick(
            MODEL,
            "Heads of",
            list(words),
            show=words.__getitem__,
            help=in_full(here.store, words),
            widget=st.segmented_control,
            required=True,
        )
    own = rows[rows["model_id"] == model].sort_values("rank", kind="stable", ignore_index=True)
    names = [f"{row.layer}.{row.head}" for row in own.itertuples()]
    layer, head = map(int, str(selection.checked(HEAD, names)).split("."))
    return model, own, (layer, head)


def draw(here: Here, store: Store) -> None:
    """All heads as a map, those of the largest kurtosis beside their nulls, and how far halves of the study agree."""
    model, own, at = here.once(chosen)
    names = [f"{row.layer}.{row.head}" for row in own.itertuples()]
    left, right = st.columns([2, 3], gap="medium")
    map_key, top_key = keys.of("influence_head_map"), keys.of("influence_top_heads")
    kept = [(row.layer, row.head) for row in own[own["rank"] <= _top(store, model)].itertuples()]
    with left:
        data_figure(
            figures.head_map(own, selected=at, kept=kept),
            key=map_key,
            on_select=lambda: _choose(map_key, names),
            selection_mode="points",
        )
    with right:
        data_figure(
            figures.top_heads(own[own["rank"] <= _LISTED], selected=at),
            key=top_key,
            on_select=lambda: _choose(top_key, names),
            selection_mode="points",
        )
    show(in_words(own, studies.ask(store.receiver_reliability).query("model_id == @model")))
    if said := alike_in_words(studies.ask(store.receiver_heads)):
        show(said)
    data_table(
        head_table(own.head(_LISTED)),
        hide_index=True,
        row_height=28,
        column_config=three_digits(head_table(own)),
        height=min(380, 40 + 28 * len(own.head(_LISTED))),
        key=(table := keys.of(f"influence_head_rows_{model}")),
        on_select=lambda: _choose_row(table, names[:_LISTED]),
        selection_mode="single-row",
    )
    st.caption(
        "Kurtosis (Fisher's) over the chunks of a CoT of the mean attention that each receives from later chunks, the"
        " nearest ones left out, mean over CoTs: large where few chunks receive much (Bogdan et al. 2025). Long chains"
        " have a larger one, and short or early chunks receive more whatever they say: grey is what is left when at"
        " each distance the attention of pairs is dealt anew, the diamond what lengths and distance alone give."
        " Intervals: 95 %, problems drawn anew; the first of some hundred heads is the first by chance too, and its"
        " interval is not corrected for that. Choose a head in any of the three."
    )


def _top(store: Store, model: str) -> int:
    rows = studies.ask(store.receiver_reliability)
    own = rows.loc[rows["model_id"] == model, "top"].dropna()
    return int(own.max()) if len(own) else 0


def _choose(key: str, names: list[str]) -> None:
    mark = next(iter(marks(key)), None)
    if mark in names:
        selection.choose({HEAD: str(mark)})


def _choose_row(key: str, names: list[str]) -> None:
    if (picked := picked_row(key, len(names))) is not None:
        selection.choose({HEAD: names[picked]})


def in_words(own: pd.DataFrame, splits: pd.DataFrame) -> str:
    """How many heads stand out of their nulls, and how far halves of the study choose the same."""
    measured_ = own.dropna(subset=["kurtosis", "low", "shuffled_high"])
    above = measured_[measured_["low"] > measured_["shuffled_high"]]
    further = above[above["low"] > above["placed"]]
    said = (
        f"Of {len(measured_)} heads {len(above) or 'none'} {'has' if len(above) < 2 else 'have'} an interval above what"
        " deals at equal distance give"
        + (f", and {len(further)} of these above what lengths and distance alone give too." if len(above) else ".")
        if len(measured_)
        else "No head's interval is known: there are too few problems."
    )
    known = splits.dropna(subset="spearman")
    if known.empty:
        return f"{said} How far halves of the study agree is unknown."
    first = known.iloc[0]
    return (
        f"{said} Ranked in two halves of the problems, {len(known)} times, heads correlate by"
        f" {number(known['spearman'].mean())} ({number(known['spearman'].min())} to {number(known['spearman'].max())}),"
        f" and {number(known['shared'].mean())} of the first {first.top} are the same, where chance gives"
        f" {number(known['by_chance'].mean())}."
    )


def alike_in_words(rows: pd.DataFrame) -> str:
    """What base and distilled have in common, with blocks in which they are one measurement set apart; empty where
    not both are known.
    """
    models = {str(row.role): str(row.model_id) for row in rows.dropna(subset="kurtosis").itertuples()}
    if not {"base", "distilled"} <= set(models):
        return ""
    found = shared_heads(rows, models["base"], models["distilled"], top=_LISTED)
    where = "of each model in later blocks" if found.n_blocks else "of each model"
    compared_ = (
        f"Of the first {found.top} heads {where},"
        f" {found.shared} are the same, where chance gives {number(found.by_chance)}."
        if found.top
        else "No head is left to compare."
    )
    return f"{identical_words(rows)} {compared_}".strip()


def head_table(own: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "rank": own["rank"].tolist(),
            "layer": own["layer"].tolist(),
            "head": own["head"].tolist(),
            "kurtosis": [_rounded(value) for value in own["kurtosis"]],
            "95 % interval": [interval(*pair) for pair in zip(own["low"], own["high"], strict=True)],
            "dealt anew": [_rounded(value) for value in own["shuffled"]],
            "its 95 %": [interval(*pair) for pair in zip(own["shuffled_low"], own["shuffled_high"], strict=True)],
            "lengths and distance": [_rounded(value) for value in own["placed"]],
            "CoTs": own["n_cots"].tolist(),
            "problems": own["n_problems"].tolist(),
        }
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None or pd.isna(value) else float(f"{value:.3g}")


def draw_received(here: Here, store: Store) -> None:
    """What each chunk of the chosen chain receives in the chosen head."""
    model, _, (layer, head) = here.once(chosen)
    rows = store.received_attention(here.chunk.cot, model, layer, head)
    st.markdown(f"**Layer {layer}, head {head}: what each chunk of the chain receives**")
    if rows.empty:
        st.caption(
            "The attention in this head is not kept for this chain: it is of the heads of the first ranks (dotted in"
            " the map), in the CoTs that were read."
        )
        return
    sources = store.tag_sources()
    tags = store.first_tags(selection.checked(chunk_colours.TAGS, sources) or "") if sources else {}
    rows = rows.assign(category=rows["chunk_id"].map(tags))
    key = keys.of("influence_received")
    data_figure(
        figures.received_curve(rows, selected=here.chunk.chunk),
        key=key,
        on_select=lambda: go_to_clicked(key, rows["chunk_id"]),
        selection_mode="points",
    )
    unknown = int(rows["received"].isna().sum())
    st.caption(
        f"{len(rows)} chunks, coloured by their tags; {unknown} have no chunk so far after them. A click selects the"
        " chunk."
    )
    text = rows.loc[rows["chunk_id"] == here.chunk.chunk, "text"]
    if len(text):
        st.caption(f"Chunk {chosen_place(rows, here.chunk.chunk)}, selected:")
        show(str(text.iloc[0]).strip())


def chosen_place(rows: pd.DataFrame, chunk: str) -> int:
    return int(rows.loc[rows["chunk_id"] == chunk, "chunk_index"].iloc[0]) + 1
