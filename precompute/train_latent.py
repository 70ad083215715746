"""`train-latent`: our own latent reasoner and its two siblings without recurrence, on the same problems.

1. The batch of a step follows from the task, the seed and the step alone: how many steps its problems have, whether
   they have a distractor, the number of latents. So all siblings of a seed see the same, in the same order, and begin
   with the same language model.
2. The teacher learns alone first; then teacher and student together (`backend.latent.training`), on problems of every
   length, the short ones among them.
3. The student has as many latents as the problem has steps. Once it has learned that, only in half of the batches: in
   the others 0 to all of them, drawn, so that it answers with fewer and with more.
4. AdamW; the rate is level until the number of latents is drawn, then falls by a cosine. Every half minute a
   checkpoint, whole or not at all; the same command goes on from it, and what comes out is the same bit for bit.
5. At the end the weights are rounded to float16 (what is on disk is what is measured), and the folder is written.
"""

import json
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backend.errors import AnchorscopeError
from backend.ids import seed_for, stable_id
from backend.latent.fresh import Shape, fresh
from backend.latent.tasks import DISTRACTORS, OURS, GeneratedTask
from backend.registry import Registry
from backend.schema.provenance import commit, versions

if TYPE_CHECKING:
    import torch

    from backend.latent.loop import LatentModel


class TrainingError(AnchorscopeError):
    """A task or a checkpoint that cannot be trained from."""


@dataclass(frozen=True)
class Recipe:
    """All that shapes a latent model but its sibling and seed. Steps are the training's unless said otherwise."""

    name: str = "permutations"  # of its task
    lengths: tuple[int, ...] = (1, 2, 3)  # steps of the problems
    teacher: int = 1000  # of the teacher alone, at first
    mixed: int = 2200  # from this one on the number of latents is drawn
    steps: int = 3000  # in all
    batch: int = 64
    learning_rate: float = 2e-3
    last_rate: float = 1e-5
    warmup: int = 100
    gamma: float = 1.0  # weight of the distance to the teacher
    shape: Shape = field(default_factory=Shape)


RECIPES = Registry("recipe of latent models", *(Recipe(task.name) for task in OURS), error=TrainingError)
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Lesson:
    """What one training step learns from."""

    n_steps: int
    has_distractor: bool
    n_latents: int  # of the student
    seed: int


def task_of(recipe: Recipe) -> GeneratedTask:
    return next(task for task in OURS if task.name == recipe.name)


def lesson(recipe: Recipe, seed: int, step: int) -> Lesson:
    drawn = random.Random(seed_for("latent step", recipe.name, seed, step))
    n_steps, has_distractor = drawn.choice(recipe.lengths), drawn.randrange(DISTRACTORS) == 0
    n_latents = drawn.choice((n_steps, drawn.randint(0, recipe.shape.n_latents)))
    return Lesson(n_steps, has_distractor, n_steps if step < recipe.mixed else n_latents, drawn.getrandbits(60))


def rate(recipe: Recipe, step: int) -> float:
    """Learning rate of a step from 0: a linear warm-up, then level, and a cosine while the latents are drawn."""
    if step < recipe.mixed:
        return recipe.learning_rate * min(1.0, (step + 1) / recipe.warmup)
    done = (step - recipe.mixed) / (recipe.steps - recipe.mixed)
    return recipe.last_rate + (recipe.learning_rate - recipe.last_rate) * (1 + math.cos(math.pi * done)) / 2


@dataclass
class Course:
    """A training as far as it has come."""

    latent: "LatentModel"
    recipe: Recipe
    seed: int
    optimizer: "torch.optim.AdamW"
    learned: "dict[str, torch.Tensor]"
    curve: list[list[float]] = field(default_factory=list)  # of each step: teacher's, student's loss and the distance
    n_tokens: int = 0  # seen, latents included, the question counted once
    started_at: str = ""
    seconds: float = 0.0  # of the processor

    @property
    def identity(self) -> str:
        return identity(self.recipe, self.latent.sibling, self.seed)

    def step(self) -> None:
        from torch.nn.utils import clip_grad_norm_

        number, began = len(self.curve), time.process_time()
        for group in self.optimizer.param_groups:
            group["lr"] = rate(self.recipe, number)
        loss, said = self._loss(number)
        self.optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(self.learned.values(), 1.0)
        self.optimizer.step()
        self.curve.append(said)
        self.seconds += time.process_time() - began

    def _loss(self, number: int) -> "tuple[torch.Tensor, list[float]]":
        from backend.latent import training

        asked = lesson(self.recipe, self.seed, number)
        problems = task_of(self.recipe).lesson(
            self.recipe.batch, n_steps=asked.n_steps, seed=asked.seed, has_distractor=asked.has_distractor
        )
        batch = training.batch_of(self.latent, problems)
        n_words = batch.questions.shape[1] + asked.n_steps + 3  # <ans>, the answer, the end
        n_latents = min(asked.n_latents, self.latent.n_latents)
        alone = number < self.recipe.teacher
        self.n_tokens += len(problems) * (n_words if alone else n_words + n_latents + 4)  # and <bot>
        if alone:
            loss = training.teacher_loss(self.latent, batch)
            return loss, [loss.item()]
        parts = training.losses(self.latent, batch, n_latents)
        return parts.total(self.recipe.gamma), [parts.teacher.item(), parts.student.item(), parts.distance.item()]


def begin(recipe: Recipe, sibling: str, seed: int) -> Course:
    import torch

    from backend.latent import training

    latent = fresh(task_of(recipe).vocabulary, sibling=sibling, seed=seed, shape=recipe.shape)
    learned = training.weights(latent)
    for weight in learned.values():
        weight.requires_grad_(True)
    optimizer = torch.optim.AdamW(learned.values(), betas=(0.9, 0.98), weight_decay=0.01)
    return Course(latent, recipe, seed, optimizer, learned, started_at=datetime.now(UTC).isoformat(timespec="seconds"))


def train(
    recipe: Recipe,
    sibling: str,
    seed: int,
    work: Path,
    out: Path,
    *,
    minutes: float = math.inf,
    every: float = 30.0,
    say: Callable[[str], None] = print,
) -> bool:
    """Trains until the recipe's last step, or for so many minutes; whether it reached the last.

    Only then `out` receives the model. `work` holds the checkpoint, written every so many seconds. Raises TrainingError
    for a checkpoint of another recipe.
    """
    course = begin(recipe, sibling, seed)
    restore(course, work)
    began = saved = time.monotonic()
    while len(course.curve) < recipe.steps and time.monotonic() - began < 60 * minutes:
        course.step()
        if len(course.curve) % 100 == 0:
            losses = ", ".join(f"{value:.3f}" for value in course.curve[-1])
            say(f"{sibling}-{seed}, step {len(course.curve):,} of {recipe.steps:,}: {losses}; {course.seconds:.0f} s")
        if time.monotonic() - saved > every:
            store(course, work)
            saved = time.monotonic()
    store(course, work)
    if len(course.curve) < recipe.steps:
        return False
    finish(course, out)
    return True


def train_all(
    recipe: Recipe,
    siblings: Sequence[str],
    seeds: Sequence[int],
    work: Path,
    out: Path,
    *,
    minutes: float = math.inf,
    say: Callable[[str], None] = print,
) -> bool:
    """Trains each sibling of each seed that is not in `out` yet; whether all are now."""
    began = time.monotonic()
    for seed in seeds:
        for sibling in siblings:
            name = f"{sibling}-{seed}"
            if is_finished(recipe, sibling, seed, out / name):
                continue
            left = minutes - (time.monotonic() - began) / 60
            if not train(recipe, sibling, seed, work / recipe.name / name, out / name, minutes=left, say=say):
                return False
    return True


def is_finished(recipe: Recipe, sibling: str, seed: int, out: Path) -> bool:
    """Whether the model that these make lies in `out`."""
    from backend.latent import files

    if not files.is_one(out):
        return False
    return json.loads((out / files.NOTE).read_text(encoding="utf-8"))["facts"].get("identity") == identity(
        recipe, sibling, seed
    )


def identity(recipe: Recipe, sibling: str, seed: int) -> str:
    return stable_id("a", asdict(recipe), sibling, seed)


def finish(course: Course, out: Path) -> None:
    """Rounds the weights to float16 and writes the model with what made it."""
    from dataclasses import replace

    import torch

    from backend.latent import files

    with torch.no_grad():
        for weight in course.learned.values():
            weight.requires_grad_(False).copy_(weight.half())
    facts = {
        "identity": course.identity,
        "task": course.recipe.name,
        "seed": course.seed,
        "recipe": asdict(course.recipe),
        "n_weights": sum(weight.numel() for weight in course.learned.values()),
        "n_tokens": course.n_tokens,
        "cpu_minutes": course.seconds / 60,
        "started_at": course.started_at,
        "curve": _curve(course.curve),
        "versions": versions(),
        "commit": commit(),
    }
    files.save(replace(course.latent, facts=facts), out)


def _curve(losses: list[list[float]], width: int = 100) -> list[dict[str, Any]]:
    """Means over every so many training steps; of the student alone where it learned."""
    rows = []
    for first in range(0, len(losses), width):
        part = losses[first : first + width]
        of_student = [row for row in part if len(row) == 3]
        row: dict[str, Any] = {"step": first + len(part), "teacher": sum(row[0] for row in part) / len(part)}
        for n, name in enumerate(("student", "distance"), start=1):
            row[name] = sum(row[n] for row in of_student) / len(of_student) if of_student else None
        rows.append(row)
    return rows


def store(course: Course, folder: Path) -> None:
    from backend.models import checkpoints

    tensors = {f"weight.{key}": weight.detach().clone() for key, weight in course.learned.items()}
    for key, weight in course.learned.items():
        for slot, value in course.optimizer.state.get(weight, {}).items():
            tensors[f"{slot}.{key}"] = value.detach().clone()
    state = {key: getattr(course, key) for key in ("identity", "curve", "n_tokens", "started_at", "seconds")}
    checkpoints.save(folder, len(course.curve), tensors, state)


def restore(course: Course, folder: Path) -> None:
    """The course becomes that of the checkpoint, where there is one."""
    import torch

    from backend.models import checkpoints

    found = checkpoints.load(folder)
    if found is None:
        return
    if found.state["identity"] != course.identity:
        raise TrainingError(
            f"{folder} has a checkpoint of another recipe, sibling or seed. Name another folder, or delete it."
        )
    with torch.no_grad():
        for key, weight in course.learned.items():
            weight.copy_(found.tensors[f"weight.{key}"])
            slots = {slot: found.tensors.get(f"{slot}.{key}") for slot in ("step", "exp_avg", "exp_avg_sq")}
            if slots["step"] is not None:  # a projection has none while the teacher is alone
                course.optimizer.state[weight] = slots
    for key in ("curve", "n_tokens", "started_at", "seconds"):
        setattr(course, key, found.state[key])
