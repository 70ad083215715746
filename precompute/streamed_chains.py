"""A few problems of a published data set of chains, streamed into a folder that its importer reads.

The data set of Thought Anchors lies on the model hub as Parquet with one row a file (`path`, `size_bytes`, `content`,
…), or as the files themselves. Its rollouts are large, so the paths are read first, which are a small column of their
own, then only the groups of rows that hold files of the problems that were chosen.

1. Each path ends in MODEL/[temperature_…/]CASE/problem_N/FILE; what does not is left out. That end alone says where a
   file is written.
2. The first so many problems that are whole, in the order of the rows, are taken: their own files, and those with
   forced answers.
3. A file is written whole or not at all, and once a commit: the same command goes on after a stop, and more problems
   cost only what is new.
"""

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pyarrow.parquet as pq

from backend.ids import stable_id
from backend.models.embedded import cache_folder
from precompute.checked_json import MAX_FILE_BYTES
from precompute.corpora import Corpus, CorpusError, find, reading
from precompute.importers.thought_anchors import CASES, FORCED, IMPORTER, READ
from precompute.terminal import Console, track

MATH_ROLLOUTS = "uzaymacar/math-rollouts"
_PART = r"[A-Za-z0-9_][\w.-]*"  # no part of a path may lead out of the folder
_PATH = re.compile(
    rf"(?:^|/)(?P<above>{_PART}/(?:temperature_{_PART}/)?)(?P<case>{'|'.join(CASES)})(?P<forced>{FORCED})?/"
    rf"(?P<problem>(?:problem|scenario)_\w+)/(?P<file>(?:chunk_\d+/)?[a-z_]+\.json)$"
)
_NEEDED = ("problem.json", "base_solution.json")


@dataclass(frozen=True)
class _File:
    """A published file: in which file of the data set, at which row (None: it is that file), and its bytes."""

    problem: str  # MODEL/…/CASE/problem_N, of forced answers too
    place: str  # where the importer wants it
    source: str
    row: int | None
    size: int


def require_streamable(source: str) -> None:
    if source != IMPORTER.name:
        raise CorpusError(f"Only {IMPORTER.name} can be streamed from the model hub: fetch the folder, and name it.")


def streamed(
    name: str, *, problems: int, only: str = "", rollouts: bool = True, gigabytes: float, console: Console
) -> Path:
    """Folder with the first `problems` problems of the data set (or folder) `name` whose path holds `only`.

    Raises CorpusError where it cannot be reached, has none of them, or would take more than `gigabytes`.
    """
    corpus = find(name, endings=(".parquet", ".json"))
    files = list(_files(corpus, only, rollouts))
    chosen = _first(files, problems)
    if not chosen:
        of = f" whose path holds {only!r}" if only else ""
        raise CorpusError(
            f"{name} has no whole problem{of}: rows or files …/MODEL/CASE/problem_N/FILE.json were expected, with"
            f" {' and '.join(_NEEDED)} of each, CASE being {' or '.join(list(CASES)[:2])}."
        )
    wanted = [file for file in files if file.problem in chosen]
    _require_small(name, wanted, gigabytes)
    folder = cache_folder() / "streamed" / _called(corpus)
    missing = [file for file in wanted if not (folder / "files" / file.place).is_file()]
    total = sum(file.size for file in missing) / 1e6
    console.print(f"{name}: {len(chosen)} problems in {len(wanted)} files; {len(missing)} to fetch ({total:,.1f} MB)")
    for file, content in track(_contents(corpus, missing), "fetch", console=console, total=len(missing)):
        _write(folder / "files" / file.place, content)
    root = folder / stable_id("s", *sorted(chosen), rollouts)
    for file in wanted:
        link = root / file.place
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(folder / "files" / file.place)
    return root


def _files(corpus: Corpus, only: str, rollouts: bool) -> Iterator[_File]:
    tables = [path for path in corpus.files if path.endswith(".parquet")]
    for path in tables:
        with reading(corpus, path) as opened:
            table = pq.ParquetFile(opened)
            _require_columns(corpus, path, table.schema_arrow.names)
            columns = ["path", *(["size_bytes"] if "size_bytes" in table.schema_arrow.names else [])]
            start = 0
            for batch in table.iter_batches(8192, columns=columns):
                for row, found in enumerate(batch.to_pylist(), start):
                    yield from _file(str(found["path"]), path, row, int(found.get("size_bytes") or 0), only, rollouts)
                start += batch.num_rows
    for path in () if tables else corpus.files:
        yield from _file(path, path, None, int(corpus.system.size(path) or 0), only, rollouts)


def _file(path: str, source: str, row: int | None, size: int, only: str, rollouts: bool) -> Iterator[_File]:
    found = _PATH.search(path)
    if found is None or only not in path or not (rollouts or _read_without_rollouts(found)):
        return
    above, case, problem = found["above"], found["case"], found["problem"]
    place = f"{above}{case}{found['forced'] or ''}/{problem}/{found['file']}"
    yield _File(f"{above}{case}/{problem}", place, source, row, size)


def _read_without_rollouts(found: re.Match[str]) -> bool:
    return found["forced"] is None and found["file"] in READ


def _first(files: Iterable[_File], problems: int) -> set[str]:
    """The first so many that have what is needed of a problem."""
    there: dict[str, set[str]] = {}
    for file in files:
        there.setdefault(file.problem, set()).add(file.place.removeprefix(f"{file.problem}/"))
    whole = [
        problem
        for problem, names in there.items()
        if {"problem.json", "scenario.json"} & names
        and "base_solution.json" in names
        and {"chunks.json", "chunks_labeled.json"} & names
    ]
    return set(whole[:problems])


def _require_small(name: str, files: Iterable[_File], gigabytes: float) -> None:
    files = list(files)
    for file in files:
        if file.size > MAX_FILE_BYTES:
            raise CorpusError(
                f"{name}: {file.place} has {file.size:,} bytes; at most {MAX_FILE_BYTES:,} are read. Leave its problem"
                " out (--only), or import without rollouts."
            )
    if (total := sum(file.size for file in files) / 1e9) > gigabytes:
        raise CorpusError(
            f"{name}: these problems are {total:.1f} GB, and at most {gigabytes:g} GB are fetched. Ask for fewer"
            " (--problems), for a part (--only), without rollouts (--no-rollouts), or allow more (--gigabytes)."
        )


def _require_columns(corpus: Corpus, path: str, names: list[str]) -> None:
    if not {"path", "content"} <= set(names):
        raise CorpusError(
            f"{path} of {corpus.name} has the columns {', '.join(names)}; path and content were expected, a row for"
            " each published file."
        )


def _contents(corpus: Corpus, files: Iterable[_File]) -> Iterator[tuple[_File, bytes]]:
    """Each file with what is in it; of Parquet no group of rows is read that holds none of them."""
    by_source: dict[str, dict[int | None, _File]] = {}
    for file in files:
        by_source.setdefault(file.source, {})[file.row] = file
    for source, of_row in by_source.items():
        with reading(corpus, source) as opened:
            if None in of_row:
                yield of_row[None], opened.read()
            else:
                yield from _rows(opened, source, {row: file for row, file in of_row.items() if row is not None})


def _rows(opened: IO[bytes], source: str, of_row: dict[int, _File]) -> Iterator[tuple[_File, bytes]]:
    table, start = pq.ParquetFile(opened), 0
    for group in range(table.num_row_groups):
        n_rows = table.metadata.row_group(group).num_rows
        if any(start <= row < start + n_rows for row in of_row):
            first = start
            for batch in table.iter_batches(16, row_groups=[group], columns=["content"]):
                for row, content in enumerate(batch.column(0), first):
                    if row in of_row:
                        yield of_row[row], _bytes(content.as_py(), of_row[row], source)
                first += batch.num_rows
        start += n_rows


def _bytes(content: object, file: _File, source: str) -> bytes:
    if isinstance(content, bytes):
        return content
    if isinstance(content, str):
        return content.encode()
    raise CorpusError(f"{source}: the content of {file.place} is {type(content).__name__}; text was expected.")


def _called(corpus: Corpus) -> str:
    """Another folder for another commit, and for files of a folder that changed."""
    if corpus.revision is not None:
        return f"{corpus.name.partition('@')[0].replace('/', '--')}@{corpus.revision[:12]}"
    known = [(path, corpus.system.size(path), str(corpus.system.modified(path))) for path in corpus.files]
    return stable_id("f", *known)


def _write(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.part")
    temporary.write_bytes(content)
    os.replace(temporary, file)
