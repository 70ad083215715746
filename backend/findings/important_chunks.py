"""The chunks whose counterfactual importance is beyond chance: Jensen–Shannon divergence, decided by a permutation's p
and Benjamini and Hochberg's q over all chunks of the study of which it is known.
"""

import math
from collections.abc import Mapping

import pandas as pd

from backend.cot.categories import NAMES
from backend.findings.finding import Example, Finding, Number, Q, Way
from backend.findings.words import line, models, number, some
from backend.importance.metric_registry import METRICS
from backend.store.store import Store
from backend.store.undone import Missing, command, is_text, lacking

METRIC, CONVENTION = "counterfactual_importance_jsd", "jsd"
_TEXTS, _DRAWN = 3, 8
_METRIC = f"{METRIC}:{CONVENTION}"


def find(store: Store) -> Finding | Missing:
    rows = store.known_importances(METRIC, CONVENTION)
    tested = rows[rows["q"].notna()]
    if tested.empty:
        return _none(store)
    return told(tested, models(store))


def _none(store: Store) -> Missing:
    if store.importance_choices()["n_known"].sum() == 0:
        return lacking(store, "importance" if store.coverage().iloc[0].cots_resampled else "rollouts")
    what = "No importance of this study is held against chance"
    if is_text(store.coverage().iloc[0]):
        return Missing(f"{what}: published values come without the rollouts that would say what chance gives.", None)
    return Missing(f"{what}: it was computed before that was done. This computes it anew:", command(store.path))


def told(tested: pd.DataFrame, called: Mapping[str, str]) -> Finding:
    """Of the chunks that have a q, the most important first."""
    beyond = tested[tested["q"] <= Q]
    shown = beyond if len(beyond) else tested
    numbers = tuple(_number(row) for row in shown.head(_TEXTS if len(beyond) else 1).itertuples())
    return Finding(
        statement=_said(beyond, tested),
        numbers=numbers,
        control=(
            "0 is what dealing the rollouts anew gives: that is taken off. p is a permutation's, and q over all"
            f" {some(len(tested), 'chunk')} that have one: of those claimed at most 5 % are expected to be chance. The"
            " largest of many are on the high side."
        ),
        rows=_drawn(shown.head(_DRAWN)),
        way=_way(shown.iloc[0], "Open the chain of the first"),
        axis=METRICS[METRIC].axis,
        examples=tuple(
            Example(str(row.text), _about(row, called), _way(row, f"Chunk {row.number}"), one)
            for row, one in zip(beyond.head(_TEXTS).itertuples(), numbers, strict=False)
        ),
    )


def _said(beyond: pd.DataFrame, tested: pd.DataFrame) -> str:
    if len(beyond):
        largest = beyond.iloc[0]
        return (
            f"{some(len(beyond), 'chunk')} of {len(tested):,} matter beyond chance (q ≤ {Q:g}): what is answered"
            f" depends on whether they are there. The largest importance is {number(largest.value)} nats (at most"
            f" {number(math.log(2))})."
        )
    return (
        f"No chunk of {len(tested):,} is shown to matter beyond chance: the smallest q is {number(tested['q'].min())}."
        f" That does not show that none does: half of the intervals leave room for {number(tested['ci_high'].median())}"
        f" nats and more, from {number(tested['n'].median())} rollouts in the middle."
    )


def _number(row: pd.Series) -> Number:
    n = (
        f"{int(row.n)} dissimilar and {int(row.n_comparator)} rollouts"
        if pd.notna(row.n_comparator)
        else f"{row.n} rollouts"
    )
    return Number(
        f"chunk {row.number}", float(row.value), float(row.ci_low), float(row.ci_high), n, "nats", q=float(row.q)
    )


def _about(row: pd.Series, called: Mapping[str, str]) -> str:
    tag = "no tag" if pd.isna(row.category) else NAMES.get(row.category, str(row.category))
    return f"{tag}, by {called.get(row.model_id, row.model_id)}"


def _drawn(rows: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "label": [f"{row.number}: {line(row.text, 26)}" for row in rows.itertuples()],
            "value": rows["value"].tolist(),
            "low": rows["ci_low"].tolist(),
            "high": rows["ci_high"].tolist(),
            "chance_low": None,
            "chance_high": None,
            "control": None,
            "claimed": (rows["q"] <= Q).tolist(),
            "told": [str(text) for text in rows["text"]],
        }
    )


def _way(row: pd.Series, label: str) -> Way:
    return Way("chains_of_thought", label, {"chunk": str(row.chunk_id), "metric": _METRIC})
