"""Whether later sentences come back without an earlier one, from the texts of the stored rollouts: their sentences are
embedded, and nothing is sampled again. What is measured is said in backend/influence/resampled.py.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pandas as pd

from precompute.estimates import Estimate, Quantities
from precompute.influence import influence_cots
from precompute.stages import chunks as chunks_stage
from precompute.units import Context, Finished, Unit

NAME, UNIT = "resampled_influence", "CoT"
RULE = 1  # of what is compared: raise it when it changes
_SENTENCE_SECONDS = 0.002  # a sentence of a rollout, equal ones once


@dataclass(frozen=True)
class Task:
    makes: tuple[str]  # a CoT is a unit
    chunks: Mapping[str, str]  # id -> text, in reading order
    rollouts: pd.DataFrame
    encoder: str


def units(context: Context) -> list[Unit]:
    """CoTs whose rollouts have texts; what these say is part of the inputs."""
    chosen, rules = influence_cots(context), chunks_stage.rules(context)
    encoder = context.study.rollouts.encoder
    return [
        Unit(row["cot_id"], {"encoder": encoder, "chunks": rules[row["cot_id"]], "rollouts": [row["n"], row["digest"]]})
        for row in (context.store.resampled_texts() if chosen else [])
        if row["cot_id"] in chosen
    ]


def estimate(of: Quantities) -> Estimate | None:
    if of.study.influence is None:
        return None
    seconds = of.rollout_tokens / of.lengths.chunk * _SENTENCE_SECONDS
    return of.line(NAME, of.rolled_cots, gigabytes=of.rolled_chunks * 1e-6, seconds=seconds)


def compute(context: Context, units: Sequence[Unit]) -> Iterator[Finished]:
    by_id = {unit.unit_id: unit for unit in units}
    chunks, encoder = context.store.chunks_of(list(by_id)), context.study.rollouts.encoder
    tasks = [
        Task((cot,), {chunk["chunk_id"]: chunk["text"] for chunk in chunks[cot]}, context.store.resampled(cot), encoder)
        for cot in by_id
    ]
    for cot, rows in context.run(measure, tasks):
        yield Finished(by_id[cot], {"resampled_influences": rows})


def measure(_: None, task: Task) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Runs in a worker: the pairs of one CoT."""
    from backend.influence.resampled import resampled_influences

    yield task.makes[0], resampled_influences(task.chunks, task.rollouts, _encoder(task.encoder).encode)


@lru_cache(maxsize=1)
def _encoder(name: str) -> Any:
    """Loaded once a process."""
    from backend.models.sentences import load_encoder

    return load_encoder(name)
