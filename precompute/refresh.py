"""A pack whose derived tables are computed anew from its own stored rows: what a changed rule says of them. No language
model is needed, and nothing is sampled; the stage resilience embeds sentences of stored rollouts.

1. The pack is unpacked into a portable file in a scratch folder.
2. Each stage asked for lists its units of the study that the last run stored, and computes them all. The tables that it
   fills are emptied first; stages that fill one table are asked for together, so that none loses the rows of another.
3. The pack gets the new tables and one more row of `runs`. Files of other tables stay as they are.

The same command gives the same tables again: seeds are those of the study.
"""

import contextlib
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from pydantic import ValidationError

from backend.errors import AnchorscopeError
from backend.ids import stable_id
from backend.schema.tables import TABLES
from backend.store.packed import repack, unpack
from backend.store.publish import insert_rows
from backend.store.store import Store
from backend.store.unit_files import arrow_rows
from precompute.pipeline import run_row
from precompute.rules import units_of
from precompute.stages import evidence, importance, resilience
from precompute.study import Study, stored_study
from precompute.terminal import Console, progress_bar
from precompute.units import Context, Stage

# Stages that rest on stored rows alone, in the order in which they run, with the tables they fill.
FILLS: dict[str, tuple[Stage, tuple[str, ...]]] = {
    importance.NAME: (importance, ("answer_clusters", "importance")),
    resilience.NAME: (resilience, ("importance",)),
    evidence.NAME: (evidence, ("associations",)),
}


def refresh(pack: Path, names: Sequence[str], console: Console) -> list[str]:
    """Compute the stages of `names` anew and pack the study again. Returns the tables whose files changed.

    Raises AnchorscopeError for a stage that is not among FILLS, or that shares a table with one that was not asked for,
    and for a pack whose last run has no study that this version understands; then the pack is as it was.
    """
    chosen = _chosen(names)
    with tempfile.TemporaryDirectory(prefix="refresh-") as scratch:
        file = unpack(pack, Path(scratch) / "study.duckdb")
        study = _study(file, pack)
        run = run_row(
            stable_id("r", study.name, datetime.now(UTC).isoformat()),
            "refresh",
            study.name,
            study.seed,
            study.model_dump_json(),
        )
        emptied: set[str] = set()
        for name in chosen:
            stage, fills = FILLS[name]
            rows = _computed(stage, study, file, run, console)
            with duckdb.connect(str(file)) as connection:
                for table in fills:
                    if table not in emptied:
                        connection.execute(f"DELETE FROM {table}")
                    insert_rows(connection, table, rows.get(table, TABLES[table].arrow.empty_table()))
            emptied |= set(fills)
        with duckdb.connect(str(file)) as connection:
            insert_rows(connection, "runs", arrow_rows("runs", [run]))
        with contextlib.closing(Store(file)) as store:
            tables = {table: store.whole_table(table) for table in TABLES if table in emptied | {"runs"}}
        rules = {name: FILLS[name][0].RULE for name in chosen}
        return repack(pack, tables, published_at=run["started_at"].isoformat(timespec="seconds"), rules=rules)


def _chosen(names: Sequence[str]) -> list[str]:
    if strangers := [name for name in names if name not in FILLS]:
        raise AnchorscopeError(
            f"{strangers[0]!r} cannot be computed from stored rows alone; expected some of {', '.join(FILLS)}."
        )
    if not names:
        raise AnchorscopeError(f"No stage was asked for; expected some of {', '.join(FILLS)}.")
    for name in names:
        for other, (_, tables) in FILLS.items():
            if other not in names and (shared := set(tables) & set(FILLS[name][1])):
                raise AnchorscopeError(
                    f"The stages {name} and {other} both fill the table {shared.pop()}; ask for both."
                )
    return [name for name in FILLS if name in names]


def _study(file: Path, pack: Path) -> Study:
    """The study of the pack's last run."""
    with contextlib.closing(Store(file)) as store:
        runs = store.whole_table("runs").sort_by("started_at").to_pylist()
    stored = [run["parameters"] for run in runs if run["command"] in ("run", "refresh")]
    if not stored:
        raise AnchorscopeError(f"{pack} holds no run of a study file, so nothing says how its stages are computed.")
    try:
        return stored_study(stored[-1])
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise AnchorscopeError(
            f"The study of the last run in {pack} is not one of this version: {where}: {first['msg']}."
        ) from error


def _computed(stage: Stage, study: Study, file: Path, run: dict[str, Any], console: Console) -> dict[str, pa.Table]:
    """Rows of every unit of the stage, by table."""
    made: dict[str, list[pa.Table]] = {}

    def warn(sentence: str) -> None:
        console.print(f"  warning: {sentence}", markup=False, highlight=False)
        run["warnings"].append(sentence)

    with contextlib.closing(Store(file)) as store, progress_bar(console) as bar:
        context = Context(study, run["run_id"], store, console.print, warn)
        units = units_of(stage, context)
        task = bar.add_task(stage.NAME, total=len(units), completed=0, unit=stage.UNIT, rate="")
        for done, finished in enumerate(stage.compute(context, units), start=1):
            for table, rows in finished.tables.items():
                made.setdefault(table, []).append(arrow_rows(table, rows))
            bar.update(task, completed=done)
    return {table: pa.concat_tables(parts) for table, parts in made.items()}
