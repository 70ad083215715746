"""What null pairs say of a crosscoder's numbers: bands, and what lies beyond them.

- **Band of NRN.** Of each kind of null pair (`null_kinds.PAIRS`) the live features of all its trainings are pooled;
  from the order statistic at or below their 0.5 % quantile to the one at or above their 99.5 % quantile. The band of
  the crosscoder is the envelope of these. Live: it fires on a judged token. With fewer than 200 pooled features the
  ends are the smallest and the largest.
- **Beyond and confirmed.** Below the band (base side) or above it (distilled side), and by latent scaling of that model
  alone: |ν^ε| < 0.2 and |ν^r| < 0.5, of 1/ν on the base side. The same rule counts each null training's own: against
  the band of the other trainings of its kind where there are any, and otherwise against its own, beyond which lies
  about 1 % of its features by construction; what latent scaling confirms of them is not by construction.
- **Band of a share** (of features of a class, or of a top category): of each kind where the number among as many
  features as the crosscoder has lies with 99 %, by its pooled live features whose class or category is known
  (`share_prediction`); the envelope over the kinds.
- **Power.** A planted direction is found where a live feature's row of the second model has a cosine of at least
  FOUND_COSINE with it, and the feature is beyond the band on the distilled side, and confirmed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from backend.crosscoder.diff import confirmed
from backend.crosscoder.null_kinds import PAIRS
from backend.statistics.intervals import share_prediction, wilson

LEVEL = 0.99
FOUND_COSINE = 0.7
SIDES = ("base only", "distilled only")  # below the band, above it


@dataclass(frozen=True)
class Band:
    low: float
    high: float
    kinds: tuple[str, ...]
    n_features: int  # live ones, of all kinds
    n_trainings: int


def live(features: pd.DataFrame) -> pd.DataFrame:
    return features[features["frequency"] > 0]


def nrn_band(nulls: pd.DataFrame, norm: str) -> Band | None:
    """`nulls` are rows of `DictionaryQueries.null_features`; None without a live feature of a null pair."""
    own = live(nulls[nulls["null"].isin(PAIRS)])
    own = own[own[f"nrn_{norm}"].notna()]
    if own.empty:
        return None
    tail = (1 - LEVEL) / 2
    ends = own.groupby("null")[f"nrn_{norm}"].agg(
        low=lambda nrn: np.quantile(nrn, tail, method="lower"),
        high=lambda nrn: np.quantile(nrn, 1 - tail, method="higher"),
    )
    kinds = tuple(kind for kind in PAIRS if kind in ends.index)
    return Band(float(ends["low"].min()), float(ends["high"].max()), kinds, len(own), own["null_id"].nunique())


@dataclass(frozen=True)
class Beyond:
    """Of one side: features of the crosscoder, or of one null training."""

    side: str
    n_live: int
    n_beyond: int
    n_confirmed: int


def beyond(features: pd.DataFrame, band: Band, norm: str) -> tuple[Beyond, Beyond]:
    """Base side and distilled side. `features` has frequency, NRN and both ν."""
    own = live(features)
    nrn, nu_eps, nu_r = (own[name].to_numpy(dtype=float) for name in (f"nrn_{norm}", "nu_eps", "nu_r"))
    sides = []
    for side, outside in zip(SIDES, (nrn < band.low, nrn > band.high), strict=True):
        is_confirmed = outside & confirmed(nu_eps, nu_r, side=side)
        sides.append(Beyond(side, len(own), int(outside.sum()), int(is_confirmed.sum())))
    return sides[0], sides[1]


def beyond_of_nulls(nulls: pd.DataFrame, norm: str) -> pd.DataFrame:
    """One row a null training of a pair and side: null, number, side, n_live, n_beyond, n_confirmed, `is_own_band`."""
    pairs, rows = nulls[nulls["null"].isin(PAIRS)], []
    for (kind, number), own in pairs.groupby(["null", "number"], sort=True):
        others = pairs[(pairs["null"] == kind) & (pairs["number"] != number)]
        is_own = live(others).empty
        if (band := nrn_band(own if is_own else others, norm)) is not None:
            rows += [
                {"null": kind, "number": number, **vars(one), "is_own_band": is_own} for one in beyond(own, band, norm)
            ]
    return pd.DataFrame(rows, columns=["null", "number", "side", "n_live", "n_beyond", "n_confirmed", "is_own_band"])


def share_bands(features: pd.DataFrame, nulls: pd.DataFrame, column: str, values: Sequence[str]) -> pd.DataFrame:
    """One row a value of `column` (class or top_category): `n` of the crosscoder's live features, `of` those whose
    value is known, and `low` to `high`, the count that null pairs would give; NaN where there is no null pair.
    """
    own = live(features)[column].dropna()
    pooled = live(nulls[nulls["null"].isin(PAIRS)])
    by_kind = [part[column].dropna() for _, part in pooled.groupby("null")] if len(pooled) else []
    rows = []
    for value in values:
        ends = [share_prediction(int((part == value).sum()), len(part), len(own), LEVEL) for part in by_kind]
        ends = [end for end in ends if not np.isnan(end.low)]
        rows.append(
            {
                column: value,
                "n": int((own == value).sum()),
                "of": len(own),
                "low": min((end.low for end in ends), default=np.nan) * len(own),
                "high": max((end.high for end in ends), default=np.nan) * len(own),
            }
        )
    return pd.DataFrame(rows)


def power(planted: pd.DataFrame, band: Band, norm: str) -> pd.DataFrame:
    """One row a strength: `n` planted directions, `found`, `share`, and Wilson's 95 % interval, `low` to `high`.

    `planted` are rows of `DictionaryQueries.planted_directions`.
    """
    is_found = (
        (planted["cosine"] >= FOUND_COSINE)
        & (planted[f"nrn_{norm}"] > band.high)
        & confirmed(planted["nu_eps"].to_numpy(float), planted["nu_r"].to_numpy(float), side=SIDES[1])
    )
    counts = planted.assign(found=is_found).groupby("strength")["found"].agg(n="size", found="sum").reset_index()
    intervals = [wilson(int(row.found), int(row.n)) for row in counts.itertuples()]
    return counts.assign(
        share=counts["found"] / counts["n"],
        low=[one.low for one in intervals],
        high=[one.high for one in intervals],
    )
