"""Codes of a typed text, for the live worker: both models of a dictionary read the same tokens, and it encodes what
they do.
"""

import itertools
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from backend.crosscoder import stored
from backend.crosscoder.shards import require_one_tokenizer
from backend.live.jobs import Steps
from backend.live.requests import Codes, RequestError
from backend.models.residuals import record_residuals

if TYPE_CHECKING:
    from backend.crosscoder.dictionary import Dictionary
    from backend.models.loaded import LoadedModel

_ROWS = 1024  # tokens encoded at once


def codes(models: Sequence["LoadedModel"], request: Codes) -> Steps:
    """Token texts (joined they are prompt + text), how many of them are the prompt's, and the codes of what fires,
    rising by position.

    `positions`, `features` and `codes` are arrays with one element a code. `models` are the dictionary's, the base
    model first.
    """
    dictionary = _dictionary(request.study, request.dictionary_id)
    if len(models) != dictionary.n_models:
        raise RequestError(
            f"The dictionary is of {dictionary.n_models} models, and {len(models)} were given to read the text."
        )
    if len(models) > 1:
        require_one_tokenizer(models)
    tokens, offsets = _tokenised(models[0], request)
    steps = len(models) + 1
    yield "progress", (0, steps)
    streams = []
    for done, loaded in enumerate(models, start=1):
        streams.append(record_residuals(loaded, tokens, [request.layer])[request.layer][1:].float().cpu())
        yield "progress", (done, steps)
    with torch.inference_mode():
        found = torch.cat([dictionary.encode(rows) for rows in dictionary.side_by_side(streams).split(_ROWS)])
    rows, features = (found.abs() > dictionary.fires_above).nonzero(as_tuple=True)
    whole = request.prompt + request.text
    edges = [0, *(start for start, _ in offsets[1:]), len(whole)]
    yield (
        "part",
        {
            "tokens": [whole[start:end] for start, end in itertools.pairwise(edges)],
            "n_prompt": sum(start < len(request.prompt) for start, _ in offsets),
            "positions": (rows + 1).int().numpy(),
            "features": features.int().numpy(),
            "codes": found[rows, features].numpy(),
        },
    )


def _tokenised(loaded: "LoadedModel", request: Codes) -> tuple[list[int], list[tuple[int, int]]]:
    found = loaded.tokenizer(request.prompt + request.text, add_special_tokens=False, return_offsets_mapping=True)
    tokens, limit = found["input_ids"], getattr(loaded.model.config.get_text_config(), "max_position_embeddings", None)
    if len(tokens) < 2:
        raise RequestError("The text has a single token, and a text's first token has no codes. Write more.")
    if limit is not None and len(tokens) > limit:
        raise RequestError(f"The text has {len(tokens):,} tokens; {loaded.name} reads at most {limit:,}.")
    return tokens, found["offset_mapping"]


@lru_cache(maxsize=1)
def _dictionary(study: str, dictionary_id: str) -> "Dictionary":
    return stored.read(Path(study), dictionary_id)
