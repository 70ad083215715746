"""Followed words from latent to latent: when each result can be read, beside words that should not be there."""

import pandas as pd
import streamlit as st

from app.figures.latent_readings import series_colours, step_curves
from app.latent_steps.readings import (
    REPORT,
    averaged,
    best_places,
    door,
    layer,
    layer_names,
    lens,
    said,
    siblings,
    subset,
)
from app.shared.views import Here
from app.shell import keys, selection
from app.shell.data_figure import data_figure
from app.shell.fields import Field, declare
from backend.latent.summaries import MEASURES, cells, roles_in, words_of_role
from backend.store.store import Store

_FOLLOWED = ("followed", "top", "rank")
MEASURE = declare(Field("latent_measure", "measure of followed words", _FOLLOWED))
_CONTROLS = ("other", "operand")
_COLUMNS = ("model_id", "series", "step", "value", "low", "high", "n", "is_control")


def draw(here: Here, store: Store) -> None:
    with here.once(door):
        group, chosen = here.once(siblings), here.once(lens)
        here.once(subset)
        at = here.once(layer)
        names = list(_FOLLOWED) if chosen.has_probabilities else ["rank", "top"]
        measure = MEASURES[selection.pick(MEASURE, "Measure", names, show=lambda name: MEASURES[name].label, width=280)]
    reads = [read for read in here.once(averaged) if read.layer == at]
    roles = roles_in(reads)
    rows = [
        {**row, "series": words_of_role(role), "is_control": role in _CONTROLS}
        for read in reads
        for role in roles
        for row in cells(read, measure, role)
    ]
    frame = pd.DataFrame(rows, columns=list(_COLUMNS)).assign(panel=lambda own: own["model_id"].map(group.labels))
    labels = {role: words_of_role(role) for role in roles}
    data_figure(
        step_curves(
            frame,
            list(dict.fromkeys(frame["panel"])),
            axis=measure.label + (f", {measure.unit}" if measure.unit else ""),
            is_share=not measure.unit,
            colours=series_colours(list(labels.values()), [labels[role] for role in _CONTROLS if role in labels]),
        ),
        key=keys.of("latent_curves"),
        config={"displayModeBar": False},
    )
    name = layer_names([at], group.n_layers)[at]
    st.caption(
        f"{chosen.label}, layer {name}: {measure.words}; bars are 95 % intervals over problems (bootstrap). Dashed:"
        " controls. A word that rises no higher than another problem's answer is not read off the latent."
    )
    said(
        f"{REPORT} finds words such as “therefore” on odd latents alone, and the answer at even ones. Other studies"
        " find the intermediates at the third and fifth latent, or nothing that goes in steps.",
        best_places(here, reads),
    )
