"""From a study file to a store: stage after stage, each unit durable as soon as it is finished.

1. A stage lists every unit the study asks for. Units that an earlier version of the study asked for are retired (kept,
   not shown).
2. What lacks a line in the manifest is computed, unit by unit, and written at once.
3. The store is published at the end of each stage, and every PUBLISH_EVERY seconds within one.

Nothing else remembers progress: a run that was killed goes on with the same command, and a finished one does nothing.
"""

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from backend.ids import stable_id
from backend.schema.migrations import WrongSchema
from backend.schema.provenance import commit, versions
from backend.store.costs import PUBLISHING, Cost, Measured, Meter, note
from backend.store.progress import Progress as Moment
from backend.store.progress import State, read_progress, write_progress
from backend.store.publish import holds_all, left_out, publish
from backend.store.store import NoStore, Store, generation_of
from backend.store.unit_files import StudyFolder, Writer
from precompute.engines.local import Local
from precompute.rules import raised, rule_of, units_of
from precompute.study import Study
from precompute.terminal import Console, ours, progress_bar
from precompute.units import Context, Stage, Unit
from precompute.usable import require_usable

PUBLISH_EVERY = 15.0  # seconds


@dataclass(frozen=True)
class Work:
    """A stage's units: all that the study asks for, those without a line, and how many count again."""

    wanted: Sequence[Unit]
    todo: Sequence[Unit]
    restored: int

    def done(self, keys: set[str]) -> int:
        return sum(unit.lacking(keys) is None for unit in self.wanted)


def run_study(
    study: Study,
    folder: StudyFolder,
    *,
    stages: Sequence[Stage],
    only: str | None = None,
    wait: bool = False,
    console: Console | None = None,
) -> None:
    """Compute what the study lacks. `only` names one stage; the stages before it must be finished for it to see their
    rows.

    Raises AnchorscopeError, before anything runs, for a model that cannot be used; StudyBusy when another process holds
    the study (unless `wait`); and whatever a stage raises: finished units stay.
    """
    require_usable(study)
    console = ours(console)
    with folder.writing(f"run {study.name}", wait=wait) as writer:
        runner = _Runner(study, folder, writer, console)
        try:
            for stage in stages:
                if runner.predates(stage):
                    runner.run_stage(stage)
            for stage in stages:
                if only in (None, stage.NAME):
                    runner.run_stage(stage)
            runner.finish("finished")
        except KeyboardInterrupt:
            runner.finish("interrupted")
            raise
        except BaseException:  # whatever ended the run, the page must not go on saying that it runs; it is raised again
            runner.finish("failed")
            raise


class _Runner:
    """One command's way through the stages."""

    def __init__(self, study: Study, folder: StudyFolder, writer: Writer, console: Console):
        self.study, self.folder, self.writer, self.console = study, folder, writer, console
        self.run_id = stable_id("r", study.name, datetime.now(UTC).isoformat())
        self.run: dict[str, Any] = {}  # this command's row of table runs, once it has something to do
        self.moment: Moment | None = None
        self.work = Work((), (), 0)  # of the stage that runs
        self.published = Measured(0, 0.0, 0.0)  # what publishing took while the stage ran
        for line in writer.found:
            console.print(f"  unit {line.key} of {line.stage} was lost, and its files are back: it counts again")
        self.store = self._opened()

    def predates(self, stage: Stage) -> bool:
        """Whether what rests on the sets that this stage freezes is older than they are: then they are what the study
        holds now, before anything is added.
        """
        keys = self.writer.ledger.keys
        return any(keys(name) for name in getattr(stage, "FREEZES", ())) and not keys(stage.NAME)

    def run_stage(self, stage: Stage) -> None:
        engine = Local(self.study.engine.workers, self.study.engine.threads)
        context = Context(self.study, self.run_id, self.store, self.console.print, self._warn, engine)
        self.published = Measured(0, 0.0, 0.0)
        work = self._work(stage, context)
        if work.restored:  # what is computed may go on from rows that count again
            self._republish()
            context.store = self.store
        if work.todo:
            self._record_run()
            before = len(work.wanted) - len(work.todo)
            try:
                self._compute(stage, context, work)
            finally:
                self._note(stage.NAME, self.work.done(self.writer.ledger.keys(stage.NAME)) - before, context.meter)
        else:
            self.console.print(f"  {stage.NAME:<12} {len(work.wanted)} {stage.UNIT} units, all done")
        self._republish()

    def _note(self, stage: str, units: int, meter: Meter) -> None:
        """What a stage took, without the publishing meanwhile, which has a line of its own."""
        device = self.study.engine.device
        cpu, seconds = meter.cpu_seconds() - self.published.cpu_seconds, meter.seconds() - self.published.seconds
        note(self.folder.path, Cost(self.run_id, stage, units, max(cpu, 0.0), max(seconds, 0.0), device))

    def _republish(self) -> None:
        """Publish what is not, and read the newest from now on."""
        with suppress(NoStore):
            if generation_of(self.folder.path) == self.store.generation and holds_all(self.store, self.folder):
                return
        self.store.close()
        self.store = self._opened()

    def _opened(self) -> Store:
        """The newest generation, which holds everything."""
        with suppress(NoStore, WrongSchema):
            store = Store(self.folder.path)
            if holds_all(store, self.folder):
                return store
            store.close()
        self._publish()
        return Store(self.folder.path)

    def finish(self, state: State) -> None:
        """The last words. What is said here is never worth an error:
        it would stand before the one that ended the run."""
        with suppress(Exception):
            self.store.close()
        with suppress(Exception):
            moment = self.moment
            if moment is None:  # what a killed run left to say, where there was nothing left to do
                moment = read_progress(self.folder.path)
            elif state != "finished":  # it may have been stopped between a unit's line and the word of it
                moment = replace(moment, done=self.work.done(self.folder.ledger().keys(moment.stage)))
                self.console.print(
                    f"  {moment.stage:<12} {state} at {moment.done} of {moment.total} units; "
                    f"{moment.done} are kept, and all of the stages before"
                )
            if moment is not None:
                write_progress(self.folder.path, replace(moment, state=state, updated_at=time.time()))

    def _work(self, stage: Stage, context: Context) -> Work:
        wanted = units_of(stage, context)
        ledger = self.writer.ledger
        whole = {key for lines in (ledger.live, ledger.retired) for of, key in lines if of == stage.NAME}
        keys = {key for unit in wanted for key in unit.keys(whole)}
        older = raised(stage, wanted, ledger.all_keys(stage.NAME))
        retired, restored = self.writer.keep_only(stage.NAME, keys)
        if older:
            self.console.print(f"  {stage.NAME:<12} {older.in_words()}")
        if retired:
            self.console.print(
                f"  {stage.NAME:<12} {retired} units of an earlier study file, model or rule are kept on disk,"
                " not shown"
            )
        if restored:
            self.console.print(f"  {stage.NAME:<12} {restored} units computed earlier are shown again")
        done = self.writer.ledger.keys(stage.NAME)
        todo = [left for unit in wanted if (left := unit.lacking(done)) is not None]
        self.work = Work(wanted, todo, restored)
        return self.work

    def _compute(self, stage: Stage, context: Context, work: Work) -> None:
        before, total = len(work.wanted) - len(work.todo), len(work.wanted)
        started = published = time.monotonic()
        self._show(stage, before, total, None)
        with progress_bar(self.console) as bar:
            task = bar.add_task(stage.NAME, total=total, completed=before, unit=stage.UNIT, rate="")
            for done, finished in enumerate(stage.compute(context, work.todo), start=1):
                provenance = {"run_id": self.run_id, "inputs": finished.unit.key.split("@")[1], **finished.provenance}
                self.writer.add(
                    stage.NAME, finished.unit.key, finished.tables, provenance=provenance, rule=rule_of(stage)
                )
                rate = done / max(time.monotonic() - started, 1e-9)
                bar.update(task, completed=before + done, rate=f"{rate:.2f} {stage.UNIT} units/s")
                self._show(stage, before + done, total, rate)
                if time.monotonic() - published > PUBLISH_EVERY:
                    self._publish()
                    published = time.monotonic()

    def _show(self, stage: Stage, done: int, total: int, rate: float | None) -> None:
        left = (total - done) / rate if rate else None
        self.moment = Moment(stage.NAME, done, total, rate, left, "running", time.time()).by_this_process()
        write_progress(self.folder.path, self.moment)

    def _record_run(self) -> None:
        if not self.run:
            self.run = run_row(self.run_id, "run", self.study.name, self.study.seed, self.study.model_dump_json())
            self.writer.add("runs", self.run_id, {"runs": [self.run]})

    def _warn(self, sentence: str) -> None:
        """Say it, and keep it with the run."""
        self.console.print(f"  warning: {sentence}", markup=False, highlight=False)
        self._record_run()
        self.run["warnings"].append(sentence)
        self.writer.add("runs", self.run_id, {"runs": [self.run]})

    def _publish(self) -> None:
        meter = Meter()
        for line in publish(self.writer):
            self.console.print(f"  {left_out(self.folder, line)}")
        took = Measured(1, meter.cpu_seconds(), meter.seconds())
        self.published += took
        note(self.folder.path, Cost(self.run_id, PUBLISHING, took.units, took.cpu_seconds, took.seconds, "cpu"))


def run_row(
    run_id: str, command: str, study: str, seed: int | None, parameters: str, warnings: Sequence[str] = ()
) -> dict[str, Any]:
    """A row of table runs for a command that starts now."""
    return {
        "run_id": run_id,
        "command": command,
        "study": study,
        "started_at": datetime.now(UTC).replace(tzinfo=None),
        "seed": seed,
        "parameters": parameters,
        "versions": json.dumps(versions()),
        "commit": commit(),
        "warnings": list(warnings),
    }


def default_folder(study: Study) -> StudyFolder:
    return StudyFolder(Path("stores") / study.name)
