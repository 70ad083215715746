"""The door to live steering: the one service of this dashboard, and runs found by their id in the service or in the
store.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from backend.live import added
from backend.live.available import Choice, choices, device_of
from backend.live.kept import About, keeper, record_of, restored
from backend.live.requests import Open, Request, Resample, experiment_id
from backend.live.service import LiveService, Status
from backend.store.experiments import Experiments
from backend.store.store import Store

EVERY = 0.2  # seconds between two looks at something that runs


@dataclass(frozen=True)
class Run:
    """A run as the page shows it.

    `status` is None where it was restored from the store, `being_kept` while it is on its way there.
    """

    run_id: str
    results: dict[str, Any] | None
    status: Status | None = None
    being_kept: bool = False

    @property
    def is_running(self) -> bool:
        return self.status is not None and not self.status.ended


@st.cache_resource(show_spinner=False)
def service() -> LiveService:
    return LiveService()


def steerable(store: Store) -> list[Choice]:
    """Models that can be steered here and now: the study's own first."""
    return choices(store.models(), device_of(store.runs()))


def read(choice: Choice, request: Open, *, again: bool = False) -> Status:
    """The reading of a text, asked for once and remembered by the service; `again` tries one that failed once more."""
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
    if status is not None and not status.ended:
        return Run(run_id, status.result, status)
    row = Experiments(study).get(run_id)
    if row is not None:
        return Run(run_id, {**restored(row), "id": run_id})
    if status is None:
        return None
    asked: tuple[About, Request] | None = st.session_state.get("asked", {}).get(run_id)
    if asked is not None and (record := record_of(asked[0], asked[1], status)) is not None:
        return Run(run_id, record.results, status, being_kept=status.error is None)
    return Run(
        run_id, status.result if "arms" in status.result else None, status
    )  # what a stream had said before it failed


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


def view_of(row: dict[str, Any]) -> dict[str, str]:
    """The controls as they were when the kept run was started."""
    return json.loads(row["parameters"]).get("view", {})


def stop(run_id: str) -> None:
    service().cancel(run_id)


def _submitted(run_id: str, choice: Choice, request: Request, on_end: Any, *, again: bool = False) -> Status:
    known = service().status(run_id)
    if known is not None and not (again and known.ended and known.state != "finished"):
        return known
    return service().submit(run_id, choice.model, request, on_end=on_end)
