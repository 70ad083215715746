"""The exact metric averaged over chunks, in two halves by problem: what pull-back cosines are computed with.

A unit is some chunks of one half, of one model and layer. Chunks are those of the study's CoTs, read by the model that
reads them in the sweep: one of each problem before a second of any, drawn by their ids. The rows of a unit are the sum
of its chunks' metrics.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from backend.ids import cot_of, seed_for
from backend.models.loaded import LoadedModel
from precompute import models
from precompute.estimates import Estimate, Quantities
from precompute.stages import chunks as chunks_stage
from precompute.steered import Cot, spans
from precompute.units import Context, Finished, Unit

NAME, UNIT = "pullback", "block of chunks"
RULE = 1  # of which chunks are taken and how their metrics are made: raise it when it changes
BLOCK = 8  # chunks a unit
HALVES = ("a", "b")


@dataclass(frozen=True)
class Task:
    """Some chunks of one half."""

    makes: tuple[str, ...]  # a unit
    cots: tuple[Cot, ...]  # with the chunks that are taken alone
    layer: int
    position: str
    unit: str


def units(context: Context) -> list[Unit]:
    study, wanted = context.study, context.study.pullback
    if wanted is None:
        return []
    rules, found = chunks_stage.rules(context), list[Unit]()
    for model_id in models.by_id(study):
        if not context.store.model_facts(model_id):
            continue
        for half, chosen in drawn(context, model_id).items():
            for number in range(0, len(chosen), BLOCK):
                block = chosen[number : number + BLOCK]
                inputs = {
                    "chunks": block,
                    "rules": sorted({str(rules[cot_of(chunk)]) for chunk in block}),
                    "position": wanted.position,
                    "unit": study.sweep.unit,
                }
                found += [Unit(f"{model_id}.{layer}.{half}{number // BLOCK}", inputs) for layer in wanted.layers]
    return found


def drawn(context: Context, model_id: str) -> dict[str, list[str]]:
    """Chunks of each half, whose problems are no other's."""
    study = context.study
    cots = [cot for cot in context.store.tokenised_cots() if models.reader_of(study, cot) == model_id]
    problem = {cot["cot_id"]: cot["problem_id"] for cot in cots}
    of_problem: dict[str, list[str]] = {}
    for cot, rows in context.store.chunks_of(list(problem)).items():
        of_problem.setdefault(problem[cot], []).extend(spans(rows))
    order = sorted(of_problem, key=lambda one: (seed_for(study.seed, NAME, one), one))
    halves: dict[str, list[str]] = {}
    most = study.its_pullback.chunks
    for half, own in zip(HALVES, (order[::2], order[1::2]), strict=True):
        turns = [
            (turn, seed_for(study.seed, NAME, chunk), chunk)
            for one in own
            for turn, chunk in enumerate(
                sorted(of_problem[one], key=lambda chunk: (seed_for(study.seed, NAME, chunk), chunk))
            )
        ]
        halves[half] = [chunk for _, _, chunk in sorted(turns)[: -(-most // 2)]]
    return halves


def estimate(of: Quantities) -> Estimate | None:
    wanted = of.study.pullback
    if wanted is None:
        return None
    n = len(of.study.models) * len(wanted.layers)
    width = of.width
    tokens = n * wanted.chunks * width * of.lengths.chunk * 2
    return of.line(
        NAME, n * 2 * -(-wanted.chunks // (2 * BLOCK)), tokens=tokens, by="sweep", gigabytes=n * width**2 * 32e-9
    )


def compute(context: Context, units: Sequence[Unit]) -> Iterator[Finished]:
    study, wanted = context.study, context.study.its_pullback
    texts = {cot["cot_id"]: tuple(cot["token_ids"]) for cot in context.store.tokenised_cots()}
    by_id = {unit.unit_id: unit for unit in units}
    for model_id in sorted({unit.unit_id.split(".")[0] for unit in units}):
        model = models.by_id(study)[model_id]
        models.require_layers(wanted.layers, context.store.model_facts(model_id)["n_layers"], "pullback.layers")
        own = [unit for unit in units if unit.unit_id.startswith(f"{model_id}.")]
        tasks = [
            Task(
                (unit.unit_id,),
                _cots(context, unit.inputs["chunks"], texts),
                int(unit.unit_id.split(".")[1]),
                wanted.position,
                study.sweep.unit,
            )
            for unit in own
        ]
        for unit_id, total in context.run(measure, tasks, model=models.spec(study, model)):
            yield Finished(
                by_id[unit_id], _rows(unit_id, by_id[unit_id], total), {"model_id": model_id, "dtype": model.dtype}
            )


def _cots(context: Context, chunks: Sequence[str], texts: Mapping[str, tuple[int, ...]]) -> tuple[Cot, ...]:
    asked, cots = set(chunks), sorted({cot_of(chunk) for chunk in chunks})
    where = context.store.chunks_of(cots)
    return tuple(
        (cot, texts[cot], {chunk: span for chunk, span in spans(where[cot]).items() if chunk in asked}) for cot in cots
    )


def measure(loaded: LoadedModel, task: Task) -> Iterator[tuple[str, np.ndarray]]:
    """Runs in a worker: the sum of the chunks' metrics, (d_model, d_model) float64."""
    from backend.geometry.fisher import LocalMetric
    from backend.models.edits import encode

    total = np.zeros((loaded.d_model, loaded.d_model))
    for _, token_ids, where in task.cots:
        encoded = encode(loaded, token_ids, layers=[task.layer])
        for span in where.values():
            total += LocalMetric(encoded, span, task.layer, unit=task.unit).matrix(task.position)
    yield task.makes[0], total


def _rows(unit_id: str, unit: Unit, total: np.ndarray) -> dict[str, list[dict[str, Any]]]:
    model_id, layer, part = unit_id.split(".")
    place = {"model_id": model_id, "layer": int(layer), "part": part}
    chunks = unit.inputs["chunks"]
    return {
        "pullback_parts": [place | {"half": part[0], "chunk_ids": chunks} | _settings(unit)],
        "pullback_rows": [place | {"row": number, "sums": row.tolist()} for number, row in enumerate(total)],
    }


def _settings(unit: Unit) -> dict[str, Any]:
    return {name: unit.inputs[name] for name in ("position", "unit")}
