"""A study small enough to ship inside a repository: a folder of compressed Parquet files, which becomes one portable
`.duckdb` file.

1. `pack` writes one file for each table that has rows, every column in the encoding that makes it smallest, compressed
   with zstd or brotli, whichever makes it smaller. Vectors are rounded to float16 (3 significant digits), which halves
   most of a study; those of the library, whose ids follow from their values, stay as they were. Numbers in the details
   of associations, which are JSON, are rounded to 4 significant digits. Every other number stays as it was.
   A direction that is the activation of its own chunk, scaled to length 1, is stored without its vector: `activations`
   has it. The weights of dictionaries are copied as they are: those that were trained here are float16 from the
   beginning.
2. `about.json` says what the pack holds: study, schema version, when it was published, and rows and sha256 of every
   file. The sha256 of `about.json` therefore stands for the whole pack.
3. `unpack` checks all of that and builds the file that `export --duckdb` would have made, vectors as float32 again;
   those that the schema calls unit vectors get the length that rounding took from them. Its table `about` keeps the
   sha256 of the pack (`pack`) and says that the vectors went through float16 (`vectors`). A file that came from the
   same pack is left as it is.
"""

import contextlib
import fcntl
import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from backend import faults
from backend.errors import AnchorscopeError
from backend.root import PRECOMPUTE
from backend.schema.migrations import WrongSchema, refusal, upgraded
from backend.schema.tables import SCHEMA_VERSION, TABLES, VECTOR
from backend.store import dictionaries
from backend.store.experiments import Experiments
from backend.store.publish import insert_rows, new_database
from backend.store.state import parsed
from backend.store.store import _SEALED, Store
from backend.store.unit_files import _sync_folder

ABOUT = "about.json"
_HALF = pa.list_(pa.float16())
_UNIT_VECTORS = ("directions", "experiments")  # tables whose vectors have length 1
_OWN = 1 - 2e-7  # cosine with its chunk's activation from which on a direction is that: float16 leaves more than this
# Tables whose lists stay float32: ids follow from a vector's values, or they are several numbers, some unknown.
_EXACT = ("vectors", "latent_readings", "latent_difference_readings")
_JSON = {"associations": "details"}  # column of a table whose text is JSON with numbers
_LEVELS = {"zstd": 19, "brotli": 11}  # zstd's beyond 19 need more memory to decompress; brotli's end there
_ONE_PAGE = 1 << 28  # bytes and rows: zstd finds repetitions within a page alone
_ENCODINGS = {  # besides dictionary and plain, by type of the values
    pa.string(): "DELTA_BYTE_ARRAY",
    pa.int64(): "DELTA_BINARY_PACKED",
    pa.float64(): "BYTE_STREAM_SPLIT",
    pa.float16(): "BYTE_STREAM_SPLIT",
}


class NotPacked(AnchorscopeError):
    """The study cannot be packed, or not there; what lay there is as it was."""


class DamagedPack(AnchorscopeError):
    """A file of the pack is missing or is not what `about.json` says; nothing was unpacked."""


class NotUnpacked(AnchorscopeError):
    """The file cannot be written, or what lies there is not an unpacked pack; it is as it was."""


@dataclass(frozen=True)
class Pack:
    """What `about.json` says."""

    folder: Path
    digest: str  # sha256 of about.json
    study: str
    schema_version: int
    published_at: str  # UTC
    tables: Mapping[str, tuple[int, str]]  # rows and sha256 of the tables that have rows
    rules: Mapping[str, int]  # of the stages, when they were computed
    dictionaries: Mapping[str, Mapping[str, str]]  # sha256 of each file, by dictionary and name

    def rows(self, table: str) -> pa.Table:
        """The rows of `table` in today's schema, vectors as float32. Raises DamagedPack."""
        n_rows, digest = self.tables[table]
        path, raw = self.folder / f"{table}.parquet", self._checked(f"{table}.parquet", digest)
        try:
            stored = pq.read_table(pa.BufferReader(raw))
            if table == "directions" and stored["vector"].null_count:
                stored = _with_own_activations(stored, self.rows("activations"))
            rows = upgraded(table, _widened(table, stored), self.schema_version)
        except (pa.ArrowException, KeyError) as error:
            raise _damaged(self.folder, path, f"does not hold the columns of table {table} ({error})") from error
        if rows.num_rows != n_rows:
            raise _damaged(self.folder, path, f"has {rows.num_rows} rows, and {ABOUT} says {n_rows}")
        return rows

    def unchanged(self, table: str) -> bytes | None:
        """The file of `table` where its rows are those of today's schema already, else None. Raises DamagedPack."""
        raw = self._checked(f"{table}.parquet", self.tables[table][1])
        rows = pq.read_table(pa.BufferReader(raw))
        return raw if upgraded(table, rows, self.schema_version).equals(rows) else None

    def place_dictionaries(self, file: Path) -> None:
        """Put the weights of dictionaries beside the portable `file`. Raises DamagedPack, and then puts none there."""
        for name, digests in self.dictionaries.items():
            for inner, digest in digests.items():
                self._checked(f"{dictionaries.FOLDER}/{name}/{inner}", digest)
        for name in self.dictionaries:
            dictionaries.copy_files(self.folder / dictionaries.FOLDER / name, dictionaries.beside(file))

    def _checked(self, name: str, digest: str) -> bytes:
        path = self.folder / name
        try:
            raw = path.read_bytes()
        except FileNotFoundError as error:
            raise _damaged(self.folder, path, f"cannot be read ({error.strerror})") from error
        if (found := hashlib.sha256(raw).hexdigest()) != digest:
            raise _damaged(self.folder, path, f"has sha256 {found}, and {ABOUT} says {digest}")
        return raw


def pack(study: Path, folder: Path, *, without: Collection[str] = ()) -> int:
    """Write the published generation of `study` (a folder or a portable file), with its live runs as they are now, as a
    pack at `folder`, whole or not at all, but for the tables of `without`. Returns its bytes. A pack that is there is
    replaced.

    Raises NoStore or WrongSchema for a study that cannot be opened, and NotPacked for a table that there is not, and
    where `folder` holds anything else than a pack, a live run is damaged, or float16 cannot hold a vector.
    """
    require_tables(without)
    if folder.exists():
        _refuse_anything_but_a_pack(folder)
    kept = Experiments(study).everything()
    if kept.damaged:
        raise NotPacked(
            f"The live run {kept.damaged[0].key} of {study} is damaged. Steer again to have it, or leave it out: "
            f"`{PRECOMPUTE} publish {study}`."
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (
        contextlib.closing(Store(study)) as store,
        tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch,
    ):
        made = Path(scratch, "made")
        made.mkdir()
        tables = {}
        for table in (name for name in TABLES if name not in without):
            rows = kept.tables[table] if table in kept.tables else store.whole_table(table)
            if rows.num_rows:
                if table == "directions":
                    rows = _without_own_activations(rows, store.whole_table("activations"))
                raw = _smallest(_rounded(table, rows))
                _write(made / f"{table}.parquet", raw)
                tables[table] = {"rows": rows.num_rows, "sha256": hashlib.sha256(raw).hexdigest()}
        copied = dictionaries.copy(store.dictionary_ids(), study, made / dictionaries.FOLDER)
        about = {
            "study": store.name,
            "schema_version": SCHEMA_VERSION,
            "published_at": store.published_at,
            "rules": store.rules(),
            "vectors": "float16",
            "tables": tables,
            "dictionaries": {
                one.name: {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(one.iterdir())}
                for one in copied
            },
        }
        _write(made / ABOUT, (json.dumps(about, indent=2, ensure_ascii=False) + "\n").encode())
        _swap(made, folder, Path(scratch, "replaced"))
    _sync_folder(folder.parent)
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def require_tables(names: Collection[str]) -> None:
    """Raises NotPacked for a name that no table has."""
    if strangers := sorted(set(names) - set(TABLES)):
        raise NotPacked(f"There is no table {strangers[0]!r} to leave out; docs/schema.md has their names.")


def repack(
    folder: Path, tables: Mapping[str, pa.Table], *, published_at: str, rules: Mapping[str, int] = MappingProxyType({})
) -> list[str]:
    """Give the pack at `folder` these tables, of stages under these rules, and today's schema, whole or not at all.
    Returns the tables whose files changed.

    Files of other tables stay byte for byte where an upgrade leaves their rows alone: a vector that went through
    float16 twice would be another. Raises DamagedPack and NotPacked, and then the pack is as it was.
    """
    old = _read_about(folder)
    changed, about = [], json.loads((folder / ABOUT).read_bytes())

    def activations() -> pa.Table:
        if "activations" in tables or "activations" not in old.tables:
            return tables.get("activations", TABLES["activations"].arrow.empty_table())
        return old.rows("activations")

    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
        made = Path(scratch, "made")
        made.mkdir()
        files = {}
        for table in TABLES:
            if table not in tables and table not in old.tables:
                continue
            is_left = table not in tables and not (table == "directions" and "activations" in tables)
            raw = old.unchanged(table) if is_left else None
            if raw is not None:
                n_rows = old.tables[table][0]
            else:
                rows = tables[table] if table in tables else old.rows(table)
                if not rows.num_rows:
                    continue
                if table == "directions":
                    rows = _without_own_activations(rows, activations())
                raw, n_rows = _smallest(_rounded(table, rows)), rows.num_rows
            _write(made / f"{table}.parquet", raw)
            files[table] = {"rows": n_rows, "sha256": hashlib.sha256(raw).hexdigest()}
            if table not in old.tables or old.tables[table][1] != files[table]["sha256"]:
                changed.append(table)
        if old.dictionaries:
            shutil.copytree(folder / dictionaries.FOLDER, made / dictionaries.FOLDER)
        about |= {"schema_version": SCHEMA_VERSION, "published_at": published_at, "tables": files}
        about["rules"] = {**old.rules, **rules}
        _write(made / ABOUT, (json.dumps(about, indent=2, ensure_ascii=False) + "\n").encode())
        _swap(made, folder, Path(scratch, "replaced"))
    _sync_folder(folder.parent)
    return changed


def digest_of(folder: Path) -> str:
    """The sha256 that stands for the whole pack. Raises DamagedPack, WrongSchema and NotUnpacked."""
    return _read_about(folder).digest


def unpack(folder: Path, file: Path) -> Path:
    """The pack at `folder` as the portable `file`, built where it is missing, comes from another pack or has an older
    schema: whole or not at all. Several processes may ask at once; one builds. Returns `file`.

    Raises DamagedPack, WrongSchema for a pack of a newer Anchorscope, and NotUnpacked.
    """
    found = _read_about(folder)
    if _is_unpacked(found, file):
        return file
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with _locked(file.with_name(file.name + ".lock")):
            if not _is_unpacked(found, file):  # else another process made it while this one waited
                for leftover in file.parent.glob(f".{file.name}.*"):  # of a process that was killed: the lock is ours
                    shutil.rmtree(leftover)
                with tempfile.TemporaryDirectory(prefix=f".{file.name}.", dir=file.parent) as scratch:
                    _build(found, building := Path(scratch, file.name))
                    found.place_dictionaries(file)
                    with building.open("rb") as handle:
                        os.fsync(handle.fileno())
                    os.replace(building, file)
                _sync_folder(file.parent)
    except (OSError, duckdb.Error) as error:
        raise NotUnpacked(
            f"{folder} could not be unpacked to {file} ({error}). Nothing was changed. Allow writing in {file.parent},"
            " or free space on the disk, and start again."
        ) from error
    return file


def _build(found: Pack, file: Path) -> None:
    facts = {
        "schema_version": SCHEMA_VERSION,
        "study": found.study,
        "published_at": found.published_at,
        "manifest_bytes": 0,  # no manifest stands behind it
        "rules": json.dumps(found.rules),
        "vectors": "float16",
        "pack": found.digest,
    }
    with new_database(file, facts) as connection:
        for table in TABLES:
            if table in found.tables:
                insert_rows(connection, table, found.rows(table))


def _is_unpacked(found: Pack, file: Path) -> bool:
    """Whether `file` comes from this pack, has today's schema and its dictionaries beside it. Raises NotUnpacked for a
    file that comes from no pack: it is no copy.
    """
    if not file.exists():
        return False
    try:
        with duckdb.connect(str(file), read_only=True, config=dict(_SEALED)) as connection:
            about = dict(connection.execute("SELECT name, value FROM about ORDER BY name").fetchall())
    except duckdb.Error as error:
        raise NotUnpacked(
            f"{file}, where {found.folder} is unpacked to, cannot be opened ({error}). Delete it and start again."
        ) from error
    if "pack" not in about:
        raise NotUnpacked(
            f"{file}, where {found.folder} is unpacked to, is another study. Give it another name and start again."
        )
    whole = all((dictionaries.beside(file) / name).is_dir() for name in found.dictionaries)
    return whole and (about["pack"], about["schema_version"]) == (found.digest, str(SCHEMA_VERSION))


def _read_about(folder: Path) -> Pack:
    path = folder / ABOUT
    try:
        raw = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _damaged(folder, path, f"cannot be read ({error.strerror})") from error
    except OSError as error:
        raise NotUnpacked(f"{path} cannot be read. {faults.in_words(error)}") from error
    try:
        about = parsed(raw)
        tables = {name: (int(table["rows"]), str(table["sha256"])) for name, table in about["tables"].items()}
        digests = {
            str(name): {str(path): str(digest) for path, digest in files.items()}
            for name, files in about.get("dictionaries", {}).items()
        }
        found = Pack(
            folder,
            hashlib.sha256(raw).hexdigest(),
            str(about["study"]),
            int(about["schema_version"]),
            str(about["published_at"]),
            tables,
            {str(stage): int(rule) for stage, rule in about.get("rules", {}).items()},
            digests,
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise _damaged(folder, path, f"does not describe a pack ({error!r})") from error
    if found.schema_version > SCHEMA_VERSION:
        raise WrongSchema(refusal(found.schema_version, str(folder)))
    return found


def _damaged(folder: Path, path: Path, what: str) -> DamagedPack:
    return DamagedPack(
        f"{path} {what}. Nothing was unpacked. Restore the folder (in a checkout: `git restore {folder}`) and start"
        " again."
    )


def _without_own_activations(directions: pa.Table, activations: pa.Table) -> pa.Table:
    """`directions` with NULL for the vector of each that is the activation of its own chunk, scaled to length 1."""
    pairs = zip(directions["vector"], _own_activations(directions, activations), strict=True)
    is_own = pa.array([own.is_valid and _cosine(vector, own) >= _OWN for vector, own in pairs])
    vectors = pc.if_else(is_own, pa.scalar(None, VECTOR), directions["vector"].cast(VECTOR))
    return directions.set_column(directions.schema.get_field_index("vector"), "vector", vectors)


def _with_own_activations(directions: pa.Table, activations: pa.Table) -> pa.Table:
    """The same with what was left out: the activations, of any length. Raises KeyError where there is none."""
    own = _own_activations(directions, activations)
    vectors = pc.coalesce(directions["vector"].cast(VECTOR), own)
    if vectors.null_count:
        raise KeyError("a direction has neither a vector nor its chunk's activation")
    return directions.set_column(directions.schema.get_field_index("vector"), "vector", vectors)


def _own_activations(directions: pa.Table, activations: pa.Table) -> pa.ChunkedArray:
    """The activation of each direction's chunk at its layer in its model; NULL where there is none."""
    key = ("chunk_id", "model_id", "layer")
    places = {of: row for row, of in enumerate(zip(*(activations[name].to_pylist() for name in key), strict=True))}
    wanted = zip(*(directions[name].to_pylist() for name in key), strict=True)
    return activations["vector"].cast(VECTOR).take(pa.array([places.get(of) for of in wanted], pa.int64()))


def _cosine(one: pa.ListScalar, other: pa.ListScalar) -> float:
    a, b = (vector.values.to_numpy().astype(np.float64) for vector in (one, other))
    return float(a @ b / np.sqrt((a @ a) * (b @ b))) if len(a) == len(b) and a.any() and b.any() else 0.0


def _rounded(table: str, rows: pa.Table) -> pa.Table:
    """`rows` with vectors as float16, but for those of which every bit counts, and JSON with shorter numbers.

    Raises NotPacked naming the first row with a value that is unknown or not finite there.
    """
    for position, (name, (dtype, _)) in enumerate(TABLES[table].columns.items()):
        if dtype == VECTOR and table not in _EXACT:
            half = rows[name].cast(_HALF)
            lost = np.flatnonzero(~np.isfinite(pc.list_flatten(half).to_numpy()))
            if len(lost):
                value = pc.list_flatten(rows[name])[int(lost[0])]
                row = (
                    rows.slice(pc.list_parent_indices(rows[name])[int(lost[0])].as_py(), 1)
                    .select(TABLES[table].key)
                    .to_pylist()[0]
                )
                raise NotPacked(
                    f"Table {table}, {row}: {name} holds {value}, and float16 holds finite values up to"
                    f" {np.finfo(np.float16).max:.0f}. Nothing was written. `{PRECOMPUTE} export STUDY --duckdb"
                    " FILE` keeps float32."
                )
            rows = rows.set_column(position, name, half)
        if name == _JSON.get(table):
            texts = [
                text and json.dumps(_shorter(json.loads(text)), ensure_ascii=False, separators=(",", ":"))
                for text in rows[name].to_pylist()
            ]
            rows = rows.set_column(position, name, pa.array(texts, dtype))
    return rows


def _shorter(value: Any) -> Any:
    """The same with every float rounded to 4 significant digits, at every depth."""
    if isinstance(value, dict):
        return {name: _shorter(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_shorter(inner) for inner in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _widened(table: str, rows: pa.Table) -> pa.Table:
    """`rows` of a pack with vectors as float32 again, and of unit length where the schema says so."""
    for position, field in enumerate(rows.schema):
        if field.type in (_HALF, VECTOR):
            wide = rows[field.name].cast(VECTOR)
            rows = rows.set_column(position, field.name, _unit(wide) if table in _UNIT_VECTORS else wide)
    return rows


def _unit(vectors: pa.ChunkedArray) -> pa.Array:
    lists = vectors.combine_chunks()
    values, owner = pc.list_flatten(lists).to_numpy().astype(np.float64), pc.list_parent_indices(lists).to_numpy()
    length = np.sqrt(np.bincount(owner, values**2, minlength=len(lists)))
    return pa.ListArray.from_arrays(
        lists.offsets, pa.array((values / length[owner]).astype(np.float32)), mask=lists.is_null()
    )


def _smallest(rows: pa.Table) -> bytes:
    """A Parquet file of `rows`, each column in the encoding, and compressed in the way, that make it smallest."""
    chosen: dict[str, tuple[str | None, str]] = {}
    for name, dtype in zip(rows.schema.names, rows.schema.types, strict=True):
        is_list = pa.types.is_list(dtype)
        leaf, column = f"{name}.list.element" if is_list else name, rows.select([name])
        sizes: dict[tuple[str | None, str], int] = {}
        own = _ENCODINGS.get(dtype.value_type if is_list else dtype, "PLAIN")
        for encoding in dict.fromkeys((None, "PLAIN", own)):
            sizes[encoding, "zstd"] = len(_parquet(column, {leaf: (encoding, "zstd")}))
        encoding = min(sizes, key=sizes.__getitem__)[0]
        sizes[encoding, "brotli"] = len(_parquet(column, {leaf: (encoding, "brotli")}))
        chosen[leaf] = min(sizes, key=sizes.__getitem__)
    return _parquet(rows, chosen)


def _parquet(rows: pa.Table, chosen: Mapping[str, tuple[str | None, str]]) -> bytes:
    """Encoding and compression by column (of a list: its values); the encoding None is a dictionary."""
    file = io.BytesIO()
    pq.write_table(
        rows,
        file,
        compression={name: codec for name, (_, codec) in chosen.items()},
        compression_level={name: _LEVELS[codec] for name, (_, codec) in chosen.items()},
        use_dictionary=[name for name, (encoding, _) in chosen.items() if encoding is None],
        column_encoding={name: encoding for name, (encoding, _) in chosen.items() if encoding is not None},
        data_page_size=_ONE_PAGE,
        max_rows_per_page=_ONE_PAGE,
        dictionary_pagesize_limit=_ONE_PAGE,
        write_statistics=False,
    )
    return file.getvalue()


def _write(path: Path, raw: bytes) -> None:
    with path.open("wb") as handle:
        handle.write(raw)
        handle.flush()
        os.fsync(handle.fileno())


def _refuse_anything_but_a_pack(folder: Path) -> None:
    inside = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    if ABOUT not in inside or any(
        name not in (ABOUT, dictionaries.FOLDER) and not name.endswith(".parquet") for name in inside
    ):
        raise NotPacked(f"{folder} exists and is something else than a pack; name a new folder, or delete it first.")


def _swap(made: Path, folder: Path, replaced: Path) -> None:
    """Put `made` in the place of `folder`, and what was there, if anything, at `replaced`."""
    if folder.exists():
        folder.rename(replaced)
    try:
        made.rename(folder)
    except OSError:
        if replaced.exists():
            replaced.rename(folder)
        raise


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Held by one process at a time; freed by the system when its holder dies."""
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
