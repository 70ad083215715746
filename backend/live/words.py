"""The residual stream at single words, for the live worker: what an analogy is made of."""

import torch

from backend.live.jobs import Reader, Steps
from backend.live.requests import RequestError, Words
from backend.models.word_contexts import before, one_token
from backend.models.word_vectors import word_vectors


@torch.inference_mode()
def words(reader: Reader, request: Words) -> Steps:
    """`vectors` by word, and the model's revision. Raises WordError for a word of several tokens."""
    loaded = reader.loaded
    if not 0 <= request.layer < loaded.n_layers:
        raise RequestError(f"There is no layer {request.layer}: {loaded.name} has layers 0 to {loaded.n_layers - 1}.")
    tokens = [one_token(loaded.tokenizer, word, leading_space=True) for word in request.words]
    first = before(loaded.tokenizer, request.context)
    found = word_vectors(loaded, first, tokens, (request.layer,))[request.layer]
    yield "part", {"vectors": dict(zip(request.words, found, strict=True)), "revision": loaded.revision}
