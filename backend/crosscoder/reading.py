"""Residual streams of texts at some layers, as a model reads them one by one: what neighbours share is read once.

Texts that go on from the same place of another (rollouts from before a chunk) have most of their tokens in common.
These are read once, and what each text adds is read after them, some texts side by side.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from backend.models.edits import encode
from backend.models.residuals import ResidualReader

if TYPE_CHECKING:
    from backend.models.loaded import LoadedModel

_TOKENS_A_PASS = 2048  # of texts that are read side by side, with what pads them


@dataclass(frozen=True)
class Tokens:
    """Of a text, and the first one whose stream is wanted."""

    ids: tuple[int, ...]
    first: int

    @property
    def shared(self) -> tuple[int, ...]:
        """What may be another text's beginning too: the last token before the first one may straddle the place where a
        text goes on.
        """
        return self.ids[: self.first - 1]


class Reader:
    """Of one model at some layers."""

    def __init__(self, model: "LoadedModel", layers: Sequence[int]) -> None:
        self._model, self._layers = model, tuple(layers)

    @cached_property
    def _whole(self) -> ResidualReader:
        return ResidualReader(self._model, self._layers)

    def streams(self, texts: Sequence[Tokens]) -> list[dict[int, torch.Tensor]]:
        """(n_tokens from the first wanted one on, d_model) by layer, of each text, on the model's device."""
        found: list[dict[int, torch.Tensor]] = []
        for _, some in itertools.groupby(texts, key=lambda one: one.shared):
            alike = list(some)
            together = len(alike) > 1 and alike[0].shared
            found += self._together(alike) if together else [self._alone(one) for one in alike]
        return found

    def _alone(self, text: Tokens) -> dict[int, torch.Tensor]:
        return {layer: stream[text.first :] for layer, stream in self._whole(text.ids).items()}

    def _together(self, texts: Sequence[Tokens]) -> list[dict[int, torch.Tensor]]:
        n_shared = len(texts[0].shared)
        encoded = encode(self._model, texts[0].shared, layers=self._layers)
        found: dict[int, dict[int, torch.Tensor]] = {}
        for numbers in _passes([len(text.ids) - n_shared for text in texts]):
            rows = [texts[number].ids[n_shared:] for number in numbers]
            for number, streams in zip(numbers, encoded.branched(n_shared, rows, self._layers), strict=True):
                found[number] = {layer: stream[1:] for layer, stream in streams.items()}
        return [found[number] for number in range(len(texts))]


def _passes(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Numbers of texts that are read side by side, alike in length."""
    some: list[int] = []
    for number in sorted(range(len(lengths)), key=lambda number: lengths[number]):
        if some and (len(some) + 1) * lengths[number] > _TOKENS_A_PASS:
            yield some
            some = []
        some.append(number)
    if some:
        yield some
