"""Numbers near the answer in what a lens says, beside how often chance would say them."""

import pandas as pd
import streamlit as st

from app.figures.latent_readings import step_curves
from app.latent_steps.readings import REPORT, door, layer, layer_names, lens, percent, said, siblings
from app.shared.views import Here
from app.shell import keys, selection, studies
from app.shell.data_figure import data_figure
from app.shell.fields import Field, declare
from app.shell.theme import ACCENT, CONTROL, STEERED
from app.shell.untrusted import for_markdown
from backend.latent.near_misses import ANY, NEAR_MISSES
from backend.statistics.holm import holm
from backend.store.store import Store

KINDS = {ANY: "any of them"} | {name: one.label for name, one in NEAR_MISSES.items()}
WORDS = {"probability": "share of the probability on wrong numbers", "top": "share of wrong top numbers"}
KIND = declare(Field("latent_near", "kind of near miss", tuple(KINDS)))
MEASURE = declare(Field("latent_near_by", "how near misses are counted", tuple(WORDS)))
_FOUND, _ANSWERS, _READINGS = "near misses", "chance: frequency of answers", "chance: readings of other problems"
_ALPHA = 0.05


def draw(here: Here, store: Store) -> None:
    with here.once(door):
        group, chosen = here.once(siblings), here.once(lens)
        at = here.once(layer)
        kind = selection.pick(KIND, "Near miss", show=KINDS.__getitem__, width=220)
        measure = selection.pick(MEASURE, "Counted", show=WORDS.__getitem__, width=330)
    name = "logit" if chosen.name.startswith("tuned") and at == group.n_layers - 1 else chosen.name
    rows = group.rows(studies.ask(store.latent_near_misses))
    rows = rows[(rows["lens"] == name) & (rows["layer"] == at) & (rows["measure"] == measure)]
    own = rows[rows["kind"] == kind]
    frame = lines(own)
    data_figure(
        step_curves(
            frame,
            list(dict.fromkeys(own["panel"])) or ["none"],
            axis=WORDS[measure],
            is_share=True,
            colours={_FOUND: STEERED, _ANSWERS: CONTROL, _READINGS: ACCENT},
        ),
        key=keys.of("latent_near_chart"),
        config={"displayModeBar": False},
    )
    where = layer_names([at], group.n_layers)[at]
    told = "; ".join(f"{one.label}: {one.words}" for one in NEAR_MISSES.values())
    st.caption(
        f"{chosen.label}, layer {where}. Near misses of an answer a ({told}) that are no result and no number of the"
        " problem, among wrong numbers alone, with 95 % intervals over problems. Dashed: the same share if a number"
        " were drawn as the answers of problems that are not scored, and if it were drawn from the readings of other"
        " problems at the same place, which counts out whatever the lens always says."
    )
    said(
        f"{REPORT} shows near misses in its tuned lens, 720 and 350 where 360 is right, and says that they are no"
        " frequent answers.",
        sentence(rows),
    )


def lines(rows: pd.DataFrame) -> pd.DataFrame:
    """The share and the two chances, at each step of each model."""
    shares = {"value": "share", "low": "ci_low", "high": "ci_high"}
    base = rows.rename(columns={"n_problems": "n"})
    parts = [base.assign(series=_FOUND, is_control=False, **{to: base[name] for to, name in shares.items()})]
    for series, name in ((_ANSWERS, "chance_answers"), (_READINGS, "chance_readings")):
        unknown = {"low": float("nan"), "high": float("nan")}
        parts.append(base.assign(series=series, is_control=True, value=base[name], **unknown))
    return pd.concat(parts, ignore_index=True)


def sentence(rows: pd.DataFrame) -> str:
    """For each model: how many of its kinds and steps exceed both chances after Holm, and the largest."""
    parts = []
    for panel, own in rows.groupby("panel", sort=False):
        known = own[own["p_answers"].notna() & own["p_readings"].notna()]
        if known.empty:
            parts.append(f"{for_markdown(str(panel))}: too few problems with near misses")
            continue
        worse = known[["p_answers", "p_readings"]].max(axis=1).to_numpy(float)
        above = (known["excess_answers"] > 0) & (known["excess_readings"] > 0)
        found = known[(holm(worse) <= _ALPHA) & above.to_numpy()]
        text = f"{for_markdown(str(panel))}: {len(found)} of {len(known)} kinds and latents exceed both"
        if len(found):
            most = found.loc[found["excess_readings"].idxmax()]
            text += (
                f", most {KINDS[most['kind']]} at latent {most['step']} ({percent(most['share'])}; chance"
                f" {percent(most['chance_answers'])} and {percent(most['chance_readings'])}, n = {most['n_problems']})"
            )
        parts.append(text)
    return (
        f"With Holm's p of the worse of both at most {_ALPHA}: {'. '.join(parts)}." if parts else "Nothing is counted."
    )
