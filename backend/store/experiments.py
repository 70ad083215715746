"""Live runs, kept beside a study: at once, whoever is writing to the study itself, and never by halves.

1. They have a ledger of their own, with its own manifest and lock: `STUDY/experiments/`, or `NAME.experiments/` beside
   a portable `NAME.duckdb`. A pipeline may hold the study for hours; this lock is held for the milliseconds of a write.
2. An experiment is one unit: its row and its samples become Parquet files, then one line makes both count. Kept again
   under the same id, it gets new files and a new line; the line before counts until then.
3. A line without files says that an experiment was deleted. So rows of a portable file, which is never written to, can
   be deleted too.
4. `publish` and `export` take the ledger in. Readers here need neither: they see a run as soon as its line is written.

Interventions on features lie in the same ledger (`interventions`), and so do rollouts that were drawn later at one
chunk (`beside`), which every reader of the study counts among its own, and named vectors, their audits and typed texts
(`library`).
"""

import contextlib
import functools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from backend.errors import AnchorscopeError
from backend.root import PRECOMPUTE
from backend.schema.tables import TABLES
from backend.store.beside import ADDED, ledger_of, remembered, unit_of
from backend.store.lines import why_not_kept
from backend.store.store import NoStore, Store
from backend.store.unit_files import DamagedFile, StudyBusy, StudyFolder, UnitLine, Writer, arrow_rows

STAGE = "experiments"
KEPT_TABLES = {  # all that is kept here, and in SQL the key of the unit that a row is of
    "experiments": "experiment_id",
    "experiment_samples": "experiment_id",
    "experiment_thoughts": "experiment_id",
    "feature_interventions": "intervention_id",
    "feature_intervention_arms": "intervention_id",
    "feature_intervention_samples": "arm_id || '.' || problem_id",
    "added": "added_id",
    "added_rollouts": "added_id",
    "feature_intervention_thoughts": "arm_id || '.' || problem_id",
    "vectors": "vector_id",
    "vector_audits": "audit_id",
    "typed_texts": "text_id",
}
PATIENCE = 10.0  # seconds to wait for another run to be written

_STRIP = (
    "experiment_id",
    "kind",
    "created_at",
    "cot_id",
    "chunk_id",
    "model",
    "sentence",
    "beta",
    "layers",
    "state",
    "seconds",
    "seed",
)


class NotKept(AnchorscopeError):
    """The ledger of experiments could not be written; it is as it was before."""


@dataclass(frozen=True)
class Kept:
    """Everything kept beside a study at one moment."""

    tables: dict[str, pa.Table]  # those of KEPT_TABLES, in key order
    damaged: tuple[UnitLine, ...]  # lines whose files are damaged: they are not in `tables`
    manifest_bytes: int  # of the ledger, at that moment


class Experiments:
    """The experiments of the study at `study`, a folder or a portable file, read anew at every call."""

    def __init__(self, study: Path | str):
        self.study = Path(study)
        self.folder = ledger_of(self.study)

    def keep(
        self,
        experiment: Mapping[str, Any],
        samples: Sequence[Mapping[str, Any]] = (),
        thoughts: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Keep a run with its samples, and where their tokens went; when this returns it survives a kill and a power
        cut. The same id again replaces it.

        Raises NotKept where the ledger cannot be written, AnchorscopeError where rows do not have the columns of the
        schema, and ValueError for samples of another experiment or two of one key.
        """
        tables = {"experiments": arrow_rows("experiments", [experiment])}
        if samples:
            tables["experiment_samples"] = arrow_rows("experiment_samples", samples)
        if thoughts:
            tables["experiment_thoughts"] = arrow_rows("experiment_thoughts", thoughts)
        name = experiment["experiment_id"]
        if strangers := {row["experiment_id"] for row in (*samples, *thoughts)} - {name}:
            raise ValueError(f"samples of {sorted(strangers)} given with experiment {name}")
        if len({(sample["arm"], sample["beta"], sample["sample"]) for sample in samples}) < len(samples):
            raise ValueError(f"experiment {name} has two samples of the same arm, beta and number")
        with self.writing("keep a run") as writer:
            writer.add(STAGE, name, tables)

    def add_rollouts(self, drawing: Mapping[str, Any], rollouts: Sequence[Mapping[str, Any]]) -> None:
        """Keep a drawing of more rollouts at one chunk, whole or not at all: they count among the study's own at once.

        Raises NotKept as `keep` does, and ValueError for rollouts of another drawing or two of one id.
        """
        name = drawing["added_id"]
        if strangers := {rollout["added_id"] for rollout in rollouts} - {name}:
            raise ValueError(f"rollouts of {sorted(strangers)} given with drawing {name}")
        if len({rollout["rollout_id"] for rollout in rollouts}) < len(rollouts):
            raise ValueError(f"drawing {name} has two rollouts of one id")
        tables = {ADDED: arrow_rows(ADDED, [drawing]), "added_rollouts": arrow_rows("added_rollouts", rollouts)}
        with self.writing("keep rollouts") as writer:
            writer.add(ADDED, name, tables)

    def why_not_kept(self) -> str | None:
        """What to do so that something can be kept here; None where nothing is known that would prevent it."""
        why = why_not_kept(self.folder.path)
        return why and f"What is drawn here cannot be kept, and is shown until the dashboard ends: {why}"

    def delete(self, experiment_id: str) -> None:
        """The experiment is no longer shown, published or exported; one that is not there stays so. Raises NotKept."""
        line = self.folder.ledger().live.get((STAGE, experiment_id))
        known = line.files if line is not None else self.published("experiments", [experiment_id]).num_rows
        if known:
            with self.writing("delete a run") as writer:
                writer.add(STAGE, experiment_id, {})

    def get(self, experiment_id: str) -> dict[str, Any] | None:
        """The experiment's row, unknown as None, `vector` a float32 array; None where there is none, or its files are
        damaged.
        """
        rows = self._rows("experiments", experiment_id).to_pylist()
        if not rows:
            return None
        vector = rows[0]["vector"]
        return rows[0] | {"vector": None if vector is None else np.asarray(vector, np.float32)}

    def samples(self, experiment_id: str) -> pd.DataFrame:
        """The experiment's samples in key order: arm, beta, sample; with n_thinking, n_answer and thought, unknown of
        runs that were kept before these were counted.
        """
        return with_thoughts(
            "experiment_samples",
            self._rows("experiment_samples", experiment_id),
            self._rows("experiment_thoughts", experiment_id),
        )

    def history(self, cot_id: str | None = None, limit: int = 50) -> pd.DataFrame:
        """The newest experiments first, of one CoT or of all: what a list of them shows, without texts, results and
        vectors.
        """
        lines = self.lines(STAGE).values()
        parts = [self.published("experiments", columns=_STRIP, but=lines)]
        for line in lines:
            with contextlib.suppress(DamagedFile):
                parts.append(_strip(self.folder.path, line))
        rows = pa.concat_tables(parts)
        if cot_id is not None:
            rows = rows.filter(pc.equal(rows["cot_id"], cot_id))
        return _frame(rows.sort_by([("created_at", "descending"), ("experiment_id", "ascending")]).slice(0, limit))

    def everything(self) -> Kept:
        """All tables whole: what publishing and exporting take in."""
        size = self.folder.manifest_bytes()  # first: what is kept while this reads is for the next time
        lines, damaged, units = list(self.folder.ledger().live.values()), [], []
        for line in lines:
            try:
                units.append(unit_of(self.folder, line) if line.stage == STAGE else remembered(self.folder.path, line))
            except DamagedFile:
                damaged.append(line)
        tables = {}
        for table in KEPT_TABLES:
            rows = [unit[table] for unit in units if table in unit]
            tables[table] = _in_key_order(table, pa.concat_tables([*rows, self.published(table, but=lines)]))
        return Kept(tables, tuple(damaged), size)

    def find_again(self) -> None:
        """Runs that were lost count again where their files are whole again. Raises NotKept."""
        if self.folder.ledger().lost:
            with self.writing("look for damaged runs again"):
                pass

    def forget(self, damaged: Sequence[UnitLine]) -> None:
        """Record units as lost, except those that were kept anew meanwhile. Raises NotKept."""
        with self.writing("record damaged runs") as writer:
            writer.forget([line for line in damaged if writer.ledger.live.get((line.stage, line.key)) == line])

    def _rows(self, table: str, experiment_id: str) -> pa.Table:
        line = self.folder.ledger().live.get((STAGE, experiment_id))
        if line is None:
            return self.published(table, [experiment_id])
        with contextlib.suppress(DamagedFile):
            return unit_of(self.folder, line).get(table, TABLES[table].arrow.empty_table())
        return TABLES[table].arrow.empty_table()

    # For what else is kept in the ledger

    def lines(self, stage: str) -> dict[str, UnitLine]:
        """The units of a stage that count, by key, in the order in which they were kept."""
        return {key: line for (of, key), line in self.folder.ledger().live.items() if of == stage}

    def units(self, table: str, stage: str, keys: Collection[str] | None = None) -> pa.Table:
        """The table's rows of some units of a stage, or of all, in key order; none of one that is damaged, or was
        forgotten.
        """
        lines = self.lines(stage)
        rows = [self.published(table, None if keys is None else list(keys), but=lines.values())]
        for key, line in lines.items():
            if keys is None or key in keys:
                with contextlib.suppress(DamagedFile):
                    rows += [unit[table]] if table in (unit := remembered(self.folder.path, line)) else []
        return _in_key_order(table, pa.concat_tables(rows))

    def published(
        self,
        table: str,
        keys: Sequence[str] | None = None,
        *,
        columns: Sequence[str] | None = None,
        but: Collection[UnitLine] = (),
    ) -> pa.Table:
        """Rows of a portable file, of some units or of all, but of none that the ledger has.

        A folder's generation has none of its own.
        """
        schema = TABLES[table].arrow
        schema = pa.schema([schema.field(name) for name in columns or schema.names])
        if not self.study.is_file():
            return schema.empty_table()
        names = ", ".join(f'"{name}"' for name in schema.names)
        with contextlib.closing(Store(self.study)) as store:
            return store.arrow(
                f'SELECT {names} FROM "{table}" WHERE ($keys IS NULL OR list_contains($keys::VARCHAR[],'
                f" {KEPT_TABLES[table]})) AND NOT list_contains($but::VARCHAR[], {KEPT_TABLES[table]})",
                keys=None if keys is None else list(keys),
                but=[line.key for line in but],
            ).cast(schema)

    @contextlib.contextmanager
    def writing(self, what: str) -> Iterator[Writer]:
        """The ledger, held by this process alone, for the milliseconds of a write.

        Raises NotKept, and NoStore without a study.
        """
        if not self.study.exists():
            build = f"{PRECOMPUTE} run STUDY.toml --store {self.study}"
            raise NoStore(f"Could not {what}: there is no study at {self.study}. Build it with `{build}`.")
        try:
            with self.folder.writing(what, patience=PATIENCE) as writer:
                yield writer
        except StudyBusy as error:
            raise NotKept(
                f"Could not {what}: another process has held {self.folder.path} for {PATIENCE:.0f} s. Try again."
            ) from error
        except OSError as error:
            raise NotKept(
                f"Could not {what}: {self.folder.path} cannot be written ({error.strerror or error}). Nothing was"
                " changed. Allow writing there, free space on the disk, or open a copy of the study that you may"
                " write to."
            ) from error


@functools.lru_cache(maxsize=4096)
def _strip(folder: Path, line: UnitLine) -> pa.Table:
    """What a list shows of an experiment: one row, none if it was deleted.

    The sha256 in `line` makes it safe to remember.
    """
    unit = unit_of(StudyFolder(folder), line)
    return unit["experiments"].select(_STRIP) if unit else TABLES["experiments"].arrow.empty_table().select(_STRIP)


def _in_key_order(table: str, rows: pa.Table) -> pa.Table:
    return rows.sort_by([(name, "ascending") for name in TABLES[table].key])


def with_thoughts(table: str, samples: pa.Table, thoughts: pa.Table) -> pd.DataFrame:
    """Rows of a table of samples, in its order, with n_thinking, n_answer and thought of each; unknown where it has
    none.
    """
    keys, rows = list(TABLES[table].key), _frame(_in_key_order(table, samples))
    # A sample of an edited text has no β: a join takes two unknown ones for equal, as the key does.
    return rows.merge(_frame(thoughts), on=keys, how="left", validate="one_to_one")


def _frame(rows: pa.Table) -> pd.DataFrame:
    """Integers as Int64: a column with an unknown one would become float64, which holds no seed above 2**53."""
    return rows.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
