"""What differences of mean latents say: the logit lens of mean[later] − mean[earlier], and of its opposite."""

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from app.figures.latent_readings import step_name
from app.latent_steps.readings import REPORT, said, siblings, token_words
from app.shared.views import Here
from app.shell import keys, selection, studies
from app.shell.data_table import data_table
from app.shell.fields import Field, declare
from app.shell.untrusted import for_markdown
from backend.store.store import Store

MODEL = declare(Field("latent_difference_of", "model whose mean latents are compared", None))


def draw(here: Here, store: Store) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        labels = here.once(siblings).labels
        model = selection.pick(MODEL, "Model", list(labels), show=labels.__getitem__, width=260)
    rows, words = studies.ask(store.latent_difference_readings, model_id=model), here.once(token_words)
    if rows.empty:
        st.caption(f"{for_markdown(labels[model])} runs no latents: there is no difference of two.")
        return

    def listed(ids: Sequence[int], probabilities: Sequence[float]) -> str:
        pairs = zip(ids, probabilities, strict=True)
        return ", ".join(f"“{words.get((model, int(token)), token)}” {100 * p:.0f} %" for token, p in pairs)

    table = pd.DataFrame(
        {
            "layer": rows["layer"],
            "later": rows["later"],
            "earlier": rows["earlier"].map(step_name),
            "later − earlier": list(map(listed, rows["token_ids"], rows["probabilities"])),
            "earlier − later": list(map(listed, rows["opposite_ids"], rows["opposite_probabilities"])),
        }
    )
    data_table(table, hide_index=True, row_height=26, height=420, key=keys.of("latent_differences"))
    st.caption(
        "The five likeliest tokens of a difference of mean streams under the logit lens, means over problems that are"
        " not scored. The two signs are two readings: a difference and its opposite say different things."
    )
    said(
        f"The text of {REPORT} defines its vector as A − B and its code steers along B − A, while its lens reads A − B:"
        " what is read is the opposite of what is added.",
        sentence(rows),
    )


def sentence(rows: pd.DataFrame) -> str:
    """How often the two signs share a token among their five."""
    shared = sum(bool(set(row.token_ids) & set(row.opposite_ids)) for row in rows.itertuples())
    return f"In {shared} of {len(rows)} pairs and layers the two signs share a token among their five likeliest."
