"""Other people's studies into the same tables, CoT by CoT: each is a unit, durable as soon as it is there.

1. The folder's CoTs are listed. What is in the study already, from files of the same bytes, is not read again.
2. Of the others everything but their rollouts is read, and held against one another. A fault ends the import before
   anything is written.
3. Then each is read whole, completed with what its rollouts allow, and written. A CoT with a fault is left out whole,
   and named at the end; the others come in. A command that was killed goes on where it was.

Published values stay as published (convention `published`); ours stand beside them. A CoT whose files changed replaces
what it was.
"""

import hashlib
import json
import os
import time
from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from backend.cot.answers import Judge, grader
from backend.ids import seed_for, stable_id
from backend.importance import metric_registry
from backend.importance.similarity import similarity
from backend.store.publish import is_published, publish
from backend.store.unit_files import StudyFolder, UnitLine, Writer, arrow_rows
from precompute.checked_json import ImportedStudy, ImportFormatError, Part, by_cots, whole
from precompute.importers import importer
from precompute.importers.thought_anchors import Together
from precompute.pipeline import run_row
from precompute.stages import importance as importance_stage
from precompute.stages.importance import importance_tables
from precompute.terminal import Console, ours
from precompute.units import Unit

if TYPE_CHECKING:
    from backend.models.sentences import SentenceEncoder

STAGE = "imported"
_ALL_IN_ONE = "import"  # the stage of imports of before, whose one unit held all CoTs
_RULE = 1  # of reading and completing: raise it when they change
_SAY_EVERY = 10.0  # seconds
_ENCODED_AT_ONCE = 512  # between two looks at the clock
_KEPT_VECTORS = 200_000  # of sentences: 0.3 GB


def import_folder(
    source: str, folder: Path, target: StudyFolder, *, wait: bool, console: Console, rollouts: bool = True
) -> None:
    """Read `folder` as `source` and make it part of the study `target`; `rollouts` = False leaves them out, and is
    fast.

    Raises AnchorscopeError for an unknown source, the reader's errors before anything is written, and, when all is
    done, ImportFormatError for the CoTs that had to be left out.
    """
    console = ours(console)
    parts = importer(source).parts(folder)
    wanted = {part.part_id: _unit(part, rollouts) for part in parts}
    todo = _missing(target, parts, wanted)
    together = Together({})
    for part in todo:  # all but the rollouts, before anything is written
        together.add(part, whole(part.read(False), part.name))
    with target.writing(f"import {source}", wait=wait) as writer:
        _split_old(writer, console)
        _retire_replaced(writer, wanted)
        if not (todo := _missing(target, parts, wanted)):
            left = "nothing to do"
            if not is_published(target):
                publish(writer)
                left = "its store is built now"
            console.print(f"{folder} is in {target.path} already, all {len(parts)} CoTs of it: {left}.")
            return
        if len(parts) > len(todo):
            console.print(f"  {len(parts) - len(todo)} of {len(parts)} CoTs are there already, from the same files")
        _Import(source, folder, target, writer, console, rollouts).run(todo, wanted)


def _unit(part: Part, rollouts: bool) -> Unit:
    own = {"rule": _RULE, "importance": importance_stage.RULE, **metric_registry.rules()}
    return Unit(part.part_id, {**own, "rollouts": rollouts, "files": part.digest(rollouts)})


def _missing(target: StudyFolder, parts: Sequence[Part], wanted: Mapping[str, Unit]) -> list[Part]:
    done = target.ledger().keys(STAGE)
    return [part for part in parts if wanted[part.part_id].key not in done]


def _retire_replaced(writer: Writer, wanted: Mapping[str, Unit]) -> None:
    """What a CoT was before gives way to what it is, where that is there; and what it is comes back where it was there
    before.
    """
    known = {key for of, key in {**writer.ledger.live, **writer.ledger.retired} if of == STAGE}
    current = {unit.key for unit in wanted.values()} & known
    replaced = {
        key
        for key in writer.ledger.keys(STAGE)
        if (unit := wanted.get(key.split("@")[0])) and unit.key in current - {key}
    }
    writer.keep_only(STAGE, (writer.ledger.keys(STAGE) - replaced) | current)


@dataclass
class _Import:
    """One command's way through the CoTs that are wanted."""

    source: str
    folder: Path
    target: StudyFolder
    writer: Writer
    console: Console
    rollouts: bool
    warnings: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    sentences: "_Sentences | None" = None
    started: float = field(default_factory=time.monotonic)
    said: float = field(default_factory=time.monotonic)

    def run(self, todo: Sequence[Part], wanted: Mapping[str, Unit]) -> None:
        run_id = stable_id("r", self.source, datetime.now(UTC).isoformat())
        parameters = {
            "source": self.source,
            "folder": self.folder.name,
            "rollouts": self.rollouts,
            "importance": "ours where they allow",
        }
        run = run_row(run_id, f"import {self.source}", self.target.name, None, json.dumps(parameters), [])
        self.writer.add("runs", run_id, {"runs": [run]})
        counts, problems = dict.fromkeys(("problems", "cots", "chunks", "rollouts"), 0), set()
        with Judge() as judge:
            for done, part in enumerate(todo):
                where = f"{done} of {len(todo)} CoTs"
                self._say(where)
                try:
                    found = whole(part.read(self.rollouts), part.name)
                except ImportFormatError as fault:
                    self.faults.append(str(fault))
                    self.console.print(f"  {part.name} is left out: {fault}")
                    continue
                for warning in found.warnings:
                    self.console.print(f"  warning: {warning}")
                self.warnings += found.warnings
                tables = self._completed(found, judge, run_id, f"{where} · {part.name}")
                self.writer.add(STAGE, wanted[part.part_id].key, tables, provenance={"run_id": run_id})
                _retire_replaced(self.writer, wanted)
                problems |= {problem["problem_id"] for problem in tables.get("problems", ())}
                counts |= {name: counts[name] + len(tables.get(name, ())) for name in ("cots", "chunks", "rollouts")}
        if self.warnings:
            self.writer.add("runs", run_id, {"runs": [{**run, "warnings": self.warnings}]})
        publish(self.writer)
        if self.sentences is not None:
            self.console.print(self.sentences.in_words())
        counts["problems"] = len(problems)
        self.console.print(
            f"Imported {', '.join(f'{n:,} {name}' for name, n in counts.items())} into {self.target.path}."
        )
        if self.faults:
            raise ImportFormatError(
                f"{len(self.faults)} of {len(todo)} CoTs are left out, the others are in {self.target.path}. Mend these"
                " and run the same command again:\n" + "\n".join(self.faults)
            )

    def _completed(self, found: ImportedStudy, judge: Judge, run_id: str, where: str) -> dict[str, Any]:
        """The CoT's rows with verdicts, similarities, and every metric that its rollouts allow."""
        tables: dict[str, Any] = {name: list(rows) for name, rows in found.tables.items()}
        _judge(tables, judge)
        for cot in tables.get("cots", ()):
            cot["run_id"] = run_id
        if tables.get("rollouts"):
            self._compare(tables, where)
            _measure(tables, judge)
        return {name: rows for name, rows in tables.items() if len(rows)}

    def _compare(self, tables: dict[str, Any], where: str) -> None:
        if self.sentences is None:
            from backend.models.sentences import load_encoder

            self.sentences = _Sentences(load_encoder())
        texts = {chunk["chunk_id"]: chunk["text"] for chunk in tables["chunks"]}
        by_chunk: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for rollout in tables["rollouts"]:
            by_chunk[rollout["chunk_id"]].append(rollout)
        said = [row["resampled_chunk"] for row in tables["rollouts"] if row["resampled_chunk"] is not None]
        for done, total in self.sentences.learn([*(texts[chunk].strip() for chunk in by_chunk), *said]):
            self._say(f"{where} · {done:,} of {total:,} sentences")
        for chunk, rollouts in by_chunk.items():
            distinct = list(dict.fromkeys(rollout["resampled_chunk"] for rollout in rollouts))
            near = dict(zip(distinct, similarity(self.sentences.encode, texts[chunk], distinct), strict=True))
            for rollout in rollouts:
                rollout["similarity"] = near[rollout["resampled_chunk"]]

    def _say(self, words: str) -> None:
        """A plain line now and then: a log shows it as a terminal does."""
        if time.monotonic() - self.said >= _SAY_EVERY:
            self.said = time.monotonic()
            self.console.print(f"  {words} · {(self.said - self.started) / 60:.1f} min")


class _Sentences:
    """Vectors of sentences, each encoded once for the whole import as long as there is room."""

    def __init__(self, encoder: "SentenceEncoder"):
        self._encoder = encoder
        self._kept: OrderedDict[bytes, np.ndarray] = OrderedDict()

    def learn(self, texts: Sequence[str]) -> Iterator[tuple[int, int]]:
        """Encode those that are not known yet, many at once; yields how many of them are done, of how many."""
        new = {key: text for text in texts if (key := _key(text)) not in self._kept}
        ordered = sorted(
            new, key=lambda key: len(new[key])
        )  # of like length together: what is encoded at once is packed
        slabs = [ordered[start : start + _ENCODED_AT_ONCE] for start in range(0, len(ordered), _ENCODED_AT_ONCE)]
        done = 0
        for keys, vectors in zip(slabs, self._encoded([[new[key] for key in keys] for keys in slabs]), strict=True):
            self._kept.update(zip(keys, vectors, strict=True))
            done += len(keys)
            yield done, len(ordered)
        while len(self._kept) > max(_KEPT_VECTORS, len(ordered)):
            self._kept.popitem(last=False)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        for _ in self.learn(texts):
            pass
        return np.array([self._kept[_key(text)] for text in texts])

    def _encoded(self, slabs: Sequence[Sequence[str]]) -> Iterator[np.ndarray]:
        """One thread a core, each with small operations of its own: two threads in one operation wait for each other at
        every one.
        """
        if not slabs:
            return
        import torch

        before = torch.get_num_threads()
        try:
            with ThreadPoolExecutor(
                min(len(slabs), os.cpu_count() or 1), initializer=torch.set_num_threads, initargs=(1,)
            ) as pool:
                yield from pool.map(self._encoder.encode, slabs)
        finally:
            torch.set_num_threads(before)

    def in_words(self) -> str:
        from backend.models.sentences import matrix_rate

        meter, roof = self._encoder.meter, matrix_rate()
        return (
            f"  {meter.sentences:,} distinct sentences, {meter.tokens:,} tokens: {meter.seconds / 60:.1f} CPU minutes,"
            f" {meter.rate / 1e9:.1f} GFLOP/s of {roof / 1e9:.1f} that one matrix product does here"
            f" ({meter.rate / roof:.0%})"
        )


def _key(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()[:16]


def _judge(tables: dict[str, Any], judge: Judge) -> None:
    """Verdicts for CoTs that were published with an answer and without one; published verdicts stay."""
    truths = {problem["problem_id"]: problem["answer"] for problem in tables.get("problems", ())}
    open_cots = [
        cot
        for cot in tables.get("cots", ())
        if cot["is_correct"] is None and cot["answer"] is not None and truths[cot["problem_id"]] is not None
    ]
    verdicts = judge.judge([(cot["answer"], truths[cot["problem_id"]]) for cot in open_cots]) if open_cots else []
    for cot, verdict in zip(open_cots, verdicts, strict=True):
        cot["is_correct"], cot["grader"] = verdict, grader()


def _measure(tables: dict[str, Any], judge: Judge) -> None:
    """Every metric that the rollouts of the one CoT allow, beside what was published."""
    chunks = sorted(tables["chunks"], key=lambda chunk: chunk["chunk_index"])
    cot_id = chunks[0]["cot_id"]
    frame = pd.DataFrame(tables["rollouts"])
    measured = importance_tables(
        cot_id, {chunk["chunk_id"]: chunk["text"] for chunk in chunks}, frame, judge, seed=seed_for("import", cot_id)
    )
    ours = _known(arrow_rows("importance", measured["importance"]))
    tables["importance"] = pa.concat_tables([arrow_rows("importance", tables.get("importance", [])), ours])
    tables["answer_clusters"] = measured["answer_clusters"]


def _known(importance: pa.Table) -> pa.Table:
    """One CoT's metrics without those that are unknown for every chunk:
    what the rollouts do not allow is not listed."""
    frame = importance.to_pandas()
    known = frame.groupby(["metric", "convention"])["value"].transform(lambda values: values.notna().any())
    return importance.filter(pa.array(known.to_numpy(dtype=bool)))


def _split_old(writer: Writer, console: Console) -> None:
    """Imports of before, all CoTs of one command in one unit, become one unit a CoT; their importances are computed
    anew by today's rule.

    Such a unit is known by its CoT alone, so that importing the CoT's files again replaces it.
    """
    old = [line for (stage, _), line in list(writer.ledger.live.items()) if stage == _ALL_IN_ONE]
    for line in old:
        tables = _rows_of(writer, line)
        runs = tables.pop("runs", [])
        with Judge() as judge:
            for cot, own in by_cots(tables).items():
                if own.get("rollouts"):
                    own["importance"] = [one for one in own.get("importance", []) if one["convention"] == "published"]
                    _measure(own, judge)
                part = _part_id(own, cot)
                if not any(key.startswith(f"{part}@") for key in writer.ledger.keys(STAGE)):
                    writer.add(STAGE, Unit(part, {"of": line.key}).key, own)
        for run in runs:
            writer.add("runs", run["run_id"], {"runs": [run]})
        writer.keep_only(_ALL_IN_ONE, writer.ledger.keys(_ALL_IN_ONE) - {line.key})
        console.print(
            f"  an earlier import ({sum(len(rows) for rows in tables.values()):,} rows in one unit) is kept, CoT by CoT"
        )


def _rows_of(writer: Writer, line: UnitLine) -> dict[str, list[dict[str, Any]]]:
    from backend.schema.migrations import upgraded

    return {file.table: upgraded(file.table, writer.folder.read(file), line.schema).to_pylist() for file in line.files}


def _part_id(rows: Mapping[str, Sequence[dict[str, Any]]], cot: str | None) -> str:
    """That of the part which the rows of a CoT were read from."""
    if cot is None or not rows.get("problems") or rows["problems"][0]["source"] != "thought-anchors":
        return stable_id("i", "seed-study", cot)
    cases = ("correct_base_solution", "incorrect_base_solution")
    case = cases[rows["cots"][0]["sample"]]
    return stable_id("i", "thought-anchors", rows["models"][0]["name"], case, rows["problems"][0]["source_key"])
