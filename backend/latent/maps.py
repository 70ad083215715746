"""All cells of one map: a model, one move, one coefficient; or the vectors fitted to it. As rows of tables.

A map has the differences of every pair of latents, and random vectors of their typical length, each added at every
target latent and answered at once and at the end. Unsteered answers of the same length stand beside them. What was
answered is kept for every problem, as numbers of the distinct answers.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from backend.ids import seed_for, stable_id
from backend.latent.asked import answer_of, is_right, question_ids
from backend.latent.fitted import Fitting, Lesson, fitted
from backend.latent.loop import LatentModel
from backend.latent.map_kinds import DIFFERENCES, FITTED, NONE, PAIR, RANDOM
from backend.latent.problems import LatentProblem
from backend.latent.published import Arm, Move
from backend.latent.rotary import Rotation, Unturned, rotation_of
from backend.latent.steering import Answer, Asked, Cell, means_of, steered_answers, unsteered_answers
from backend.latent.vectors import Vector, differences, pairs_of, random_like, stacked
from backend.statistics.paired import mcnemar_of_counts

UNMOVED = 0  # the target of unsteered answers

# columns that only maps of one kind have
_OF_ITS_KIND = dict.fromkeys(
    ("coefficient", "n_random", "fitting_steps", "fitting_rate", "fitting_batch", "n_fitted_on")
)
Rows = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class Setting:
    """What all maps of a study share."""

    scored: tuple[LatentProblem, ...]
    others: tuple[LatentProblem, ...]  # that means and fitted vectors are made from
    n_latents: int
    max_tokens: int
    n_random: int
    seed: int


@dataclass(frozen=True)
class Named:
    """What is stored of a vector beside its numbers."""

    kind: str
    vector: str  # its name within the map
    a: int | None = None
    b: int | None = None
    bound: float | None = None  # of a fitted one, in typical lengths of the differences


def moves_anything(sibling: str, move: Move) -> bool:
    """Whether the move can change an answer at all: a pause sibling feeds its embeddings whatever h is."""
    return not (sibling == "pause" and move.space == "h")


def difference_map(model: LatentModel, setting: Setting, move: Move, coefficient: float) -> Rows:
    """Differences of means and random vectors, at every target latent."""
    rotation = rotation_for(model, move)
    pairs = pairs_of(setting.n_latents)
    along = differences_for(model, setting, move, rotation)
    drawn = random_like(along, setting.n_random, seed=seed_for(setting.seed, move.name, coefficient))
    both = stacked([along, drawn]) * coefficient
    names = [Named(PAIR, f"{a}-{b}", a, b) for a, b in pairs]
    names += [Named(RANDOM, f"random-{number:03d}") for number in range(setting.n_random)]
    every = dict.fromkeys(range(1, setting.n_latents + 1), both)
    about = {"coefficient": coefficient, "typical_length": _typical(along), "n_random": setting.n_random}
    return _rows(model, setting, move, rotation, every, names, DIFFERENCES, about)


def fitted_map(
    model: LatentModel, setting: Setting, space: str, bounds: Sequence[float], how: Fitting | None = None
) -> Rows:
    """One vector fitted at each target latent within each bound, answered at once. Empty of a model that solves none of
    the problems that it would be fitted on.
    """
    how, move = how or Fitting(seed=setting.seed), Arm(space).move
    rotation = rotation_for(model, move)
    along = differences_for(model, setting, move, rotation)
    typical, lesson = _typical(along), lesson_of(model, setting)
    if not lesson.questions:
        return {}
    unit = along[[0]] * (1 / float(along.length[0]))
    like = stacked([unit * (bound * typical) for bound in bounds])
    every = {
        target: fitted(model, lesson, like, target=target, rotation=rotation, how=how)
        for target in range(1, setting.n_latents + 1)
    }
    names = [Named(FITTED, f"fitted-{bound:g}", bound=bound) for bound in bounds]
    about = {
        "typical_length": typical,
        "fitting_steps": how.steps,
        "fitting_rate": how.rate,
        "fitting_batch": how.batch,
        "n_fitted_on": len(lesson.answers),
    }
    return _rows(model, setting, move, rotation, every, names, FITTED, about)


def rotation_for(model: LatentModel, move: Move) -> Rotation:
    return Unturned() if move.rotated else rotation_of(model.model)


def differences_for(model: LatentModel, setting: Setting, move: Move, rotation: Rotation) -> Vector:
    """mean[A] − mean[B] of every pair, in the space in which the move adds them."""
    problems = setting.scored if move.scored_means else setting.others
    questions = [question_ids(model, problem.question) for problem in problems]
    means = means_of(model, questions, n_latents=setting.n_latents, space=move.vectors, rotation=rotation)
    found = differences(means, pairs_of(setting.n_latents))
    return found if move.space == move.vectors else found.taken_for(move.space)


def lesson_of(model: LatentModel, setting: Setting) -> Lesson:
    """The problems not scored that the model solves after all its latents, with the answers that it then gives."""
    questions = [tuple(question_ids(model, problem.question)) for problem in setting.others]
    answers = unsteered_answers(model, questions, n_latents=setting.n_latents, max_tokens=setting.max_tokens)
    given = answers[setting.n_latents]
    solved = [
        number
        for number, problem in enumerate(setting.others)
        if is_right(answer_of(model, given[number]), problem.answer)
    ]
    return Lesson(tuple(questions[number] for number in solved), tuple(given[number] for number in solved))


def _typical(vectors: Vector) -> float:
    """Root mean square of their lengths."""
    return float(vectors.length.pow(2).mean().sqrt())


def _rows(
    model: LatentModel,
    setting: Setting,
    move: Move,
    rotation: Rotation,
    vectors: Mapping[int, Vector],
    names: Sequence[Named],
    kind: str,
    about: Mapping[str, Any],
) -> Rows:
    questions = [question_ids(model, problem.question) for problem in setting.scored]
    asked = Asked(move.space, vectors, setting.n_latents, setting.max_tokens, ends=kind == DIFFERENCES)
    found = steered_answers(model, questions, asked, rotation)
    unsteered = unsteered_answers(model, questions, n_latents=setting.n_latents, max_tokens=setting.max_tokens)
    said = _Said(model, [problem.answer for problem in setting.scored])
    steering_id = stable_id("y", model.model_id, kind, move.name, about.get("coefficient"), setting.seed)
    lengths = {target: own.length.tolist() for target, own in vectors.items()}
    cells = [
        said.row(Named(NONE, NONE), Cell(0, UNMOVED, exit_), answers, answers, 0.0)
        for exit_, answers in unsteered.items()
    ]
    cells += [
        said.row(names[cell.vector], cell, answers, unsteered[cell.exit], lengths[cell.target][cell.vector])
        for cell, answers in found.items()
    ]
    steering = {
        "steering_id": steering_id,
        "model_id": model.model_id,
        "kind": kind,
        **asdict(move),
        **_OF_ITS_KIND,
        **about,
        "n_latents": setting.n_latents,
        "n_means": len(setting.scored if move.scored_means else setting.others),
        "seed": setting.seed,
        "problem_ids": [problem.problem_id for problem in setting.scored],
        "truths": [problem.answer for problem in setting.scored],
        **said.distinct(),
    }
    return {
        "latent_steerings": [steering],
        "latent_steering_cells": [{"steering_id": steering_id, **cell} for cell in cells],
    }


class _Said:
    """Distinct answers by number, and which of them are right."""

    def __init__(self, model: LatentModel, truths: Sequence[str]) -> None:
        self._model, self._truths = model, truths
        self._numbers: dict[Answer, int] = {}
        self._answers: list[str | None] = []

    def row(
        self, named: Named, cell: Cell, answers: Sequence[Answer], unsteered: Sequence[Answer], length: float
    ) -> dict[str, Any]:
        right, before = self._right(answers), self._right(unsteered)
        both = sum(a and b for a, b in zip(right, before, strict=True))
        n, n_right, n_before = len(right), sum(right), sum(before)
        tested = mcnemar_of_counts(both, n_before - both, n_right - both, n)
        return {
            **asdict(named),
            "target": cell.target,
            "exit": cell.exit,
            "length": length,
            "n": n,
            "n_right": n_right,
            "n_unsteered": n_before,
            "n_gained": n_right - both,
            "n_lost": n_before - both,
            "low": tested.low,
            "high": tested.high,
            "p": tested.p,
            "answers": [self._number(answer) for answer in answers],
        }

    def distinct(self) -> dict[str, list[str | None]]:
        """By number: what was written, its answer, and the answer of its first token alone."""
        tokens = list(self._numbers)
        return {
            "texts": [self._model.tokenizer.decode(list(answer)) for answer in tokens],
            "answers": list(self._answers),
            "first_answers": [answer_of(self._model, answer[:1]) for answer in tokens],
        }

    def _number(self, answer: Answer) -> int:
        if answer not in self._numbers:
            self._numbers[answer] = len(self._numbers)
            self._answers.append(answer_of(self._model, answer))
        return self._numbers[answer]

    def _right(self, answers: Iterable[Answer]) -> list[bool]:
        """An answer that was not given is not right."""
        return [
            is_right(self._answers[self._number(answer)], truth) is True
            for answer, truth in zip(answers, self._truths, strict=True)
        ]
