"""Runs on the Steering page: what is to be run, following it, its results, and those that were kept."""

import math
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from app.components.streams import streams
from app.figures.steering import accuracy_by_arm, answers_by_arm, dose_response
from app.shared import live, typed_text
from app.shared.answer_shares import part_of
from app.shared.clicks import picked_rows
from app.shared.sampled import SAMPLES, SEED
from app.shared.views import Here
from app.shared.waiting import place_in_line
from app.shell import fields, keys, selection
from app.shell.fields import STUDY, SWITCH, Field, Whole, declare
from app.shell.missing import Missing
from app.shell.numbers import interval
from app.shell.numbers import number as figure
from app.shell.untrusted import one_line, show
from app.shell.vocabulary import ARMS, FINISHES, OUTCOMES, RUN_KINDS, THOUGHTS, metric_choice, spent_words
from app.steering.controls import CONTROL_SEED, Plan, about_run
from app.steering.steered_text import AGAINST, OWN, RUN, Subject, continue_with, take_from
from app.steering.text_and_curve import planned, steered
from backend.errors import AnchorscopeError
from backend.ids import stable_id
from backend.live.available import Choice
from backend.live.requests import Compared, Continue, Dose, Request, Sampling, Stream
from backend.models.interventions import OPERATIONS, PLACES, UNITS
from backend.store.experiments import Experiments
from backend.store.store import Store

_ALL, _SHOWN_RUNS = 10**9, 200
_VERDICTS = {True: "correct", False: "wrong"}
WHAT = declare(Field("run_kind", "kind of run", [name for name in RUN_KINDS if name != "curve"]))
START = declare(Field("continue_from", "start of the run", ("before", "after")))
LONGEST = declare(Field("run_tokens", "length of the run", Whole(8, 1024), "224"))
DELETED = declare(Field("chunk_deleted", "switch to delete the sentence", SWITCH, "no"))
REWORDED = declare(Field("chunk_reworded", "typed wording", None, of="chunk"))
_OPEN = (RUN, AGAINST)
_NOT_OF_A_RUN = {field.name for field in (STUDY, *_OPEN)}  # what seeing a run again leaves as it is


def draw_controls(here: Here, store: Store) -> None:
    """What is to be run, and the button."""
    choice, found = here.once(steered).choice, here.once(planned)
    run_controls(store, store.path, found.subject, choice, found.plan)


def a_run(here: Here) -> Missing | None:
    """A run that is open."""
    if any(map(selection.get, _OPEN)):
        return None
    return Missing("No run is open: start one on the page Steering, or choose one that was kept.", None)


def draw(here: Here, store: Store) -> None:
    """The open run, and the one it is compared with."""
    runs(store.path)


def draw_history(here: Here, store: Store) -> None:
    """The runs that were kept on this text."""
    history(store.path, here.once(steered).subject)


def run_controls(store: Store, study: Path, subject: Subject, choice: Choice, plan: Plan) -> None:
    """What is to be run, and the button."""
    has_dose = plan.intervention is None or OPERATIONS[plan.intervention.operation].has_magnitude
    left_out = {*(["wording"] if subject.chunk is None else []), *([] if has_dose else ["dose"])}
    options = [name for name in WHAT.options if name not in left_out]
    what = selection.pick(
        WHAT,
        "Run",
        options,
        show=lambda name: RUN_KINDS[name],
        widget=st.segmented_control,
        required=True,
    )
    a, b, c, d = st.columns([3, 2, 2, 3], gap="small", vertical_alignment="bottom")
    with a:
        usual = "before" if plan.intervention is not None and not PLACES[plan.intervention.place].of_chunk else "after"
        if what == "wording" or subject.chunk is None:
            start = "after"
            st.caption(
                "continues from the end of the prompt"
                if subject.chunk is None
                else f"continues from after {subject.name}"
            )
        else:
            start = selection.pick(START, "Continue from", default=usual, show=lambda name: f"{name} {subject.name}")
    with b:
        seed = selection.pick_whole(SEED, "Seed")
    with c:
        usual_n = {"continue": 16, "dose": 8, "wording": 1}.get(what)
        n = 1 if usual_n is None else selection.pick_whole(SAMPLES, "Times", usual_n, high=64)
    with d:
        max_new = selection.pick_whole(LONGEST, "Longest, tokens", step=8)
    if what != "wording" and start == "before" and plan.intervention and PLACES[plan.intervention.place].of_chunk:
        st.caption(
            f"{subject.name.capitalize()} is written anew, so the change is made at as many positions of what is"
            " written."
        )
    wording = _wording(subject) if what == "wording" else None
    sampling = Sampling(max_new_tokens=max_new)
    ready = wording is not None if what == "wording" else plan.intervention is not None
    pressed = st.button(
        {
            "stream": "Steer",
            "continue": f"Continue {n} times",
            "dose": "Dose–response",
            "wording": "Continue from the new wording",
        }[what],
        type="primary",
        disabled=not ready,
        icon=":material/play_arrow:",
        key=keys.of("run_button"),
    )
    if not pressed:
        return
    compared = Compared(subject.text, subject.chunk, start, None if what == "wording" else plan.intervention, wording)
    limit = UNITS[plan.intervention.unit].most if plan.intervention else 0.0
    doses = tuple(limit * k / 4 for k in range(-4, 5)) if what == "dose" else ()
    words = (
        plan.sentence(subject, seed=seed, betas=doses) if wording is None else _wording_sentence(subject, wording, seed)
    )
    after = start == "before"
    stored = (
        store.rollouts_beside(subject.chunk, after)
        if subject.cot and subject.chunk and choice.model_id == subject.writer_id
        else None
    )
    request: Request
    if what == "stream" or (what == "wording" and n == 1):
        request = Stream(compared, sampling, seed)
    elif what in ("continue", "wording"):
        answers = () if stored is None else tuple(stored["answer"].dropna())
        controls = plan.controls(CONTROL_SEED) if wording is None else ()
        request = Continue(compared, sampling, seed, n, subject.truth, controls, answers)
    else:
        request = Dose(compared, sampling, seed, doses, n, subject.truth)
    about = about_run(subject, choice, plan, words, wording=wording, stored=stored)
    try:
        selection.choose({RUN: live.start(study, choice, about, request, again=True), AGAINST: None})
    except AnchorscopeError as error:
        show(str(error))


def _wording(subject: Subject) -> str | None:
    """The chunk in other words, or none at all."""
    delete = selection.pick_switch(DELETED, "Delete the sentence")
    words = subject.chunk_text if (given := typed_text.read(REWORDED)) is None else given
    followed = selection.following(
        f"wording_{subject.chunk}",
        words,
        lambda said: typed_text.keep(REWORDED, None if said == subject.chunk_text else said),
    )
    st.text_area(
        "The sentence instead",
        disabled=delete,
        height=80,
        max_chars=4000,
        **followed,
        help=(
            "The chain is continued from after these words; the other arm continues from after the sentence as it was."
        ),
    )
    if said := typed_text.beyond_a_link(REWORDED):
        st.caption(said)
    if delete:
        return ""
    return None if words == subject.chunk_text else words


def _wording_sentence(subject: Subject, wording: str, seed: int) -> str:
    changed = f"write “{one_line(wording, 80)}” instead" if wording else "delete it"
    return f"{subject.name}: {changed}, and go on from there, seed {seed}"


def runs(study: Path) -> None:
    """The chosen run, and the one it is compared with."""
    for field in _OPEN:
        if run_id := selection.get(field):
            run(study, run_id, key=field.name)


def run(study: Path, run_id: str, *, key: str) -> None:
    """A run, followed while it goes on."""
    found = live.find(study, run_id)
    if found is None:
        st.caption("This run is not known here: the link may come from another study, or the run was never finished.")
        return
    row = Experiments(study).get(run_id)
    if row is not None:
        _provenance(row)

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


def _stream(now: live.Run, key: str) -> None:
    results = now.results or {}
    streams(
        {**results, "id": now.run_id},
        key=keys.of(f"streams_{key}"),
        base_label=ARMS["base"],
        changed_label=ARMS["changed"],
        running=now.is_running,
    )
    arms = results["arms"]
    changed = [token["kl"] for token in arms["changed"]["tokens"]]
    if now.is_running:
        return
    if not changed:
        st.caption("The steered text ended at once: nothing was written.")
        return
    parted = results.get("first_divergence")
    ends = {name: f"{_spent(arm)}, {FINISHES.get(arm['finish'], 'stopped')}" for name, arm in arms.items()}
    st.caption(
        ("The two never part" if parted is None else f"They part at token {parted + 1}")
        + ". Both draw with the same random numbers. Mean KL(steered ‖ base) along the steered text"
        f" {figure(sum(changed) / len(changed))} nats, n = {len(changed)} tokens. Base: {ends['base']}; steered:"
        f" {ends['changed']}. One sample of each: continue many times before you conclude."
    )
    if selection.get(OWN) and st.button("Take the base text as the chain of thought", key=keys.of(f"adopt_{key}")):
        continue_with("".join(token["text"] for token in arms["base"]["tokens"]))
        selection.rerun()


def _spent(arm: dict[str, Any]) -> str:
    """The length of an arm's one continuation; thinking tokens of a run that was stopped, or kept before they were
    counted, are not known.
    """
    found = arm.get("spent") or dict.fromkeys(("n_thinking", "n_answer", "thought"))
    return spent_words(len(arm["tokens"]), found["n_thinking"], found["n_answer"], found["thought"])


def _continued(study: Path, now: live.Run, key: str) -> None:
    results = now.results or {}
    left, right = st.columns([3, 2], gap="medium")
    answers = [
        {"arm": arm, **answer, "total": summary["n"], "silent": summary["n_without_answer"]}
        for arm, summary in results["arms"].items()
        for answer in summary["answers"]
    ]
    with left:
        st.plotly_chart(
            answers_by_arm(pd.DataFrame(answers)), key=keys.of(f"answers_{key}"), config={"displayModeBar": False}
        )
    with right:
        st.plotly_chart(
            accuracy_by_arm(results["arms"]), key=keys.of(f"accuracy_{key}"), config={"displayModeBar": False}
        )
    st.dataframe(_arm_table(results["arms"]), hide_index=True, row_height=28, height="content")
    st.dataframe(_comparison_table(results["comparisons"]), hide_index=True, row_height=28, height="content")
    st.caption(
        "Arms share random numbers sample by sample, so they are compared in pairs: McNemar's exact test for accuracy,"
        " sign-flip permutation for the rest; intervals 95 %. The p are of single comparisons. Random: each sample"
        " under one of the random directions, same size and place."
    )
    changes = [row for row in results["importance"] if row["reason"] is None]
    if changes:
        st.markdown("**This chunk's resampling importance, unsteered and steered**")
        st.dataframe(_importance_table(changes), hide_index=True, row_height=28, height="content")
    elif results["importance"]:
        show(f"Change of this chunk's importance is unknown: {results['importance'][0]['reason']}.")
    samples = Experiments(study).samples(now.run_id)
    if len(samples):
        _samples(samples, key)


def _samples(samples: pd.DataFrame, key: str) -> None:
    with st.expander(f"The {len(samples)} texts"):
        shown = pd.DataFrame(
            {
                "arm": samples["arm"].map(ARMS),
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
        st.dataframe(
            shown.dropna(axis=1, how="all"), hide_index=True, row_height=28, height=320, key=keys.of(f"samples_{key}")
        )


def _dosed(study: Path, now: live.Run, key: str) -> None:
    results, row = now.results or {}, Experiments(study).get(now.run_id) or {}
    chart = dose_response(results["rows"], results["changepoints"], unit=row.get("unit"))
    st.plotly_chart(chart, key=keys.of(f"dose_{key}"), config={"displayModeBar": False})
    operation = OPERATIONS.get(row.get("operation") or "")
    is_moved = operation is not None and operation.zero_changes_nothing
    unsteered = "; β = 0 is the unsteered model" if is_moved else ""
    st.caption(
        f"n = {results['n']} continuations at each β, with the same random numbers at every β{unsteered}. Bars: 95 %"
        " (Wilson for shares, bootstrap for means). KL on the chunk's own tokens. A line marks the one step that"
        " explains most, with its permutation p."
    )


def _arm_table(arms: dict[str, Any]) -> pd.DataFrame:
    rows = []
    for name, arm in arms.items():
        row = {"arm": ARMS[name], "n": arm["n"], "without an answer": part_of(arm["n_without_answer"], arm["n"])}
        for quantity, words in OUTCOMES.items():
            row[words] = _quantity(arm[quantity]) if quantity in arm else "not counted"
        rows.append(row)
    return pd.DataFrame(rows)


def _quantity(found: dict[str, Any]) -> str:
    if found["value"] is None:
        return "unknown"
    return figure(found["value"]) + ("" if found["low"] is None else f" {interval(found['low'], found['high'])}")


def _comparison_table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "compared": f"{ARMS[row['arm']]} − base",
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


def _importance_table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "metric": metric_choice(f"{row['metric']}:{row['convention']}"),
                "unsteered": _quantity(row["base"]),
                "steered": _quantity(row["changed"]),
                "difference": "unknown" if row["difference"] is None else f"{row['difference']:+.3g}",
                "95 %": "" if row["low"] is None else interval(row["low"], row["high"]),
                "stored rollouts": row["n_stored"],
            }
            for row in rows
        ]
    )


def _provenance(row: dict[str, Any]) -> None:
    show(row["sentence"])
    other = (
        "" if row["written_by"] in (None, row["model"]) else f", on a text written by {one_line(row['written_by'], 60)}"
    )
    seconds = "" if row["seconds"] is None or math.isnan(row["seconds"]) else f", {row['seconds']:.1f} s"
    kind, when = RUN_KINDS.get(row["kind"], row["kind"]), f"{row['created_at']:%Y-%m-%d %H:%M} UTC"
    show(f"{kind} · {one_line(row['model'], 60)}{other} · {when} · {row['state']}{seconds}")


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
            "run": [RUN_KINDS.get(kind, kind) for kind in kept["kind"]],
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

    table = st.dataframe(
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
        selection.choose(**{name: value for name, value in fields.read(view).items() if name not in _NOT_OF_A_RUN})
