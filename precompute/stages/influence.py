"""What each chunk does to those after it: attention to it suppressed, read by both models of a pair.

The whole model is suppressed at once; beside it ranges of layers, as equal as can be, and the heads that are asked for,
each by itself. A reader tokenises the text itself, so that the models of a pair need not share a tokenizer.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backend.models.loaded import LoadedModel
from precompute import models
from precompute.estimates import Estimate, Quantities
from precompute.influence import as_read, influence_readings, n_readings
from precompute.stages import chunks as chunks_stage
from precompute.stages.cots import shares
from precompute.units import Context, Finished, Unit

NAME, UNIT = "influence", "CoT"
RULE = 1  # of what is measured: raise it when it changes
_COTS_A_TASK = 4

Rows = dict[str, list[dict[str, Any]]]  # by table


@dataclass(frozen=True)
class Task:
    """CoTs, each with its chunks in reading order, and what is suppressed beside all of the model."""

    makes: tuple[str, ...]  # a unit a reading model and CoT
    cots: tuple[tuple[Mapping[str, Any], tuple[Mapping[str, Any], ...]], ...]
    n_ranges: int
    heads: tuple[str, ...]  # LAYER.HEAD


def units(context: Context) -> list[Unit]:
    """One unit a reading model and CoT."""
    if context.study.influence is None:
        return []
    wanted, rules = context.study.its_influence, chunks_stage.rules(context)
    return [
        Unit(
            f"{reader}.{cot['cot_id']}",
            {"chunks": rules[cot["cot_id"]], "layer_ranges": wanted.layer_ranges, "heads": wanted.heads},
        )
        for reader, cot in influence_readings(context)
    ]


def estimate(of: Quantities) -> Estimate | None:
    wanted = of.study.influence
    if wanted is None:
        return None
    n_units = n_readings(of)
    n_chunks = of.n_chunks / max(of.n_cots, 1)
    # All that follows a chunk is read again for it, and that of the first once more for the noise; from the first
    # suppressed layer on, which of n ranges is (n + 1) / 2 of the model in all, and of a head half of it.
    n_parts = 1 + len(wanted.heads) + wanted.layer_ranges
    depth = 1 + len(wanted.heads) / 2 + ((wanted.layer_ranges + 1) / 2 if wanted.layer_ranges else 0)
    again = of.lengths.cot * (n_chunks + 1) / 2 * depth
    tokens = n_units * (of.lengths.cot + of.lengths.prompt + again)
    pairs = n_units * n_chunks * (n_chunks + 1) / 2
    return of.line(NAME, n_units, tokens=tokens, by="forward", gigabytes=pairs * n_parts * 1e-7)


def compute(context: Context, units: Sequence[Unit]) -> Iterator[Finished]:
    study, by_id = context.study, {unit.unit_id: unit for unit in units}
    wanted = study.its_influence
    asked: dict[str, list[str]] = defaultdict(list)
    for unit in units:
        model_id, cot_id = unit.unit_id.split(".")
        asked[model_id].append(cot_id)
    cots = {cot["cot_id"]: cot for cot in context.store.tokenised_cots()}
    for model_id, ids in asked.items():
        model, chunks = models.by_id(study)[model_id], context.store.chunks_of(ids)
        tasks = [
            Task(
                tuple(f"{model_id}.{cot_id}" for cot_id in share),
                tuple((cots[cot_id], tuple(chunks[cot_id])) for cot_id in share),
                wanted.layer_ranges,
                wanted.heads,
            )
            for share in shares(ids, context.engine.workers, _COTS_A_TASK)
        ]
        for unit_id, rows in context.run(measure, tasks, model=models.spec(study, model)):
            yield Finished(by_id[unit_id], rows, {"model_id": model_id, "dtype": model.dtype})


def measure(loaded: LoadedModel, task: Task) -> Iterator[tuple[str, Rows]]:
    """Runs in a worker: the rows of each CoT."""
    from backend.influence.suppression import ALL, chunk_influences, influences_in, layer_ranges

    parts = [ALL, *layer_ranges(loaded.n_layers, task.n_ranges), *(f"head {head}" for head in task.heads)]
    for unit_id, (cot, chunks) in zip(task.makes, task.cots, strict=True):
        found = list(influences_in(loaded, *_read(loaded, cot, chunks), parts))
        by_part = [[one for one in found if one.suppressed == part] for part in dict.fromkeys(parts)]
        yield (
            unit_id,
            {
                "influences": [row for one in found for row in one.rows],
                "chunk_influences": [row for of_part in by_part for row in chunk_influences(of_part)],
            },
        )


def _read(
    loaded: LoadedModel, cot: Mapping[str, Any], chunks: Sequence[Mapping[str, Any]]
) -> tuple[list[int], dict[str, tuple[int, int]], tuple[int, int] | None]:
    """The tokens as the model reads them with the answer, of each chunk the span in them, and that of the answer."""
    from backend.geometry.before_after import answer_span, tokens_read

    token_ids, spans = as_read(loaded.tokenizer, cot, chunks)
    own = {**cot, "token_ids": token_ids}
    return tokens_read(loaded.tokenizer, own), spans, answer_span(loaded.tokenizer, own)
