"""The residual streams of many texts at some layers, on disk while dictionaries learn from them.

One file a layer, (n_rows, d_model) of a fixed type, made at its full size: where each text's rows go is known before
any is read, so that workers write side by side and in any order. A text counts as read once its line is in `done`.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from backend.errors import AnchorscopeError
from backend.feature_geometry.text_trees import Continuation, TextTree
from backend.models.edits import encode

if TYPE_CHECKING:
    from backend.models.loaded import LoadedModel

_TOKENS_A_PASS = 2048  # of continuations that are read side by side, with what pads them


class StreamError(AnchorscopeError):
    """Streams that the chosen type cannot hold."""


@dataclass(frozen=True)
class Recording:
    """Where streams are kept; `folder` is scratch."""

    folder: Path
    layers: tuple[int, ...]
    n_rows: int
    width: int
    dtype: str

    def begin(self) -> None:
        """Make what is not there yet."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for layer in self.layers:
            with self._file(layer).open("ab") as file:
                file.truncate(self.n_rows * self.width * np.dtype(self.dtype).itemsize)

    def rows(self, layer: int) -> np.ndarray:
        """(n_rows, width) of the file itself, to be read."""
        return np.memmap(self._file(layer), self.dtype, "r", shape=(self.n_rows, self.width))

    def write(self, first: int, streams: dict[int, np.ndarray]) -> None:
        """Rows from `first` on; `flush` makes them durable. Raises StreamError for what the type cannot hold."""
        for layer, found in streams.items():
            with np.errstate(over="ignore"):
                stored = found.astype(self.dtype)
            if not np.isfinite(stored).all():
                raise StreamError(
                    f"Streams at layer {layer} are as large as {np.abs(found).max():.3g}, which {self.dtype} cannot"
                    ' hold. Set dictionaries.recorded_as = "float32".'
                )
            with self._file(layer).open("r+b") as file:
                file.seek(first * self.width * stored.itemsize)
                file.write(stored.tobytes())

    def flush(self) -> None:
        for layer in self.layers:
            with self._file(layer).open("rb") as file:
                os.fsync(file.fileno())

    @property
    def done(self) -> set[str]:
        """Ids of the texts that were read; a last line that a kill cut off is none."""
        file = self.folder / "done"
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True) if file.is_file() else []
        return {line.rstrip("\n") for line in lines if line.endswith("\n")}

    def note(self, text_id: str) -> None:
        with (self.folder / "done").open("a", encoding="utf-8") as file:
            file.write(f"{text_id}\n")

    def _file(self, layer: int) -> Path:
        return self.folder / f"layer-{layer:03d}.{self.dtype}"


def streams_of(loaded: "LoadedModel", tree: TextTree, layers: Sequence[int]) -> dict[int, np.ndarray]:
    """(tree.n_rows, d_model) by layer: the text's own positions, then those of each continuation.

    What a text comes to does not depend on which others are read.
    """
    encoded = encode(loaded, tree.token_ids, layers=layers)
    found: list[dict[int, torch.Tensor]] = [{}] * len(tree.continuations)
    for numbers in _passes(tree.continuations):
        some = [tree.continuations[number] for number in numbers]
        read = encoded.branched(some[0].start, [one.token_ids for one in some], layers)
        for number, one, streams in zip(numbers, some, read, strict=True):
            found[number] = {layer: stream[one.own :].cpu() for layer, stream in streams.items()}
    return {
        layer: torch.cat([encoded.residual(layer)[tree.own :].cpu(), *(one[layer] for one in found)]).float().numpy()
        for layer in layers
    }


def _passes(continuations: Sequence[Continuation]) -> Iterator[list[int]]:
    """Numbers of continuations that are read side by side: from one place, alike in length."""
    order = sorted(range(len(continuations)), key=lambda i: (continuations[i].start, len(continuations[i].token_ids)))
    some: list[int] = []
    for number in order:
        one = continuations[number]
        longest = len(one.token_ids)  # they come by length
        if some and (continuations[some[0]].start != one.start or (len(some) + 1) * longest > _TOKENS_A_PASS):
            yield some
            some = []
        some.append(number)
    if some:
        yield some


def random_weights(loaded: "LoadedModel", seed: int) -> "LoadedModel":
    """The same architecture with weights as its family begins with, from the seed."""
    from dataclasses import replace

    from transformers import AutoModelForCausalLM

    config = loaded.model.config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed % 2**63)
        model = AutoModelForCausalLM.from_config(config, dtype=loaded.model.dtype)
    model.requires_grad_(False)
    return replace(loaded, model=model.eval().to(loaded.model.device))
