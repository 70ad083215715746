"""Rows of cosine tails of small sets that are made here, as the stage stores them and as queries give them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from backend.feature_geometry.cosine_rows import About, Asked, Beside, measured

N = 120
MODELS = {"base": ("m-base", "embedded:Tiny-Base"), "tuned": ("m-tuned", "embedded:Tiny-Tuned")}


def rows_like(layer: int, d: int, *, is_tuned: bool, n: int = N) -> np.ndarray:
    """Clustered rows, more so at middle layers; the tuned ones are the base ones and a little noise."""
    draw = np.random.default_rng(layer)
    centres = draw.standard_normal((10, d))[draw.integers(10, size=n)]
    rows = draw.standard_normal((n, d)) + (0.4 + 0.3 * (layer % 4)) * centres
    rows[1] = rows[0]
    return (rows + 0.2 * is_tuned * np.random.default_rng(77).standard_normal((n, d))).astype(np.float32)


def tables_of(
    *,
    kind: str,
    layers: Sequence[int | None],
    d: int,
    fires: bool = False,
    source: str | None = None,
    n: int = N,
    models: dict[str, tuple[str, str]] = MODELS,
) -> dict[str, list[dict[str, Any]]]:
    """Rows of each table, of a base and a tuned set at each layer."""
    found: dict[str, list[dict[str, Any]]] = {}
    for layer in layers:
        for role, (model_id, model) in models.items():
            about = About(kind, model_id, model, role, layer, source=source)
            frequencies = np.where(np.arange(n) % 6 == 5, 0, (1 + np.arange(n)) / 1000) if fires else None
            asked = Asked(("rows",), 1000, 3, 50, 1)
            rows = rows_like(layer or 0, d, is_tuned=role == "tuned", n=n)
            for table, lines in measured(rows, about, asked, Beside(frequencies)).items():
                found.setdefault(table, []).extend(lines)
    return found


def autoencoders(layers: Sequence[int], d: int) -> dict[str, list[dict[str, Any]]]:
    """Small autoencoders of one model: three seeds trained on it, and one on each null."""
    found: dict[str, list[dict[str, Any]]] = {}
    for layer in layers:
        for seed, trained_on in [(0, "model"), (1, "model"), (2, "model"), (0, "gaussian"), (0, "random_weights")]:
            about = About(
                "sae", "m-base", MODELS["base"][1], "base", layer, f"s{layer}{seed}{trained_on}", trained_on, seed
            )
            rows = np.random.default_rng([layer, seed]).standard_normal((N, d)).astype(np.float32)
            rows = rows_like(layer, d, is_tuned=False) + 0.1 * rows if trained_on == "model" else rows
            for table, lines in measured(rows, about, Asked(("rows",), 1000, 0, 0, 1), Beside()).items():
                found.setdefault(table, []).extend(lines)
    return found


def rows_of(tables: dict[str, list[dict[str, Any]]] | None = None, **how: Any) -> dict[str, pd.DataFrame]:
    """As the queries of `CosineQueries` give them."""
    frames = {table: pd.DataFrame(lines) for table, lines in (tables or tables_of(**how)).items()}
    sets = frames["cosine_sets"]
    about = sets[
        ["set_id", "role", "model", "layer", "d", "drawn_from", "null_of", "trained_on", "seed", "source", "n_total"]
    ]
    sizes = frames["cosine_tails"][["set_id", "subset", "n_rows", "n_pairs", "frequency_low", "frequency_high"]]
    beyond = frames["cosine_exceedances"].merge(about, on="set_id").merge(sizes, on=["set_id", "subset"])
    return {
        "cosine_sets": sets,
        "cosine_tails": frames["cosine_tails"].merge(about, on="set_id"),
        "cosine_exceedances": beyond,
    }
