"""What was asked of features on its way: started in a process of its own, followed, stopped and gone on with."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import streamlit as st

from app.shared import chosen_dictionary
from app.shared.views import Here
from app.shell import keys, progress, selection
from app.shell.data_table import data_table
from app.shell.missing import Missing
from app.shell.untrusted import one_line, show, show_exactly
from app.shell.vocabulary import FINISHES
from backend.root import PYTHON, WORKING, module
from backend.store.intervention_queries import Interventions, left
from backend.store.progress import read_progress
from backend.store.store import Store

LOG, STOP = "run.log", "stop"  # files in the room
_LOOK_EVERY = "2s"
_LAST_WORDS = 12  # lines of the log


def start(study: Path) -> None:
    """Have what is left done by `python -m precompute interventions`, beside the dashboard and ended with it, unless
    somebody is at it. Whoever is at it sees what is asked meanwhile.
    """
    room = Interventions(study).room
    if room.holder() is not None:
        return
    room.path.mkdir(parents=True, exist_ok=True)
    with (room.path / LOG).open("wb") as log:
        process = subprocess.Popen(
            ["nice", "-n", "10", *PYTHON, "-u", "-m", module("precompute"), "interventions", str(study.resolve())],
            cwd=WORKING,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    _started()[study] = process


def stop(study: Path) -> None:
    """Have it end before the next token; what is not whole is done again when it goes on."""
    room = Interventions(study).room
    if room.holder() is not None:
        (room.path / STOP).touch()


def is_running(study: Path) -> bool:
    """Whether somebody is at it, or was just sent there from here."""
    process = _started().get(study)
    return (process is not None and process.poll() is None) or Interventions(study).room.holder() is not None


def anything_to_do(here: Here) -> Missing | None:
    """An intervention that is being run, or that is not finished."""
    _, running, n_left = _moment(here.store.path)
    if running or n_left:
        return None
    return Missing("No intervention is being run, and none is left to do.", None)


def draw(here: Here, store: Store) -> None:
    follow(store.path, chosen_dictionary.roles(here.dictionary))


def follow(study: Path, roles: Mapping[str, str]) -> None:
    """How far it is, while it runs; else what is left, and the button to go on.

    The page is run again whenever something was finished.
    """

    def draw() -> None:
        now = _moment(study)
        if now != seen:
            selection.rerun()
        _, running, n_left = now
        last = read_progress(Interventions(study).room.path)
        if running:
            if last is not None and last.state == "running":
                progress.bar(last)
            else:
                st.progress(0.0, text="Starting: the models are being loaded")
            _under_way(study, roles)
            if st.button("Stop", icon=":material/stop:", key=keys.of("stop_interventions")):
                stop(study)
        elif n_left:
            words = {"failed": "The last run failed.", "interrupted": "The last run was stopped."}
            show(
                f"{words.get(last.state, '') if last else ''} {n_left:,} units (a problem under an arm) are"
                " left to do.".strip()
            )
            if last_words := _last_words(study):
                with st.expander("What the last run said", expanded=last is not None and last.state == "failed"):
                    show_exactly(last_words)
            if st.button("Go on", icon=":material/play_arrow:", key=keys.of("continue_interventions")):
                start(study)
                selection.rerun()

    seen = _moment(study)
    keys.fragment(draw, run_every=_LOOK_EVERY if seen[1] else None)()


def _under_way(study: Path, roles: Mapping[str, str]) -> None:
    """Samples that have ended in units that are not whole yet, so that nobody has to wait for all of a unit to see
    some.
    """
    kept = Interventions(study)
    found = kept.under_way()
    if found.empty:
        return
    arms = kept.arms().drop_duplicates("arm_id").set_index("arm_id")
    known = found[found["arm_id"].isin(arms.index)]
    shown = pd.DataFrame(
        {
            "model": arms["model_id"].reindex(known["arm_id"]).map(lambda name: roles.get(name, "another")).tolist(),
            "arm": arms["arm"].reindex(known["arm_id"]).tolist(),
            "problem": known["problem_id"].tolist(),
            "sample": known["sample"].tolist(),
            "answer": [one_line(str(answer or "none"), 60) for answer in known["answer"]],
            "ended": [FINISHES.get(finish, finish) for finish in known["finish"]],
            "tokens in all": known["n_tokens"].tolist(),
        }
    )
    st.caption(
        f"{len(shown)} samples have ended in units that are not whole yet; they are judged and kept with the rest of"
        " their unit."
    )
    data_table(shown, hide_index=True, row_height=28, height=min(40 + 28 * len(shown), 240), key=keys.of("under_way"))


def _moment(study: Path) -> tuple[int, bool, int]:
    """Units done, whether somebody is at it, units left."""
    kept = Interventions(study)
    done = kept.done()
    return len(done), is_running(study), len(left(kept.asked(), kept.arms(), done))


def _last_words(study: Path) -> str:
    log = Interventions(study).room.path / LOG
    lines = log.read_text(encoding="utf-8", errors="replace").rstrip().splitlines() if log.is_file() else []
    return "\n".join(lines[-_LAST_WORDS:])


@st.cache_resource(show_spinner=False)
def _started() -> dict[Path, subprocess.Popen[bytes]]:
    """The last process that this dashboard started for each study."""
    return {}
