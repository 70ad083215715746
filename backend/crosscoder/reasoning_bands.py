"""Reasoning categories of a crosscoder's features beside those of its nulls, each told by the same rule
(`DictionaryQueries.reasoning_categories`): the category on whose tokens a feature fires most, relative to how often.

Of each category, among live features (they fire on a judged token):

- **Share** of the features that have it, with Wilson's 95 % interval. Its band is of each kind of null pair where
  the share of as many features lies with 99 %, by its pooled live features (`share_prediction`); the envelope of the
  kinds.
- **Mean NRN** and **mean lift** of these features, with a bootstrap interval. Their band is what as many features of
  the same category of a null pair give: N_DRAWS means of that many, drawn with replacement among those of each kind; of
  each kind the central 99 %, and the envelope. A kind with fewer than two such features has none.
- **By chance**: the share of the frozen decoder's live features that have it. Nothing was learned for its directions.

A value is beyond where it lies outside its band. Without null pairs there is none, and it is not known.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pandas as pd

from backend.crosscoder.null_bands import LEVEL
from backend.crosscoder.null_kinds import PAIRS, TWIN
from backend.ids import seed_for
from backend.statistics.intervals import (
    UNKNOWN,
    Interval,
    bootstrap_mean,
    bootstrap_percentile,
    share_prediction,
    wilson,
)

N_DRAWS = 2000
QUANTITIES = ("share", "nrn", "lift")


def reasoning_bands(
    features: pd.DataFrame, nulls: pd.DataFrame, scheme: str, categories: Sequence[str], *, norm: str, seed: int = 0
) -> pd.DataFrame:
    """One row a category and quantity: `category`, `quantity`, `value`, `low`, `high` (its interval), `band_low`,
    `band_high`, `n` features of the category `of` live ones, `n_null` of `of_null` of the null pairs, and `n_twin` of
    `of_twin` of the frozen decoder. What is not known is NaN.

    `features` are the dictionary's live ones with the columns of `DictionaryQueries.reasoning_categories` and NRN;
    `nulls` are rows of `DictionaryQueries.null_reasoning`.
    """
    pairs, twin = nulls[nulls["null"].isin(PAIRS)], nulls[nulls["null"] == TWIN]
    kinds = [own for _, own in pairs.groupby("null")]
    rows = []
    for category in categories:
        own = _of(features, scheme, category)
        counts = {
            "n": len(own),
            "of": len(features),
            "n_null": len(_of(pairs, scheme, category)),
            "of_null": len(pairs),
            "n_twin": len(_of(twin, scheme, category)),
            "of_twin": len(twin),
        }
        share = len(own) / len(features) if len(features) else np.nan
        band = _envelope(
            [share_prediction(len(_of(kind, scheme, category)), len(kind), len(features), LEVEL) for kind in kinds]
        )
        rows.append({**_row(category, "share", share, wilson(len(own), len(features)), band), **counts})
        for quantity, column in (("nrn", f"nrn_{norm}"), ("lift", f"{scheme}_lift")):
            values = own[column].dropna().to_numpy(float)
            of_kinds = [_of(kind, scheme, category)[column].dropna().to_numpy(float) for kind in kinds]
            band = _envelope([_means(null, len(values), seed) for null in of_kinds])
            value = float(values.mean()) if len(values) else np.nan
            rows.append({**_row(category, quantity, value, bootstrap_mean(values, seed=seed), band), **counts})
    return pd.DataFrame(rows)


def _of(features: pd.DataFrame, scheme: str, category: str) -> pd.DataFrame:
    return features[features[scheme] == category]


def _row(category: str, quantity: str, value: float, interval: Interval, band: Interval) -> dict[str, object]:
    return {
        "category": category,
        "quantity": quantity,
        "value": value,
        "low": interval.low,
        "high": interval.high,
        "band_low": band.low,
        "band_high": band.high,
    }


def _envelope(ends: Sequence[Interval]) -> Interval:
    known = [one for one in ends if not np.isnan(one.low)]
    return Interval(min(one.low for one in known), max(one.high for one in known)) if known else UNKNOWN


def _means(null: np.ndarray, n: int, seed: int) -> Interval:
    """Between which the mean of `n` of these lies."""
    if len(null) < 2 or not n:
        return UNKNOWN
    draws = np.random.default_rng(seed_for("reasoning band", seed)).integers(len(null), size=(N_DRAWS, n))
    return bootstrap_percentile(null[draws].mean(1), LEVEL)


# How often what a name rests on arises by chance


def evidence(
    features: pd.DataFrame, peaks: pd.DataFrame, twin: pd.DataFrame, categories: Sequence[str]
) -> pd.DataFrame:
    """One row a kind of evidence: `evidence`, and of the dictionary's live features and of the twin's `n`, `of`,
    `share`, `low`, `high` (Wilson's 95 %), the twin's named twin_….

    `token`: one token is at least half of a feature's strongest ones · `tag`: it has a top function tag · then each of
    `categories`, as its top function tag. `features` has feature, frequency and top_category, `peaks` are rows of
    `DictionaryQueries.peak_tokens` and `twin` of `null_peaks`.
    """
    own = peaks.merge(features[["feature", "top_category"]], on="feature")
    tests: dict[str, Callable[[pd.DataFrame], pd.Series]] = {
        "token": _is_one_token,
        "tag": lambda rows: rows["top_category"].notna(),
        **{category: partial(_is_tagged, category) for category in categories},
    }
    return pd.DataFrame(
        [{"evidence": name, **_share(own, test), **_share(twin, test, "twin_")} for name, test in tests.items()]
    )


def _is_tagged(category: str, rows: pd.DataFrame) -> pd.Series:
    return rows["top_category"] == category


def _is_one_token(rows: pd.DataFrame) -> pd.Series:
    largest = pd.Series([max(counts) for counts in rows["counts"]], index=rows.index, dtype=float)
    return 2 * largest >= rows["n_examples"]


def _share(rows: pd.DataFrame, test: Callable[[pd.DataFrame], pd.Series], prefix: str = "") -> dict[str, float]:
    n, of = int(test(rows).sum()) if len(rows) else 0, len(rows)
    low, high = wilson(n, of)
    found = {"n": n, "of": of, "share": n / of if of else np.nan, "low": low, "high": high}
    return {f"{prefix}{name}": value for name, value in found.items()}
