"""Numbers near the right one: does a lens say them more often than chance?

1. Of each problem the near misses of a kind are numbers: twice the answer, the answer plus or minus an operand, what
   lies within 3 % of it. The answer itself is none, nor is a result on the way to it or a number of the question:
   these have reasons of their own to be said.
2. Compared are wrong numbers alone, which are none of these: of the probability that a lens gives to them, the share on
   near misses; and of the problems whose top token is one, the share where it is a near miss. Problems without any near
   miss take no part.
3. Chance by answers: the same share if the number were drawn by how often each is the answer of problems that are not
   scored. Chance by readings: if it were drawn from what the lens says of the other scored problems at this place, so
   that a number which it always says counts for nothing.
4. The excess over each is paired by problem: mean, bootstrap interval, flips of signs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from backend.latent.kinds import LatentError
from backend.registry import Registry
from backend.statistics.columns import column_means, known

if TYPE_CHECKING:
    from backend.latent.problems import LatentProblem

CLOSE = 0.03  # of the answer


@dataclass(frozen=True)
class NearMiss:
    name: str
    label: str
    words: str
    is_near: Callable[[int, int, Sequence[int]], bool]  # of a number, the answer and the operands


NEAR_MISSES: Registry[NearMiss] = Registry(
    "near miss",
    NearMiss("twice", "twice the answer", "2a", lambda number, answer, _: number == 2 * answer),
    NearMiss(
        "operand",
        "the answer ± an operand",
        "a + x or a − x, x a number of the question other than 0",
        lambda number, answer, operands: any(x and abs(number - answer) == x for x in operands),
    ),
    NearMiss(
        "close",
        "within 3 %",
        "at most 3 % from a",
        lambda number, answer, _: abs(number - answer) <= CLOSE * abs(answer),
    ),
    error=LatentError,
)
ANY = "any"  # of these


@dataclass(frozen=True, eq=False)
class Sets:
    """Which numbers count for each problem."""

    numbers: tuple[int, ...]  # of the vocabulary
    wrong: np.ndarray  # (n_problems, n_numbers): neither answer, intermediate nor operand
    near: dict[str, np.ndarray]  # by kind, and ANY: likewise, a part of `wrong`
    frequency: np.ndarray  # (n_numbers,): of answers of problems that are not scored


def sets_of(numbers: Sequence[int], scored: Sequence["LatentProblem"], others: Sequence["LatentProblem"]) -> Sets:
    """Of problems whose answers are whole numbers."""
    wrong = np.ones((len(scored), len(numbers)), dtype=bool)
    near = {name: np.zeros_like(wrong) for name in NEAR_MISSES}
    for row, problem in enumerate(scored):
        answer, operands = int(problem.answer), _whole(problem.operands)
        taken = {answer, *operands, *_whole(problem.intermediates)}
        for column, number in enumerate(numbers):
            wrong[row, column] = number not in taken
            for name, kind in NEAR_MISSES.items():
                near[name][row, column] = wrong[row, column] and kind.is_near(number, answer, operands)
    near[ANY] = np.any(list(near.values()), axis=0)
    answers = [int(problem.answer) for problem in others if _is_whole(problem.answer)]
    counts = np.array([answers.count(number) for number in numbers], dtype=np.float64)
    return Sets(tuple(numbers), wrong, near, counts / max(counts.sum(), 1.0))


def _is_whole(text: str) -> bool:
    return text.removeprefix("-").isdecimal()


def _whole(texts: Sequence[str]) -> tuple[int, ...]:
    return tuple(int(text) for text in texts if _is_whole(text))


def near_rows(sets: Sets, mass: np.ndarray, top: np.ndarray, *, seed: int) -> list[dict[str, Any]]:
    """One row a position, kind and measure; `step` counts from 0. `mass` (n_problems, n_steps, n_numbers) is the
    probability of each number, `top` (n_problems, n_steps) the place among the numbers of the top token, −1 where it is
    none.
    """
    rows, columns = [], []
    for step in range(mass.shape[1]):
        for measure, weights in (("probability", mass[:, step]), ("top", _says(top[:, step], len(sets.numbers)))):
            for name, near in sets.near.items():
                found = _share(weights, near, sets.wrong)
                by_answers = _share(np.broadcast_to(sets.frequency, weights.shape), near, sets.wrong)
                by_readings = _share(weights.sum(0) - weights, near, sets.wrong)
                columns += [found, found - by_answers, found - by_readings]
                chance = {"chance_answers": by_answers, "chance_readings": by_readings}
                rows.append(
                    {"step": step, "kind": name, "measure": measure}
                    | {key: _mean(value[~np.isnan(found)]) for key, value in chance.items()}
                )
    of = column_means(np.stack(columns, 1), seed=seed, tested=True)
    for number, row in enumerate(rows):
        share, answers, readings = 3 * number, 3 * number + 1, 3 * number + 2
        row |= {"share": known(of.mean[share]), "ci_low": known(of.low[share]), "ci_high": known(of.high[share])}
        for name, column in (("answers", answers), ("readings", readings)):
            row[f"excess_{name}"] = known(of.mean[column])
            row[f"excess_{name}_low"] = known(of.low[column])
            row[f"excess_{name}_high"] = known(of.high[column])
            row[f"p_{name}"] = known(of.p[column])
        row["n_problems"] = int(of.n[share])
    return rows


def _says(top: np.ndarray, n_numbers: int) -> np.ndarray:
    """(n_problems, n_numbers): 1 at the number that is the top token."""
    says = np.zeros((len(top), n_numbers))
    is_number = top >= 0
    says[np.flatnonzero(is_number), top[is_number]] = 1.0
    return says


def _share(weights: np.ndarray, near: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """(n_problems,): of the weight on wrong numbers, the share on near ones; NaN where there is none, or no number is
    near.
    """
    total = (weights * wrong).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where((total > 0) & near.any(1), (weights * near).sum(1) / total, np.nan)


def _mean(values: np.ndarray) -> float | None:
    found = values[~np.isnan(values)]
    return float(found.mean()) if len(found) else None
