"""Sentence embeddings: mean of a BERT-like encoder's last hidden states over the sentence's tokens, scaled to length 1.

This is what sentence-transformers computes for all-MiniLM-L6-v2 (Reimers & Gurevych 2019), in float32, without that library's 30 s import.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from backend.models.loading import find_weights, refuse_doubtful_weights

EMBEDDED_ENCODER = "embedded:all-MiniLM-L6-v2"
_MAX_TOKENS = 256  # longer sentences are cut, as the encoder was trained


@dataclass(frozen=True)
class SentenceEncoder:
    """An encoder with what identifies it."""

    name: str
    revision: str
    _model: Any = field(repr=False)
    _tokenizer: Any = field(repr=False)

    def encode(self, texts: Sequence[str], batch: int = 64) -> np.ndarray:
        """(n, d) float32 vectors of length 1, in the order of `texts`; a text without a word gets NaN, never a zero vector."""
        import torch

        vectors = np.full((len(texts), self._model.config.hidden_size), np.nan, dtype=np.float32)
        known = sorted((number for number, text in enumerate(texts) if text.strip()), key=lambda number: len(texts[number]))
        for start in range(0, len(known), batch):
            rows = known[start : start + batch]
            inputs = self._tokenizer(
                [texts[row] for row in rows], padding=True, truncation=True, max_length=_MAX_TOKENS, return_tensors="pt"
            )
            with torch.inference_mode():
                hidden = self._model(**inputs).last_hidden_state
            mask = inputs["attention_mask"][..., None].to(hidden.dtype)
            means = (hidden * mask).sum(1) / mask.sum(1)
            vectors[rows] = torch.nn.functional.normalize(means, dim=1).numpy()
        return vectors


def load_encoder(name: str = EMBEDDED_ENCODER) -> SentenceEncoder:
    """The encoder called `name`: embedded:all-MiniLM-L6-v2, a folder, or a hub id. Raises as `load_model` does."""
    import torch
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    weights = find_weights(name)
    folder, revision = weights.folder, weights.identity
    options = {"local_files_only": True, "trust_remote_code": False}
    model, loading = AutoModel.from_pretrained(folder, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **options)
    refuse_doubtful_weights(name, model, loading)
    model.requires_grad_(False)
    return SentenceEncoder(name, revision, model.eval(), AutoTokenizer.from_pretrained(folder, **options))
