"""Resample this chunk now: more rollouts before a chunk and before the next one, until a metric is known well enough.

1. A batch of rollouts is written before each of the two chunks, as the study writes them: from the same tokens, by the
   model that wrote the CoT, with the study's sampling and seed. They are judged, their answers are clustered with all
   others, their sentences embedded.
2. They are pooled with the stored rollouts, and the metric and its 95 % interval are taken anew: a *look*.
3. It stops when the interval is narrow enough, at a maximal number, or when a person stops it.

**What the stop rule does to the interval.** It looks at the data, so the number of rollouts is not fixed beforehand, as
the interval supposes. The rule is on precision: half of the interval at most the width asked for. It never asks whether
0 lies inside; stopping at the first interval without 0 would find an effect sooner or later where there is none. A rule
on width stops early when the interval happens to look narrow, so it holds the truth less often than in 95 % of runs; in
the limit of small widths nothing is lost (Chow & Robbins 1965, Ann. Math. Stat. 36, 457). Worst is an interval of no
width, where all rollouts agree and the bootstrap sees no noise. Hence:

- The interval of a share is Wilson's here, not the bootstrap's that the table `importance` has.
- For the others the rule uses sqrt(half_width² + (1.96/n)²), n being the smaller side: Chow & Robbins add 1/n to the
  variance.
- Of a JSD the interval is its posterior's, which has a width also where all agree.
- It never stops on other groups that hardly differ in outcome: fewer than LEAST_RARER rollouts of both sides have
  another outcome than the most frequent one. There the bootstrap's width is narrow, or 0, because no draw shows what
  was not seen; under `ta` that may be so before anything is drawn. It goes on to the maximal number, and the look says
  why.

In simulated runs with a look every 16 rollouts from the 20th on, for half-widths of 0.05 to 0.2, the interval held
shares of 0.05 to 0.5 in 94 to 97 % and differences of shares in 92 to 99 % (the bootstrap's would hold a share of 0.05
in 64 %). For a KL, which sampling noise alone makes positive, nothing of this says that the interval holds the true
one: see `metrics`.

What was drawn is kept beside the study when the request ends (`added`), and counts among its rollouts from then on.
Importing this module imports no model.
"""

import json
import math
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import pandas as pd

from backend.errors import AnchorscopeError
from backend.ids import seed_for
from backend.importance.convergence import trusted_interval
from backend.importance.estimates import estimator_at, grouped
from backend.importance.metric_registry import METRICS, conventions_of
from backend.importance.metrics import estimate_of
from backend.importance.resilience import returns
from backend.importance.similarity import Encode, first_chunk, similarity, with_numbers
from backend.live.requests import TOKENS, Chunk, RequestError, Resample, Sampling, Stored, Text
from backend.models.written import Written
from backend.store.answered import FORCED_AT_CAP

if TYPE_CHECKING:
    from backend.cot.answers import Judge
    from backend.live.available import Choice
    from backend.live.jobs import Reader, Steps
    from backend.store.store import Store

NOTE = (
    "The interval is looked at after every batch, and sampling stops when it is narrow enough. It is the usual 95 %"
    " interval of the rollouts there are; because the rule looks, it holds the true value a little less often than in"
    " 95 of 100 such runs. The rule looks at the width alone, never at whether 0 is inside."
)
STOPPED = {
    "narrow": "Stopped: the interval is narrow enough.",
    "most": "Stopped: the maximal number of rollouts is reached.",
    "person": "Stopped by a person before the interval was narrow enough.",
    "fault": "Ended by a fault before the interval was narrow enough.",
}


def resampled() -> dict[str, Sequence[str]]:
    """The metrics that more rollouts make more certain, each with its conventions."""
    return {
        metric.name: conventions_of(metric.name)
        for metric in METRICS.values()
        if metric.rollouts == "resample" and not metric.no_interval
    }


Made = TypeVar("Made")
Batch = Generator[tuple[str, Any], None, list[dict[str, Any]]]
Write = Callable[
    [str, Sequence[int]], Batch
]  # chunk id and numbers -> steps, then the rollouts: sample, seed, text, finish, n_tokens
_REPLICATES = 1000
_COLUMNS = [
    *("chunk_id", "similarity", "is_correct", "resampled_chunk", "answer", "returns"),
    *("n_kept", "departing_chunk", "departing_similarity"),
]


# In the worker


def resample(reader: "Reader", request: Resample, judge: "Callable[[], Judge]", encode: Encode) -> "Steps":
    """The steps of a request: `looks` and `samples` that grow, then `stopped`."""
    read = reader.read(request.text)
    if read.span(request.chunk_id)[0] < 1:
        raise RequestError("There is no token before this chunk, so nothing can be continued from there.")
    yield from followed(request, partial(_written, reader, request), judge, encode)


def followed(request: Resample, write: Write, judge: "Callable[[], Judge]", encode: Encode) -> "Steps":
    """Batches of `write` until the rule says stop."""
    from backend.live.jobs import judged

    _check(request)
    text = request.text.text
    chunks = {chunk.chunk_id: text[chunk.char_start : chunk.char_end] for chunk in request.text.chunks}
    before = {chunk.chunk_id: text[: chunk.char_start] for chunk in request.text.chunks}
    sources = _sources(request)
    stored = [asdict(rollout) for rollout in request.stored]
    begin = {chunk: _next_number(stored, chunk) for chunk in sources}
    _add_returns(request, stored, chunks, encode)
    clusters = yield from _shown(judged([], None, [rollout["answer"] for rollout in stored], judge), [], request)
    new: list[dict[str, Any]] = []
    look = look_at(request, stored, clusters, 0)
    yield "part", {"note": NOTE, "samples": [], "looks": [look]}
    n_new = 0
    while not look["is_narrow"] and n_new < request.most:
        n_batch = min(request.batch, request.most - n_new)
        batch: list[dict[str, Any]] = []
        for chunk in sources:
            first = begin[chunk] + n_new
            rows = yield from _shown(write(chunk, range(first, first + n_batch)), [*new, *batch], request, n_batch)
            batch += [{"chunk_id": chunk, **row} for row in rows]
        for chunk in sources:
            own = [row for row in batch if row["chunk_id"] == chunk]
            firsts = [first_chunk(row["text"]) for row in own]
            for row, said, near in zip(own, firsts, similarity(encode, chunks[chunk], firsts), strict=True):
                row |= {"resampled_chunk": said, "similarity": near, "answer": _answer(before[chunk], row["text"])}
        _add_returns(request, batch, chunks, encode)
        new += batch
        others = [rollout["answer"] for rollout in [*stored, *new]]
        clusters = yield from _shown(judged(batch, request.truth, others, judge), new, request)
        n_new += n_batch
        look = look_at(request, [*stored, *new], clusters, n_new)
        yield "part", {"samples": batch, "looks": [look]}
    yield "part", {"stopped": "narrow" if look["is_narrow"] else "most"}


def _next_number(stored: Sequence[dict[str, Any]], chunk: str) -> int:
    """Where the stored rollouts of a chunk end: numbers go on, so that a number is one rollout."""
    own = [rollout["sample"] for rollout in stored if rollout["chunk_id"] == chunk]
    return max([number + 1 for number in own if number is not None] + [len(own)])


def look_at(
    request: Resample, rollouts: Sequence[dict[str, Any]], clusters: dict[str, str], n_new: int
) -> dict[str, Any]:
    """The metric from all rollouts of both chunks, and whether its interval is narrow enough."""
    table = pd.DataFrame(
        [{column: rollout.get(column) for column in _COLUMNS} for rollout in rollouts], columns=_COLUMNS
    )
    table = table.assign(
        kind="resample",
        answer_cluster=table["answer"].map(clusters),
        **{name: table[name].astype("float64") for name in ("similarity", "departing_similarity")},
        n_kept=table["n_kept"].astype("Int64"),
    )
    chunks = {chunk.chunk_id: request.text.text[chunk.char_start : chunk.char_end] for chunk in request.text.chunks}
    at = estimator_at(
        grouped(with_numbers(table, chunks)),
        list(chunks),
        list(chunks).index(request.chunk_id),
        n_bootstrap=_REPLICATES,
        seed=seed_for(request.seed, "resample now"),
        n_outcomes=max(request.n_outcomes, table["answer_cluster"].nunique()),
    )
    found = estimate_of(at, request.metric, request.convention)
    of_both = [rollout for rollout in rollouts if rollout["chunk_id"] in _sources(request)]
    low, high = trusted_interval(found)
    half_width = ruling = (high - low) / 2
    if found.n_comparator is not None and not pd.isna(half_width):
        ruling = math.hypot(half_width, 1.96 / min(found.n, found.n_comparator))
    return {
        "n_new": n_new,
        "n": found.n,
        "n_comparator": found.n_comparator,
        "value": _known(found.value),
        "low": _known(low),
        "high": _known(high),
        "half_width": _known(half_width),
        "ruling_half_width": _known(ruling),
        "n_rarer": found.n_rarer,
        "is_degenerate": found.is_certain_of_nothing,
        "p": _known(found.p),
        "n_without_answer": sum(rollout["answer"] is None for rollout in of_both),
        "n_forced": sum(rollout.get("answer_source") == FORCED_AT_CAP for rollout in of_both),
        "n_all": len(of_both),
        "n_from_earlier": len(rollouts) - len(of_both),
        "is_narrow": bool(ruling <= request.half_width) and not found.is_certain_of_nothing,  # NaN is not narrow
    }


def _written(reader: "Reader", request: Resample, chunk: str, numbers: Sequence[int]) -> Batch:
    """Rollouts by the model, token for token those that the study's stage would write under these numbers."""
    from backend.models.continuation import continuation_text
    from backend.models.sampling import SampleRequest, SamplingParameters, sampled_in_steps

    read, tokenizer = reader.read(request.text), reader.loaded.tokenizer
    prefix, start = read.token_ids[: read.span(chunk)[0]], read.characters[chunk][0]
    # A token of the chunk before may hold the first characters of this one: they are part of what the rollout says.
    said = continuation_text(tokenizer, read.token_ids[: read.n_prompt], prefix[read.n_prompt :])
    begun = read.text[start : max(start, len(said))]
    seeds = {str(number): seed_for(request.seed, chunk, "resample", number) for number in numbers}
    wanted = [SampleRequest(number, "cot", len(prefix), seed) for number, seed in seeds.items()]
    parameters = SamplingParameters(
        request.sampling.temperature, request.sampling.top_p, request.sampling.max_new_tokens
    )
    done: dict[str, dict[str, Any]] = {}
    written = Written(len(wanted), parameters.max_new_tokens)
    for finished in sampled_in_steps(
        reader.loaded,
        {"cot": read.token_ids},
        wanted,
        parameters,
        encoded={"cot": read.encoded},
        rows=reader.rows(parameters.max_new_tokens),
        drawn=written.draw,
    ):
        written.end(finished)
        for drawn in finished:
            done[drawn.request_id] = {
                "sample": int(drawn.request_id),
                "seed": seeds[drawn.request_id],
                "finish": drawn.finish,
                "n_tokens": len(drawn.token_ids),
                "text": begun + continuation_text(tokenizer, prefix, drawn.token_ids),
            }
        yield "progress", (written.tokens, written.most)
    return [done[number] for number in seeds]


def _check(request: Resample) -> None:
    if request.convention not in resampled().get(request.metric, ()):
        raise RequestError(
            f"{request.metric} by {request.convention} cannot be resampled; there are {', '.join(resampled())}."
        )
    if request.chunk_id not in [chunk.chunk_id for chunk in request.text.chunks]:
        raise RequestError(f"The text has no chunk {request.chunk_id}.")
    if METRICS[request.metric].compares and request.chunk_id == request.text.chunks[-1].chunk_id:
        raise RequestError("This is the last chunk: there is no next one whose rollouts it could be compared with.")


def _sources(request: Resample) -> list[str]:
    """The chunks before which rollouts are written: the chunk, and the next one where the metric compares them."""
    ids = [chunk.chunk_id for chunk in request.text.chunks]
    index = ids.index(request.chunk_id)
    return ids[index : index + 1 + METRICS[request.metric].compares]


def _add_returns(request: Resample, rollouts: list[dict[str, Any]], chunks: dict[str, str], encode: Encode) -> None:
    """Whether the content comes back, of those at the chunk, where the metric asks."""
    for rollout in rollouts:
        rollout["returns"] = None
    own = [rollout for rollout in rollouts if rollout["chunk_id"] == request.chunk_id]
    if not own or not METRICS[request.metric].needs_returns:
        return
    for rollout, back in zip(own, returns(pd.DataFrame(own).assign(kind="resample"), chunks, encode), strict=True):
        rollout["returns"] = None if pd.isna(back) else bool(back)


def _answer(before: str, text: str) -> str | None:
    from backend.cot.answers import extract_answer

    return extract_answer(before + text)


def _shown(
    steps: Generator[tuple[str, Any], None, Made], rows: Sequence[dict[str, Any]], request: Resample, n_now: int = 0
) -> Generator[tuple[str, Any], None, Made]:
    """The steps, their progress being that of the whole request in tokens: after `rows`, while `n_now` are written."""
    before = sum(row["n_tokens"] for row in rows)
    later = (request.most * len(_sources(request)) - len(rows) - n_now) * request.sampling.max_new_tokens
    while True:
        try:
            kind, payload = next(steps)
        except StopIteration as end:
            return end.value
        if kind == "progress":
            done, of = payload if n_now else (0, 0)  # of judging there is nothing to count
            payload = before + done, before + of + later, TOKENS
        yield kind, payload


def _known(value: float) -> float | None:
    return None if pd.isna(value) else float(value)


# For whoever asks


def resample_request(
    store: "Store",
    chunk_id: str,
    *,
    metric: str = "counterfactual_importance_jsd",
    convention: str = "jsd",
    half_width: float,
    batch: int = 16,
    most: int = 128,
) -> Resample:
    """The request for a chunk of a study: its CoT's tokens, its rollouts, and how the study samples.

    Raises AnchorscopeError.
    """
    found = store.chunk_place(chunk_id)
    if found.empty:
        raise AnchorscopeError(f"The study has no chunk {chunk_id}.")
    cot_id = found["cot_id"].iloc[0]
    cot, how = store.cot_to_read(cot_id).iloc[0], _how_the_study_samples(store)
    if how is None or pd.isna(store.cot(cot_id)["seed"].iloc[0]) or cot["token_ids"] is None:
        raise AnchorscopeError(
            "This CoT was imported; how its rollouts were sampled is not known here, so no more of them can be drawn."
        )
    chunks = tuple(
        Chunk(row.chunk_id, int(row.char_start), int(row.char_end), int(row.token_start), int(row.token_end))
        for row in store.chunk_spans(cot_id).itertuples()
    )
    text = Text(
        cot["prompt"], cot["text"], chunks, tuple(int(token) for token in cot["token_ids"]), int(cot["n_prompt_tokens"])
    )
    sampling = Sampling(how["sampling"]["temperature"], how["sampling"]["top_p"], how["sampling"]["max_new_tokens"])
    request = Resample(
        text,
        chunk_id,
        metric,
        convention,
        half_width,
        sampling,
        how["seed"],
        cot["ground_truth"],
        batch=batch,
        most=most,
        encoder=how["rollouts"]["encoder"],
    )
    _check(request)
    stored = tuple(rollout for chunk in _sources(request) for rollout in _stored(store, chunk))
    if not METRICS[metric].by_permutation:
        return replace(request, stored=stored)
    ids = [chunk.chunk_id for chunk in chunks]
    earlier = tuple(_reaching(store, ids[: ids.index(chunk_id)]))
    return replace(request, stored=(*earlier, *stored), n_outcomes=store.n_outcomes(cot_id))


def writer(store: "Store", chunk_id: str, here: "Sequence[Choice]") -> "Choice":
    """The model that wrote the chunk's CoT, among those that are here (`available.choices`).

    Raises AnchorscopeError where it is not.
    """
    cot = store.cot_to_read(store.chunk_place(chunk_id)["cot_id"].iloc[0]).iloc[0]
    found = next((choice for choice in here if choice.model_id == cot["model_id"]), None)
    if found is None:
        raise AnchorscopeError(
            f"The CoT was written by {cot['written_by']}, whose weights are not on this machine as they were then."
        )
    return found


def _how_the_study_samples(store: "Store") -> dict[str, Any] | None:
    """The newest study file that was run, as it was understood."""
    for parameters in store.runs()["parameters"]:
        found = json.loads(parameters) if isinstance(parameters, str) else None
        if isinstance(found, dict) and {"sampling", "rollouts", "seed"} <= set(found):
            return found
    return None


def _reaching(store: "Store", chunk_ids: Sequence[str]) -> Iterator[Stored]:
    """Rollouts from before these chunks, which end where the chunk stands, that write all from there up to it."""
    for place, chunk in enumerate(chunk_ids):
        yield from (one for one in _stored(store, chunk) if (one.n_kept or 0) >= len(chunk_ids) - place)


def _stored(store: "Store", chunk_id: str) -> Iterator[Stored]:
    rows = store.rollouts_at(chunk_id)
    for row in rows[rows["kind"] == "resample"].sort_values("sample").to_dict("records"):
        known = {name: None if pd.isna(value) else value for name, value in row.items()}
        yield Stored(
            chunk_id,
            known["text"],
            known["resampled_chunk"],
            known["similarity"],
            known["answer"],
            None if known["is_correct"] is None else bool(known["is_correct"]),
            known["finish"],
            int(row["sample"]),
            known["answer_source"],
            None if known["n_kept"] is None else int(known["n_kept"]),
            known["departing_chunk"],
            known["departing_similarity"],
        )
