"""KL(beta) of every chunk of the CoTs whose importance is known, along each kind of direction, at each layer and position asked for.

Directions are made here from all chunk activations of the study and handed to the sweep by id; a unit is one CoT.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from backend.geometry import directions
from backend.geometry.directions import ANCHOR_CONVENTIONS, ANCHOR_METRIC, Direction
from backend.models.loading import LoadedModel
from precompute import models
from precompute.engines.local import run_in_workers
from precompute.stages.chunks import RULE
from precompute.stages.cots import shares
from precompute.units import Context, Finished, Unit

NAME, UNIT = "sweep", "CoT"
_COTS_A_TASK = 2


@dataclass(frozen=True)
class Task:
    """CoTs to sweep: (cot_id, token ids, token span by chunk id), and the directions that apply to any of them."""

    cots: tuple[tuple[str, tuple[int, ...], Mapping[str, tuple[int, int]]], ...]
    directions: tuple[Direction, ...]
    layers: tuple[int, ...]
    positions: tuple[str, ...]
    betas: tuple[float, ...]
    unit: str


def units(context: Context) -> list[Unit]:
    """One unit a CoT; what the directions are made of is part of its inputs."""
    wanted = context.study.sweep
    cots = _swept(context)
    made = {reader: _directions(context, reader, say=False) for reader in sorted({cot["reader"] for cot in cots})}
    chunks = context.store.chunks_of([cot["cot_id"] for cot in cots])
    result = []
    for cot in cots:
        own = {chunk["chunk_id"] for chunk in chunks[cot["cot_id"]]}
        ids = [direction.direction_id for direction in made[cot["reader"]] if direction.chunk_id in own or direction.chunk_id is None]
        inputs = {"positions": wanted.positions, "unit": wanted.unit, "betas": wanted.betas, "directions": sorted(ids), "chunks": RULE}
        result.append(Unit(f"{cot['reader']}.{cot['cot_id']}", inputs))
    return result


def compute(context: Context, units: Sequence[Unit]) -> Iterator[Finished]:
    study = context.study
    cots = {cot["cot_id"]: cot for cot in context.store.tokenised_cots()}
    by_id = {unit.unit_id: unit for unit in units}
    pending: dict[str, list[str]] = defaultdict(list)
    for unit in units:
        model_id, cot_id = unit.unit_id.split(".")
        pending[model_id].append(cot_id)
    for model_id, ids in pending.items():
        model = models.by_id(study)[model_id]
        models.require_layers(study.sweep.layers, context.store.model_facts(model_id)["n_layers"], "sweep.layers")
        made = _directions(context, model_id, say=True)
        spans = {cot: _spans(rows) for cot, rows in context.store.chunks_of(ids).items()}
        tasks = [_task(context, [cots[cot] for cot in share], spans, made) for share in shares(ids, study.engine.workers, _COTS_A_TASK)]
        crew = {"workers": study.engine.workers, "threads": study.engine.threads}
        for cot_id, rows in run_in_workers(measure, tasks, model=models.spec(study, model), **crew):
            own = [direction.row() for direction in made if direction.chunk_id is None or direction.chunk_id in spans[cot_id]]
            tables = {"directions": own, "kl_curves": rows.kl_curves, "steepness": rows.steepness}
            yield Finished(by_id[f"{model_id}.{cot_id}"], tables, {"model_id": model_id, "dtype": model.dtype})


def measure(loaded: LoadedModel, task: Task) -> Iterator[tuple[str, Any]]:
    """Runs in a worker: every curve of each CoT."""
    from backend.geometry.sweep import sweep_cot

    for cot_id, token_ids, spans in task.cots:
        own = [direction for direction in task.directions if direction.chunk_id is None or direction.chunk_id in spans]
        options = {"layers": task.layers, "positions": task.positions, "betas": task.betas, "unit": task.unit}
        yield cot_id, sweep_cot(loaded, token_ids, spans, own, **options)


def _swept(context: Context) -> list[dict[str, Any]]:
    """CoTs with importance, and the model that reads each: steepness is there to be set against importance."""
    known = set(context.store.cots_with_importance())
    cots = [{**cot, "reader": models.reader_of(context.study, cot)} for cot in context.store.tokenised_cots() if cot["cot_id"] in known]
    return [cot for cot in cots if cot["reader"] is not None]


def _directions(context: Context, model_id: str, *, say: bool) -> tuple[Direction, ...]:
    """Every direction of the study for this model, at the sweep's layers."""
    wanted = context.study.sweep
    importance = context.store.metric_by_chunk(ANCHOR_METRIC, ANCHOR_CONVENTIONS)
    swept = {chunk["chunk_id"] for rows in context.store.chunks_of([cot["cot_id"] for cot in _swept(context)]).values() for chunk in rows}
    made: list[Direction] = []
    for layer in wanted.layers:
        ids, vectors = context.store.activations(model_id, layer)
        activations = dict(zip(ids, vectors, strict=True))
        for kind in wanted.kinds:
            found = _of_kind(context, kind, activations, importance, model_id, layer, vectors)
            made.extend(direction for direction in found.made if direction.chunk_id is None or direction.chunk_id in swept)
            for refused in found.refused if say else ():
                context.say(f"  {NAME:<12} no {kind} direction at layer {layer} for {refused.chunk_id or 'the study'}: {refused.reason}")
    return tuple(made)


def _of_kind(
    context: Context,
    kind: str,
    activations: Mapping[str, np.ndarray],
    importance: Mapping[str, float | None],
    model_id: str,
    layer: int,
    vectors: np.ndarray,
) -> directions.Directions:
    place = {"model_id": model_id, "layer": layer}
    if kind == "random":
        return directions.random(context.study.sweep.random, vectors.shape[1], seed=context.study.seed, **place)
    if kind == "diff_in_means":
        return directions.diff_in_means(activations, importance, threshold=context.study.sweep.anchor_threshold, **place)
    return {"per_chunk": directions.per_chunk, "centered": directions.centered}[kind](activations, **place)


def _task(context: Context, cots: Sequence[Mapping[str, Any]], spans: Mapping[str, Any], made: Sequence[Direction]) -> Task:
    wanted = context.study.sweep
    own = {chunk for cot in cots for chunk in spans[cot["cot_id"]]}
    return Task(
        tuple((cot["cot_id"], tuple(cot["token_ids"]), spans[cot["cot_id"]]) for cot in cots),
        tuple(direction for direction in made if direction.chunk_id is None or direction.chunk_id in own),
        wanted.layers,
        wanted.positions,
        wanted.betas,
        wanted.unit,
    )


def _spans(chunks: Sequence[Mapping[str, Any]]) -> dict[str, tuple[int, int]]:
    return {chunk["chunk_id"]: (chunk["token_start"], chunk["token_end"]) for chunk in chunks if chunk["token_start"] < chunk["token_end"]}
