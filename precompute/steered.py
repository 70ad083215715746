"""What the stages that steer share: which chains of thought, read by which model, and along which directions.

Directions are made here, study-wide ones from the reference set, and are found by id.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from backend.geometry.direction_kinds import DIRECTION_KINDS, StudyChunks
from backend.geometry.direction_library import anchor_importance
from backend.geometry.directions import Direction
from backend.ids import cot_of
from precompute import models
from precompute.units import Context, Unit

_IN_THE_SET = "; they are those of the reference set, and another name in sweep.reference takes in what came since"
Cot = tuple[str, tuple[int, ...], Mapping[str, tuple[int, int]]]  # id, token ids, token span by chunk id


def steered_cots(context: Context) -> list[dict[str, Any]]:
    """CoTs with importance, and the model that reads each: steepness is there to be set against importance."""
    known = set(context.store.cots_with_importance())
    cots = [
        {**cot, "reader": models.reader_of(context.study, cot)}
        for cot in context.store.tokenised_cots()
        if cot["cot_id"] in known
    ]
    return [cot for cot in cots if cot["reader"] is not None]


def reference_of(context: Context, model_id: str) -> dict[str, bool]:
    """The chunks that study-wide means and tangents of this model are made of, with whether each is steered: the frozen
    set (stages/reference.py), or what it would be now.
    """
    return context.store.reference_chunks(model_id) or reference_now(context, model_id)


def reference_now(context: Context, model_id: str) -> dict[str, bool]:
    """Every chunk with activations; steered are those of CoTs with importance."""
    known = set(context.store.cots_with_importance())
    return {chunk: cot_of(chunk) in known for chunk in context.store.chunks_with_activations(model_id)}


def study_directions(
    context: Context,
    model_id: str,
    layers: Iterable[int],
    *,
    kinds: Sequence[str] | None = None,
    n_random: int | None = None,
    refused: Callable[[str], None] = lambda words: None,
) -> tuple[Direction, ...]:
    """Every direction of the kinds, and as many random ones, for this model at each of the layers; both are the sweep's
    where they are left out. `refused` hears of those that cannot be made.
    """
    wanted = context.study.sweep
    reference, now = reference_of(context, model_id), reference_now(context, model_id)
    importance = anchor_importance(context.store, model_id, reference)
    chunks = context.store.chunks_of([cot["cot_id"] for cot in steered_cots(context)])
    steered = {chunk["chunk_id"] for rows in chunks.values() for chunk in rows}
    made: list[Direction] = []
    for layer in layers:
        ids, vectors = context.store.activations(model_id, layer)
        there = dict(zip(ids, vectors, strict=True))
        chunks_there = StudyChunks(
            model_id,
            layer,
            there,
            importance,
            reference={chunk: vector for chunk, vector in there.items() if chunk in reference},
            seed=context.study.seed,
            n_random=n_random or wanted.random,
            threshold=wanted.anchor_threshold,
        )
        for kind in kinds or wanted.kinds:
            swept = DIRECTION_KINDS[kind].swept
            assert swept is not None  # the study file refuses kinds that are not
            found = swept.make(chunks_there)
            made.extend(
                direction for direction in found.made if direction.chunk_id is None or direction.chunk_id in steered
            )
            for one in found.refused:
                words = f"no {kind} direction at layer {layer} for {one.chunk_id or 'the study'}: {one.reason}"
                refused(words if one.chunk_id or reference == now else words + _IN_THE_SET)
    return tuple(made)


def that_apply(made: Iterable[Direction], chunks: Iterable[str]) -> tuple[Direction, ...]:
    """Those made from one of the chunks, and those of the whole study."""
    own = set(chunks)
    return tuple(direction for direction in made if direction.chunk_id is None or direction.chunk_id in own)


def spans(chunks: Sequence[Mapping[str, Any]]) -> dict[str, tuple[int, int]]:
    """Token span by chunk id; a chunk without tokens has none."""
    return {
        chunk["chunk_id"]: (chunk["token_start"], chunk["token_end"])
        for chunk in chunks
        if chunk["token_start"] < chunk["token_end"]
    }


def by_reader(units: Sequence[Unit]) -> dict[str, list[str]]:
    """CoT ids by the model that reads them, of units named MODEL.COT."""
    pending: dict[str, list[str]] = defaultdict(list)
    for unit in units:
        model_id, cot_id = unit.unit_id.split(".")
        pending[model_id].append(cot_id)
    return pending
