"""A study opened for reading: a folder with a published generation, or one portable `.duckdb` file.

The connection is read-only and closed to everything but its own file: no other files, no extensions, no Python
variables.

A generation that is cut or garbled is noticed where it is opened, or where DuckDB meets a block that is not what was
written; from then on this process takes the one before, and says so (`older`). What the machine does not let be read is
no damage: that is said and stands.
"""

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa

from backend import faults
from backend.errors import AnchorscopeError
from backend.plain import plain_line
from backend.root import PRECOMPUTE
from backend.schema.migrations import WrongSchema, later_columns, later_tables, refusal
from backend.schema.tables import TABLES
from backend.store import registered
from backend.store.beside import ADDED, ADDED_TABLES, added_since
from backend.store.causation_queries import CausationQueries
from backend.store.commitment_queries import CommitmentQueries
from backend.store.cosine_queries import CosineQueries
from backend.store.dictionary_queries import DictionaryQueries
from backend.store.divergence_queries import DivergenceQueries
from backend.store.finding_queries import FindingQueries
from backend.store.geometry_queries import GeometryQueries
from backend.store.influence_queries import InfluenceQueries
from backend.store.jacobian_queries import JacobianQueries
from backend.store.latent_queries import LatentQueries
from backend.store.latent_steering_queries import LatentSteeringQueries
from backend.store.lens_queries import LensQueries
from backend.store.parallelogram_queries import ParallelogramQueries
from backend.store.pullback_queries import PullbackQueries
from backend.store.queries import Queries
from backend.store.sae_queries import SaeQueries
from backend.store.search_queries import SearchQueries
from backend.store.shape_queries import ShapeQueries
from backend.store.unit_files import StudyFolder, UnreadableFile
from backend.store.unit_queries import UnitQueries

_SEALED = {
    "enable_external_access": "false",
    "python_enable_replacements": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "allow_unsigned_extensions": "false",
    "memory_limit": "2GB",
    "async_threads": "0",  # for files elsewhere: eight that wait, in each open study
    "max_temp_directory_size": "0B",
    "lock_configuration": "true",
}


_NAME = re.compile(r"gen-(\d+)\.duckdb")
_DAMAGE = (
    duckdb.IOException,
    duckdb.SerializationException,
    duckdb.InternalException,
    duckdb.FatalException,
    UnicodeDecodeError,
)
_known_damage: set[tuple[Path, int, int]] = set()  # generations that this process found damaged, as they were then


class NoStore(AnchorscopeError):
    """There is nothing published at the path."""


class DamagedGeneration(NoStore):
    """What is open was found damaged; opening the study again gives the generation before, where there is one."""


def generations_of(path: Path) -> list[Path]:
    """The DuckDB files behind `path` (a study's folder, or a portable file) at this moment: the one that counts, then
    those before it, the newest first. Raises NoStore where nothing was ever published, UnreadableFile.
    """
    try:
        if path.is_file():
            return [path]
        folder = StudyFolder(path)
        said = folder.pointer.read_bytes()[:100].decode(errors="replace").strip()
    except (FileNotFoundError, NotADirectoryError):
        raise NoStore(f"No results at {path}. Build them with `{PRECOMPUTE} run STUDY.toml --store {path}`.") from None
    except OSError as error:
        raise UnreadableFile(f"{path} cannot be read. {faults.in_words(error)}") from error
    pointed = _NAME.fullmatch(said)
    by_number = {
        int(found[1]): file for file in folder.generations.glob("gen-*.duckdb") if (found := _NAME.fullmatch(file.name))
    }
    newest = int(pointed[1]) if pointed else max(by_number, default=0)
    by_number[newest] = folder.generations / said if pointed else by_number.get(newest, folder.generations / "none")
    return [by_number[number] for number in sorted(by_number, reverse=True) if number <= newest]


def generation_of(path: Path) -> Path:
    """The first of `generations_of` that is there and not known to be damaged. Raises NoStore."""
    found = generations_of(path)
    for generation in found:
        if generation.is_file() and _as_it_is(generation) not in _known_damage:
            return generation
    state = "damaged" if found[0].is_file() else "missing"
    raise NoStore(f"{found[0]}, which {path} points to, is {state}. Rebuild it with `{PRECOMPUTE} publish {path}`.")


class Store(
    Queries,
    CausationQueries,
    CommitmentQueries,
    CosineQueries,
    DictionaryQueries,
    DivergenceQueries,
    FindingQueries,
    GeometryQueries,
    InfluenceQueries,
    JacobianQueries,
    LatentQueries,
    LatentSteeringQueries,
    LensQueries,
    PullbackQueries,
    SaeQueries,
    SearchQueries,
    ShapeQueries,
    ParallelogramQueries,
    UnitQueries,
):
    """Answers questions about one generation of a study; open it again to see a newer one.

    `later` are tables that came in after its schema, and are empty here. `older` says, in words for the person, that it
    is not the newest, which is damaged; None where it is.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self.older: str | None = None
        found, first = generations_of(self.path), None
        for generation in found:
            try:
                self._open(generation)
            except WrongSchema:
                if generation == found[0]:
                    raise
            except NoStore as error:
                first = first or error
            else:
                break
        else:
            assert first is not None
            raise first
        self._learn_words()
        if first is not None:
            self.older = (
                f"The newest results of this study are damaged ({found[0].name}). Shown are those of before, of"
                f" {self.published_at} UTC. `{PRECOMPUTE} publish {self.path}` rebuilds the newest, and so does"
                " the next run; nothing is lost."
            )
        elif not self.path.is_file() and not _is_named(self.path, self.generation):
            self.older = (
                f"{self.path / 'CURRENT'} does not say which results are the newest. Shown are those of"
                f" {self.published_at} UTC. `{PRECOMPUTE} publish {self.path}` makes it whole, and so does the"
                " next run; nothing is lost."
            )

    def _open(self, generation: Path) -> None:
        self.generation = generation
        rebuild = f"Rebuild it with `{PRECOMPUTE} publish {self.path}`"
        if not generation.is_file():
            raise NoStore(f"{generation}, which {self.path} points to, is missing. {rebuild}.")
        if _as_it_is(generation) in _known_damage:
            raise DamagedGeneration(f"{generation} is damaged. {rebuild}.")
        try:
            self._connection = duckdb.connect(str(generation), read_only=True, config=dict(_SEALED))
            about = dict(self._connection.execute("SELECT name, value FROM about ORDER BY name").fetchall())
            version = int(about.get("schema_version", 0))
        except (duckdb.Error, UnicodeDecodeError, ValueError) as error:
            if isinstance(error, (duckdb.OutOfMemoryException, duckdb.IOException)) and (
                words := faults.in_words(error)
            ):
                raise UnreadableFile(f"{generation} cannot be read. {words}") from error
            raise NoStore(
                f"{generation} cannot be opened as an Anchorscope store ({plain_line(str(error))}). {rebuild}, or"
                " export it again."
            ) from error
        later = later_tables(version)
        if later is None:
            self.close()
            raise WrongSchema(refusal(version, str(self.path)))
        self.schema_version, self.later = version, later
        self.widened = {table: columns for table, columns in later_columns(version).items() if table not in later}
        try:
            self.name, self.published_at = about["study"], about["published_at"]
            self._rules = about.get("rules", "{}")
            self.manifest_bytes = int(about["manifest_bytes"])  # of the manifest it was built from
        except (KeyError, ValueError) as error:
            self.close()
            raise NoStore(
                f"{generation} does not say what it was built from. {rebuild}, or export it again."
            ) from error

    def _learn_words(self) -> None:
        """Those of what is not Anchorscope's own: a page shows it by them. Damage is for the first question to say."""
        if "registered" not in self.later:
            with contextlib.suppress(AnchorscopeError), self._noticing_damage():
                rows = self._connection.cursor().execute("SELECT * FROM registered ORDER BY kind, name").df()
                registered.learn(str(self.path), rows.to_dict("records"))

    def rules(self) -> dict[str, int]:
        """By stage, the oldest rule that made a unit of this generation; empty where it is older than they are noted,
        or does not say them in our way.
        """
        try:
            return {str(stage): int(rule) for stage, rule in json.loads(self._rules).items()}
        except (ValueError, TypeError, AttributeError):
            return {}

    @contextlib.contextmanager
    def _noticing_damage(self) -> Iterator[None]:
        """Raises DamagedGeneration for a file that is not what was written, UnreadableFile for what the machine does,
        and WrongSchema for a file without a table or column of its version.
        """
        try:
            yield
        except _DAMAGE as error:
            if words := faults.in_words(error):
                raise UnreadableFile(f"{self.generation} cannot be read. {words}") from error
            _known_damage.add(_as_it_is(self.generation))
            raise DamagedGeneration(
                f"{self.generation} is damaged ({plain_line(str(error))}). Rebuild it with `{PRECOMPUTE}"
                f" publish {self.path}`, or export it again; no unit that was computed is lost."
            ) from error
        except (duckdb.BinderException, duckdb.CatalogException) as error:
            if not (lacking := self._lacking()):
                raise  # the query is wrong, not the file
            raise WrongSchema(
                f"{self.generation} says that it has schema version {self.schema_version}, but lacks"
                f" {', '.join(lacking[:3])}. Rebuild it with `{PRECOMPUTE} publish {self.path}`, or export or"
                " unpack it again."
            ) from error

    def _lacking(self) -> list[str]:
        """Tables and columns of its version that the file does not have."""
        columns = (
            self._connection.cursor()
            .execute("SELECT table_name, column_name FROM information_schema.columns")
            .fetchall()
        )
        found = {table: {column for of, column in columns if of == table} for table, _ in columns}
        return [
            f"table {table}" if table not in found else f"column {table}.{column}"
            for table, wanted in TABLES.items()
            if table not in self.later
            for column in wanted.columns
            if column not in (*found.get(table, ()), *self.widened.get(table, ()))
        ]

    def frame(self, sql: str, **values: Any) -> pd.DataFrame:
        """One query on a cursor of its own, its values bound by name."""
        with self._noticing_damage():
            return self._cursor(sql).execute(sql, values).df()

    def arrow(self, sql: str, **values: Any) -> pa.Table:
        """Like `frame`, as an Arrow table."""
        with self._noticing_damage():
            return self._cursor(sql).sql(sql, params=values).to_arrow_table()

    def _cursor(self, sql: str) -> duckdb.DuckDBPyConnection:
        """A cursor on which every table that the query names is what it is now: one that came in later is empty, a
        column that came in later is NULL, and rollouts that were drawn since the generation was published are among
        their like.
        """
        cursor = self._connection.cursor()
        for table in self.later:
            if table in sql:
                cursor.execute(f'CREATE TEMP TABLE "{table}" ({TABLES[table].in_duckdb})')
        for table, columns in self.widened.items():
            if table in sql:
                cursor.execute(f'CREATE TEMP VIEW "{table}" AS {_widened(_of_file(cursor, table), table, columns)}')
        if ADDED not in sql:
            return cursor
        drawings, rows = added_since(self.path)
        for table in ADDED_TABLES if drawings else ():
            if table not in sql:
                continue
            if table not in self.later:
                cursor.execute(f'CREATE TEMP TABLE "{table}" AS SELECT * FROM {_of_file(cursor, table)}')
            cursor.execute(f'DELETE FROM temp."{table}" WHERE list_contains($known, added_id)', {"known": drawings})
            if table in rows:
                cursor.register("since", rows[table])
                cursor.execute(f'INSERT INTO temp."{table}" BY NAME SELECT * FROM since')
                cursor.unregister("since")
        return cursor

    def close(self) -> None:
        self._connection.close()


def _of_file(cursor: duckdb.DuckDBPyConnection, table: str) -> str:
    """SQL of the generation's own `table`, whatever the cursor has under that name."""
    (here,) = cursor.execute("SELECT current_database()").fetchall()[0]
    return f'"{here}".main."{table}"'


def _widened(of_file: str, table: str, columns: tuple[str, ...]) -> str:
    """SQL of rows of `table` as they are now, NULL in the `columns` that `of_file` lacks."""
    types = TABLES[table].types_in_duckdb
    named = (f'NULL::{dtype} AS "{name}"' if name in columns else f'"{name}"' for name, dtype in types.items())
    return f"SELECT {', '.join(named)} FROM {of_file}"


def _as_it_is(generation: Path) -> tuple[Path, int, int]:
    found = generation.stat()
    return generation, found.st_mtime_ns, found.st_size


def _is_named(study: Path, generation: Path) -> bool:
    with contextlib.suppress(OSError):
        return StudyFolder(study).pointer.read_bytes()[:100].strip() == generation.name.encode()
    return False
