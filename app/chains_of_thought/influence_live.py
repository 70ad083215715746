"""Suppression computed now, for a chain of which nothing is stored: asked for by a button, shown source by source."""

import pandas as pd
import streamlit as st

from app.shared import live
from app.shared.influence_ways import asked_for
from app.shared.model_names import called
from app.shared.views import Here
from app.shared.waiting import place_in_line
from app.shell import keys, selection
from app.shell.missing import say
from app.shell.untrusted import for_markdown, show
from backend.errors import AnchorscopeError
from backend.live.available import Choice
from backend.live.requests import Answered, Influences, experiment_id
from backend.live.service import Status
from backend.live.study_texts import text_of_cot
from backend.store.store import Store

PAIRS = (
    "model_id",
    "source_chunk_id",
    "target_chunk_id",
    "source_index",
    "target_index",
    "value",
    "low",
    "high",
    "p",
    "n",
)
IN_ALL = (
    "model_id",
    "chunk_id",
    "chunk_index",
    "answer_kl",
    "n_answer",
    "noise",
    "out_influence",
    "in_influence",
    "last_reader",
    "n_later",
    "n_earlier",
)


def draw(here: Here, store: Store, part: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The button for each model, how far it is, and what has come so far: rows as those of `influence_pairs` and
    `chunk_influences_of`, none where nothing was asked for.
    """
    choices = live.steerable(store)
    if not choices:
        say(asked_for(store, "suppression"))
        return pd.DataFrame(columns=list(PAIRS)), pd.DataFrame(columns=list(IN_ALL))
    st.caption(
        "Nothing of this chain is stored by suppression. A model on this machine can read it now, each chunk in turn"
        " taken from those after it; that is kept as long as the dashboard runs, and not in the study."
    )
    found = []
    with st.container(horizontal=True, gap="small"):
        for choice in choices:
            found.append(_button(here, store, choice, part))
    for status in found:
        if status is not None:
            _follow(status)
    return _rows(store, here.chunk.cot, [status for status in found if status is not None])


def _button(here: Here, store: Store, choice: Choice, part: str) -> Status | None:
    """Asks for it where it is pressed; what is known of the request, None where nobody asked."""
    asked = _request(store, here.chunk.chunk, here.chunk.cot, choice, part)
    status = live.service().status(experiment_id(choice.model_id, asked))
    again = status is not None and status.ended and status.state != "finished"
    who = for_markdown(called(store, choice.model_id))
    label = f"{'Try again' if again else 'Compute for this chain'}: {who}"
    key = keys.of(f"influence_compute_{choice.model_id}")
    if st.button(label, icon=":material/play_arrow:", disabled=status is not None and not again, key=key):
        try:
            live.look_up(choice, asked, again=again)
        except AnchorscopeError as error:  # too many wait
            show(str(error))
        else:
            selection.rerun()
    return status


def _request(store: Store, chunk: str, cot: str, choice: Choice, part: str) -> Influences:
    row = store.answered(cot).iloc[0]
    answered = None
    if not pd.isna(row.answer):
        after, close = (None if pd.isna(value) else str(value) for value in (row.after_text, row.think_close))
        answered = Answered(str(row.answer), after, close)
    return Influences(text_of_cot(store, chunk, choice.model_id), part, answered)


def _follow(status: Status) -> None:
    """How far it is, with a button that stops it; an error is said."""
    if status.ended:
        if status.error or status.state != "finished":
            show(status.error or "Stopped before the last chunk; what had come by then is shown.")
        return

    def look() -> None:
        now = live.service().status(status.ticket_id)
        if now is None or now.ended:
            selection.rerun()
        place_in_line(now, "Reading the chain without each chunk in turn")
        if st.button("Stop", icon=":material/stop:", key=keys.of(f"influence_stop_{status.ticket_id}")):
            live.stop(status.ticket_id)
            selection.rerun()

    keys.fragment(look, run_every=live.EVERY)()


def _rows(store: Store, cot: str, found: list[Status]) -> tuple[pd.DataFrame, pd.DataFrame]:
    places = dict(zip(*(store.chunk_spans(cot)[name] for name in ("chunk_id", "chunk_index")), strict=True))
    pairs = pd.DataFrame([row for status in found for row in status.result.get("rows", [])])
    in_all = pd.DataFrame([row for status in found for row in status.result.get("chunks", [])])
    if len(pairs):
        pairs = pairs.assign(
            source_index=pairs["source_chunk_id"].map(places),
            target_index=pairs["target_chunk_id"].map(places),
            value=pairs["kl"].astype(float),
            n=pairs["n_tokens"],
            low=None,
            high=None,
            p=None,
        ).astype({"low": float, "high": float, "p": float})
    if len(in_all):
        in_all = in_all.assign(chunk_index=in_all["chunk_id"].map(places))
    return pairs.reindex(columns=list(PAIRS)), in_all.reindex(columns=list(IN_ALL))
