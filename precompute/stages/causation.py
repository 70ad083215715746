"""Anchors and as many matched chunks that are none, steered alike: what becomes of the answers, and of importance.

A unit is one pair (`backend/importance/matching.py`): both of its chunks under every arm, sampled, judged and compared
where they were sampled. Its key names the two chunks, the directions and all that the samples depend on, but not the
importance that the pair was drawn by: pairs that stay are not sampled again when importance is known better.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pandas as pd

from backend.cot.answers import Judge
from backend.geometry.direction_library import anchor_convention, anchor_importance
from backend.ids import seed_for
from backend.importance import matching
from backend.importance.matching import Candidate, MatchedPair, matched_pairs
from backend.importance.similarity import same_numbers
from backend.importance.steered_effects import effects_of_chunk
from backend.importance.steered_rollouts import Along, SteeredChunk, Steering, continuations, judged
from backend.models.loaded import LoadedModel
from backend.models.sentences import SentenceEncoder, load_encoder
from precompute import models
from precompute.estimates import GOES_ON, TEXT, Estimate, Quantities
from precompute.stages import chunks as chunks_stage
from precompute.stages.cots import shares
from precompute.steered import reference_of, spans, steered_cots, study_directions
from precompute.units import Context, Finished, Unit

NAME, UNIT = "causation", "pair of chunks"
RULE = 1  # of what is sampled and measured: raise it when it changes
_PAIRS_A_TASK = 8  # enough to fill a batch
_STARTS, _ARMS = 2, 3
ROLES = ("anchor", "match")


@dataclass(frozen=True)
class Task:
    """Pairs of chunks, and how they are steered."""

    makes: tuple[str, ...]  # a unit a pair
    pairs: tuple[tuple[SteeredChunk, SteeredChunk], ...]  # anchor and match
    steering: Steering
    rows: int
    encoder: str


@dataclass(frozen=True)
class _Drawn:
    """The pairs of one model, and what their chunks are steered along."""

    pairs: tuple[MatchedPair, ...]
    convention: str
    along: Mapping[str, Any]  # chunk id -> Direction
    randoms: tuple[Any, ...]


def units(context: Context) -> list[Unit]:
    study = context.study
    if study.causation is None:
        return []
    rules = chunks_stage.rules(context)
    inputs = {
        **study.its_causation.model_dump(include={"n", "place", "beta"}),
        "unit": study.sweep.unit,
        "sampling": study.sampling.model_dump(exclude={"samples", "dtype"}),
        "seed": study.seed,
        "encoder": study.rollouts.encoder,
    }
    return [
        Unit(
            f"{model_id}.{pair.pair_id}",
            {
                **inputs,
                "chunks": [[one.chunk_id, rules[one.cot_id]] for one in (pair.anchor, pair.match)],
                "directions": [drawn.along[one.chunk_id].direction_id for one in (pair.anchor, pair.match)],
                "random": [one.direction_id for one in drawn.randoms],
            },
        )
        for model_id, drawn in _drawn(context).items()
        for pair in drawn.pairs
    ]


def estimate(of: Quantities) -> Estimate | None:
    wanted = of.study.causation
    if wanted is None:
        return None
    n_models = 1 if wanted.model else len(of.study.models)
    pairs = min(wanted.pairs * n_models, of.rolled_chunks // 2)
    tokens = pairs * 2 * _STARTS * _ARMS * wanted.n * of.lengths.cot * GOES_ON
    batches = _STARTS * max(n_models * min(of.study.engine.workers, wanted.pairs), pairs / _PAIRS_A_TASK)
    steps = of.steps(tokens, batches)
    return of.line(NAME, pairs, tokens=tokens, by="sampling", steps=steps, gigabytes=tokens * TEXT)


def compute(context: Context, units: Sequence[Unit]) -> Iterator[Finished]:
    from backend.models.sampling import SamplingParameters

    study, wanted, by_id = context.study, context.study.its_causation, {unit.unit_id: unit for unit in units}
    sampling = study.sampling
    parameters = SamplingParameters(sampling.temperature, sampling.top_p, sampling.max_new_tokens)
    for model_id, drawn in _drawn(context).items():
        pairs = {f"{model_id}.{pair.pair_id}": pair for pair in drawn.pairs}
        asked = [unit_id for unit_id in pairs if unit_id in by_id]
        if not asked:
            continue
        model = models.by_id(study)[model_id]
        chunks = _steered_chunks(context, [pairs[unit_id] for unit_id in asked], drawn.along)
        steering = Steering(
            study.causation_layer,
            wanted.place,
            study.sweep.unit,
            wanted.beta,
            wanted.n,
            tuple(map(_along, drawn.randoms)),
            parameters,
            sampling.forced_max_tokens,
            study.seed,
        )
        tasks = [
            Task(
                tuple(share),
                tuple((chunks[pairs[name].anchor.chunk_id], chunks[pairs[name].match.chunk_id]) for name in share),
                steering,
                study.engine.rows,
                study.rollouts.encoder,
            )
            for share in shares(asked, context.engine.workers, _PAIRS_A_TASK)
        ]
        for unit_id, tables in context.run(steer, tasks, model=models.spec(study, model)):
            pair = pairs[unit_id]
            own = [drawn.along[one.chunk_id].row() for one in (pair.anchor, pair.match)]
            directions = {row["direction_id"]: row for row in [*own, *(one.row() for one in drawn.randoms)]}
            yield Finished(
                by_id[unit_id],
                {
                    "directions": list(directions.values()),
                    "causation_pairs": [_pair_row(context, model_id, pair, drawn.convention)],
                    **{table: [{"pair_id": pair.pair_id, **row} for row in rows] for table, rows in tables.items()},
                },
                {"model_id": model_id, "dtype": model.dtype, "seed": study.seed},
            )


def steer(loaded: LoadedModel, task: Task) -> Iterator[tuple[str, dict[str, list[dict[str, Any]]]]]:
    """Runs in a worker: samples and effects of each pair as soon as both of its chunks are written."""
    encoder = _encoder(task.encoder)
    where = {
        chunk.chunk_id: (unit_id, role)
        for unit_id, pair in zip(task.makes, task.pairs, strict=True)
        for role, chunk in zip(ROLES, pair, strict=True)
    }
    done: dict[str, dict[str, list[dict[str, Any]]]] = {}
    with Judge() as judge:
        chunks = [chunk for pair in task.pairs for chunk in pair]
        texts = {chunk.chunk_id: chunk.text[slice(*chunk.characters)] for chunk in chunks}
        for chunk, written in continuations(loaded, chunks, task.steering, rows=task.rows):
            unit_id, role = where[chunk.chunk_id]
            own = done.setdefault(unit_id, {})
            own[role] = [{"role": role, **row} for row in judged(chunk, written, encoder.encode, judge)]
            if len(own) == len(ROLES):
                samples = done.pop(unit_id)
                yield (
                    unit_id,
                    {
                        "causation_samples": [row for role in ROLES for row in samples[role]],
                        "causation_effects": [
                            row for role in ROLES for row in _effects(role, samples[role], texts, task.steering.seed)
                        ],
                    },
                )


def _effects(
    role: str, samples: Sequence[Mapping[str, Any]], texts: Mapping[str, str], seed: int
) -> list[dict[str, Any]]:
    chunk_id, rows = samples[0]["chunk_id"], pd.DataFrame(samples)
    found = effects_of_chunk(rows.assign(same_numbers=same_numbers(rows, texts)), seed=seed_for(seed, chunk_id))
    return [{"role": role, "chunk_id": chunk_id, **row} for row in found]


@lru_cache(maxsize=1)
def _encoder(name: str) -> SentenceEncoder:
    """Loaded once a process."""
    return load_encoder(name)


def _drawn(context: Context) -> dict[str, _Drawn]:
    """The pairs of each model that steers, of chunks with a direction."""
    study, wanted = context.study, context.study.its_causation
    cots = [cot for cot in steered_cots(context) if wanted.model in (None, models.by_id(study)[cot["reader"]].name)]
    result = {}
    for reader in sorted({cot["reader"] for cot in cots}):
        n_layers = context.store.model_facts(reader)["n_layers"]
        models.require_layers([study.causation_layer], n_layers, "causation.layer")
        made = study_directions(
            context, reader, [study.causation_layer], kinds=(wanted.kind, "random"), n_random=wanted.random
        )
        own = [direction for direction in made if direction.kind == wanted.kind]
        randoms = tuple(direction for direction in made if direction.kind != wanted.kind)
        found = _candidates(context, reader, [cot for cot in cots if cot["reader"] == reader])
        along = {
            one.chunk_id: direction for one in found for direction in own if direction.chunk_id in (None, one.chunk_id)
        }
        pairs = matched_pairs(
            [one for one in found if one.chunk_id in along],
            threshold=study.sweep.anchor_threshold,
            most=wanted.pairs,
            seed=study.seed,
        )
        convention = context.store.reference_convention(reader) or anchor_convention(context.store)
        if pairs and convention is not None:
            result[reader] = _Drawn(pairs, convention, along, randoms)
    return result


def _candidates(context: Context, reader: str, cots: Sequence[Mapping[str, Any]]) -> list[Candidate]:
    """Chunks of known importance with tokens of their own and a token before them."""
    importance = anchor_importance(context.store, reader, reference_of(context, reader))
    found = []
    for cot in cots:
        (chunks,) = context.store.chunks_of([cot["cot_id"]]).values()
        for name, (start, end) in spans(chunks).items():
            if start > 0 and (value := importance.get(name)) is not None:
                index = next(chunk["chunk_index"] for chunk in chunks if chunk["chunk_id"] == name)
                before = index / max(len(chunks) - 1, 1)
                found.append(Candidate(name, cot["problem_id"], value, before, end - start))
    return found


def _steered_chunks(
    context: Context, pairs: Sequence[MatchedPair], along: Mapping[str, Any]
) -> dict[str, SteeredChunk]:
    wanted = {one.chunk_id: one.cot_id for pair in pairs for one in (pair.anchor, pair.match)}
    cots = {cot["cot_id"]: cot for cot in context.store.tokenised_cots() if cot["cot_id"] in set(wanted.values())}
    truths = {problem["problem_id"]: problem["answer"] for problem in context.store.study_problems()}
    chunks = context.store.chunks_of(list(cots))
    rows = {chunk["chunk_id"]: chunk for own in chunks.values() for chunk in own}
    return {
        name: SteeredChunk(
            name,
            cot_id,
            cots[cot_id]["prompt"],
            cots[cot_id]["text"],
            cots[cot_id]["think_close"],
            tuple(cots[cot_id]["token_ids"]),
            truths[cots[cot_id]["problem_id"]],
            (rows[name]["token_start"], rows[name]["token_end"]),
            (rows[name]["char_start"], rows[name]["char_end"]),
            _along(along[name]),
        )
        for name, cot_id in wanted.items()
    }


def _along(direction: Any) -> Along:
    return Along(direction.direction_id, direction.vector)


def _pair_row(context: Context, model_id: str, pair: MatchedPair, convention: str) -> dict[str, Any]:
    study, wanted = context.study, context.study.its_causation
    return {
        "pair_id": pair.pair_id,
        "model_id": model_id,
        "anchor_id": pair.anchor.chunk_id,
        "match_id": pair.match.chunk_id,
        "anchor_importance": pair.anchor.importance,
        "match_importance": pair.match.importance,
        "convention": convention,
        "threshold": study.sweep.anchor_threshold,
        "rule": matching.RULE,
        "same_cot": pair.same_cot,
        "share_apart": pair.share_apart,
        "length_ratio": pair.length_ratio,
        "kind": wanted.kind,
        "layer": study.causation_layer,
        "place": wanted.place,
        "unit": study.sweep.unit,
        "beta": wanted.beta,
        "n": wanted.n,
        "n_random": wanted.random,
        "seed": study.seed,
    }
