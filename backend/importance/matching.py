"""Which chunks a study steers to ask whether anchors cause answers, and with which chunk each anchor is compared.

1. An *anchor* is a chunk whose importance is at or above the threshold, a non-anchor one whose importance is below it.
   A chunk of unknown importance is neither.
2. Anchors take part in this order: the most important one of each CoT first, then each CoT's second, and so on; among
   these the most important first, equal ones by a draw from their ids.
3. In that order each anchor takes the nearest non-anchor that no anchor before it has taken: one of its own CoT before
   one of its problem, that before any other; then by distance: how far apart they stand in their CoTs (0 the first
   chunk, 1 the last), plus |ln(tokens / tokens)|; equal ones by a draw from their ids. No chunk is in two pairs, so
   none is its own match, and a pair more leaves those before it as they were.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from backend.ids import cot_of, seed_for, stable_id

RULE = "own CoT, then own problem; nearest in the CoT and in ln tokens; each chunk once"  # stored with every pair


@dataclass(frozen=True)
class Candidate:
    """A chunk that could be steered."""

    chunk_id: str
    problem_id: str
    importance: float  # in the unit of the threshold
    share_before: float  # of the CoT's other chunks: 0 at the first, 1 at the last
    n_tokens: int

    @property
    def cot_id(self) -> str:
        return cot_of(self.chunk_id)


@dataclass(frozen=True)
class MatchedPair:
    """An anchor and the chunk it is compared with; `number` is its turn, from 0."""

    number: int
    anchor: Candidate
    match: Candidate

    @property
    def pair_id(self) -> str:
        return stable_id("p", "causation", self.anchor.chunk_id, self.match.chunk_id)

    @property
    def same_cot(self) -> bool:
        return self.anchor.cot_id == self.match.cot_id

    @property
    def share_apart(self) -> float:
        return abs(self.anchor.share_before - self.match.share_before)

    @property
    def length_ratio(self) -> float:
        """Tokens of the anchor over those of its match."""
        return self.anchor.n_tokens / self.match.n_tokens


def matched_pairs(
    candidates: Sequence[Candidate], *, threshold: float, most: int, seed: int
) -> tuple[MatchedPair, ...]:
    """At most `most` pairs. An anchor for which no non-anchor is left is not in any."""
    free = {one.chunk_id: one for one in candidates if one.importance < threshold}
    pairs: list[MatchedPair] = []
    for anchor in islice(_in_turn((one for one in candidates if one.importance >= threshold), seed), most):
        if not free:
            break
        match = min(free.values(), key=lambda other: _distance(anchor, other, seed))
        del free[match.chunk_id]
        pairs.append(MatchedPair(len(pairs), anchor, match))
    return tuple(pairs)


def _in_turn(anchors: Iterable[Candidate], seed: int) -> list[Candidate]:
    best_first = sorted(anchors, key=lambda one: (-one.importance, _draw(one, seed)))
    turn: dict[str, int] = {}
    turns = {}
    for one in best_first:
        turns[one.chunk_id] = turn[one.cot_id] = turn.get(one.cot_id, -1) + 1
    return sorted(best_first, key=lambda one: turns[one.chunk_id])


def _distance(anchor: Candidate, other: Candidate, seed: int) -> tuple[bool, bool, float, int]:
    apart = abs(anchor.share_before - other.share_before) + abs(math.log(anchor.n_tokens / other.n_tokens))
    return anchor.cot_id != other.cot_id, anchor.problem_id != other.problem_id, apart, _draw(other, seed)


def _draw(one: Candidate, seed: int) -> int:
    return seed_for("causation", seed, one.chunk_id)
