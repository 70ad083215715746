"""Whether a later sentence is still written where an earlier one was replaced, from stored rollouts.

For a source i and a later target j of one CoT:

    effect(i → j) = share of the rollouts at i+1 that write a sentence like j
                  − share of the rollouts at i that replaced i, and write a sentence like j

1. A rollout at i+1 goes on after chunk i: it kept the source. One at i whose first sentence is dissimilar to chunk i
   (cosine below SIMILARITY_THRESHOLD) replaced it; one whose first sentence is similar did neither, and takes no part.
2. It writes a sentence like j where any of its sentences has a cosine of at least SIMILARITY_THRESHOLD to chunk j.
3. Interval of the difference: Newcombe's, of two independent shares; p: Fisher's exact test, two-sided, of one pair
   by itself. With fewer than FEWEST rollouts on a side the pair is unknown.

A rollout cut at the token cap takes no part, as in `importance/resilience.py`: whether the sentence would have come is
unknown, and to leave out only those in which it had not come would lean the share. Forced answers are no rollouts here;
rollouts that were drawn later at a chunk count as the study's own.

Thought Anchors' code (its step attribution) differs in two things: it takes *all* rollouts at i for the other side,
those that wrote the same sentence again among them, and its threshold is 0.7. So ours asks what a replaced source
changes, theirs what not fixing it changes. As published, a pair without rollouts is 0 there; here it is unknown.

What it cannot say: a rollout that replaced i differs in everything it wrote after it too, so the effect is of the whole
branch and may go through any sentence between. A paraphrase may be missed, and arithmetic with other numbers counts as
alike: the rule is `embedding` of `importance/similarity.py`, for the source as for the target, and not `numbers`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from backend.cot.chunking import chunk_spans
from backend.importance.estimates import SIMILARITY_THRESHOLD
from backend.importance.similarity import Encode
from backend.statistics.intervals import newcombe

CONVENTION = "embedding"
FEWEST = 5  # rollouts of either side


def resampled_influences(chunks: Mapping[str, str], rollouts: pd.DataFrame, encode: Encode) -> list[dict[str, Any]]:
    """Rows of `resampled_influences`: every pair of the CoT's chunks whose source has rollouts at it and after it.

    `chunks` maps ids to texts in reading order; `rollouts` has chunk_id, text, similarity and finish, of resampled ones
    alone. Every distinct sentence is embedded once, in one call of `encode`.
    """
    ids = list(chunks)
    ended = rollouts[rollouts["text"].notna() & (rollouts["finish"] != "cap").fillna(True)]
    written = {row: sentences(text) for row, text in ended["text"].items()}
    is_like = _likeness(list(chunks.values()), written, encode)
    dissimilar = ended["similarity"].astype("float64") < SIMILARITY_THRESHOLD
    rows = []
    for number, source in enumerate(ids[:-1]):
        kept = ended.index[ended["chunk_id"] == ids[number + 1]]
        replaced = ended.index[(ended["chunk_id"] == source) & dissimilar]
        if not (rollouts["chunk_id"] == source).any() or not len(kept):
            continue
        for target in range(number + 1, len(ids)):
            shares = [int(sum(is_like[row][target] for row in some)) for some in (kept, replaced)]
            rows.append(
                {"source_chunk_id": source, "target_chunk_id": ids[target], "convention": CONVENTION}
                | _effect(shares[0], len(kept), shares[1], len(replaced))
            )
    return rows


def sentences(text: str) -> list[str]:
    """The chunks of a continuation, white space at their ends left out."""
    return [sentence for start, end in chunk_spans(text) if (sentence := text[start:end].strip())]


def _likeness(chunks: list[str], written: Mapping[Any, list[str]], encode: Encode) -> dict[Any, np.ndarray]:
    """By rollout, whether it has a sentence like each chunk, (n_chunks,)."""
    names = [chunk.strip() for chunk in chunks]
    distinct = list(dict.fromkeys([*names, *(sentence for own in written.values() for sentence in own)]))
    index = {sentence: number for number, sentence in enumerate(distinct)}
    vectors = np.asarray(encode(distinct), dtype=np.float64) if written else np.empty((len(distinct), 1))
    like = vectors @ vectors[[index[name] for name in names]].T >= SIMILARITY_THRESHOLD
    return {row: np.any(like[[index[sentence] for sentence in own]], axis=0) for row, own in written.items()}


def _effect(like_kept: int, n_kept: int, like_replaced: int, n_replaced: int) -> dict[str, Any]:
    found = {"n_kept": n_kept, "n_replaced": n_replaced}
    if min(n_kept, n_replaced) < FEWEST:
        return dict.fromkeys(("kept", "replaced", "effect", "low", "high", "p")) | found
    from scipy.stats import fisher_exact

    interval = newcombe(like_kept, n_kept, like_replaced, n_replaced)
    table = [[like_kept, n_kept - like_kept], [like_replaced, n_replaced - like_replaced]]
    kept, replaced = like_kept / n_kept, like_replaced / n_replaced
    return {
        "kept": kept,
        "replaced": replaced,
        "effect": kept - replaced,
        "low": interval.low,
        "high": interval.high,
        "p": float(fisher_exact(table).pvalue),
        **found,
    }
