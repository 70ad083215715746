"""Continuations from before each chunk, and answers forced there: the raw material of every importance.

A unit is one chunk and one kind. Rollouts of many chunks share a batch and the encoding of their CoT; each draws from
its own seed, so that how they were batched changes nothing.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backend.cot.answers import Judge, extract_answer, grader
from backend.cot.prompts import forced_suffix
from backend.ids import rollout_id, seed_for
from backend.importance.similarity import first_chunk, similarity
from backend.models.continuation import continuation_text
from backend.models.loaded import LoadedModel
from backend.models.sentences import SentenceEncoder, load_encoder
from precompute import models
from precompute.estimates import TEXT, Estimate, Quantities
from precompute.stages import chunks as chunks_stage
from precompute.stages.cots import encode, shares
from precompute.study import Sampling
from precompute.units import Context, Finished, Unit

NAME, UNIT = "rollouts", "chunk"
RULE = 1  # of sampling and judging: raise it when it changes

_COTS_A_TASK = 32


@dataclass(frozen=True)
class Point:
    """Where rollouts start: before the chunk whose text begins at `char_start` and whose first token is
    `token_start`."""

    chunk_id: str
    char_start: int
    token_start: int


@dataclass(frozen=True)
class CotTask:
    """One CoT and the points of it that lack rollouts of this kind."""

    cot_id: str
    prompt: str
    text: str
    think_close: str | None
    token_ids: tuple[int, ...]
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Task:
    cots: tuple[CotTask, ...]
    kind: str  # resample or forced
    n: int
    sampling: Sampling
    seed: int
    rows: int

    @property
    def makes(self) -> tuple[str, ...]:
        """A unit a chunk."""
        return tuple(f"{point.chunk_id}.{self.kind}" for cot in self.cots for point in cot.points)


@dataclass(frozen=True)
class Drawn:
    """All rollouts of one kind at one chunk, as the model wrote them; `text` starts where the chunk's text starts."""

    chunk_id: str
    kind: str
    rollouts: tuple[Mapping[str, Any], ...]


def units(context: Context) -> list[Unit]:
    """Units of the CoTs chosen by the budget, CoT by CoT, so that what is finished first is whole."""
    study = context.study
    n = {"resample": study.rollouts.n, "forced": study.rollouts.forced}
    chosen = context.store.cots_worth_rollouts(study.rollouts.min_chunks, study.rollouts.max_chunks)[
        : study.rollouts.cots
    ]
    chunks = context.store.chunks_of(chosen)
    inputs = {"sampling": study.sampling.inputs, "seed": study.seed, "encoder": study.rollouts.encoder}
    rules = chunks_stage.rules(context)
    return [
        Unit(f"{chunk['chunk_id']}.{kind}", {**inputs, "chunks": rules[cot], "n": n[kind]})
        for cot in chosen
        for chunk in chunks[cot]
        for kind in n
        if n[kind] and chunk["token_start"] < chunk["token_end"]
    ]


def estimate(of: Quantities) -> Estimate:
    units, tokens = of.rolled_chunks * (1 + bool(of.study.rollouts.forced)), of.rollout_tokens
    return of.line(NAME, units, tokens=tokens, by="sampling", gigabytes=tokens * TEXT)


def compute(context: Context, units: Sequence[Unit]) -> Iterator[Finished]:
    study = context.study
    cots = {cot["cot_id"]: cot for cot in context.store.tokenised_cots()}
    truths = {problem["problem_id"]: problem["answer"] for problem in context.store.study_problems()}
    pending: dict[tuple[str, str], dict[str, list[Unit]]] = defaultdict(lambda: defaultdict(list))
    for unit in units:
        chunk, kind = unit.unit_id.split(".")
        cot = chunk.rsplit("_", 1)[0]
        pending[cots[cot]["model_id"], kind][cot].append(unit)
    chunks = {
        chunk["chunk_id"]: chunk
        for rows in context.store.chunks_of(sorted({cot for by_cot in pending.values() for cot in by_cot})).values()
        for chunk in rows
    }
    by_id = {unit.unit_id: unit for unit in units}
    encoder = load_encoder(study.rollouts.encoder)
    with Judge() as judge:
        for (model_id, kind), by_cot in pending.items():
            tasks = [
                Task(
                    tuple(_cot_task(cots[cot], by_cot[cot], chunks) for cot in share),
                    kind,
                    study.rollouts.n if kind == "resample" else study.rollouts.forced,
                    study.sampling,
                    study.seed,
                    study.engine.rows,
                )
                for share in shares(list(by_cot), context.engine.workers, _COTS_A_TASK)
            ]
            model = models.by_id(study)[model_id]
            for unit_id, drawn in context.run(draw, tasks, model=models.sampling_spec(study, model)):
                chunk = chunks[drawn.chunk_id]
                cot = cots[chunk["cot_id"]]
                rows = _rows(drawn, chunk, cot, truths[cot["problem_id"]], encoder, judge)
                yield Finished(
                    by_id[unit_id],
                    {"rollouts": rows},
                    {"model_id": model_id, "dtype": models.sampling_spec(study, model).dtype},
                )


def _cot_task(cot: Mapping[str, Any], units: Sequence[Unit], chunks: Mapping[str, Mapping[str, Any]]) -> CotTask:
    starts = [chunks[unit.unit_id.split(".")[0]] for unit in units]
    points = tuple(Point(chunk["chunk_id"], chunk["char_start"], chunk["token_start"]) for chunk in starts)
    return CotTask(cot["cot_id"], cot["prompt"], cot["text"], cot["think_close"], tuple(cot["token_ids"]), points)


def draw(loaded: LoadedModel, task: Task) -> Iterator[tuple[str, Drawn]]:
    """Runs in a worker: the rollouts of each chunk as soon as all of them are finished."""
    from backend.models.sampling import SampleRequest, SamplingParameters, sample

    tokenizer = loaded.tokenizer
    forced = task.kind == "forced"
    sequences: dict[str, Sequence[int]] = {}
    lengths, begun = {}, {}
    for cot in task.cots:
        offsets = tokenizer(cot.prompt + cot.text, add_special_tokens=False, return_offsets_mapping=True)[
            "offset_mapping"
        ]
        for point in cot.points:
            # A token of the chunk before may hold the first characters of this one: they are part of what the rollout
            # says.
            written = max(offsets[point.token_start - 1][1] - len(cot.prompt), point.char_start)
            begun[point.chunk_id] = cot.text[point.char_start : written]
            if forced:
                suffix = forced_suffix(cot.prompt + cot.text[: point.char_start], cot.think_close)
                sequences[point.chunk_id] = (*cot.token_ids[: point.token_start], *encode(tokenizer, suffix))
                begun[point.chunk_id] += suffix
            lengths[point.chunk_id] = len(sequences[point.chunk_id]) if forced else point.token_start
        if not forced:
            sequences[cot.cot_id] = cot.token_ids
    requests = [
        SampleRequest(
            rollout_id(point.chunk_id, task.kind, number),
            point.chunk_id if forced else cot.cot_id,
            lengths[point.chunk_id],
            seed_for(task.seed, point.chunk_id, task.kind, number),
        )
        for cot in task.cots
        for point in cot.points
        for number in range(task.n)
    ]
    asked = {
        request.request_id: (request, point.chunk_id, number)
        for request, (point, number) in zip(
            requests,
            ((point, number) for cot in task.cots for point in cot.points for number in range(task.n)),
            strict=True,
        )
    }
    tags = {point.chunk_id: cot.think_close for cot in task.cots for point in cot.points}
    sampling = task.sampling
    parameters = SamplingParameters(
        sampling.temperature, sampling.top_p, sampling.forced_max_tokens if forced else sampling.max_new_tokens
    )
    done: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for drawn in sample(loaded, sequences, requests, parameters, rows=task.rows):
        request, chunk, number = asked[drawn.request_id]
        prefix = sequences[request.sequence_id][: request.prefix_length]
        done[chunk].append(
            {
                "rollout_id": drawn.request_id,
                "sample": number,
                "seed": request.seed,
                "finish": drawn.finish,
                "n_tokens": len(drawn.token_ids),
                "text": begun[chunk] + continuation_text(tokenizer, prefix, drawn.token_ids, tag=tags[chunk]),
            }
        )
        if len(done[chunk]) == task.n:
            rollouts = tuple(sorted(done.pop(chunk), key=lambda rollout: rollout["sample"]))
            yield f"{chunk}.{task.kind}", Drawn(chunk, task.kind, rollouts)


def _rows(
    drawn: Drawn, chunk: Mapping[str, Any], cot: Mapping[str, Any], truth: str, encoder: SentenceEncoder, judge: Judge
) -> list[dict[str, Any]]:
    before = cot["text"][: chunk["char_start"]]
    answers = [
        extract_answer(rollout["text"] if drawn.kind == "forced" else before + rollout["text"])
        for rollout in drawn.rollouts
    ]
    verdicts = judge.judge([(answer, truth) for answer in answers])
    firsts = [first_chunk(rollout["text"]) if drawn.kind == "resample" else None for rollout in drawn.rollouts]
    similarities = similarity(encoder.encode, chunk["text"], firsts)
    return [
        {
            **rollout,
            "chunk_id": drawn.chunk_id,
            "cot_id": cot["cot_id"],
            "kind": drawn.kind,
            "resampled_chunk": first,
            "similarity": near,
            "answer": answer,
            "is_correct": verdict,
            "grader": grader(),
        }
        for rollout, first, near, answer, verdict in zip(
            drawn.rollouts, firsts, similarities, answers, verdicts, strict=True
        )
    ]
