"""Texts that small dictionaries learn from, each with what else was written from places within it, and which of their
positions count.

1. A text is a tree: a chain of thought with its prompt, and the rollouts that continue it from before its chunks. What
   rollouts share is read once.
2. A stream depends on its token and those before it alone. One that several texts have counts once, in the first of
   them; one that texts of two problems have (worked examples, a system turn) would be learned from and measured on
   alike, and takes no part. The first token of a text, the sink of attention, takes none.
3. Some problems are held out: what dictionaries are measured on. Of the others so many texts are drawn as are needed.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from backend.ids import seed_for


@dataclass(frozen=True)
class Continuation:
    """Tokens that follow the first `start` ones of a text; those from `own` on have streams of their own."""

    start: int
    token_ids: tuple[int, ...]
    own: int = 0

    @property
    def n_rows(self) -> int:
        return len(self.token_ids) - self.own


@dataclass(frozen=True)
class TextTree:
    text_id: str
    problem_id: str  # a text that is of no problem is one of its own
    token_ids: tuple[int, ...]
    continuations: tuple[Continuation, ...] = ()
    own: int = 1  # the first position whose stream counts here

    @property
    def n_rows(self) -> int:
        """Streams that count."""
        return len(self.token_ids) - self.own + sum(one.n_rows for one in self.continuations)


@dataclass(frozen=True)
class Corpus:
    """What is read, and which of it is held out."""

    learned: tuple[TextTree, ...]
    held_out: tuple[TextTree, ...]
    n_available: int  # streams of the problems that are not held out, drawn or not

    @property
    def trees(self) -> tuple[TextTree, ...]:
        return (*self.learned, *self.held_out)

    @property
    def n_learned(self) -> int:
        return sum(tree.n_rows for tree in self.learned)

    @property
    def n_held_out(self) -> int:
        return sum(tree.n_rows for tree in self.held_out)

    @property
    def digest(self) -> str:
        """sha256 of all tokens and of what counts of them: two models with the same one read the same."""
        content = [
            [
                [tree.token_ids, tree.own, [[one.start, one.token_ids, one.own] for one in tree.continuations]]
                for tree in part
            ]
            for part in (self.learned, self.held_out)
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def corpus_of(
    trees: Sequence[TextTree], *, tokens: int, held_out: int, share: float, seed: int, max_tokens: int
) -> Corpus:
    """About `tokens` different streams to learn from and `held_out` others, whole texts each, in an order of their
    own; a `share` of the problems is held out, at least one where there are two.
    """
    own = with_own_positions([_cut(tree, max_tokens) for tree in trees])
    kept_back = held_out_problems([tree.problem_id for tree in own], share, seed)
    learned = [tree for tree in own if tree.problem_id not in kept_back]
    others = [tree for tree in own if tree.problem_id in kept_back]
    n_available = sum(tree.n_rows for tree in learned)
    return Corpus(_drawn(learned, tokens, seed), _drawn(others, held_out, seed), n_available)


def held_out_problems(problems: Sequence[str], share: float, seed: int) -> set[str]:
    """Those that the seed puts first. None where there is one problem alone."""
    order = sorted(set(problems), key=lambda problem: seed_for("held out of dictionaries", seed, problem))
    most = min(math.ceil(share * len(order)), len(order) - 1)
    return set(order[: max(most, 0)])


def with_own_positions(trees: Sequence[TextTree]) -> list[TextTree]:
    """The same trees, each sequence saying from where on its streams count; what has none of its own is left out.

    What several sequences share is a beginning of each, so one number a sequence says it.
    """
    nodes = _Nodes()
    paths = [
        (tree, (trunk := nodes.path(tree.problem_id, 0, tree.token_ids)), _branches(nodes, tree, trunk))
        for tree in trees
    ]
    found = []
    for tree, trunk, branches in paths:
        continuations = [
            replace(one, own=own)
            for one, path in zip(tree.continuations, branches, strict=True)
            if (own := nodes.first_own(path)) < len(one.token_ids)
        ]
        own = max(1, nodes.first_own(trunk))
        whole = replace(tree, own=own, continuations=tuple(continuations))
        if whole.n_rows:
            found.append(whole)
    return found


class _Path:
    """The nodes of a sequence, and how many of them were there before it."""

    def __init__(self, nodes: list[int], n_known: int) -> None:
        self.nodes, self.n_known = nodes, n_known


class _Nodes:
    """The trie of all texts."""

    def __init__(self) -> None:
        self._children: dict[tuple[int, int], int] = {}
        self._problem: list[str | None] = [None]  # of each node; None of several

    def path(self, problem: str, start: int, token_ids: Sequence[int]) -> _Path:
        node, path, n_known = start, [], 0
        for token in token_ids:
            child = self._children.get((node, token))
            if child is None:
                child = self._children[node, token] = len(self._problem)
                self._problem.append(problem)
            else:
                n_known += 1
                if self._problem[child] != problem:
                    self._problem[child] = None
            path.append(node := child)
        return _Path(path, n_known)

    def first_own(self, path: _Path) -> int:
        n_of_several = next(
            (i for i, node in enumerate(path.nodes) if self._problem[node] is not None), len(path.nodes)
        )
        return max(path.n_known, n_of_several)


def _branches(nodes: _Nodes, tree: TextTree, trunk: _Path) -> list[_Path]:
    return [nodes.path(tree.problem_id, trunk.nodes[one.start - 1], one.token_ids) for one in tree.continuations]


def _cut(tree: TextTree, most: int) -> TextTree:
    """Nothing is read beyond `most` tokens; nothing continues from before the first token."""
    continuations = (
        replace(one, token_ids=one.token_ids[: most - one.start])
        for one in tree.continuations
        if 0 < one.start < most and one.token_ids
    )
    return replace(tree, token_ids=tree.token_ids[:most], continuations=tuple(continuations))


def _drawn(trees: Sequence[TextTree], most: int, seed: int) -> tuple[TextTree, ...]:
    chosen: list[TextTree] = []
    left = most
    for tree in sorted(trees, key=lambda tree: seed_for("texts of dictionaries", seed, tree.text_id)):
        if left <= 0:
            break
        chosen.append(tree)
        left -= tree.n_rows
    return tuple(chosen)
