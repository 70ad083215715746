"""Texts that the base model writes freely, for a dictionary to learn from.

1. Text number k is what the model samples at temperature 1 after its first token alone (the tokenizer's beginning of a
   text, or where it has none its end), up to its end token, from a seed that follows from the study's seed and k.
2. They are sampled by the study's workers and kept in scratch, some at a time, whole or not at all; what is there is
   not sampled again. Which ones were sampled together changes none.
3. Of them so many are taken, in order, as have the tokens that are wanted, to the token: the last one is cut.

A text is its token ids, as they were sampled: cut anew, its words might be other tokens.
"""

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend.errors import AnchorscopeError
from backend.ids import seed_for, stable_id
from backend.models.loaded import LoadedModel
from precompute import models
from precompute.study import Model
from precompute.units import Context

RULE = 1  # of what is sampled: raise it when it changes
_GROUP = 16  # texts in a file
_LONGEST = 512  # tokens of a text, at most: a small model's text goes nowhere after more
_TEMPERATURE, _TOP_P = 1.0, 1.0


@dataclass(frozen=True)
class Task:
    """What a worker is asked: groups of texts, each a result."""

    makes: tuple[str, ...]
    groups: tuple[int, ...]
    begins: int
    longest: int
    seed: int
    rows: int


@dataclass(frozen=True)
class Written:
    texts: list[tuple[int, ...]]  # ids of each, the first token too
    facts: dict[str, Any]  # all that they can be sampled again from, and how many there are


def recipe(context: Context, max_tokens: int) -> dict[str, Any]:
    """All that the texts follow from, but the model's id; as JSON can hold it."""
    study = context.study
    return {
        "rule": RULE,
        "seed": study.seed,
        "temperature": _TEMPERATURE,
        "top_p": _TOP_P,
        "longest": min(max_tokens, _LONGEST),
        "sampled_as": models.sampling_spec(study, study.pair[0]).dtype,
    }


def written(context: Context, n_tokens: int, max_tokens: int) -> Written:
    """Texts with `n_tokens` between them, their first tokens not counted; `max_tokens` is the longest that one may be.

    Raises AnchorscopeError for a model that has no token to begin with, or that writes nothing.
    """
    base, made_by = context.study.pair[0], recipe(context, max_tokens)
    begins = _beginning(base)
    folder = context.scratch / f"base-texts-{stable_id('b', models.model_id(base), made_by)}"
    texts: list[tuple[int, ...]] = []
    n_groups = 0
    while (left := n_tokens - sum(len(text) - 1 for text in texts)) > 0:
        a_text: float = made_by["longest"] if not texts else (n_tokens - left) / len(texts)
        if not a_text:
            raise AnchorscopeError(f"{base.name} writes nothing from its first token: leave out crosscoder.base_texts.")
        numbers = range(n_groups, n_groups := n_groups + max(1, round(left / a_text / _GROUP)))
        _ensure(context, folder, numbers, begins, made_by["longest"])
        texts += [text for number in numbers for text in _read(folder, number)]
    taken = list(_first(texts, n_tokens))
    digest = hashlib.sha256(json.dumps(taken).encode()).hexdigest()
    return Written(taken, {**made_by, "begins": begins, "n": len(taken), "n_tokens": n_tokens, "sha256": digest})


def _beginning(base: Model) -> int:
    from backend.models.loading import load_tokenizer

    tokenizer = load_tokenizer(base.name, revision=base.revision)
    found = next((one for one in (tokenizer.bos_token_id, tokenizer.eos_token_id) if one is not None), None)
    if found is None:
        raise AnchorscopeError(
            f"{base.name} has no token that begins or ends a text, so it can write none: leave out"
            " crosscoder.base_texts."
        )
    return found


def _first(texts: Sequence[tuple[int, ...]], n_tokens: int) -> Iterator[tuple[int, ...]]:
    for text in texts:
        if n_tokens <= 0:
            return
        if len(text) > 1:
            yield text[: n_tokens + 1]
            n_tokens -= len(text) - 1


def _ensure(context: Context, folder: Path, numbers: Sequence[int], begins: int, longest: int) -> None:
    """These groups are on disk when it returns."""
    study = context.study
    missing = [number for number in numbers if not _file(folder, number).is_file()]
    tasks = [
        Task(tuple(map(str, some)), tuple(some), begins, longest, study.seed, study.engine.rows)
        for some in (missing[start :: context.engine.workers] for start in range(context.engine.workers))
        if some
    ]
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in context.run(write, tasks, model=models.sampling_spec(study, study.pair[0])):
        _keep(_file(folder, int(name)), rows)


def write(loaded: LoadedModel, task: Task) -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
    """Runs in a worker: each group as soon as all of its texts are finished."""
    from backend.models.sampling import SampleRequest, SamplingParameters, sample

    seeds = {
        number: seed_for("base text", task.seed, number)
        for group in task.groups
        for number in range(group * _GROUP, (group + 1) * _GROUP)
    }
    requests = [SampleRequest(str(number), "start", 1, seed) for number, seed in seeds.items()]
    parameters = SamplingParameters(_TEMPERATURE, _TOP_P, task.longest - 1)
    done: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for drawn in sample(loaded, {"start": [task.begins]}, requests, parameters, rows=task.rows):
        number = int(drawn.request_id)
        group = done[number // _GROUP]
        ids = [task.begins, *drawn.token_ids]
        group.append({"number": number, "seed": seeds[number], "finish": drawn.finish, "ids": ids})
        if len(group) == _GROUP:
            yield str(number // _GROUP), sorted(group, key=lambda one: one["number"])


def _file(folder: Path, group: int) -> Path:
    return folder / f"{group:06d}.jsonl"


def _keep(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    temporary = file.with_suffix(".tmp")
    with temporary.open("w", encoding="utf-8") as handle:
        handle.writelines(json.dumps(row) + "\n" for row in rows)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(temporary, file)


def _read(folder: Path, group: int) -> list[tuple[int, ...]]:
    lines = _file(folder, group).read_text(encoding="utf-8").splitlines()
    return [tuple(json.loads(line)["ids"]) for line in lines]
