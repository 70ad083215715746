"""How a metric and its interval change with the number of rollouts, from the rollouts there are.

For each m, random subsets of m rollouts before the chunk and m before the next one, drawn without replacement: where
the metric lies, over many orders of the rollouts, and how wide its bootstrap interval is when only these m are known.

The subsets of one order are nested, and all come from the same rollouts: near the full number they are nearly equal, so
the spread over orders falls to 0 there although the uncertainty does not. What m rollouts tell of the model is the
interval's half-width.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from backend.ids import seed_for
from backend.importance.estimates import Estimate, Estimator, Rollouts, grouped
from backend.importance.metric_registry import METRICS, conventions_of
from backend.importance.metrics import RolloutsError, estimate_of
from backend.statistics.intervals import Interval, wilson

COLUMNS = ("m", "mean", "low", "high", "half_width", "n_orders", "n_unknown")
_BOOTSTRAPPED = 12  # orders whose interval is taken at each m; its half-width is their mean
_REPLICATES = 400


def convergence(
    rollouts: pd.DataFrame,
    chunk_ids: Sequence[str],
    chunk_id: str,
    metric: str,
    convention: str,
    *,
    sizes: Sequence[int],
    n_orders: int = 100,
    seed: int,
) -> pd.DataFrame:
    """One row for each m in `sizes`, with COLUMNS.

    `rollouts` and `chunk_ids` are those of `metrics.importance_of_cot` (with `returns` for the metrics of
    `resilience`). `mean` and the
    2.5th and 97.5th percentile `low` and `high` are over the orders in which the metric is known (NaN: in none);
    `n_unknown` are the others. `half_width` is half of the 95 % interval at m, the mean over some of the orders; NaN
    where none is known (`trusted_half_width`). An m that either side has not as many rollouts for is unknown. Forced
    metrics take m of the forced rollouts.
    """
    if chunk_id not in chunk_ids:
        raise RolloutsError(f"{chunk_id} is none of the {len(chunk_ids)} chunks given")
    if convention not in conventions_of(metric):
        raise RolloutsError(f"{metric} has no convention {convention!r}; it has {', '.join(conventions_of(metric))}")
    if min(sizes, default=1) < 1 or n_orders < 1:
        raise RolloutsError(f"sizes and orders are numbers of 1 or more, got {list(sizes)} and {n_orders}")
    here, after = sides(rollouts, chunk_ids, chunk_id, METRICS[metric].rollouts)
    n_there = min(len(here), len(after)) if METRICS[metric].compares else len(here)
    orders = [_order(here, after, seed_for(seed, "convergence", chunk_id, number)) for number in range(n_orders)]
    rows = []
    for m in sizes:
        if m > n_there:
            rows.append((m, np.nan, np.nan, np.nan, np.nan, n_orders, n_orders))
            continue
        subsets = [(first[:m], second[:m]) for first, second in orders]
        values = np.array(
            [
                estimate(
                    chunk_id, here.taken(first), after.taken(second), metric, convention, n_bootstrap=0, seed=seed
                ).value
                for first, second in subsets
            ]
        )
        intervals = [
            estimate(
                chunk_id,
                here.taken(first),
                after.taken(second),
                metric,
                convention,
                n_bootstrap=_REPLICATES,
                seed=number,
            )
            for number, (first, second) in enumerate(subsets[:_BOOTSTRAPPED])  # each with draws of its own
        ]
        known = values[~np.isnan(values)]
        low, high = np.quantile(known, [0.025, 0.975]) if len(known) else (np.nan, np.nan)
        widths = np.array([trusted_half_width(found) for found in intervals])
        widths = widths[~np.isnan(widths)]
        mean, half_width = (own.mean() if len(own) else np.nan for own in (known, widths))
        rows.append((m, mean, low, high, half_width, n_orders, n_orders - len(known)))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def trusted_interval(found: Estimate) -> Interval:
    """The estimate's 95 % interval; of a share Wilson's: the bootstrap's has no width where all rollouts agree."""
    if found.n_comparator is None and not np.isnan(found.interval.low):
        return wilson(round(found.value * found.n), found.n)
    return found.interval


def trusted_half_width(found: Estimate) -> float:
    """Half of that interval; NaN where it is unknown, and where its width is no evidence of certainty, because two
    groups are compared that hardly differ in outcome.
    """
    low, high = trusted_interval(found)
    return np.nan if found.is_certain_of_nothing else (high - low) / 2


def sides(rollouts: pd.DataFrame, chunk_ids: Sequence[str], chunk_id: str, kind: str) -> tuple[Rollouts, Rollouts]:
    """The rollouts of a kind before the chunk, and before the next one: none where there is no next one, or where it
    has none.
    """
    groups, index = grouped(rollouts), list(chunk_ids).index(chunk_id)
    following = chunk_ids[index + 1] if index + 1 < len(chunk_ids) else None
    here, after = (groups.get((chunk, kind), Rollouts.none()) for chunk in (chunk_id, following))
    return here, after


def estimate(
    chunk: str, here: Rollouts, after: Rollouts, metric: str, convention: str, *, n_bootstrap: int, seed: int
) -> Estimate:
    """One metric of one chunk from the rollouts on its two sides, which are forced ones for a forced metric."""
    return estimate_of(Estimator(chunk, here, after, here, after, n_bootstrap, seed), metric, convention)


def _order(here: Rollouts, after: Rollouts, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.permutation(len(here)), rng.permutation(len(after))
