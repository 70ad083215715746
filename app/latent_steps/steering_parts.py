"""The published maps taken apart, all maps beside random vectors, and the positive control."""

from typing import Any

import pandas as pd
import streamlit as st

from app.figures.latent_steering import fitted_vectors, taken_apart
from app.latent_steps.chosen import chosen_model, models
from app.latent_steps.steering import Asked, asked, map_of, maps, steering_id
from app.shared.statistics_cache import steered_against_random, steered_map
from app.shared.views import Here
from app.shell import keys
from app.shell.data_figure import data_figure
from app.shell.data_table import data_table
from app.shell.numbers import number
from app.shell.untrusted import show
from backend.latent import published, steering_words
from backend.latent.kinds import SPACES
from backend.latent.map_kinds import RANDOM
from backend.latent.outcomes import AgainstRandom, Estimated, Seen, fitted_table, likeness, mean_change, seen
from backend.latent.published import DEFECTS, PUBLISHED, Arm, Move
from backend.latent.steering_words import Part
from backend.store.store import Store

_UNKNOWN = Estimated(float("nan"), float("nan"), float("nan"), 0)


def draw_apart(here: Here, store: Store) -> None:
    """The published map, one defect mended at a time; ours, with one at a time."""
    at = here.once(asked)
    space = at.arm.space
    if space not in PUBLISHED:
        st.caption("The published study steered h and KV: choose one of them to take its map apart.")
        return
    found = parts(here, at)
    data_figure(taken_apart(part_rows(found, space)), key=keys.of("latent_apart"), config={"displayModeBar": False})
    show(steering_words.of_parts(space, found))
    if space == "h" and (said := _lengths(here, at)) is not None:
        show(said)
    st.caption(steering_words.REPORTED)
    st.caption(
        f"Early exits, coefficient {at.coefficient:g} on the label; {len(found)} of"
        f" {len(published.taken_apart(space))} maps have been run. Bars: 95 %,"
        f" {found[0].change.n if found else 0} cells of the first, problems drawn anew. "
        + " ".join(
            f"{defect.label.capitalize()}: {defect.words} Mended: {defect.mended}"
            for name, defect in DEFECTS.items()
            if name in PUBLISHED[space]
        )
    )


def parts(here: Here, at: Asked) -> list[Part]:
    """Every arm whose runs are stored."""
    space, views = at.arm.space, {}
    for arm in published.taken_apart(space):
        if (own := map_of(here, at.model["model_id"], arm, at.coefficient)) is not None:
            views[arm] = (seen(own, arm, early=True), seen(own, arm, early=True, kind=RANDOM))
    whole = views.get(Arm(space, PUBLISHED[space]))
    return [
        Part(arm, mean_change(cells), mean_change(randoms), _like(cells, whole), _apart(here, at, arm))
        for arm, (cells, randoms) in views.items()
    ]


def _apart(here: Here, at: Asked, arm: Arm) -> Estimated:
    own = map_of(here, at.model["model_id"], arm, at.coefficient)
    if own is None:
        return _UNKNOWN
    found = steered_against_random(own, arm, early=True)
    return Estimated(found.difference, found.low, found.high, found.n_cells)


def _lengths(here: Here, at: Asked) -> str | None:
    """Of differences of h and z; None where one of them has not been run."""
    own = [map_of(here, at.model["model_id"], Arm(space), at.coefficient) for space in ("h", "z")]
    lengths = [float(one.facts["typical_length"]) for one in own if one is not None]
    return steering_words.of_lengths(*lengths) if len(lengths) == 2 else None


def _like(cells: Seen, whole: tuple[Seen, Seen] | None) -> Estimated:
    return _UNKNOWN if whole is None else likeness(cells, whole[0])


def part_rows(found: list[Part], space: str) -> pd.DataFrame:
    names, rows = ("change", "likeness"), []
    for part in found:
        row: dict[str, object] = {"label": part.arm.label, "random": part.random.value}
        row["group"] = "published" if len(part.arm.defects) >= len(PUBLISHED[space]) - 1 else "ours"
        for name in names:
            one: Estimated = getattr(part, name)
            row |= {name: one.value, f"{name}_low": one.low, f"{name}_high": one.high}
        rows.append(row)
    return pd.DataFrame(rows)


def draw_summary(here: Here, store: Store) -> None:
    """Every model and space at the chosen coefficient and exit, beside random vectors: siblings can be compared."""
    at = here.once(asked)
    found = compared(here, at)
    data_table(summary(found), hide_index=True, row_height=28, key=keys.of("latent_steering_summary"))
    show(steering_words.of_siblings([(str(model["sibling"]), space, one) for model, space, one in found]))
    st.caption(
        f"Ours, coefficient {at.coefficient:g}. Changes of accuracy in points; “apart” is differences less random"
        " vectors, 95 % over problems and random vectors drawn anew; p: vectors dealt anew between the two groups."
        " Siblings without recurrence are the control: what shows in them too is not of the recurrence."
    )


Compared = list[tuple[dict[str, Any], str, AgainstRandom]]  # a model, a space, its map beside random vectors


def compared(here: Here, at: Asked) -> Compared:
    """Each model and space whose map is stored, as we steer."""
    return [
        (model, space, steered_against_random(own, Arm(space), early=at.early))
        for model in here.once(models).to_dict("records")
        for space in SPACES
        if (own := map_of(here, model["model_id"], Arm(space), at.coefficient)) is not None
    ]


def summary(every: Compared) -> pd.DataFrame:
    """One row a map."""
    rows = []
    for model, space, found in every:
        rows.append(
            {
                "model": model["label"],
                "steered": SPACES[space].label,
                "what it shows": steering_words.verdict(found),
                "apart": number(100 * found.difference),
                "95 %": steering_words.span(found.low, found.high),
                "p": number(found.p_helps),
                "differences": number(100 * found.pairs),
                "random": number(100 * found.random),
                "p of size": number(found.p_moves),
                "cells above": f"{found.n_higher} of {found.n_cells}",
                "cells below": f"{found.n_lower} of {found.n_cells}",
                "would be found": number(100 * found.detectable),
                "n": found.n,
            }
        )
    return pd.DataFrame(rows)


def draw_control(here: Here, store: Store) -> None:
    """Vectors fitted by gradient: whether there is anything to be found, and how long it must be."""
    model = chosen_model(here)
    table = fitted_rows(here, str(model["model_id"]))
    data_figure(fitted_vectors(table), key=keys.of("latent_fitted"), config={"displayModeBar": False})
    show(steering_words.of_fitted(table))
    st.caption(
        "One vector a target latent, the same for all problems, fitted on problems that are not scored to the answers"
        " that the model gives after all its latents where they are right; answered at once, after the latent that was"
        " moved. Lengths are bounded by multiples of the typical length of a difference of mean latents. Bars: 95 %,"
        " paired with the unsteered run."
    )


def fitted_rows(here: Here, model_id: str) -> pd.DataFrame:
    found = []
    for space in SPACES:
        stored = steering_id(here.once(maps), model_id, Move(space, space), None)
        if stored is not None:
            found.append(fitted_table(steered_map(here.store, stored)).assign(space=space))
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=["space"])
