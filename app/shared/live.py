"""The door to live steering: the one service of this dashboard, and runs found by their id in the service or in the
store.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from app.shell import fields
from backend.live import added, audits
from backend.live.available import Choice, choices, device_of
from backend.live.kept import About, keeper, record_of, restored
from backend.live.requests import Audit, Continue, Open, Request, Resample, Stream, Words, experiment_id
from backend.live.service import LiveService, Status
from backend.store.experiments import Experiments
from backend.store.library import Library
from backend.store.store import Store

EVERY = 0.2  # seconds between two looks at something that runs
# What seeing a run again brings back: where it was made, and how. All else that was selected when it was started is the
# person's: the study, the step of the tour, the dock, what is pinned, listed or searched for.
_BROUGHT_BACK = (
    "problem cot chunk model layer last_layer dictionary feature tags_from direction unit operation steered_where"
    " only_while beta vector_kept vector_minus vector_category vector_from vector_component vector_seed vector_layer"
    " vector_decoder analogy_word_a analogy_word_b analogy_word_c analogy_chunk_a analogy_chunk_b analogy_chunk_c"
    " analogy_feature_a analogy_feature_b analogy_feature_c analogy_context own_text own_question own_chain own_answer"
    " own_prompt run_kind continue_from samples seed run_tokens temperature top_p chunk_deleted chunk_reworded"
    " chunk_paraphrased both_rows both_most both_random both_samples"
)
OF_A_RUN = frozenset(_BROUGHT_BACK.split())


@dataclass(frozen=True)
class Run:
    """A run as the page shows it.

    `status` is None where it was restored from the store, `being_kept` while it is on its way there. `is_reworded`: the
    sentence is in other words, and no residual stream is changed.
    """

    run_id: str
    results: dict[str, Any] | None
    status: Status | None = None
    being_kept: bool = False
    is_reworded: bool = False

    @property
    def is_running(self) -> bool:
        return self.status is not None and not self.status.ended


@st.cache_resource(show_spinner=False)
def service() -> LiveService:
    return LiveService()


def steerable(store: Store) -> list[Choice]:
    """Models that can be steered here and now: the study's own first."""
    return choices(store.models(), device_of(store.runs()))


def read(choice: Choice, request: Open | Words, *, again: bool = False) -> Status:
    """The reading of a text or of words, asked for once and remembered by the service; `again` tries one that failed
    once more.
    """
    return _submitted(experiment_id(choice.model_id, request), choice, request, None, again=again)


def start(study: Path, choice: Choice, about: About, request: Request, *, again: bool = False) -> str:
    """Has a request done, unless it was; its id.

    One that failed or was stopped is only tried again where somebody asks for it.
    """
    run_id, keep = experiment_id(choice.model_id, request), keeper(study, about, request)
    row = Experiments(study).get(run_id)
    if row is None or (again and row["state"] == "stopped"):
        status = _submitted(run_id, choice, request, keep, again=again)
        if row is None and status.state == "finished":  # for another study, or it could not be kept then
            keep(status)
        st.session_state.setdefault("asked", {})[run_id] = (about, request)
    return run_id


def find(study: Path, run_id: str) -> Run | None:
    """A run by its id: running or ended here, else as the store keeps it; None for one that nobody knows."""
    status = service().status(run_id)
    asked: tuple[About, Request] | None = st.session_state.get("asked", {}).get(run_id)
    is_reworded = asked is not None and is_of_wording(asked[1])
    if status is not None and not status.ended:
        return Run(run_id, status.result, status, is_reworded=is_reworded)
    row = Experiments(study).get(run_id)
    if row is not None:
        reworded = json.loads(row["parameters"]).get("wording") is not None
        return Run(run_id, {**restored(row), "id": run_id}, is_reworded=reworded)
    if status is None:
        return None
    if asked is not None and (record := record_of(asked[0], asked[1], status)) is not None:
        return Run(run_id, record.results, status, being_kept=status.error is None, is_reworded=is_reworded)
    said = status.result if "arms" in status.result else None  # what a stream had said before it failed
    return Run(run_id, said, status, is_reworded=is_reworded)


def is_of_wording(request: Request) -> bool:
    """Whether it is a sentence that is put in other words."""
    return isinstance(request, Stream | Continue) and request.compared.wording is not None


def look_up(choice: Choice, request: Request, *, again: bool = False) -> str:
    """Has something small measured that is not kept; its id in the service.

    `again` tries one that failed or was stopped once more.
    """
    return _submitted(experiment_id(choice.model_id, request), choice, request, None, again=again).ticket_id


def add_rollouts(study: Path, choice: Choice, request: Resample, *, again: bool = False) -> str:
    """Has rollouts drawn, which are kept beside the study when the request ends; its id in the service.

    `again` tries one that failed or was stopped before anything was drawn once more.
    """
    keep = added.keeper(study, choice.model_id, request)
    return _submitted(experiment_id(choice.model_id, request), choice, request, keep, again=again).ticket_id


def audit(study: Path, vector_id: str, choice: Choice, request: Audit, *, again: bool = False) -> str:
    """Has a vector audited, unless it is being; its id. It is kept when it ends."""
    run_id = experiment_id(choice.model_id, request)
    keep = audits.keeper(study, vector_id, choice, request)
    status = _submitted(run_id, choice, request, keep, again=again)
    if status.state == "finished" and not (Library(study).audits(vector_id)["audit_id"] == run_id).any():
        keep(status)  # for another study, or it could not be kept then
    return run_id


def view_of(row: dict[str, Any]) -> dict[str, str]:
    """The controls as they were when the kept run was started, by today's names."""
    view = json.loads(row["parameters"]).get("view", {})
    return {name: value for name, value in fields.read(view).items() if name in OF_A_RUN}


def stop(run_id: str) -> None:
    service().cancel(run_id)


def _submitted(run_id: str, choice: Choice, request: Request, on_end: Any, *, again: bool = False) -> Status:
    known = service().status(run_id)
    if known is not None and not (again and known.ended and known.state != "finished"):
        return known
    return service().submit(run_id, choice.model, request, on_end=on_end)
