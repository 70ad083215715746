"""How many features are of one model alone: by their class, and by decoder norms at several bounds with those that
latent scaling confirms.

Intervals are Wilson's, as if features were drawn independently: they say how sure a share of so many is, not what
another training of the dictionary would find.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from backend.crosscoder.diff import classify
from backend.statistics.intervals import wilson

CLASSES = ("base only", "shared", "distilled only", "suspect")


def class_counts(classes: pd.Series) -> pd.DataFrame:
    """One row a class: `class`, `n`, `of` (features whose class is known), `share`, `low`, `high`."""
    known = classes.dropna()
    return _with_shares(
        pd.DataFrame({"class": CLASSES, "n": [int((known == name).sum()) for name in CLASSES], "of": len(known)})
    )


def beyond(features: pd.DataFrame, *, norm: str, bounds: Sequence[float] = (0.3, 1 / 6, 0.1)) -> pd.DataFrame:
    """Features whose NRN (column `nrn_l1` or `nrn_l2`) lies beyond a bound, and those that latent scaling confirms.

    One row a bound and side: `bound` b, `side` (base only: NRN < b; distilled only: NRN > 1 − b), `n_beyond`, `of` (of
    those, whose ν are both known: a feature that never fires has none), `n` confirmed by `classify` with b as its
    extreme, `share` = n / of, `low`, `high`.
    """
    nrn, nu_eps, nu_r = (features[name].to_numpy(dtype=float) for name in (f"nrn_{norm}", "nu_eps", "nu_r"))
    rows = []
    for bound in bounds:
        classes = classify(nrn, nu_eps, nu_r, nrn_extreme=bound)
        for side, leaning in (("base only", nrn < bound), ("distilled only", nrn > 1 - bound)):
            confirmed, suspect = int((classes == side).sum()), int((leaning & (classes == "suspect")).sum())
            rows.append(
                {
                    "bound": bound,
                    "side": side,
                    "n_beyond": int(leaning.sum()),
                    "of": confirmed + suspect,
                    "n": confirmed,
                }
            )
    return _with_shares(pd.DataFrame(rows))


def _with_shares(counts: pd.DataFrame) -> pd.DataFrame:
    intervals = [wilson(row.n, row.of) for row in counts.itertuples()]
    share = counts["n"] / counts["of"].where(counts["of"] > 0, np.nan)
    return counts.assign(share=share, low=[one.low for one in intervals], high=[one.high for one in intervals])


def scaling_share(nu: pd.Series) -> np.ndarray:
    """Latent scaling ν as a share 1 / (1 + ν), NaN where unknown. A negative ν (the direction is there with the other
    sign) is as extreme as its size: 1 where |ν| < 1, else 0.
    """
    values = nu.to_numpy(dtype=float)
    shares = np.where(values < 0, np.where(np.abs(values) < 1, 1.0, 0.0), 1 / (1 + np.maximum(values, 0)))
    return np.where(np.isnan(values), np.nan, shares)
