"""How much each chunk is attended to by those after it, as the model reads the text: one forward pass.

The attention of a later chunk j to chunk i, in one head, is the mean attention weight from j's tokens to i's, over
both: a long chunk does not get more because it is long (Thought Anchors averages alike). Weights are those of the whole
text, so what the prompt takes is missing from them.

What it cannot say: a weight is not an effect. A token may be attended to and its value be nothing, or its content may
have gone through another token before; and what sits at the first tokens of a text is a sink, not a message.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from backend.errors import AnchorscopeError
from backend.models.attention import AVERAGED, Means, attending
from backend.models.layers import layers_of, private_copy
from backend.models.residuals import checked_tokens

if TYPE_CHECKING:
    from backend.models.loaded import LoadedModel


class NoWeights(AnchorscopeError):
    """The family's attention gives no weights away, or its layers differ in how many heads they have."""


@dataclass(frozen=True, eq=False)
class ChunkAttention:
    """Of one text, chunks in reading order."""

    chunk_ids: tuple[str, ...]  # those with tokens
    n_tokens: tuple[int, ...]  # of each
    by_head: np.ndarray  # (n_layers, n_heads, n_chunks, n_chunks) float64: target, source; NaN of a layer without heads

    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Places of the sources and of the targets of all pairs, the source before the target."""
        return np.triu_indices(len(self.chunk_ids), 1)


@torch.inference_mode()
def chunk_attention(
    loaded: "LoadedModel", tokens: Sequence[int], spans: Mapping[str, tuple[int, int]]
) -> ChunkAttention:
    """Of the chunks with token spans [s, e) in the text, in reading order; those without tokens are left out. Raises
    NoWeights.
    """
    there = {name: span for name, span in spans.items() if span[0] < span[1]}
    n_tokens = tuple(end - start for start, end in there.values())
    means, model = Means(list(there.values())), loaded.model
    if there:
        config = model.config.get_text_config()
        trunk = layers_of(private_copy(model, config=attending(config, AVERAGED)).eval()).trunk
        trunk(
            input_ids=checked_tokens(tokens[: max(end for _, end in there.values())], model),
            use_cache=False,
            means=means,
        )
    heads = {found.shape[0] for found in means.by_layer.values()}
    if len(heads) != 1 and there:
        raise NoWeights(
            f"{loaded.name} is of the family {loaded.family}, whose attention "
            + ("has layers with different numbers of heads." if heads else "does not give its weights away.")
        )
    by_head = np.full((loaded.n_layers, *heads, len(there), len(there)), np.nan)
    for layer in means.by_layer:
        by_head[layer] = means.mean(layer).cpu().numpy()
    return ChunkAttention(tuple(there), n_tokens, by_head if there else np.empty((loaded.n_layers, 0, 0, 0)))
