"""Anchors before and after: what steering towards the counterfactual does just before an anchor and just after it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import streamlit as st

from app.figures.anchors import KL_ON, along_beta, attention_by_layer, means_over_study
from app.figures.anchors import along_the_chain as chain_figure
from app.shared import chosen_stream
from app.shared.chosen_chunk import go
from app.shared.views import Here
from app.shell import keys, selection, studies
from app.shell.data_figure import data_figure
from app.shell.fields import Field, declare
from app.shell.missing import Missing, undone
from app.shell.numbers import interval, number
from app.shell.untrusted import one_line, show
from app.steepness.course_words import course_in_words
from backend.geometry.anchor_effects import (
    ANCHORS,
    BEYOND,
    DIFFERENCE,
    MATCHED,
    READOUTS,
    Effect,
    along_the_chain,
    attention_effects,
    before_after_effects,
    mean_sharpness,
    of,
    over_pairs,
    sharpness,
)
from backend.geometry.counterfactuals import AFTER, ALTERNATIVE, BEFORE, RANDOM, RANDOM_ALTERNATIVE, TOWARDS
from backend.store.store import Store

READOUT = declare(Field("anchor_readout", "tokens of the KL at anchors", READOUTS))
PROPOSED = (
    "Dawes 2025 (“Features and Logits”) proposes to steer from an anchor towards what the model says in its place,"
    " v = a(anchor) − a(counterfactual), β from −1 to 0, just before the anchor and just after it, and to ask whether"
    " what follows gives way gradually or sharply, and what becomes of the attention to the anchor."
)


def steered(here: Here) -> Missing | None:
    """Anchors that were steered before and after."""
    return undone(here.store.path, "anchors") if studies.ask(here.store.anchor_choices).empty else None


@dataclass(frozen=True)
class At:
    """The steered chunks of one residual stream, and the one that is shown."""

    layer: int
    chunks: pd.DataFrame  # rows of `steered_anchors`
    steering: pd.DataFrame  # of `anchor_steering`
    attention: pd.DataFrame  # of `anchor_attention`
    shown: pd.Series  # of `chunks`
    readout: str

    @property
    def own(self) -> pd.DataFrame:
        """The steering of the chunk that is shown."""
        return self.steering[self.steering["chunk_id"] == self.shown["chunk_id"]]


def chosen(here: Here) -> At:
    """Its pickers: residual stream, chunk, and what KL is over."""
    store = here.store
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        stream = chosen_stream.pick(store, studies.ask(store.anchor_choices), width=220)
        layer = int(stream.layer or 0)
        where = {"model_id": stream.model, "layer": layer}
        chunks = studies.ask(store.steered_anchors, **where)
        shown = _shown(chunks, here.chunk.chunk, here.chunk.cot)
        words = {row["chunk_id"]: _named(row) for row in chunks.to_dict("records")}
        selection.offer(
            "anchor_shown", "Steered chunk", list(words), shown["chunk_id"], go, show=words.__getitem__, width=420
        )
        readout = selection.pick(READOUT, "KL on", show=KL_ON.__getitem__, widget=st.segmented_control, required=True)
    if shown["chunk_id"] != here.chunk.chunk:
        st.caption("The selected chunk was not steered towards its counterfactual; shown is one that was.")
    steering, attention = (studies.ask(ask, **where) for ask in (store.anchor_steering, store.anchor_attention))
    return At(layer, chunks, steering, attention, shown, readout)


def _shown(chunks: pd.DataFrame, chunk: str, cot: str) -> pd.Series:
    """The chunk, else the most important of its chain, else of the study."""
    order = chunks.assign(own=chunks["chunk_id"] == chunk, of_cot=chunks["cot_id"] == cot)
    return order.sort_values(["own", "of_cot", "importance", "chunk_id"], ascending=[False, False, False, True]).iloc[0]


def _named(row: dict[str, object]) -> str:
    kind = "anchor" if row["is_anchor"] else "matched, no anchor"
    return f"chunk {int(str(row['chunk_index'])) + 1}, {kind}: {one_line(str(row['text']), 60)}"


# One chunk


def draw_along_beta(here: Here, store: Store) -> None:
    """KL on what follows, along β."""
    at = here.once(chosen)
    if at.shown["direction_id"] is None or pd.isna(at.shown["norm"]):
        show(f"This chunk has no direction to its counterfactuals: {at.shown['why_not']}.")
        return
    rows = at.own[at.own["arm"].isin((TOWARDS, RANDOM))]
    sides = (rows["place"] - at.shown["chunk_index"]).map({0: BEFORE, 1: AFTER})
    floor = None if pd.isna(at.shown["noise_floor"]) else float(at.shown["noise_floor"])
    figure = along_beta(rows.assign(side=sides), readout=at.readout, norm=float(at.shown["norm"]), floor=floor)
    data_figure(figure, key=keys.of("anchor_beta"), config={"displayModeBar": False})
    st.caption(
        f"v: the chunk's mean residual stream at layer {at.layer}, less the mean over the first sentences of"
        f" {at.shown['n_rollouts']} dissimilar rollouts ({at.shown['n_texts']} different texts), each read in its own"
        f" context; cosine of the two {number(at.shown['cosine'])}, ‖v‖ is"
        f" {number(at.shown['norm'] / at.shown['activation_norm'])} of ‖a‖. One token is steered: the last before the"
        " chunk, or its last. Both curves are of the same later tokens."
    )


def draw_attention(here: Here, store: Store) -> None:
    """Attention to the chunk, and over the study."""
    at = here.once(chosen)
    own = at.attention[at.attention["chunk_id"] == at.shown["chunk_id"]]
    data_figure(
        attention_by_layer(own, layer=at.layer), key=keys.of("anchor_attention"), config={"displayModeBar": False}
    )
    show(attention_in_words(at.chunks, at.attention.drop(columns="by_layer")))


@st.cache_data(max_entries=32, show_spinner=False)
def attention_in_words(chunks: pd.DataFrame, attention: pd.DataFrame) -> str:
    """What becomes of the attention to anchors, over the study."""
    said = []
    for side in (BEFORE, AFTER):
        effects = over_pairs(attention_effects(chunks, attention, side))
        own, random, difference = (
            of(effects, *which) for which in ((ANCHORS, TOWARDS), (ANCHORS, RANDOM), (DIFFERENCE, BEYOND))
        )
        if not own.found.n:
            return "What becomes of the attention to anchors is not known in this study."
        said.append(
            f"steered just {side} it, attention to an anchor is {_factor(own)} what it is unsteered (random directions:"
            f" {_factor(random)}; beyond random, anchors against matched chunks: {_factor(difference)},"
            f" {_test(difference)})"
        )
    return f"Over this study's {own.found.n} pairs at β = −1: " + "; ".join(said) + "."


def draw_chain(here: Here, store: Store) -> None:
    """Gradually or in one step."""
    at = here.once(chosen)
    if not at.shown["is_anchor"]:
        st.caption("Single counterfactuals are steered along the chain at anchors alone; choose an anchor above.")
        return
    rows = at.own[at.own["arm"].isin((ALTERNATIVE, RANDOM_ALTERNATIVE))]
    found = along_the_chain(at.shown.to_dict(), at.steering, at.readout)
    own_cot = at.chunks[at.chunks["cot_id"] == at.shown["cot_id"]]
    marked = dict(zip(own_cot["chunk_index"].astype(int), own_cot["is_anchor"].astype(bool), strict=True))
    figure = chain_figure(rows, readout=at.readout, found=found, chunks=marked, selected=int(at.shown["chunk_index"]))
    data_figure(figure, key=keys.of("anchor_chain"), config={"displayModeBar": False})
    show(course_in_words(found, f"KL on {KL_ON[at.readout]} beyond random"))
    show(sharpness_in_words(at.chunks, at.steering, at.readout))
    st.caption(
        "Each dot: one counterfactual sentence of this anchor, v = a(anchor) − a(that sentence), at β = −1, and a"
        " random direction of the same length. A place behind the anchor is read on the tokens after the place. The"
        " verdict compares constant, line and step through log KL less that of the random direction, by AIC."
    )


@st.cache_data(max_entries=32, show_spinner=False)
def sharpness_in_words(chunks: pd.DataFrame, steering: pd.DataFrame, readout: str) -> str:
    """Whether what counterfactuals do is lost at the anchor rather than elsewhere, over the study."""
    rows = sharpness(chunks, steering, readout)
    if rows.empty:
        return "Over the study it is not known whether more is lost across an anchor than across other chunks."
    effect = mean_sharpness(rows)
    here, elsewhere = math.exp(rows["drop"].mean()), math.exp(rows["elsewhere"].mean())
    return (
        f"Over this study's {effect.found.n} anchors whose chain has enough places ({effect.n_cots} CoTs,"
        f" {effect.found.n_clusters} problems), from just before the anchor to just after it KL beyond random is"
        f" divided by {number(here)}, across another chunk of the same chain by {number(elsewhere)}; the one over the"
        f" other is {_factor(effect)}, {_test(effect)}."
    )


# The study


def draw_study(here: Here, store: Store) -> None:
    """Anchors against the chunks that they are matched with."""
    at = here.once(chosen)
    effects = effects_of(at.chunks, at.steering, at.readout)
    data_figure(
        means_over_study(mean_rows(effects), what="KL just before ÷ KL just after"),
        key=keys.of("anchor_study"),
        config={"displayModeBar": False},
    )
    st.caption(PROPOSED)
    show(study_in_words(effects, at.chunks, at.readout, at.layer))


@st.cache_data(max_entries=32, show_spinner="Comparing anchors with other chunks …")
def effects_of(chunks: pd.DataFrame, steering: pd.DataFrame, readout: str) -> list[Effect]:
    return over_pairs(before_after_effects(chunks, steering, readout))


def mean_rows(effects: Sequence[Effect]) -> pd.DataFrame:
    """Rows for the figure, factors in place of logs."""
    return pd.DataFrame(
        [
            {
                "group": effect.group,
                "along": effect.along,
                "factor": np.exp(effect.found.mean),
                "low": np.exp(effect.found.low),
                "high": np.exp(effect.found.high),
                "n": effect.found.n,
            }
            for effect in effects
        ]
    )


def study_in_words(effects: Sequence[Effect], chunks: pd.DataFrame, readout: str, layer: int) -> str:
    """What this study shows, every number with its own interval."""
    anchors, matched, pairs = (of(effects, group, TOWARDS) for group in (ANCHORS, MATCHED, DIFFERENCE))
    beyond, n_anchors = of(effects, DIFFERENCE, BEYOND), int(chunks["is_anchor"].sum())
    if not pairs.found.n:
        return f"This study shows nothing about it: none of its {n_anchors} steered anchors has a pair with a known KL."
    claimed = "anchors differ from matched chunks" if pairs.found.p <= 0.05 else "no difference is found"
    return (
        f"This study, {pairs.found.n} pairs of an anchor and a matched chunk ({pairs.n_cots} CoTs,"
        f" {pairs.found.n_clusters} problems; {n_anchors} anchors were steered) at layer {layer}, β = −1: KL on"
        f" {KL_ON[readout]} just before an anchor is {_factor(anchors)} that just after it, of a matched chunk"
        f" {_factor(matched)} ({_random_words(effects)}); the one over the other is {_factor(pairs)}, {_test(pairs)}:"
        f" {claimed}. Beyond random directions of the same length: {_factor(beyond)}, {_test(beyond)}."
    )


def _random_words(effects: Sequence[Effect]) -> str:
    anchors, matched = (of(effects, group, RANDOM) for group in (ANCHORS, MATCHED))
    return f"along random directions {_factor(anchors)} and {_factor(matched)}"


def _factor(effect: Effect) -> str:
    """A mean of logs as a factor, with the interval that is its own."""
    low, high = np.exp(effect.found.low), np.exp(effect.found.high)
    return f"× {number(np.exp(effect.found.mean))} (95 % interval of this factor {interval(low, high)})"


def _test(effect: Effect) -> str:
    """The p, and where nothing is found what would have been."""
    p = "p unknown" if math.isnan(effect.found.p) else f"p = {effect.found.p:.2g}"
    if math.isnan(effect.would_find):
        return f"{p}, {effect.found.test} over problems"
    if math.isinf(effect.would_find):
        return f"{p}, {effect.found.test} over problems, which are too few for any size to be found"
    size = number(math.exp(effect.would_find))
    return f"{p}, {effect.found.test} over problems; × {size} would have been found in 80 % of such studies"
