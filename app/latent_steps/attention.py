"""Where latents look: attention from each to the parts of the question and to earlier latents."""

import pandas as pd
import streamlit as st

from app.figures.latent_readings import attention_map, step_name
from app.latent_steps.readings import door, percent, said, siblings, subset
from app.shared.views import Here
from app.shell import keys, selection, studies
from app.shell.data_figure import data_figure
from app.shell.fields import Field, declare
from app.shell.untrusted import for_markdown
from backend.latent.question_parts import SPLITS, START
from backend.store.store import Store

MEAN = "-1"  # in place of a head
LAYER = declare(Field("latent_attention_layer", "layer of attention of latents", None))
SPLIT = declare(Field("latent_split", "split of the question", SPLITS))
HEAD = declare(Field("latent_head", "attention head of latents", None))


def draw(here: Here, store: Store) -> None:
    with here.once(door):
        group = here.once(siblings)
        here.once(subset)
        split = selection.pick(SPLIT, "Question in", show=lambda name: SPLITS[name].label, width=200)
        rows = group.rows(studies.ask(store.latent_attention, subset=here.once(subset), split=split))
        if rows.empty:
            st.caption("No model of this training has such problems.")
            return
        layers = [str(one) for one in sorted(set(rows["layer"]))]
        layer = selection.pick(LAYER, "Layer", layers, default=layers[-1], width=110)
        rows = rows[rows["layer"] == int(layer)]
        heads = [str(one) for one in sorted(set(rows["head"]))]
        head = selection.pick(HEAD, "Head", heads, show=lambda one: "mean" if one == MEAN else one, width=110)
    own = rows[rows["head"] == int(head)]
    parts = list(dict.fromkeys(own.sort_values("place", kind="stable")["part"]))
    data_figure(
        attention_map(own.assign(told=_told(own)), parts, list(dict.fromkeys(own["panel"]))),
        key=keys.of("latent_attention_chart"),
        config={"displayModeBar": False},
    )
    st.caption(
        f"Layer {layer}, {'mean over heads' if head == MEAN else f'head {head}'}: of the attention that is paid at each"
        " latent the share, in percent, on all tokens of a part of the question, on what starts the thinking (bot), and"
        f" on each latent up to itself; mean over {int(own['n_problems'].max())} problems, a row sums to 100."
        f" {SPLITS[split].words}"
    )
    said(
        "Published readings call latents a parallel ensemble, or a chain of which the early ones are hubs: in a chain"
        " later latents look at earlier ones. A pause sibling is fed the same latents for every problem, and can use"
        " them as places alone.",
        sentence(own),
    )


def _told(rows: pd.DataFrame) -> list[str]:
    return [
        f"latent {step_name(row.step)} to {row.part}: {percent(row.share)} [{percent(row.ci_low)},"
        f" {percent(row.ci_high)}], n = {row.n_problems}"
        for row in rows.itertuples()
    ]


def sentence(rows: pd.DataFrame) -> str:
    """For each model, at its last latent: the share on earlier latents and on the question."""
    parts = []
    for panel, own in rows.groupby("panel", sort=False):
        last = own[own["step"] == own["step"].max()]
        step = int(last["step"].iloc[0])
        earlier = last[[part.isdecimal() and int(part) < step for part in last["part"]]]["share"].sum()
        asked = last[[not part.isdecimal() and part != START for part in last["part"]]]["share"].sum()
        parts.append(
            f"{for_markdown(str(panel))}: at latent {step_name(step)} {percent(earlier)} on earlier latents,"
            f" {percent(asked)} on the question"
        )
    return "; ".join(parts) + "."
