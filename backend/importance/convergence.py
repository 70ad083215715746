"""How a metric and its interval change with the number of rollouts, from the rollouts there are.

For each m, random subsets of m rollouts before the chunk and m before the next one, drawn without replacement: where
the metric lies, over many orders of the rollouts, and how wide its interval is when only these m are known. Under `jsd`
those from before earlier chunks that write the chain up to here count too: of those, the ones among m at each chunk.

The subsets of one order are nested, and all come from the same rollouts: near the full number they are nearly equal, so
the spread over orders falls to 0 there although the uncertainty does not. What m rollouts tell of the model is the
interval's half-width.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from backend.ids import seed_for
from backend.importance.estimates import Estimate, Rollouts, estimator_at, grouped
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
    n_outcomes: int = 0,
    seed: int,
) -> pd.DataFrame:
    """One row for each m in `sizes`, with COLUMNS.

    `rollouts`, `chunk_ids` and `n_outcomes` are those of `metrics.importance_of_cot` (with `returns` for the metrics of
    `resilience`). `mean` and the 2.5th and 97.5th percentile `low` and `high` are over the orders in which the metric
    is known (NaN: in none); `n_unknown` are the others. `half_width` is half of the 95 % interval at m, the mean over
    some of the orders; NaN where none is known (`trusted_half_width`). An m that either side has not as many rollouts
    for is unknown. Forced metrics take m of the forced rollouts.
    """
    if chunk_id not in chunk_ids:
        raise RolloutsError(f"{chunk_id} is none of the {len(chunk_ids)} chunks given")
    if convention not in conventions_of(metric):
        raise RolloutsError(f"{metric} has no convention {convention!r}; it has {', '.join(conventions_of(metric))}")
    if min(sizes, default=1) < 1 or n_orders < 1:
        raise RolloutsError(f"sizes and orders are numbers of 1 or more, got {list(sizes)} and {n_orders}")
    position, kind = list(chunk_ids).index(chunk_id), METRICS[metric].rollouts
    groups = _taking_part(grouped(rollouts), chunk_ids, position, kind)
    sides = chunk_ids[position : position + 1 + METRICS[metric].compares]
    n_there = min(len(groups.get((chunk, kind), ())) for chunk in sides)
    orders = [_order(groups, seed_for(seed, "convergence", chunk_id, number)) for number in range(n_orders)]

    def estimate(order: Mapping[_Key, np.ndarray], m: int, **options: int) -> Estimate:
        """From the first m of an order."""
        own = {key: group.taken(order[key][:m]) for key, group in groups.items()}
        return estimate_of(estimator_at(own, chunk_ids, position, n_outcomes=n_outcomes, **options), metric, convention)

    rows = []
    for m in sizes:
        if m > n_there:
            rows.append((m, np.nan, np.nan, np.nan, np.nan, n_orders, n_orders))
            continue
        values = np.array([estimate(order, m, seed=seed).value for order in orders])
        intervals = [
            estimate(order, m, n_bootstrap=_REPLICATES, seed=number)  # each with draws of its own
            for number, order in enumerate(orders[:_BOOTSTRAPPED])
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


_Key = tuple[str | None, str]  # chunk and kind


def _taking_part(
    groups: Mapping[_Key, Rollouts], chunk_ids: Sequence[str], position: int, kind: str
) -> dict[_Key, Rollouts]:
    """The rollouts of a kind before the chunk and before the next one, and those of earlier chunks where some reach it;
    a side that has none is left out.
    """
    sides = [(chunk, kind) for chunk in chunk_ids[position : position + 2]]
    earlier = [(chunk, "resample") for chunk in chunk_ids[:position]]
    reach = [key for n, key in enumerate(earlier) if key in groups and (groups[key].kept >= position - n).any()]
    return {key: groups[key] for key in [*sides, *reach] if key in groups}


def _order(groups: Mapping[_Key, Rollouts], seed: int) -> dict[_Key, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {key: rng.permutation(len(group)) for key, group in groups.items()}
