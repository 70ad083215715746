"""Finite steps along random directions at every chunk that the sweep steers: averaged KL(ε), anisotropy as published.

A key of its own in the study file (`[random_steps]`): it needs neither eigenpairs nor anything else of [geometry]. At
the chunks where [geometry] takes such steps too, the directions of both are the same.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from backend.ids import seed_for
from backend.models.loaded import LoadedModel
from precompute import models
from precompute.estimates import Estimate, Quantities
from precompute.stages import chunks as chunks_stage
from precompute.stages import geometry
from precompute.stages.cots import shares
from precompute.steered import Cot, by_reader, spans, steered_cots
from precompute.units import Context, Finished, Unit

NAME, UNIT = "random_steps", "CoT"
RULE = 1  # of what is measured: raise it when it changes
_COTS_A_TASK = 2


@dataclass(frozen=True)
class Task:
    """CoTs whose chunks are steered."""

    makes: tuple[str, ...]  # a unit a CoT
    cots: tuple[Cot, ...]
    layers: tuple[int, ...]
    positions: tuple[str, ...]
    unit: str
    directions: int
    magnitudes: tuple[float, ...]
    seed: int


def units(context: Context) -> list[Unit]:
    """One unit a CoT with importance, as the sweep's."""
    study, wanted = context.study, context.study.random_steps
    if wanted is None:
        return []
    rules = chunks_stage.rules(context)
    asked = {
        "layers": study.random_step_layers,
        "positions": wanted.positions,
        "unit": study.sweep.unit,
        "directions": wanted.directions,
        "magnitudes": wanted.magnitudes,
        "seed": study.seed,
    }
    return [
        Unit(f"{cot['reader']}.{cot['cot_id']}", asked | {"chunks": rules[cot["cot_id"]]})
        for cot in steered_cots(context)
    ]


def estimate(of: Quantities) -> Estimate | None:
    wanted = of.study.random_steps
    if wanted is None:
        return None
    rows = of.rolled_chunks * len(of.study.random_step_layers) * len(wanted.positions)
    tokens = rows * wanted.directions * len(wanted.magnitudes) * of.lengths.chunk * 0.6 + of.rolled_read
    return of.line(NAME, of.rolled_cots, tokens=tokens, by="sweep", gigabytes=rows * 1e-6)


def compute(context: Context, units: Sequence[Unit]) -> Iterator[Finished]:
    study, wanted = context.study, context.study.its_random_steps
    cots = {cot["cot_id"]: cot for cot in context.store.tokenised_cots()}
    by_id = {unit.unit_id: unit for unit in units}
    for model_id, ids in by_reader(units).items():
        model = models.by_id(study)[model_id]
        n_layers = context.store.model_facts(model_id)["n_layers"]
        models.require_layers(study.random_step_layers, n_layers, "random_steps.layers")
        where = {cot: spans(rows) for cot, rows in context.store.chunks_of(ids).items()}
        tasks = [
            Task(
                tuple(f"{model_id}.{cot}" for cot in share),
                tuple((cot, tuple(cots[cot]["token_ids"]), where[cot]) for cot in share),
                study.random_step_layers,
                wanted.positions,
                study.sweep.unit,
                wanted.directions,
                wanted.magnitudes,
                study.seed,
            )
            for share in shares(ids, context.engine.workers, _COTS_A_TASK)
        ]
        for unit_id, rows in context.run(measure, tasks, model=models.spec(study, model)):
            yield Finished(by_id[unit_id], {NAME: rows}, {"model_id": model_id, "dtype": model.dtype})


def measure(loaded: LoadedModel, task: Task) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Runs in a worker: the rows of each CoT."""
    from backend.geometry.random_steps import Steps, random_steps_cot

    steps = Steps(task.unit, task.directions, task.magnitudes)
    for unit_id, (cot_id, token_ids, where) in zip(task.makes, task.cots, strict=True):
        seed = seed_for(task.seed, geometry.NAME, cot_id)
        rows = random_steps_cot(
            loaded, token_ids, where, steps, layers=task.layers, positions=task.positions, seed=seed
        )
        yield unit_id, rows
