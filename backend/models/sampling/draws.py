"""The next token from logits and a uniform number, and the uniform numbers of a seed."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from backend.models.sampling.requests import SamplingError, SamplingParameters

ROW_MULTIPLE = 16  # rows of a matrix product: from where on a row is the same for any number of rows
ROW_MULTIPLE_SHORT = 64  # the same of numbers of 16 bits: of 16 and of 32 rows their sums are taken in another order
CANDIDATES = 64  # most probable tokens looked at before the whole vocabulary is sorted


def row_multiple(dtype: torch.dtype) -> int:
    """To a multiple of which rows are padded."""
    return ROW_MULTIPLE_SHORT if dtype.itemsize < 4 else ROW_MULTIPLE


def uniform(seed: int, step: int) -> float:
    """The number in [0, 1) that draws token `step` of the rollout with this seed: 53 bits of a blake2b digest."""
    digest = hashlib.blake2b(seed.to_bytes(8, "little") + step.to_bytes(8, "little"), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 11) * 2.0**-53


def next_tokens(logits: Tensor, uniforms: Sequence[float], parameters: SamplingParameters) -> list[int]:
    """One token for each row of `logits` (n, vocabulary), drawn at `uniforms` (n,).

    Tokens are ranked by falling probability; the answer is the first at which the cumulative probability of the kept
    ones exceeds uniform x their sum. Only the 64 most probable are ranked, unless they do not hold the nucleus: then
    the whole vocabulary of that row.
    """
    logits = logits.float()
    if parameters.temperature == 0:
        _refuse_nonfinite(logits.amax(-1))
        return logits.argmax(-1).cpu().tolist()
    scaled = logits / parameters.temperature
    n_candidates = min(max(CANDIDATES, parameters.top_k), scaled.shape[-1])
    values, ids = scaled.topk(n_candidates)
    _refuse_nonfinite(values[:, 0])
    if parameters.top_k:
        kth = values[:, min(parameters.top_k, n_candidates) - 1, None]
        probabilities = values.double().masked_fill(values < kth, -torch.inf).softmax(-1)
    else:
        probabilities = scaled.softmax(-1).gather(-1, ids).double()
    u = torch.tensor(uniforms, dtype=torch.float64, device=logits.device)
    ranks, is_open = _invert(probabilities, u, parameters.top_p)
    tokens = ids.gather(-1, ranks[:, None])[:, 0]
    if not parameters.top_k and n_candidates < scaled.shape[-1] and bool(is_open.any()):
        every, every_id = scaled[is_open].sort(dim=-1, descending=True, stable=True)
        ranks, _ = _invert(every.softmax(-1).double(), u[is_open], parameters.top_p)
        tokens[is_open] = every_id.gather(-1, ranks[:, None])[:, 0]
    return tokens.cpu().tolist()


def _invert(probabilities: Tensor, u: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """Rank drawn in each row of falling probabilities (n, k),
    and whether ranks beyond k could have been drawn or kept."""
    mass = probabilities.cumsum(-1)
    kept = mass - probabilities < top_p
    kept[:, 0] = True
    n_kept = kept.sum(-1)
    if top_p < 1:
        target = u * mass.gather(-1, n_kept[:, None] - 1)[:, 0]
        is_open = mass[:, -1] < top_p
    else:  # all are kept and their sum is 1, so that a draw within the first k needs no more of them
        target = u
        is_open = mass[:, -1] <= u
    return torch.minimum((mass <= target[:, None]).sum(-1), n_kept - 1), is_open


def _refuse_nonfinite(largest: Tensor) -> None:
    if not bool(torch.isfinite(largest).all()):
        raise SamplingError(
            "The model's logits are NaN or infinite, so nothing can be sampled. Load it in float32, or check its"
            " weights."
        )
