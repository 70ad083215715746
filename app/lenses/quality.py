"""How far a lens may be believed: its KL to the model on problems that no lens learned from."""

import pandas as pd
import streamlit as st

from app.figures.lens_quality import quality_by_layer
from app.lenses.reading import Model, asked
from app.shared.views import Here
from app.shell import keys
from app.shell.data_figure import data_figure
from app.shell.missing import Missing, undone
from app.shell.untrusted import for_markdown
from backend.lens.kinds import LENSES
from backend.lens.positions import ALL, POSITION_KINDS
from backend.store.store import Store


def a_quality(here: Here) -> Missing | None:
    """A lens whose quality was measured, of any model of the study."""
    models = here.store.models()["model_id"]
    if any(len(here.store.lens_quality(model)) for model in models):
        return None
    return undone(here.store.path, "lens_quality")


def draw(here: Here, store: Store) -> None:
    """KL(model ‖ lens) by layer, one panel a kind of position, for each model that is read."""
    for model in here.once(asked).models:
        rows = store.lens_quality(model.choice.model_id)
        if rows.empty:
            st.caption(f"No lens of {for_markdown(model.name, 60)} was measured in this study.")
            continue
        data_figure(
            quality_by_layer(rows.assign(label=_labels(rows), panel=_panels(rows))),
            key=keys.of(f"lens_quality_{model.choice.model_id}"),
            config={"displayModeBar": False},
        )
        st.caption(_said(model, rows) + _not_here(store.lenses(model.choice.model_id)))


def _not_here(lenses: pd.DataFrame) -> str:
    """That a study was packed without the maps of a lens, so that it is measured here and not offered."""
    kinds = lenses.loc[~lenses["is_readable"].astype(bool), "kind"].unique()
    return "".join(
        f" The maps of the {_kind(kind)} are not in this pack, so that it is not offered above; a run of the study fits"
        " it anew."
        for kind in kinds
    )


def _labels(rows: pd.DataFrame) -> list[str]:
    return [
        LENSES[row.kind].label + ("" if row.variant in ("none", ALL) else f", {row.variant}")
        if row.kind in LENSES
        else str(row.kind)
        for row in rows.itertuples()
    ]


def _panels(rows: pd.DataFrame) -> list[str]:
    return [
        "all positions" if name == ALL else POSITION_KINDS[name].label if name in POSITION_KINDS else str(name)
        for name in rows["positions"]
    ]


def _said(model: Model, rows: pd.DataFrame) -> str:
    """What the table says, of its own rows."""
    whole = rows[(rows["positions"] == ALL) & rows["kl"].notna()]
    n = (
        ""
        if whole.empty
        else f" n = {int(whole['n_tokens'].max()):,} tokens of {int(whole['n_problems'].max())} problems."
    )
    parts = []
    below = whole[whole["layer"] < rows["layer"].max()]  # the last layer is the model itself under any lens
    for (_, kind), own in below.groupby(["lens_id", "kind"], sort=False):
        sure = own[own["gain_low"] > 0]
        known = own["gain_low"].notna()
        if not known.any():
            parts.append(f"of the {_kind(kind)} it is unknown, as there are too few problems")
        elif sure.empty:
            parts.append(f"the {_kind(kind)} shows no gain at any layer below the last")
        else:
            parts.append(f"the {_kind(kind)} gains from layer {_from(own)} on")
    return (
        f"{for_markdown(model.name, 60)}: KL(model ‖ lens) on held-out problems, bootstrap"
        f" over problems, 95 %; dashed: token frequencies alone.{n}"
        + (f" Against that baseline {'; '.join(parts)}." if parts else "")
    )


def _kind(name: object) -> str:
    return for_markdown(LENSES[str(name)].label if str(name) in LENSES else str(name), 40)


def _from(own: pd.DataFrame) -> int:
    """The layer from which on every layer shows a gain."""
    ordered = own.sort_values("layer", ascending=False)
    gains = (ordered["gain_low"] > 0).cummin()
    return int(ordered.loc[gains, "layer"].min()) if gains.any() else int(own["layer"].max())
