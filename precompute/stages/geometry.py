"""Exact local geometry at every chunk that the sweep steers: Fisher steepness along its directions, and what G is
without any.

What is dear (eigenpairs of G, its participation ratio, finite random steps) is had at `geometry.spectra` chunks of the
reference set: one of each CoT before a second of any, drawn by their ids.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from backend.geometry.directions import Direction
from backend.ids import seed_for
from backend.models.loaded import LoadedModel
from precompute import models
from precompute.estimates import Estimate, Quantities
from precompute.kept_units import KeptUnits, Tables
from precompute.stages import chunks as chunks_stage
from precompute.stages.cots import shares
from precompute.steered import (
    Cot,
    by_reader,
    reference_of,
    spans,
    steered_cots,
    study_directions,
    that_apply,
)
from precompute.units import Context, Finished, Unit

NAME, UNIT = "geometry", "CoT"
RULE = 1  # of what is measured: raise it when it changes
# For the estimate: forward passes of the upper layers that one exact derivative takes; derivatives on and off the
# manifold at each place; those that the eigenpairs, the participation ratio and the finite steps take as long as.
_MOVE, _OTHER_MOVES, _SPECTRUM_MOVES = 1.2, 8, 200
_COTS_A_TASK = 2
_EIGEN = "eigen"  # directions that this stage makes itself


@dataclass(frozen=True)
class Task:
    """CoTs with what applies to any of their chunks."""

    makes: tuple[str, ...]  # a unit a CoT
    cots: tuple[Cot, ...]
    directions: tuple[Direction, ...]
    tangents: Mapping[tuple[str, int], np.ndarray]  # by chunk id and layer, (n, d_model)
    spectra: frozenset[str]  # ids of the chunks that get eigenpairs and finite random steps
    layers: tuple[int, ...]
    positions: tuple[str, ...]
    unit: str
    probes: int
    eigen: int
    seed: int
    known: frozenset[str]  # ids of curves whose exact steepness is there already
    whole: frozenset[str]  # CoTs of which all else is


def units(context: Context) -> list[Unit]:
    """One unit a CoT; its tangents follow from the activations of its reader's reference set, whose digest is part of
    its inputs.
    """
    study, wanted = context.study, context.study.geometry
    if wanted is None:
        return []
    cots, layers = steered_cots(context), study.geometry_layers
    readers = sorted({cot["reader"] for cot in cots})
    made = {reader: study_directions(context, reader, layers) for reader in readers}
    digests = {reader: context.store.reference_digest(reader) for reader in readers}
    chunks, drawn = context.store.chunks_of([cot["cot_id"] for cot in cots]), _spectra(context)
    result, rules = [], chunks_stage.rules(context)
    for cot in cots:
        own = [chunk["chunk_id"] for chunk in chunks[cot["cot_id"]]]
        inputs = {
            "chunks": rules[cot["cot_id"]],
            "layers": layers,
            "positions": wanted.positions,
            "unit": study.sweep.unit,
            "probes": wanted.probes,
            "eigen": wanted.eigen,
            "seed": study.seed,
            "spectra": [chunk for chunk in own if chunk in drawn],
            "directions": _digest(one.direction_id for one in that_apply(made[cot["reader"]], own)),
            "activations": digests[cot["reader"]],
        }
        result.append(Unit(f"{cot['reader']}.{cot['cot_id']}", inputs))
    return result


def estimate(of: Quantities) -> Estimate | None:
    wanted = of.study.geometry
    if wanted is None:
        return None
    steered = len(of.study.geometry_layers) * len(wanted.positions)
    each = of.n_directions + wanted.probes + _OTHER_MOVES
    moves = steered * (of.rolled_chunks * each + min(wanted.spectra, of.rolled_chunks) * _SPECTRUM_MOVES)
    tokens, rows = moves * _MOVE * of.lengths.chunk * 0.6 + of.rolled_read, of.rolled_chunks * steered * of.n_directions
    return of.line(NAME, of.rolled_cots, tokens=tokens, by="sweep", gigabytes=rows * 1e-6)


def compute(context: Context, units: Sequence[Unit]) -> Iterator[Finished]:
    study, wanted = context.study, context.study.its_geometry
    cots = {cot["cot_id"]: cot for cot in context.store.tokenised_cots()}
    by_id, drawn = {unit.unit_id: unit for unit in units}, _spectra(context)
    for model_id, ids in by_reader(units).items():
        model = models.by_id(study)[model_id]
        models.require_layers(study.geometry_layers, context.store.model_facts(model_id)["n_layers"], "geometry.layers")
        made = study_directions(context, model_id, study.geometry_layers)
        where = {cot: spans(rows) for cot, rows in context.store.chunks_of(ids).items()}
        own = {cot: that_apply(made, where[cot]) for cot in ids}
        known = _known(context, {cot: by_id[f"{model_id}.{cot}"] for cot in ids}, own)
        tangents = _tangents(context, model_id) if len(known) < len(ids) else {}
        tasks = []
        for share in shares(ids, context.engine.workers, _COTS_A_TASK):
            chunks = {chunk for cot in share for chunk in where[cot]}
            tasks.append(
                Task(
                    tuple(f"{model_id}.{cot}" for cot in share),
                    tuple((cot, tuple(cots[cot]["token_ids"]), where[cot]) for cot in share),
                    that_apply(made, chunks),
                    {at: space for at, space in tangents.items() if at[0] in chunks},
                    drawn & chunks,
                    study.geometry_layers,
                    wanted.positions,
                    study.sweep.unit,
                    wanted.probes,
                    wanted.eigen,
                    study.seed,
                    frozenset(row["curve_id"] for cot in known.keys() & share for row in known[cot]["fisher"]),
                    frozenset(known.keys() & share),
                )
            )
        for unit_id, tables in context.run(measure, tasks, model=models.spec(study, model)):
            cot = unit_id.split(".")[1]
            tables = {table: [*known.get(cot, {}).get(table, ()), *rows] for table, rows in tables.items()}
            tables["directions"] = [direction.row() for direction in own[cot]] + tables["directions"]
            yield Finished(by_id[unit_id], tables, {"model_id": model_id, "dtype": model.dtype})


def _known(context: Context, units: Mapping[str, Unit], own: Mapping[str, Sequence[Direction]]) -> dict[str, Tables]:
    """By CoT, what is stored of it under another list of directions: exact steepness along those that are asked for
    now, and all that needs none. Of a portable study nothing.
    """
    if context.store.path.is_file():
        return {}
    kept, found = KeptUnits(context, NAME), {}
    for cot, unit in units.items():
        asked = {direction.direction_id for direction in own[cot]}
        for tables in kept.that_serve(unit, _held):
            fisher = [row for row in tables["fisher"] if row["direction_id"] in asked]
            eigen = [row for row in tables["directions"] if row["kind"] == _EIGEN]
            found[cot] = {"fisher": fisher, "local_geometry": tables["local_geometry"], "directions": eigen}
    return found


def _held(tables: Tables) -> dict[str, Any]:
    return {"directions": _digest(row["direction_id"] for row in tables["directions"] if row["kind"] != _EIGEN)}


def measure(loaded: LoadedModel, task: Task) -> Iterator[tuple[str, dict[str, list[dict[str, Any]]]]]:
    """Runs in a worker: the rows of each CoT."""
    from backend.geometry.fisher import fisher_cot
    from backend.geometry.local_geometry import LocalGeometry, local_geometry_cot

    for unit_id, (cot_id, token_ids, where) in zip(task.makes, task.cots, strict=True):
        fisher = fisher_cot(
            loaded,
            token_ids,
            where,
            that_apply(task.directions, where),
            layers=task.layers,
            positions=task.positions,
            unit=task.unit,
            known=task.known,
        )
        local = LocalGeometry()
        if cot_id not in task.whole:
            local = local_geometry_cot(
                loaded,
                token_ids,
                where,
                layers=task.layers,
                positions=task.positions,
                unit=task.unit,
                probes=task.probes,
                seed=seed_for(task.seed, NAME, cot_id),
                tangents=task.tangents,
                spectrum_of=task.spectra & where.keys(),
                n_eigen=task.eigen,
            )
        yield unit_id, {"fisher": fisher, "local_geometry": local.local_geometry, "directions": local.directions}


def _spectra(context: Context) -> frozenset[str]:
    """Ids of the chunks of which all is measured."""
    turns, cots = [], steered_cots(context)
    readers = {cot["reader"] for cot in cots}
    known = {chunk for reader in readers for chunk, steered in reference_of(context, reader).items() if steered}
    for rows in context.store.chunks_of([cot["cot_id"] for cot in cots]).values():
        own = spans(rows).keys() & known
        drawn = sorted((seed_for(context.study.seed, "spectra", chunk), chunk) for chunk in own)
        turns += [(turn, seed, chunk) for turn, (seed, chunk) in enumerate(drawn)]
    return frozenset(chunk for _, _, chunk in sorted(turns)[: context.study.its_geometry.spectra])


def _tangents(context: Context, model_id: str) -> dict[tuple[str, int], np.ndarray]:
    from backend.geometry.neighbourhoods import tangent_spaces

    result: dict[tuple[str, int], np.ndarray] = {}
    reference = reference_of(context, model_id)
    for layer in context.study.geometry_layers:
        ids, vectors = context.store.activations(model_id, layer)
        known: dict[str, np.ndarray] = {}
        others: dict[str, np.ndarray] = {}
        for chunk, vector in zip(ids, vectors, strict=True):
            (known if chunk in reference else others)[chunk] = vector
        spaces = tangent_spaces(known, others=others)
        result |= {(chunk, layer): space for chunk, space in spaces.items()}
    return result


def _digest(direction_ids: Iterable[str]) -> str:
    return hashlib.sha256(" ".join(sorted(direction_ids)).encode()).hexdigest()
