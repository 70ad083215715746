"""Other people's studies into the same tables: read whole, completed with what their rollouts allow, written as one unit.

Published values stay as published (convention `published`); ours stand beside them. Nothing is written before everything has been read,
so a folder with a fault leaves the study as it was.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from backend.errors import AnchorscopeError
from backend.ids import seed_for, stable_id
from backend.importance.similarity import similarity
from backend.store.publish import publish
from backend.store.unit_files import StudyFolder, arrow_rows
from precompute.importers.seed_study import read_seed_study
from precompute.importers.thought_anchors import ImportedStudy, read_thought_anchors
from precompute.pipeline import run_row
from precompute.stages.importance import importance_tables
from precompute.terminal import Console, ours, track

READERS: Mapping[str, Callable[[Path], ImportedStudy]] = {"thought-anchors": read_thought_anchors, "seed-study": read_seed_study}


def import_folder(source: str, folder: Path, target: StudyFolder, *, wait: bool, console: Console) -> None:
    """Read `folder` as `source` and make it part of the study `target`. Importing the same folder again changes nothing.

    Raises AnchorscopeError for an unknown source, and the reader's errors, before anything is written.
    """
    console = ours(console)
    if source not in READERS:
        raise AnchorscopeError(f"There is no importer {source!r}; there are {', '.join(READERS)}.")
    imported = READERS[source](folder)
    tables: dict[str, Any] = {name: list(rows) for name, rows in imported.tables.items()}
    for warning in imported.warnings:
        console.print(f"  warning: {warning}")
    # What was read decides the key, so that importing the same content again is recognised and other content replaces it.
    digest = hashlib.sha256(json.dumps(tables, sort_keys=True, default=str).encode()).hexdigest()[:16]
    key = f"{stable_id('i', source, sorted(row['cot_id'] for row in tables['cots']))}@{digest}"
    with target.writing(f"import {source}", wait=wait) as writer:
        if key in writer.ledger.keys("import"):
            console.print(f"{folder} is in {target.path} already: nothing to do.")
            return
        _judge(tables)
        _complete(tables, console)
        run_id = stable_id("r", source, key)
        for row in tables["cots"]:
            row["run_id"] = run_id
        parameters = json.dumps({"source": source, "folder": folder.name, "importance": "ours where rollouts allow"})
        tables["runs"] = [run_row(run_id, f"import {source}", target.name, None, parameters, imported.warnings)]
        replaced = {line for line in writer.ledger.keys("import") if line.split("@")[0] == key.split("@")[0]}
        writer.add("import", key, {name: rows for name, rows in tables.items() if len(rows)})
        writer.keep_only("import", writer.ledger.keys("import") - replaced)
        publish(writer)
    counts = ", ".join(f"{len(tables[name])} {name}" for name in ("problems", "cots", "chunks", "rollouts") if name in tables)
    console.print(f"Imported {counts} into {target.path}.")


def _judge(tables: dict[str, Any]) -> None:
    """Verdicts for CoTs that were published with an answer and without one; published verdicts stay."""
    from backend.cot.answers import Judge, grader

    truths = {problem["problem_id"]: problem["answer"] for problem in tables["problems"]}
    open_cots = [cot for cot in tables["cots"] if cot["is_correct"] is None and cot["answer"] is not None]
    if not open_cots:
        return
    with Judge() as judge:
        verdicts = judge.judge([(cot["answer"], truths[cot["problem_id"]]) for cot in open_cots])
    for cot, verdict in zip(open_cots, verdicts, strict=True):
        cot["is_correct"], cot["grader"] = verdict, grader()


def _complete(tables: dict[str, Any], console: Console) -> None:
    """Similarities and every importance metric that the imported rollouts allow, beside the published values."""
    from backend.cot.answers import Judge
    from backend.models.sentences import load_encoder

    if not tables.get("rollouts"):
        return
    texts = {chunk["chunk_id"]: chunk["text"] for chunk in tables["chunks"]}
    order: dict[str, list[str]] = defaultdict(list)
    for chunk in sorted(tables["chunks"], key=lambda chunk: (chunk["cot_id"], chunk["chunk_index"])):
        order[chunk["cot_id"]].append(chunk["chunk_id"])
    by_chunk: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for rollout in tables["rollouts"]:
        by_chunk[rollout["chunk_id"]].append(rollout)
    encoder = load_encoder()
    for chunk_id, rollouts in track(by_chunk.items(), "  comparing resampled sentences", console=console):
        sentences = list(dict.fromkeys(rollout["resampled_chunk"] for rollout in rollouts))  # each distinct one is encoded once
        near = dict(zip(sentences, similarity(encoder.encode, texts[chunk_id], sentences), strict=True))
        for rollout in rollouts:
            rollout["similarity"] = near[rollout["resampled_chunk"]]
    frame = pd.DataFrame(tables["rollouts"])
    measured: dict[str, list[pa.Table]] = defaultdict(list)
    with Judge() as judge:
        for cot_id, rollouts in track(frame.groupby("cot_id"), "  importance", console=console):
            seed = seed_for("import", cot_id)
            for name, rows in importance_tables(str(cot_id), order[str(cot_id)], rollouts, judge, seed=seed).items():
                measured[name].append(arrow_rows(name, rows))
    importance = pa.concat_tables(
        [arrow_rows("importance", tables.get("importance", [])), *(_known(part) for part in measured["importance"])]
    )
    tables["importance"] = importance
    tables["answer_clusters"] = pa.concat_tables(measured["answer_clusters"])


def _known(importance: pa.Table) -> pa.Table:
    """One CoT's metrics without those that are unknown for every chunk: what the rollouts do not allow is not listed."""
    frame = importance.to_pandas()
    known = frame.groupby(["metric", "convention"])["value"].transform(lambda values: values.notna().any())
    return importance.filter(pa.array(known.to_numpy(dtype=bool)))
