"""What the worker measures of a vector: the tokens that it writes to the logits, what pushing along it costs at many
chunks, and what it does to whole chains of thought; each beside random vectors of the same size.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

import numpy as np
import torch

from backend.cot.answers import Judge
from backend.cot.thoughts import closing_tag, split_response
from backend.crosscoder.readout import logit_effects
from backend.geometry.sweep import Predictions, noise_floor, predicting_positions
from backend.lens.jacobian import NamedRows
from backend.live.jobs import Read, Reader, Steps, blocks, mean_kl, run
from backend.live.lens_map import lens_of
from backend.live.requests import Audit, Compared, Continue, CostOfVector, Lens, RequestError, TextsUnderVector
from backend.live.service import merge
from backend.models.interventions import Intervention

_KEPT = ("arm", "sample", "seed", "finish", "n_tokens", "degenerate")  # of a sample


def audit(reader: Reader, request: Lens | Audit, judge: Callable[[], Judge]) -> Steps:
    """The steps of a request about a vector."""
    match request:
        case Lens():
            return _lens(reader, request)
        case CostOfVector():
            return _cost(reader, request)
        case TextsUnderVector():
            return _texts(reader, request, judge)
        case _:
            assert_never(request)


@torch.inference_mode()
def _lens(reader: Reader, request: Lens) -> Steps:
    """Of unit vectors, carried by the lens: v̂ times the gain of the final norm, times the unembedding, over all tokens
    standardised.

    Neither the norm's division nor its bias takes part, so that the effect is linear in v̂: a push along −v̂ has the
    same tokens with the other sign. A constant added to every logit changes no prediction: the mean is taken away.
    """
    rows = torch.from_numpy(np.stack([request.vector, *request.controls]).astype(np.float32))
    if rows.shape[1] != reader.loaded.d_model:
        raise RequestError(
            f"The vector has {rows.shape[1]} values, but the residual stream has {reader.loaded.d_model}."
        )
    effects = logit_effects(_carried(reader, rows, request), reader.loaded).double()
    spread = effects.std(-1, keepdim=True)
    z = (effects - effects.mean(-1, keepdim=True)) / spread
    decode = reader.loaded.tokenizer.decode

    def tokens(largest: bool) -> list[list[Any]]:
        found = z[0].topk(min(request.n, z.shape[1]), largest=largest)
        pairs = zip(found.indices.tolist(), found.values.tolist(), strict=True)
        return [[decode([token]), value, float(effects[0, token])] for token, value in pairs]

    yield (
        "part",
        {
            "top": tokens(True),
            "bottom": tokens(False),
            "spread": float(spread[0]),
            "random_spread": spread[1:, 0].tolist(),
            "random_largest": z[1:].abs().amax(-1).tolist(),
            "n_tokens": z.shape[1],
        },
    )


def _carried(reader: Reader, rows: torch.Tensor, request: Lens) -> torch.Tensor:
    """The vectors at the last block's output, as the lens carries a difference of streams: without what it adds to
    each.
    """
    lens = lens_of(reader.loaded, request.lens)
    if isinstance(lens, NamedRows):
        raise RequestError(
            "This Jacobian lens was averaged for named tokens alone: it has no matrices to carry a vector with. Choose"
            " another lens, or have the whole matrices averaged."
        )
    if request.layer is None:
        return rows
    if not lens.reads(request.layer):
        raise RequestError(f"This lens does not read layer {request.layer}.")
    rows = rows.to(reader.loaded.model.device)
    return lens.carried(rows, request.layer) - lens.carried(torch.zeros_like(rows), request.layer)


@dataclass(frozen=True)
class _AtChunk:
    """A chunk of a text that the model has read."""

    read: Read
    span: tuple[int, int]
    base: Predictions

    def kl(self, intervention: Intervention, betas: Sequence[float]) -> list[float]:
        """KL(steered ‖ unsteered) at each β, nats, mean over the chunk's tokens."""
        kl: list[float] = []
        for some in blocks(betas, len(predicting_positions(self.span))):
            kl += mean_kl(self.base, self.read, self.span, [intervention.with_beta(beta) for beta in some])
        return kl


@torch.inference_mode()
def _cost(reader: Reader, request: CostOfVector) -> Steps:
    """KL(β) at each chunk: along the vector, and along every control at every β but 0."""
    pushes = [beta for beta in request.betas if beta]
    yield "part", {"betas": list(request.betas), "pushes": pushes, "chunks": []}
    for number, (text, chunk_id) in enumerate(request.chunks):
        yield "progress", (number, len(request.chunks))
        read = reader.read(text)
        span = read.span(chunk_id)
        if not (predicting := predicting_positions(span)):
            continue  # a chunk without tokens of its own has no KL
        at = _AtChunk(read, span, Predictions(read.encoded, predicting))
        own, random = at.kl(request.intervention, request.betas), []
        for vector in request.controls:
            random.append(at.kl(request.intervention.with_vector(vector), pushes))
            yield "progress", (number, len(request.chunks))
        floor = noise_floor(reader.loaded, read.token_ids, {chunk_id: span}, encoded=read.encoded)[chunk_id]
        found = {"chunk_id": chunk_id, "n_tokens": len(predicting), "kl": own, "random": random, "noise_floor": floor}
        yield "part", {"chunks": [found]}


def _texts(reader: Reader, request: TextsUnderVector, judge: Callable[[], Judge]) -> Steps:
    """Chains of thought of each question under three arms, which share their random numbers sample by sample."""
    yield "part", {"samples": []}
    for number, (problem, text) in enumerate(request.questions):
        compared = Compared(text, None, "after", request.intervention)
        turn = np.arange(number * request.n, (number + 1) * request.n) % max(1, len(request.controls))
        random = tuple(request.controls[k] for k in turn) if request.controls else ()
        asked = Continue(compared, request.sampling, request.seed, request.n, controls=random)
        found: dict[str, Any] = {}
        for kind, payload in run(reader, asked, judge):
            if kind == "part":
                merge(found, payload)
            yield "progress", (number, len(request.questions))
        prompt = reader.read(text).prompt
        rows = [
            {"problem_id": problem, **{name: row[name] for name in _KEPT}, **_thought(reader, row["text"], prompt)}
            for row in found["samples"]
        ]
        yield "part", {"samples": rows}


def _thought(reader: Reader, text: str, prompt: str) -> dict[str, Any]:
    """The text, its thought's length in tokens of its own, and whether the thought was closed: of one that was not, the
    length is what was written of it. Of a text without tags all is thought.
    """
    cot, after = split_response(text, closing_tag(text, prompt))
    n_tokens = len(reader.loaded.tokenizer(cot, add_special_tokens=False)["input_ids"])
    return {"text": text, "thinking_tokens": n_tokens, "thought_closed": after is not None}
