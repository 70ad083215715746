"""How far the tuned lens of latents may be believed: KL to the model on problems that no lens was fitted on."""

import pandas as pd
import streamlit as st

from app.figures.latent_readings import series_colours, step_curves
from app.latent_steps.readings import REPORT, said, siblings
from app.shared.views import Here
from app.shell import keys, studies
from app.shell.data_figure import data_figure
from app.shell.numbers import number
from app.shell.untrusted import for_markdown
from backend.latent.lenses import VARIANT_ALL
from backend.store.store import Store

_LOGIT, _TUNED, _ALONE = "logit lens", "tuned lens, all positions", "tuned lens of each position alone"


def lines(rows: pd.DataFrame) -> pd.DataFrame:
    """One line a lens and layer: the logit lens, the tuned lens of all positions, and each position's own."""
    whole = rows[rows["variant"] == VARIANT_ALL]
    alone = rows[rows["variant"] == rows["step"].astype(str)]
    unknown = {"low": float("nan"), "high": float("nan")}
    parts = [
        whole.assign(series=_LOGIT, value=whole["kl_logit"], **unknown),
        whole.assign(series=_TUNED, value=whole["kl"], low=whole["ci_low"], high=whole["ci_high"]),
        alone.assign(series=_ALONE, value=alone["kl"], low=alone["ci_low"], high=alone["ci_high"]),
    ]
    found = pd.concat(parts, ignore_index=True).rename(columns={"n_problems": "n"})
    return found.assign(is_control=found["series"] == _LOGIT)


def draw(here: Here, store: Store) -> None:
    group = here.once(siblings)
    rows = group.rows(studies.ask(store.latent_lens_quality))
    if rows.empty:
        st.caption("These models have one layer, which is the model itself: there is nothing to tune.")
        return
    frame = lines(rows)
    frame = frame.assign(panel=[f"{row.panel}, layer {row.layer}" for row in frame.itertuples()])
    data_figure(
        step_curves(
            frame,
            list(dict.fromkeys(frame["panel"])),
            axis="KL(model ‖ lens), nats",
            colours=series_colours([_LOGIT, _TUNED, _ALONE], [_LOGIT]),
        ),
        key=keys.of("latent_quality"),
        config={"displayModeBar": False},
    )
    one = rows.iloc[0]
    st.caption(
        f"KL(model ‖ lens) at each position on {one['n_problems']} scored problems, with 95 % intervals over problems;"
        f" lenses were fitted on {one['n_fitted']} other problems, and {one['n_validation']} more chose what is kept."
    )
    said(
        f"The tuned lens of {REPORT} was fitted on the last tokens of 500 questions, without held-out problems, with a"
        " second norm in what it was fitted to.",
        _sentence(rows),
    )


def _sentence(rows: pd.DataFrame) -> str:
    parts = []
    for (panel, layer), own in rows[rows["variant"] == VARIANT_ALL].groupby(["panel", "layer"], sort=False):
        kept = own["kept"].iloc[0]
        gains = int((own["gain_low"] > 0).sum())
        parts.append(
            f"{for_markdown(str(panel))}, layer {layer}: validation keeps {kept}; KL {number(own['kl'].mean())} nats on"
            f" average, the logit lens's {number(own['kl_logit'].mean())}; better beyond its interval at {gains} of"
            f" {len(own)} positions"
        )
    return "; ".join(parts) + "."
