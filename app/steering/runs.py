"""Runs on the Steering page: what is to be run, following it, its results, and those that were kept."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from app.components.streams import streams
from app.figures.steering import accuracy_by_arm, answers_by_arm, dose_response
from app.shared import live, typed_text
from app.shared.answer_shares import part_of
from app.shared.clicks import picked_rows
from app.shared.model_names import called
from app.shared.sampled import NUCLEUS, SAMPLES, SEED, TEMPERATURE
from app.shared.views import Here
from app.shared.waiting import place_in_line
from app.shell import axes, keys, selection
from app.shell.data_figure import data_figure
from app.shell.data_table import data_table
from app.shell.fields import SWITCH, Field, Whole, declare
from app.shell.missing import Missing
from app.shell.more import more
from app.shell.numbers import interval
from app.shell.numbers import number as figure
from app.shell.untrusted import one_line, show
from app.shell.vocabulary import (
    ARMS,
    FINISHES,
    OUTCOMES,
    REWORDED_ARMS,
    RUN_KINDS,
    THOUGHTS,
    metric_choice,
    spent_words,
)
from app.steering.controls import CONTROL_SEED, Plan, about_run
from app.steering.steered_text import AGAINST, OWN, RUN, Subject, continue_with, take_from
from app.steering.text_and_curve import planned, run_kind, steered
from backend.errors import AnchorscopeError
from backend.ids import stable_id
from backend.importance.outcomes import MIN_PER_DOSE, dose_steps
from backend.live.available import Choice
from backend.live.requests import Compared, Continue, Dose, Request, Sampling, Stream
from backend.models.interventions import OPERATIONS, PLACES, UNITS
from backend.statistics.changepoint import MIN_X
from backend.store.experiments import Experiments
from backend.store.store import Store

_ALL, _SHOWN_RUNS = 10**9, 200
_VERDICTS = {True: "correct", False: "wrong"}
START = declare(Field("continue_from", "start of the run", ("before", "after")))
LONGEST = declare(Field("run_tokens", "length of the run", Whole(8, 1024), "224"))
DELETED = declare(Field("chunk_deleted", "switch to delete the sentence", SWITCH, "no"))
REWORDED = declare(Field("chunk_reworded", "typed wording", None, of="chunk"))
PARAPHRASED = declare(Field("chunk_paraphrased", "typed paraphrase", None, of="chunk"))
_OPEN = (RUN, AGAINST)


def draw_controls(here: Here, store: Store) -> None:
    """What is to be run, and the button."""
    choice, found = here.once(steered).choice, here.once(planned)
    run_controls(store, found.subject, choice, found.plan, here.once(run_kind))


def a_run(here: Here) -> Missing | None:
    """A run that is open."""
    if any(map(selection.get, _OPEN)):
        return None
    return Missing("No run is open: start one on the page Steering, or choose one that was kept.", None)


def draw(here: Here, store: Store) -> None:
    """The open run, and the one it is compared with."""
    runs(store)


def draw_history(here: Here, store: Store) -> None:
    """The runs that were kept on this text."""
    history(store.path, here.once(steered).subject)


@dataclass(frozen=True)
class _Drawn:
    """How a run samples."""

    start: str
    seed: int
    n: int
    sampling: Sampling


@dataclass(frozen=True)
class _Wordings:
    """What stands in the sentence's place, and the paraphrase that is its control; None where nothing was typed."""

    wording: str | None
    paraphrase: str | None


_USUAL_N = {"continue": 16, "dose": 8, "wording": 16}
_BUTTONS = {
    "stream": "Steer",
    "continue": "Continue {n} times",
    "dose": "Dose–response",
    "wording": "Continue from the new wording",
}


def run_controls(store: Store, subject: Subject, choice: Choice, plan: Plan | None, what: str) -> None:
    """How what is chosen is run, and the button."""
    drawn = _drawing(subject, plan, what)
    wordings = _wordings(subject) if plan is None else None
    ready = (wordings.wording is not None) if wordings else bool(plan and plan.intervention)
    pressed = st.button(
        _BUTTONS[what].format(n=drawn.n),
        type="primary",
        disabled=not ready,
        icon=":material/play_arrow:",
        key=keys.of("run_button"),
    )
    if not pressed:
        return
    stored = (
        store.rollouts_beside(subject.chunk, drawn.start == "before")
        if subject.cot and subject.chunk and choice.model_id == subject.writer_id
        else None
    )
    try:
        if wordings is not None:
            request = _reworded(subject, wordings, drawn, stored)
            words = _wording_sentence(subject, str(wordings.wording), drawn.seed)
        else:
            assert plan is not None  # there are wordings where there is none
            doses = _doses(plan) if what == "dose" else ()
            request = _steered(subject, plan, drawn, stored, what)
            words = plan.sentence(subject, seed=drawn.seed, betas=doses)
        about = about_run(subject, choice, plan, words, stored=stored)
        selection.choose({RUN: live.start(store.path, choice, about, request, again=True), AGAINST: None})
    except AnchorscopeError as error:
        show(str(error))


def _drawing(subject: Subject, plan: Plan | None, what: str) -> _Drawn:
    """The controls of what is sampled, the same for every kind of run."""
    with more(START, SEED, SAMPLES, LONGEST, TEMPERATURE, NUCLEUS):
        start = _start(subject, plan)
        seed = selection.pick_whole(SEED, "Seed")
        n = selection.pick_whole(SAMPLES, "Samples", _USUAL_N[what], high=64) if what in _USUAL_N else 1
        usual = Sampling()
        longest = selection.pick_whole(LONGEST, "Max new tokens", step=8)
        temperature = selection.pick_decimal(TEMPERATURE, "Temperature", usual.temperature, step=0.1)
        top_p = selection.pick_decimal(NUCLEUS, "Top-p", usual.top_p, step=0.05)
    if start == "before" and plan and plan.intervention and PLACES[plan.intervention.place].of_chunk:
        st.caption(
            f"{subject.name.capitalize()} is written anew, so the change is made at as many positions of what is"
            " written."
        )
    return _Drawn(start, seed, n, Sampling(temperature, top_p, longest))


def _start(subject: Subject, plan: Plan | None) -> str:
    """Where continuations start."""
    if subject.chunk is None:
        st.caption("continues from the end of the prompt")
        return "after"
    if plan is None:
        st.caption(f"continues from after {subject.name}")
        return "after"
    usual = "before" if plan.intervention is not None and not PLACES[plan.intervention.place].of_chunk else "after"
    return selection.pick(START, "Continue from", default=usual, show=lambda name: f"{name} {subject.name}")


def _doses(plan: Plan) -> tuple[float, ...]:
    assert plan.intervention is not None  # asked only where there is one
    limit = UNITS[plan.intervention.unit].most
    return tuple(limit * k / 4 for k in range(-4, 5))


def _steered(subject: Subject, plan: Plan, drawn: _Drawn, stored: pd.DataFrame | None, what: str) -> Request:
    """The request of a run that changes the residual stream."""
    compared = Compared(subject.text, subject.chunk, drawn.start, plan.intervention)
    match what:
        case "stream":
            return Stream(compared, drawn.sampling, drawn.seed)
        case "continue":
            controls = plan.controls(CONTROL_SEED)
            return Continue(compared, drawn.sampling, drawn.seed, drawn.n, subject.truth, controls, _answers_of(stored))
        case "dose":
            return Dose(compared, drawn.sampling, drawn.seed, _doses(plan), drawn.n, subject.truth)
        case _:
            raise AnchorscopeError(f"There is no run of kind {what!r}.")


def _reworded(subject: Subject, wordings: _Wordings, drawn: _Drawn, stored: pd.DataFrame | None) -> Request:
    """The request of a run from another wording: one text of each, or many with the wording's controls."""
    compared = Compared(subject.text, subject.chunk, "after", None, wordings.wording)
    if drawn.n == 1:
        return Stream(compared, drawn.sampling, drawn.seed)
    controls = {"same": subject.chunk_text, "paraphrase": wordings.paraphrase}
    return Continue(
        compared,
        drawn.sampling,
        drawn.seed,
        drawn.n,
        subject.truth,
        answers=_answers_of(stored),
        rewordings=tuple((arm, words) for arm, words in controls.items() if words is not None),
    )


def _answers_of(stored: pd.DataFrame | None) -> tuple[str, ...]:
    return () if stored is None else tuple(stored["answer"].dropna())


def _wordings(subject: Subject) -> _Wordings:
    """The sentence in other words, or none at all, and its paraphrase."""
    delete = selection.pick_switch(DELETED, "Delete the sentence")
    words = subject.chunk_text if (given := typed_text.read(REWORDED)) is None else given
    _typed(
        f"wording_{subject.chunk}",
        "The sentence instead",
        words,
        lambda said: typed_text.keep(REWORDED, None if said == subject.chunk_text else said),
        disabled=delete,
        help=(
            "The chain is continued from after these words; the other arm continues from after the sentence as it was."
        ),
    )
    paraphrase = typed_text.read(PARAPHRASED) or ""
    _typed(
        f"paraphrase_{subject.chunk}",
        "A paraphrase, as a control (may be empty)",
        paraphrase,
        lambda said: typed_text.keep(PARAPHRASED, said),
        help=(
            "The same thought in words of yours: what it changes is what other words change by themselves. Nothing"
            " checks that it says the same: it is your judgement."
        ),
    )
    st.caption(
        "Run many times, the same sentence again stands beside the new wording, which must change nothing, and your"
        " paraphrase where you type one; one text alone has no controls."
    )
    if said := typed_text.beyond_a_link(REWORDED, PARAPHRASED):
        st.caption(said)
    wording = "" if delete else None if words == subject.chunk_text else words
    return _Wordings(wording, paraphrase if paraphrase not in ("", subject.chunk_text, wording) else None)


def _typed(name: str, label: str, words: str, take: Callable[[str], None], **how: Any) -> None:
    """A field for a sentence."""
    st.text_area(label, height=80, max_chars=4000, **selection.following(name, words, take), **how)


def _wording_sentence(subject: Subject, wording: str, seed: int) -> str:
    changed = f"write “{one_line(wording, 80)}” instead" if wording else "delete it"
    return f"{subject.name}: {changed}, and go on from there, seed {seed}"


def runs(store: Store) -> None:
    """The chosen run, and the one it is compared with."""
    for field in _OPEN:
        if run_id := selection.get(field):
            run(store, run_id, key=field.name)


def run(store: Store, run_id: str, *, key: str) -> None:
    """A run, followed while it goes on."""
    study = store.path
    found = live.find(study, run_id)
    if found is None:
        st.caption("This run is not known here: the link may come from another study, or the run was never finished.")
        return
    row = Experiments(study).get(run_id)
    if row is not None:
        _provenance(store, row)

    def draw() -> None:
        now = live.find(study, run_id)
        if now is None:
            selection.rerun()
        if now.status is not None and now.is_running:
            place_in_line(now.status, "Writing")
            if st.button("Stop", icon=":material/stop:", key=keys.of(f"stop_{key}")):
                live.stop(run_id)
                selection.rerun()
        elif found.is_running or (found.being_kept and not now.being_kept):
            selection.rerun()
        if now.status is not None and now.status.error:
            show(now.status.error)
        if now.results is not None:
            _results(study, now, key)

    keys.fragment(draw, run_every=live.EVERY if found.is_running or found.being_kept else None)()


def _results(study: Path, now: live.Run, key: str) -> None:
    results = now.results or {}
    if "arms" in results and "comparisons" not in results:
        _stream(now, key)
    elif "comparisons" in results:
        _continued(study, now, key)
    elif "rows" in results:
        _dosed(study, now, key)


def _arms(now: live.Run) -> dict[str, str]:
    """What the run's arms are called."""
    return REWORDED_ARMS if now.is_reworded else ARMS


def _stream(now: live.Run, key: str) -> None:
    results, called = now.results or {}, _arms(now)
    streams(
        {**results, "id": now.run_id},
        key=keys.of(f"streams_{key}"),
        base_label=called["base"],
        changed_label=called["changed"],
        running=now.is_running,
    )
    arms = results["arms"]
    changed = [token["kl"] for token in arms["changed"]["tokens"]]
    if now.is_running:
        return
    if not changed:
        st.caption(f"The {called['changed']} text ended at once: nothing was written.")
        return
    parted = results.get("first_divergence")
    ends = {name: f"{_spent(arm)}, {FINISHES.get(arm['finish'], 'stopped')}" for name, arm in arms.items()}
    st.caption(
        ("The two never part" if parted is None else f"They part at token {parted + 1}")
        + f". Both draw with the same random numbers. Mean KL({called['changed']} ‖ {called['base']}) along the"
        f" {called['changed']} text {figure(sum(changed) / len(changed))} nats, n = {len(changed)} tokens."
        f" {called['base'].capitalize()}: {ends['base']}; {called['changed']}: {ends['changed']}. One sample of each:"
        " continue many times before you conclude."
    )
    if selection.get(OWN) and st.button(
        f"Use the {called['base']} text as the chain of thought", key=keys.of(f"adopt_{key}")
    ):
        continue_with("".join(token["text"] for token in arms["base"]["tokens"]))
        selection.rerun()


def _spent(arm: dict[str, Any]) -> str:
    """The length of an arm's one continuation; thinking tokens of a run that was stopped, or kept before they were
    counted, are not known.
    """
    found = arm.get("spent") or dict.fromkeys(("n_thinking", "n_answer", "thought"))
    return spent_words(len(arm["tokens"]), found["n_thinking"], found["n_answer"], found["thought"])


_STEERED = " Random directions: each sample under one of them, same size and place."
_REWORDED = (
    " The same sentence again is written token by token as it was and must change nothing. The paraphrase is whoever"
    " typed it: what differs from it is more than other words for the same."
)


def _continued(study: Path, now: live.Run, key: str) -> None:
    results, called = now.results or {}, _arms(now)
    left, right = st.columns([3, 2], gap="medium")
    answers = [
        {"arm": arm, **answer, "total": summary["n"], "silent": summary["n_without_answer"]}
        for arm, summary in results["arms"].items()
        for answer in summary["answers"]
    ]
    with left:
        data_figure(
            answers_by_arm(pd.DataFrame(answers), called),
            key=keys.of(f"answers_{key}"),
            config={"displayModeBar": False},
        )
    with right:
        data_figure(
            accuracy_by_arm(results["arms"], called), key=keys.of(f"accuracy_{key}"), config={"displayModeBar": False}
        )
    data_table(_arm_table(results["arms"], called), hide_index=True, row_height=28, height="content")
    data_table(_comparison_table(results["comparisons"], called), hide_index=True, row_height=28, height="content")
    st.caption(
        "Arms share random numbers sample by sample, so they are compared in pairs: McNemar's exact test for accuracy,"
        " sign-flip permutation for the rest; intervals 95 %. The p are of single comparisons."
        + (_REWORDED if now.is_reworded else _STEERED)
    )
    changes = [row for row in results["importance"] if row["reason"] is None]
    if changes:
        st.markdown(f"**This chunk's resampling importance, {called['base']} and {called['changed']}**")
        data_table(_importance_table(changes, called), hide_index=True, row_height=28, height="content")
    elif results["importance"]:
        show(f"Change of this chunk's importance is unknown: {results['importance'][0]['reason']}.")
    samples = Experiments(study).samples(now.run_id)
    if len(samples):
        _samples(samples, key, called)


def _samples(samples: pd.DataFrame, key: str, called: dict[str, str]) -> None:
    with st.expander(f"The {len(samples)} texts"):
        shown = pd.DataFrame(
            {
                "arm": samples["arm"].map(called),
                "β": samples["beta"],
                "sample": samples["sample"],
                "answer": samples["answer"].fillna("none"),
                "verdict": ["not judged" if pd.isna(v) else _VERDICTS[bool(v)] for v in samples["is_correct"]],
                "thinking tokens": samples["n_thinking"],
                "answer tokens": samples["n_answer"],
                "tokens in all": samples["n_tokens"],
                "thought": [THOUGHTS.get(state, "").lstrip(", ") or "ended" for state in samples["thought"]],
                "text": [one_line(words, 300) for words in samples["text"]],
            }
        )
        data_table(
            shown.dropna(axis=1, how="all"), hide_index=True, row_height=28, height=320, key=keys.of(f"samples_{key}")
        )


def _dosed(study: Path, now: live.Run, key: str) -> None:
    results, row = now.results or {}, Experiments(study).get(now.run_id) or {}
    steps: Any = results.get("steps")
    if steps is None:  # a run of before has its samples, and not these
        steps = dose_steps(Experiments(study).samples(now.run_id))
    chart = dose_response(results["rows"], steps, unit=row.get("unit"))
    words = {"KL, nats": axes.meaning("kl(steered ‖ unsteered)")}
    data_figure(chart, words=words, key=keys.of(f"dose_{key}"), config={"displayModeBar": False})
    operation = OPERATIONS.get(row.get("operation") or "")
    is_moved = operation is not None and operation.zero_changes_nothing
    unsteered = "; β = 0 is the unsteered model" if is_moved else ""
    st.caption(
        f"n = {results['n']} continuations at each β, with the same random numbers at every β{unsteered}. Bars: 95 %"
        " (Wilson for shares, bootstrap for means). KL on the chunk's own tokens. A line marks the one step of"
        f" a panel's own quantity that explains most of it, where at least {MIN_PER_DOSE} continuations at each of"
        f" {MIN_X} β know it, with its p from permuting them over β. The p are of single panels."
    )


def _arm_table(arms: dict[str, Any], called: dict[str, str]) -> pd.DataFrame:
    rows = []
    for name, arm in arms.items():
        row = {"arm": called[name], "n": arm["n"], "without an answer": part_of(arm["n_without_answer"], arm["n"])}
        for quantity, words in OUTCOMES.items():
            row[words] = _quantity(arm[quantity]) if quantity in arm else "not counted"
        rows.append(row)
    return pd.DataFrame(rows)


def _quantity(found: dict[str, Any]) -> str:
    if found["value"] is None:
        return "unknown"
    return figure(found["value"]) + ("" if found["low"] is None else f" {interval(found['low'], found['high'])}")


def _comparison_table(rows: list[dict[str, Any]], called: dict[str, str]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "compared": f"{called[row['arm']]} − {called[row.get('against', 'base')]}",
                "quantity": OUTCOMES.get(row["quantity"], row["quantity"]),
                "pairs": row["n"],
                "left out": row["n_left_out"],
                "difference": "unknown" if row["difference"] is None else f"{row['difference']:+.3g}",
                "95 %": "" if row["low"] is None else interval(row["low"], row["high"]),
                "p": "" if row["p"] is None else f"{row['p']:.2g}",
            }
            for row in rows
        ]
    )


def _importance_table(rows: list[dict[str, Any]], called: dict[str, str]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "metric": metric_choice(f"{row['metric']}:{row['convention']}"),
                called["base"]: _quantity(row["base"]),
                called["changed"]: _quantity(row["changed"]),
                "difference": "unknown" if row["difference"] is None else f"{row['difference']:+.3g}",
                "95 %": "" if row["low"] is None else interval(row["low"], row["high"]),
                "stored rollouts": row["n_stored"],
            }
            for row in rows
        ]
    )


def _provenance(store: Store, row: dict[str, Any]) -> None:
    show(row["sentence"])
    other = (
        ""
        if row["written_by"] in (None, row["model"])
        else f", on a text written by {called(store, row['written_by'])}"
    )
    seconds = "" if row["seconds"] is None or math.isnan(row["seconds"]) else f", {row['seconds']:.1f} s"
    kind, when = _kind(row["kind"], row["layers"]), f"{row['created_at']:%Y-%m-%d %H:%M} UTC"
    show(f"{kind} · {called(store, row['model'])}{other} · {when} · {row['state']}{seconds}")


def _kind(kind: str, layers: Any) -> str:
    """What a kept run is called; one without changed layers is of another wording."""
    return RUN_KINDS["wording"] if layers is None else RUN_KINDS.get(kind, kind)


def history(study: Path, subject: Subject) -> None:
    """Kept runs on this text: choose one to see it again, two to compare them."""
    kept = Experiments(study).history(cot_id=subject.cot, limit=_ALL)
    kept = kept[kept["kind"] != "curve"] if subject.cot else kept[(kept["kind"] != "curve") & kept["cot_id"].isna()]
    kept = kept.head(_SHOWN_RUNS)
    st.markdown(f"**Kept runs** · {len(kept)}")
    if kept.empty:
        st.caption(
            "Every run on this text is kept here with its parameters; its link opens it again without computing."
        )
        return
    kept = kept.reset_index(drop=True)
    shown = pd.DataFrame(
        {
            "when (UTC)": kept["created_at"].dt.strftime("%m-%d %H:%M"),
            "run": [_kind(row.kind, row.layers) for row in kept.itertuples()],
            "what": [one_line(words, 160) for words in kept["sentence"]],
            "state": kept["state"],
        }
    )

    key = keys.of(
        f"history_{stable_id('t', *kept['experiment_id'])}"
    )  # a new run moves the others: a row is one number

    def chosen() -> None:
        before, picked = st.session_state.get("history_rows"), picked_rows(key, len(kept))
        st.session_state["history_rows"] = picked
        ids = [kept["experiment_id"][k] for k in picked][:2]
        if ids and picked != before:  # a table that was away meanwhile says again what was chosen long ago
            _restore(study, ids[0])
            selection.choose({RUN: ids[0], AGAINST: ids[1] if len(ids) > 1 else None})

    table = data_table(
        shown,
        hide_index=True,
        row_height=28,
        height=min(320, 40 + 28 * len(shown)),
        key=key,
        on_select=chosen,
        selection_mode="multi-row",
        column_config={"what": st.column_config.TextColumn(width="large")},
    )
    st.session_state["history_rows"] = table.selection.rows
    st.caption(
        "Choose a row to see it again with the controls as they were; choose two to see them one above the other."
    )


def _restore(study: Path, run_id: str) -> None:
    """The controls as they were when the run was started."""
    row = Experiments(study).get(run_id)
    view = live.view_of(row) if row else {}
    if row:
        take_from(row)
    if view:
        selection.choose({OWN: None})
        selection.choose(**view)
