"""Steering just before a chunk and just after it: what either does to the rest of the CoT and to the answer.

1. `tokens_read` is the text the model reads: prompt + CoT, and what it wrote after closing its thinking; `answer_span`
   is its answer there.
2. The text goes through the model once. For a chunk with tokens [s, e), h ← h + β·size·v̂ at one token: s−1 on side
   `before`, e−1 on side `after`, where the model has read the chunk and its next prediction is of the first token
   beyond it.
3. `kl_rest` is the mean of KL(steered ‖ base) over t in [e−1, end−1), whose predictions are the CoT's tokens after the
   chunk: the same tokens on both sides, so that the two can be compared. The chunk's own tokens, which only `before`
   can move, are in neither.
4. `kl_answer` is the mean over the predictions of the answer's tokens, all of them. A side that steers behind the first
   of these predictions has none: unknown, not 0.
5. `along_the_cot` asks of one CoT whether what steering can do to its answer falls along it, gradually or in one step.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from backend.cot.answers import answer_place, extract_answer
from backend.cot.thoughts import response_of
from backend.errors import AnchorscopeError
from backend.ids import chunk_index
from backend.statistics.course import Course, course

if TYPE_CHECKING:
    from torch import Tensor

    from backend.geometry.directions import Direction
    from backend.models.edits import Edit, Encoded
    from backend.models.loaded import LoadedModel

SIDES = ("before", "after")
_TOKENS = 640  # tokens of steered rows in one forward pass, as in the sweep
_HELD = 32_768  # steered last residuals held at once
_BLOCK = 64  # positions whose base distribution is held at once


class BeforeAfterError(AnchorscopeError):
    """Steering before and after that cannot be done as asked."""


def tokens_read(tokenizer: Any, cot: Mapping[str, Any]) -> list[int]:
    """Token ids of prompt + CoT, followed where the CoT has an `after_text` by those of its closing tag and that text.

    `cot` is a row of the table `cots`. The CoT's own tokens stay as they are stored, because chunks are spans of them.
    """
    return list(cot["token_ids"]) + _tail(tokenizer, cot)[0]


def answer_span(tokenizer: Any, cot: Mapping[str, Any]) -> tuple[int, int] | None:
    r"""The tokens [a, b) of `tokens_read` that hold any character of the answer as the model wrote it (inside the
    \boxed{}, say).

    The answer is looked for as it was when the CoT was written: in all that the model wrote, the last of its kind
    (`extract_answer`). None where there is none: no answer was given, it was forced, or the published one is not what
    the text gives. Raises BeforeAfterError for a tokenizer that is not the one of the stored tokens.
    """
    before, after = cot["prompt"] + cot["text"], _after(cot)
    place = answer_place(cot["text"] + after)
    if place is None or cot["answer"] is None or extract_answer(cot["text"] + after) != cot["answer"].strip():
        return None
    start, end = (len(cot["prompt"]) + edge for edge in place)
    encoded = tokenizer(before, add_special_tokens=False, return_offsets_mapping=True)
    if list(encoded["input_ids"]) != list(cot["token_ids"]):
        raise BeforeAfterError(
            f"The tokenizer gives {len(encoded['input_ids'])} tokens for CoT {cot.get('cot_id')}, other than the"
            f" {len(cot['token_ids'])} stored ones. Use the tokenizer of the model that the study's chunks were made"
            " for."
        )
    offsets = [
        *encoded["offset_mapping"],
        *((first + len(before), last + len(before)) for first, last in _tail(tokenizer, cot)[1]),
    ]
    inside = [token for token, (first, last) in enumerate(offsets) if first < end and last > start]
    return (inside[0], inside[-1] + 1) if inside else None


def _after(cot: Mapping[str, Any]) -> str:
    """What the model wrote after the CoT, the closing tag first."""
    return response_of("", cot["after_text"], cot["think_close"])


def _tail(tokenizer: Any, cot: Mapping[str, Any]) -> tuple[list[int], list[tuple[int, int]]]:
    """Token ids and character offsets of what follows the CoT."""
    if not (after := _after(cot)):
        return [], []
    encoded = tokenizer(after, add_special_tokens=False, return_offsets_mapping=True)
    return list(encoded["input_ids"]), list(encoded["offset_mapping"])


def before_after_cot(
    loaded: "LoadedModel",
    token_ids: Sequence[int],
    chunk_spans: Mapping[str, tuple[int, int]],
    directions: Sequence["Direction"],
    *,
    n_prompt: int,
    answer_spans: tuple[int, int] | None,
    betas: Sequence[float],
    unit: str = "rms",
) -> list[dict[str, Any]]:
    """Rows of the table `before_after`: each chunk × direction that applies to it × side × β, in that order.

    `token_ids` are those of `tokens_read`, `answer_spans` is the span [a, b) of `answer_span`. `chunk_spans` has all of
    the CoT's chunks that have tokens, in reading order: the CoT ends where the last of them does. A direction made from
    a chunk applies to that chunk, one without a chunk to all. Raises BeforeAfterError for spans outside the text,
    SweepError for what cannot be steered.
    """
    from backend.geometry.sweep import check_float32, noise_floor
    from backend.models.edits import encode

    check_float32(loaded)
    _check(loaded, len(token_ids), chunk_spans, directions, n_prompt, answer_spans, betas)
    if not directions or not chunk_spans:
        return []
    encoded = encode(loaded, token_ids, layers=sorted({direction.layer for direction in directions}))
    floors = floors_of_the_rest(noise_floor(loaded, token_ids, chunk_spans, encoded=encoded), chunk_spans)
    cot_end = max(end for _, end in chunk_spans.values())
    rows = []
    for chunk_id, span in chunk_spans.items():
        own = [direction for direction in directions if direction.chunk_id in (None, chunk_id)]
        for row in _chunk_rows(encoded, span, cot_end, own, answer_spans, betas, unit):
            rows.append({"chunk_id": chunk_id, **row, "noise_floor": floors[chunk_id]})
    return rows


def _chunk_rows(
    encoded: "Encoded",
    span: tuple[int, int],
    cot_end: int,
    directions: Sequence["Direction"],
    answer: tuple[int, int] | None,
    betas: Sequence[float],
    unit: str,
) -> Iterable[dict[str, Any]]:
    from backend.geometry.sweep import predicting_positions, steering_edits

    start, end = span
    # At `anchor` a span is steered at the token before it: this chunk, and what comes after it.
    steered = {"before": (start, end), "after": (end, end)}
    rest = predicting_positions((end, cot_end))
    in_answer = predicting_positions(answer) if answer is not None and answer[0] >= start else []
    wanted = [(direction, side) for direction in directions for side in SIDES]
    edits = [
        edit
        for direction, side in wanted
        for edit in steering_edits(encoded, steered[side], direction, "anchor", betas, unit)
    ]
    positions = sorted({*rest, *in_answer})
    kl = kl_at(encoded, edits, positions)
    of_rest, of_answer = np.isin(positions, rest), np.isin(positions, in_answer)
    for i, (direction, side) in enumerate(wanted):
        reached = in_answer if answer is not None and answer[0] >= steered[side][0] else []
        for j, beta in enumerate(betas):
            values = kl[i * len(betas) + j]
            yield {
                "direction_id": direction.direction_id,
                "model_id": direction.model_id,
                "layer": direction.layer,
                "side": side,
                "unit": unit,
                "beta": float(beta),
                "kl_rest": float(values[of_rest].mean()) if rest else None,
                "n_rest": len(rest),
                "kl_answer": float(values[of_answer].mean()) if reached else None,
                "n_answer": len(reached),
            }


def kl_at(encoded: "Encoded", edits: Sequence["Edit"], positions: list[int]) -> np.ndarray:
    """KL(steered ‖ base), nats, (n_edits, n_positions) float64.

    Forward passes take few rows, so that their attention fits; the base distribution is made for few positions, so that
    it fits for any length of text, and for as many rows as can be held.
    """
    import torch

    kl = np.zeros((len(edits), len(positions)))
    if not edits or not positions:
        return kl
    per_pass = max(1, _TOKENS // (positions[-1] + 1 - min(edit.positions[0] for edit in edits)))
    held = max(1, _HELD // len(positions))
    for first in range(0, len(edits), held):
        some = edits[first : first + held]
        normed = torch.cat(
            [encoded.edited(some[i : i + per_pass], positions).normed for i in range(0, len(some), per_pass)]
        )
        kl[first : first + held] = _kl_of(encoded, normed, positions).cpu().numpy()
    return kl


def _kl_of(encoded: "Encoded", normed: "Tensor", positions: list[int]) -> "Tensor":
    import torch

    from backend.geometry.sweep import Predictions

    starts = range(0, len(positions), _BLOCK)
    blocks = [Predictions(encoded, positions[i : i + _BLOCK]).kl_of(normed[:, i : i + _BLOCK]) for i in starts]
    return torch.cat(blocks, dim=1)


def floors_of_the_rest(
    floors: Mapping[str, float], chunk_spans: Mapping[str, tuple[int, int]]
) -> dict[str, float | None]:
    """By chunk, the mean noise floor of the tokens after it; None for the last."""
    rest: dict[str, float | None] = {}
    for chunk_id, (_, end) in chunk_spans.items():
        later = {other: b - a for other, (a, b) in chunk_spans.items() if a >= end and b > a}
        rest[chunk_id] = sum(n * floors[other] for other, n in later.items()) / sum(later.values()) if later else None
    return rest


def _check(
    loaded: "LoadedModel",
    n_tokens: int,
    chunk_spans: Mapping[str, tuple[int, int]],
    directions: Sequence["Direction"],
    n_prompt: int,
    answer: tuple[int, int] | None,
    betas: Sequence[float],
) -> None:
    spans = {f"Chunk {chunk_id}": span for chunk_id, span in chunk_spans.items()} | (
        {} if answer is None else {"The answer": answer}
    )
    for name, (start, end) in spans.items():
        if not max(1, n_prompt) <= start <= end <= n_tokens or (name == "The answer" and start == end):
            raise BeforeAfterError(
                f"{name} has token span [{start}, {end}); it must lie between the {n_prompt} tokens of the prompt, at"
                f" least one, and the end of the text's {n_tokens} tokens."
            )
    if not all(math.isfinite(beta) for beta in betas):
        raise BeforeAfterError(f"Every beta must be a number, got {list(betas)}.")
    for direction in directions:
        if direction.model_id != loaded.model_id:
            raise BeforeAfterError(
                f"Direction {direction.direction_id} is of model {direction.model_id}; {loaded.model_id} is being"
                " steered."
            )


def along_the_cot(rows: Iterable[Mapping[str, Any]], *, seed: int = 0) -> Course:
    """Whether the KL on the answer falls along the CoT in one step or gradually, from its rows of `before_after` of one
    layer and unit. A place is a number of chunks: a step between i and i + 1 is at chunk i, where steering before it
    does what steering after it does not.

    A sample is a direction at a place: the mean over β ≠ 0 of log KL, where a KL below the CoT's largest noise floor
    counts as that floor. Steering after a chunk and before the next is one place, measured once. Give directions that
    are steered at every chunk: those made from chunks differ from place to place for a reason of their own.
    """
    samples, n_unknown = _samples(rows)
    return course(samples, n_unknown=n_unknown, seed=seed)


def _samples(rows: Iterable[Mapping[str, Any]]) -> tuple[dict[int, list[float]], int]:
    """By place, one mean log KL a direction; and how many of them are unknown."""
    rows = [row for row in rows if row["beta"] != 0]
    floor = max((row["noise_floor"] for row in rows if _is_number(row["noise_floor"])), default=0.0)
    logs: dict[tuple[int, str], dict[float, float]] = defaultdict(dict)
    for row in rows:
        place = chunk_index(row["chunk_id"]) + (row["side"] == "after")
        value = max(row["kl_answer"], floor) if _is_number(row["kl_answer"]) else math.nan
        logs[place, row["direction_id"]][row["beta"]] = math.log(value) if value > 0 else math.nan
    samples: dict[int, list[float]] = defaultdict(list)
    for (place, _), by_beta in sorted(logs.items()):
        if not math.isnan(mean := float(np.mean(list(by_beta.values())))):
            samples[place].append(mean)
    return dict(samples), len(logs) - sum(map(len, samples.values()))


def _is_number(value: float | None) -> bool:
    return value is not None and not math.isnan(value)
