"""Latents moved by a vector, once, and what is answered then.

1. `steps` runs a loop latent by latent, and keeps what stands before and after each.
2. `means_of` averages a space over problems, latent by latent; keys turned back from their position first.
3. `steered_answers` adds each vector at each target latent t, in its own space, and has the answer given at once, after
   t latents (the early exit), and after all of them (the end). All vectors and problems of one target are rows that
   share what was read before it.

A vector of length 0 changes nothing, bit for bit. What is added to keys is turned for the position that it is added at.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch

from backend.latent.asked import by_length
from backend.latent.kinds import LatentError
from backend.latent.loop import LatentLoop, State, branch
from backend.latent.rotary import Rotation
from backend.latent.vectors import Vector
from backend.registry import Registry

Answer = tuple[int, ...]  # token ids


class ProjectingLoop(LatentLoop, Protocol):
    """A loop whose latents can be made of a hidden state that was moved."""

    def project(self, h: torch.Tensor, step: int) -> torch.Tensor:
        """z of latent `step`, from hidden states (n, d_model) at the position before it."""
        ...


@dataclass(frozen=True)
class Step:
    """Latent `number` of some rows. Whoever goes on from a state copies it first."""

    number: int  # from 1
    before: State
    z: torch.Tensor  # (n, d_model), what the model feeds
    after: State

    @property
    def position(self) -> int:
        """The latent's, in the text."""
        return int(self.after.cache.get_seq_length()) - 1


@dataclass(frozen=True)
class Moved:
    """Rows in which one latent is moved, with a state of their own."""

    own: State  # before the latent; after it, of what stands in the cache
    z: torch.Tensor  # (n, d_model), what the model would feed
    added: tuple[torch.Tensor, ...]  # parts of a Vector, a row each
    number: int  # of the latent
    position: int


@dataclass(frozen=True)
class Site:
    """How one space is read and moved."""

    name: str  # in SPACES
    is_kept: bool  # whether it stands in the cache: then it is moved after the latent was fed
    read: Callable[[Step, Rotation], tuple[torch.Tensor, ...]]  # parts of a Vector, a row each
    steer: Callable[[ProjectingLoop, Moved, Rotation], State]  # the state after the moved latent


def _steer_z(loop: ProjectingLoop, moved: Moved, rotation: Rotation) -> State:
    return loop.feed(moved.own, moved.z + moved.added[0])


def _steer_h(loop: ProjectingLoop, moved: Moved, rotation: Rotation) -> State:
    return loop.feed(moved.own, loop.project(moved.own.h + moved.added[0], moved.number))


def _keys(step: Step, rotation: Rotation) -> tuple[torch.Tensor, ...]:
    return tuple(rotation.turned_back(kept.keys[:, :, -1], step.position) for kept in step.after.cache.layers)


def _values(step: Step) -> tuple[torch.Tensor, ...]:
    return tuple(kept.values[:, :, -1] for kept in step.after.cache.layers)


def _steer_k(loop: ProjectingLoop, moved: Moved, rotation: Rotation) -> State:
    for kept, added in zip(moved.own.cache.layers, moved.added, strict=True):
        kept.keys[:, :, -1] += rotation.turned(added, moved.position)
    return moved.own


def _steer_v(loop: ProjectingLoop, moved: Moved, rotation: Rotation) -> State:
    for kept, added in zip(moved.own.cache.layers, moved.added, strict=True):
        kept.values[:, :, -1] += added
    return moved.own


def _steer_kv(loop: ProjectingLoop, moved: Moved, rotation: Rotation) -> State:
    n_layers = len(moved.own.cache.layers)
    _steer_k(loop, replace(moved, added=moved.added[:n_layers]), rotation)
    return _steer_v(loop, replace(moved, added=moved.added[n_layers:]), rotation)


SITES: Registry[Site] = Registry(
    "site of a space",
    Site("z", False, lambda step, rotation: (step.z,), _steer_z),
    Site("h", False, lambda step, rotation: (step.before.h,), _steer_h),
    Site("kv", True, lambda step, rotation: (*_keys(step, rotation), *_values(step)), _steer_kv),
    Site("k", True, _keys, _steer_k),
    Site("v", True, lambda step, rotation: _values(step), _steer_v),
    error=LatentError,
)


def steps(loop: LatentLoop, questions: torch.Tensor, n_latents: int) -> Iterator[Step]:
    """Latents 1 to n of some questions of equal length, as the model makes them."""
    state = loop.start(questions)
    for number in range(1, n_latents + 1):
        z = loop.next_z(state)
        after = loop.feed(branch(state), z)
        yield Step(number, state, z, after)
        state = after


def means_of(
    loop: LatentLoop,
    questions: Sequence[Sequence[int]],
    *,
    n_latents: int,
    space: str,
    rotation: Rotation,
    rows: int = 512,
) -> dict[int, Vector]:
    """Latent → the mean of one space over the questions, one row."""
    sums: dict[int, list[torch.Tensor]] = {}
    for _, group in by_length(questions):
        for part in group.split(rows):
            for step in steps(loop, part, n_latents):
                own = [one.double().sum(0, keepdim=True) for one in SITES[space].read(step, rotation)]
                before = sums.get(step.number)
                sums[step.number] = own if before is None else [a + b for a, b in zip(before, own, strict=True)]
    n = len(questions)
    return {number: Vector(space, tuple((part / n).float() for part in parts)) for number, parts in sums.items()}


@dataclass(frozen=True)
class Asked:
    """How a loop is steered: what is added to each of `targets`, a row a vector, and when it answers."""

    space: str  # in which it is added
    vectors: Mapping[int, Vector]  # target latent → what is added there, its coefficient in it
    n_latents: int  # at the end
    max_tokens: int  # of an answer
    ends: bool = True  # whether the loop also goes on to the end
    rows: int = 1024  # of a batch; no result depends on it

    def __post_init__(self) -> None:
        for target, vectors in self.vectors.items():
            vectors.require(self.space)
            if not 1 <= target <= self.n_latents:
                raise LatentError(f"Latent {target} cannot be moved: the loop runs latents 1 to {self.n_latents}.")


@dataclass(frozen=True)
class Cell:
    """One vector at one target, answered after so many latents."""

    vector: int  # its row among the vectors of the target
    target: int
    exit: int  # latents run when the answer is given


def unsteered_answers(
    loop: LatentLoop, questions: Sequence[Sequence[int]], *, n_latents: int, max_tokens: int
) -> dict[int, list[Answer]]:
    """Latents run → the answer to each question."""
    found: dict[int, list[Answer]] = {number: [()] * len(questions) for number in range(n_latents + 1)}
    for numbers, group in by_length(questions):
        _put(found[0], numbers, loop.answer(loop.start(group), max_tokens))
        for step in steps(loop, group, n_latents):
            _put(found[step.number], numbers, loop.answer(step.after, max_tokens))
    return found


def steered_answers(
    loop: ProjectingLoop, questions: Sequence[Sequence[int]], asked: Asked, rotation: Rotation
) -> dict[Cell, list[Answer]]:
    """The answer to each question in each cell."""
    found: dict[Cell, list[Answer]] = {}
    for numbers, group in by_length(questions):
        last = max(asked.vectors)
        for step in steps(loop, group, last):
            if step.number in asked.vectors:
                for cell, answers in _steered(loop, step, asked, rotation):
                    _put(found.setdefault(cell, [()] * len(questions)), numbers, answers)
    return found


def _steered(loop: ProjectingLoop, step: Step, asked: Asked, rotation: Rotation) -> Iterator[tuple[Cell, list[Answer]]]:
    """All vectors at one target, for questions of one length."""
    site, vectors, n = SITES[asked.space], asked.vectors[step.number], len(step.z)
    start = step.after if site.is_kept else step.before
    for which in torch.arange(len(vectors)).split(max(1, asked.rows // n)):
        rows = torch.arange(n).repeat(len(which))
        added = vectors[which.repeat_interleave(n)].parts
        moved = Moved(branch(start, rows), step.z[rows], added, step.number, step.position)
        state = site.steer(loop, moved, rotation)
        exits = {step.number, asked.n_latents} if asked.ends else {step.number}
        for exit_ in sorted(exits):
            while state.n_latents < exit_:
                state = loop.feed(state, loop.next_z(state))
            answers = loop.answer(state, asked.max_tokens)
            for place, vector in enumerate(which.tolist()):
                yield Cell(vector, step.number, exit_), answers[place * n : (place + 1) * n]


def _put(into: list[Answer], numbers: Sequence[int], answers: Sequence[Answer]) -> None:
    for number, answer in zip(numbers, answers, strict=True):
        into[number] = answer
