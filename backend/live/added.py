"""From an ended *Resample now* to rows of the study's rollouts: `added` and `added_rollouts`.

Batches come whole, at the chunk and at the next one, so what a stopped request gave is as good as what a finished one
gave; nothing is kept of a request that gave none.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from backend.ids import cot_of, rollout_id
from backend.live.requests import Resample, experiment_id
from backend.live.service import Status
from backend.schema.provenance import commit, versions
from backend.schema.tables import TABLES
from backend.store.experiments import Experiments

_ROLLOUT = tuple(TABLES["added_rollouts"].columns)


def keeper(study: Path, model_id: str, request: Resample) -> Callable[[Status], None]:
    """For `LiveService.submit`: keeps what was drawn, when it ends, whoever is still looking."""

    def keep(status: Status) -> None:
        found = rows_of(model_id, request, status)
        if found is not None:
            Experiments(study).add_rollouts(*found)

    return keep


def rows_of(model_id: str, request: Resample, status: Status) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
    """The row of the drawing and those of its rollouts; None where it gave none."""
    samples = status.result.get("samples") or []
    if not samples:
        return None
    name = experiment_id(model_id, request)
    drawing = {
        "added_id": name,
        "created_at": datetime.now(UTC).replace(tzinfo=None),
        "cot_id": cot_of(request.chunk_id),
        "chunk_id": request.chunk_id,
        "model_id": model_id,
        "metric": request.metric,
        "convention": request.convention,
        "half_width": request.half_width,
        "stopped": status.result.get("stopped", "person" if status.state == "stopped" else "fault"),
        "n": len(samples),
        "seed": request.seed,
        "looks": json.dumps(status.result.get("looks") or [], allow_nan=False),
        "parameters": json.dumps(
            {
                "sampling": asdict(request.sampling),
                "batch": request.batch,
                "most": request.most,
                "encoder": request.encoder,
            },
            sort_keys=True,
        ),
        "versions": json.dumps(versions(), sort_keys=True),
        "commit": commit(),
    }
    return drawing, [_rollout(sample, name) for sample in samples]


def _rollout(sample: Mapping[str, Any], name: str) -> dict[str, Any]:
    chunk = sample["chunk_id"]
    own = {
        "added_id": name,
        "rollout_id": rollout_id(chunk, "resample", sample["sample"]),
        "cot_id": cot_of(chunk),
        "kind": "resample",
    }
    return {column: {**sample, **own}.get(column) for column in _ROLLOUT}
