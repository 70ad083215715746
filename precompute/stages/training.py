"""How the study's models were trained, where a record of it is shipped with their weights: the run, and its metrics
step by step.
"""

import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from backend.errors import AnchorscopeError
from backend.ids import stable_id
from backend.models import embedded
from precompute import models
from precompute.estimates import Quantities
from precompute.units import Context, Finished, Unit

NAME, UNIT = "training", "trained model"
RULE = 1  # of what is read of a record: raise it when it changes
_STEP_METRICS = ("loss", "learning_rate")  # of a step, after its number and the tokens seen
_IN_COLUMNS = {
    "kind",
    "base",
    "seed",
    "started_at",
    "seconds",
    "n_weights",
    "versions",
    "commit",
    "steps",
}  # the rest is parameters

Count = Annotated[int, Field(ge=1, lt=2**63)]
Number = Annotated[float, Field(allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True, strict=True)


class Record(_Part):
    """What `train-reasoner` writes beside the adapter. What else it says is kept with the recipe."""

    kind: Literal["lora"]
    base: str
    base_revision: str | None
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    recipe: dict[str, Any]
    n_examples: Count
    n_weights: Count
    started_at: datetime | None  # UTC
    seconds: Number | None
    versions: dict[str, str]
    commit: str | None
    steps: Annotated[tuple[tuple[Count, Count, Number | None, Number | None], ...], Field(min_length=1)]


def record_of(name: str) -> Path | None:
    """The record of the training of the model called `name`, where one is shipped."""
    assets = embedded.REASONERS.get(name.removeprefix("embedded:")) if name.startswith("embedded:") else None
    return record if assets is not None and (record := assets / "training.json").is_file() else None


def _recorded(context: Context) -> dict[str, Path]:
    """Records by the id of the study's model that each is of."""
    found = {model_id: record_of(model.name) for model_id, model in models.by_id(context.study).items()}
    return {model_id: record for model_id, record in found.items() if record is not None}


def units(context: Context) -> list[Unit]:
    return [Unit(model_id, {"record": _read(record)[1]}) for model_id, record in _recorded(context).items()]


def estimate(of: Quantities) -> None:
    """No line: the few rows of a record cost nothing to read."""


def compute(context: Context, units: Sequence[Unit]) -> Iterator[Finished]:
    for unit in units:
        record, sha256 = _read(_recorded(context)[unit.unit_id])
        training_id = stable_id("t", unit.unit_id, sha256)
        tables = {
            "training_runs": [_run(training_id, unit.unit_id, record)],
            "training_metrics": _metrics(training_id, record),
        }
        yield Finished(unit, tables, {"record": sha256, "seed": record.seed})


def _read(file: Path) -> tuple[Record, str]:
    """The record in the file, and the file's sha256.

    Raises AnchorscopeError naming the file, the key, what it has and what is expected.
    """
    try:
        content = file.read_bytes()
        record = Record.model_validate_json(content)
    except OSError as error:
        raise AnchorscopeError(
            f"{file} cannot be read ({error.strerror}); expected the record of a training."
        ) from error
    except ValidationError as error:
        first, *others = error.errors()
        raise _malformed(file, _sentence(first) + (f"; and {len(others)} more faults" if others else "")) from error
    for before, after in itertools.pairwise(record.steps):
        if after[0] <= before[0] or after[1] < before[1]:
            raise _malformed(
                file, f"steps: steps and tokens seen must rise, but {list(before[:2])} is followed by {list(after[:2])}"
            )
    return record, hashlib.sha256(content).hexdigest()


def _malformed(file: Path, what: str) -> AnchorscopeError:
    return AnchorscopeError(
        f"{file} is not the record of a training: {what}. Train the model again, or restore the file from a copy."
    )


def _sentence(problem: Any) -> str:
    key = ".".join(map(str, problem["loc"])) or "the file"
    found = "" if problem["type"] in ("missing", "json_invalid") else f" = {problem['input']!r:.60}"
    return f"{key}{found}: {problem['msg']}"


def _run(training_id: str, model_id: str, record: Record) -> dict[str, Any]:
    """A row of training_runs."""
    began = record.started_at
    return {
        "training_id": training_id,
        "model_id": model_id,
        "kind": record.kind,
        "base": record.base,
        "started_at": began if began is None or began.tzinfo is None else began.astimezone(UTC).replace(tzinfo=None),
        "seconds": record.seconds,
        "seed": record.seed,
        "parameters": record.model_dump_json(exclude=_IN_COLUMNS),
        "n_tokens": record.steps[-1][1],
        "n_weights": record.n_weights,
        "versions": json.dumps(record.versions),
        "commit": record.commit,
    }


def _metrics(training_id: str, record: Record) -> list[dict[str, Any]]:
    """Rows of training_metrics."""
    return [
        {"training_id": training_id, "metric": metric, "step": step, "tokens": tokens, "value": value}
        for step, tokens, *values in record.steps
        for metric, value in zip(_STEP_METRICS, values, strict=True)
    ]
