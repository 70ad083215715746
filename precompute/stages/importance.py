"""Every importance metric and convention from the stored rollouts: seconds, and nothing is sampled again.

A CoT that has answers forced at the cap, or rollouts drawn later, gets them without these too (`importance_given`),
from the same random numbers.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa

from backend.cot.answers import Judge, cluster_answers, grader
from backend.ids import seed_for
from backend.importance import metric_registry
from backend.importance.metrics import importance_of_cot
from backend.importance.with_and_without import given_alone, is_given_alone
from precompute.estimates import Estimate, Quantities
from precompute.stages import chunks as chunks_stage
from precompute.study import Study
from precompute.units import Context, Finished, Unit

NAME, UNIT = "importance", "CoT"
RULE = 2  # of the metrics: raise it when they change, and they are computed anew
_COT_SECONDS = 0.5
_REPLICATES = 1000


def units(context: Context) -> list[Unit]:
    by_cot: dict[str, list[Any]] = {}
    for row in context.store.answers_by_rollout():
        by_cot.setdefault(row["cot_id"], []).append([row["kind"], row["n"], row["digest"]])
    chunks, inputs = chunks_stage.rules(context), {"replicates": _REPLICATES, **metric_registry.rules()}
    return [Unit(cot, {**inputs, "chunks": chunks[cot], "rollouts": rollouts}) for cot, rollouts in by_cot.items()]


def estimate(of: Quantities) -> Estimate:
    return of.line(NAME, of.rolled_cots, gigabytes=of.rolled_chunks * 1e-6, seconds=of.rolled_cots * _COT_SECONDS)


def compute(context: Context, units: Sequence[Unit]) -> Iterator[Finished]:
    chunks = context.store.chunks_of([unit.unit_id for unit in units])
    with Judge() as judge:
        for unit in units:
            rollouts = context.store.rollouts_of(unit.unit_id)
            seed = seed_of(context.study, unit.unit_id)
            ids = [chunk["chunk_id"] for chunk in chunks[unit.unit_id]]
            tables = importance_tables(unit.unit_id, ids, rollouts, judge, seed=seed)
            if not is_given_alone(rollouts):
                given = importance_tables(unit.unit_id, ids, given_alone(rollouts), judge, seed=seed)
                tables["importance_given"] = given["importance"]
            yield Finished(unit, tables, {"seed": seed})


def seed_of(study: Study, cot_id: str) -> int:
    """Seed of the bootstrap of a CoT's importance."""
    return seed_for(study.seed, "importance", cot_id)


def importance_tables(
    cot_id: str, chunk_ids: Sequence[str], rollouts: pd.DataFrame, judge: Judge, *, seed: int
) -> dict[str, list[dict[str, Any]] | pa.Table]:
    """Rows of answer_clusters and importance for one CoT. `rollouts` has the columns of the table that metrics need."""
    counts = Counter(answer for answer in rollouts["answer"] if isinstance(answer, str))
    clusters = cluster_answers(counts.elements(), judge)
    labelled = rollouts.assign(answer_cluster=rollouts["answer"].map(clusters))
    measured = importance_of_cot(labelled, chunk_ids, n_bootstrap=_REPLICATES, seed=seed)
    return {
        "answer_clusters": [
            {"cot_id": cot_id, "answer": answer, "cluster": cluster, "n": counts[answer], "grader": grader()}
            for answer, cluster in clusters.items()
        ],
        "importance": pa.Table.from_pandas(measured, preserve_index=False),
    }
