"""What a chunk does to those after it: how far their predictions move when nothing later may attend to it.

1. The text (prompt + CoT, and what was written after it) goes through the model once, teacher-forced on its own tokens.
2. For a chunk with tokens [s, e) every token from e on is read again without its keys: at every layer and head, in a
   range of layers, or in one head. Where they are missing the softmax is over the keys that are left; positions stay as
   they are, and what the chunk did to tokens that may still be attended to stays too, where only a part is suppressed.
   Tokens before e, the chunk's own among them, do not change.
3. The influence on a later chunk with tokens [a, b) is the mean of KL( suppressed ‖ base ) over the predictions of its
   tokens, t in [a−1, b−1), full vocabulary, nats: the positions over which `geometry.sweep` takes its KL too. The first
   token after the source is predicted from the source's own last token, which nothing is taken from: it is left out,
   not counted as 0. The answer's tokens are averaged by themselves in the same way.
4. `log_kl` is the mean of ln(KL + 1e-9) over the same predictions.
5. The noise is the same KL where nothing is suppressed and everything is computed again from the first source on.

Source: Bogdan et al. 2025 (Thought Anchors), whose code masks the sentence for its own tokens too, takes
KL( base ‖ suppressed ) at temperature 0.6 of logits cut to the likeliest tokens, at a sentence's tokens and not at
those that predict them, and then subtracts each target's mean over its sources. Here nothing is cut or subtracted.
"""

import bisect
import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from backend.errors import AnchorscopeError
from backend.geometry.sweep import Predictions, check_float32, predicting_positions
from backend.models.attention import Part
from backend.models.edits import encode

if TYPE_CHECKING:
    from backend.models.loaded import LoadedModel

ALL = "all"
LOG_FLOOR = 1e-9  # nats, added before the logarithm: Thought Anchors' code
_TOKENS = 1024  # read again in one pass: large enough for full-speed matrix products
_HELD = 4096  # last residuals whose KL is taken together where the base distribution is made anew each time
_BLOCK = 32  # positions whose KL is taken together
_KEPT_BYTES = 1 << 29  # of base distributions that are kept


class SuppressionError(AnchorscopeError):
    """A suppression that cannot be made as asked."""


@dataclass(frozen=True)
class Influences:
    """What the chunk `source_chunk_id` does to what comes after it; unknown is None."""

    source_chunk_id: str
    model_id: str  # who reads
    suppressed: str  # where
    rows: list[dict[str, Any]]  # of the table `influences`, a row a later chunk, in the order given
    answer_kl: float | None  # nats
    n_answer: int
    noise: float | None  # nats, mean over all later tokens


def part_of(suppressed: str, *, n_layers: int, n_heads: int) -> Part:
    """The part of a model that `all`, `layers A-B` (0-based, both included) or `head L.H` names."""
    if suppressed == ALL:
        return Part(range(n_layers))
    if (found := re.fullmatch(r"layers (\d+)-(\d+)", suppressed)) is not None:
        first, last = map(int, found.groups())
        if first <= last < n_layers:
            return Part(range(first, last + 1))
    elif (found := re.fullmatch(r"head (\d+)\.(\d+)", suppressed)) is not None:
        layer, head = map(int, found.groups())
        if layer < n_layers and head < n_heads:
            return Part(range(layer, layer + 1), (head,))
    raise SuppressionError(
        f"Attention cannot be suppressed in {suppressed!r}: expected {ALL}, layers A-B or head L.H, of a model with"
        f" layers 0 to {n_layers - 1} and heads 0 to {n_heads - 1}."
    )


def layer_ranges(n_layers: int, n_ranges: int) -> list[str]:
    """Names of `n_ranges` ranges of layers, as equal as can be; at most one a layer, none twice."""
    edges = [round(number * n_layers / max(n_ranges, 1)) for number in range(n_ranges + 1)]
    return [f"layers {a}-{b - 1}" for a, b in itertools.pairwise(edges) if a < b]


def influences(
    loaded: "LoadedModel",
    tokens: Sequence[int],
    spans: Mapping[str, tuple[int, int]],
    answer: tuple[int, int] | None = None,
    suppressed: str = ALL,
) -> Iterator[Influences]:
    """What each chunk of a text does to those after it, chunk by chunk, in the order of `spans`.

    `tokens` are those that the model reads, `spans` the chunks' token spans [s, e) in them, in reading order, `answer`
    the span of the answer. A chunk without tokens, or with nothing after it, has unknown influence. Raises
    SuppressionError for spans out of the text or order, EditError for a family whose attention cannot be suppressed.
    """
    yield from influences_in(loaded, tokens, spans, answer, [suppressed])


def influences_in(
    loaded: "LoadedModel",
    tokens: Sequence[int],
    spans: Mapping[str, tuple[int, int]],
    answer: tuple[int, int] | None,
    suppressed: Sequence[str],
) -> Iterator[Influences]:
    """What `influences` gives for each of several parts of the model, one after the other; the text is read once."""
    check_float32(loaded)
    config = loaded.model.config.get_text_config()
    n_heads = getattr(config, "num_attention_heads", None) or 0
    parts = {name: part_of(name, n_layers=loaded.n_layers, n_heads=n_heads) for name in suppressed}
    _check(len(tokens), spans, answer)
    begins = min((end for start, end in spans.values() if start < end), default=len(tokens))
    averaged = {name: np.array(predicting_positions(span), int) for name, span in spans.items()}
    in_answer = np.array(predicting_positions(answer) if answer else [], int)
    positions = np.unique(np.concatenate([in_answer, *averaged.values()]))
    positions = positions[positions >= begins]
    sources = [name for name, (start, end) in spans.items() if start < end and (positions >= end).any()]
    reading = _Reading(loaded, tokens, parts.values(), positions) if sources else None
    for name, part in parts.items():
        found: dict[str, np.ndarray] = {}  # of a source, KL at all `positions`
        noise = reading.kl([(begins, begins)], part)[0] if reading else positions * math.nan
        for number, (source, (_, end)) in enumerate(spans.items()):
            if reading and source in sources and source not in found:
                left = sources[sources.index(source) :]
                some = reading.together([spans[other] for other in left])
                found = dict(zip(left, reading.kl(some, part), strict=False))
            kl = found.get(source, np.full(len(positions), math.nan))
            later = list(averaged.items())[number + 1 :]
            follows = answer is not None and answer[0] >= end
            of_answer = kl[np.isin(positions, in_answer[in_answer >= end])] if follows else kl[:0]
            yield Influences(
                source,
                loaded.model_id,
                name,
                [
                    {
                        "source_chunk_id": source,
                        "target_chunk_id": target,
                        "model_id": loaded.model_id,
                        "suppressed": name,
                        **_averaged(kl[np.isin(positions, where[where >= end])]),
                    }
                    for target, where in later
                ],
                _mean(of_answer),
                int(np.isfinite(of_answer).sum()),
                _mean(noise[positions >= end]) if source in found else None,
            )


def _averaged(kl: np.ndarray) -> dict[str, Any]:
    """Of the predictions of a target's tokens."""
    return {"kl": _mean(kl), "log_kl": _mean(np.log(kl + LOG_FLOOR)), "n_tokens": int(np.isfinite(kl).sum())}


def chunk_influences(found: Sequence[Influences]) -> list[dict[str, Any]]:
    """Rows of the table `chunk_influences`, of all chunks of one CoT in reading order.

    `last_reader` is how many chunks back the last chunk lies that moves by at least the median of the CoT's pairs.
    """
    pairs = [row for one in found for row in one.rows]
    known = {(row["source_chunk_id"], row["target_chunk_id"]): row["kl"] for row in pairs if row["kl"] is not None}
    median = float(np.median(list(known.values()))) if known else math.nan
    names, rows = [one.source_chunk_id for one in found], []
    for number, one in enumerate(found):
        name = one.source_chunk_id
        later = {other: known[name, other] for other in names[number + 1 :] if (name, other) in known}
        earlier = [known[other, name] for other in names[:number] if (other, name) in known]
        moved = [names.index(other) - number for other, kl in later.items() if kl >= median]
        rows.append(
            {
                "chunk_id": name,
                "model_id": one.model_id,
                "suppressed": one.suppressed,
                "answer_kl": one.answer_kl,
                "n_answer": one.n_answer,
                "noise": one.noise,
                "out_influence": _mean(np.array(list(later.values()))),
                "in_influence": _mean(np.array(earlier)),
                "last_reader": max(moved, default=0) if later else None,
                "n_later": len(later),
                "n_earlier": len(earlier),
            }
        )
    return rows


class _Reading:
    """One text, read again and again with a part of the model's attention taken away."""

    def __init__(
        self, loaded: "LoadedModel", tokens: Sequence[int], parts: Iterable[Part], positions: np.ndarray
    ) -> None:
        before = {part.layers.start - 1 for part in parts if part.layers.start}
        self._encoded = encode(loaded, tokens, layers=sorted(before))
        self._end = int(positions[-1]) + 1
        self._blocks = [positions[i : i + _BLOCK].tolist() for i in range(0, len(positions), _BLOCK)]
        self._keeps = len(positions) * loaded.vocab_size * 8 <= _KEPT_BYTES
        self._kept: dict[int, Predictions] = {}

    def together(self, spans: Sequence[tuple[int, int]], most: int | None = None) -> list[tuple[int, int]]:
        """The first of these spans, one at least, after which there are no more than `most` tokens to read again in
        all; else as many as are best taken together.
        """
        most = most or (_TOKENS if self._keeps else _HELD)
        total = np.cumsum([self._end - end for _, end in spans])
        return list(spans[: max(1, int((total <= most).sum()))])

    @torch.inference_mode()
    def kl(self, spans: Sequence[tuple[int, int]], part: Part) -> np.ndarray:
        """KL( suppressed ‖ base ), nats, (n_spans, n_positions) float64, at the positions given; NaN before the end of
        the span.
        """
        streams: list[torch.Tensor] = []
        while len(streams) < len(spans):
            some = self.together(spans[len(streams) :], _TOKENS)
            streams += self._encoded.without(some, part, self._end)
        return np.concatenate(
            [self._kl_at(block, number, spans, streams) for number, block in enumerate(self._blocks)], 1
        )

    def _kl_at(
        self, block: list[int], number: int, spans: Sequence[tuple[int, int]], streams: Sequence[torch.Tensor]
    ) -> np.ndarray:
        found = np.full((len(spans), len(block)), math.nan)
        firsts = {row: bisect.bisect_left(block, end) for row, (_, end) in enumerate(spans)}
        rows = [row for row, first in firsts.items() if first < len(block)]
        if not rows:
            return found
        steered = self._encoded.normed[block].expand(len(rows), -1, -1).clone()
        for own, row in zip(steered, rows, strict=True):
            own[firsts[row] :] = streams[row][[position - spans[row][1] for position in block[firsts[row] :]]]
        for kl, row in zip(self._base(number).kl_of(steered).cpu().numpy(), rows, strict=True):
            found[row, firsts[row] :] = kl[firsts[row] :]
        return found

    def _base(self, number: int) -> Predictions:
        """The unsuppressed predictions of a block, kept where those of all blocks fit."""
        found = self._kept.get(number) or Predictions(self._encoded, self._blocks[number])
        if self._keeps:
            self._kept[number] = found
        return found


def _mean(values: np.ndarray) -> float | None:
    """Of known values; None where there is none."""
    return float(values.mean()) if len(values) and np.isfinite(values).all() else None


def _check(n_tokens: int, spans: Mapping[str, tuple[int, int]], answer: tuple[int, int] | None) -> None:
    before = 1
    for name, (start, end) in spans.items():
        if not before <= start <= end <= n_tokens:
            raise SuppressionError(
                f"Chunk {name} has token span [{start}, {end}); expected chunks in reading order, within the text's"
                f" {n_tokens} tokens and after the first."
            )
        before = end
    if answer is not None and not 1 <= answer[0] < answer[1] <= n_tokens:
        raise SuppressionError(f"The answer has token span {list(answer)}; the text has {n_tokens} tokens.")
