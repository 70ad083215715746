"""The audit of a vector: what it is like, which tokens it writes, what pushing along it costs, and what it does to
chains of thought.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from app.direction_library.vectors import chosen, model_of
from app.figures.direction_audit import RandomCosines, cosine_strip, cost_curves, texts_by_arm
from app.shared import live, vector_lens
from app.shared.model_names import called
from app.shared.sampled import SEED
from app.shared.views import Here
from app.shared.waiting import place_in_line
from app.shell import keys, selection
from app.shell.data_figure import data_figure
from app.shell.data_table import data_table
from app.shell.fields import Field, Whole, declare
from app.shell.more import more
from app.shell.numbers import interval
from app.shell.numbers import number as figure
from app.shell.untrusted import for_markdown, one_line, show
from app.shell.vocabulary import ARMS, studied_words
from backend.errors import AnchorscopeError
from backend.geometry.likeness import likeness
from backend.live import audits
from backend.live.audit_results import cost_against_random, cost_rows, text_pairs, text_rows
from backend.live.available import Choice
from backend.live.requests import Audit
from backend.live.service import Status
from backend.store.library import KeptVector, Library
from backend.store.store import Store

CHUNKS = declare(Field("audited_chunks", "number of audited chunks", Whole(1, 512), "8"))
PROBLEMS = declare(Field("audited_problems", "number of audited problems", Whole(1, 128), "8"))
TEXTS = declare(Field("audited_texts", "texts of an audited problem", Whole(1, 16), "2"))
LONGEST = declare(Field("audited_tokens", "length of an audited text", Whole(8, 1024), "192"))
_SHOWN_COSINES = 12
_QUANTITIES = {"thinking_tokens": "thinking tokens", "degenerate": "share that ends in a loop"}


# What it is like


def draw_likeness(here: Here, store: Store) -> None:
    """Cosines with the study's directions and the library's other vectors at its layer."""
    kept = here.once(chosen)
    found = likeness(store, kept)
    rows = found.rows.assign(label=[_label(row) for row in found.rows.to_dict("records")])
    null = RandomCosines(found.d, found.bound, found.bound_of_all)
    data_figure(cosine_strip(rows, null), key=keys.of("cosines"), config={"displayModeBar": False})
    if rows.empty:
        st.caption(f"The study has no direction at layer {kept.layer} of {for_markdown(called(store, kept.model))}.")
        return
    shown = rows.head(_SHOWN_COSINES)
    table = {
        "direction": [one_line(label, 90) for label in shown["label"]],
        "cosine": [f"{value:+.3f}" for value in shown["cosine"]],
        "p, one": [f"{p:.2g}" for p in shown["p"]],
        f"p, of {len(rows)}": [f"{p:.2g}" for p in shown["p_of_all"]],
    }
    data_table(pd.DataFrame(table), hide_index=True, row_height=28, height="content", key=keys.of("cosine_table"))
    st.caption(
        f"The {len(shown)} largest of {len(rows)} by |cosine|. p: how often a random vector in {found.d} dimensions, or"
        f" the largest of {len(rows)}, is at least as near; exact, for isotropic vectors. Residual streams are not"
        " isotropic: two activations of one layer are alike for reasons that say nothing of either."
    )


def _label(row: Mapping[str, Any]) -> str:
    if isinstance(row["name"], str):
        return row["name"]
    of = f", chunk {int(row['number'])} of {row['chunk_id'].rpartition('_')[0]}" if pd.notna(row["number"]) else ""
    return f"{studied_words(row['kind'])}{of}" if of else f"{studied_words(row['kind'])} ({row['direction_id']})"


# Which tokens it writes


def draw_lens(here: Here, store: Store) -> None:
    """The tokens that it writes to the logits, and as strongly random vectors do."""
    kept = here.once(chosen)
    choice = _model(store, kept)
    if choice is None:
        return
    vector_lens.draw(choice, audits.lens_request(kept, 1))


# What it costs, and what it does


def audit_seed(here: Here) -> int:
    """Of which chunks, problems and random vectors are drawn, with its control; one for all of an audit."""
    return selection.pick_whole(SEED, "Seed", width=140)


def draw_cost(here: Here, store: Store) -> None:
    """KL(β) over a sample of the study's chunks, beside random vectors of the same size."""
    kept = here.once(chosen)
    with more(SEED, CHUNKS):
        seed = here.once(audit_seed)
        n = selection.pick_whole(CHUNKS, "Chunks", width=140)
    asked = audits.Asked(seed=seed, n_chunks=n)
    _audited(store, kept, "cost", "Measure KL", lambda choice: audits.cost_request(store, kept, choice, asked), _cost)


def draw_texts(here: Here, store: Store) -> None:
    """Lengths and loops of chains of thought under the vector, unsteered, and under random vectors."""
    kept = here.once(chosen)
    with more(PROBLEMS, TEXTS, LONGEST):
        seed = here.once(audit_seed)
        problems = selection.pick_whole(PROBLEMS, "Problems", width=140)
        texts = selection.pick_whole(TEXTS, "Texts of each", width=140)
        longest = selection.pick_whole(LONGEST, "Max new tokens", step=8, width=160)
    asked = audits.Asked(seed=seed, n_problems=problems, n_texts=texts, max_new_tokens=longest)
    _audited(
        store, kept, "texts", "Write the texts", lambda choice: audits.texts_request(store, kept, choice, asked), _texts
    )


def _model(store: Store, kept: KeptVector) -> Choice | None:
    """The vector's model; where it is not on this machine, says so."""
    choice = model_of(store, kept)
    if choice is None:
        show(
            f"{called(store, kept.model)}, for which this vector was kept, is not on this machine: what needs the model"
            " cannot be measured here. What was kept of it is shown."
        )
    return choice


def _audited(
    store: Store,
    kept: KeptVector,
    what: str,
    label: str,
    request_for: Callable[[Choice], Audit],
    draw: Callable[[Mapping[str, Any], Mapping[str, Any]], None],
) -> None:
    """A button that has it measured, how far that is, and the newest result that is kept."""
    choice = _model(store, kept)
    running = _run(store, kept, what, label, request_for, choice) if choice else None
    if running is not None and not running.ended:
        _follow(running.ticket_id, what)
    row = next(
        (row for row in Library(store.path).audits(kept.vector_id).to_dict("records") if _is_of(row, what)), None
    )
    if row is None:
        st.caption("Not measured yet." if running is None or running.ended else "")
        return
    draw(json.loads(row["results"]), json.loads(row["parameters"]))
    early = ", stopped before its end" if row["state"] == "stopped" else ""
    seconds = "" if pd.isna(row["seconds"]) else f", {row['seconds']:.0f} s"
    st.caption(f"Kept {row['created_at']:%Y-%m-%d %H:%M} UTC{seconds}{early}, by {for_markdown(row['model'], 60)}.")


def _run(
    store: Store, kept: KeptVector, what: str, label: str, request_for: Callable[[Choice], Audit], choice: Choice
) -> Status | None:
    """The button, and the status of what it started in this session."""
    started = st.session_state.setdefault("audits", {})
    if st.button(label, icon=":material/play_arrow:", key=keys.of(f"audit_{what}")):
        try:
            started[kept.vector_id, what] = live.audit(
                store.path, kept.vector_id, choice, request_for(choice), again=True
            )
        except AnchorscopeError as error:
            show(str(error))
    run_id = started.get((kept.vector_id, what))
    status = None if run_id is None else live.service().status(run_id)
    if status is not None and status.error:
        show(status.error)
    return status


def _follow(ticket: str, what: str) -> None:
    """How far it is, with a way to stop it; when it ends the page runs anew."""

    def look() -> None:
        now = live.service().status(ticket)
        if now is None or now.ended:
            selection.rerun()
        place_in_line(now, "Measuring")
        if st.button("Stop", icon=":material/stop:", key=keys.of(f"stop_audit_{what}")):
            live.stop(ticket)
            selection.rerun()

    keys.fragment(look, run_every=live.EVERY)()


def _is_of(row: Mapping[str, Any], what: str) -> bool:
    return json.loads(row["parameters"]).get("what") == what


def _cost(results: Mapping[str, Any], how: Mapping[str, Any]) -> None:
    rows = pd.DataFrame(cost_rows(results))
    floors = [chunk["noise_floor"] for chunk in results["chunks"] if chunk["noise_floor"] is not None]
    chart = cost_curves(rows, floor=float(np.median(floors)) if floors else None, unit=how["unit"])
    data_figure(chart, key=keys.of("cost"), config={"displayModeBar": False})
    found = cost_against_random(results, audits.BETA)
    zero = rows[(rows["arm"] == "vector") & (rows["beta"] == 0)]
    left_out = f"; {found['n_left_out']} at or below the noise floor left out" if found["n_left_out"] else ""
    st.caption(
        f"At β = {audits.BETA:+g} its KL is {figure(found['ratio'])} times that of random vectors of its norm, 95 %"
        f" {interval(found['low'], found['high'])} (geometric mean, n = {found['n']} chunks of {found['n_cots']}"
        f" CoTs, bootstrap over CoTs{left_out}). p = {found['p']:.2g}: the share of {len(found['random_medians'])}"
        f" random vectors whose median KL is at least its {figure(found['median'])} nats. β = 0:"
        f" {figure(float(zero['high'].iloc[0]))} nats. Pushed at the token before each chunk."
    )


def _texts(results: Mapping[str, Any], how: Mapping[str, Any]) -> None:
    rows = pd.DataFrame(text_rows(results))
    data_figure(texts_by_arm(rows), key=keys.of("texts"), config={"displayModeBar": False})
    pairs = [
        {
            "compared": f"{ARMS[row['arm']]} − {ARMS[row['against']]}",
            "quantity": _QUANTITIES[row["quantity"]],
            "difference [95 %]": f"{row['difference']:+.3g} "
            + ("" if np.isnan(row["low"]) else interval(row["low"], row["high"])),
            "p": f"{row['p']:.2g}",
            "problems": row["n"],
        }
        for row in text_pairs(results)
    ]
    data_table(pd.DataFrame(pairs), hide_index=True, row_height=28, height="content", key=keys.of("text_pairs"))
    cut = ", ".join(f"{ARMS[row.arm]} {row.cut:.0%}" for row in rows.itertuples())
    st.caption(
        f"β = {how['beta']:+g} RMS from the end of the prompt on, layer {how['layers'][0]}; arms share"
        f" random numbers sample by sample; random: {how['n_random']} vectors in turn. Thinking tokens: of the"
        " text before its closing tag, or of all of it where there is none. Cut at"
        f" {how['sampling']['max_new_tokens']} tokens: {cut}; of those the length is a lower bound. Differences"
        " of problems' means, bootstrap over problems, sign flips."
    )
