"""Over a study: which kinds of chunk act furthest, beside what their places give, and influence by distance."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
import streamlit as st

from app.figures import influence as figures
from app.shared import chunk_colours
from app.shared.chunk_list import three_digits
from app.shared.influence_ways import WAY, WAYS, Way, choose_part, export_pairs, identical_words
from app.shared.model_names import called
from app.shared.statistics_cache import (
    influence_by_category,
    influence_by_distance,
    influence_differences,
    influence_of_chunks,
)
from app.shared.views import Here
from app.shell import keys, selection, studies
from app.shell.data_figure import data_figure
from app.shell.data_table import data_table
from app.shell.fields import Field, declare
from app.shell.missing import Missing, undone
from app.shell.numbers import interval, number
from app.shell.untrusted import for_markdown, show
from app.shell.vocabulary import category
from backend.influence.over_study import OUT
from backend.models.names import ROLES
from backend.store.influence_queries import span_words
from backend.store.store import Store

_QUANTITIES = {  # what a chunk does, its axis
    OUT: "mean over later chunks",
    "last_reader": "chunks to the last it moves",
    "answer_kl": "KL of the answer, nats",
}
QUANTITY = declare(Field("influence_of_chunk", "what a chunk does", _QUANTITIES, of="influence_way"))
_FEWEST = 6  # problems below which no p can fall to 0.05


@dataclass(frozen=True)
class Asked:
    """The pairs of a way under a part, and who reads them."""

    way: Way
    part: str
    words: Mapping[str, str]  # of the models that read, by id; one without a name where the way has none

    def in_order(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The rows of each model that reads, named, the base before the distilled one."""
        order = rows["model_id"].map(list(self.words).index)
        return rows.assign(model=rows["model_id"].map(self.words)).iloc[order.argsort(kind="stable")]

    @property
    def roles(self) -> dict[str, str]:
        """Of a base and a reasoner, whose is which."""
        return {word: model for model, word in self.words.items() if word in ROLES.values()}


def known(here: Here) -> Missing | None:
    """Pairs of chunks by any way."""
    readings = studies.ask(here.store.influence_readings)
    return None if (readings["n_pairs"] > 0).any() else undone(here.store.path, "influence")


def asked(here: Here) -> Asked:
    """The controls of way and part, and who reads."""
    readings = studies.ask(here.store.influence_readings)
    readings = readings[readings["n_pairs"] > 0]
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        name = selection.pick(
            WAY,
            "Method",
            [name for name in WAYS if name in set(readings["way"])],
            show=lambda name: WAYS[name].label,
            widget=st.segmented_control,
            required=True,
        )
        own = readings[readings["way"] == name]
        part = choose_part(own["part"].drop_duplicates().tolist())
        export_pairs(here.store, WAYS[name])
    own = own[own["part"] == part]
    words = {row.model_id: called(here.store, row.model_id) if row.model_id else "rollouts" for row in own.itertuples()}
    return Asked(WAYS[name], part, words)


def draw_categories(here: Here, store: Store) -> None:
    """The figure, what it says, and the table behind it."""
    at = here.once(asked)
    offered = list(_QUANTITIES) if at.way.name == "suppression" else [OUT]
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        quantity = offered[0]
        if len(offered) > 1:
            quantity = selection.pick(QUANTITY, "What a chunk does", offered, show=_QUANTITIES.__getitem__, width=280)
        sources = store.tag_sources()
        source = sources[0] if sources else ""
        if len(sources) > 1:
            source = selection.pick(chunk_colours.TAGS, "Tags from", sources, width=240)
    chunks = influence_of_chunks(store, at.way.name, at.part, quantity, source)
    if chunks["category"].isna().all():
        st.caption("No chunk of these chains has a tag, so that categories cannot be told apart.")
        return
    rows = influence_by_category(chunks)
    rows = at.in_order(rows).assign(label=rows["category"].map(category))
    axis = f"{at.way.value}, {_QUANTITIES[quantity]}" if quantity == OUT else _QUANTITIES[quantity]
    data_figure(
        figures.categories(rows, axis=axis + (f" ({at.way.unit})" if quantity == OUT else "")),
        key=keys.of("influence_categories"),
    )
    show(in_words(rows))
    _table(category_table(rows), key="influence_category_rows")
    if set(ROLES.values()) <= set(at.roles):
        apart = influence_differences(chunks, *(at.roles[word] for word in ROLES.values()))
        st.markdown("**Reasoner − base, over the chunks that both read**")
        _table(difference_table(apart), key="influence_apart")
    st.caption(_explained(rows, quantity))
    if at.way.name == "attention" and (words := identical_words(studies.ask(store.receiver_heads))):
        st.caption(words)


def _explained(rows: pd.DataFrame, quantity: str) -> str:
    unplaced = int((rows["n"] - rows["n_placed"]).sum())
    return (
        "Intervals: 95 %, problems drawn anew. Two things stand beside each mean. The grey bar: values dealt anew among"
        " the chunks of one CoT and third of it, 999 times, so that a category keeps its chains and places; p is"
        " two-sided, corrected (Holm) for every row shown. The tick: the mean of other CoTs' chunks at the same fifth"
        + (" and the same distances" if quantity == OUT else " with about as many chunks after them")
        + (f"; {unplaced} chunks stand where no other CoT has one and take no part in it" if unplaced else "")
        + ". A mean of KLs is carried by few large ones. What a category does may be its position in the argument, its"
        " length or its words: nothing here was intervened on but attention."
    )


def in_words(rows: pd.DataFrame) -> str:
    """Which categories act further than their places give, and which less, model by model."""
    said = []
    for model, own in rows.groupby("model", sort=False):
        tested = own[(own["n_problems"] >= _FEWEST) & own["p"].notna()]
        told = tested[tested["p_holm"] <= 0.05]
        further = told.loc[told["mean"] > told["null_mean"], "label"].str.lower().tolist()
        less = told.loc[told["mean"] < told["null_mean"], "label"].str.lower().tolist()
        parts = [f"acting further than like places: {', '.join(further)}" if further else ""]
        parts += [f"less far: {', '.join(less)}" if less else ""]
        words = "; ".join(filter(None, parts)) or (
            f"no category differs from like places in its chains ({len(tested)} tested)"
            if len(tested)
            else f"no category is known in {_FEWEST} problems, so that none can be told from its places"
        )
        said.append(f"{model}, {words}")
    return f"In this study: {'. '.join(said)}."


def category_table(rows: pd.DataFrame) -> pd.DataFrame:
    ordered = rows.sort_values("mean", ascending=False, kind="stable")
    return pd.DataFrame(
        {
            "category": ordered["label"].tolist(),
            "read by": ordered["model"].tolist(),
            "mean": _rounded(ordered["mean"]),
            "95 % interval": _intervals(ordered, "low", "high"),
            "other CoTs there": _rounded(ordered["at_place"]),
            "dealt anew, 95 %": _intervals(ordered, "null_low", "null_high"),
            "p": _rounded(ordered["p"]),
            "p, Holm": _rounded(ordered["p_holm"]),
            "chunks": ordered["n"].tolist(),
            "CoTs": ordered["n_cots"].tolist(),
            "problems": ordered["n_problems"].tolist(),
        }
    )


def difference_table(rows: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "category": rows["category"].map(category).tolist(),
            "difference": _rounded(rows["difference"]),
            "95 % interval": _intervals(rows, "low", "high"),
            "p": _rounded(rows["p"]),
            "chunks": rows["n"].tolist(),
            "problems": rows["n_problems"].tolist(),
        }
    )


def draw_distance(here: Here, store: Store) -> None:
    """The curve of each model, and what it says."""
    at = here.once(asked)
    rows = influence_by_distance(studies.ask(store.influence_by_source, way=at.way.name, part=at.part))
    rows = at.in_order(rows).assign(label=rows["span"].map(span_words))
    data_figure(
        figures.by_distance(rows, axis=at.way.axis, is_log=at.way.is_log and bool((rows["mean"] > 0).all())),
        key=keys.of("influence_distance"),
    )
    show(distance_in_words(rows))
    st.caption(
        f"{for_markdown(at.way.label)}: mean over problems of a problem's mean pair; band: 95 %, problems drawn anew."
        " Far pairs come from long chains alone, so that a curve's end is of other chains than its beginning."
    )


def distance_in_words(rows: pd.DataFrame) -> str:
    """How far influence falls from the next chunk to those farthest away."""
    said = []
    for model, own in rows.dropna(subset="mean").groupby("model", sort=False):
        first, last = own.iloc[0], own.iloc[-1]
        at_first = f"{number(first['mean'])} {interval(first.low, first.high)} at {first.label}"
        at_last = f"{number(last['mean'])} {interval(last.low, last.high)} at {last.label}"
        said.append(f"{model} {at_first}, {at_last}" if first.span != last.span else f"{model} {at_first}")
    return "By how many chunks away: " + "; ".join(said) + "." if said else "Nothing is known of any distance."


def _table(rows: pd.DataFrame, *, key: str) -> None:
    data_table(rows, hide_index=True, row_height=28, key=keys.of(key), column_config=three_digits(rows))


def _rounded(values: pd.Series) -> list[float | None]:
    return [None if pd.isna(value) else float(f"{value:.3g}") for value in values]


def _intervals(rows: pd.DataFrame, low: str, high: str) -> list[str]:
    return [interval(*pair) for pair in zip(rows[low], rows[high], strict=True)]
