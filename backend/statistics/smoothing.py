"""Means over neighbours: of magnitudes that lie close, and of steps that follow each other."""

from collections.abc import Sequence

import numpy as np
import pandas as pd


def log_binned(epsilons: Sequence[float], kl: Sequence[float], *, per_decade: int = 8) -> pd.DataFrame:
    """Mean KL of the steps in each of `per_decade` bins a decade: `epsilon` (geometric mean), `kl`, `n`. A step of 0,
    or of unknown KL, is in none.
    """
    steps = pd.DataFrame({"epsilon": np.asarray(epsilons, float), "kl": np.asarray(kl, float)})
    steps = steps[(steps["epsilon"] > 0) & steps["kl"].notna()]
    log = np.log10(steps["epsilon"])
    bins = steps.assign(log=log).groupby(np.floor(log * per_decade + 1e-9).astype(int), sort=True)
    found = bins.agg(log=("log", "mean"), kl=("kl", "mean"), n=("kl", "size"))
    return pd.DataFrame({"epsilon": 10 ** found["log"], "kl": found["kl"], "n": found["n"]}).reset_index(drop=True)


def running_mean(values: np.ndarray, n_steps: int) -> np.ndarray:
    """Mean of the `n_steps` (odd) values around each one, NaN left out; the window is cut at both ends.

    Where no value of the window is known the mean is NaN.
    """
    return pd.Series(values, dtype=float).rolling(n_steps, center=True, min_periods=1).mean().to_numpy()
