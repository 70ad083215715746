"""Stages brought up to what a study holds now, in this process and without a word: what notebooks do."""

import contextlib
from collections.abc import Sequence

from backend.store.publish import publish
from backend.store.store import Store
from backend.store.unit_files import Writer
from precompute.rules import rule_of, units_of
from precompute.study import Study
from precompute.terminal import Console
from precompute.units import Context, Stage


def bring_up(writer: Writer, study: Study, stages: Sequence[Stage], run_id: str) -> None:
    """Compute what the stages lack of the study, in this process, and publish after each."""
    for stage in stages:
        with contextlib.closing(Store(writer.folder.path)) as store:
            context = Context(study, run_id, store, Console(quiet=True).print)
            wanted = units_of(stage, context)
            done = writer.ledger.keys(stage.NAME)
            todo = [unit for unit in wanted if unit.lacking(done) is not None]
            for made in stage.compute(context, todo) if todo else ():
                writer.add(stage.NAME, made.unit.key, made.tables, provenance=made.provenance, rule=rule_of(stage))
            writer.keep_only(stage.NAME, {key for unit in wanted for key in unit.keys(writer.ledger.keys(stage.NAME))})
        publish(writer)
