"""A study opened for reading: a folder with a published generation, or one portable `.duckdb` file.

The connection is read-only and closed to everything but its own file: no other files, no extensions, no Python variables.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pandas as pd
import pyarrow as pa

from backend.errors import AnchorscopeError
from backend.store import dictionaries
from backend.store.dictionary_queries import DictionaryQueries
from backend.store.geometry_queries import GeometryQueries
from backend.store.migrations import WrongSchema, refusal
from backend.store.queries import Queries
from backend.store.schema import SCHEMA_VERSION
from backend.store.unit_files import StudyFolder
from backend.store.unit_queries import UnitQueries

if TYPE_CHECKING:
    from backend.crosscoder.dictionary import Dictionary

_SEALED = {
    "enable_external_access": "false",
    "python_enable_replacements": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "allow_unsigned_extensions": "false",
    "memory_limit": "2GB",
    "max_temp_directory_size": "0B",
    "lock_configuration": "true",
}


class NoStore(AnchorscopeError):
    """There is nothing published at the path."""


def generation_of(path: Path) -> Path:
    """The DuckDB file behind `path` (a study's folder, or a portable file) at this moment. Raises NoStore."""
    if path.is_file():
        return path
    folder = StudyFolder(path)
    if not folder.pointer.exists():
        raise NoStore(f"No results at {path}. Build them with `python -m precompute run STUDY.toml --store {path}`.")
    generation = folder.generations / folder.pointer.read_text(encoding="utf-8").strip()
    if not generation.is_file():
        raise NoStore(f"{folder.pointer} names {generation.name}, which is missing. Rebuild it with `python -m precompute publish {path}`.")
    return generation


class Store(Queries, DictionaryQueries, GeometryQueries, UnitQueries):
    """Answers questions about one generation of a study; open it again to see a newer one."""

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self.generation = generation_of(self.path)
        try:
            self._connection = duckdb.connect(str(self.generation), read_only=True, config=dict(_SEALED))
            about = dict(self._connection.execute("SELECT name, value FROM about ORDER BY name").fetchall())
        except duckdb.Error as error:
            raise NoStore(
                f"{self.generation} cannot be opened as an Anchorscope store ({error}). Rebuild it with "
                f"`python -m precompute publish {self.path}`, or export it again."
            ) from error
        found = int(about.get("schema_version", 0))
        if found != SCHEMA_VERSION:
            self.close()
            raise WrongSchema(refusal(found, str(self.path)))
        self.name = about["study"]
        self.published_at = about["published_at"]
        self.manifest_bytes = int(about["manifest_bytes"])  # of the manifest it was built from

    def frame(self, sql: str, **values: Any) -> pd.DataFrame:
        """One query on a cursor of its own, its values bound by name."""
        return self._connection.cursor().execute(sql, values).df()

    def arrow(self, sql: str, **values: Any) -> pa.Table:
        """Like `frame`, as an Arrow table."""
        return self._connection.cursor().sql(sql, params=values).to_arrow_table()

    def dictionary(self, dictionary_id: str) -> "Dictionary":
        """The weights of one of its dictionaries, checked. Raises NoStore for one it has no row of, DictionaryLost and DictionaryError."""
        if self.frame("SELECT 1 FROM dictionaries WHERE dictionary_id = $dictionary", dictionary=dictionary_id).empty:
            raise NoStore(f"{self.path} has no dictionary {dictionary_id!r}.")
        return dictionaries.read(self.path, dictionary_id)

    def close(self) -> None:
        self._connection.close()
