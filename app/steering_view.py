"""What the Steering page shows: the text, the curve with its control strip, runs while they go on, and those that are kept."""

import math
from pathlib import Path
from typing import Any, NoReturn

import pandas as pd
import streamlit as st

from app import live, place, selection
from app.chunk_table import interval
from app.chunk_table import number as figure
from app.components.reader import reader
from app.components.streams import streams
from app.figures.steering import accuracy_by_arm, answers_by_arm, dose_response, kl_curve
from app.missing import Missing, PageEnds, say_and_end
from app.place import Place
from app.progress_view import duration
from app.steering_plan import BETA_MAX, Plan, number
from app.steering_subject import Subject, continue_with, type_in
from app.untrusted import one_line, show
from app.vocabulary import ARMS, OUTCOMES, RUN_KINDS, metric_choice
from backend.errors import AnchorscopeError
from backend.live.available import Choice
from backend.live.kept import About
from backend.live.requests import Compared, Continue, Curve, Dose, Open, Request, Sampling, Stream
from backend.live.service import Status
from backend.store.experiments import Experiments
from backend.store.store import Store

_PRESETS = {
    "over-thinking": (
        "What is 5-1?",
        "+4",
        "A question that needs no thought. Pushing along *self-checking − the rest* from the first token on asks whether the direction "
        "alone makes a model doubt what it knows: look for checks of a result that was right, for length, and for an answer that moves.",
    ),
    "incisive thinking": (
        "What is the next number in the sequence: 16, 32, 48, ...?",
        "-4",
        "The same direction pulled the other way. If it carries the checking, the chain should come to the point sooner, with the same "
        "answer; if it gets worse or falls apart, the direction carried more than that. Compare with the random directions before you "
        "believe either.",
    ),
}
_OF = ["chunk", "of"]
# what a click on a chunk may choose, by direction
_CLICKS = {"per_chunk": _OF, "centered": _OF, "on_manifold": _OF, "pair": [*_OF, "other"]}
_FINISHES = {"eos": "ended by itself", "cap": "cut at the cap"}
_VERDICTS = {True: "correct", False: "wrong"}
_ALL, _SHOWN_RUNS = 10**9, 200
_CONTROL_SEED = 2**40  # the same random directions for every run at a layer, so that runs can be compared; beyond the seeds people choose


# Which model


def choose_model(store: Store, found: list[Choice], where: Place | None) -> Choice:
    """The model that is steered: the text's own where it is here. Ends the page where there is none."""
    if not found:
        say_and_end(
            Missing(
                "No model of this study is on this machine, so nothing can be steered. This command fetches the embedded one, with which "
                "any text can be steered:",
                "python -m precompute model",
            )
        )
    by_id = {choice.model_id: choice for choice in found}
    writer = None if where is None else store.cot_to_read(where.cot)["model_id"].iloc[0]
    usual = writer if writer in by_id else found[0].model_id
    if len(found) == 1:
        return by_id[selection.checked("live", list(by_id), usual)]
    names = {choice.model_id: one_line(choice.model.name, 60) for choice in found}
    return by_id[selection.pick("live", "Model that is steered", list(by_id), default=usual, show=names.__getitem__, width=360)]


def say_who_reads(subject: Subject, choice: Choice) -> None:
    """A word of warning where another model than the writer is steered on the text."""
    if subject.written_by is None or choice.model_id == subject.writer_id:
        return
    with st.container(border=True, key="another_model"):
        show(
            f"This text was written by {one_line(subject.written_by, 80)}, which is not what is steered here. "
            f"{one_line(choice.model.name, 80)} reads the same text: what follows says what it does with these words, not what their "
            "writer would have done. Runs are kept with both names."
        )


def to_open(subject: Subject) -> Open:
    return Open(subject.text, subject.chunk)


def is_read(opened: Status) -> bool:
    """Whether enough of the reading is there to show the controls."""
    return "lens" in opened.result and not opened.error


def wait_for(opened: Status, subject: Subject, choice: Choice) -> NoReturn:
    """The model is loading or reading: says so, looks again, and ends the page; an error is said, and can be tried again."""
    if opened.ended:
        with st.container(border=True):
            show(opened.error or "Reading this text was stopped.")
            if st.button("Try again", icon=":material/refresh:"):
                live.read(choice, to_open(subject), again=True)
                selection.rerun()
        raise PageEnds

    def look() -> None:
        now = live.service().status(opened.ticket_id)
        if now is None or now.ended or is_read(now):
            selection.rerun()
        place_in_line(now, f"{one_line(choice.model.name, 60)} is reading the text")

    st.fragment(look, run_every=live.EVERY)()
    raise PageEnds


def place_in_line(status: Status, doing: str) -> None:
    """Where a request is: its place in the line, or what is done for it now, with an estimate where there is one."""
    if status.place is not None:
        st.progress(0.0, text=f"Number {status.place} in the line")
        return
    words = status.doing or doing
    if status.progress and status.progress[1]:
        done, total = status.progress
        left = f", about {duration(status.seconds / done * (total - done))} left" if done and status.seconds and done < total else ""
        st.progress(done / total, text=f"{words}: {done} of {total}{left}")
        return
    st.progress(0.0, text=f"{words}, {status.seconds or 0:.0f} s")


# The text


def text(subject: Subject, plan: Plan | None) -> None:
    """The CoT with two painted spans: where the vector came from and where it is applied."""
    if subject.chunk is None:
        st.caption("There is no chain of thought yet: the model writes it from the end of the prompt.")
        show(subject.title)
        return
    picks = "chunk"
    kind = plan.direction.kind if plan and plan.direction else None
    if kind in _CLICKS:
        picks = st.segmented_control(
            "A click chooses", _CLICKS[kind], default="chunk", required=True, key=f"click_chooses_{kind}",
            format_func={"chunk": "where to steer", "of": "where the vector comes from", "other": "what is taken from it"}.__getitem__,
        )
    marks: dict[str, str] = dict.fromkeys(plan.sources, "source") if plan else {}
    where = plan.intervention.place if plan and plan.intervention else "anchor"
    ids = list(subject.chunks["chunk_id"])
    if where != "prompt":
        for name in ids[ids.index(subject.chunk) :] if where == "onward" else [subject.chunk]:
            marks[name] = "both" if name in marks else "applied"

    def chosen(chunk: str) -> None:
        if picks == "chunk" and subject.cot is not None:
            place.go(chunk)
        else:
            selection.choose(**{picks: chunk})

    reader(subject.chunks, None, selected=subject.chunk, on_chunk=chosen, marks=marks)


def own_text(typed: bool) -> None:
    """A popover to type any text, with the two presets."""
    with st.popover("Your own text, presets", icon=":material/edit_note:"):
        for name, (question, beta, story) in _PRESETS.items():
            st.markdown(f"**{name.capitalize()}** · {story}")
            if st.button(f"{name.capitalize()}: “{question}”", key=f"preset_{name}"):
                type_in(question, "", "4" if "5-1" in question else "64")
                selection.choose(direction="category", about="self_checking", operation="add", place="onward", beta=beta, unit="rms")
                selection.choose(chunk=None, what="stream")
                selection.rerun()
        with st.form("own_text", border=False):
            question = st.text_area("Question", height=68, max_chars=4000)
            words = st.text_area("Chain of thought (may be empty; it is cut into chunks)", height=160, max_chars=100_000)
            truth = st.text_input("Right answer, if known", max_chars=200)
            if st.form_submit_button("Steer this text", type="primary"):
                if not question.strip() and not words.strip():
                    st.warning("Type a question or a chain of thought first.")
                else:
                    type_in(question, words, truth.strip() or None)
                    selection.choose(chunk=None)
                    selection.rerun()
    if typed and st.button("Back to the study's texts", icon=":material/undo:"):
        selection.choose(own=None, chunk=None)
        selection.rerun()


# KL(β)


def curve(study: Path, subject: Subject, choice: Choice, plan: Plan) -> None:
    """KL(β) of the chunk at once, and the control strip at the current β."""
    if plan.intervention is None:
        return
    if subject.chunk is None or plan.opened.result["span"][0] == plan.opened.result["span"][1]:
        st.caption("KL(β) is measured on a chunk's own tokens, and there are none here yet.")
        return
    controls = plan.controls(_CONTROL_SEED)
    limit = max(BETA_MAX[plan.intervention.unit], abs(plan.intervention.beta))
    betas = tuple(limit * k / 10 for k in range(-10, 11)) if plan.intervention.operation != "ablate" else (0.0,)
    request = Curve(subject.text, subject.chunk, plan.intervention.with_beta(0.0), betas, controls)
    about = _about(subject, choice, plan, plan.sentence(subject))
    try:
        run_id = live.start(study, choice, about, request)
    except AnchorscopeError as error:
        show(str(error))
        return
    now = plan.intervention.beta
    at = tuple(dict.fromkeys((-now, 0.0, now)))
    strip = live.look_up(choice, Curve(subject.text, subject.chunk, plan.intervention, at, controls))
    if (last := st.session_state.get("strip")) not in (None, strip):
        live.stop(last)  # the slider has moved on
    st.session_state["strip"] = strip

    def draw() -> None:
        run, status = live.find(study, run_id), live.service().status(strip)
        reading = live.service().status(plan.opened.ticket_id) or plan.opened
        floor = reading.result.get("noise_floor")
        if run is None or (run.results is None and not run.is_running):
            show(run.status.error if run and run.status and run.status.error else "The curve could not be computed.")
            if st.button("Try again", icon=":material/refresh:", key="curve_again"):
                live.start(study, choice, about, request, again=True)
                selection.rerun()
            return
        results = run.results or {}
        if results.get("kl"):
            shown = {**results, "noise_floor": floor}
            band = results.get("controls") or None
            if len(betas) > 1:
                found = {"betas": results["betas"], "kl": band, "k": len(band)} if band else None
                st.plotly_chart(kl_curve(shown, beta=now, controls=found), key="kl_curve", config={"displayModeBar": False})
        if run.is_running and not results.get("kl"):
            place_in_line(run.status, "KL(β)")
        if status is not None:
            _control_strip(status, at, now, floor)
        if pending and not run.is_running and (status is None or status.ended) and reading.ended:
            selection.rerun()

    first, second = live.find(study, run_id), live.service().status(strip)
    pending = (first is not None and first.is_running) or (second is not None and not second.ended) or not plan.opened.ended
    st.fragment(draw, run_every=live.EVERY if pending else None)()


def _control_strip(status: Status, at: tuple[float, ...], beta: float, floor: float | None) -> None:
    """KL at β, mirrored, at 0 and for random directions of the same size."""
    kl = dict(zip(at, status.result.get("kl") or [], strict=False))
    random = [dict(zip(at, control, strict=True))[beta] for control in status.result.get("controls", [])]
    if beta not in kl:
        return
    beyond = sum(value >= kl[beta] for value in random)
    rows = [
        ("as set", f"{beta:+g}", kl[beta]),
        ("sign flipped", f"{-beta:+g}", kl.get(-beta)),
        ("β = 0", "0", kl.get(0.0)),
    ]
    table = pd.DataFrame(
        {"control strip": [row[0] for row in rows], "β": [row[1] for row in rows], "KL, nats": [_kl(row[2], floor) for row in rows]}
    )
    if random:
        ordered = sorted(random)
        middle = ordered[len(ordered) // 2] if len(ordered) % 2 else sum(ordered[len(ordered) // 2 - 1 : len(ordered) // 2 + 1]) / 2
        spread = f"{figure(middle)} [{figure(ordered[0])}, {figure(ordered[-1])}]"
        table.loc[len(table)] = [f"{len(random)} random directions", f"{beta:+g}", spread]
    st.dataframe(table, hide_index=True, row_height=28, height="content")
    if random:
        st.caption(
            f"Random: median [least, most]. {beyond} of {len(random)} random pushes of this size move the predictions as much or more: "
            f"p = {(beyond + 1) / (len(random) + 1):.2g}."
        )


def _kl(value: float | None, floor: float | None) -> str:
    if value is None:
        return ""
    return f"{figure(value)}" + (" (below the noise floor)" if floor is not None and 0 < value <= floor else "")


# Runs


def run_controls(store: Store, study: Path, subject: Subject, choice: Choice, plan: Plan) -> None:
    """What is to be run, and the button."""
    operation = plan.intervention.operation if plan.intervention else None
    left_out = {"curve", *(["wording"] if subject.chunk is None else []), *(["dose"] if operation == "ablate" else [])}
    options = [name for name in RUN_KINDS if name not in left_out]
    what = selection.pick("what", "Run", options, show=lambda name: RUN_KINDS[name], widget=st.segmented_control, required=True)
    a, b, c, d = st.columns([3, 2, 2, 3], gap="small", vertical_alignment="bottom")
    with a:
        usual = "before" if plan.intervention is not None and plan.intervention.place in ("anchor", "onward", "prompt") else "after"
        if what == "wording" or subject.chunk is None:
            start = "after"
            st.caption("continues from the end of the prompt" if subject.chunk is None else f"continues from after {subject.name}")
        else:
            start = selection.pick("start", "Continue from", ["before", "after"], default=usual, show=lambda name: f"{name} {subject.name}")
    with b:
        seed = number("seed", "Seed", 1, low=0, high=2**31)
    with c:
        usual_n = {"continue": 16, "dose": 8, "wording": 1}.get(what)
        n = 1 if usual_n is None else number("n", "Times", usual_n, low=1, high=64)
    with d:
        max_new = st.number_input("Longest, tokens", 8, 1024, 224, step=8, key="max_new_tokens")
    if what != "wording" and start == "before" and plan.intervention is not None and plan.intervention.place == "chunk":
        st.caption(f"{subject.name.capitalize()} is written anew, so the change is made at as many positions of what is written.")
    wording = _wording(subject) if what == "wording" else None
    sampling = Sampling(max_new_tokens=int(max_new))
    ready = wording is not None if what == "wording" else plan.intervention is not None
    pressed = st.button(
        {"stream": "Steer", "continue": f"Continue {n} times", "dose": "Dose–response", "wording": "Continue from the new wording"}[what],
        type="primary", disabled=not ready, icon=":material/play_arrow:", key="run_button",
    )
    if not pressed:
        return
    compared = Compared(subject.text, subject.chunk, start, None if what == "wording" else plan.intervention, wording)
    limit = BETA_MAX[plan.intervention.unit] if plan.intervention else 0.0
    doses = tuple(limit * k / 4 for k in range(-4, 5)) if what == "dose" else ()
    words = plan.sentence(subject, seed=seed, betas=doses) if wording is None else _wording_sentence(subject, wording, seed)
    after = start == "before"
    stored = store.rollouts_beside(subject.chunk, after) if subject.cot and subject.chunk and choice.model_id == subject.writer_id else None
    request: Request
    if what == "stream" or (what == "wording" and n == 1):
        request = Stream(compared, sampling, seed)
    elif what in ("continue", "wording"):
        answers = () if stored is None else tuple(stored["answer"].dropna())
        controls = plan.controls(_CONTROL_SEED) if wording is None else ()
        request = Continue(compared, sampling, seed, n, subject.truth, controls, answers)
    else:
        request = Dose(compared, sampling, seed, doses, n, subject.truth)
    about = _about(subject, choice, plan, words, wording=wording, stored=stored)
    try:
        selection.choose(run=live.start(study, choice, about, request, again=True), against=None)
    except AnchorscopeError as error:
        show(str(error))


def _wording(subject: Subject) -> str | None:
    """The chunk in other words, or none at all."""
    delete = st.toggle("Delete the sentence", key="delete_chunk")
    words = st.text_area(
        "The sentence instead", subject.chunk_text, key=f"wording_{subject.chunk}", disabled=delete, height=80, max_chars=4000,
        help="The chain is continued from after these words; the other arm continues from after the sentence as it was.",
    )
    if delete:
        return ""
    return None if words == subject.chunk_text else words


def _wording_sentence(subject: Subject, wording: str, seed: int) -> str:
    changed = f"write “{one_line(wording, 80)}” instead" if wording else "delete it"
    return f"{subject.name}: {changed}, and go on from there, seed {seed}"


def _about(
    subject: Subject, choice: Choice, plan: Plan, words: str, *, wording: str | None = None, stored: pd.DataFrame | None = None
) -> About:
    of_text = wording is not None
    return About(
        choice.model_id, choice.model.name, words, None if of_text else plan.direction.kind,
        {} if of_text else {"words": plan.words, "layer": plan.source_layer, "norm": plan.direction.norm,
                            "direction_id": plan.direction.direction_id, "parameters": plan.direction.parameters},
        subject.cot, subject.chunk if subject.cot else None, subject.written_by, stored, dict(plan.view or {}),
    )


def runs(study: Path) -> None:
    """The chosen run, and the one it is compared with."""
    for field in ("run", "against"):
        if run_id := selection.get(field):
            run(study, run_id, key=field)


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
        if now.is_running:
            place_in_line(now.status, "Writing")
            if st.button("Stop", icon=":material/stop:", key=f"stop_{key}"):
                live.stop(run_id)
                selection.rerun()
        elif found.is_running:
            selection.rerun()
        if now.status is not None and now.status.error:
            show(now.status.error)
        if now.results is not None:
            _results(study, now, key)

    st.fragment(draw, run_every=live.EVERY if found.is_running else None)()


def _results(study: Path, now: live.Run, key: str) -> None:
    results = now.results
    if "arms" in results and "comparisons" not in results:
        _stream(now, key)
    elif "comparisons" in results:
        _continued(study, now, key)
    elif "rows" in results:
        _dosed(study, now, key)


def _stream(now: live.Run, key: str) -> None:
    results = now.results
    streams(
        {**results, "id": now.run_id}, key=f"streams_{key}", base_label=ARMS["base"], changed_label=ARMS["changed"],
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
    ends = {name: f"{len(arm['tokens'])} tokens, {_FINISHES.get(arm['finish'], 'stopped')}" for name, arm in arms.items()}
    st.caption(
        ("The two never part" if parted is None else f"They part at token {parted + 1}")
        + f". Both draw with the same random numbers. Mean KL(steered ‖ base) along the steered text {figure(sum(changed) / len(changed))} "
        f"nats, n = {len(changed)} tokens. Base: {ends['base']}; steered: {ends['changed']}. One sample of each: continue many times "
        "before you conclude."
    )
    if selection.get("own") == "yes" and st.button("Take the base text as the chain of thought", key=f"adopt_{key}"):
        continue_with("".join(token["text"] for token in arms["base"]["tokens"]))
        selection.rerun()


def _continued(study: Path, now: live.Run, key: str) -> None:
    results = now.results
    left, right = st.columns([3, 2], gap="medium")
    answers = [
        {"arm": arm, **answer, "total": summary["n"], "silent": summary["n_without_answer"]}
        for arm, summary in results["arms"].items()
        for answer in summary["answers"]
    ]
    with left:
        st.plotly_chart(answers_by_arm(pd.DataFrame(answers)), key=f"answers_{key}", config={"displayModeBar": False})
    with right:
        st.plotly_chart(accuracy_by_arm(results["arms"]), key=f"accuracy_{key}", config={"displayModeBar": False})
    st.dataframe(_arm_table(results["arms"]), hide_index=True, row_height=28, height="content")
    st.dataframe(_comparison_table(results["comparisons"]), hide_index=True, row_height=28, height="content")
    st.caption(
        "Arms share random numbers sample by sample, so they are compared in pairs: McNemar's exact test for accuracy, sign-flip "
        "permutation for the rest; intervals 95 %. The p are of single comparisons. Random: each sample under one of the random "
        "directions, same size and place."
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
                "arm": samples["arm"].map(ARMS), "β": samples["beta"], "sample": samples["sample"],
                "answer": samples["answer"].fillna("none"),
                "verdict": [_VERDICTS.get(None if pd.isna(v) else bool(v), "not judged") for v in samples["is_correct"]],
                "tokens": samples["n_tokens"], "text": [one_line(words, 300) for words in samples["text"]],
            }
        )
        st.dataframe(shown.dropna(axis=1, how="all"), hide_index=True, row_height=28, height=320, key=f"samples_{key}")


def _dosed(study: Path, now: live.Run, key: str) -> None:
    results, row = now.results, Experiments(study).get(now.run_id) or {}
    chart = dose_response(results["rows"], results["changepoints"], unit=row.get("unit"))
    st.plotly_chart(chart, key=f"dose_{key}", config={"displayModeBar": False})
    unsteered = "; β = 0 is the unsteered model" if row.get("operation") in ("add", "rotate") else ""
    st.caption(
        f"n = {results['n']} continuations at each β, with the same random numbers at every β{unsteered}. Bars: 95 % (Wilson for shares, "
        "bootstrap for means). KL on the chunk's own tokens. A line marks the one step that explains most, with its permutation p."
    )


def _arm_table(arms: dict[str, Any]) -> pd.DataFrame:
    rows = []
    for name, arm in arms.items():
        row = {"arm": ARMS[name], "n": arm["n"], "no answer": arm["n_without_answer"]}
        for quantity, words in OUTCOMES.items():
            row[words] = _quantity(arm[quantity])
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
                "compared": f"{ARMS[row['arm']]} − base", "quantity": OUTCOMES.get(row["quantity"], row["quantity"]), "pairs": row["n"],
                "left out": row["n_left_out"], "difference": "unknown" if row["difference"] is None else f"{row['difference']:+.3g}",
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
                "unsteered": _quantity(row["base"]), "steered": _quantity(row["changed"]),
                "difference": "unknown" if row["difference"] is None else f"{row['difference']:+.3g}",
                "95 %": "" if row["low"] is None else interval(row["low"], row["high"]), "stored rollouts": row["n_stored"],
            }
            for row in rows
        ]
    )


def _provenance(row: dict[str, Any]) -> None:
    show(row["sentence"])
    other = "" if row["written_by"] in (None, row["model"]) else f", on a text written by {one_line(row['written_by'], 60)}"
    seconds = "" if row["seconds"] is None or math.isnan(row["seconds"]) else f", {row['seconds']:.1f} s"
    kind, when = RUN_KINDS.get(row["kind"], row["kind"]), f"{row['created_at']:%Y-%m-%d %H:%M} UTC"
    show(f"{kind} · {one_line(row['model'], 60)}{other} · {when} · {row['state']}{seconds}")


# What was done before


def history(study: Path, subject: Subject) -> None:
    """Kept runs on this text: choose one to see it again, two to compare them."""
    kept = Experiments(study).history(cot_id=subject.cot, limit=_ALL)
    kept = kept[kept["kind"] != "curve"] if subject.cot else kept[(kept["kind"] != "curve") & kept["cot_id"].isna()]
    kept = kept.head(_SHOWN_RUNS)
    st.markdown(f"**Kept runs** · {len(kept)}")
    if kept.empty:
        st.caption("Every run on this text is kept here with its parameters; its link opens it again without computing.")
        return
    kept = kept.reset_index(drop=True)
    shown = pd.DataFrame(
        {
            "when (UTC)": kept["created_at"].dt.strftime("%m-%d %H:%M"), "run": [RUN_KINDS.get(kind, kind) for kind in kept["kind"]],
            "what": [one_line(words, 160) for words in kept["sentence"]], "state": kept["state"],
        }
    )

    def chosen() -> None:
        picked = st.session_state["history"].selection.rows
        ids = [kept["experiment_id"][k] for k in picked if k < len(kept)][:2]
        if ids:
            _restore(study, ids[0])
            selection.choose(run=ids[0], against=ids[1] if len(ids) > 1 else None)

    st.dataframe(
        shown, hide_index=True, row_height=28, height=min(320, 40 + 28 * len(shown)), key="history", on_select=chosen,
        selection_mode="multi-row", column_config={"what": st.column_config.TextColumn(width="large")},
    )
    st.caption("Choose a row to see it again with the controls as they were; choose two to see them one above the other.")


def _restore(study: Path, run_id: str) -> None:
    """The controls as they were when the run was started."""
    row = Experiments(study).get(run_id)
    view = live.view_of(row) if row else {}
    if view:
        kept = {name: value for name, value in view.items() if name in selection.FIELDS and name not in ("study", "run", "against")}
        selection.choose(**kept)


def say_what(plan: Plan, subject: Subject) -> None:
    """The intervention in a sentence, or why there is none; while the model reads the text for it, looks again."""
    with st.container(border=True, key="intervention"):
        if plan.waits_for is None:
            show(plan.sentence(subject) if plan.intervention else plan.problem)
            return

        def look() -> None:
            now = live.service().status(plan.waits_for)
            if now is None or now.ended or "activations" in now.result:
                selection.rerun()
            place_in_line(now, "The model is reading the text for this direction")

        st.fragment(look, run_every=live.EVERY)()
