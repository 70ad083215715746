"""In which order CoTs are taken where not all of them are."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from backend.ids import seed_for

_DRAW = "diverge"  # of the order: the stage that was the first to ask for one


def in_turn(cots: Sequence[Mapping[str, Any]], seed: int) -> list[Mapping[str, Any]]:
    """Problems take turns, in an order of the seed's; so do the writers within each, every next problem beginning with
    another one.
    """
    writers = sorted({cot["model_id"] for cot in cots})
    problems: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
    for cot in sorted(cots, key=lambda cot: seed_for(seed, _DRAW, cot["cot_id"])):
        problems.setdefault(cot["problem_id"], {}).setdefault(cot["model_id"], []).append(cot)
    queues = []
    for number, problem in enumerate(sorted(problems, key=lambda name: seed_for(seed, _DRAW, name))):
        turned = [*writers[number % len(writers) :], *writers[: number % len(writers)]]
        queues.append(_dealt([problems[problem].get(writer, []) for writer in turned]))
    return _dealt(queues)


def _dealt(queues: Sequence[Sequence[Mapping[str, Any]]]) -> list[Mapping[str, Any]]:
    """The first of each, then the second of each, and so on."""
    return [one for row in itertools.zip_longest(*queues) for one in row if one is not None]
