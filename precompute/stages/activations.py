"""Mean residual stream over each chunk's tokens, at every layer asked for: one forward pass a CoT."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from backend.models.loaded import LoadedModel
from precompute import models
from precompute.estimates import Estimate, Quantities
from precompute.stages import chunks as chunks_stage
from precompute.stages.cots import shares
from precompute.units import Context, Finished, Unit

NAME, UNIT = "activations", "CoT"
RULE = 1  # of what is recorded: raise it when it changes
_COTS_A_TASK = 16


@dataclass(frozen=True)
class Task:
    makes: tuple[str, ...]  # a unit a CoT
    cots: tuple[
        tuple[str, tuple[int, ...], tuple[tuple[str, int, int], ...]], ...
    ]  # (cot_id, token ids, (chunk_id, start, end) …)
    layers: tuple[int, ...]


@dataclass(frozen=True)
class Recorded:
    """`vectors[layer]` is (n_chunks, d_model) float32 and `rms[layer]` (n_chunks,), both in the order of `chunks`."""

    chunks: tuple[tuple[str, int], ...]  # (chunk_id, tokens averaged)
    vectors: Mapping[int, np.ndarray]
    rms: Mapping[int, np.ndarray]


def layers_of(context: Context, model_id: str) -> tuple[int, ...]:
    """The study's layers for this model. Raises AnchorscopeError for a layer that the model does not have."""
    n_layers = context.store.model_facts(model_id)["n_layers"]
    wanted = context.study.activations.layers
    chosen = tuple(range(n_layers)) if wanted == "all" else tuple(sorted(set(wanted)))
    models.require_layers(chosen, n_layers, "activations.layers")
    return chosen


def units(context: Context) -> list[Unit]:
    read = [(models.reader_of(context.study, cot), cot["cot_id"]) for cot in context.store.tokenised_cots()]
    rules = chunks_stage.rules(context)
    layers = {model_id: layers_of(context, model_id) for model_id in {reader for reader, _ in read if reader}}
    return [
        Unit(f"{reader}.{cot_id}", {"layers": layers[reader], "chunks": rules[cot_id]})
        for reader, cot_id in read
        if reader
    ]


def estimate(of: Quantities) -> Estimate:
    gigabytes = of.n_chunks * of.layers * of.width * 4e-9
    return of.line(NAME, of.n_cots, tokens=of.read, by="forward", gigabytes=gigabytes)


def compute(context: Context, units: Sequence[Unit]) -> Iterator[Finished]:
    study = context.study
    cots = {cot["cot_id"]: cot for cot in context.store.tokenised_cots()}
    by_id = {unit.unit_id: unit for unit in units}
    pending: dict[str, list[str]] = defaultdict(list)
    for unit in units:
        model_id, cot_id = unit.unit_id.split(".")
        pending[model_id].append(cot_id)
    chunks = context.store.chunks_of([cot for ids in pending.values() for cot in ids])
    for model_id, ids in pending.items():
        model = models.by_id(study)[model_id]
        layers = layers_of(context, model_id)
        empty = [cot for cot in ids if not _spans(chunks.get(cot, []))]
        for cot in empty:  # a CoT without text has nothing to average
            yield Finished(by_id[f"{model_id}.{cot}"], {"activations": []})
        written = [cot for cot in ids if cot not in set(empty)]
        tasks = [
            Task(
                tuple(f"{model_id}.{cot}" for cot in share),
                tuple((cot, tuple(cots[cot]["token_ids"]), _spans(chunks[cot])) for cot in share),
                layers,
            )
            for share in shares(written, context.engine.workers, _COTS_A_TASK)
            if share
        ]
        for unit_id, recorded in context.run(record, tasks, model=models.spec(study, model)):
            yield Finished(
                by_id[unit_id],
                {"activations": _rows(recorded, model_id)},
                {"model_id": model_id, "dtype": model.dtype},
            )


def _spans(chunks: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, int, int], ...]:
    return tuple(
        (chunk["chunk_id"], chunk["token_start"], chunk["token_end"])
        for chunk in chunks
        if chunk["token_start"] < chunk["token_end"]
    )


def record(loaded: LoadedModel, task: Task) -> Iterator[tuple[str, Recorded]]:
    """Runs in a worker: one forward pass a CoT."""
    from backend.models.residuals import chunk_activations, record_residuals

    for unit_id, (_, token_ids, spans) in zip(task.makes, task.cots, strict=True):
        residuals = record_residuals(loaded, token_ids, task.layers)
        means = {
            layer: chunk_activations(residual, [(start, end) for _, start, end in spans])
            for layer, residual in residuals.items()
        }
        yield (
            unit_id,
            Recorded(
                tuple((name, end - start) for name, start, end in spans),
                {layer: mean.mean.cpu().numpy() for layer, mean in means.items()},
                {layer: mean.rms.cpu().numpy() for layer, mean in means.items()},
            ),
        )


def _rows(recorded: Recorded, model_id: str) -> list[dict[str, Any]]:
    return [
        {
            "chunk_id": chunk,
            "model_id": model_id,
            "layer": layer,
            "vector": vectors[row],
            "rms": float(recorded.rms[layer][row]),
            "n_tokens": n_tokens,
        }
        for layer, vectors in recorded.vectors.items()
        for row, (chunk, n_tokens) in enumerate(recorded.chunks)
    ]
