"""From an ended request to what is kept of it: the rows of the tables `experiments` and `experiment_samples`."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from backend.errors import AnchorscopeError
from backend.importance.along import along
from backend.importance.outcomes import arm_summary, compare, dose_response, dose_steps, importance_change
from backend.live.requests import Continue, ControlledDose, Curve, Dose, Request, Stream, experiment_id
from backend.live.service import Status
from backend.models.interventions import Intervention
from backend.schema.provenance import commit, versions
from backend.schema.tables import TABLES
from backend.store.experiments import Experiments

Kept = Stream | Curve | Continue | Dose
KINDS = {Stream: "stream", Curve: "curve", Continue: "continue", Dose: "dose", ControlledDose: "dose"}
_SAMPLE_COLUMNS, _THOUGHT_COLUMNS = (
    tuple(TABLES[table].columns) for table in ("experiment_samples", "experiment_thoughts")
)


@dataclass(frozen=True)
class About:
    """What the page knows of a run and the worker does not."""

    model_id: str
    model: str
    sentence: str  # the intervention in words
    direction_kind: str | None
    direction: dict[str, Any]  # how it was made
    cot_id: str | None = None  # None for a typed text
    chunk_id: str | None = None
    written_by: str | None = None
    stored: pd.DataFrame | None = field(
        default=None, compare=False, repr=False
    )  # rollouts on the chunk's other side: answer, is_correct
    controls: dict[str, Any] = field(default_factory=dict)  # how the random control vectors were made
    view: dict[str, str] = field(default_factory=dict)  # the page's controls, to put them back


@dataclass(frozen=True)
class Record:
    """Rows to keep. `results` is what `experiment["results"]` holds as JSON."""

    experiment: dict[str, Any]
    samples: list[dict[str, Any]]
    results: dict[str, Any]
    thoughts: list[dict[str, Any]] = field(default_factory=list)


def keeper(study: Path, about: About, request: Request) -> Callable[[Status], None]:
    """For `LiveService.submit`: keeps what the request gave, when it ends, whoever is still looking."""

    def keep(status: Status) -> None:
        record = record_of(about, request, status)
        if record is not None:
            Experiments(study).keep(record.experiment, record.samples, record.thoughts)

    return keep


def record_of(about: About, request: Request, status: Status) -> Record | None:
    """The rows of an ended request; None where it gave nothing worth keeping (it failed, or was stopped before its
    first result).
    """
    if not isinstance(request, Kept):
        return None
    kind = KINDS[type(request)]
    if not (status.state == "finished" or (status.state == "stopped" and _has_results(kind, status.result))):
        return None
    changed = request if isinstance(request, Curve) else request.compared
    intervention, text = changed.intervention, changed.text
    samples = status.result.get("samples", [])
    results = _results(request, status.result, about)
    name = experiment_id(about.model_id, request)
    experiment = {
        "experiment_id": name,
        "kind": kind,
        "created_at": datetime.now(UTC).replace(tzinfo=None),
        "cot_id": about.cot_id,
        "chunk_id": about.chunk_id,
        "model_id": about.model_id,
        "model": about.model,
        "written_by": about.written_by,
        "sentence": about.sentence,
        "layers": list(intervention.layers) if intervention else None,
        "place": intervention.place if intervention else None,
        "operation": intervention.operation if intervention else None,
        "beta": intervention.beta if intervention and kind in ("stream", "continue") else None,
        "unit": intervention.unit if intervention else None,
        "direction_kind": about.direction_kind,
        "direction": json.dumps(about.direction, sort_keys=True) if about.direction else None,
        "vector": np.asarray(intervention.vector, np.float32) if intervention else None,
        "prompt": text.prompt,
        "text": text.text,
        "parameters": json.dumps(
            {**_parameters(request), "controls_made": about.controls, "view": about.view}, sort_keys=True
        ),
        "seed": None if isinstance(request, Curve) else request.seed,
        "results": json.dumps(without_nan(results)),
        "state": status.state,
        "seconds": status.seconds,
        "versions": json.dumps(versions(), sort_keys=True),
        "commit": commit(),
    }
    named = [{**sample, "experiment_id": name} for sample in samples]
    rows = [{column: sample.get(column) for column in _SAMPLE_COLUMNS} for sample in named]
    thoughts = [{column: sample[column] for column in _THOUGHT_COLUMNS} for sample in named if "thought" in sample]
    return Record(experiment, rows, results, thoughts)


def _has_results(kind: str, result: dict[str, Any]) -> bool:
    if kind == "stream":
        return any(arm["tokens"] for arm in result.get("arms", {}).values())
    return bool(result.get("kl")) if kind == "curve" else bool(result.get("samples"))


def _results(request: Kept, result: dict[str, Any], about: About) -> dict[str, Any]:
    if isinstance(request, Stream | Curve):
        return result
    samples = pd.DataFrame(result["samples"])
    if isinstance(request, Continue):
        stored = about.stored if about.stored is not None else pd.DataFrame({"answer": [], "is_correct": []})
        stored = stored.assign(cluster=stored["answer"].map(result["clusters"]))
        arms = {arm: rows for arm, rows in samples.groupby("arm")}
        change = importance_change(arms["base"], arms["changed"], stored, request.compared.start, seed=request.seed)
        return {"arms": arm_summary(samples), "comparisons": compare(samples, seed=request.seed), "importance": change}
    kl = dict(zip(result.get("betas", []), result.get("kl", []), strict=True))
    steered = samples[samples["arm"] == "changed"]
    steps = dose_steps(steered, seed=request.seed)
    found = {"rows": dose_response(steered, kl), "steps": steps, "n": request.n}
    if isinstance(request, ControlledDose):
        controls: list[list[float]] = result.get("controls") or [[] for _ in request.controls]
        controls_kl = [dict(zip(result["betas"], own, strict=True)) if own else {} for own in controls]
        found |= along(samples, kl, controls_kl, n=request.n, seed=request.seed)
    return found


def _parameters(request: Kept) -> dict[str, Any]:
    """Everything that shapes the result and has no column of its own."""
    parameters: dict[str, Any] = {}
    if isinstance(request, Curve):
        parameters |= {"betas": list(request.betas), "controls": len(request.controls)}
        intervention: Intervention | None = request.intervention
    else:
        compared, intervention = request.compared, request.compared.intervention
        parameters |= {"start": compared.start, "sampling": vars(request.sampling), "wording": compared.wording}
    if intervention is not None and (gate := intervention.gate) is not None:
        parameters["gate"] = {"name": gate.name, "threshold": gate.threshold}
    if isinstance(request, Continue):
        parameters |= {"n": request.n, "truth": request.truth, "controls": len(request.controls)}
        parameters |= {"rewordings": dict(request.rewordings)} if request.rewordings else {}
    if isinstance(request, Dose):
        parameters |= {"n": request.n, "truth": request.truth, "betas": list(request.betas)}
    if isinstance(request, ControlledDose):
        parameters["controls"] = len(request.controls)
    return parameters


def without_nan(value: Any) -> Any:
    """JSON has no NaN: unknown is null."""
    if isinstance(value, dict):
        return {str(name): without_nan(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(inner) for inner in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def restored(row: dict[str, Any]) -> dict[str, Any]:
    """`results` of a kept experiment. Raises AnchorscopeError where they cannot be read."""
    try:
        found = json.loads(row["results"])
        if not isinstance(found, dict):
            raise ValueError("not an object")
    except (ValueError, TypeError) as error:
        raise AnchorscopeError(
            f"The results of experiment {row['experiment_id']} cannot be read ({error}). Run it again."
        ) from error
    return found
