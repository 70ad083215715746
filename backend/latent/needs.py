"""Thought anchors for latents: one latent, or all of them, replaced, and what the model then answers.

1. What is replaced (`PLACES`) is the whole latent (what every layer keeps of it for later positions, and the hidden
   state that the next latent is made of), or z alone, the embedding that is fed.
2. By what (`REPLACEMENTS`): zeros; the mean over problems that are not scored; the latent of one such problem, the
   donor, which has another answer and which the model gets right.
3. What comes after (`AFTER`): later latents are made by the model's own loop out of what was put there, or are those of
   the plain run.
4. Donors, and means of whole latents, are of problems whose questions have as many tokens: keys are turned by their
   position, and there it is the same. Where there are too few of them the answer is unknown.

A latent is needed where answers get worse without it (zero, mean), and specific where another problem's latent moves
the answer to that problem's (swap) more often than the mean does. No plain answer is the donor's. Replacing latents by
the run's own gives the run.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from backend.ids import seed_for
from backend.latent.asked import answer_of, batches, is_right
from backend.latent.kinds import LatentError
from backend.latent.loop import State, branch
from backend.latent.need_kinds import (
    KEPT,
    MEAN,
    PLACES,
    PLAIN,
    RECOMPUTED,
    REPLACEMENTS,
    SWAP,
    WHOLE,
    WITHOUT,
    ZERO,
    Z,
)

if TYPE_CHECKING:
    from backend.latent.loop import LatentModel
    from backend.latent.problems import LatentProblem

LEAST_FOR_A_MEAN = 5  # problems
_AT_ONCE = 128  # rows of a batch


@dataclass(frozen=True, eq=False)
class Latents:
    """Latents 1 … k of some rows. Keys are turned by the positions at which they stand."""

    z: torch.Tensor  # (n, k, d_model)
    h: torch.Tensor  # (n, k, d_model), the last hidden state at each
    keys: tuple[torch.Tensor, ...]  # one a layer, (n, n_heads, k, d_head)
    values: tuple[torch.Tensor, ...]

    def each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "Latents":
        """All parts, changed alike."""
        return Latents(change(self.z), change(self.h), tuple(map(change, self.keys)), tuple(map(change, self.values)))

    def row(self, number: int) -> "Latents":
        return self.each(lambda part: part[number : number + 1].clone())


@dataclass(frozen=True, eq=False)
class Run:
    """Some rows after all their latents."""

    state: State
    n_tokens: int  # before latent 1
    h: torch.Tensor  # (n, d_model), at the position before latent 1
    latents: Latents


@dataclass(frozen=True, eq=False)
class Other:
    """A problem that is not scored, run plainly."""

    problem: "LatentProblem"
    n_tokens: int  # of its question
    latents: Latents  # of one row
    is_correct: bool


@dataclass(frozen=True)
class Asked:
    """What is measured."""

    n_latents: int
    max_tokens: int
    places: tuple[str, ...] = tuple(PLACES)
    after: tuple[str, ...] = (RECOMPUTED,)
    seed: int = 0  # donors are drawn with it


@dataclass(frozen=True)
class Answered:
    """One problem's answer under one replacement."""

    problem_id: str
    replacement: str  # in REPLACEMENTS; PLAIN, or WITHOUT latents, as the model was trained to answer then
    step: int | None  # the latent; None: all of them
    place: str | None  # None: nothing is replaced
    after: str | None
    donor_id: str | None  # whose latent was put there, or would be by a swap
    is_known: bool  # False: there was nothing to put there
    answer: str | None  # None where no number was written, or nothing is known
    is_correct: bool | None  # None where nothing is known; no number is not right
    is_donors: bool | None  # whether it is the donor's answer; None where nobody is the donor, or nothing is known


def run_plainly(model: "LatentModel", questions: torch.Tensor, n_latents: int) -> Run:
    """All latents as the model makes them, and what each leaves behind."""
    state = model.start(questions)
    start, n_tokens = state.h, questions.shape[1] + len(model.before)
    z, h = [], []
    for _ in range(n_latents):
        z.append(model.next_z(state))
        state = model.feed(state, z[-1])
        h.append(state.h)
    keys = tuple(layer.keys[:, :, n_tokens:].clone() for layer in state.cache.layers)
    values = tuple(layer.values[:, :, n_tokens:].clone() for layer in state.cache.layers)
    return Run(state, n_tokens, start, Latents(torch.stack(z, 1), torch.stack(h, 1), keys, values))


@torch.inference_mode()
def replaced(model: "LatentModel", run: Run, other: Latents, steps: frozenset[int], *, place: str, after: str) -> State:
    """The state after all latents, those of `steps` (1 …) taken from `other`, row by row."""
    if place == WHOLE and after == KEPT:
        state = branch(run.state)
        for step in steps:
            _overwrite(state, other, step, run.n_tokens)
        return state
    state = _rewound(run, min(steps) - 1)
    for step in range(min(steps), run.latents.z.shape[1] + 1):
        z = run.latents.z[:, step - 1] if after == KEPT else model.next_z(state)
        state = model.feed(state, other.z[:, step - 1] if step in steps and place == Z else z)
        if step in steps and place == WHOLE:
            _overwrite(state, other, step, run.n_tokens)
            state.h = other.h[:, step - 1]
    return state


def _overwrite(state: State, other: Latents, step: int, n_tokens: int) -> None:
    """What every layer keeps of a latent becomes that of `other`."""
    position = n_tokens + step - 1
    for layer, keys, values in zip(state.cache.layers, other.keys, other.values, strict=True):
        layer.keys[:, :, position] = keys[:, :, step - 1]
        layer.values[:, :, position] = values[:, :, step - 1]


def _rewound(run: Run, n_latents: int) -> State:
    """A branch that goes on from so many latents of the run."""
    cache, too_many = branch(run.state).cache, run.state.n_latents - n_latents
    if too_many:
        cache.crop(-too_many)
    return State(cache, run.h if n_latents == 0 else run.latents.h[:, n_latents - 1], n_latents)


def run_others(
    model: "LatentModel", problems: Sequence["LatentProblem"], n_latents: int, max_tokens: int
) -> list[Other]:
    """What latents are replaced by, of problems that are not scored."""
    found = []
    for places, questions in batches(model, problems, _AT_ONCE):
        run = run_plainly(model, questions, n_latents)
        for row, (place, tokens) in enumerate(zip(places, model.answer(run.state, max_tokens), strict=True)):
            right = bool(is_right(answer_of(model, tokens), problems[place].answer))
            found.append(Other(problems[place], questions.shape[1], run.latents.row(row), right))
    return found


def answers(
    model: "LatentModel", problems: Sequence["LatentProblem"], others: Sequence[Other], asked: Asked
) -> Iterator[Answered]:
    """Each problem without latents, plainly, and with every latent and all of them replaced in every way."""
    for places, questions in batches(model, problems, _AT_ONCE):
        batch = _Batch(model, [problems[place] for place in places], questions, others, asked)
        yield from batch.without()
        if asked.n_latents:
            yield from batch.replaced()


class _Batch:
    """Problems whose questions have as many tokens."""

    def __init__(
        self,
        model: "LatentModel",
        problems: Sequence["LatentProblem"],
        questions: torch.Tensor,
        others: Sequence[Other],
        asked: Asked,
    ) -> None:
        self.model, self.problems, self.questions, self.others, self.asked = model, problems, questions, others, asked

    def without(self) -> Iterator[Answered]:
        written = self.model.answer_directly(self.questions, self.asked.max_tokens)
        yield from self._answered(written, [None] * len(written), [True] * len(written), (WITHOUT, None, None, None))

    def replaced(self) -> Iterator[Answered]:
        asked = self.asked
        run = run_plainly(self.model, self.questions, asked.n_latents)
        written = self.model.answer(run.state, asked.max_tokens)
        donors = self._donors([answer_of(self.model, tokens) for tokens in written])
        yield from self._answered(written, donors, [True] * len(written), (PLAIN, None, None, None))
        every = range(1, asked.n_latents + 1)
        for place in asked.places:
            for replacement in REPLACEMENTS:
                other, known = self._put(replacement, place, run, donors)
                for after in asked.after:
                    for step in (*every, None):
                        steps = frozenset(every if step is None else [step])
                        state = replaced(self.model, run, other, steps, place=place, after=after)
                        written = self.model.answer(state, asked.max_tokens)
                        yield from self._answered(written, donors, known, (replacement, step, place, after))

    def _donors(self, plain: Sequence[str | None]) -> list[Other | None]:
        """One a problem, drawn by the problem and the seed; None where no problem will do."""
        alike = [other for other in self._alike() if other.is_correct]
        donors: list[Other | None] = []
        for problem, answer in zip(self.problems, plain, strict=True):
            rng = random.Random(seed_for("donor", self.asked.seed, problem.problem_id))
            fit = [other for other in alike if other.problem.answer not in {problem.answer, answer}]
            donors.append(rng.choice(fit) if fit else None)
        return donors

    def _alike(self) -> list[Other]:
        return [other for other in self.others if other.n_tokens == self.questions.shape[1]]

    def _put(
        self, replacement: str, place: str, run: Run, donors: Sequence[Other | None]
    ) -> tuple[Latents, list[bool]]:
        """What takes the place of each row's latents, and whether there is such a thing (where not, the row's own)."""
        n, own = len(self.problems), run.latents
        if replacement == ZERO:
            return own.each(torch.zeros_like), [True] * n
        if replacement == SWAP:
            rows = [own.row(row) if donor is None else donor.latents for row, donor in enumerate(donors)]
            return together(rows), [donor is not None for donor in donors]
        if replacement == MEAN:
            averaged = self.others if place == Z else self._alike()
            if len(averaged) < LEAST_FOR_A_MEAN:
                return own, [False] * n
            mean = together([other.latents for other in averaged]).each(lambda part: part.mean(0, keepdim=True))
            return mean.each(lambda part: part.expand(n, *part.shape[1:])), [True] * n
        raise LatentError(f"Nothing says what latents are replaced by for {replacement!r}.")

    def _answered(
        self,
        written: Sequence[tuple[int, ...]],
        donors: Sequence[Other | None],
        known: Sequence[bool],
        what: tuple[str, int | None, str | None, str | None],
    ) -> Iterator[Answered]:
        for problem, tokens, donor, is_known in zip(self.problems, written, donors, known, strict=True):
            answer = answer_of(self.model, tokens) if is_known else None
            yield Answered(
                problem.problem_id,
                *what,
                donor_id=None if donor is None else donor.problem.problem_id,
                is_known=is_known,
                answer=answer,
                is_correct=bool(is_right(answer, problem.answer)) if is_known else None,
                is_donors=bool(is_right(answer, donor.problem.answer)) if is_known and donor is not None else None,
            )


def together(rows: Sequence[Latents]) -> Latents:
    """Latents of all of them, row below row."""
    n_layers = len(rows[0].keys)
    return Latents(
        torch.cat([one.z for one in rows]),
        torch.cat([one.h for one in rows]),
        tuple(torch.cat([one.keys[layer] for one in rows]) for layer in range(n_layers)),
        tuple(torch.cat([one.values[layer] for one in rows]) for layer in range(n_layers)),
    )
