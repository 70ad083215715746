"""The path of each CoT through its chunks' activations, layer by layer, and whether those of correct and wrong CoTs
differ at equal length. It stands before the evidence, which sets each chunk's step beside its importance.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from backend.ids import cot_of, seed_for
from backend.schema.tables import TABLES
from precompute import models
from precompute.estimates import Estimate, Quantities
from precompute.stages import chunks as chunks_stage
from precompute.stages.shape import layers_of
from precompute.units import Context, Finished, Unit

NAME, UNIT = "paths", "layer"
RULE = 1  # of what is measured: raise it when it changes
_PATH_SECONDS, _OUTCOME_SECONDS = 0.01, 0.008  # a path, and its part in the comparisons of a layer


@dataclass(frozen=True)
class Task:
    makes: tuple[str]
    cots: dict[str, tuple[list[str], np.ndarray]]  # ids and activations of its chunks in reading order
    verdicts: pd.DataFrame  # cot_id, problem_id, is_correct
    n_draws: int
    n_permutations: int
    seed: int


def units(context: Context) -> list[Unit]:
    """One unit a model and layer."""
    wanted = context.study.paths
    if wanted is None:
        return []
    inputs = {
        "draws": wanted.draws,
        "n_permutations": wanted.n_permutations,
        "seed": context.study.seed,
        "chunks": chunks_stage.newest(context),
        "verdicts": context.store.verdict_digest(),
    }
    return [
        Unit(f"{model_id}.{layer}", {**inputs, "activations": context.store.activation_digest(model_id)})
        for model_id in sorted(models.by_id(context.study))
        for layer in layers_of(context, model_id, wanted.layers)
    ]


def estimate(of: Quantities) -> Estimate | None:
    wanted = of.study.paths
    if wanted is None:
        return None
    n_layers = of.layers if wanted.layers is None else len(wanted.layers)
    units = len(of.study.models) * n_layers
    seconds = of.n_cots * n_layers * _PATH_SECONDS + of.n_cots * units * _OUTCOME_SECONDS
    return of.line(NAME, units, gigabytes=(of.n_chunks + of.n_cots) * n_layers * 1e-7, seconds=seconds)


def compute(context: Context, units: Sequence[Unit]) -> Iterator[Finished]:
    wanted, verdicts = context.study.its_paths, context.store.cot_verdicts()
    by_id = {unit.unit_id: unit for unit in units}
    tasks = [
        Task(
            (unit.unit_id,),
            _by_cot(*context.store.activations(*_place(unit))),
            verdicts,
            wanted.draws,
            wanted.n_permutations,
            seed_for(context.study.seed, NAME),
        )
        for unit in units
    ]
    for unit_id, tables in context.run(measure, tasks):
        unit = by_id[unit_id]
        yield Finished(unit, tables, {"model_id": _place(unit)[0], "seed": context.study.seed})


def _place(unit: Unit) -> tuple[str, int]:
    model_id, layer = unit.unit_id.split(".")
    return model_id, int(layer)


def _by_cot(ids: Sequence[str], vectors: np.ndarray) -> dict[str, tuple[list[str], np.ndarray]]:
    """`ids` are in order, so that those of a CoT are in reading order."""
    rows: dict[str, list[int]] = defaultdict(list)
    for row, chunk in enumerate(ids):
        rows[cot_of(chunk)].append(row)
    return {cot: ([ids[row] for row in own], vectors[own]) for cot, own in rows.items()}


def measure(_: None, task: Task) -> Iterator[tuple[str, dict[str, list[dict[str, Any]]]]]:
    """Runs in a worker: the rows of one model and layer."""
    from backend.feature_geometry.path_outcomes import outcomes
    from backend.feature_geometry.paths import paths

    model_id, layer = task.makes[0].split(".")
    place = {"model_id": model_id, "layer": int(layer)}
    found = paths(task.cots, model_id=model_id, layer=int(layer), n_draws=task.n_draws, seed=task.seed)
    compared: list[dict[str, Any]] = []
    if found["paths"]:
        rows = pd.DataFrame(found["paths"]).merge(task.verdicts, on="cot_id")
        unknown = dict.fromkeys(TABLES["path_outcomes"].columns)
        compared = [unknown | place | row for row in outcomes(rows, n_draws=task.n_permutations, seed=task.seed)]
    yield task.makes[0], found | {"path_outcomes": compared}
