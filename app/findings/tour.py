"""The tour: one experiment in five steps, done with the person on what the study has. Does one sentence decide the
answer, and does a push on the model there change it?

Where somebody stands in it is a choice like any other, in the link; and so is all that a step opens. The steps follow
from the study's steered run that moved the answer most (the finding `steering`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import streamlit as st

from app.findings.cards import finding_of, in_words
from app.shared import live
from app.shared.chosen_chunk import CHUNK
from app.shared.chosen_stream import LAYER, MODEL
from app.shared.chunk_colours import importance_options, metric_in_force
from app.shared.dock import DOCK
from app.shared.geometry_columns import DIRECTION, UNIT
from app.shared.sampled import SAMPLES
from app.shared.views import Here
from app.shell import history, keys, navigation, selection
from app.shell.fields import Field, declare
from app.shell.missing import Missing, say
from app.shell.numbers import number
from app.shell.untrusted import show
from app.shell.vocabulary import metric_choice
from backend.findings.finding import Finding
from backend.geometry.direction_kinds import kinds_by_hand
from backend.geometry.directions import ANCHOR_METRIC
from backend.models.interventions import PLACES, UNITS
from backend.store.experiments import Experiments
from backend.store.store import Store

TOUR = declare(Field("tour", "step of the tour", ("1", "2", "3", "4", "5")))
_CAUSATION = "causation"
_NAMED = {"pair_id": "steered_pair", "role": "steered_role", "start": "steered_from"}  # a run, by the words of links
_PLACE = ("problem", "cot", "chunk")  # which all steps select


@dataclass(frozen=True)
class Step:
    title: str
    text: str
    page: str
    chosen: Mapping[str, str]  # what is selected there, by the words of links


def steps(store: Store) -> tuple[Step, ...] | Missing:
    """The five; where the study has no steered run, what makes one."""
    found = finding_of(store, "steering")
    if isinstance(found, Missing):
        return found
    at = dict(found.way.chosen)
    chunk = {CHUNK.name: at[CHUNK.name]} if CHUNK.name in at else {}
    push = _push(store, at)
    start = push.get("continue_from")
    from_where = f", which continued from {start} the chunk" if start else ""
    place = {name: push[name] for name in (MODEL.name, LAYER.name, DIRECTION.name) if name in push}
    return (
        Step(
            "One question",
            "Does one sentence of a chain of thought decide the answer, and does a push on the model there change it?"
            " The tour asks this of the steered run of this study that moved the answer most. Each step opens a place;"
            " do there what it says, then go on.",
            navigation.ROOT_PAGE,
            {},
        ),
        Step(
            "The sentence",
            "The selected chunk is the sentence. Metrics, on the right, says how much the answers move when it is"
            " sampled anew, with the 95 % interval and n. Rollouts shows what the model wrote in its place: read two"
            " that are not similar. Guess now: does the answer hang on it?" + _anchors_by(store, at),
            navigation.CHAINS,
            chunk | {DOCK.name: "metrics.rollouts"},
        ),
        Step(
            "The push",
            "The KL curve says how far the model's predictions of this chunk move when its residual stream is pushed"
            " along a direction, by β. Compare the direction with the random ones: a push that does no more than they"
            " do says nothing of the direction.",
            navigation.CHAINS,
            chunk | place | {DOCK.name: "steering.metrics"},
        ),
        Step(
            "The experiment",
            f"Everything is set as in that run{from_where}. "
            * bool(push)
            + "Press Steer: the model goes on under the push, beside what it wrote without it. One text is an anecdote."
            " Under Run choose Many and press the button again: both are continued several times, with random"
            " directions of the same length beside them. It takes a minute or more; the next step need not wait for"
            " it.",
            navigation.STEERING,
            chunk | push | {"run_kind": "stream"},
        ),
        Step("The controlled result", _result(found), found.way.page, at),
    )


def _push(store: Store, at: Mapping[str, str]) -> dict[str, str]:
    """The settings of Steering that do what the run did, where it continued from included; none where they cannot be
    had by hand.
    """
    if (kept := at.get("run")) is not None:
        run = Experiments(store.path).get(kept)
        return {} if run is None else {name: v for name, v in live.view_of(run).items() if name not in _PLACE}
    runs = store.steered_answers()
    own = runs
    for column, name in _NAMED.items():
        own = own[own[column] == at.get(name)]
    if own.empty or (row := own.iloc[0]).kind not in kinds_by_hand() or row.unit not in UNITS:
        return {}
    where = {"steered_where": str(row.place)} if row.place in PLACES else {}
    return where | {
        MODEL.name: str(row.model_id),
        LAYER.name: str(row.layer),
        DIRECTION.name: str(row.kind),
        "operation": "add",
        UNIT.name: str(row.unit),
        "beta": f"{row.beta:g}",
        "continue_from": str(row.start),
        SAMPLES.name: str(row.n_samples),
    }


def _anchors_by(store: Store, at: Mapping[str, str]) -> str:
    """By what the pair's anchor was chosen, where the page shows another importance; empty where it shows that."""
    pairs = store.causation_pairs()
    own = pairs[pairs["pair_id"] == at.get("steered_pair")]
    if own.empty:
        return ""
    row = own.iloc[0]
    by, choices = f"{ANCHOR_METRIC}:{row.convention}", importance_options(store)
    shown = metric_in_force(choices) if choices else ""
    if shown == by:
        return ""
    beside = f"; the page shows {metric_choice(shown)}" if shown else ""
    return (
        f" The anchors of this study's steering were chosen by {metric_choice(by)}, from {number(row.threshold)} on"
        f"{beside}: two scales."
    )


def _result(found: Finding) -> str:
    """What the study found, with its numbers and its control."""
    numbers = " ".join(f"{in_words(one)}." for one in found.numbers[:1])
    control = found.control.partition(" Grey: ")[0]  # the rest is about the card's figure
    where = (
        "The page opens on that pair and says these numbers again."
        if found.way.page == _CAUSATION
        else "The page shows the run."
    )
    return (
        f"{found.statement} {numbers} {control} {where} Compare with your own run under Many, which the page Steering"
        " keeps: how many answers are right unsteered, steered and along random directions, there and here? The"
        " direction did it only where steered differs from random too."
    )


def draw(here: Here, store: Store) -> None:
    """The way in, where the tour is not on already."""
    if selection.get(TOUR) is not None:
        return
    with st.container(border=True, horizontal=True, vertical_alignment="center", key=keys.of("tour_start")):
        show("New here? A tour in five steps does one experiment with you, on this study.")
        if st.button("Tour", icon=":material/tour:", key=keys.of("tour_begin")):
            found = steps(store)
            if isinstance(found, Missing):
                say(found)
            else:
                _open(found, 1)


def strip(store: Store) -> None:
    """Above every page while the tour is on: what this step asks for, and the ways on, back and out."""
    if selection.get(TOUR) is None:
        return
    found = steps(store)
    with st.container(border=True, gap="small", key="tour"):
        if isinstance(found, Missing):
            say(found)
            _end()
            return
        at = int(selection.checked(TOUR) or "1")
        step = found[at - 1]
        st.markdown(f"**Tour, step {at} of {len(found)}: {step.title}**")
        show(step.text)
        with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
            if step.page != _page():
                _way("Where this step is", found, at, "tour_here")
            if at < len(found):
                _way(f"Next: {found[at].title}", found, at + 1, "tour_next")
            if at > 1:
                _way("Back", found, at - 1, "tour_back")
            _end()


def _way(label: str, found: tuple[Step, ...], to: int, key: str) -> None:
    """To a step: a button on this page; where it is on another a link, which is one step in the browser's history."""
    step = found[to - 1]
    if step.page != _page():
        navigation.way_in(step.page, label, {TOUR.name: str(to), **step.chosen})
    elif st.button(label, key=key):
        _open(found, to)


def _open(found: tuple[Step, ...], to: int) -> None:
    selection.choose({}, **{TOUR.name: str(to), **found[to - 1].chosen})
    history.chosen()
    selection.rerun()


def _end() -> None:
    st.button("End the tour", key="tour_end", type="tertiary", on_click=selection.choose, args=({TOUR: None},))


def _page() -> str:
    return selection.page() or navigation.ROOT_PAGE
