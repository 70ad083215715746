"""Rollouts by the thousand: continuations of shared prefixes, sampled exactly, each from random numbers of its own.

1. A sequence (prompt + CoT) is encoded once. A rollout continues `sequence[:prefix_length]`: it attends to the first
   `prefix_length - 1` keys and values of the one shared encoding, without a copy, and to a tail of its own that begins
   with the prefix's last token.
2. Rows of many chunks and CoTs make one batch; a row that ends leaves, and the next request takes its place.
3. Attention over shared keys is one matrix product for all rows of a sequence, with each row's length as a mask;
   attention over tails is one product for each page of 64 positions. Both are joined by the common maximum and sum of
   the softmax: exact, not approximate.
4. The next token is drawn by inverting the cumulative distribution of the nucleus at a uniform number that depends on
   the request's seed and the step alone.

**What a rollout depends on**: the model, its whole sequence, the parameters and its seed, and nothing else: not the
other rows, their number or order, nor whether the run was resumed. Random numbers are only half of that; sums in
another order give other last bits, and sooner or later another token. So no sum of a row runs over a length that other
rows determine: pages have a fixed size and are added in order, shared keys are always the whole sequence, and matrix
products get a multiple of 16 rows, from where on a row's result was found to be the same for every number of rows
(`test_sampling.py` checks it; products with 1 to 3 rows do differ).

transformers' own modules compute everything but attention, in a private copy of the model's module tree that shares its
weights. On a CPU the copy's linear layers are oneDNN's, in float32 and with weights packed once: more than twice as
fast as the default where MKL does not use AVX-512, for a second copy of the weights in memory.

A sequence may bear edits of the residual stream (`edits.Edit`): its keys and values are then those of the edited text,
and the edits that hold onward are made at every token generated from it, each row's own and no other's. Where an edit
asks for what another model reads, that model takes every token of the row too, before it, with a batch and a cache of
its own and by the same rules.

Families whose attention is more than softmax over all earlier positions (sliding windows, capped scores) and any family
not known here take the plain way: transformers' forward with its own cache, 16 rows of one prefix at a time. The API
and the promises are the same.
"""

from backend.models.sampling.draws import ROW_MULTIPLE, next_tokens, uniform
from backend.models.sampling.plain import PlainRows
from backend.models.sampling.requests import (
    Sample,
    SampleRequest,
    SamplingError,
    SamplingParameters,
    end_tokens,
    require_end,
)
from backend.models.sampling.sampler import prepare, sample, sampled_in_steps, uses_shared_prefixes
from backend.models.sampling.shared import PAGE, SharedRows

__all__ = [
    "PAGE",
    "ROW_MULTIPLE",
    "PlainRows",
    "Sample",
    "SampleRequest",
    "SamplingError",
    "SamplingParameters",
    "SharedRows",
    "end_tokens",
    "next_tokens",
    "prepare",
    "require_end",
    "sample",
    "sampled_in_steps",
    "uniform",
    "uses_shared_prefixes",
]
