"""Audits of a vector of the library: what is asked for, and what is kept of it.

1. The cost: KL(β) at a seeded sample of the study's chunks, along the vector and along random vectors of its norm.
2. The texts: chains of thought of a seeded sample of the study's problems, unsteered, under the vector and under the
   random vectors, which take the samples in turn; all three draw the same random numbers.

Both push with `add`, in RMS of the residual stream, at the vector's own layer: the cost at the token before the chunk,
as KL(β) everywhere else, the texts from the end of the prompt on. Both are sampled anew for every vector from the seed
alone, so that two vectors are audited on the same chunks and problems.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from backend.cot.prompts import usual
from backend.geometry import directions
from backend.ids import seed_for
from backend.live.available import Choice
from backend.live.kept import without_nan
from backend.live.requests import Audit, CostOfVector, Lens, Sampling, TextsUnderVector, experiment_id
from backend.live.service import Status
from backend.live.study_texts import text_of_cot, text_of_question
from backend.models.interventions import UNITS, Intervention
from backend.schema.provenance import commit, versions
from backend.store.library import KeptVector, Library

if TYPE_CHECKING:
    from backend.store.store import Store

UNIT = "rms"
BETA = UNITS[UNIT].usual  # of the texts, and where the cost is compared
_PUSHES = (BETA / 4, BETA, UNITS[UNIT].most)
BETAS = (*(-beta for beta in reversed(_PUSHES)), 0.0, *_PUSHES)
N_RANDOM = 19  # with as many, the least p that a rank among them can have is 1/20


@dataclass(frozen=True)
class Asked:
    """How much an audit samples."""

    seed: int = 1
    n_chunks: int = 8
    n_problems: int = 8
    n_texts: int = 2  # of each problem and arm
    max_new_tokens: int = 192


def controls(kept: KeptVector, seed: int) -> tuple[np.ndarray, ...]:
    """Random unit vectors of the vector's width: the same ones in every audit of this seed and layer."""
    made = directions.random(N_RANDOM, len(kept.vector), model_id=kept.model_id, layer=kept.layer, seed=seed)
    return tuple(direction.vector for direction in made.made)


def lens_request(kept: KeptVector, seed: int) -> Lens:
    return Lens(kept.unit, controls(kept, seed))


def cost_request(store: "Store", kept: KeptVector, choice: Choice, asked: Asked) -> CostOfVector:
    """Of chunks drawn from all of the study's. Raises RequestError where there are none."""
    chunks = _drawn(store.chunk_ids(), asked.n_chunks, asked.seed, "chunks")
    texts = tuple((text_of_cot(store, chunk, choice.model_id), chunk) for chunk, _ in chunks)
    return CostOfVector(texts, _push(kept, "anchor", 0.0), BETAS, controls(kept, asked.seed))


def texts_request(store: "Store", kept: KeptVector, choice: Choice, asked: Asked) -> TextsUnderVector:
    """Of problems drawn from those that have a chain of thought. Raises RequestError where there are none."""
    rows = store.problem_index()
    problems = _drawn(sorted(zip(rows["problem_id"], rows["question"], strict=True)), asked.n_problems, asked.seed, "p")
    under = usual(store.prompts().to_dict("records"), [choice.model_id])[choice.model_id]
    return TextsUnderVector(
        tuple((problem, text_of_question(question, under)) for problem, question in problems),
        _push(kept, "onward", BETA),
        Sampling(max_new_tokens=asked.max_new_tokens),
        asked.seed,
        asked.n_texts,
        controls(kept, asked.seed),
    )


def keeper(study: Path, vector_id: str, choice: Choice, request: Audit) -> Callable[[Status], None]:
    """For `LiveService.submit`: keeps what the audit gave, when it ends, whoever is still looking."""

    def keep(status: Status) -> None:
        measured = status.result.get("chunks" if isinstance(request, CostOfVector) else "samples")
        if measured and status.state in ("finished", "stopped"):
            Library(study).keep_audit(_row(vector_id, choice, request, status))

    return keep


def _row(vector_id: str, choice: Choice, request: Audit, status: Status) -> dict[str, Any]:
    return {
        "audit_id": experiment_id(choice.model_id, request),
        "vector_id": vector_id,
        "created_at": datetime.now(UTC).replace(tzinfo=None),
        "model_id": choice.model_id,
        "model": choice.model.name,
        "parameters": json.dumps(_parameters(request), sort_keys=True),
        "results": json.dumps(without_nan(status.result)),
        "state": status.state,
        "seconds": status.seconds,
        "versions": json.dumps(versions(), sort_keys=True),
        "commit": commit(),
    }


def _parameters(request: Audit) -> dict[str, Any]:
    """Everything that shaped the result and is not in it; the random vectors follow from the seed and their number."""
    push = request.intervention
    shared = {"place": push.place, "unit": push.unit, "layers": list(push.layers), "n_random": len(request.controls)}
    if isinstance(request, CostOfVector):
        return shared | {"what": "cost", "betas": list(request.betas), "chunks": [chunk for _, chunk in request.chunks]}
    return shared | {
        "what": "texts",
        "beta": push.beta,
        "seed": request.seed,
        "n": request.n,
        "sampling": asdict(request.sampling),
        "problems": [problem for problem, _ in request.questions],
    }


def _push(kept: KeptVector, place: str, beta: float) -> Intervention:
    return Intervention((kept.layer,), place, "add", kept.unit, beta, UNIT)


def _drawn(among: list[tuple[str, str]], n: int, seed: int, what: str) -> list[tuple[str, str]]:
    """`n` of them, or all where there are fewer, in their order: the same for the same seed."""
    chosen = np.random.default_rng(seed_for(seed, "audit", what)).permutation(len(among))[:n]
    return [among[number] for number in sorted(chosen)]
