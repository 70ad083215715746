"""A positive control: one vector, fitted by gradient on problems that are not scored, that should make answers right.

1. Problems that the model solves after all its latents are its lesson, and the answers that it then gives its targets:
   no layout of answers is assumed. At an early exit it has not solved all of them yet.
2. One vector is added at latent t, the same for all problems, in its own space. What is descended is the mean
   cross-entropy of the targets, with their end, when the answer is forced right after latent t.
3. Its length is bounded: after each step of Adam it is drawn back onto the ball. Bounds are multiples of the typical
   length of the differences that are steered along, so that the two can be held against each other.

Where such a vector does not help either, that differences do not help says little.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch.nn import functional

from backend.ids import seed_for
from backend.latent.asked import by_length
from backend.latent.loop import LatentModel, State, branch
from backend.latent.rotary import Rotation
from backend.latent.steering import SITES, Answer, Moved, Step, steps
from backend.latent.vectors import Vector

_IGNORED = -100  # a target that does not count


@dataclass(frozen=True)
class Fitting:
    """How a vector is fitted; all of it is stored with the vector."""

    steps: int = 150
    batch: int = 128  # problems of one length
    rate: float = 0.1  # of Adam, in lengths of the bound over √width
    seed: int = 0


@dataclass(frozen=True)
class Lesson:
    """Questions, and the answers that are to be given, both as token ids."""

    questions: tuple[tuple[int, ...], ...]
    answers: tuple[Answer, ...]


@dataclass(frozen=True, eq=False)
class _Batch:
    step: Step  # of the rows of the batch, outside of inference mode
    targets: torch.Tensor  # (n, n_tokens): the answer and its end; _IGNORED behind it


@dataclass(frozen=True)
class _Traced:
    """The model's loop with gradients: what steers it needs no more."""

    latent: LatentModel

    def start(self, questions: torch.Tensor) -> State:
        return self.latent.start(questions)

    def next_z(self, state: State) -> torch.Tensor:
        return self.project(state.h, state.n_latents + 1)

    def project(self, h: torch.Tensor, step: int) -> torch.Tensor:
        if self.latent.thoughts is not None:
            return self.latent.thoughts[step - 1].expand(len(h), -1)
        return h if self.latent.projection is None else self.latent.projection(h)

    def feed(self, state: State, z: torch.Tensor) -> State:
        found = self.latent.model.base_model(inputs_embeds=z[:, None], past_key_values=state.cache, use_cache=True)
        return State(state.cache, found.last_hidden_state[:, -1], state.n_latents + 1)

    def answer(self, state: State, max_tokens: int) -> list[Answer]:
        return self.latent.answer(state, max_tokens)


def fitted(
    latent: LatentModel, lesson: Lesson, like: Vector, *, target: int, rotation: Rotation, how: Fitting
) -> Vector:
    """A row for each row of `like`, fitted at latent `target` in its space and at most as long as that row."""
    batches = _batches(latent, lesson, target, how)
    bounds = like.length
    rows = []
    for bound in bounds.tolist():
        rows.append(_fit(latent, batches, replace(like, parts=tuple(p[:1] for p in like.parts)), bound, rotation, how))
    return Vector(like.space, tuple(torch.cat(parts) for parts in zip(*rows, strict=True)))


def _fit(
    latent: LatentModel, batches: Sequence[_Batch], like: Vector, bound: float, rotation: Rotation, how: Fitting
) -> tuple[torch.Tensor, ...]:
    own = [torch.zeros_like(part).requires_grad_() for part in like.parts]
    width = sum(part.numel() for part in own)
    adam = torch.optim.Adam(own, lr=how.rate * bound / width**0.5)
    generator = torch.Generator().manual_seed(seed_for("fitted latent", how.seed, like.space, width))
    order: list[int] = []
    for _ in range(how.steps):
        order = order or torch.randperm(len(batches), generator=generator).tolist()
        adam.zero_grad()
        _loss(latent, batches[order.pop()], Vector(like.space, tuple(own)), rotation).backward()
        adam.step()
        with torch.no_grad():
            length = torch.cat([part.flatten() for part in own]).double().norm()
            for part in own:
                part *= min(1.0, bound / max(float(length), 1e-30))
    return tuple(part.detach() for part in own)


def _loss(latent: LatentModel, batch: _Batch, vector: Vector, rotation: Rotation) -> torch.Tensor:
    """Mean cross-entropy of the targets' tokens, nats, when the answer is forced after the moved latent."""
    site, step, n = SITES[vector.space], batch.step, len(batch.targets)
    added = vector[torch.zeros(n, dtype=torch.long)].parts
    own = branch(step.after if site.is_kept else step.before)
    state = site.steer(_Traced(latent), Moved(own, step.z, added, step.number, step.position), rotation)
    after = torch.tensor([latent.after]).expand(n, -1)
    fed = torch.cat([after, batch.targets[:, :-1].clamp(min=0)], 1)
    found = latent.model.base_model(input_ids=fed, past_key_values=state.cache, use_cache=True)
    hidden = found.last_hidden_state[:, len(latent.after) - 1 :]
    logits = latent.model.get_output_embeddings()(hidden)[..., : latent.n_answer_tokens]
    return functional.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), ignore_index=_IGNORED)


def _batches(latent: LatentModel, lesson: Lesson, target: int, how: Fitting) -> list[_Batch]:
    found = []
    for numbers, group in by_length(lesson.questions):
        targets = _targets([lesson.answers[number] for number in numbers], latent.end)
        for questions, own in zip(group.split(how.batch), targets.split(how.batch), strict=True):
            *_, step = steps(latent, questions, target)
            found.append(_Batch(_plain(step), own))
    return found


def _plain(step: Step) -> Step:
    """The same outside of inference mode, whose tensors no gradient passes."""
    before, after = (_copied(state) for state in (step.before, step.after))
    return Step(step.number, before, step.z.clone(), after)


def _copied(state: State) -> State:
    own = branch(state)
    for kept in own.cache.layers:
        kept.keys, kept.values = kept.keys.clone(), kept.values.clone()
    return State(own.cache, own.h.clone(), own.n_latents)


def _targets(answers: Sequence[Answer], end: int) -> torch.Tensor:
    longest = max(map(len, answers)) + 1
    return torch.tensor([[*answer, end, *[_IGNORED] * (longest - len(answer) - 1)] for answer in answers])
