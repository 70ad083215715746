"""The parts of the page on steepness and importance."""

from dataclasses import dataclass

import pandas as pd
import streamlit as st

from app import chains_view, chunk_panel, navigation, selection, studies
from app.chunk_table import interval, number
from app.missing import Missing, command, no_activations, no_rollouts, say_and_end
from app.place import Place
from app.untrusted import show
from app.vocabulary import KINDS, POSITIONS, metric, metric_choice
from backend.evidence.association import Association
from backend.store.store import Store

_SCALES = {"linear": "linear", "log": "logarithmic"}


@dataclass(frozen=True)
class Chosen:
    """What the page shows."""

    model: str
    layer: int
    unit: str
    kind: str
    position: str
    metric: str
    convention: str
    source: str
    logarithmic: bool
    intervals: bool


def controls(store: Store) -> Chosen:
    """The row of pickers. Where nothing was steered, or nothing was resampled, says what to run and ends the page."""
    choices, metrics = store.steepness_choices(), chains_view.importance_options(store)
    if choices.empty:
        unsteered = Missing("No chunk has been steered, so no steepness is known.", command(store.path, "sweep"))
        say_and_end(no_activations(store.coverage().iloc[0], store.path) if store.activation_places().empty else unsteered)
    if not metrics:
        say_and_end(no_rollouts(store.coverage().iloc[0], store.path, has_tokens=True))
    swept = chunk_panel.sweeps(choices)
    columns = iter(st.columns([1.6, 3, 2.7, 3.7, 1.7, 1.6], gap="small", vertical_alignment="bottom"))
    with next(columns):
        sweep = selection.pick("swept", "Steered", list(swept), show=swept.__getitem__)
    model, layer, unit = sweep.split(":")
    here = choices[(choices["model_id"] == model) & (choices["layer"] == int(layer)) & (choices["unit"] == unit)]
    kinds = [kind for kind in KINDS if kind in set(here["kind"])] + sorted(set(here["kind"]) - set(KINDS))
    with next(columns):
        kind = selection.pick("kind", "Direction", kinds, show=lambda name: KINDS.get(name, name))
    positions = sorted(set(here.loc[here["kind"] == kind, "position"]))
    with next(columns):
        position = selection.pick("position", "At", positions, show=lambda name: POSITIONS.get(name, name))
    with next(columns):
        usual = chains_view.usual_choice(metrics)
        chosen = selection.pick("metric", "Importance", metrics, default=usual, show=metric_choice)
    with next(columns):
        scale = selection.pick("scale", "Steepness axis", list(_SCALES), show=_SCALES.__getitem__)
    with next(columns):
        intervals = selection.pick_switch("intervals", "95 % CI", default=False, help="Draw the bootstrap interval of each importance.")
    name, _, convention = chosen.partition(":")
    source = selection.checked("tags", store.tag_sources()) or ""
    return Chosen(model, int(layer), unit, kind, position, name, convention, source, scale == "log", intervals)


def points(store: Store, chosen: Chosen) -> pd.DataFrame:
    rows = studies.ask(
        store.steepness_and_importance,
        model_id=chosen.model,
        layer=chosen.layer,
        kind=chosen.kind,
        position=chosen.position,
        unit=chosen.unit,
        source=chosen.source,
        metric=chosen.metric,
        convention=chosen.convention,
    )
    return rows.assign(number=rows["chunk_index"] + 1)


def explanation(found: Association) -> None:
    """How to read the numbers on the figure."""
    for note in found.notes:
        st.caption(note[:1].upper() + note[1:] + ".")
    st.caption(
        "ρ is a rank correlation over chunks. Chunks of one problem are not independent: its interval resamples whole problems "
        f"({found.n_bootstrap:,} times); p permutes importance within each CoT ({found.n_permutations:,} times, seed {found.seed}); "
        "the null is where ρ falls then. An empty corner is no law: independent heavy tails leave one."
    )


def chunk(store: Store, where: Place, chosen: Chosen, rows: pd.DataFrame) -> None:
    """The selected chunk: its text, its two values, and its KL curves."""
    text = store.chunk_card(where.chunk, chosen.source).iloc[0]
    with st.container(border=True):
        st.markdown(f"#### Chunk {text.chunk_index + 1}")
        show(text.text.strip())
        own = rows[rows["chunk_id"] == where.chunk]
        if own.empty:
            st.caption("This chunk was not steered with these directions. Click a point to choose one.")
        else:
            row = own.iloc[0]
            left, right = st.columns([2, 3])
            left.metric("Steepness |a|", number(row.steepness), help="Nats per β². Mean over the kind's directions where it has several.")
            right.metric(metric(chosen.metric).short, number(row.value), help=metric(chosen.metric).meaning)
            st.caption(
                f"95 % interval of the importance: {interval(row.ci_low, row.ci_high)} · R² of the fit: {number(row.r2)} · "
                f"{int(row.n_directions)} direction{'s' if row.n_directions != 1 else ''}"
                + (" · below the noise floor" if row.below_floor is True or row.below_floor == 1 else "")
            )
        if st.button("Read it in its chain of thought", icon=":material/segment:", width="stretch"):
            navigation.go_to(navigation.CHAINS)
    curves = chunk_panel.curves_at(store.kl_curves_of(where.chunk), f"{chosen.model}:{chosen.layer}:{chosen.unit}", chosen.position)
    chunk_panel.steering(curves)
