"""How much chunks are attended to by those after them, head by head: one forward pass a CoT and model that reads."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from backend.models.loaded import LoadedModel
from precompute import models
from precompute.estimates import Estimate, Quantities
from precompute.influence import as_read, influence_readings, n_readings
from precompute.stages import chunks as chunks_stage
from precompute.stages.cots import shares
from precompute.units import Context, Finished, Unit

if TYPE_CHECKING:
    from backend.influence.attention import ChunkAttention

NAME, UNIT = "attention", "CoT"
RULE = 1  # of what is averaged: raise it when it changes
_COTS_A_TASK = 16
_HEADS = 300  # of a model, assumed for the plan


@dataclass(frozen=True)
class Task:
    makes: tuple[str, ...]  # a unit a CoT and model that reads
    cots: tuple[tuple[Mapping[str, Any], tuple[Mapping[str, Any], ...]], ...]  # each with its chunks in reading order


def units(context: Context) -> list[Unit]:
    """One unit a reading model and CoT."""
    rules = chunks_stage.rules(context)
    return [
        Unit(f"{reader}.{cot['cot_id']}", {"chunks": rules[cot["cot_id"]]})
        for reader, cot in influence_readings(context)
    ]


def estimate(of: Quantities) -> Estimate | None:
    if of.study.influence is None:
        return None
    n_units = n_readings(of)
    tokens = n_units * of.read / max(of.n_cots, 1)
    pairs = n_units * (of.lengths.cot / of.lengths.chunk) ** 2 / 2
    return of.line(NAME, n_units, tokens=tokens, by="forward", gigabytes=pairs * _HEADS * 4e-9)


def compute(context: Context, units: Sequence[Unit]) -> Iterator[Finished]:
    study, by_id = context.study, {unit.unit_id: unit for unit in units}
    cots = {cot["cot_id"]: cot for cot in context.store.tokenised_cots()}
    asked: dict[str, list[str]] = defaultdict(list)
    for unit in units:
        model_id, cot_id = unit.unit_id.split(".")
        asked[model_id].append(cot_id)
    chunks = context.store.chunks_of(sorted({cot for own in asked.values() for cot in own}))
    for model_id, own in asked.items():
        model = models.by_id(study)[model_id]
        tasks = [
            Task(
                tuple(f"{model_id}.{cot}" for cot in share),
                tuple((cots[cot], tuple(chunks.get(cot, ()))) for cot in share),
            )
            for share in shares(own, context.engine.workers, _COTS_A_TASK)
            if share
        ]
        for unit_id, found in context.run(read, tasks, model=models.spec(study, model)):
            yield Finished(by_id[unit_id], _rows(model_id, found), {"model_id": model_id, "dtype": model.dtype})


def read(loaded: LoadedModel, task: Task) -> Iterator[tuple[str, "ChunkAttention"]]:
    """Runs in a worker."""
    from backend.influence.attention import chunk_attention

    for unit_id, (cot, chunks) in zip(task.makes, task.cots, strict=True):
        yield unit_id, chunk_attention(loaded, *as_read(loaded.tokenizer, cot, chunks))


def _rows(model_id: str, found: "ChunkAttention") -> dict[str, list[dict[str, Any]]]:
    """A row a pair, in each of the two tables. A layer without heads is NaN in `by_head`, and not in the mean."""
    tables: dict[str, list[dict[str, Any]]] = {"chunk_attention": [], "head_attention": []}
    for source, target in zip(*found.pairs(), strict=True):
        by_head = found.by_head[:, :, target, source]
        pair = {
            "source_chunk_id": found.chunk_ids[source],
            "target_chunk_id": found.chunk_ids[target],
            "model_id": model_id,
        }
        sizes = {"n_source": found.n_tokens[source], "n_target": found.n_tokens[target]}
        tables["chunk_attention"].append(pair | {"attention": float(np.nanmean(by_head))} | sizes)
        tables["head_attention"].append(pair | {"by_head": by_head.ravel().astype(np.float32)})
    return tables
