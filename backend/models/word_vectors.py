"""The residual stream at words of one token, many words in a pass."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from backend.models.layers import layers_of, private_copy
from backend.models.residuals import checked_tokens, recording

if TYPE_CHECKING:
    from backend.models.loaded import LoadedModel


@torch.inference_mode()
def word_vectors(
    loaded: "LoadedModel", before: Sequence[int], token_ids: Sequence[int], layers: Sequence[int]
) -> dict[int, np.ndarray]:
    """(n_words, d_model) float32 by layer: the output of the block at each token, read behind the tokens `before`.

    All texts are equally long, so that none is padded.
    """
    parts = layers_of(private_copy(loaded.model))
    texts = torch.cat([checked_tokens((*before, token), loaded.model) for token in token_ids])
    with recording(parts.blocks, layers) as residuals:
        del parts.blocks[max(layers) + 1 :]  # of the copy: what lies above changes nothing below
        parts.trunk(input_ids=texts, use_cache=False)
    return {layer: residuals[layer][:, -1].float().cpu().numpy() for layer in layers}
