"""Whether a chunk's content can be removed, and what its full removal changes (Thought Branches, arXiv:2510.27484,
section on resilience).

Counterfactual importance asks only that the *first* sentence of a rollout says something else. The model may say the
same two sentences later, and then nothing was removed. The paper's procedure, for chunk S_i: sample a continuation from
before it; while any of its sentences T_j is similar to S_i, sample anew from before that sentence. *Resilience* is the
number of rounds until S_i's content stays away, and

    counterfactual++ (S_i) = KL( answers of continuations with no T_j similar to S_i, j >= i
                                 ||  answers of continuations with S_i )

Our rollouts are of one round: none is sampled anew where the content comes back. From them we estimate:

- `resilience`, a share instead of a number of rounds: of the rollouts at i whose first sentence is dissimilar, how many
  say it in a later sentence after all. It is the chance that one round more would be needed. (Were that chance the same
  in every round, the paper's number of rounds would be 1 / (1 - resilience) in the mean; it need not be, so we do not
  say so of a chunk.) Interval: Wilson's.
- `counterfactual_importance_pp_kl` and `_accuracy`: the formula above by rejection. p is the rollouts at i that say it
  nowhere; the comparator q, the conventions, the smoothing and the bootstrap are those of counterfactual importance,
  from which they differ in p alone. The paper's procedure reaches a removal for content that hardly ever stays away by
  itself; ours then has few rollouts in p, or none: the value is uncertain, or unknown. What both estimate is the same
  where the paper needs one round.

A sentence is similar at a cosine of 0.8 or above (MiniLM, as for the first sentence; the paper's code has another
encoder and threshold). A rollout cut at the token cap has not ended: whether the content would have come back is
unknown, and it takes no part, wherever it was cut; leaving out only those in which nothing had come back yet would lean
the share. Rollouts without text or with an unknown similarity take no part either. A chunk none of whose rollouts is
dissimilar has no value.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from backend.importance.estimates import SIMILARITY_THRESHOLD
from backend.importance.metric_registry import metrics_to_compute
from backend.importance.metrics import CONVENTIONS, importance_of_cot
from backend.importance.similarity import Encode, later_chunks


def resilience_of_cot(
    rollouts: pd.DataFrame,
    chunk_ids: Sequence[str],
    *,
    conventions: Sequence[str] = CONVENTIONS,
    n_bootstrap: int = 1000,
    seed: int,
) -> pd.DataFrame:
    """The metrics that need `returns`, for every chunk of one CoT; as `importance_of_cot`, with a column `returns` (see
    below) in `rollouts`.
    """
    metrics = metrics_to_compute(needs_returns=True)
    return importance_of_cot(
        rollouts, chunk_ids, conventions=conventions, n_bootstrap=n_bootstrap, seed=seed, metrics=metrics
    )


def returns(rollouts: pd.DataFrame, chunks: Mapping[str, str], encode: Encode) -> pd.Series:
    """Whether a sentence after the first is similar to the chunk, of each rollout, as nullable booleans; NA where it is
    not looked at.

    `rollouts` has the columns chunk_id, kind, similarity, text and finish; `chunks` maps ids to texts. Looked at are
    resampled rollouts whose first sentence is dissimilar and that were not cut. Every distinct sentence is embedded
    once, all in one call of `encode`.
    """
    looked_at = (
        (rollouts["kind"] == "resample")
        & (rollouts["similarity"].astype("float64") < SIMILARITY_THRESHOLD)
        & rollouts["text"].notna()
        & (rollouts["finish"] != "cap").fillna(True)
    )
    later = {row: later_chunks(rollouts.at[row, "text"]) for row in rollouts.index[looked_at]}
    named = {row: chunks[rollouts.at[row, "chunk_id"]].strip() for row in later}
    found = pd.Series(pd.NA, rollouts.index, dtype="boolean")
    sentences = list(dict.fromkeys([*named.values(), *(sentence for own in later.values() for sentence in own)]))
    index = {sentence: number for number, sentence in enumerate(sentences)}
    if not sentences:
        return found
    vectors = np.asarray(encode(sentences), dtype=np.float64)
    for row, own in later.items():
        cosines = vectors[[index[sentence] for sentence in own]] @ vectors[index[named[row]]]
        found[row] = bool(
            (cosines >= SIMILARITY_THRESHOLD).any()
        )  # a sentence without a word has cosine NaN, and is not similar
    return found
