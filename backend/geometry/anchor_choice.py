"""Which anchors are steered before and after, and which chunks they are compared with.

1. An anchor is a chunk whose importance is at least the threshold; a chunk of lower importance is a non-anchor, one of
   unknown importance neither. Either takes part where enough of its rollouts begin with something else, so that there
   is a counterfactual to steer towards.
2. A CoT takes part with all its anchors. Each is matched with the non-anchor of the same CoT that is nearest in the
   reading order, no non-anchor twice: the nearest pairs are matched first, of equal ones the earlier anchor and the
   earlier chunk. Where non-anchors run out an anchor stays without a match.
3. CoTs with a matched anchor come before those without; models take turns, and so do the problems of each, so that the
   anchors are not of one model or of a few problems; the rest is drawn by the ids.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from backend.ids import chunk_index, cot_of, seed_for


@dataclass(frozen=True)
class Candidate:
    """A chunk with something after it."""

    chunk_id: str
    importance: float | None  # None: unknown
    n_dissimilar: int  # rollouts whose first chunk is dissimilar to it


@dataclass(frozen=True)
class Chosen:
    """A chunk that is steered before and after."""

    chunk_id: str
    importance: float
    is_anchor: bool
    matched: str | None  # the chunk that it is compared with: of a non-anchor the anchor, of an anchor the non-anchor


def chosen_chunks(candidates: Iterable[Candidate], *, threshold: float, least: int) -> tuple[Chosen, ...]:
    """The anchors of one CoT and their matches, in reading order; none where it has no anchor."""
    ready = [one for one in candidates if one.importance is not None and one.n_dissimilar >= least]
    importance = {one.chunk_id: float(one.importance) for one in ready if one.importance is not None}
    anchors = sorted(chunk for chunk, value in importance.items() if value >= threshold)
    rest = sorted(importance.keys() - set(anchors))
    matches = _matches(anchors, rest)
    partners = matches | {other: anchor for anchor, other in matches.items()}
    steered = sorted({*anchors, *matches.values()})
    return tuple(Chosen(chunk, importance[chunk], chunk in set(anchors), partners.get(chunk)) for chunk in steered)


def _matches(anchors: Sequence[str], rest: Sequence[str]) -> dict[str, str]:
    """By anchor, its non-anchor."""
    pairs = sorted(
        (abs(chunk_index(anchor) - chunk_index(other)), anchor, other) for anchor in anchors for other in rest
    )
    found: dict[str, str] = {}
    for _, anchor, other in pairs:
        if anchor not in found and other not in found.values():
            found[anchor] = other
    return found


def in_turn(
    choices: Iterable[tuple[Chosen, ...]], groups: Mapping[str, tuple[str, str]], *, seed: int, n: int
) -> list[tuple[Chosen, ...]]:
    """The first `n` CoTs' choices, by what is said above; `groups` has each CoT's model and problem."""

    def drawn(choice: tuple[Chosen, ...]) -> tuple[bool, int]:
        return all(one.matched is None for one in choice), seed_for(seed, "anchors", cot_of(choice[0].chunk_id))

    by_model: dict[str, list[tuple[bool, int, int, tuple[Chosen, ...]]]] = defaultdict(list)
    turns: dict[tuple[str, str], int] = defaultdict(int)
    for choice in sorted((choice for choice in choices if choice), key=drawn):
        group = groups[cot_of(choice[0].chunk_id)]
        unmatched, seed_of_cot = drawn(choice)
        by_model[group[0]].append((unmatched, turns[group], seed_of_cot, choice))
        turns[group] += 1
    ranked = [
        (*one[:1], rank, model, one[3])
        for model, own in by_model.items()
        for rank, one in enumerate(sorted(own, key=lambda one: one[:3]))
    ]
    return [choice for *_, choice in sorted(ranked, key=lambda one: one[:3])[:n]]
