"""The sentences of a continuation, and how near the first is to the chunk it replaces.

Two rules say when the two are similar: `embedding`, by the cosine alone (Thought Anchors), and `numbers`, which also
asks for the same numbers and operators (see `numbers`).
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from backend.cot.chunking import chunk_spans
from backend.importance.numbers import numbers_and_operators

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


def same_numbers(rollouts: pd.DataFrame, chunks: Mapping[str, str]) -> pd.Series:
    """Whether the first chunk of each rollout has the numbers and operators of the chunk that it replaces, as nullable
    booleans; NA where it has none.

    `rollouts` has the columns chunk_id and resampled_chunk; `chunks` maps ids to texts.
    """
    known = rollouts["resampled_chunk"].notna()
    read = {text: numbers_and_operators(text) for text in rollouts.loc[known, "resampled_chunk"].unique()}
    own = {chunk: numbers_and_operators(text) for chunk, text in chunks.items()}
    found = pd.Series(pd.NA, rollouts.index, dtype="boolean")
    found[known] = [
        read[text] == own[chunk]
        for text, chunk in rollouts.loc[known, ["resampled_chunk", "chunk_id"]].itertuples(index=False)
    ]
    return found


def departing_same_numbers(rollouts: pd.DataFrame, chunks: Mapping[str, str]) -> pd.Series:
    """`same_numbers` of what each rollout writes at the last chunk that it reaches, of those that keep some; `chunks`
    are in reading order.
    """
    unknown = pd.Series(pd.NA, rollouts.index, dtype="boolean")
    if "n_kept" not in rollouts or not (kept := rollouts["n_kept"].fillna(0).astype("int64")).any():
        return unknown
    ids = list(chunks)
    own = rollouts[kept > 0]
    place = {chunk: number for number, chunk in enumerate(ids)}
    reached = [ids[place[chunk] + n] for chunk, n in zip(own["chunk_id"], kept[kept > 0], strict=True)]
    found = same_numbers(pd.DataFrame({"chunk_id": reached, "resampled_chunk": own["departing_chunk"]}), chunks)
    return found.reindex(rollouts.index)


def with_numbers(rollouts: pd.DataFrame, chunks: Mapping[str, str]) -> pd.DataFrame:
    """The rollouts with what the rule `numbers` asks of them: `same_numbers` and `departing_same_numbers`."""
    return rollouts.assign(
        same_numbers=same_numbers(rollouts, chunks), departing_same_numbers=departing_same_numbers(rollouts, chunks)
    )
