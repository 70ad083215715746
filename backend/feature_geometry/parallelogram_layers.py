"""Parallelograms layer by layer: the mean over the classes of word pairs at each, with its interval.

Classes are the sample: what would have been found had others been asked about. Words are the same at every layer, so
that layers are compared on equal terms, and their intervals are not independent of each other.
"""

import numpy as np
import pandas as pd

from backend.statistics.intervals import bootstrap_mean

COLUMNS = ["layer", "role", "n", "loss", "loss_low", "loss_high", "null", "ratio", "ratio_low", "ratio_high"]


def over_classes(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a layer and role, of rows with `layer`, `role`, `loss`, `null` and `ratio` of each class: mean loss, mean
    of shuffled pairs, and the geometric mean of the ratios. Classes without a ratio take no part.
    """
    known = rows[rows["ratio"] > 0]
    found = []
    for (layer, role), own in known.groupby(["layer", "role"]):
        logs = np.log(own["ratio"].to_numpy(float))
        loss = bootstrap_mean(own["loss"].to_numpy(float), seed=0)
        ratio = np.exp([logs.mean(), *bootstrap_mean(logs, seed=0)])
        found.append((layer, role, len(own), own["loss"].mean(), *loss, own["null"].mean(), *ratio))
    return pd.DataFrame(found, columns=COLUMNS)
