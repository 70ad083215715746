"""Rows of maps as a store gives them back."""

import pandas as pd


def frames(rows):
    """The facts of a map, and its cells in the store's order."""
    (facts,) = rows["latent_steerings"]
    cells = pd.DataFrame(rows["latent_steering_cells"]).drop(columns="steering_id")
    return facts, cells.sort_values(["vector", "target", "exit"])
