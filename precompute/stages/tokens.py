"""Imported CoTs as one of the study's models reads them: token ids of prompt + CoT, and each chunk's token span.

The CoT and its chunks keep their ids and texts; what changes is that their tokens are known, so that activations and
sweeps can follow.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from backend.cot.chunking import token_spans
from backend.models.loaded import LoadedModel
from backend.schema.tables import TABLES
from precompute import models
from precompute.estimates import Quantities
from precompute.stages.cots import shares
from precompute.units import Context, Finished, Unit

NAME, UNIT = "tokens", "imported CoT"
RULE = 1  # of reading: raise it when it changes
_COTS_A_TASK = 64


@dataclass(frozen=True)
class Task:
    """Imported CoTs, each with its chunks."""

    makes: tuple[str, ...]  # a unit a CoT
    cots: tuple[tuple[dict[str, Any], list[dict[str, Any]]], ...]
    role: str


def units(context: Context) -> list[Unit]:
    """Imported CoTs whose writer is named in a model's `reads`."""
    read = [(models.reader_of(context.study, cot), cot["cot_id"]) for cot in context.store.imported_cots()]
    return [Unit(f"{reader}.{cot_id}", {}) for reader, cot_id in read if reader]


def estimate(of: Quantities) -> None:
    """No line: a study file does not say how many CoTs were imported, and reading one takes no time to speak of."""


def compute(context: Context, units: Sequence[Unit]) -> Iterator[Finished]:
    study = context.study
    cots = {cot["cot_id"]: cot for cot in context.store.imported_cots()}
    chunks = context.store.chunks_of(list(cots))
    by_id = {unit.unit_id: unit for unit in units}
    by_reader: dict[str, dict[str, Unit]] = defaultdict(dict)
    for unit in units:
        reader, cot_id = unit.unit_id.split(".")
        by_reader[reader][cot_id] = unit
    for reader, by_cot in by_reader.items():
        model = models.by_id(study)[reader]
        tasks = [
            Task(
                tuple(by_cot[cot].unit_id for cot in share),
                tuple((cots[cot], chunks[cot]) for cot in share),
                model.role,
            )
            for share in shares(list(by_cot), 1, _COTS_A_TASK)
        ]
        for unit_id, tables in context.run(tokenise, tasks, model=models.spec(study, model)):
            yield Finished(by_id[unit_id], tables, {"model_id": reader})


def tokenise(loaded: LoadedModel, task: Task) -> Iterator[tuple[str, dict[str, Any]]]:
    """Runs in a worker: rows of models, cots and chunks for each imported CoT."""
    for unit_id, (cot, chunks) in zip(task.makes, task.cots, strict=True):
        encoded = loaded.tokenizer(cot["prompt"] + cot["text"], add_special_tokens=False, return_offsets_mapping=True)
        offsets = encoded["offset_mapping"]
        n_prompt = sum(start < len(cot["prompt"]) for start, _ in offsets)
        spans = token_spans([(chunk["char_start"], chunk["char_end"]) for chunk in chunks], offsets, len(cot["prompt"]))
        known = {"token_ids": encoded["input_ids"], "n_prompt_tokens": n_prompt, "n_tokens": len(offsets) - n_prompt}
        rows = [
            {**chunk, "token_start": start, "token_end": end} for chunk, (start, end) in zip(chunks, spans, strict=True)
        ]
        yield (
            unit_id,
            {
                "models": [models.model_row(loaded, task.role)],
                "cots": [{name: known.get(name, cot[name]) for name in TABLES["cots"].columns}],
                "chunks": rows,
            },
        )
