"""What lenses learn from, and what they are measured on: positions of texts, split by problem.

1. A problem is in one of three parts, by the hash of its id and the seed: whatever else a study has, it stays there.
2. A stream depends on its token and those before it alone. A position whose tokens so far begin texts of two problems
   (a system turn, worked examples) would be learned from and measured on alike, so it takes no part. One whose tokens
   begin several texts of one problem counts once.
3. The first token of a text takes no part: its stream is the sink of attention, a hundred times longer than others.
4. Of what is left so many positions are drawn as are wanted.
"""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from backend.ids import seed_for

TRAIN, VALIDATION, HELD_OUT = "train", "validation", "held_out"
PARTS = {TRAIN: 0.6, VALIDATION: 0.2, HELD_OUT: 0.2}  # share of the problems


@dataclass(frozen=True)
class Text:
    """A text as the model reads it; `kinds` are those of its positions (`positions.POSITION_KINDS`)."""

    text_id: str
    problem_id: str  # a text that is of no problem is one of its own
    token_ids: tuple[int, ...]
    kinds: tuple[str, ...]


Positions = Mapping[str, tuple[int, ...]]  # of the texts, by id


def part_of(problem_id: str, seed: int) -> str:
    """The part in which the problem is."""
    share, end = seed_for("part of a lens", seed, problem_id) / 2**63, 0.0
    for part, size in PARTS.items():
        end += size
        if share < end:
            return part
    return HELD_OUT  # a share that rounding left above the sum


def own_positions(texts: Sequence[Text]) -> dict[str, tuple[int, ...]]:
    """The positions of each text that take part, by its id: those that one problem has, in the first text that has
    them.
    """
    children: dict[tuple[int, int], int] = {}  # the trie of all texts: (node, token) -> node
    owner: dict[int, str | None] = {}  # problem of a node; None of several
    first: dict[int, str] = {}
    paths: dict[str, list[int]] = {}
    for text in texts:
        node, path = 0, []
        for token in text.token_ids:
            node = children.setdefault((node, token), len(children) + 1)
            path.append(node)
            owner[node] = text.problem_id if owner.get(node, text.problem_id) == text.problem_id else None
            first.setdefault(node, text.text_id)
        paths[text.text_id] = path
    return {
        name: tuple(
            position
            for position, node in enumerate(path)
            if position and owner[node] is not None and first[node] == name
        )
        for name, path in paths.items()
    }


def drawn(
    texts: Sequence[Text], part: str, *, kinds: Collection[str], most: int, seed: int
) -> dict[str, tuple[int, ...]]:
    """At most `most` positions of these kinds in one part, by text, in order; texts without any are left out."""
    own = own_positions(texts)
    found = [
        (text.text_id, position)
        for text in texts
        if part_of(text.problem_id, seed) == part
        for position in own[text.text_id]
        if text.kinds[position] in kinds
    ]
    rng = np.random.default_rng(seed_for("positions of a lens", seed, part))
    chosen = sorted(rng.permutation(len(found))[:most].tolist())
    positions: dict[str, tuple[int, ...]] = {}
    for name, position in (found[number] for number in chosen):
        positions[name] = (*positions.get(name, ()), position)
    return positions


def digest(texts: Sequence[Text], *positions: Positions) -> str:
    """sha256 of the texts as the model reads them, and of the positions that take part."""
    content = [[text.text_id, text.problem_id, text.token_ids, text.kinds] for text in texts]
    return hashlib.sha256(json.dumps([content, *positions], sort_keys=True).encode()).hexdigest()
