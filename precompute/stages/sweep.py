"""KL(beta) of every chunk of the CoTs whose importance is known, along each kind of direction, at each layer and
position asked for.

A unit is one CoT; directions are handed to the sweep by id.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from backend.geometry.directions import Direction
from backend.models.loaded import LoadedModel
from precompute import models
from precompute.estimates import Estimate, Quantities
from precompute.stages import chunks as chunks_stage
from precompute.stages.cots import shares
from precompute.steered import Cot, by_reader, spans, steered_cots, study_directions, that_apply
from precompute.units import Context, Finished, Unit

NAME, UNIT = "sweep", "CoT"
RULE = 1  # of what is measured: raise it when it changes
_COTS_A_TASK = 2


@dataclass(frozen=True)
class Task:
    """CoTs to sweep, and the directions that apply to any of them."""

    makes: tuple[str, ...]  # a unit a CoT
    cots: tuple[Cot, ...]
    directions: tuple[Direction, ...]
    layers: tuple[int, ...]
    positions: tuple[str, ...]
    betas: tuple[float, ...]
    unit: str


def units(context: Context) -> list[Unit]:
    """One unit a CoT; what the directions are made of is part of its inputs."""
    wanted = context.study.sweep
    cots = steered_cots(context)
    made = {
        reader: study_directions(context, reader, wanted.layers) for reader in sorted({cot["reader"] for cot in cots})
    }
    chunks = context.store.chunks_of([cot["cot_id"] for cot in cots])
    result, rules = [], chunks_stage.rules(context)
    for cot in cots:
        own = that_apply(made[cot["reader"]], (chunk["chunk_id"] for chunk in chunks[cot["cot_id"]]))
        ids = sorted(direction.direction_id for direction in own)
        inputs = {
            "positions": wanted.positions,
            "unit": wanted.unit,
            "betas": wanted.betas,
            "directions": ids,
            "chunks": rules[cot["cot_id"]],
        }
        result.append(Unit(f"{cot['reader']}.{cot['cot_id']}", inputs))
    return result


def estimate(of: Quantities) -> Estimate:
    wanted = of.study.sweep
    curves = of.rolled_chunks * len(wanted.layers) * len(wanted.positions) * of.n_directions
    tokens = round(curves * (wanted.points - 1) * of.lengths.chunk * 0.6)
    return of.line(NAME, of.rolled_cots, tokens=tokens, by="sweep", gigabytes=curves * 1e-6)


def compute(context: Context, units: Sequence[Unit]) -> Iterator[Finished]:
    study, wanted = context.study, context.study.sweep
    cots = {cot["cot_id"]: cot for cot in context.store.tokenised_cots()}
    by_id = {unit.unit_id: unit for unit in units}
    for model_id, ids in by_reader(units).items():
        model = models.by_id(study)[model_id]
        models.require_layers(wanted.layers, context.store.model_facts(model_id)["n_layers"], "sweep.layers")
        made = study_directions(
            context, model_id, wanted.layers, refused=lambda words: context.say(f"  {NAME:<12} {words}")
        )
        where = {cot: spans(rows) for cot, rows in context.store.chunks_of(ids).items()}
        tasks = [
            Task(
                tuple(f"{model_id}.{cot}" for cot in share),
                tuple((cot, tuple(cots[cot]["token_ids"]), where[cot]) for cot in share),
                that_apply(made, (chunk for cot in share for chunk in where[cot])),
                wanted.layers,
                wanted.positions,
                wanted.betas,
                wanted.unit,
            )
            for share in shares(ids, context.engine.workers, _COTS_A_TASK)
        ]
        for unit_id, rows in context.run(measure, tasks, model=models.spec(study, model)):
            own = [direction.row() for direction in that_apply(made, where[unit_id.split(".")[1]])]
            tables = {"directions": own, "kl_curves": rows.kl_curves, "steepness": rows.steepness}
            yield Finished(by_id[unit_id], tables, {"model_id": model_id, "dtype": model.dtype})


def measure(loaded: LoadedModel, task: Task) -> Iterator[tuple[str, Any]]:
    """Runs in a worker: every curve of each CoT."""
    from backend.geometry.sweep import sweep_cot

    for unit_id, (_, token_ids, where) in zip(task.makes, task.cots, strict=True):
        yield (
            unit_id,
            sweep_cot(
                loaded,
                token_ids,
                where,
                that_apply(task.directions, where),
                layers=task.layers,
                positions=task.positions,
                betas=task.betas,
                unit=task.unit,
            ),
        )
