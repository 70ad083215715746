"""A pack whose tables are computed anew, or for the first time, from its own stored rows: what a changed rule says of
them, and what a stage that came in since adds. Nothing that was sampled is sampled again.

1. The pack is unpacked into a portable file in a scratch folder. The study is that of its last run, or of a study file
   that asks for more.
2. Each stage asked for lists its units and computes those that it has not: finished units stand in a folder of their
   own (stores/.refresh-NAME-…) until the end, so that a command that was killed goes on where it was.
3. The tables whose words name the stage (backend/schema/tables.py) are emptied and filled; stages that fill one table
   are asked for together, so that none loses the rows of another. What else a stage makes replaces rows of equal keys.
4. The pack gets the new tables and one more row of `runs`. Files of other tables stay as they are.

The same command gives the same tables again: seeds are those of the study. What rests on a pack's vectors rests on
float16 ones.
"""

import contextlib
import shutil
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
from backend.schema.migrations import upgraded
from backend.schema.provenance import OF_A_STUDY_FILE
from backend.schema.tables import TABLES
from backend.store import dictionaries
from backend.store.packed import digest_of, repack, require_tables, unpack
from backend.store.publish import insert_rows, replace_rows
from backend.store.store import Store
from backend.store.unit_files import StudyFolder, Writer, arrow_rows
from precompute.engines.local import Local
from precompute.pipeline import run_row
from precompute.rules import rule_of, units_of
from precompute.stages import STAGES, chunks, cots, crosscoder, problems, rollouts, tokens, training
from precompute.study import Study, stored_study
from precompute.terminal import Console, progress_bar
from precompute.units import Context, Stage

# What all else rests on: it is sampled, cut or trained once, by `run`.
_BEGUN = frozenset(stage.NAME for stage in (problems, cots, tokens, training, chunks, rollouts, crosscoder))
_ALSO = {  # tables of a stage that have no words of their own
    "importance": ("answer_clusters", "importance_given"),
    "causation": ("causation_samples", "causation_effects"),
    "curves": ("curves", "curve_points"),
    "influence": ("chunk_influences",),
    "paths": ("path_steps", "path_outcomes"),
    "attention": ("head_attention",),
    "receivers": ("receiver_reliability", "received_attention"),
    "parallelograms": (
        "word_classes",
        "word_readings",
        "parallelogram_comparisons",
        "parallelogram_examples",
        "feature_quadruple_searches",
        "feature_quadruples",
    ),
}


_OF_SEVERAL = ("lenses",)  # tables whose rows are of several stages' things: rows of equal keys are replaced alone


def _fills(stage: Stage) -> tuple[str, ...]:
    """The tables that are the stage's, alone or with others."""
    own = (name for name, table in TABLES.items() if stage.NAME in {filled.stage for filled in table.filled})
    return (*(name for name in own if name not in _OF_SEVERAL), *_ALSO.get(stage.NAME, ()))


# Stages that can be computed from what a pack holds, in the order in which they run, with the tables they fill.
FILLS: dict[str, tuple[Stage, tuple[str, ...]]] = {
    stage.NAME: (stage, _fills(stage)) for stage in STAGES if stage.NAME not in _BEGUN
}


def refresh(
    pack: Path, names: Sequence[str], console: Console, *, study: Study | None = None, without: Sequence[str] = ()
) -> list[str]:
    """Compute the stages of `names` anew and pack the study again, but for the tables of `without`; `study` is what is
    asked for where it is not what the pack's last run stored. Returns the tables whose files changed.

    Raises AnchorscopeError for a stage that is not among FILLS, or that shares a table with one that was not asked for,
    and for a pack whose last run has no study that this version understands; then the pack is as it was.
    """
    chosen = _chosen(names)
    require_tables(without)
    with tempfile.TemporaryDirectory(prefix="refresh-") as scratch:
        file = unpack(pack, Path(scratch) / "study.duckdb")
        wanted = study or _study(file, pack)
        run = run_row(
            stable_id("r", wanted.name, datetime.now(UTC).isoformat()),
            "refresh",
            wanted.name,
            wanted.seed,
            wanted.model_dump_json(),
        )
        kept = StudyFolder(Path("stores") / f".refresh-{wanted.name}-{digest_of(pack)[:12]}")
        changed = {"runs"}
        with kept.writing(f"refresh {pack}") as writer:
            _lend(Path("stores") / f"{wanted.name}.duckdb", file)
            for name in chosen:
                stage, fills = FILLS[name]
                rows = _computed(stage, wanted, file, run, writer, console)
                _lend(kept.path, file)
                _fill(file, rows, [table for table in fills if table not in changed])
                changed |= {*fills, *rows}
            with duckdb.connect(str(file)) as connection:
                insert_rows(connection, "runs", arrow_rows("runs", [run]))
            with contextlib.closing(Store(file)) as store:
                tables = {table: store.whole_table(table) for table in TABLES if table in changed}
            tables |= {table: TABLES[table].arrow.empty_table() for table in without}
            rules = {name: FILLS[name][0].RULE for name in chosen}
            made = repack(pack, tables, published_at=run["started_at"].isoformat(timespec="seconds"), rules=rules)
            _hand_over(kept.path, wanted.name, console)
        shutil.rmtree(kept.path)
        return made


def _lend(study: Path, file: Path) -> None:
    """Stages find beside `file` what is among the dictionaries of `study` and travels with no pack."""
    for folder in dictionaries.folders_in(study):
        place = dictionaries.beside(file) / folder.name
        if not place.exists():
            place.parent.mkdir(exist_ok=True)
            place.symlink_to(folder.resolve(), target_is_directory=True)


def _hand_over(study: Path, name: str, console: Console) -> None:
    """Weights that were trained for this and have no place in the pack, to where the pack is opened from."""
    target = dictionaries.beside(Path("stores") / f"{name}.duckdb")
    made = [dictionaries.copy_files(folder, target) for folder in dictionaries.folders_in(study)]
    if made:
        console.print(f"  the weights of {len(made)} dictionaries that the pack does not hold are in {target}")


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
    stored = [run["parameters"] for run in runs if run["command"] in OF_A_STUDY_FILE]
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


def _computed(
    stage: Stage, study: Study, file: Path, run: dict[str, Any], writer: Writer, console: Console
) -> dict[str, pa.Table]:
    """Rows of every unit of the stage, by table."""

    def warn(sentence: str) -> None:
        console.print(f"  warning: {sentence}", markup=False, highlight=False)
        run["warnings"].append(sentence)

    with contextlib.closing(Store(file)) as store, progress_bar(console) as bar:
        engine = Local(study.engine.workers, study.engine.threads)
        context = Context(study, run["run_id"], store, console.print, warn, engine, writer.folder.path)
        units = units_of(stage, context)
        writer.keep_only(stage.NAME, {unit.key for unit in units})
        done = writer.ledger.keys(stage.NAME)
        todo = [unit for unit in units if unit.key not in done]
        task = bar.add_task(stage.NAME, total=len(units), completed=len(units) - len(todo), unit=stage.UNIT, rate="")
        for finished in stage.compute(context, todo) if todo else ():
            writer.add(stage.NAME, finished.unit.key, finished.tables, rule=rule_of(stage))
            bar.advance(task)
    return {table: pa.concat_tables(parts) for table, parts in _kept(stage, writer).items()}


def _kept(stage: Stage, writer: Writer) -> dict[str, list[pa.Table]]:
    """What the stage's units hold, by table, in the order in which they were finished."""
    found: dict[str, list[pa.Table]] = {}
    for line in writer.ledger.live.values():
        for unit_file in line.files if line.stage == stage.NAME else ():
            rows = upgraded(unit_file.table, writer.folder.read(unit_file), line.schema)
            found.setdefault(unit_file.table, []).append(rows.replace_schema_metadata(None))
    return found


def _fill(file: Path, made: dict[str, pa.Table], emptied: Sequence[str]) -> None:
    """Empty these tables, and put the rows in; of rows of one key the last stands."""
    with duckdb.connect(str(file)) as connection:
        connection.execute("BEGIN")
        for table in emptied:
            connection.execute(f'DELETE FROM "{table}"')
        for table, rows in made.items():
            replace_rows(connection, table, rows)
        connection.execute("COMMIT")
