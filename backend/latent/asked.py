"""Problems as a latent model is asked them, and what it writes as they are counted."""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
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


def batches(
    model: "LatentModel", problems: Sequence["LatentProblem"], at_once: int = 512
) -> "Iterator[tuple[list[int], torch.Tensor]]":
    """Places in `problems` and their questions (n, n_tokens), of equal length each time: rows need no padding."""
    import torch

    by_length: dict[int, list[tuple[int, list[int]]]] = defaultdict(list)
    for place, problem in enumerate(problems):
        ids = question_ids(model, problem.question)
        by_length[len(ids)].append((place, ids))
    for _, found in sorted(by_length.items()):
        for first in range(0, len(found), at_once):
            part = found[first : first + at_once]
            yield [place for place, _ in part], torch.tensor([ids for _, ids in part])


def answer_of(model: "LatentModel", tokens: Sequence[int]) -> str | None:
    """The answer of what was written: its last number, commas removed; None where it has none."""
    found = _NUMBER.findall(model.tokenizer.decode(list(tokens), skip_special_tokens=True))
    return found[-1].replace(",", "") if found else None


def is_right(answer: str | None, truth: str) -> bool | None:
    """Whether an answer is the number that is right; None where there is none."""
    return None if answer is None else float(answer) == float(truth)
