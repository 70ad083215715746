"""What a model goes on to write when one chunk of its chain of thought is steered: unsteered, steered, and steered
along random directions of the same length, from before the chunk and from after it.

1. Continuations start *after* the chunk, which is read under steering, and *before* it, where steering reaches the
   token before it and, at place `chunk`, the same positions while the sentence that replaces it is written.
2. Arms: `base` nothing is changed · `steered` h ← h + β·size(h)·v̂ · `random` the same along one of several random unit
   vectors, in turn. Size and unit of β are the same in both, so they change the residual stream by as much.
3. Sample k of every arm draws with the same random numbers, which follow from the seed, the chunk, the start and k
   alone: what luck does to both arms of a pair is the same, and at β = 0 all arms write the same text, bit for bit.
4. A continuation that the token cap cut before it gave an answer is made to answer, as chains of thought and rollouts
   are: from its own tokens, under its own steering, with random numbers that follow from its seed.
5. Answers are read, judged and clustered as those of rollouts are, all of a chunk's together; the first sentence
   written from before the chunk is compared with the chunk as a rollout's is.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from backend.cot.answers import Judging, cluster_answers, extract_answer, grader
from backend.cot.prompts import forced_suffix
from backend.ids import seed_for
from backend.importance.similarity import Encode, first_chunk, similarity
from backend.models.continuation import continuation_text
from backend.models.interventions import Intervention
from backend.store.answered import FORCED_AT_CAP, GIVEN

if TYPE_CHECKING:
    from backend.models.loaded import LoadedModel
    from backend.models.sampling import Sample, SampleRequest, SamplingParameters

BASE, STEERED, RANDOM = ARMS = ("base", "steered", "random")
BEFORE, AFTER = STARTS = ("before", "after")


@dataclass(frozen=True)
class Along:
    """A direction that a chunk is steered along."""

    direction_id: str
    vector: np.ndarray = field(repr=False)  # (d_model,) float32, unit length


@dataclass(frozen=True)
class SteeredChunk:
    """A chunk, the CoT around it, and the direction made for it."""

    chunk_id: str
    cot_id: str
    prompt: str
    text: str  # of the CoT
    think_close: str | None
    token_ids: tuple[int, ...]  # prompt + CoT
    truth: str
    tokens: tuple[int, int]  # its token span [s, e)
    characters: tuple[int, int]  # its span of the CoT's text
    along: Along


@dataclass(frozen=True)
class Steering:
    """How chunks are steered, and how much is written."""

    layer: int
    place: str
    unit: str
    beta: float
    n: int  # continuations of each arm from each start
    randoms: tuple[Along, ...]
    parameters: "SamplingParameters"
    forced_tokens: int  # of an answer that is forced
    seed: int

    def under(self, arm: str, chunk: SteeredChunk, number: int) -> Along | None:
        """What sample `number` of an arm is steered along."""
        return {BASE: None, STEERED: chunk.along, RANDOM: self.randoms[number % len(self.randoms)]}[arm]


@dataclass(frozen=True)
class _Asked:
    """One continuation."""

    chunk: SteeredChunk
    start: str
    arm: str
    number: int
    along: Along | None
    seed: int

    @property
    def cut(self) -> int:
        """How many tokens stand before it."""
        return self.chunk.tokens[STARTS.index(self.start)]

    @property
    def tokens(self) -> tuple[int, ...]:
        return self.chunk.token_ids[: self.cut]

    @property
    def before(self) -> str:
        """The CoT's text up to its start."""
        return self.chunk.text[: self.chunk.characters[STARTS.index(self.start)]]

    @property
    def request_id(self) -> str:
        return f"{self.chunk.chunk_id}.{self.start}.{self.arm}.{self.number}"

    @property
    def sequence_id(self) -> str:
        return f"{self.chunk.chunk_id}.{self.start}.{self.along.direction_id if self.along else ''}"

    @property
    def request(self) -> "SampleRequest":
        from backend.models.sampling import SampleRequest

        return SampleRequest(self.request_id, self.sequence_id, self.cut, self.seed)


def continuations(
    loaded: "LoadedModel", chunks: Sequence[SteeredChunk], steering: Steering, *, rows: int = 128
) -> Iterator[tuple[SteeredChunk, list[dict[str, Any]]]]:
    """Every chunk with the rows of its samples, once all of them are written: start, arm, sample, chunk_id,
    direction_id, seed, finish, n_tokens, text, which begins where the chunk begins or ends, and forced_text, what was
    added to it to force an answer, None where nothing was.

    `rows` bounds the batch and changes no result.
    """
    from backend.models.edits import encode
    from backend.models.sampling import sample

    asked = {one.request_id: one for chunk in chunks for one in _asked(chunk, steering)}
    encoded = {chunk.cot_id: encode(loaded, chunk.token_ids, layers=[steering.layer]) for chunk in chunks}
    ends = {chunk.cot_id: _token_ends(loaded.tokenizer, chunk) for chunk in chunks}
    by_sequence = {one.sequence_id: one for one in asked.values()}
    done: dict[str, dict[str, Sample]] = defaultdict(dict)
    for drawn in sample(
        loaded,
        {name: one.tokens for name, one in by_sequence.items()},
        [one.request for one in asked.values()],
        steering.parameters,
        edits={name: _edits(one, steering) for name, one in by_sequence.items() if one.along is not None},
        encoded={name: encoded[one.chunk.cot_id] for name, one in by_sequence.items()},
        rows=rows,
    ):
        chunk = asked[drawn.request_id].chunk
        own = done[chunk.chunk_id]
        own[drawn.request_id] = drawn
        if len(own) == len(STARTS) * len(ARMS) * steering.n:
            del done[chunk.chunk_id]
            ordered = [(one, own[one.request_id]) for one in _asked(chunk, steering)]
            found = [(one, drawn, _written(loaded.tokenizer, one, drawn, ends[chunk.cot_id])) for one, drawn in ordered]
            forced = _forced(loaded, found, steering, rows)
            yield chunk, [{**row, "forced_text": forced.get(one.request_id)} for one, _, row in found]


def _forced(
    loaded: "LoadedModel",
    found: Sequence[tuple[_Asked, "Sample", Mapping[str, Any]]],
    steering: Steering,
    rows: int,
) -> dict[str, str]:
    """What makes those answer that were cut without an answer, and what they answer, by request."""
    from backend.models.sampling import SampleRequest, sample

    suffixes, sequences, asked = {}, {}, {}
    for one, drawn, row in found:
        said = one.before + row["text"]
        if drawn.finish == "cap" and extract_answer(said) is None:
            suffix = suffixes[one.request_id] = forced_suffix(one.chunk.prompt + said, one.chunk.think_close)
            added = loaded.tokenizer(suffix, add_special_tokens=False)["input_ids"]
            sequences[one.request_id], asked[one.request_id] = (*one.tokens, *drawn.token_ids, *added), one
    if not asked:
        return {}
    written = sample(
        loaded,
        sequences,
        [SampleRequest(name, name, len(sequences[name]), seed_for(one.seed, "forced")) for name, one in asked.items()],
        replace(steering.parameters, max_new_tokens=steering.forced_tokens),
        edits={name: _edits(one, steering) for name, one in asked.items() if one.along is not None},
        rows=rows,
    )
    return {
        drawn.request_id: suffixes[drawn.request_id]
        + continuation_text(loaded.tokenizer, sequences[drawn.request_id], drawn.token_ids)
        for drawn in written
    }


def judged(
    chunk: SteeredChunk, rows: Sequence[Mapping[str, Any]], encode: Encode, judge: Judging
) -> list[dict[str, Any]]:
    """The rows of a chunk's samples with answer, its source, verdict and cluster, and with the resampled chunk and its
    similarity where they start before the chunk.
    """
    begins = [chunk.characters[STARTS.index(row["start"])] for row in rows]
    answers = [
        extract_answer(chunk.text[:begin] + row["text"] + (row["forced_text"] or ""))
        for begin, row in zip(begins, rows, strict=True)
    ]
    verdicts = judge.judge([(answer, chunk.truth) for answer in answers])
    clusters = cluster_answers(answers, judge)
    firsts = [first_chunk(row["text"]) if row["start"] == BEFORE else None for row in rows]
    near = similarity(encode, chunk.text[slice(*chunk.characters)], firsts)
    return [
        {
            **row,
            "resampled_chunk": first,
            "similarity": cosine,
            "answer": answer,
            "answer_source": None if answer is None else FORCED_AT_CAP if row["forced_text"] else GIVEN,
            "cluster": clusters.get(answer) if answer is not None else None,
            "is_correct": verdict,
            "grader": grader(),
        }
        for row, first, cosine, answer, verdict in zip(rows, firsts, near, answers, verdicts, strict=True)
    ]


def _asked(chunk: SteeredChunk, steering: Steering) -> list[_Asked]:
    return [
        _Asked(
            chunk, start, arm, number, steering.under(arm, chunk, number), seed_of(steering.seed, chunk, start, number)
        )
        for start in STARTS
        for arm in ARMS
        for number in range(steering.n)
    ]


def seed_of(seed: int, chunk: SteeredChunk, start: str, number: int) -> int:
    """Of sample `number` from that start, in every arm."""
    return seed_for(seed, "causation", chunk.chunk_id, start, number)


def _edits(one: _Asked, steering: Steering) -> Any:
    assert one.along is not None
    change = Intervention((steering.layer,), steering.place, "add", one.along.vector, steering.beta, unit=steering.unit)
    return change.edits(one.chunk.tokens, n_prompt=one.chunk.tokens[0])


def _token_ends(tokenizer: Any, chunk: SteeredChunk) -> list[int]:
    """Where in the CoT's text each token of prompt + CoT ends."""
    found = tokenizer(chunk.prompt + chunk.text, add_special_tokens=False, return_offsets_mapping=True)
    return [end - len(chunk.prompt) for _, end in found["offset_mapping"]]


def _written(tokenizer: Any, one: _Asked, drawn: "Sample", ends: Sequence[int]) -> dict[str, Any]:
    # A token before the cut may hold the first characters of what comes after it: they are part of what is said there.
    begin = one.chunk.characters[STARTS.index(one.start)]
    said = one.chunk.text[begin : max(ends[one.cut - 1], begin)]
    return {
        "chunk_id": one.chunk.chunk_id,
        "start": one.start,
        "arm": one.arm,
        "sample": one.number,
        "direction_id": one.along.direction_id if one.along else None,
        "seed": one.seed,
        "finish": drawn.finish,
        "n_tokens": len(drawn.token_ids),
        "text": said + continuation_text(tokenizer, one.tokens, drawn.token_ids, tag=one.chunk.think_close),
    }
