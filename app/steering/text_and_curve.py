"""What the Steering page shows around the controls: the model, the text with its marks, a text of one's own, KL(β) with
its controls.
"""

import contextlib
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
import streamlit as st

from app.components.reader import reader
from app.figures.steering import ControlsKL, MeasuredKL, kl_curve
from app.shared import chosen_chain, chosen_chunk, chosen_stream, live, typed_text
from app.shared.chosen_chunk import CHUNK, ChosenChunk
from app.shared.chosen_stream import MODEL
from app.shared.chosen_vector import CATEGORY, MINUS
from app.shared.geometry_columns import DIRECTION, UNIT
from app.shared.model_names import called, in_full
from app.shared.views import Here, chunks, controls, require
from app.shared.waiting import Reading, place_in_line, wait_for
from app.shell import keys, selection
from app.shell.data_figure import data_figure
from app.shell.data_table import data_table
from app.shell.fields import Field, declare
from app.shell.missing import Missing
from app.shell.numbers import number as figure
from app.shell.untrusted import show
from app.shell.vocabulary import RUN_KINDS
from app.steering.controls import (
    BETA,
    CONTROL_SEED,
    FROM,
    OPERATION,
    PLACE,
    Plan,
    about_run,
    chosen_feature,
    codes_of,
    offer_to_keep,
    plan,
    usual_beta,
)
from app.steering.steered_text import (
    OWN,
    QUESTION,
    SPELT,
    TRUTH,
    WRITTEN,
    Subject,
    Typed,
    chosen,
    is_typed,
    type_in,
    what_was_typed,
    with_prompt,
)
from backend.errors import AnchorscopeError
from backend.geometry.direction_kinds import kinds_by_hand
from backend.live.available import Choice
from backend.live.requests import Curve, Open
from backend.live.service import Status
from backend.models.interventions import OPERATIONS, PLACES
from backend.root import PRECOMPUTE
from backend.store.store import Store

_PRESETS = {
    "over-thinking": (
        "What is 5-1?",
        +1,
        (
            "A question that needs no thought. Pushing along {direction} from the first token on asks whether the"
            " direction alone makes a model doubt what it knows: look for checks of a result that was right, for"
            " length, and for an answer that moves."
        ),
    ),
    "incisive thinking": (
        "What is the next number in the sequence: 16, 32, 48, ...?",
        -1,
        (
            "The same direction pulled the other way. If it carries the checking, the chain should come to the point"
            " sooner, with the same answer; if it gets worse or falls apart, the direction carried more than that."
            " Compare with the random directions before you believe either."
        ),
    ),
}
WHAT = declare(Field("run_kind", "kind of run", [name for name in RUN_KINDS if name != "curve"]))
# what a click on a chunk may choose, by what a direction needs
_CLICKS = {"chunk_id": FROM.name, "other_chunk_id": MINUS.name}


# Which model


def a_text(here: Here) -> Missing | None:
    """A text to steer: one that was typed, or a chain of thought."""
    return None if is_typed(here.store.path) else chunks(here)


def a_model(here: Here) -> Missing | None:
    """A model that can be steered on this machine."""
    if live.steerable(here.store):
        return None
    return Missing(
        "No model of this study is on this machine, so nothing can be steered. This command fetches the embedded one,"
        " with which any text can be steered:",
        f"{PRECOMPUTE} model",
    )


@dataclass(frozen=True)
class Steered:
    """The text that is steered, and the model that reads it."""

    subject: Subject
    choice: Choice


@dataclass(frozen=True)
class Planned:
    """The text with its prompt spelt out, and what is done to the model that reads it: nothing, where the sentence is
    reworded.
    """

    subject: Subject
    plan: Plan | None


def steered(here: Here) -> Steered:
    """The controls of model and text."""
    store, own = here.store, what_was_typed() if is_typed(here.store.path) else None
    where = None if own else here.chunk
    require(here, a_model)
    with controls():
        choice = choose_model(store, live.steerable(store), where)
        if where:
            here.look_at(where := chosen_chain.choose_in_drawer(store, where))
        own_text(store, own, choice)
    if own:
        say_what_a_link_has()
    subject = chosen(store, where, choice)
    say_who_reads(here.store, subject, choice)
    return Steered(subject, choice)


def reading(here: Here) -> Status:
    """The model's reading of the text, whole or on its way."""
    found = here.once(steered)
    return live.read(found.choice, to_open(found.subject))


def run_kind(here: Here) -> str:
    """What is to be run, which says what controls there are."""
    has_dose = OPERATIONS[selection.in_force(OPERATION)].has_magnitude
    has_chunk = here.once(steered).subject.chunk is not None
    left_out = {*([] if has_chunk else ["wording"]), *([] if has_dose else ["dose"])}
    options = [name for name in WHAT.options if name not in left_out]
    with controls():
        return selection.pick(
            WHAT, "Run", options, show=lambda name: RUN_KINDS[name], widget=st.segmented_control, required=True
        )


def planned(here: Here) -> Planned:
    """The controls of the intervention. Until the model has read the text, says so and ends the page."""
    found, opened = here.once(steered), here.once(reading)
    kind = here.once(run_kind)
    if not is_read(opened):
        doing = f"{called(here.store, found.choice.model_id)} is reading the text"
        again = partial(live.read, found.choice, to_open(found.subject), again=True)
        wait_for(Reading(opened, doing, "read", again, is_read))
    subject = with_prompt(found.subject, opened.result["prompt"])
    with controls(horizontal=False, vertical_alignment="top"):
        return Planned(subject, None if kind == "wording" else plan(here.store, subject, found.choice, opened))


def draw_plan(here: Here, store: Store) -> None:
    """What is done to the residual stream, and what that adds up to."""
    found = here.once(planned)
    if found.plan is None:
        st.caption(f"The residual stream stays as it is: {found.subject.name} is put in other words.")
    else:
        say_what(found.plan, found.subject)
        offer_to_keep(store, here.once(steered).choice, found.plan)


def draw_text(here: Here, store: Store) -> None:
    """The text; beside the controls, with the spans that they name."""
    subject, found = here.once(steered).subject, here.made(planned)
    text(subject, None) if found is None else text(found.subject, found.plan)


def draw_curve(here: Here, store: Store) -> None:
    """KL(β) of the intervention."""
    choice, found = here.once(steered).choice, here.once(planned)
    if found.plan is not None:
        curve(store.path, found.subject, choice, found.plan)


def choose_model(store: Store, found: list[Choice], where: ChosenChunk | None) -> Choice:
    """The model that is steered: the one chosen for every page where it is here, else the text's own, else the first
    that is here.
    """
    by_id = {choice.model_id: choice for choice in found}
    wanted = chosen_stream.chosen(store)
    writer = None if where is None else store.cot_to_read(where.cot)["model_id"].iloc[0]
    steered = next((name for name in (wanted and wanted.model, writer) if name in by_id), found[0].model_id)
    if wanted is not None and wanted.model != steered and (wanted.layer is not None or selection.get(MODEL)):
        # a model that is neither chosen nor shown on any page is not missed: of a text that another wrote
        # `say_who_reads` tells
        selection.stand_in(MODEL, called(store, wanted.model), called(store, steered))
    if len(found) > 1:
        selection.offer(
            "steered_model",
            "Model that is steered",
            list(by_id),
            steered,
            lambda name: selection.choose({MODEL: name}),
            show=lambda name: called(store, name),
            width=360,
            help=in_full(store, by_id),
        )
    return by_id[steered]


def say_who_reads(store: Store, subject: Subject, choice: Choice) -> None:
    """A word of warning where another model than the writer is steered on the text."""
    if subject.written_by is None or choice.model_id == subject.writer_id:
        return
    reader = called(store, choice.model_id)
    with st.container(border=True, key=keys.of("another_model")):
        show(
            f"This text was written by {called(store, subject.written_by)}, which is not what is steered here."
            f" {reader[:1].upper()}{reader[1:]} reads the same text: what follows says what it does with"
            " these words, not what their writer would have done. Runs are kept with both names."
        )


def say_what_a_link_has() -> None:
    """Where the typed text is too long for a link, says so."""
    if words := typed_text.beyond_a_link(QUESTION, WRITTEN, TRUTH, SPELT):
        st.caption(words)


def to_open(subject: Subject) -> Open:
    return Open(subject.text, subject.chunk)


def is_read(opened: Status) -> bool:
    """Whether enough of the reading is there to show the controls."""
    return "lens" in opened.result and not opened.error


# The text


def text(subject: Subject, plan: Plan | None) -> None:
    """The CoT with two painted spans: where the vector came from and where it is applied."""
    if subject.chunk is None:
        st.caption("There is no chain of thought yet: the model writes it from the end of the prompt.")
        show(subject.title)
        return
    picks = CHUNK.name
    kind = plan.direction.kind if plan and plan.direction else None
    if choices := [_CLICKS[need] for need in (kinds_by_hand()[kind].needs if kind else ()) if need in _CLICKS]:
        picks = st.segmented_control(
            "A click chooses",
            [CHUNK.name, *choices],
            default=CHUNK.name,
            required=True,
            key=keys.of(f"click_chooses_{kind}"),
            format_func={
                CHUNK.name: "where to steer",
                FROM.name: "where the vector comes from",
                MINUS.name: "what is taken from it",
            }.__getitem__,
        )
    marks: dict[str, str] = dict.fromkeys(plan.sources, "source") if plan else {}
    where = PLACES[plan.intervention.place if plan and plan.intervention else "anchor"]
    ids = list(subject.chunks["chunk_id"])
    if plan and not where.of_prompt:
        for name in ids[ids.index(subject.chunk) :] if where.goes_on else [subject.chunk]:
            marks[name] = "both" if name in marks else "applied"

    def chosen(chunk: str) -> None:
        if picks == CHUNK.name and subject.cot is not None:
            chosen_chunk.go(chunk)
        else:
            selection.choose(**{picks: chunk})

    reader(subject.chunks, None, selected=subject.chunk, on_chunk=chosen, marks=marks)


def own_text(store: Store, own: Typed | None, choice: Choice) -> None:
    """A popover to type any text, with the two presets; `own` is what was typed before.

    The model that is shown is the one it goes to. A preset keeps a feature that is steered by, with its dictionary,
    layer and decoder.
    """
    with st.popover("Your own text, presets", icon=":material/edit_note:"):
        pushed, along = _preset_direction(store, choice)
        for name, (question, sign, story) in _PRESETS.items():
            st.markdown(f"**{name.capitalize()}** · {story.format(direction=along)}")
            if st.button(f"{name.capitalize()}: “{question}”", key=keys.of(f"preset_{name}")):
                type_in(question, "", "4" if "5-1" in question else "64", model=choice.model_id)
                selection.choose(pushed | {OPERATION: "add", PLACE: "onward", BETA: f"{sign * float(pushed[BETA]):g}"})
                selection.choose({CHUNK: None}, run_kind="stream")
                selection.rerun()
        with st.form(keys.of("own_text"), border=False):
            before = own or Typed(None, "", None)
            question = st.text_area("Question", before.question or "", height=68, max_chars=4000)
            words = st.text_area(
                "Chain of thought (may be empty; it is cut into chunks)", before.text, height=160, max_chars=100_000
            )
            truth = st.text_input("Right answer, if known", before.truth or "", max_chars=200)
            if st.form_submit_button("Steer this text", type="primary"):
                if not question.strip() and not words.strip():
                    st.warning("Type a question or a chain of thought first.")
                else:
                    type_in(question, words, truth.strip() or None, model=choice.model_id)
                    selection.choose({CHUNK: None})
                    selection.rerun()
    if own and st.button("Back to the study's texts", icon=":material/undo:", key=keys.of("back_to_study")):
        selection.choose({OWN: None, CHUNK: None})
        selection.rerun()


def _preset_direction(store: Store, choice: Choice) -> tuple[dict[Field, str], str]:
    """What a preset pushes along, β with it, and what its words call that: the feature that is chosen, else
    self-checking − the rest.
    """
    with contextlib.suppress(AnchorscopeError):  # of a feature whose weights cannot be read the controls say so
        if (made := chosen_feature(store, choice)) is not None and (codes := codes_of(store, made)) is not None:
            number = json.loads(made.parameters)["feature"]
            beta = {BETA: f"{codes.usual:.3g}", UNIT: "absolute"}
            return {DIRECTION: "feature"} | beta, f"feature {number} (β = {codes.in_words(codes.usual)})"
    beta = {BETA: f"{usual_beta('rms', 1, 1.0, None):g}", UNIT: "rms"}
    return {DIRECTION: "category", CATEGORY: "self_checking"} | beta, "*self-checking − the rest*"


# KL(β)


def curve(study: Path, subject: Subject, choice: Choice, plan: Plan) -> None:
    """KL(β) of the chunk at once, and the control strip at the current β."""
    if plan.intervention is None:
        return
    if subject.chunk is None or plan.opened.result["span"][0] == plan.opened.result["span"][1]:
        st.caption("KL(β) is measured on a chunk's own tokens, and there are none here yet.")
        return
    controls = plan.controls(CONTROL_SEED)
    limit = max(plan.limit, abs(plan.intervention.beta))
    has_magnitude = OPERATIONS[plan.intervention.operation].has_magnitude
    betas = tuple(limit * k / 10 for k in range(-10, 11)) if has_magnitude else (0.0,)
    request = Curve(subject.text, subject.chunk, plan.intervention.with_beta(0.0), betas, controls)
    about = about_run(subject, choice, plan, plan.sentence(subject))
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
            if st.button("Try again", icon=":material/refresh:", key=keys.of("curve_again")):
                live.start(study, choice, about, request, again=True)
                selection.rerun()
            return
        results = run.results or {}
        if results.get("kl"):
            shown: MeasuredKL = {
                "betas": results["betas"],
                "kl": results["kl"],
                "unit": results.get("unit", "rms"),
                "n_tokens": results.get("n_tokens"),
                "fit": results.get("fit"),
                "noise_floor": floor,
            }
            band = results.get("controls") or None
            if len(betas) > 1:
                found: ControlsKL | None = {"betas": results["betas"], "kl": band, "k": len(band)} if band else None
                data_figure(
                    kl_curve(shown, beta=now, controls=found), key=keys.of("kl_curve"), config={"displayModeBar": False}
                )
        if run.status is not None and run.is_running and not results.get("kl"):
            place_in_line(run.status, "KL(β)")
        if status is not None:
            _control_strip(status, at, now, floor)
        if pending and not run.is_running and (status is None or status.ended) and reading.ended:
            selection.rerun()

    first, second = live.find(study, run_id), live.service().status(strip)
    pending = (
        (first is not None and first.is_running) or (second is not None and not second.ended) or not plan.opened.ended
    )
    keys.fragment(draw, run_every=live.EVERY if pending else None)()


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
        {
            "control strip": [row[0] for row in rows],
            "β": [row[1] for row in rows],
            "KL, nats": [_kl(row[2], floor) for row in rows],
        }
    )
    if random:
        ordered = sorted(random)
        middle = (
            ordered[len(ordered) // 2]
            if len(ordered) % 2
            else sum(ordered[len(ordered) // 2 - 1 : len(ordered) // 2 + 1]) / 2
        )
        spread = f"{figure(middle)} [{figure(ordered[0])}, {figure(ordered[-1])}]"
        table.loc[len(table)] = [f"{len(random)} random directions", f"{beta:+g}", spread]
    data_table(table, hide_index=True, row_height=28, height="content")
    if random:
        st.caption(
            f"Random: median [least, most]. {beyond} of {len(random)} random pushes of this size move the predictions"
            f" as much or more: p = {(beyond + 1) / (len(random) + 1):.2g}."
        )


def _kl(value: float | None, floor: float | None) -> str:
    if value is None:
        return ""
    return f"{figure(value)}" + (" (below the noise floor)" if floor is not None and 0 < value <= floor else "")


def say_what(plan: Plan, subject: Subject) -> None:
    """The intervention in a sentence, or why there is none; while the model reads the text for it, looks again."""
    with st.container(border=True, key=keys.of("intervention")):
        waits_for = plan.waits_for
        if waits_for is None:
            show(plan.sentence(subject) if plan.intervention else plan.problem or "")
            return

        def look() -> None:
            now = live.service().status(waits_for)
            if now is None or now.ended or "activations" in now.result:
                selection.rerun()
            place_in_line(now, "The model is reading the text for this direction")

        keys.fragment(look, run_every=live.EVERY)()
