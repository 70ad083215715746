"""Do the importance metrics agree on which chunks matter? Spearman's rho of every two of them over chunks."""

import itertools
import math

import numpy as np
import pandas as pd

from backend.evidence.sample import sample_of
from backend.statistics.intervals import UNKNOWN, bootstrap_percentile
from backend.statistics.resampling import constant, problem_draws, spearman, weighted_spearman


def rank_agreement(frame: pd.DataFrame, *, n_bootstrap: int = 500, seed: int) -> pd.DataFrame:
    """One row an ordered pair of metrics, in the order of the columns: `a`, `b`, `n`, `n_problems`, `spearman`,
    `ci_low`, `ci_high`.

    `frame` has `cot_id` and `problem_id`; every other column is a metric. Each pair is over the chunks that know both;
    the interval draws problems. rho is NaN for fewer than 3 chunks or a constant metric, the interval also for one
    problem.
    """
    metrics = [column for column in frame.columns if column not in ("cot_id", "problem_id")]
    found = {}
    for a, b in itertools.combinations_with_replacement(metrics, 2):
        found[a, b] = found[b, a] = _agreement(
            frame[["cot_id", "problem_id"]].assign(x=frame[a], y=frame[b]), n_bootstrap, seed
        )
    rows = [(a, b, *found[a, b]) for a, b in itertools.product(metrics, repeat=2)]
    return pd.DataFrame(rows, columns=["a", "b", "n", "n_problems", "spearman", "ci_low", "ci_high"])


def _agreement(frame: pd.DataFrame, n_bootstrap: int, seed: int) -> tuple[int, int, float, float, float]:
    sample = sample_of(frame)
    if len(sample) < 3 or constant(sample.x) or constant(sample.y):
        return len(sample), sample.n_problems, math.nan, math.nan, math.nan
    draws = problem_draws(sample.n_problems, n_bootstrap, seed)
    interval = (
        bootstrap_percentile(weighted_spearman(sample.x, sample.y, draws, sample.problems)) if len(draws) else UNKNOWN
    )
    return (
        len(sample),
        sample.n_problems,
        float(np.round(spearman(sample.x, sample.y), 12)),
        interval.low,
        interval.high,
    )
