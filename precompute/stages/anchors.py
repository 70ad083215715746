"""Steering just before anchors and just after them, towards what the model says in their place.

A unit is one CoT of the reference set with its anchors and the chunks they are compared with: which, is said in
backend/geometry/anchor_choice.py; what is measured there, in backend/geometry/counterfactuals.py. It needs stored
rollouts with their texts, and a model that reads; nothing is sampled, and rollouts that were drawn later take no part.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backend.geometry.anchor_choice import Candidate, Chosen, chosen_chunks, in_turn
from backend.geometry.direction_library import anchor_convention, anchor_importance
from backend.ids import cot_of
from backend.importance.estimates import SIMILARITY_THRESHOLD
from backend.models.loaded import LoadedModel
from precompute import models
from precompute.estimates import Estimate, Quantities
from precompute.stages import chunks as chunks_stage
from precompute.stages.cots import shares
from precompute.steered import by_reader, reference_of, spans, steered_cots
from precompute.units import Context, Finished, Unit

if TYPE_CHECKING:
    from backend.geometry.counterfactuals import Wanted

NAME, UNIT = "anchors", "CoT"
RULE = 1  # of what is chosen and measured: raise it when it changes


@dataclass(frozen=True)
class CotTask:
    """One CoT, the spans of its chunks, and what dissimilar rollouts wrote in the place of the chosen ones."""

    cot: Mapping[str, Any]
    spans: Mapping[str, tuple[int, int]]
    places: Mapping[str, tuple[int, str]]  # by chosen chunk, its char_start and text
    chosen: tuple[Chosen, ...]
    rollouts: Mapping[str, tuple[Mapping[str, Any], ...]]


@dataclass(frozen=True)
class Task:
    makes: tuple[str, ...]  # a unit a CoT
    cots: tuple[CotTask, ...]
    wanted: "Wanted"


def units(context: Context) -> list[Unit]:
    """One unit a CoT; whatever its chosen chunks, their rollouts and the steering are is part of its inputs."""
    wanted = context.study.anchors
    if wanted is None:
        return []
    chosen, rules = _chosen(context), chunks_stage.rules(context)
    rollouts = _rollouts(context, chosen)
    readers = {cot["cot_id"]: cot["reader"] for cot in steered_cots(context)}
    conventions = {reader: _convention(context, reader) for reader in set(readers.values())}
    shared = {
        "threshold": context.study.sweep.anchor_threshold,
        "layers": context.study.anchor_layers,
        "betas": wanted.betas,
        "random": wanted.random,
        "alternatives": wanted.alternatives,
        "seed": context.study.seed,
    }
    return [
        Unit(
            f"{readers[cot]}.{cot}",
            shared
            | {
                "chunks": rules[cot],
                "convention": conventions[readers[cot]],
                "anchors": [(one.chunk_id, one.importance, one.is_anchor, one.matched) for one in own],
                "rollouts": _digest([row for one in own for row in rollouts[one.chunk_id]]),
            },
        )
        for cot, own in chosen.items()
    ]


def estimate(of: Quantities) -> Estimate | None:
    wanted = of.study.anchors
    if wanted is None:
        return None
    n_cots, n_places = min(wanted.cots, of.rolled_cots), of.rolled_chunks / max(of.rolled_cots, 1)
    each = (
        2 * (1 + wanted.random) * (wanted.points - 1) * 2 + wanted.alternatives * 2 * n_places
    )  # of an anchor and match
    steps = n_cots * len(of.study.anchor_layers) * each
    return of.line(NAME, n_cots, tokens=steps * of.lengths.cot / 2 * 0.6, by="sweep", gigabytes=steps * 1e-7)


def compute(context: Context, units: Sequence[Unit]) -> Iterator[Finished]:
    from backend.geometry.counterfactuals import Wanted

    study, wanted = context.study, context.study.its_anchors
    chosen = _chosen(context)
    rollouts, by_id = _rollouts(context, chosen), {unit.unit_id: unit for unit in units}
    cots = {cot["cot_id"]: cot for cot in context.store.tokenised_cots()}
    chunks = context.store.chunks_of([unit.unit_id.split(".")[1] for unit in units])
    steering = Wanted(study.anchor_layers, wanted.betas, wanted.random, wanted.alternatives, study.seed)
    for model_id, ids in by_reader(units).items():
        model = models.by_id(study)[model_id]
        models.require_layers(study.anchor_layers, context.store.model_facts(model_id)["n_layers"], "anchors.layers")
        tasks = [
            Task(
                tuple(f"{model_id}.{cot}" for cot in share),
                tuple(_cot_task(cots[cot], chunks[cot], chosen[cot], rollouts) for cot in share),
                steering,
            )
            for share in shares(ids, context.engine.workers, 1)
        ]
        about = {"convention": _convention(context, model_id), "threshold": study.sweep.anchor_threshold}
        for unit_id, tables in context.run(measure, tasks, model=models.spec(study, model)):
            tables["counterfactuals"] = [row | about for row in tables["counterfactuals"]]
            yield Finished(by_id[unit_id], tables, {"model_id": model_id, "dtype": model.dtype})


def measure(loaded: LoadedModel, task: Task) -> Iterator[tuple[str, dict[str, list[dict[str, Any]]]]]:
    """Runs in a worker: the rows of each CoT."""
    from backend.geometry.before_after import answer_span, tokens_read
    from backend.geometry.counterfactuals import Text, counterfactuals_cot

    for unit_id, one in zip(task.makes, task.cots, strict=True):
        # A token that lies across the end of the prompt is one more when the prompt is tokenised alone.
        n_prompt = min(one.cot["n_prompt_tokens"], *(start for start, _ in one.spans.values()))
        tokens = tuple(tokens_read(loaded.tokenizer, one.cot))
        text = Text(tokens, one.spans, n_prompt, answer_span(loaded.tokenizer, one.cot))
        rows = counterfactuals_cot(loaded, text, _anchors(loaded, one), task.wanted)
        chosen = {own.chunk_id: own for own in one.chosen}
        counterfactuals = [
            row
            | {
                "is_anchor": chosen[row["chunk_id"]].is_anchor,
                "matched_chunk_id": chosen[row["chunk_id"]].matched,
                "importance": chosen[row["chunk_id"]].importance,
            }
            for row in rows.counterfactuals
        ]
        yield (
            unit_id,
            {
                "directions": rows.directions,
                "counterfactuals": counterfactuals,
                "anchor_steering": rows.anchor_steering,
                "anchor_attention": rows.anchor_attention,
            },
        )


def _anchors(loaded: LoadedModel, one: CotTask) -> list[Any]:
    from backend.geometry.counterfactuals import Anchor, alternatives, first_chunk_written

    found = []
    for own in one.chosen:
        start, chunk_text = one.places[own.chunk_id]
        texts: dict[str, int] = {}
        for rollout in one.rollouts[own.chunk_id]:
            written = first_chunk_written(rollout, chunk_text)
            texts[written] = texts.get(written, 0) + 1
        context = one.cot["prompt"] + one.cot["text"][:start]
        read = alternatives(loaded.tokenizer, context, texts)
        if read:
            found.append(Anchor(own.chunk_id, one.spans[own.chunk_id], read, everywhere=own.is_anchor))
    return found


def _cot_task(
    cot: Mapping[str, Any],
    chunks: Sequence[Mapping[str, Any]],
    chosen: tuple[Chosen, ...],
    rollouts: Mapping[str, tuple[Mapping[str, Any], ...]],
) -> CotTask:
    ids = {one.chunk_id for one in chosen}
    places = {chunk["chunk_id"]: (chunk["char_start"], chunk["text"]) for chunk in chunks if chunk["chunk_id"] in ids}
    return CotTask(cot, spans(chunks), places, chosen, {chunk: rollouts[chunk] for chunk in ids})


def _chosen(context: Context) -> dict[str, tuple[Chosen, ...]]:
    """What is steered in each CoT that takes part, in the order in which they are worth having."""
    study, wanted = context.study, context.study.its_anchors
    cots = steered_cots(context)
    chunks = context.store.chunks_of([cot["cot_id"] for cot in cots])
    dissimilar = context.store.dissimilar_counts(SIMILARITY_THRESHOLD)
    importance: dict[str, float | None] = {}
    for reader in sorted({cot["reader"] for cot in cots}):
        importance |= anchor_importance(context.store, reader, reference_of(context, reader))
    choices = []
    for cot in cots:
        with_tokens = list(spans(chunks[cot["cot_id"]]))[:-1]  # nothing follows the last
        choices.append(
            chosen_chunks(
                [Candidate(chunk, importance.get(chunk), dissimilar.get(chunk, 0)) for chunk in with_tokens],
                threshold=study.sweep.anchor_threshold,
                least=wanted.dissimilar,
            )
        )
    groups = {cot["cot_id"]: (cot["reader"], cot["problem_id"]) for cot in cots}
    return {cot_of(own[0].chunk_id): own for own in in_turn(choices, groups, seed=study.seed, n=wanted.cots)}


def _convention(context: Context, model_id: str) -> str | None:
    """Of the importance by which the model's anchors are chosen."""
    return context.store.reference_convention(model_id) or anchor_convention(context.store)


def _rollouts(context: Context, chosen: Mapping[str, tuple[Chosen, ...]]) -> dict[str, tuple[Mapping[str, Any], ...]]:
    """The dissimilar rollouts at each chosen chunk."""
    rows = context.store.dissimilar_rollouts(list(chosen), SIMILARITY_THRESHOLD)
    return {
        one.chunk_id: tuple(row for row in rows.get(cot, ()) if row["chunk_id"] == one.chunk_id)
        for cot, own in chosen.items()
        for one in own
    }


def _digest(rows: Sequence[Mapping[str, Any]]) -> str:
    written = "\n".join(f"{row['rollout_id']} {row['resampled_chunk']}" for row in rows)
    return hashlib.sha256(written.encode()).hexdigest()
