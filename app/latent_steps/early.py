"""How many problems are answered right after fewer latents, for each sibling."""

import pandas as pd
import streamlit as st

from app.figures.latent_readings import series_colours, step_curves
from app.latent_steps.readings import REPORT, percent, said, siblings
from app.shared.views import Here
from app.shell import keys, studies
from app.shell.data_figure import data_figure
from app.shell.untrusted import for_markdown
from backend.latent.summaries import at_the_end, early_answers
from backend.statistics.paired import mcnemar
from backend.store.store import Store

_PANEL = "all siblings"


def draw(here: Here, store: Store) -> None:
    group = here.once(siblings)
    runs = group.rows(studies.ask(store.latent_runs))
    found = group.rows(early_answers(runs))
    frame = found.assign(series=found["panel"], panel=_PANEL, is_control=False)
    data_figure(
        step_curves(
            frame,
            [_PANEL],
            axis="answered right",
            is_share=True,
            colours=series_colours(list(group.labels.values())),
        ),
        key=keys.of("latent_early"),
        config={"displayModeBar": False},
    )
    none = int(runs["is_correct"].isna().sum())
    st.caption(
        f"The whole answer, forced after so many latents, over {runs['problem_id'].nunique()} scored problems; bars are"
        f" Wilson's 95 % intervals. {none} of {len(runs):,} runs gave no answer and count as not right."
    )
    said(
        f"{REPORT} counts as accuracy at a latent whether one token after a forced exit there is right, and stops"
        " earlier than it was trained for: a gain at such an exit may only undo the harm of stopping early.",
        sentence(runs, group.labels, group.of("latent")),
    )


def sentence(runs: pd.DataFrame, labels: dict[str, str], latent: str | None) -> str:
    """Each model with no latents and with all of them, and the recurrent one against each of the others, paired."""
    found, parts = early_answers(runs), []
    for model_id, label in labels.items():
        own = found[found["model_id"] == model_id].sort_values("step")
        if own.empty:
            continue
        first, last = own.iloc[0], own.iloc[-1]
        text = f"{for_markdown(label)}: {_share(first)} with {first['step']}"
        parts.append(text if len(own) == 1 else f"{text}, {_share(last)} with {last['step']}")
    if latent is not None:
        of_latent = at_the_end(runs, latent)
        for model_id, label in labels.items():
            if model_id != latent:
                pair = f"{for_markdown(labels[latent])} − {for_markdown(label)}"
                parts.append(f"{pair}: {_apart(of_latent, runs, model_id)}")
    return ("Answered right in " + "; ".join(parts) + ".") if parts else "No run is there."


def _share(row: pd.Series) -> str:
    return f"{percent(row['value'])} [{percent(row['low'])}, {percent(row['high'])}]"


def _apart(of_latent: pd.Series, runs: pd.DataFrame, model_id: str) -> str:
    other = at_the_end(runs, model_id)
    shared = of_latent.index.intersection(other.index)
    found = mcnemar(other[shared].tolist(), of_latent[shared].tolist())
    return (
        f"{100 * found.difference:+.1f} points [{100 * found.low:.1f}, {100 * found.high:.1f}] with all their latents"
        f" (McNemar p = {found.p:.2g}, n = {found.n})"
    )
