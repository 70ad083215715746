"""Principal components of latents: where problems lie at each step, and how much of it is the step alone."""

import pandas as pd
import streamlit as st

from app.figures.latent_readings import component_places
from app.latent_steps.readings import REPORT, door, said, siblings
from app.shared.views import Here
from app.shell import keys, selection, studies
from app.shell.data_figure import data_figure
from app.shell.fields import Field, declare
from app.shell.untrusted import for_markdown
from backend.store.store import Store

LABELS = {"h": "h, before the projection", "z": "z, after it", "k": "K, without its position", "v": "V"}
AXES = {"12": "1 and 2", "13": "1 and 3", "23": "2 and 3"}
SPACE = declare(Field("latent_component_space", "space of components", None))
SHOWN = declare(Field("latent_axes", "components that are drawn", tuple(AXES)))


def draw(here: Here, store: Store) -> None:
    with here.once(door):
        group = here.once(siblings)
        shares = group.rows(studies.ask(store.latent_components))
        there = list(dict.fromkeys(f"{row.space}.{row.layer}" for row in shares.sort_values("space").itertuples()))
        chosen = selection.pick(SPACE, "Space", there, default=_usual(there), show=_label, width=260)
        space, _, layer = chosen.partition(".")
        axes = selection.pick(SHOWN, "Components", show=AXES.__getitem__, width=130)
    shares = shares[(shares["space"] == space) & (shares["layer"] == int(layer))]
    places = group.rows(studies.ask(store.latent_projections, space=space, layer=int(layer)))
    one, other = int(axes[0]), int(axes[1])
    points = _points(places, one, other)
    panels = list(dict.fromkeys(points["panel"]))
    titles = {panel: (_title(shares, panel, one), _title(shares, panel, other)) for panel in panels}
    data_figure(
        component_places(points, panels, titles), key=keys.of("latent_places"), config={"displayModeBar": False}
    )
    n = int(shares["n_fitted"].max()) if len(shares) else 0
    st.caption(
        f"{_label(f'{space}.{layer}')}: components fitted on {n:,} latents of problems that are not scored; drawn are"
        f" {places['problem_id'].nunique()} scored problems at every step. Percentages: the share of the variance of"
        " what they were fitted on."
    )
    said(
        f"{REPORT} steers by differences of mean latents, and so takes what differs between steps for what a step"
        " does. What lies between the means of steps is the same for every problem.",
        sentence(shares),
    )


def _usual(there: list[str]) -> str:
    return next((one for one in there if one.startswith("h.")), there[0])


def _label(name: str) -> str:
    space, _, layer = name.partition(".")
    return LABELS.get(space, space) + (f", layer {layer}" if space in ("k", "v") else "")


def _points(places: pd.DataFrame, one: int, other: int) -> pd.DataFrame:
    rows = []
    for row in places.itertuples():
        at = pd.Series(row.coordinates).to_numpy().reshape(-1, row.n_components)
        if max(one, other) <= row.n_components:
            rows += [
                {
                    "panel": row.panel,
                    "step": row.first_step + step,
                    "x": float(own[one - 1]),
                    "y": float(own[other - 1]),
                }
                for step, own in enumerate(at)
            ]
    return pd.DataFrame(rows, columns=["panel", "step", "x", "y"])


def _title(shares: pd.DataFrame, panel: str, component: int) -> str:
    found = shares[(shares["panel"] == panel) & (shares["component"] == component)]["share"]
    return f"component {component}" + ("" if found.isna().all() else f" ({100 * found.iloc[0]:.0f} %)")


def sentence(shares: pd.DataFrame) -> str:
    """For each model: variance on the components, and what of it lies between steps."""
    parts = []
    for panel, own in shares.groupby("panel", sort=False):
        weights = own["captured"].fillna(0)
        between = (own["between_steps"].fillna(0) * weights).sum() / weights.sum() if weights.sum() else float("nan")
        told = "unknown" if pd.isna(between) else f"{100 * between:.0f} %"
        parts.append(
            f"{for_markdown(str(panel))}: {len(own)} components hold {100 * weights.sum():.0f} % of the variance of"
            f" scored problems, of which {told} is between the means of steps"
        )
    return "; ".join(parts) + "." if parts else "There are no components of these."
