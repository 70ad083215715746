"""KL(β) of every chunk at once, and kinds of direction against each other at equal norm."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import streamlit as st

from app.figures.kl_curves import all_curves, kinds_at_equal_norm
from app.shared import chosen_stream
from app.shared.clicks import go_to_clicked
from app.shared.geometry_columns import POSITION, UNIT, pick_unit
from app.shared.statistics_cache import Curves, curves_at, ratios_at
from app.shared.views import Here
from app.shell import keys, selection, studies
from app.shell.data_figure import data_figure
from app.shell.fields import Field, declare
from app.shell.missing import Missing, no_activations, undone
from app.shell.more import more
from app.shell.numbers import interval, number
from app.shell.untrusted import show
from app.shell.vocabulary import direction_order, position_words, studied_words
from backend.geometry.direction_kinds import DIRECTION_KINDS, swept_kinds
from backend.models.interventions import swept_places
from backend.store.store import Store

_SCALES = {"log": "logarithmic", "linear": "linear"}
SCALE = declare(Field("kl_axis", "scale of the KL", _SCALES, of=None))
REPORTED = (
    "Dawes 2025 (section 3) steers each chunk at the token before it with β from −10 to 10 in 21 points, and reads the"
    " steepness off a quadratic through KL(β)."
)
COMPARED = (
    "Dawes 2025 sets directions that mean something (the chunk's own activation, anchors less the rest) beside random"
    " ones of the same norm."
)


@dataclass(frozen=True)
class Place:
    """Where chunks were steered, and all their curves."""

    model: str
    layer: int
    unit: str
    curves: Curves
    logarithmic: bool  # the axis of the KL

    @property
    def named(self) -> tuple[str, int, str]:
        return self.model, self.layer, self.unit


def swept(here: Here) -> Missing | None:
    """A KL(β) curve of any chunk."""
    if len(studies.ask(here.store.curve_choices)):
        return None
    coverage = here.store.coverage().iloc[0]
    if here.store.activation_places().empty:
        return no_activations(coverage, here.store.path)
    return undone(here.store.path, "sweep")


def place(here: Here) -> Place:
    """Its pickers."""
    choices = studies.ask(here.store.curve_choices)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        there = chosen_stream.at(choices, chosen_stream.pick(here.store, choices, width=240))
        with more(UNIT, SCALE):
            row = pick_unit(there).iloc[0]
            scale = selection.pick(SCALE, "KL axis", show=_SCALES.__getitem__, width=140)
    model, layer, unit = str(row.model_id), int(row.layer), str(row.unit)
    return Place(model, layer, unit, curves_at(here.store, model, layer, unit), scale == "log")


def draw_all(here: Here, store: Store) -> None:
    """Every chunk's curve, a panel for each kind and position."""
    at = here.once(place)
    curves, logarithmic = at.curves.by_chunk, at.logarithmic
    figure = all_curves(curves, at.curves.over_chunks, unit=at.unit, selected=here.chunk.chunk, logarithmic=logarithmic)
    key = keys.of("all_curves")
    data_figure(
        figure,
        key=key,
        on_select=lambda: go_to_clicked(key, curves["chunk_id"]),
        selection_mode="points",
        config={"scrollZoom": True},
    )
    show(f"{REPORTED} {curves_in_words(at.curves)} {unswept_in_words(curves)}")
    zeros = " β = 0 changes nothing: its KL is 0, which has no place on a log axis." if logarithmic else ""
    st.caption(
        "Each faint line is a chunk, the mean over its directions of the kind; band: quartiles, thick: median over"
        f" chunks. Choose a line to look at its chunk.{zeros}"
    )


def curves_in_words(curves: Curves) -> str:
    """How many there are, how high they go, and how far a quadratic carries."""
    rows, over = curves.by_chunk, curves.over_chunks
    last = float(over["beta"].max())
    top = over[over["beta"] == last]
    several = rows["position"].nunique() > 1
    medians = ", ".join(
        f"{number(row.median)} along {studied_words(row.kind)}"
        + (f" ({position_words(row.position)})" if several else "")
        for row in top.itertuples()
    )
    fits = "; ".join(
        f"{(own >= 0.9).mean():.0%} of {studied_words(kind)}"
        for kind, own in (
            (kind, rows.loc[rows["kind"] == kind, "r2"].dropna()) for kind in direction_order(rows["kind"])
        )
        if len(own)
    )
    return (
        f"Here: {rows['chunk_id'].nunique():,} chunks of {rows['cot_id'].nunique()} CoTs of"
        f" {rows['problem_id'].nunique()} problems; at β = {last:g} the median KL is {medians} nats. A quadratic"
        f" explains 90 % of the variance or more of these shares of the curves: {fits or 'unknown'}."
    )


def unswept_in_words(rows: pd.DataFrame) -> str:
    """Which kinds and positions a study can sweep and this one has not, at this layer."""
    kinds = [studied_words(kind) for kind in swept_kinds() if kind not in set(rows["kind"])]
    positions = [position_words(name) for name in swept_places() if name not in set(rows["position"])]
    parts = [f"{what}: {', '.join(names)}" for what, names in (("kinds", kinds), ("positions", positions)) if names]
    return f"Not swept at this layer: {'; '.join(parts)} (kinds and positions of [sweep])." if parts else ""


def draw_compared(here: Here, store: Store) -> None:
    """Kinds of direction at equal norm, with their ratio in pairs."""
    at = here.once(place)
    positions = sorted(set(at.curves.by_chunk["position"]))
    position = selection.pick(POSITION, "Steered at", positions, show=position_words, width=240)
    over = at.curves.over_chunks[at.curves.over_chunks["position"] == position]
    reference = _reference(over["kind"])
    ratios = ratios_at(store, at.named, position, reference)
    figure = kinds_at_equal_norm(over, ratios, unit=at.unit, reference=reference)
    data_figure(figure, key=keys.of("kinds_compared"), config={"displayModeBar": False})
    show(f"{COMPARED} {ratios_in_words(ratios, reference)} {_without_tangents(over['kind'])}")
    st.caption(
        "β has one unit, so that a step has the same length along every direction. Ratio: KL along the"
        " kind over KL along the other at the same chunk and β, where both lie above the noise floor; interval: draws"
        " of whole problems."
    )


def _reference(kinds: Sequence[str]) -> str:
    """The control where it was swept, else the first kind."""
    order = direction_order(kinds)
    return next((kind for kind in order if kind in DIRECTION_KINDS and DIRECTION_KINDS[kind].is_drawn), order[0])


def ratios_in_words(ratios: pd.DataFrame, reference: str) -> str:
    """Each kind against the reference, at the largest β."""
    if ratios.empty:
        return f"Here only {studied_words(reference)} was swept: there is nothing to compare it with."
    last = ratios[ratios["beta"] == ratios["beta"].max()]
    said = "; ".join(
        f"{studied_words(row.kind)} {number(row.ratio)} {interval(row.low, row.high)} times (n = {row.n} chunks of"
        f" {row.n_problems} problems" + (f", {row.n_left_out} left out" if row.n_left_out else "") + ")"
        for row in last.itertuples()
    )
    beta = last["beta"].iloc[0]
    return f"Here, at β = {beta:g}, median KL against {studied_words(reference)} at the same chunk: {said}."


def _without_tangents(kinds: pd.Series) -> str:
    if "on_manifold" in set(kinds):
        return ""
    return f"Not swept here: {studied_words('on_manifold')} (on_manifold among the kinds of [sweep])."
