"""Means over neighbours: of steps that follow each other."""

import numpy as np
import pandas as pd


def running_mean(values: np.ndarray, n_steps: int) -> np.ndarray:
    """Mean of the `n_steps` (odd) values around each one, NaN left out; the window is cut at both ends.

    Where no value of the window is known the mean is NaN.
    """
    return pd.Series(values, dtype=float).rolling(n_steps, center=True, min_periods=1).mean().to_numpy()
