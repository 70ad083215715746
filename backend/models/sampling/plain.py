"""Rows of one prefix by transformers' own forward pass and cache, for families that nothing more is known of."""

import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import DynamicCache

from backend.models.edits import Edit, Encoded, editor_of, models_beside
from backend.models.sampling.draws import ROW_MULTIPLE, next_tokens, uniform
from backend.models.sampling.requests import Sample, SampleRequest, SamplingParameters, end_tokens

if TYPE_CHECKING:
    from backend.models.loaded import HasModel, LoadedModel


def sample_plainly(
    loaded: "LoadedModel",
    sequences: Mapping[str, Sequence[int]],
    requests: list[SampleRequest],
    parameters: SamplingParameters,
    rows: int,
    should_stop: Callable[[], bool],
    edits: Mapping[str, Sequence[Edit]],
    encoded: Mapping[str, Encoded],
    drawn: Callable[[int], None],
) -> Iterator[list[Sample]]:
    same_prefix: dict[tuple[str, int, tuple[int, ...]], list[SampleRequest]] = {}
    for request in requests:
        same_prefix.setdefault((request.sequence_id, request.prefix_length, request.given), []).append(request)
    for (sequence_id, length, given), alike in same_prefix.items():
        for start in range(0, len(alike), ROW_MULTIPLE):
            prefix = [*sequences[sequence_id][:length], *given]
            stopped = yield from _continue_plainly(
                loaded,
                prefix,
                alike[start : start + ROW_MULTIPLE],
                parameters,
                should_stop,
                tuple(edits.get(sequence_id, ())),
                drawn,
            )
            if stopped:
                return


def _continue_plainly(
    loaded: "LoadedModel",
    prefix: list[int],
    requests: list[SampleRequest],
    parameters: SamplingParameters,
    should_stop: Callable[[], bool],
    edits: tuple[Edit, ...],
    drawn: Callable[[int], None],
) -> Generator[list[Sample], None, bool]:
    """Always ROW_MULTIPLE rows, so that a row's numbers do not depend on how many are wanted.

    Its value is whether it was stopped.
    """
    ends = end_tokens(loaded)
    rows = PlainRows(loaded, prefix, [edits])
    sampled: list[list[int]] = [[] for _ in requests]
    live = list(range(len(requests)))
    inputs: list[int] = []
    while live:
        if should_stop():
            return True
        if inputs:
            logits = rows.logits(inputs)
        else:
            logits = rows.logits([prefix[-1]]).expand(ROW_MULTIPLE, -1)
            rows.repeat(ROW_MULTIPLE)
        tokens = next_tokens(logits[live], [uniform(requests[row].seed, len(sampled[row])) for row in live], parameters)
        drawn(len(tokens))
        inputs = [prefix[-1]] * ROW_MULTIPLE
        for row, token in zip(live, tokens, strict=True):
            inputs[row] = token
        finished = []
        for row, token in list(zip(live, tokens, strict=True)):
            if token not in ends:
                sampled[row].append(token)
                if len(sampled[row]) < requests[row].most(parameters):
                    continue
            live.remove(row)
            finished.append(Sample(requests[row].request_id, tuple(sampled[row]), "eos" if token in ends else "cap"))
        yield finished
    return False


class PlainRows:
    """Rows that continue one and the same tokens, each under edits of its own, by transformers' forward pass and cache.

    A family that such a cache does not fit reads all of each row again at every token. Models that edits ask for read
    all rows too, each with a cache of its own.
    """

    def __init__(
        self, loaded: "HasModel", prefix: Sequence[int], edits: Sequence[Sequence[Edit]], *, again: bool = False
    ) -> None:
        """`again`: read everything anew at every token, because a model beside this one does."""
        self._editor = editor_of(loaded)
        self._edits = [tuple(own) for own in edits]
        asked = models_beside(itertools.chain(*self._edits))
        readers: list[HasModel] = [loaded, *(other for other, _ in asked.values())]
        again = again or any(editor_of(reader).cache_name is None for reader in readers)
        name = self._editor.cache_name
        self._cache = {} if again or name is None else {name: DynamicCache(config=loaded.model.config)}
        self._read: list[list[int]] = []  # each row's tokens so far
        self._prefix, self._device = list(prefix), loaded.model.device
        self._others = {
            model: (PlainRows(other, prefix, (), again=again), layers) for model, (other, layers) in asked.items()
        }

    def repeat(self, n: int) -> None:
        """One row becomes `n` alike."""
        for cache in self._cache.values():
            cache.reorder_cache(torch.zeros(n, dtype=torch.long, device=self._device))  # what every kind of layer knows
        self._edits, self._read = self._edits * n, [list(row) for row in self._read * n]
        for other, _ in self._others.values():
            other.repeat(n)

    def logits(self, tokens: Sequence[int]) -> Tensor:
        """Logits (n_rows, vocabulary) after one more token in each row; the first call takes the last token of the
        prefix.
        """
        first, new = self._unread(tokens)
        others = {model: other.residuals(tokens, layers) for model, (other, layers) in self._others.items()}
        return self._editor.plain_logits(new, self._edits, first, self._cache, others)

    def residuals(self, tokens: Sequence[int], layers: Iterable[int]) -> dict[int, Tensor]:
        """Instead of logits, the residual streams (n_rows, n_tokens, d_model) of all tokens that are new to these
        unedited rows.
        """
        return self._editor.plain_residuals(self._unread(tokens)[1], self._cache, sorted(layers))

    def _unread(self, tokens: Sequence[int]) -> tuple[int, Tensor]:
        """Position of the first token that is to be read now, and each row's tokens (n_rows, n_tokens) from there up to
        `tokens`.
        """
        if not self._read:
            self._read = [self._prefix[:-1] for _ in tokens]
            first = 0
        else:
            first = len(self._read[0]) if self._cache else 0
        for row, token in zip(self._read, tokens, strict=True):
            row.append(token)
        return first, torch.tensor([row[first:] for row in self._read], device=self._device)
