"""Sentence embeddings: mean of a BERT-like encoder's last hidden states over the sentence's tokens, scaled to length 1.

This is what sentence-transformers computes for all-MiniLM-L6-v2 (Reimers & Gurevych 2019), in float32, without that
library's 30 s import.

Sentences are short, so most of the time of an ordinary batch goes into padding and small operations. Here the tokens of
many sentences, sorted by length, are one matrix [tokens, d] without padding: every linear map is one product over all
of them, and attention is done for each run of sentences of one length. No token sees another sentence's, so a vector
does not depend on its company (up to float32's rounding). The weights and formulas are BERT's (Devlin et al. 2019); a
test holds the result to transformers' own forward pass.
"""

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from backend.errors import AnchorscopeError
from backend.models.loading import find_weights, refuse_doubtful_weights

if TYPE_CHECKING:
    import torch

EMBEDDED_ENCODER = "embedded:all-MiniLM-L6-v2"
_MAX_TOKENS = 256  # longer sentences are cut, as the encoder was trained
_TOKENS_AT_ONCE = 2048


@dataclass
class Meter:
    """What encoding has cost: floating-point operations of matrix products, and CPU seconds (other processes do not
    count).
    """

    sentences: int = 0
    tokens: int = 0
    flops: float = 0.0
    seconds: float = 0.0
    _lock: Any = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(self, sentences: int, tokens: int, flops: float, seconds: float) -> None:
        """Several threads may encode at once."""
        with self._lock:
            self.sentences += sentences
            self.tokens += tokens
            self.flops += flops
            self.seconds += seconds

    @property
    def rate(self) -> float:
        """FLOP per CPU second; NaN before anything was encoded."""
        return self.flops / self.seconds if self.seconds else math.nan


@dataclass(frozen=True)
class SentenceEncoder:
    """An encoder with what identifies it, and what its use has cost so far."""

    name: str
    revision: str
    _model: Any = field(repr=False)
    _tokenizer: Any = field(repr=False)
    meter: Meter = field(default_factory=Meter, repr=False, compare=False)

    def encode(self, texts: Sequence[str], batch: int = _TOKENS_AT_ONCE) -> np.ndarray:
        """(n, d) float32 vectors of length 1, in the order of `texts`; a text without a word gets NaN, never a zero
        vector.

        `batch` tokens are worked on at once, at least one sentence's.
        """
        import torch

        vectors = np.full((len(texts), self._model.config.hidden_size), np.nan, dtype=np.float32)
        known = [number for number, text in enumerate(texts) if text.strip()]
        if not known:
            return vectors
        clock = _clock()
        started = clock()
        tokens = self._tokenizer(
            [texts[number] for number in known],
            truncation=True,
            max_length=_MAX_TOKENS,
            return_attention_mask=False,
            return_token_type_ids=False,
        )["input_ids"]
        order = sorted(range(len(known)), key=lambda row: len(tokens[row]))
        with torch.inference_mode():
            for rows in _batches(order, [len(ids) for ids in tokens], batch):
                packed = torch.tensor([token for row in rows for token in tokens[row]])
                vectors[[known[row] for row in rows]] = self._packed(packed, [len(tokens[row]) for row in rows]).numpy()
        lengths = [len(ids) for ids in tokens]
        self.meter.add(len(known), sum(lengths), sum(map(self._flops, lengths)), clock() - started)
        return vectors

    def _packed(self, ids: "torch.Tensor", lengths: Sequence[int]) -> "torch.Tensor":
        """Vectors (n, d) of the sentences whose tokens lie behind one another in `ids`."""
        import torch
        from torch.nn.functional import gelu, layer_norm, linear, normalize, scaled_dot_product_attention

        model, config = self._model, self._model.config
        runs = [(length, len(list(same))) for length, same in groupby(lengths)]
        n_heads, d = config.num_attention_heads, config.hidden_size

        def normed(x: "torch.Tensor", norm: Any) -> "torch.Tensor":
            return layer_norm(x, (d,), norm.weight, norm.bias, norm.eps)

        of = model.embeddings
        positions = torch.cat([torch.arange(length).repeat(n) for length, n in runs])
        hidden = (
            of.word_embeddings.weight[ids]
            .add_(of.position_embeddings.weight[positions])
            .add_(of.token_type_embeddings.weight[0])
        )
        hidden = normed(hidden, of.LayerNorm)
        for layer, (weight, bias) in zip(model.encoder.layer, self._qkv, strict=True):
            qkv, start, mixed = linear(hidden, weight, bias), 0, torch.empty_like(hidden)
            for length, n in runs:
                end = start + length * n
                query, key, value = qkv[start:end].view(n, length, 3, n_heads, d // n_heads).permute(2, 0, 3, 1, 4)
                mixed[start:end] = (
                    scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(end - start, d)
                )
                start = end
            out = layer.attention.output
            hidden = normed(linear(mixed, out.dense.weight, out.dense.bias).add_(hidden), out.LayerNorm)
            wide = gelu(linear(hidden, layer.intermediate.dense.weight, layer.intermediate.dense.bias))
            hidden = normed(
                linear(wide, layer.output.dense.weight, layer.output.dense.bias).add_(hidden), layer.output.LayerNorm
            )
        start, means = 0, []
        for length, n in runs:
            means.append(hidden[start : start + length * n].view(n, length, d).mean(1))
            start += length * n
        return normalize(torch.cat(means), dim=1)

    @cached_property
    def _qkv(self) -> list[tuple["torch.Tensor", "torch.Tensor"]]:
        """Query, key and value of each layer as one map."""
        import torch

        owns = ((own.query, own.key, own.value) for own in (one.attention.self for one in self._model.encoder.layer))
        return [(torch.cat([m.weight for m in own]), torch.cat([m.bias for m in own])) for own in owns]

    def _flops(self, n_tokens: int) -> float:
        """Of the matrix products of one sentence."""
        config = self._model.config
        d, wide = config.hidden_size, config.intermediate_size
        return config.num_hidden_layers * n_tokens * (2 * d * (4 * d + 2 * wide) + 4 * n_tokens * d)


def matrix_rate(*, seconds: float = 0.3) -> float:
    """FLOP per CPU second of one large float32 matrix product here and now, the best of several: what encoding is
    measured against.
    """
    import torch

    a, b, clock = torch.randn(2048, 1024), torch.randn(1024, 1024), _clock()
    best, until = 0.0, clock() + seconds
    while clock() < until:
        started = clock()
        a @ b
        best = max(best, 2 * a.numel() * b.shape[1] / (clock() - started))
    return best


def _clock() -> Callable[[], float]:
    """CPU seconds: of this thread where torch works in it alone, so that others that encode at the same time do not
    count.
    """
    import torch

    return time.thread_time if torch.get_num_threads() == 1 else time.process_time


def _batches(order: Sequence[int], lengths: Sequence[int], most: int) -> Iterator[list[int]]:
    """Rows in `order`, at most `most` tokens at a time."""
    rows: list[int] = []
    held = 0
    for row in order:
        if rows and held + lengths[row] > most:
            yield rows
            rows, held = [], 0
        rows.append(row)
        held += lengths[row]
    if rows:
        yield rows


def load_encoder(name: str = EMBEDDED_ENCODER) -> SentenceEncoder:
    """The encoder called `name`: embedded:all-MiniLM-L6-v2, a folder, or a hub id. Raises as `load_model` does.

    AnchorscopeError for one that is not built as BERT is.
    """
    import torch
    from transformers import AutoConfig, AutoModel, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    weights = find_weights(name)
    folder, revision = weights.folder, weights.identity
    options = {"local_files_only": True, "trust_remote_code": False}
    config = AutoConfig.from_pretrained(folder, **options)
    if config.model_type != "bert" or config.hidden_act != "gelu":
        raise AnchorscopeError(
            f"{name} is a {config.model_type} with {getattr(config, 'hidden_act', 'an unknown activation')}; sentences"
            f" are encoded by models built as BERT with gelu, such as {EMBEDDED_ENCODER} (the default). Name one of"
            " those."
        )
    model, loading = AutoModel.from_pretrained(
        folder,
        dtype=torch.float32,
        use_safetensors=True,
        output_loading_info=True,
        ignore_mismatched_sizes=True,
        **options,
    )
    refuse_doubtful_weights(name, model, loading)
    model.requires_grad_(False)
    return SentenceEncoder(name, revision, model.eval(), AutoTokenizer.from_pretrained(folder, **options))
