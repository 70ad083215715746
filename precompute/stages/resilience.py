"""Resilience and counterfactual++ from the texts of the stored rollouts: their sentences are embedded, and nothing is
sampled again.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pandas as pd
import pyarrow as pa

from backend.importance import metric_registry
from backend.importance.resilience import resilience_of_cot, returns
from precompute.estimates import Estimate, Quantities
from precompute.stages import chunks as chunks_stage
from precompute.stages.importance import seed_of
from precompute.units import Context, Finished, Unit

NAME, UNIT = "resilience", "CoT"
RULE = 2  # of the metrics: raise it when they change, and they are computed anew
_SENTENCE_SECONDS = 0.002  # a sentence of a rollout: those of about half are embedded, equal ones once
_REPLICATES = 1000


@dataclass(frozen=True)
class Task:
    makes: tuple[str]  # a CoT is a unit
    chunks: Mapping[str, str]  # id -> text, in reading order
    rollouts: pd.DataFrame
    encoder: str
    seed: int


def units(context: Context) -> list[Unit]:
    """CoTs with rollouts whose answers are clustered; what the rollouts say is part of the inputs."""
    encoder = context.study.rollouts.encoder
    inputs = {"replicates": _REPLICATES, "encoder": encoder, **metric_registry.rules(needs_returns=True)}
    rules = chunks_stage.rules(context)
    return [
        Unit(row["cot_id"], {**inputs, "chunks": rules[row["cot_id"]], "rollouts": [row["n"], row["digest"]]})
        for row in context.store.texts_by_rollout()
    ]


def estimate(of: Quantities) -> Estimate:
    seconds = of.rollout_tokens / of.lengths.chunk * _SENTENCE_SECONDS
    return of.line(NAME, of.rolled_cots, gigabytes=of.rolled_chunks * 1e-6, seconds=seconds)


def compute(context: Context, units: Sequence[Unit]) -> Iterator[Finished]:
    study, by_id = context.study, {unit.unit_id: unit for unit in units}
    chunks = context.store.chunks_of(list(by_id))
    tasks = [
        Task(
            (cot,),
            {chunk["chunk_id"]: chunk["text"] for chunk in chunks[cot]},
            context.store.resampled(cot),
            study.rollouts.encoder,
            seed_of(study, cot),
        )
        for cot in by_id
    ]
    for cot, measured in context.run(measure, tasks):
        yield Finished(
            by_id[cot],
            {"importance": pa.Table.from_pandas(measured, preserve_index=False)},
            {"seed": seed_of(study, cot)},
        )


def measure(_: None, task: Task) -> Iterator[tuple[str, pd.DataFrame]]:
    """Runs in a worker: the metrics of one CoT."""
    looked_at = task.rollouts.assign(returns=returns(task.rollouts, task.chunks, _encoder(task.encoder).encode))
    yield task.makes[0], resilience_of_cot(looked_at, list(task.chunks), n_bootstrap=_REPLICATES, seed=task.seed)


@lru_cache(maxsize=1)
def _encoder(name: str) -> Any:
    """Loaded once a process."""
    from backend.models.sentences import load_encoder

    return load_encoder(name)
