"""From unit files to the DuckDB store that people open.

`publish` reads every unit that counts, checks it, and builds a new file `generations/gen-N.duckdb` (sorted by key, one
row a key, the newest unit winning), then moves the pointer `CURRENT` to it. A generation is never changed once the
pointer names it, so a reader needs no lock: it resolves the pointer and opens that name. Unit files that are damaged or
missing are recorded as lost and left out; the next run computes them, or takes them in again where their files are
back. Where the machine does not let files be read, nothing is built and nothing recorded. Beside a generation stands
its sha256 (`sha256sum -c` checks it), so that a run notices one that was damaged since.

Live runs, which have a ledger of their own (`experiments`), are taken in as they are at that moment.
"""

import contextlib
import functools
import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow as pa

from backend.root import PRECOMPUTE
from backend.schema.migrations import WrongSchema, upgraded
from backend.schema.tables import SCHEMA_VERSION, TABLES
from backend.store.beside import ADDED, ledger_of
from backend.store.experiments import STAGE, Experiments, Kept
from backend.store.store import NoStore, Store
from backend.store.unit_files import DamagedFile, StudyFolder, UnitLine, Writer, _sync_folder

_KEPT_GENERATIONS = 3  # a reader that has just resolved the pointer still finds its file
_EMPTY: dict[tuple[tuple[str, str], ...], bytes] = {}  # by their columns, a database of tables without rows


def publish(writer: Writer) -> list[UnitLine]:
    """Build the next generation and point to it.

    Returns the units and experiments found damaged (already recorded as lost).
    """
    folder = writer.folder
    experiments = Experiments(folder.path)
    experiments.find_again()
    kept = experiments.everything()
    folder.generations.mkdir(exist_ok=True)
    numbers = [int(path.stem[4:]) for path in folder.generations.glob("gen-*.duckdb") if path.stem[4:].isdecimal()]
    generation = folder.generations / f"gen-{max(numbers, default=0) + 1:06d}.duckdb"
    building = folder.generations / f"building-{os.getpid()}.duckdb"
    for leftover in folder.generations.glob("building-*"):  # of a process that was killed: the study is ours
        leftover.unlink()
    try:
        damaged = _build(writer, kept, building, generation)
    finally:  # what a full disk left half-made would keep it full
        with contextlib.suppress(OSError):
            for leftover in folder.generations.glob("building-*"):
                leftover.unlink()
    _sync_folder(folder.generations)
    _point(folder, generation)
    for old in sorted(folder.generations.glob("gen-*.duckdb"))[:-_KEPT_GENERATIONS]:
        old.unlink()
        digest_file(old).unlink(missing_ok=True)
    if damaged:
        writer.forget(damaged)
    if kept.damaged:
        experiments.forget(kept.damaged)
    return [*damaged, *kept.damaged]


def _build(writer: Writer, kept: Kept, building: Path, generation: Path) -> list[UnitLine]:
    """Make the generation, whole; returns the units that were found damaged or missing."""
    folder = writer.folder
    damaged: list[UnitLine] = []
    facts = {
        "schema_version": SCHEMA_VERSION,
        "study": folder.name,
        "generation": int(generation.stem[4:]),
        "published_at": datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="seconds"),
        "manifest_bytes": folder.manifest_bytes(),
        "experiments_bytes": kept.manifest_bytes,
        "rules": json.dumps(writer.ledger.rules()),
    }
    with new_database(building, facts) as connection:
        for table in TABLES:
            if table in kept.tables:
                insert_rows(connection, table, kept.tables[table])
            else:
                _fill(connection, table, list(_unit_tables(writer, table, damaged)))
    with open(building, "rb") as handle:
        os.fsync(handle.fileno())
    digest_file(generation).write_text(f"{_sha256(building)}  {generation.name}\n", encoding="utf-8")
    os.replace(building, generation)
    return damaged


def left_out(folder: StudyFolder, line: UnitLine) -> str:
    """A unit that `publish` found damaged or missing, in words: what it is and what makes it whole."""
    live = {STAGE: "steer", ADDED: "resample"}.get(line.stage)
    kept_in = ledger_of(folder.path) if live else folder
    state = "damaged" if all((kept_in.path / file.name).exists() for file in line.files) else "missing"
    again = f"{live} again to have it" if live else f"the next `{PRECOMPUTE} run` computes it again"
    return (
        f"{state} unit {line.key} of {line.stage} is left out; {again}, or bring its file back: then it counts as"
        " before"
    )


def digest_file(generation: Path) -> Path:
    return generation.with_name(generation.name + ".sha256")


def is_whole(generation: Path) -> bool:
    """Whether the generation is what was published, as far as that is known."""
    try:
        said = digest_file(generation).read_bytes()[:64]
    except FileNotFoundError:  # of before there were any
        return True
    found = generation.stat()
    return said == _digest_of(generation, found.st_mtime_ns, found.st_size).encode()


@functools.lru_cache(maxsize=8)
def _digest_of(generation: Path, changed: int, size: int) -> str:
    """Hashed once, while time of change and size stay."""
    return _sha256(generation)


def _sha256(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def is_published(folder: StudyFolder) -> bool:
    """Whether the pointer names a generation of today's schema that can be opened and holds every unit and experiment
    that counts.
    """
    try:
        store = Store(folder.path)
    except (NoStore, WrongSchema):
        return False
    with contextlib.closing(store):
        return holds_all(store, folder)


def holds_all(store: Store, folder: StudyFolder) -> bool:
    """Whether the generation that is open is the newest, of today's schema, whole, and holds every unit and experiment
    that counts.
    """
    if store.older is not None or store.later or store.widened or not is_whole(store.generation):
        return False
    experiments_bytes = store.frame("SELECT value FROM about WHERE name = 'experiments_bytes'")["value"].item()
    return (store.manifest_bytes, int(experiments_bytes)) == (
        folder.manifest_bytes(),
        ledger_of(folder.path).manifest_bytes(),
    )


def take_in_experiments(file: Path, kept: Kept) -> None:
    """Put all of `kept` into the two tables of a copied generation, in place of what it held."""
    with duckdb.connect(str(file)) as connection:
        connection.execute("BEGIN")
        for table, rows in kept.tables.items():
            connection.execute(f'DELETE FROM "{table}"')
            insert_rows(connection, table, rows)
        connection.execute("COMMIT")
        connection.execute("CHECKPOINT")


def _unit_tables(writer: Writer, table: str, damaged: list[UnitLine]) -> Iterator[pa.Table]:
    for order, line in enumerate(writer.ledger.live.values()):
        for file in line.files:
            if file.table != table or line in damaged:
                continue
            try:
                rows = upgraded(table, writer.folder.read(file), line.schema)
            except DamagedFile:
                damaged.append(line)
                continue
            yield rows.replace_schema_metadata(None).append_column(
                "_order", pa.array([order] * rows.num_rows, pa.int64())
            )


@contextlib.contextmanager
def new_database(file: Path, facts: Mapping[str, object]) -> Iterator[duckdb.DuckDBPyConnection]:
    """A new `file` with the schema's tables, to be filled at once, and the table `about`. `Store` needs schema_version,
    study, published_at and manifest_bytes there.
    """
    _make_empty(file)
    with duckdb.connect(str(file)) as connection:
        connection.execute("BEGIN")
        yield connection
        connection.execute("CREATE TABLE about (name VARCHAR, value VARCHAR)")
        connection.execute(
            "INSERT INTO about SELECT unnest($names), unnest($values)",
            {"names": list(facts), "values": [str(value) for value in facts.values()]},
        )
        connection.execute("COMMIT")
        connection.execute("CHECKPOINT")


def _make_empty(file: Path) -> None:
    """A hundred tables take longer than what most studies have in them, and are the same each time: made once a
    process.
    """
    tables = tuple((name, table.in_duckdb) for name, table in TABLES.items())
    if tables in _EMPTY:
        file.write_bytes(_EMPTY[tables])
        return
    with duckdb.connect(str(file)) as connection:
        create_tables(connection)
    _EMPTY[tables] = file.read_bytes()


def create_tables(connection: duckdb.DuckDBPyConnection, tables: Collection[str] = TABLES.keys()) -> None:
    """The schema's `tables`, empty; in one transaction, as a hundred would each wait for the disk."""
    connection.execute("BEGIN")
    for table in tables:
        connection.execute(f'CREATE TABLE "{table}" ({TABLES[table].in_duckdb})')
    connection.execute("COMMIT")


def _fill(connection: duckdb.DuckDBPyConnection, table: str, units: list[pa.Table]) -> None:
    if not units:
        return
    columns = ", ".join(f'"{name}"' for name in TABLES[table].columns)
    key = ", ".join(f'"{name}"' for name in TABLES[table].key)
    connection.register("unit_rows", pa.concat_tables(units))
    connection.execute(
        f'INSERT INTO "{table}" SELECT {columns} FROM unit_rows '
        f"QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY _order DESC) = 1 ORDER BY {key}"
    )
    connection.unregister("unit_rows")


def insert_rows(connection: duckdb.DuckDBPyConnection, table: str, rows: pa.Table) -> None:
    """All of `rows`, by the names of its columns, into a table that is there."""
    if not rows.num_rows:
        return
    connection.register("kept_rows", rows)
    connection.execute(f'INSERT INTO "{table}" BY NAME SELECT * FROM kept_rows')
    connection.unregister("kept_rows")


def replace_rows(connection: duckdb.DuckDBPyConnection, table: str, rows: pa.Table) -> None:
    """`rows` in the place of those of the same keys; of several of one key the last stands."""
    key = ", ".join(f'"{name}"' for name in TABLES[table].key)
    columns = ", ".join(f'"{name}"' for name in TABLES[table].columns)
    connection.register("new_rows", rows.append_column("_order", pa.array(range(rows.num_rows), pa.int64())))
    connection.execute(f'DELETE FROM "{table}" WHERE ({key}) IN (SELECT ({key}) FROM new_rows)')
    connection.execute(
        f'INSERT INTO "{table}" SELECT {columns} FROM new_rows '
        f"QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY _order DESC) = 1"
    )
    connection.unregister("new_rows")


def _point(folder: StudyFolder, generation: Path) -> None:
    temporary = folder.pointer.with_suffix(".tmp")
    with open(temporary, "w", encoding="utf-8") as handle:
        handle.write(generation.name + "\n")
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(temporary, folder.pointer)
    _sync_folder(folder.path)
