"""Where live runs are kept beside a study, and what of them counts among the study's own rows at once: the rollouts
that were drawn later at one chunk (`added`, `added_rollouts`).

They lie in the ledger of `experiments`. A published generation has those of its moment; `added_since` reads what the
ledger has now, so that a reader of the generation has them as soon as their line is written.
"""

import contextlib
import functools
from pathlib import Path

import pyarrow as pa

from backend.schema.migrations import upgraded
from backend.store.unit_files import DamagedFile, StudyFolder, UnitLine

ADDED = "added"  # the stage, and the table of the drawings
ADDED_TABLES = (ADDED, "added_rollouts")


def ledger_of(study: Path) -> StudyFolder:
    """Where the study's experiments are.

    The manifest has a name of its own, so that nobody takes the folder for a study.
    """
    return StudyFolder(beside(study) if study.is_file() else study / "experiments", manifest="experiments.jsonl")


def beside(file: Path) -> Path:
    """The folder for the experiments of a portable file."""
    return file.with_suffix(".experiments")


def unit_of(folder: StudyFolder, line: UnitLine) -> dict[str, pa.Table]:
    """All rows of one unit, by table; none for one that was deleted.

    Raises DamagedFile when any of its files is damaged.
    """
    return {
        file.table: upgraded(file.table, folder.read(file).replace_schema_metadata(None), line.schema)
        for file in line.files
    }


@functools.lru_cache(maxsize=8192)
def remembered(folder: Path, line: UnitLine) -> dict[str, pa.Table]:
    """All rows of a small unit, read once: the sha256 in `line` makes it safe. Raises DamagedFile."""
    return unit_of(StudyFolder(folder), line)


def added_since(study: Path) -> tuple[list[str], dict[str, pa.Table]]:
    """Ids of the drawings that the ledger knows, and their rows by table; a damaged one has none."""
    folder = ledger_of(study)
    try:
        found = folder.manifest.stat()
    except OSError:  # there is no ledger, or it cannot be looked at: the generation stands as it is
        return [], {}
    return _added(folder.path, folder.manifest.name, found.st_mtime_ns, found.st_size)


@functools.lru_cache(maxsize=8)
def _added(path: Path, manifest: str, changed: int, size: int) -> tuple[list[str], dict[str, pa.Table]]:
    folder, parts = StudyFolder(path, manifest=manifest), dict[str, list[pa.Table]]()
    lines = [line for (stage, _), line in folder.ledger().live.items() if stage == ADDED]
    for line in lines:
        with contextlib.suppress(DamagedFile):
            for table, rows in remembered(path, line).items():
                parts.setdefault(table, []).append(rows)
    return [line.key for line in lines], {table: pa.concat_tables(rows) for table, rows in parts.items()}
