"""How far the ways to ask which chunk acts on which agree: every two of them, by the model that reads and by who wrote.

A way without a model that reads (what rollouts write, what was published) is set against the others under each model;
two such ways once, under the name NOBODY.
"""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from backend.influence.agreement import agreement
from backend.store.unit_queries import WAYS
from precompute.estimates import Estimate, Quantities
from precompute.influence import n_readings
from precompute.units import Context, Finished, Unit

NAME, UNIT = "influence_agreement", "model"
RULE = 1  # of what is compared: raise it when it changes
WITH_READERS = ("suppression", "attention")
ALL, NOBODY = "all", "none"
_COT_SECONDS = 0.02  # all pairs of ways, with their deals


def units(context: Context) -> list[Unit]:
    """One unit a model that reads; all values it rests on are part of its inputs."""
    wanted = context.study.influence
    if wanted is None:
        return []
    inputs = {
        "n_bootstrap": wanted.n_bootstrap,
        "n_permutations": wanted.n_permutations,
        "seed": context.study.seed,
    }
    found = {reader: _pairs(context, reader) for reader in (*context.store.influence_readers(), NOBODY)}
    return [Unit(reader, inputs | {"rows": _digest(pairs)}) for reader, pairs in found.items() if _twos(reader, pairs)]


def _pairs(context: Context, reader: str) -> pd.DataFrame:
    return context.store.influence_by_way(None if reader == NOBODY else reader)


def _twos(reader: str, pairs: pd.DataFrame) -> list[tuple[str, str]]:
    """Every two ways that know something under the reader and of which one needs it; under NOBODY, of which none
    does.
    """
    known = [way for way in WAYS if pairs[way].notna().any()]
    return [two for two in combinations(known, 2) if (reader == NOBODY) == set(two).isdisjoint(WITH_READERS)]


def _digest(pairs: pd.DataFrame) -> str:
    return hashlib.sha256(pd.util.hash_pandas_object(pairs, index=False).to_numpy().tobytes()).hexdigest()


def estimate(of: Quantities) -> Estimate | None:
    if of.study.influence is None:
        return None
    n_models = max(len(of.study.pair), 1)
    return of.line(NAME, n_models, gigabytes=1e-6, seconds=n_readings(of) * _COT_SECONDS)


def compute(context: Context, units: Sequence[Unit]) -> Iterator[Finished]:
    wanted, seed = context.study.its_influence, context.study.seed
    for unit in units:
        pairs, rows = _pairs(context, unit.unit_id), list[dict[str, Any]]()
        writers = sorted(pairs["writer_id"].unique())
        for first, second in _twos(unit.unit_id, pairs):
            both = pairs.assign(x=pairs[first], y=pairs[second])
            for writer in (ALL, *writers) if len(writers) > 1 else (ALL,):
                own = both if writer == ALL else both[both["writer_id"] == writer]
                found = agreement(own, n_bootstrap=wanted.n_bootstrap, n_permutations=wanted.n_permutations, seed=seed)
                numbers = {name: getattr(found, name) for name in ("spearman", "low", "high", "at_distance", "p")}
                rows.append(
                    {"model_id": unit.unit_id, "writer_id": writer, "first": first, "second": second}
                    | {name: None if np.isnan(value) else value for name, value in numbers.items()}
                    | {"n_cots": found.n_cots, "n_problems": found.n_problems, "n_pairs": found.n_pairs}
                )
        yield Finished(unit, {"influence_agreement": rows}, {"seed": seed})
