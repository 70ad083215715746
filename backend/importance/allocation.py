"""Before which chunks more rollouts are worth drawing: those where counterfactual importance is not known well enough.

1. BATCH rollouts are drawn before every chunk.
2. The interval of counterfactual importance (`jsd`) of each chunk is taken of all rollouts there are, those from
   earlier that reach it included; the outcomes are those of this CoT so far.
3. Where it is wider than asked for, or unknown, one of two points goes on: the chunk's own, where a dissimilar rollout
   may come, or the next chunk's, whose rollouts it is compared with: the one whose next batch lessens 1/n_p + 1/n_q
   more, as far as the shares of its rollouts so far tell. One that has the most there may be is left for the other.
4. BATCH more are drawn before each of those points, and so on from 2, until none is left.

It looks at one CoT's rollouts alone, and a rollout is drawn by its number: so what is drawn does not depend on who else
is drawn beside it, nor on a run's being taken up again. The number of rollouts is decided by widths, never by p or the
estimate; that p and interval hold what they say all the same is simulated (`benchmarks/jsd_coverage.py --until`).
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from backend.ids import seed_for
from backend.importance.conventions import ANOTHER, CONVENTIONS, REACHING_AFTER, Sides
from backend.importance.estimates import Estimator, estimator_at, grouped

BATCH = 10
_SIDES, _JSD = Sides(ANOTHER, (REACHING_AFTER,)), CONVENTIONS["jsd"]


@dataclass(frozen=True)
class Wanted:
    until: float  # nats: full width of the 95 % interval; 0: all there may be
    most: int  # rollouts before a chunk
    seed: int


def first_batch(wanted: Wanted) -> int:
    return min(BATCH, wanted.most) if wanted.until else wanted.most


def next_batches(
    rollouts: pd.DataFrame, chunk_ids: Sequence[str], drawn: Mapping[str, int], wanted: Wanted
) -> dict[str, int]:
    """By chunk, how many more are to be drawn before it. `rollouts` are all of one CoT so far, as
    `metrics.importance_of_cot` takes them; `drawn` says how many there are by chunk, of those that rollouts can start
    before.
    """
    groups, n_outcomes = grouped(rollouts), int(rollouts["answer_cluster"].nunique())
    open_at = {chunk for chunk, n in drawn.items() if n < wanted.most}
    goes_on: set[str] = set()
    for position, pair in enumerate(itertools.pairwise(chunk_ids)):
        choice = [chunk for chunk in pair if chunk in open_at]
        if choice and not _is_narrow(at := estimator_at(groups, chunk_ids, position, n_outcomes=n_outcomes), wanted):
            goes_on.add(max(choice, key=lambda chunk: _gain(at, chunk == at.chunk)))
    return {chunk: min(BATCH, wanted.most - drawn[chunk]) for chunk in chunk_ids if chunk in goes_on}


def _is_narrow(at: Estimator, wanted: Wanted) -> bool:
    rng = np.random.default_rng(seed_for(wanted.seed, "until", at.chunk, len(at.here), len(at.after)))
    interval = at.jsd_interval(_SIDES, _JSD, rng)
    return bool(interval.high - interval.low <= wanted.until)  # unknown is not narrow


def _gain(at: Estimator, is_here: bool) -> float:
    """How much another batch, before this chunk or else before the next, is to lessen 1/n_p + 1/n_q. One rollout is
    added to each count and one to what it was out of: nothing is impossible because it has not come yet.
    """
    n_p, n_q = at.sizes(_SIDES, _JSD)
    if not is_here:
        return 1 / (n_q + 1) - 1 / (n_q + 1 + BATCH)
    n, own = len(at.here) + 2, at.here
    departs, keeps = (1 + len(own.another)) / n, (1 + int((own.kept > 0).sum())) / n
    return 1 / (n_p + 1) - 1 / (n_p + 1 + BATCH * departs) + 1 / (n_q + 1) - 1 / (n_q + 1 + BATCH * keeps)
