"""The sentences of a continuation, and how near the first is to the chunk it replaces."""

from collections.abc import Callable, Sequence

import numpy as np

from backend.cot.chunking import chunk_spans

Encode = Callable[
    [Sequence[str]], np.ndarray
]  # texts to unit vectors (n, d), NaN for a text without a word; as SentenceEncoder.encode


def first_chunk(text: str) -> str | None:
    """The first chunk of a continuation, white space at its ends left out; None where the model wrote nothing."""
    spans = chunk_spans(text)
    return (text[slice(*spans[0])].strip() or None) if spans else None


def later_chunks(text: str) -> list[str]:
    """The chunks of a continuation after its first one, white space at their ends left out."""
    return [text[start:end].strip() for start, end in chunk_spans(text)[1:]]


def similarity(encode: Encode, chunk: str, others: Sequence[str | None]) -> list[float | None]:
    """Cosine of the sentence embeddings of a chunk and each of the others; None where either has no words."""
    known = [other for other in others if other is not None]
    if not known or not chunk.strip():
        return [None] * len(others)
    vectors = encode([chunk.strip(), *known])
    cosines = iter((vectors[1:].astype("float64") @ vectors[0].astype("float64")).tolist())
    return [None if other is None else next(cosines) for other in others]
