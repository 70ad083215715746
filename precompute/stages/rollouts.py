"""Continuations from before each chunk, and answers forced there: the raw material of every importance.

A unit is one CoT: every kind at every chunk, judged and embedded where it was sampled. Rollouts of many CoTs share a
batch; each draws from its own seed, so that how they were batched changes nothing, and a sentence is embedded with
those of its own point's rollouts, so that its company is the same in every run.

Units were one chunk and one kind once. A CoT whose old units are all there counts as done through them; of one that has
some, what is missing is sampled, and the whole is written as one unit (docs/formats.md).
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain
from typing import Any

import pandas as pd

from backend.cot.answers import Judge, cluster_answers, extract_answer, grader
from backend.cot.prompts import forced_suffix
from backend.ids import rollout_id, seed_for
from backend.importance.allocation import Wanted, first_batch, next_batches
from backend.importance.similarity import first_chunk, similarity
from backend.models.continuation import continuation_text
from backend.models.loaded import LoadedModel
from backend.models.sentences import SentenceEncoder, load_encoder
from precompute import models
from precompute.estimates import TEXT, Estimate, Quantities
from precompute.stages import chunks as chunks_stage
from precompute.stages.cots import encode, shares
from precompute.study import Rollouts, Sampling
from precompute.units import Context, Finished, Unit

NAME, UNIT = "rollouts", "CoT"
RULE = 1  # of sampling and judging: raise it when it changes

_COTS_A_TASK = 32
_COTS_UNTIL_KNOWN = 4  # that go on together, batch by batch: fill the rows of a batch, and are lost together by an end


@dataclass(frozen=True)
class Later:
    """A chunk after a point, and its first token."""

    token_start: int
    char_start: int
    char_end: int


@dataclass(frozen=True)
class Point:
    """Where rollouts start: before the chunk that is `char_start` to `char_end` of the text and whose first token is
    `token_start`; `kinds` are those that are lacking there.
    """

    chunk_id: str
    char_start: int
    char_end: int
    token_start: int
    kinds: tuple[str, ...]
    following: tuple[Later, ...] = ()  # all chunks after it


@dataclass(frozen=True)
class CotTask:
    """One CoT, the answer to its problem, and the points of it that lack rollouts."""

    cot_id: str
    prompt: str
    text: str
    think_close: str | None
    token_ids: tuple[int, ...]
    truth: str
    points: tuple[Point, ...]
    chunk_ids: tuple[str, ...] = ()  # all of the CoT, in reading order

    def at(self, kind: str) -> tuple[Point, ...]:
        return tuple(point for point in self.points if kind in point.kinds)


@dataclass(frozen=True)
class Task:
    cots: tuple[CotTask, ...]
    n: Mapping[str, int]  # rollouts of each kind at a point
    sampling: Sampling
    seed: int
    rows: int
    encoder: str
    until: float | None = None  # nats: see `backend/importance/allocation.py`

    @property
    def makes(self) -> tuple[str, ...]:
        """A unit a CoT."""
        return tuple(cot.cot_id for cot in self.cots)


@dataclass(frozen=True)
class Drawn:
    """All rollouts of one kind at one point, as the model wrote them; `text` starts where the chunk's text starts."""

    cot: CotTask
    point: Point
    kind: str
    rollouts: tuple[Mapping[str, Any], ...]


def units(context: Context) -> list[Unit]:
    """Units of the CoTs chosen by the budget, best first."""
    study = context.study
    n = _numbers(study.rollouts)
    most = {name: model.rollout_cots for name, model in models.by_id(study).items() if model.rollout_cots is not None}
    worth = context.store.cots_worth_rollouts(study.rollouts.min_chunks, study.rollouts.max_chunks, most)
    chosen = worth[: study.rollouts.cots]
    chunks, rules = context.store.chunks_of(chosen), chunks_stage.rules(context)
    inputs = {"sampling": study.sampling.inputs, "seed": study.seed, "encoder": study.rollouts.encoder}
    if study.rollouts.until is not None:
        inputs["until"] = study.rollouts.until
    result = []
    for cot in chosen:
        own = {**inputs, "chunks": rules[cot]}
        parts = tuple(
            Unit(f"{chunk['chunk_id']}.{kind}", {**own, "n": n[kind]})
            for chunk in chunks[cot]
            for kind in n
            if chunk["token_start"] < chunk["token_end"]
        )
        if parts:
            result.append(Unit(cot, {**own, "n": n}, parts))
    return result


def _numbers(wanted: Rollouts) -> dict[str, int]:
    """Rollouts at a point, of the kinds that are wanted."""
    return {kind: n for kind, n in (("resample", wanted.n), ("forced", wanted.forced)) if n}


def estimate(of: Quantities) -> Estimate:
    written = of.rollout_tokens
    batches = min(len(of.study.models) * of.study.engine.workers, of.study.rollouts.cots)
    forced = of.rolled_cots * of.study.sampling.forced_max_tokens  # a batch a CoT
    return of.line(
        NAME,
        of.rolled_cots,
        tokens=written + 2 * of.rolled_read,  # each CoT is read for either kind
        by="sampling",
        steps=of.steps(written, batches) + forced,
        gigabytes=written * TEXT,
    )


def compute(context: Context, units: Sequence[Unit]) -> Iterator[Finished]:
    study, n = context.study, _numbers(context.study.rollouts)
    cots = {cot["cot_id"]: cot for cot in context.store.tokenised_cots()}
    truths = {problem["problem_id"]: problem["answer"] for problem in context.store.study_problems()}
    chunks = context.store.chunks_of([unit.unit_id for unit in units])
    by_id = {unit.unit_id: unit for unit in units}
    by_model: dict[str, list[CotTask]] = defaultdict(list)
    most = _COTS_A_TASK if study.rollouts.until is None else _COTS_UNTIL_KNOWN
    for unit in units:
        cot = cots[unit.unit_id]
        by_model[cot["model_id"]].append(_cot_task(cot, truths[cot["problem_id"]], chunks[unit.unit_id], unit))
    for model_id, asked in by_model.items():
        tasks = [
            Task(
                tuple(share),
                n,
                study.sampling,
                study.seed,
                study.engine.rows,
                study.rollouts.encoder,
                study.rollouts.until,
            )
            for share in shares(asked, context.engine.workers, most)
        ]
        spec = models.sampling_spec(study, models.by_id(study)[model_id])
        for cot_id, made in context.run(roll_out, tasks, model=spec):
            rows = _stored(context, by_id[cot_id], n) + made
            yield Finished(by_id[cot_id], {"rollouts": rows}, {"model_id": model_id, "dtype": spec.dtype})


def _cot_task(cot: Mapping[str, Any], truth: str, chunks: Sequence[Mapping[str, Any]], unit: Unit) -> CotTask:
    lacking: dict[str, list[str]] = defaultdict(list)
    for part in unit.parts:
        chunk, kind = part.unit_id.split(".")
        lacking[chunk].append(kind)
    points = tuple(
        Point(
            chunk["chunk_id"],
            chunk["char_start"],
            chunk["char_end"],
            chunk["token_start"],
            tuple(lacking[chunk["chunk_id"]]),
            tuple(
                Later(later["token_start"], later["char_start"], later["char_end"]) for later in chunks[number + 1 :]
            ),
        )
        for number, chunk in enumerate(chunks)
        if chunk["chunk_id"] in lacking
    )
    tokens = tuple(cot["token_ids"])
    return CotTask(
        cot["cot_id"],
        cot["prompt"],
        cot["text"],
        cot["think_close"],
        tokens,
        truth,
        points,
        tuple(chunk["chunk_id"] for chunk in chunks),
    )


def _stored(context: Context, unit: Unit, kinds: Collection[str]) -> list[dict[str, Any]]:
    """The CoT's rollouts that its old units hold, where it has some of them."""
    lacking = {part.unit_id for part in unit.parts}
    return [
        row
        for row in context.store.rollout_rows(unit.unit_id)
        if row["kind"] in kinds and f"{row['chunk_id']}.{row['kind']}" not in lacking
    ]


def roll_out(loaded: LoadedModel, task: Task) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Runs in a worker: the rows of each CoT as soon as all of its rollouts are finished.

    Answers are forced CoT by CoT, when its continuations are there: so an end at any moment costs no more than the CoTs
    of one batch.
    """
    encoder = _encoder(task.encoder)
    with Judge() as judge:
        if task.until is not None and task.n.get("resample"):
            yield from _until_known(loaded, task, encoder, judge)
            return
        for cot in task.cots:
            if not cot.at("resample"):
                yield cot.cot_id, _rows(draw(loaded, replace(task, cots=(cot,)), "forced"), encoder, judge)
        finished: dict[str, list[Drawn]] = defaultdict(list)
        for drawn in draw(loaded, task, "resample"):
            cot, own = drawn.cot, finished[drawn.cot.cot_id]
            own.append(drawn)
            if len(own) == len(cot.at("resample")):
                forced = draw(loaded, replace(task, cots=(cot,)), "forced")
                yield cot.cot_id, _rows(chain(finished.pop(cot.cot_id), forced), encoder, judge)


def _until_known(
    loaded: LoadedModel, task: Task, encoder: SentenceEncoder, judge: Judge
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The same where rollouts go on in batches: a batch of all CoTs at a time, each CoT as soon as it needs none."""
    wanted = Wanted(task.until or 0.0, task.n["resample"], task.seed)
    made: dict[str, list[dict[str, Any]]] = {cot.cot_id: [] for cot in task.cots}
    have = {cot.cot_id: dict.fromkeys((point.chunk_id for point in cot.points), 0) for cot in task.cots}
    more = {cot.cot_id: dict.fromkeys(have[cot.cot_id], first_batch(wanted)) for cot in task.cots}
    left = list(task.cots)
    while left:
        numbers = {
            chunk: range(have[cot.cot_id][chunk], have[cot.cot_id][chunk] + n)
            for cot in left
            for chunk, n in more[cot.cot_id].items()
        }
        for drawn in draw(loaded, replace(task, cots=tuple(left)), "resample", numbers):
            made[drawn.cot.cot_id] += _judged(drawn, encoder, judge)
            have[drawn.cot.cot_id][drawn.point.chunk_id] += len(drawn.rollouts)
        for cot in list(left):
            own = made[cot.cot_id]
            more[cot.cot_id] = next_batches(_clustered(own, judge), cot.chunk_ids, have[cot.cot_id], wanted)
            if not more[cot.cot_id]:
                left.remove(cot)
                own.sort(key=lambda row: (row["chunk_id"], row["sample"]))
                forced = draw(loaded, replace(task, cots=(cot,)), "forced") if task.n.get("forced") else ()
                yield cot.cot_id, made.pop(cot.cot_id) + _rows(forced, encoder, judge)


def _clustered(rows: Sequence[Mapping[str, Any]], judge: Judge) -> pd.DataFrame:
    """Rows of one CoT in an order of their own, with the cluster of each answer."""
    table = pd.DataFrame(sorted(rows, key=lambda row: row["rollout_id"]))
    clusters = cluster_answers([answer for answer in table["answer"] if isinstance(answer, str)], judge)
    return table.assign(answer_cluster=table["answer"].map(clusters))


@lru_cache(maxsize=1)
def _encoder(name: str) -> SentenceEncoder:
    """Loaded once a process."""
    return load_encoder(name)


def draw(loaded: LoadedModel, task: Task, kind: str, numbers: Mapping[str, range] | None = None) -> Iterator[Drawn]:
    """The rollouts of one kind at each point as soon as all of them are finished; `numbers` says which, by chunk, where
    it is not all of them at every one.
    """
    from backend.models.sampling import SampleRequest, SamplingParameters, sample

    forced = kind == "forced"
    begins = {point.chunk_id: begin for cot in task.cots for point, begin in _begins(loaded.tokenizer, cot, kind)}
    sequences = {cot.cot_id: cot.token_ids for cot in task.cots if cot.at(kind)}
    asked = {}
    for cot in task.cots:
        for point in cot.at(kind):
            begin = begins[point.chunk_id]
            for number in _asked_at(point, task, kind, numbers):
                seed = seed_for(task.seed, point.chunk_id, kind, number)
                name = rollout_id(point.chunk_id, kind, number)
                asked[name] = (
                    SampleRequest(name, cot.cot_id, point.token_start, seed, _cap(point, task, kind), begin.given),
                    cot,
                    point,
                    number,
                )
    longest = max((_cap(point, task, kind) for cot in task.cots for point in cot.at(kind)), default=1)
    parameters = SamplingParameters(task.sampling.temperature, task.sampling.top_p, longest)
    done: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for drawn in sample(loaded, sequences, [request for request, *_ in asked.values()], parameters, rows=task.rows):
        request, cot, point, number = asked[drawn.request_id]
        own, begin = done[point.chunk_id], begins[point.chunk_id]
        read = (*cot.token_ids[: point.token_start], *begin.given)
        written = continuation_text(loaded.tokenizer, read, drawn.token_ids, tag=cot.think_close)
        own.append(
            {
                "rollout_id": drawn.request_id,
                "sample": number,
                "seed": request.seed,
                "finish": drawn.finish,
                "n_tokens": len(drawn.token_ids),
                "n_kept": None if forced or task.until is None else _n_kept(cot, point, drawn.token_ids),
                "text": begin.written + written,
            }
        )
        if len(own) == len(_asked_at(point, task, kind, numbers)):
            done.pop(point.chunk_id)
            yield Drawn(cot, point, kind, tuple(sorted(own, key=lambda rollout: rollout["sample"])))


def _asked_at(point: Point, task: Task, kind: str, numbers: Mapping[str, range] | None) -> range:
    return range(task.n[kind]) if numbers is None else numbers.get(point.chunk_id, range(0))


def _cap(point: Point, task: Task, kind: str) -> int:
    """Tokens after which a rollout is cut. Where rollouts count at later chunks too, all those of a CoT are cut at one
    place, so that they are alike whichever chunk they started at: the cap counts from the CoT's last chunk.
    """
    if kind == "forced":
        return task.sampling.forced_max_tokens
    to_last = 0 if task.until is None or not point.following else point.following[-1].token_start - point.token_start
    return task.sampling.max_new_tokens + to_last


def _n_kept(cot: CotTask, point: Point, sampled: Sequence[int]) -> int:
    """How many following chunks it is a rollout of: whose first token it reaches with the CoT's own tokens. That token
    decides also where a token holds the end of one chunk and the start of the next: it belongs to the former.
    """
    own = cot.token_ids[point.token_start :]
    alike = next((k for k, (a, b) in enumerate(zip(sampled, own, strict=False)) if a != b), min(len(sampled), len(own)))
    return sum(later.token_start - point.token_start <= alike for later in point.following)


@dataclass(frozen=True)
class _Begin:
    """What a rollout goes on from, after the CoT's tokens up to the point: the words that force, in tokens, if any;
    `written` is what of the chunk's place all of these hold already.
    """

    written: str
    given: tuple[int, ...] = ()


def _begins(tokenizer: Any, cot: CotTask, kind: str) -> Iterator[tuple[Point, _Begin]]:
    points = cot.at(kind)
    if not points:
        return
    encoded = tokenizer(cot.prompt + cot.text, add_special_tokens=False, return_offsets_mapping=True)
    for point in points:
        # A token of the chunk before may hold the first characters of this one: they are part of what the rollout says.
        end = encoded["offset_mapping"][point.token_start - 1][1] - len(cot.prompt)
        written = cot.text[point.char_start : max(end, point.char_start)]
        if kind == "forced":
            suffix = forced_suffix(cot.prompt + cot.text[: point.char_start], cot.think_close)
            yield point, _Begin(written + suffix, tuple(encode(tokenizer, suffix)))
        else:
            yield point, _Begin(written)


def _rows(drawn: Iterable[Drawn], encoder: SentenceEncoder, judge: Judge) -> list[dict[str, Any]]:
    return [row for one in drawn for row in _judged(one, encoder, judge)]


def _judged(drawn: Drawn, encoder: SentenceEncoder, judge: Judge) -> list[dict[str, Any]]:
    cot, point, forced = drawn.cot, drawn.point, drawn.kind == "forced"
    texts = [rollout["text"] for rollout in drawn.rollouts]
    answers = [extract_answer(text if forced else cot.text[: point.char_start] + text) for text in texts]
    verdicts = judge.judge([(answer, cot.truth) for answer in answers])
    firsts = [None if forced else first_chunk(text) for text in texts]
    similarities = similarity(encoder.encode, cot.text[point.char_start : point.char_end], firsts)
    departures = _departures(drawn, encoder)
    return [
        {
            **rollout,
            **departures.get(number, {"departing_chunk": None, "departing_similarity": None}),
            "chunk_id": point.chunk_id,
            "cot_id": cot.cot_id,
            "kind": drawn.kind,
            "resampled_chunk": first,
            "similarity": near,
            "answer": answer,
            "is_correct": verdict,
            "grader": grader(),
        }
        for number, (rollout, first, near, answer, verdict) in enumerate(
            zip(drawn.rollouts, firsts, similarities, answers, verdicts, strict=True)
        )
    ]


def _departures(drawn: Drawn, encoder: SentenceEncoder) -> dict[int, dict[str, Any]]:
    """By place among the rollouts: what those that reach a later chunk write there, and how near that is to it."""
    point, text = drawn.point, drawn.cot.text
    reaching: dict[int, list[int]] = defaultdict(list)
    for number, rollout in enumerate(drawn.rollouts):
        if rollout["n_kept"]:
            reaching[rollout["n_kept"]].append(number)
    found = {}
    for n_kept, numbers in sorted(reaching.items()):
        later = point.following[n_kept - 1]
        written = [drawn.rollouts[number]["text"][later.char_start - point.char_start :] for number in numbers]
        firsts = [first_chunk(one) for one in written]
        near = similarity(encoder.encode, text[later.char_start : later.char_end], firsts)
        for number, first, cosine in zip(numbers, firsts, near, strict=True):
            found[number] = {"departing_chunk": first, "departing_similarity": cosine}
    return found
