"""Every importance metric and convention from the stored rollouts: seconds, and nothing is sampled again.

A CoT that has answers forced at the cap, or rollouts drawn later, gets them without these too (`importance_given`),
from the same random numbers. The prior of the `jsd` importances is over the answers of the CoT's problem, so what other
CoTs of the problem answer is part of a unit's inputs.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import pandas as pd
import pyarrow as pa

from backend.cot.answers import Judge, cluster_answers, grader
from backend.ids import seed_for
from backend.importance import metric_registry
from backend.importance.metrics import importance_of_cot
from backend.importance.similarity import with_numbers
from backend.importance.with_and_without import given_alone, is_given_alone
from backend.store.store import Store
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
    outcomes = context.store.answers_by_problem()
    return [
        Unit(cot, {**inputs, "chunks": chunks[cot], "rollouts": rollouts, "outcomes": outcomes[cot]})
        for cot, rollouts in by_cot.items()
    ]


def estimate(of: Quantities) -> Estimate:
    return of.line(NAME, of.rolled_cots, gigabytes=of.rolled_chunks * 1e-6, seconds=of.rolled_cots * _COT_SECONDS)


def compute(context: Context, units: Sequence[Unit]) -> Iterator[Finished]:
    chunks = context.store.chunks_of([unit.unit_id for unit in units])
    with Judge() as judge:
        among = cache(lambda problem: n_outcomes(context.store, problem, judge))
        for unit in units:
            rollouts = context.store.rollouts_of(unit.unit_id)
            seed = seed_of(context.study, unit.unit_id)
            texts = {chunk["chunk_id"]: chunk["text"] for chunk in chunks[unit.unit_id]}
            outcomes = among(context.store.cot(unit.unit_id)["problem_id"].item())
            tables = importance_tables(unit.unit_id, texts, rollouts, judge, seed=seed, n_outcomes=outcomes)
            if not is_given_alone(rollouts):
                given = importance_tables(
                    unit.unit_id, texts, given_alone(rollouts), judge, seed=seed, n_outcomes=outcomes
                )
                tables["importance_given"] = given["importance"]
            yield Finished(unit, tables, {"seed": seed})


def n_outcomes(store: Store, problem_id: str, judge: Judge) -> int:
    """How many answers the rollouts of a problem's CoTs gave by themselves, equal ones as one."""
    return len(set(cluster_answers(store.answers_of_problem(problem_id), judge).values()))


def seed_of(study: Study, cot_id: str) -> int:
    """Seed of the bootstrap of a CoT's importance."""
    return seed_for(study.seed, "importance", cot_id)


def importance_tables(
    cot_id: str,
    chunks: Mapping[str, str],
    rollouts: pd.DataFrame,
    judge: Judge,
    *,
    seed: int,
    n_outcomes: int = 0,
    metrics: Sequence[str] | None = None,
) -> dict[str, list[dict[str, Any]] | pa.Table]:
    """Rows of answer_clusters and importance for one CoT. `chunks` maps ids to texts in reading order; `rollouts` has
    the columns of the table that metrics need; `n_outcomes` are the distinct answers of the problem (0: the CoT's own);
    `metrics` left out are all that the stage computes.
    """
    counts = Counter(answer for answer in rollouts["answer"] if isinstance(answer, str))
    clusters = cluster_answers(counts.elements(), judge)
    labelled = with_numbers(rollouts.assign(answer_cluster=rollouts["answer"].map(clusters)), chunks)
    measured = importance_of_cot(
        labelled,
        list(chunks),
        n_bootstrap=_REPLICATES,
        seed=seed,
        n_outcomes=max(n_outcomes, len(set(clusters.values()))),
        metrics=metrics,
    )
    return {
        "answer_clusters": [
            {"cot_id": cot_id, "answer": answer, "cluster": cluster, "n": counts[answer], "grader": grader()}
            for answer, cluster in clusters.items()
        ],
        "importance": pa.Table.from_pandas(measured, preserve_index=False),
    }
