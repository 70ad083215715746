"""Steering at the last token before a chunk against steering at its last token, in some of the CoTs that the sweep
steers.

`geometry.before_after` CoTs of the reference set take part with all their chunks: those with an anchor before those
without, drawn by their ids.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backend.geometry.direction_library import anchor_importance
from backend.geometry.directions import Direction
from backend.ids import seed_for
from backend.models.loaded import LoadedModel
from precompute import models
from precompute.estimates import Estimate, Quantities
from precompute.stages import chunks as chunks_stage
from precompute.stages.cots import shares
from precompute.steered import by_reader, reference_of, spans, steered_cots, study_directions, that_apply
from precompute.units import Context, Finished, Unit

NAME, UNIT = "before_after", "CoT"
RULE = 1  # of what is measured: raise it when it changes


@dataclass(frozen=True)
class Task:
    """CoTs, each with its chunks' token spans, and the directions that apply to any of them."""

    makes: tuple[str, ...]  # a unit a CoT
    cots: tuple[tuple[Mapping[str, Any], Mapping[str, tuple[int, int]]], ...]
    directions: tuple[Direction, ...]
    betas: tuple[float, ...]
    unit: str


def units(context: Context) -> list[Unit]:
    """One unit a CoT; what the directions are made of is part of its inputs."""
    study = context.study
    if study.geometry is None:
        return []
    cots = _drawn(context)
    made = {
        reader: study_directions(context, reader, study.geometry_layers)
        for reader in sorted({cot["reader"] for cot in cots})
    }
    chunks = context.store.chunks_of([cot["cot_id"] for cot in cots])
    result, rules = [], chunks_stage.rules(context)
    for cot in cots:
        own = that_apply(made[cot["reader"]], (chunk["chunk_id"] for chunk in chunks[cot["cot_id"]]))
        ids = sorted(direction.direction_id for direction in own)
        inputs = {
            "chunks": rules[cot["cot_id"]],
            "unit": study.sweep.unit,
            "betas": study.sweep.betas,
            "directions": ids,
        }
        result.append(Unit(f"{cot['reader']}.{cot['cot_id']}", inputs))
    return result


def estimate(of: Quantities) -> Estimate | None:
    if of.study.geometry is None:
        return None
    n_steered = min(of.study.geometry.before_after, of.rolled_cots)
    chunks = n_steered / max(of.rolled_cots, 1) * of.rolled_chunks
    steps = chunks * len(of.study.geometry_layers) * of.n_directions * 2 * (of.study.sweep.points - 1)
    tokens = steps * of.lengths.cot / 2 * 0.6
    return of.line(NAME, n_steered, tokens=tokens, by="sweep", gigabytes=steps * 1e-7)


def compute(context: Context, units: Sequence[Unit]) -> Iterator[Finished]:
    study = context.study
    cots = {cot["cot_id"]: cot for cot in context.store.tokenised_cots()}
    by_id = {unit.unit_id: unit for unit in units}
    for model_id, ids in by_reader(units).items():
        model = models.by_id(study)[model_id]
        models.require_layers(study.geometry_layers, context.store.model_facts(model_id)["n_layers"], "geometry.layers")
        made = study_directions(context, model_id, study.geometry_layers)
        where = {cot: spans(rows) for cot, rows in context.store.chunks_of(ids).items()}
        tasks = [
            Task(
                tuple(f"{model_id}.{cot}" for cot in share),
                tuple((cots[cot], where[cot]) for cot in share),
                that_apply(made, (chunk for cot in share for chunk in where[cot])),
                study.sweep.betas,
                study.sweep.unit,
            )
            for share in shares(ids, context.engine.workers, 1)
        ]
        for unit_id, rows in context.run(measure, tasks, model=models.spec(study, model)):
            own = [direction.row() for direction in that_apply(made, where[unit_id.split(".")[1]])]
            yield Finished(
                by_id[unit_id],
                {"directions": own, "before_after": rows},
                {"model_id": model_id, "dtype": model.dtype},
            )


def measure(loaded: LoadedModel, task: Task) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Runs in a worker: the rows of each CoT."""
    from backend.geometry.before_after import answer_span, before_after_cot, tokens_read

    for unit_id, (cot, where) in zip(task.makes, task.cots, strict=True):
        # A token that lies across the end of the prompt is one more when the prompt is tokenised alone.
        n_prompt = min(cot["n_prompt_tokens"], *(start for start, _ in where.values()))
        rows = before_after_cot(
            loaded,
            tokens_read(loaded.tokenizer, cot),
            where,
            that_apply(task.directions, where),
            n_prompt=n_prompt,
            answer_spans=answer_span(loaded.tokenizer, cot),
            betas=task.betas,
            unit=task.unit,
        )
        yield unit_id, rows


def _drawn(context: Context) -> list[dict[str, Any]]:
    study = context.study
    cots = steered_cots(context)
    chunks, threshold = context.store.chunks_of([cot["cot_id"] for cot in cots]), study.sweep.anchor_threshold
    importance: dict[str, float | None] = {}
    known: set[str] = set()
    for reader in {cot["reader"] for cot in cots}:
        reference = reference_of(context, reader)
        importance |= anchor_importance(context.store, reader, reference)
        known |= {chunk for chunk, steered in reference.items() if steered}

    def order(cot: Mapping[str, Any]) -> tuple[bool, int]:
        has_anchor = any((importance.get(chunk["chunk_id"]) or 0) >= threshold for chunk in chunks[cot["cot_id"]])
        return not has_anchor, seed_for(study.seed, NAME, cot["cot_id"])

    readable = [cot for cot in cots if spans(chunks[cot["cot_id"]]).keys() & known]
    return sorted(readable, key=order)[: study.its_geometry.before_after]
