"""Finite steps along random directions: the averaged KL(ε) of every chunk, and how unequal the directions are."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import streamlit as st

from app.figures.kl_curves import anisotropy_against_size, anisotropy_histogram, random_curves
from app.shared.chosen_chunk import CHUNK, COT, PROBLEM
from app.shared.clicks import go_to_clicked
from app.shared.geometry_columns import known_columns, pick_column
from app.shared.views import Here
from app.shell import keys, selection, studies
from app.shell.data_figure import data_figure
from app.shell.missing import Missing, undone
from app.shell.numbers import number
from app.shell.untrusted import show
from backend.geometry.anisotropy import Ratio, anisotropy, ratio_at_the_usual_variation, variations
from backend.statistics.curves import quartile_rows
from backend.store.geometry_columns import STEPS, columns_of
from backend.store.store import Store

STEPPED = (
    "Dawes 2025 (section 3) averages KL over 16 random directions for ε from 0 to 10: the control beside the directions"
    " that mean something."
)
REPORTED = "Dawes 2025 calls largest over smallest KL of 16 random directions, at ε = 1 RMS, the anisotropy of a chunk."


@dataclass(frozen=True)
class Stepped:
    """Every chunk with finite steps at one place, as `Store.random_steps_at` has them."""

    rows: pd.DataFrame
    unit: str

    @property
    def n_random(self) -> str:
        """How many random directions a chunk has."""
        n = self.rows["n_random"]
        return f"{n.min():.0f}" + (f" to {n.max():.0f}" if n.min() < n.max() else "")


def stepped(here: Here) -> Missing | None:
    """Finite steps at any chunk."""
    choices = known_columns(here.store)
    return None if set(columns_of(STEPS)) & set(choices["x"]) else undone(here.store.path, "random_steps")


def steps(here: Here) -> Stepped:
    """Their pickers."""
    choices = known_columns(here.store)
    x = next(name for name in ("random_cv", *columns_of(STEPS)) if name in set(choices["x"]))
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        at = pick_column(here.store, choices, x)
    place = {"model_id": at.model_id, "layer": int(at.layer), "position": at.position, "unit": at.unit}
    return Stepped(studies.ask(here.store.random_steps_at, **place), at.unit)


def draw_curves(here: Here, store: Store) -> None:
    """KL(ε) of every chunk, mean over its random directions, with the selected one and its limit."""
    found = here.once(steps)
    over = pd.DataFrame(
        quartile_rows(found.rows["epsilons"], found.rows["random_kl"]), columns=["beta", "low", "median", "high", "n"]
    )
    figure = random_curves(found.rows, over, unit=found.unit, selected=here.chunk.chunk, n_random=found.n_random)
    _chart(figure, keys.of("random_curves"), found.rows)
    show(f"{STEPPED} {curves_in_words(found.rows)}")
    own = found.rows[found.rows["chunk_id"] == here.chunk.chunk]
    if own.empty:
        st.caption("No finite steps were made at the selected chunk.")
        if len(found.rows) and st.button(
            "Show a chunk that has them", icon=":material/arrow_forward:", key=keys.of("finite_steps_at")
        ):
            selection.choose({PROBLEM: None, COT: None, CHUNK: found.rows["chunk_id"].iloc[0]})
            selection.rerun()
    else:
        st.caption(_of_chunk(own.iloc[0]))


def curves_in_words(rows: pd.DataFrame) -> str:
    """How many chunks there are, and how far the limit of small steps carries."""
    said = f"Here: {len(rows):,} chunks of {rows['problem_id'].nunique()} problems, {_directions(rows)} each."
    over_limit = []
    for epsilon in (1.0, max((max(own) for own in rows["epsilons"]), default=1.0)):
        ratios = [
            kl[at] / (row_limit * epsilon**2)
            for eps, kl, row_limit in zip(rows["epsilons"], rows["random_kl"], rows["isotropic_steepness"], strict=True)
            for at in np.flatnonzero(np.asarray(eps) == epsilon)
            if row_limit is not None and row_limit > 0
        ]
        if ratios:
            over_limit.append(f"{number(float(np.median(ratios)))} times at ε = {epsilon:g} (n = {len(ratios)})")
    if not over_limit:
        return f"{said} Their limit tr(G)/2d · ε² is not known here."
    return (
        f"{said} Of the limit of small steps, tr(G)/2d · ε², the averaged KL is, in the median over chunks,"
        f" {' and '.join(dict.fromkeys(over_limit))}."
    )


def _directions(rows: pd.DataFrame) -> str:
    return f"{rows['n_random'].median():.0f} random directions" if len(rows) else "no directions"


def _of_chunk(row: pd.Series) -> str:
    return (
        f"Selected chunk: {row.n_random:.0f} random directions of its own; at magnitude 1 largest over smallest KL"
        f" {number(row.anisotropy_ratio)}, {number(row.n_below_floor)} directions at or below the noise floor."
    )


def draw_anisotropy(here: Here, store: Store) -> None:
    """As published, a histogram; and mended, against the size of the KL and with what chance makes."""
    found = here.once(steps)
    rows = anisotropy(found.rows)
    chance = ratio_at_the_usual_variation(rows)
    left, right = st.columns(2, gap="medium")
    with left:
        figure = anisotropy_histogram(rows, expected=chance, n_random=found.n_random)
        data_figure(figure, key=keys.of("anisotropy"), config={"displayModeBar": False})
    with right:
        figure = anisotropy_against_size(rows, expected=chance, selected=here.chunk.chunk, n_random=found.n_random)
        _chart(figure, keys.of("anisotropy_size"), rows)
    show(f"{REPORTED} {anisotropy_in_words(rows, chance, found.n_random)}")
    show(variation_in_words(found.rows))


def anisotropy_in_words(rows: pd.DataFrame, chance: Ratio, n_random: str) -> str:
    """The ratio over chunks, what is clipped, and what chance makes of the same variation."""
    known, clipped = rows["ratio"].dropna(), int(rows["is_clipped"].sum())
    if known.empty:
        return "Here no chunk has such a ratio."
    low, median, high = np.quantile(known, [0.025, 0.5, 0.975])
    said = (
        f"Here, over {len(known)} chunks and {n_random} directions: median {number(median)}, 95 % of chunks in"
        f" [{number(low)}, {number(high)}]; {clipped} whose smallest KL lies at or below the noise floor are counted as"
        " at least largest over floor"
        + (f", {int(rows['ratio'].isna().sum())} are unknown." if rows["ratio"].isna().any() else ".")
    )
    if not np.isfinite(chance.median):
        return said
    return (
        f"{said} A G that is the same in all directions would give 1. With the median coefficient of variation that was"
        f" measured, {number(rows['cv'].median())}, {n_random} random directions come to {number(chance.median)}"
        f" [{number(chance.low)}, {number(chance.high)}] by the draw alone: the ratio is an extreme of so many draws,"
        " and more directions would make it larger."
    )


def variation_in_words(rows: pd.DataFrame) -> str:
    """The variation against what the participation ratio of G says it must be, where that was measured."""
    pairs = variations(rows)
    if pairs.empty:
        return (
            "What G itself makes of the variation is unknown here: its participation ratio is known of no such chunk."
        )
    return (
        "What G itself says: with its participation ratio PR the coefficient of variation of ½·vᵀGv is √(2·(d/PR − 1) /"
        f" (d + 2)), in the median over {len(pairs)} chunks {number(pairs['expected'].median())}; measured at the"
        f" smallest ε: {number(pairs['measured'].median())}."
    )


def _chart(figure: object, key: str, rows: pd.DataFrame) -> None:
    data_figure(
        figure,
        key=key,
        on_select=lambda: go_to_clicked(key, rows["chunk_id"]),
        selection_mode="points",
        config={"scrollZoom": True},
    )
