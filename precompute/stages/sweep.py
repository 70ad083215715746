"""KL(beta) of every chunk of the CoTs whose importance is known, along each kind of direction, at each layer and
position asked for.

A unit is one CoT; directions are handed to the sweep by id. Curves that are stored under an earlier list of directions
or positions are taken over.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backend.geometry.directions import Direction
from backend.models.loaded import LoadedModel
from precompute import models
from precompute.estimates import Estimate, Quantities
from precompute.kept_units import KeptUnits, Tables
from precompute.stages import chunks as chunks_stage
from precompute.stages.cots import shares
from precompute.steered import Cot, by_reader, spans, steered_cots, study_directions, that_apply
from precompute.units import Context, Finished, Unit

NAME, UNIT = "sweep", "CoT"
RULE = 1  # of what is measured: raise it when it changes
_COTS_A_TASK = 2
_NO_CURVES: Tables = {"kl_curves": [], "steepness": []}


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
    known: frozenset[str]  # ids of curves that are there already


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
    tokens = curves * (wanted.points - 1) * of.lengths.chunk * 0.6 + of.rolled_read
    return of.line(NAME, of.rolled_cots, tokens=tokens, by="sweep", gigabytes=curves * 1e-6)


@dataclass(frozen=True)
class Asked:
    """A CoT's unit: where it is steered along what, and the curves of it that are there already."""

    unit: Unit
    cot: Cot
    directions: tuple[Direction, ...]
    known: Tables
    n_curves: int

    @property
    def is_whole(self) -> bool:
        return len(self.known["kl_curves"]) == self.n_curves

    def finished(self, swept: Tables, provenance: Mapping[str, Any]) -> Finished:
        tables = {table: [*self.known[table], *rows] for table, rows in swept.items()}
        return Finished(
            self.unit, {"directions": [direction.row() for direction in self.directions]} | tables, provenance
        )


def compute(context: Context, units: Sequence[Unit]) -> Iterator[Finished]:
    study, wanted = context.study, context.study.sweep
    by_id = {unit.unit_id: unit for unit in units}
    for model_id, ids in by_reader(units).items():
        model = models.by_id(study)[model_id]
        models.require_layers(wanted.layers, context.store.model_facts(model_id)["n_layers"], "sweep.layers")
        made = study_directions(
            context, model_id, wanted.layers, refused=lambda words: context.say(f"  {NAME:<12} {words}")
        )
        asked = {one.unit.unit_id: one for one in _asked(context, [by_id[f"{model_id}.{cot}"] for cot in ids], made)}
        provenance = {"model_id": model_id, "dtype": model.dtype}
        left = [one for one in asked.values() if not one.is_whole]
        yield from (one.finished(_NO_CURVES, provenance) for one in asked.values() if one.is_whole)
        tasks = [_task(context, share, made) for share in shares(left, context.engine.workers, _COTS_A_TASK)]
        for unit_id, rows in context.run(measure, tasks, model=models.spec(study, model)) if tasks else ():
            swept = {"kl_curves": rows.kl_curves, "steepness": rows.steepness}
            yield asked[unit_id].finished(swept, provenance)


def _asked(context: Context, units: Sequence[Unit], made: Sequence[Direction]) -> Iterator[Asked]:
    """Each unit of one model."""
    cots = {cot["cot_id"]: cot for cot in context.store.tokenised_cots()}
    ids = [unit.unit_id.split(".")[1] for unit in units]
    where = {cot: spans(rows) for cot, rows in context.store.chunks_of(ids).items()}
    kept, positions = KeptUnits(context, NAME), context.study.sweep.positions
    for cot_id, unit in zip(ids, units, strict=True):
        own = that_apply(made, where[cot_id])
        n_curves = len(positions) * sum(len(that_apply(own, [chunk])) for chunk in where[cot_id])
        cot = (cot_id, tuple(cots[cot_id]["token_ids"]), where[cot_id])
        yield Asked(unit, cot, own, _known(context, kept, Asked(unit, cot, own, _NO_CURVES, n_curves)), n_curves)


def _known(context: Context, kept: KeptUnits, asked: Asked) -> Tables:
    """The curves of the unit that are stored, of whatever list of directions and positions."""
    wanted, ids = context.study.sweep, {direction.direction_id for direction in asked.directions}

    def held(tables: Tables) -> dict[str, Any]:
        swept = {row["position"] for row in tables["kl_curves"]}
        return {
            "directions": sorted(row["direction_id"] for row in tables["directions"]),
            "positions": [position for position in wanted.positions if position in swept],
        }

    def is_asked(row: Mapping[str, Any]) -> bool:
        return row["direction_id"] in ids and row["position"] in wanted.positions

    stored = _of_a_portable_study(context, asked) if context.store.path.is_file() else kept.that_serve(asked.unit, held)
    found: dict[str, dict[str, Any]] = {table: {} for table in _NO_CURVES}
    for tables in stored:
        for table, rows in found.items():
            rows |= {row["curve_id"]: row for row in tables[table] if is_asked(row)}
    return {table: list(rows.values()) for table, rows in found.items()}


def _of_a_portable_study(context: Context, asked: Asked) -> Iterator[Tables]:
    """Its curves of the same β through as many tokens: they and the chunks are of one generation."""
    wanted, (_, _, where) = context.study.sweep, asked.cot
    tables = context.store.curves_of(asked.unit.unit_id.split(".")[0], list(where))
    same = {
        row["curve_id"]
        for row in tables["kl_curves"]
        if tuple(row["betas"]) == wanted.betas
        and row["unit"] == wanted.unit
        and row["n_tokens"] == where[row["chunk_id"]][1] - where[row["chunk_id"]][0]
    }
    yield {table: [row for row in rows if row["curve_id"] in same] for table, rows in tables.items()}


def _task(context: Context, share: Sequence[Asked], made: Sequence[Direction]) -> Task:
    wanted = context.study.sweep
    return Task(
        tuple(one.unit.unit_id for one in share),
        tuple(one.cot for one in share),
        that_apply(made, (chunk for one in share for chunk in one.cot[2])),
        wanted.layers,
        wanted.positions,
        wanted.betas,
        wanted.unit,
        frozenset(row["curve_id"] for one in share for row in one.known["kl_curves"]),
    )


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
                known=task.known,
            ),
        )
