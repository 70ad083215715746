"""How the selected chunk's metric settles with the number of rollouts, and resampling it now until it is known well
enough.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from app.figures.evidence import convergence
from app.shared import chunk_colours, live
from app.shared.chosen_chunk import ChosenChunk
from app.shared.statistics_cache import convergence_of
from app.shared.views import Here
from app.shared.waiting import place_in_line
from app.shell import keys, selection, studies
from app.shell.fields import Decimal, Field, Whole, declare
from app.shell.missing import no_rollouts, say
from app.shell.numbers import interval, number
from app.shell.untrusted import for_markdown, one_line, show
from app.shell.vocabulary import metric, metric_choice
from backend.errors import AnchorscopeError
from backend.importance.metric_registry import METRICS, conventions_of
from backend.live.available import Choice
from backend.live.requests import MAX_CONTINUATIONS, Resample, experiment_id
from backend.live.resample import NOTE, STOPPED, resample_request, writer
from backend.live.service import Status
from backend.store.store import Store

_STEPS = 8  # numbers of rollouts at which convergence is looked at
_BATCH = 16
HALFWIDTH = declare(Field("resample_halfwidth", "half-width to stop at", Decimal(0.001, 5.0), "0.1"))
MOST = declare(Field("resample_most", "most new rollouts", Whole(_BATCH, MAX_CONTINUATIONS), "128"))


def draw(here: Here, store: Store) -> None:
    """The chunk's metric as it is stored, how it came to it, and a button that makes it better known."""
    where, choices = here.chunk, chunk_colours.importance_options(store)
    chunk = store.chunk_place(where.chunk).iloc[0]
    st.subheader(f"Chunk {chunk.chunk_index + 1}: how sure is its importance?")
    usual = chunk_colours.usual_choice(choices)
    chosen = selection.pick(chunk_colours.METRIC, "Importance", choices, default=usual, show=metric_choice)
    name, _, convention = chosen.partition(":")
    stored = store.importance_of_chunk(where.chunk)
    stored = stored[(stored["metric"] == name) & (stored["convention"] == convention)]
    if len(stored):
        row = stored.iloc[0]
        flat = np.isclose(row.ci_low, row.ci_high)
        agreed = (
            " It has no width because the rollouts all agree, and the bootstrap sees no noise in them." if flat else ""
        )
        st.caption(f"Stored: {number(row.value)}, 95 % interval {interval(row.ci_low, row.ci_high)}.{agreed}")
    _convergence(store, where, name, convention)
    st.markdown("**Resample this chunk now**")
    _resample(store, where, name, convention)


# From the rollouts there are


def _convergence(store: Store, where: ChosenChunk, name: str, convention: str) -> None:
    reason = why_not(name, convention)
    if reason:
        st.caption(reason)
        return
    rollouts = studies.ask(store.resampled, cot_id=where.cot)
    chunks = tuple(store.chunk_spans(where.cot)["chunk_id"])
    sizes = sizes_of(rollouts, chunks, where.chunk, name)
    if not sizes:
        has_tokens = pd.notna(store.chunk_spans(where.cot)["token_start"]).all()
        say(no_rollouts(store.coverage().iloc[0], store.path, has_tokens=bool(has_tokens)))
        return
    found = convergence_of(rollouts, chunks, where.chunk, name, convention, sizes).rename(
        columns={"m": "n", "mean": "value"}
    )
    st.plotly_chart(
        convergence(found, metric(name), band="95 % of random orders"),
        key=keys.of("convergence"),
        config={"displayModeBar": False},
    )
    unknown = int(found["n_unknown"].iloc[0])
    st.caption(
        f"Subsets of the stored rollouts, {int(found['n_orders'].iloc[0])} random orders"
        + (f"; with {sizes[0]} rollouts the metric is unknown in {unknown} of them" if unknown else "")
        + ". The band closes at the right because all orders end in the same rollouts: what these many rollouts tell is"
        " the half-width of the bootstrap interval below."
    )


def why_not(name: str, convention: str) -> str | None:
    """Why a metric cannot be had anew from stored rollouts; None where it can."""
    found = METRICS.get(name)
    if found is not None and found.needs_returns:
        return (
            "How it converges is not shown: it needs every sentence of the rollouts embedded, which is done when the"
            " study is made."
        )
    if found is not None and found.rollouts == "forced":
        return "How it converges is not shown: it rests on forced answers, a sample of its own."
    if found is None or convention not in conventions_of(name):
        return "How it converges is unknown: it was published without the rollouts it rests on."
    return None


def sizes_of(rollouts: pd.DataFrame, chunks: tuple[str, ...], chunk: str, name: str) -> tuple[int, ...]:
    """Numbers of rollouts to look at, evenly on a logarithmic scale up to all there are; none where a side has fewer
    than two.
    """
    counts, index, compares = rollouts["chunk_id"].value_counts(), chunks.index(chunk), METRICS[name].compares
    sides = [chunk] + ([chunks[index + 1]] if compares and index + 1 < len(chunks) else [])
    n = min(int(counts.get(side, 0)) for side in sides)
    if n < 2 or (compares and len(sides) < 2):
        return ()
    return tuple(sorted({round(size) for size in np.geomspace(min(4, n), n, _STEPS)}))


# Now


def _resample(store: Store, where: ChosenChunk, name: str, convention: str) -> None:
    a, b = st.columns(2, gap="small")
    with a:
        unit = metric(name).unit
        width = selection.pick_decimal(HALFWIDTH, f"Until the half-width is at most ({unit})", step=0.01)
    with b:
        most = selection.pick_whole(MOST, "or so many new rollouts", step=_BATCH)
    compares = METRICS[name].compares
    st.caption(
        "The model that wrote the chain continues it from before this"
        f" chunk{' and from before the next one' if compares else ''}, {_BATCH} rollouts at a time. They are"
        " pooled with the stored ones, and it stops when half of the 95 % interval is narrow"
        f" enough{', a little allowed for looking,' if compares else ','} or at the most. They are not kept in"
        " the study."
    )
    try:
        request = resample_request(
            store, where.chunk, metric=name, convention=convention, half_width=width, batch=_BATCH, most=most
        )
        choice = writer(store, where.chunk, live.steerable(store))
    except AnchorscopeError as error:
        st.button("Resample this chunk now", icon=":material/casino:", disabled=True, key=keys.of("resample"))
        show(str(error))
        return
    status = live.service().status(experiment_id(choice.model_id, request))
    tried = status is not None and status.ended and status.state != "finished"
    label = "Try again" if tried else "Resample this chunk now"
    done = status is not None and not tried
    if st.button(label, icon=":material/casino:", type="primary", disabled=done, key=keys.of("resample")):
        _start(choice, request, again=tried)
    if status is not None and not status.ended:
        _follow(status.ticket_id, name, float(width))
    elif status is not None:
        if status.error:
            show(status.error)
        looks(status, name, float(width))


def _start(choice: Choice, request: Resample, *, again: bool) -> None:
    try:
        live.look_up(choice, request, again=again)
    except AnchorscopeError as error:  # too many wait
        show(str(error))
        return
    selection.rerun()


def _follow(ticket: str, name: str, width: float) -> None:
    def look() -> None:
        now = live.service().status(ticket)
        if now is None or now.ended:
            selection.rerun()
        place_in_line(now, "Writing rollouts")
        if st.button("Stop", icon=":material/stop:", key=keys.of("resample_stop")):
            live.stop(ticket)
            selection.rerun()
        looks(now, name, width)

    keys.fragment(look, run_every=live.EVERY)()


def looks(status: Status, name: str, width: float) -> None:
    """What was found so far, and why it stopped; `width` is the half-width that was asked for."""
    result: Mapping[str, Any] = status.result or {}
    found = result.get("looks") or []
    if not found:
        return
    last = found[-1]
    ruling = last.get("ruling_half_width")
    if result.get("stopped"):
        show(STOPPED[result["stopped"]])
    elif status.state == "stopped" and not status.error:
        show("Stopped by you before the interval was narrow enough.")
    show(
        f"With {last['n_new']} new rollouts: {metric(name).label} {number(last['value'])}, 95 % interval "
        f"{interval(last['low'], last['high'])}, half-width {number(last['half_width'])}"
        + (
            f" ({number(ruling)} by the rule, which allows for looking)."
            if _differs(ruling, last["half_width"])
            else "."
        )
    )
    rows = looks_table(found)
    figure = convergence(rows, metric(name), band="95 % interval", counted="new rollouts", target=width)
    st.plotly_chart(figure, key=keys.of("looks"), config={"displayModeBar": False})
    st.caption(for_markdown(result.get("note") or NOTE, 1000))
    samples = pd.DataFrame(result.get("samples") or [])
    if status.ended and len(samples):
        _samples(samples)


def looks_table(found: list[Mapping[str, Any]]) -> pd.DataFrame:
    """The looks as `convergence` draws them; n are the new rollouts at the chunk."""
    rows = pd.DataFrame(found)[["n_new", "value", "low", "high", "half_width"]]
    return rows.astype(float).rename(columns={"n_new": "n"})


def _differs(ruling: float | None, half_width: float | None) -> bool:
    return ruling is not None and half_width is not None and number(ruling) != number(half_width)


def _samples(samples: pd.DataFrame) -> None:
    with st.expander(f"The {len(samples)} new rollouts"):
        shown = pd.DataFrame(
            {
                "from before": samples["chunk_id"].map(lambda chunk: f"chunk {int(chunk.rpartition('_')[2]) + 1}"),
                "cosine": samples["similarity"].astype(float).round(2),
                "answer": samples["answer"].fillna("none"),
                "verdict": ["not judged" if pd.isna(v) else "correct" if v else "wrong" for v in samples["is_correct"]],
                "resampled chunk": [one_line(text or "", 200) for text in samples["resampled_chunk"].fillna("")],
            }
        )
        st.dataframe(shown, hide_index=True, row_height=28, height=320, key=keys.of("new_rollouts"))
