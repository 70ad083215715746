"""How the selected chunk's metric settles with the number of rollouts, and resampling it now until it is known well
enough.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from app.figures.evidence import convergence
from app.shared import chunk_colours, live
from app.shared.answer_shares import answered
from app.shared.chosen_chunk import ChosenChunk
from app.shared.model_names import called
from app.shared.statistics_cache import convergence_of
from app.shared.views import Here
from app.shared.waiting import place_in_line
from app.shell import keys, selection
from app.shell.data_figure import data_figure
from app.shell.data_table import data_table
from app.shell.fields import Decimal, Field, Whole, declare
from app.shell.missing import no_rollouts, say
from app.shell.more import more
from app.shell.numbers import interval, number
from app.shell.untrusted import for_markdown, one_line, show
from app.shell.vocabulary import decision, metric, metric_choice
from backend.errors import AnchorscopeError
from backend.importance.estimates import LEAST_RARER
from backend.importance.metric_registry import METRICS, conventions_of
from backend.importance.similarity import with_numbers
from backend.live.available import Choice
from backend.live.requests import MAX_CONTINUATIONS, Resample, experiment_id
from backend.live.resample import NOTE, STOPPED, resample_request, writer
from backend.live.service import Status
from backend.store.experiments import Experiments
from backend.store.store import Store

_STEPS = 8  # numbers of rollouts at which convergence is looked at
_BATCH = 16
HALFWIDTH = declare(Field("resample_halfwidth", "half-width to stop at", Decimal(0.001, 5.0), "0.1"))
ADDED = declare(Field("added_rollouts", "rollouts drawn later", None, of="chunk"))
UNCERTAIN = (
    f"Where fewer than {LEAST_RARER} rollouts have another outcome than the most frequent one the half-width is left"
    " out: it would be no evidence of certainty."
)
FROM_EARLIER = (
    "Rollouts from before earlier chunks that write the chain up to here token for token count too, of as many at each."
)
MOST = declare(Field("resample_most", "most new rollouts", Whole(_BATCH, MAX_CONTINUATIONS), "128"))


def draw(here: Here, store: Store) -> None:
    """The chunk's metric as it is stored, how it came to it, and a button that makes it better known."""
    where, choices = here.chunk, chunk_colours.importance_options(store)
    chunk = store.chunk_place(where.chunk).iloc[0]
    st.markdown(f"**Chunk {chunk.chunk_index + 1}**")
    can = [choice for choice in choices if why_not(*choice.split(":")) is None]
    usual = chunk_colours.usual_choice(can or choices)
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
        decided = decision(row.p, row.q, row.n_tested)
        st.caption(
            f"Stored: {number(row.value)}, 95 % interval {interval(row.ci_low, row.ci_high)}.{agreed}"
            + (f" {decided[:1].upper()}{decided[1:]}." if decided else "")
        )
    st.caption(pooled_line(store.answers_in_cot(where.cot), where.chunk, metric(name).compares))
    _convergence(store, where, name, convention)
    st.markdown("**Resample this chunk now**")
    _resample(store, where, name, convention)
    _added(store, where)


def pooled_line(counts: pd.DataFrame, chunk: str, compares: bool) -> str:
    """How many rollouts there are here, of the study's own and drawn later, and what became of their answers; and at
    the next chunk where the metric compares. `counts` are rows of `Store.answers_in_cot`.
    """
    at = counts["chunk_id"].tolist().index(chunk)
    parts = [
        f"{where}: {row.n - row.n_added} of the study + {row.n_added} drawn later ="
        f" {answered(row.n, row.n_without_answer, row.n_forced, of='rollouts')}"
        for where, row in zip(
            ("Before this chunk", "before the next one"), counts.iloc[at : at + 1 + compares].itertuples(), strict=False
        )
    ]
    return "; ".join(parts) + "."


# From the rollouts there are


def _convergence(store: Store, where: ChosenChunk, name: str, convention: str) -> None:
    reason = why_not(name, convention)
    if reason:
        st.caption(reason)
        return
    rollouts = store.resampled(where.cot)  # also those that were drawn since the store was published
    chunks = tuple(store.chunk_spans(where.cot)["chunk_id"])
    sizes = sizes_of(rollouts, chunks, where.chunk, name)
    if not sizes:
        has_tokens = pd.notna(store.chunk_spans(where.cot)["token_start"]).all()
        say(no_rollouts(store.coverage().iloc[0], store.path, has_tokens=bool(has_tokens)))
        return
    n_outcomes = 0
    if METRICS[name].needs_numbers or METRICS[name].by_permutation:
        texts = store.tagged_chunks(where.cot, "").set_index("chunk_id")["text"]
        rollouts, n_outcomes = with_numbers(rollouts, texts.to_dict()), store.n_outcomes(where.cot)
    found = convergence_of(rollouts, chunks, where.chunk, name, convention, sizes, n_outcomes).rename(
        columns={"m": "n", "mean": "value"}
    )
    data_figure(
        convergence(found, metric(name), band="95 % of random orders"),
        key=keys.of("convergence"),
        config={"displayModeBar": False},
    )
    unknown = int(found["n_unknown"].iloc[0])
    st.caption(
        f"Subsets of the rollouts there are, {int(found['n_orders'].iloc[0])} random orders"
        + (f"; with {sizes[0]} rollouts the metric is unknown in {unknown} of them" if unknown else "")
        + ". The band closes at the right because all orders end in the same rollouts: what these many rollouts tell is"
        " the half-width of the interval below."
        + (f" {FROM_EARLIER}" if METRICS[name].by_permutation and (rollouts["n_kept"].fillna(0) > 0).any() else "")
        + (f" {UNCERTAIN}" if found["half_width"].isna().any() else "")
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
    with more(HALFWIDTH, MOST):
        unit = metric(name).unit
        width = selection.pick_decimal(HALFWIDTH, f"Until the half-width is at most ({unit})", step=0.01)
        most = selection.pick_whole(MOST, "or so many new rollouts", step=_BATCH)
    compares = METRICS[name].compares
    st.caption(
        "The model that wrote the chain continues it from before this"
        f" chunk{' and from before the next one' if compares else ''}, {_BATCH} rollouts at a time. They are"
        " pooled with the stored ones, and it stops when half of the 95 % interval is narrow"
        f" enough{', a little allowed for looking,' if compares else ','} or at the most. They are kept beside"
        " the study and count among its rollouts from then on; drawing again goes on where they end. One that the token"
        " cap cuts has no answer until the study is run again."
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
    if (why := Experiments(store.path).why_not_kept()) is not None:
        show(why)
    status = live.service().status(experiment_id(choice.model_id, request))
    tried = status is not None and status.ended and status.state != "finished"
    label = "Try again" if tried else "Resample this chunk now"
    done = status is not None and not tried
    if st.button(label, icon=":material/casino:", type="primary", disabled=done, key=keys.of("resample")):
        _start(store, choice, request, again=tried)
    if status is not None and not status.ended:
        _follow(status.ticket_id, name, float(width))
    elif status is not None:
        if status.error:
            show(status.error)
        looks(status, name, float(width))


def _start(store: Store, choice: Choice, request: Resample, *, again: bool) -> None:
    try:
        live.add_rollouts(store.path, choice, request, again=again)
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
    if result.get("stopped"):
        show(STOPPED[result["stopped"]])
    elif status.state == "stopped" and not status.error:
        show("Stopped by you before the interval was narrow enough.")
    _looked(found, name, width, key="now")
    st.caption(for_markdown(result.get("note") or NOTE, 1000))
    samples = pd.DataFrame(result.get("samples") or [])
    if status.ended and len(samples):
        _samples(samples, key="now")


def _looked(found: Sequence[Mapping[str, Any]], name: str, width: float, *, key: str) -> None:
    """The looks of a drawing, and what the last one found."""
    last = found[-1]
    ruling = last.get("ruling_half_width")
    show(
        f"With {last['n_new']} new rollouts: {metric(name).label} {number(last['value'])}, 95 % interval "
        f"{interval(last['low'], last['high'])}, half-width {number(last['half_width'])}"
        + (
            f" ({number(ruling)} by the rule, which allows for looking)."
            if _differs(ruling, last["half_width"])
            else "."
        )
        + ("" if last.get("p") is None else f" Permutation p = {last['p']:.2g}, of this chunk alone.")
    )
    rows = looks_table(found)
    figure = convergence(rows, metric(name), band="95 % interval", counted="new rollouts", target=width)
    data_figure(figure, key=keys.of(f"looks_{key}"), config={"displayModeBar": False})
    if last.get("n_all"):
        behind = answered(last["n_all"], last["n_without_answer"], last["n_forced"], of="rollouts")
        show(f"Behind it: {behind}{_and_earlier(last)}.")
    if (refused := refusal(last, width)) is not None:
        show(refused)


def _and_earlier(look: Mapping[str, Any]) -> str:
    n = look.get("n_from_earlier")
    return f"; {n} from before earlier chunks that write the chain up to here token for token" if n else ""


def refusal(look: Mapping[str, Any], width: float) -> str | None:
    """Why the rule does not stop although the interval is as narrow as was asked for; None where it is wider."""
    half_width = look.get("half_width")
    if not look.get("is_degenerate") or half_width is None or half_width > width:
        return None
    n = look["n"] + look["n_comparator"]
    return (
        f"The interval looks narrow (half-width {number(half_width)}), and that is no reason to stop: only"
        f" {look['n_rarer']} of {n} rollouts have another outcome than the most frequent one, fewer than {LEAST_RARER}."
        " A bootstrap draws from what was seen, so it cannot show how often the other outcomes come; sampling goes on"
        " to the maximal number."
    )


def _added(store: Store, where: ChosenChunk) -> None:
    """What was drawn later here, one drawing opened by the link."""
    drawings = store.added_at(where.chunk)
    if drawings.empty:
        return
    names = {row.added_id: drawing_name(row) for row in drawings.itertuples()}
    chosen = selection.pick(ADDED, f"Drawn later at this chunk ({len(names)})", list(names), show=names.__getitem__)
    row = drawings.set_index("added_id").loc[chosen]
    show(f"{STOPPED[row['stopped']]} {row['n']} rollouts by {called(store, row['model'])}, from seed {row['seed']}.")
    found = [look for look in json.loads(row["looks"]) if isinstance(look, dict)]
    if found and row["metric"] in METRICS:
        _looked(found, row["metric"], float(row["half_width"]), key="kept")
    _samples(store.added_rollouts(chosen), key="kept")


def drawing_name(row: Any) -> str:
    """A row of `Store.added_at` in a list."""
    return (
        f"{row.created_at:%Y-%m-%d %H:%M} UTC · {row.n_here} here · {metric_choice(f'{row.metric}:{row.convention}')}"
    )


def looks_table(found: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The looks as `convergence` draws them; n are the new rollouts at the chunk."""
    rows = pd.DataFrame(found)[["n_new", "value", "low", "high", "half_width"]]
    return rows.astype(float).rename(columns={"n_new": "n"})


def _differs(ruling: float | None, half_width: float | None) -> bool:
    return ruling is not None and half_width is not None and number(ruling) != number(half_width)


def _samples(samples: pd.DataFrame, *, key: str) -> None:
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
        data_table(shown, hide_index=True, row_height=28, height=320, key=keys.of(f"new_rollouts_{key}"))
