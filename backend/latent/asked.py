"""Problems as a latent model is asked them, and what it writes as they are counted."""

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from backend.latent.loop import LatentModel
    from backend.latent.problems import LatentProblem

RULE = 1  # of what counts as an answer, and as a right one: raise it when it changes
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


def question_ids(model: "LatentModel", question: str) -> list[int]:
    """Token ids of the question alone; what follows it is the model's `before`."""
    return list(model.tokenizer(question)["input_ids"])


def by_length(questions: Sequence[Sequence[int]], at_once: int | None = None) -> "list[tuple[list[int], torch.Tensor]]":
    """Token ids of questions, put together where they are as long, so that rows need no padding: their numbers, and
    (n, n_tokens), n at most `at_once`.
    """
    import torch

    groups: dict[int, list[int]] = defaultdict(list)
    for number, question in enumerate(questions):
        groups[len(question)].append(number)
    parts = [
        own[first : first + (at_once or len(own))]
        for own in groups.values()
        for first in range(0, len(own), at_once or len(own))
    ]
    return [(part, torch.tensor([list(questions[number]) for number in part])) for part in parts]


def batches(
    model: "LatentModel", problems: Sequence["LatentProblem"], at_once: int = 512
) -> "list[tuple[list[int], torch.Tensor]]":
    """Places in `problems` and their questions (n, n_tokens), of equal length each time."""
    return by_length([question_ids(model, problem.question) for problem in problems], at_once)


def answer_of(model: "LatentModel", tokens: Sequence[int]) -> str | None:
    """The answer of what was written: its last number, commas removed; None where it has none."""
    found = _NUMBER.findall(model.tokenizer.decode(list(tokens), skip_special_tokens=True))
    return found[-1].replace(",", "") if found else None


def is_right(answer: str | None, truth: str) -> bool | None:
    """Whether an answer is the number that is right; None where there is none."""
    return None if answer is None else float(answer) == float(truth)
