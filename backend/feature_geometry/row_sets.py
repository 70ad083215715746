"""Sets of directions of the residual stream, as the rows of a matrix: the one place that knows where each kind of set
comes from.

Rows are as they stand in the weights, neither normed nor centred: what a norm that follows does to them (Gemma 2 has
one after each MLP and each attention; every model one before its unembedding) is left out.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from backend.errors import AnchorscopeError
from backend.registry import Registry

if TYPE_CHECKING:
    from backend.models.loaded import LoadedModel


class NoRows(AnchorscopeError):
    """A set of directions that cannot be had: the message says what is missing."""


@dataclass(frozen=True)
class Source:
    """Where rows are read from: a model in memory and one of its layers, or the file of a dictionary."""

    loaded: "LoadedModel | None" = None
    layer: int | None = None  # 0-based block; a file that says another one is refused
    path: Path | None = None  # a file or folder that backend.crosscoder.files reads
    model: int = 0  # which of the dictionary's models
    scale: tuple[float, ...] | None = None  # of a file that lacks it; no cosine depends on it


@dataclass(frozen=True)
class RowKind:
    name: str
    words: str  # what its rows are, in a sentence
    row: str  # what one row is, in a word
    of_model: bool  # read from a model in memory; else from the file of a dictionary
    by_layer: bool  # one set a layer; else one a model
    keeps_pairs: bool  # whether single pairs of rows are worth keeping: of seeds and nulls of one training they are not
    read: Callable[[Source], np.ndarray]


def rows(kind: str, source: Source) -> np.ndarray:
    """(n, d) float32: the rows of that kind, d the width of the residual stream. Raises NoRows, and DictionaryError for
    a file that cannot be used.
    """
    found = np.asarray(ROW_KINDS[kind].read(source), np.float32)
    if not np.isfinite(found).all():
        raise NoRows(f"Some {ROW_KINDS[kind].words} are not finite.")
    return found


def _mlp_out(source: Source) -> np.ndarray:
    return _written(source, _MLP, is_attention=False)


def _attention_out(source: Source) -> np.ndarray:
    return _written(source, _ATTENTION, is_attention=True)


def _unembedding(source: Source) -> np.ndarray:
    from backend.models.layers import layers_of
    from backend.models.linear import weight_and_bias

    loaded = _model(source)
    if (found := weight_and_bias(layers_of(loaded.model).unembedding)) is None:
        raise NoRows(f"The unembedding of {loaded.name} is no plain matrix, so it has no rows.")
    if found[0].shape[1] != loaded.d_model:
        raise NoRows(f"The unembedding of {loaded.name} reads {found[0].shape[1]} values, not the residual stream's.")
    return found[0].float().cpu().numpy()


def _decoder(source: Source) -> np.ndarray:
    from backend.crosscoder.files import load_decoder

    if source.path is None:
        raise NoRows("Decoder rows are read from a file of a dictionary, and none is named.")
    found = load_decoder(source.path, scale=source.scale)
    stated = found.facts.get("layer")
    if source.layer is not None and stated not in (None, source.layer):
        raise NoRows(f"{source.path} says that it is of layer {stated}; layer {source.layer} was expected.")
    return found.rows(source.model)


# The last linear layer of a block's part, by the names that it has in the architectures of transformers.
_MLP = frozenset({"down_proj", "c_proj", "dense_4h_to_h", "fc2", "fc_out", "w2"})
_ATTENTION = frozenset({"o_proj", "out_proj", "c_proj", "dense", "wo"})


def _written(source: Source, names: frozenset[str], *, is_attention: bool) -> np.ndarray:
    """(n_in, d_model): what each input of the block's last linear layer adds to the residual stream."""
    from backend.models.layers import layers_of
    from backend.models.linear import weight_and_bias

    loaded, layer = _model(source), source.layer
    if layer is None or not 0 <= layer < loaded.n_layers:
        raise NoRows(f"{loaded.name} has the layers 0 to {loaded.n_layers - 1}; {layer} is none of them.")
    block = layers_of(loaded.model).blocks[layer]
    found = [
        weights[0]
        for path, module in block.named_modules()
        if path.rpartition(".")[2] in names and _in_attention(path) == is_attention
        if (weights := weight_and_bias(module)) is not None and weights[0].shape[0] == loaded.d_model
    ]
    if len(found) != 1:
        part = "attention" if is_attention else "MLP"
        raise NoRows(
            f"Block {layer} of {loaded.name} ({loaded.family}) has {len(found)} plain output layers of its {part};"
            f" exactly one was expected, called {', '.join(sorted(names))}."
        )
    return found[0].T.float().cpu().numpy()


def _in_attention(path: str) -> bool:
    return "att" in path.rpartition(".")[0].lower()


def _model(source: Source) -> "LoadedModel":
    if source.loaded is None:
        raise NoRows("These rows are those of a model, and none is loaded.")
    return source.loaded


ROW_KINDS: Registry[RowKind] = Registry(
    "set of directions",
    RowKind("mlp_out", "MLP output columns (what each neuron writes)", "neuron", True, True, True, _mlp_out),
    RowKind(
        "attention_out",
        "attention output columns (what each head dimension writes)",
        "column",
        True,
        True,
        True,
        _attention_out,
    ),
    RowKind("unembedding", "unembedding rows (one a token)", "token", True, False, True, _unembedding),
    RowKind("dictionary", "decoder rows of the study's dictionary", "feature", False, True, True, _decoder),
    RowKind("sae", "decoder rows of small autoencoders of the study", "feature", False, True, False, _decoder),
    RowKind("file", "decoder rows of published dictionaries", "feature", False, True, True, _decoder),
    error=NoRows,
)


def layer_sets() -> tuple[str, ...]:
    """Kinds that a model has at every layer."""
    return tuple(kind.name for kind in ROW_KINDS.values() if kind.of_model and kind.by_layer)
