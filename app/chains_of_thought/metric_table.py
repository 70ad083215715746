"""Every metric of one chunk as a table of words: unknown is said to be unknown, with the reason."""

import pandas as pd

from app.shell.numbers import count, interval, number, small
from app.shell.vocabulary import CONVENTIONS, METRICS, SET_BY_SMOOTHING, metric, smoothing_decides
from backend.importance import conventions, metric_registry
from backend.importance.conventions import like


def metric_table(importance: pd.DataFrame) -> pd.DataFrame:
    """Rows of `Queries.importance_of_chunk` as text, in the vocabulary's order: metric, convention, value, interval, q,
    n, against n, note, and what it is. What was published stands right below its like, the convention of ours with the
    same direction and comparator.
    """
    metrics, order = list(METRICS), list(CONVENTIONS)
    ranked = importance.assign(
        place=[metrics.index(name) if name in metrics else len(metrics) for name in importance["metric"]],
        turn=[order.index(like(name)) if name in order else len(order) for name in importance["convention"]],
        after_its_like=importance["convention"] == conventions.PUBLISHED,
    ).sort_values(["place", "metric", "turn", "after_its_like"], kind="stable")
    return pd.DataFrame(
        {
            "metric": [metric(row.metric).short for row in ranked.itertuples()],
            "convention": ["" if row.convention == "all" else row.convention for row in ranked.itertuples()],
            "value": [number(row.value) for row in ranked.itertuples()],
            "95 % interval": [interval(row.ci_low, row.ci_high) for row in ranked.itertuples()],
            "q": [small(getattr(row, "q", None)) for row in ranked.itertuples()],
            "n": [count(row.n) for row in ranked.itertuples()],
            "against n": [count(row.n_comparator) for row in ranked.itertuples()],
            "note": [why_unknown(row) for row in ranked.itertuples()],
            "is": [metric_registry.definition(row.metric, row.convention) for row in ranked.itertuples()],
        }
    )


def why_unknown(row: pd.Series) -> str:
    """Why the value, or else its interval, is unknown, or what its having no width says; empty when both are known.

    `row` has the columns of `importance_of_chunk`.
    """
    known = METRICS.get(row.metric)
    compared = known is not None and known.compares
    if pd.isna(row.value):
        reason = getattr(row, "reason", None)
        if not pd.isna(reason):
            return f"{reason}; written as {number(row.written)}"
        if compared and row.is_last:
            return "the last chunk: no rollouts start after it"
        n, n_comparator = (None if pd.isna(count) else int(count) for count in (row.n, row.n_comparator))
        if reason := metric_registry.why_unknown(row.metric, row.convention, n, n_comparator):
            return reason
        if known is None and row.convention == "all":
            return "not given, or not computed"
        return "not published" if row.convention == "published" else "not enough rollouts"
    if pd.isna(row.ci_low):
        if row.convention == "published":
            return "published without an interval"
        if known is None and row.convention == "all":
            return "given, or kept, without an interval"
        return (
            f"no interval: {known.no_interval}"
            if known is not None and known.no_interval
            else "one rollout on a side: no interval"
        )
    if smoothing_decides(row.metric, row.convention, row.value, row.n_comparator):
        return SET_BY_SMOOTHING
    if known is not None and known.by_permutation and row.value < 0:
        return "below what chance gives"
    if row.ci_low == row.ci_high:
        return "no width because the rollouts agree: no certainty"
    return ""
