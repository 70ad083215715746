"""How much a chunk matters for the final answer, from rollouts (Thought Anchors, arXiv:2506.19143, section 3).

The method in steps, for chunk i of a CoT:

1. A rollout at i continues from before chunk i; its first chunk S' replaces S_i. It is *dissimilar* when the cosine of
   their sentence embeddings is below 0.8, *similar* at or above. The rollouts at i+1 are those that keep S_i.
   A stricter rule, `numbers`, also asks for the same numbers and operators (`similarity`).
2. Two groups of rollouts are compared, p with q. Which, in which direction, and by which outcomes, is the convention's:
   `conventions` has one entry for each. The `_kl` metrics are KL(p || q) in nats; the `_accuracy` metrics are
   accuracy(p) − accuracy(q).
3. The smoothing of a KL adds the convention's alpha to the count of every outcome of a set fixed beforehand: the union
   of the answers in p and q, or {correct, wrong}, seen or not.
4. `_jsd` metrics are Jensen–Shannon divergences less what chance gives, with an interval and a permutation's p of their
   own (`jsd`). They alone have p.
5. Other intervals: each group is resampled within itself, at its own size, and the 2.5th and 97.5th percentiles are
   taken. Sampling noise alone makes a KL positive, so the interval of a KL that is truly 0 may lie above 0.

A rollout from before an earlier chunk that writes the chain token for token up to a chunk (`n_kept`) is drawn there as
those that start there are. The `jsd` family counts it so: counterfactual importance at i+1; resampling importance at i,
for there is no leaving it out there, and then not at i+1 too: no rollout is on both sides of a comparison. The
published conventions count each rollout where it starts.

Unknown takes no part and is never 0. A rollout without an answer has no outcome: it counts neither as an answer of its
own nor as wrong (the published code of Thought Anchors drops it too). A rollout without a similarity is neither similar
nor dissimilar. The last chunk has no i+1, and a group may be empty: then the row is there and its value is NULL. `n`
and `n_comparator` are the rollouts of p and q that took part. `different_trajectories_fraction` and
`overdeterminedness` need no answer, and count every rollout; that code leaves out those without one.

`resilience` tells of two more metrics, which look at the whole continuation; they are estimated here, from a column
`returns`.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from backend.errors import AnchorscopeError
from backend.ids import seed_for
from backend.importance import conventions as registry
from backend.importance.estimates import Estimate, Estimator, estimator_at, grouped
from backend.importance.metric_registry import METRICS, conventions_of, metrics_to_compute
from backend.schema.tables import TABLES

CONVENTIONS = tuple(registry.CONVENTIONS)

_COLUMNS = ["chunk_id", "kind", "similarity", "answer_cluster", "is_correct", "resampled_chunk"]


class RolloutsError(AnchorscopeError):
    """The rollouts handed in cannot be those of one CoT."""


def importance_of_cot(
    rollouts: pd.DataFrame,
    chunk_ids: Sequence[str],
    *,
    conventions: Sequence[str] = CONVENTIONS,
    n_bootstrap: int = 1000,
    seed: int,
    metrics: Sequence[str] | None = None,
    n_outcomes: int = 0,
) -> pd.DataFrame:
    """The metrics by every convention for every chunk of one CoT, with the columns of the table `importance` (unknown
    is NaN or NA).

    `rollouts` has the columns of the table `rollouts`, of this CoT alone, and `answer_cluster`; their order and the
    names of the clusters change nothing. The column `answer` is what `ta` counts, as written; without it the clusters
    stand for it. `chunk_ids` are all chunks of the CoT in reading order, also those without rollouts. `n_bootstrap` = 0
    leaves the intervals and p unknown; `n_outcomes` are the distinct answers of the CoT's problem, where more are known
    than those of a chunk's rollouts. Without a column `same_numbers` (see `similarity`) it is unknown by the rule
    `numbers` what the embeddings call similar. `metrics` left out are all that need no `returns`. The random numbers of
    an interval depend on `seed`, chunk and metric alone.
    """
    _check(rollouts, chunk_ids, conventions)
    groups = grouped(rollouts)
    metrics = metrics_to_compute() if metrics is None else metrics
    wanted = [(metric, convention) for metric in metrics for convention in conventions_of(metric, conventions)]
    rows = []
    for position, chunk in enumerate(chunk_ids):
        at = estimator_at(groups, chunk_ids, position, n_bootstrap=n_bootstrap, seed=seed, n_outcomes=n_outcomes)
        for metric, convention in wanted:
            found = estimate_of(at, metric, convention)
            rows.append(
                (
                    chunk,
                    metric,
                    convention,
                    found.value,
                    *found.interval,
                    found.p,
                    found.n,
                    found.n_comparator,
                    None,
                    None,
                )
            )
    table = pd.DataFrame(rows, columns=list(TABLES["importance"].columns))
    return table.astype(
        {
            "value": "float64",
            "ci_low": "float64",
            "ci_high": "float64",
            "p": "float64",
            "n": "int64",
            "n_comparator": "Int64",
        }
    )


def estimate_of(at: Estimator, metric: str, convention: str) -> Estimate:
    """One metric of one chunk; metrics that share random numbers draw the same."""
    found = METRICS[metric]
    rng = np.random.default_rng(seed_for(at.seed, at.chunk, found.draws_as or metric))
    return found.measure.estimated(at, convention, rng)


def _check(rollouts: pd.DataFrame, chunk_ids: Sequence[str], conventions: Sequence[str]) -> None:
    if missing := [column for column in _COLUMNS if column not in rollouts.columns]:
        raise RolloutsError(f"rollouts lack the columns {missing}; expected those of the table rollouts")
    if len(set(chunk_ids)) != len(chunk_ids):
        raise RolloutsError("a chunk id occurs twice in the reading order; pass every chunk of the CoT once")
    if strangers := sorted(set(rollouts["chunk_id"]) - set(chunk_ids)):
        raise RolloutsError(
            f"rollouts at chunk {strangers[0]}, which is none of the {len(chunk_ids)} chunks given; pass one CoT at a"
            " time"
        )
    if unknown := sorted(set(rollouts["kind"]) - {"resample", "forced"}):
        raise RolloutsError(f"a rollout's kind is {unknown[0]!r}; expected resample or forced")
    if unknown := [convention for convention in conventions if convention not in CONVENTIONS]:
        raise RolloutsError(f"there is no convention {unknown[0]!r}; choose among {', '.join(CONVENTIONS)}")
