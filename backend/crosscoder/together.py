"""How two features of a dictionary go together: on the same tokens, and in their rows.

1. N tokens of the study's CoTs, prompts left out, can have codes. Feature a fires on n_a of them, b on n_b, both on
   n_ab.
2. **Expected by chance**: n_a · n_b / N, were they independent over all tokens. **Lift** is n_ab over that.
3. Two features of one kind of text meet in its chains without having to do with each other. Expected **within chains**
   is Σ n_a · n_b / N over the chains, each with its own counts, and the lift within chains is n_ab over that.
4. Intervals (95 %) draw problems with replacement, each with all its chains; percentiles of the lift. Where the two
   never fire together every draw gives 0: the upper end is then the largest mean of a Poisson count that would give
   none in 2.5 % of studies, 3.69, over what was expected. Tokens of one chain are not independent, so that this end may
   lie too low.
5. Rows: cosines of the two decoder rows, and of the two encoder rows, in each model. Beside them stand the 2.5th and
   97.5th percentiles among other features of the same dictionary, whose rows are not isotropic.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from backend.ids import seed_for
from backend.statistics.intervals import UNKNOWN, Interval, bootstrap_percentile
from backend.statistics.resampling import problem_draws

N_DRAWS = 2000
_MOST_IF_NONE = -math.log(0.025)  # the mean at which a Poisson count is 0 in 2.5 % of studies


@dataclass(frozen=True)
class Lift:
    """How much more often both fire than expected. Unknown numbers are NaN."""

    expected: float  # tokens
    lift: float
    low: float
    high: float


@dataclass(frozen=True)
class Together:
    """One pair of features."""

    first: int
    second: int
    n_tokens: int
    n_cots: int
    n_problems: int
    n_first: int  # tokens on which the first fires
    n_second: int
    n_both: int
    overall: Lift
    within: Lift  # within chains


def together(counts: pd.DataFrame, tokens: pd.DataFrame, features: Sequence[int], *, seed: int = 0) -> list[Together]:
    """Every pair of `features`, in their order, from rows of `DictionaryQueries.fired_together` and `coded_tokens`."""
    fired = {
        (int(feature), int(other)): rows.set_index("cot_id")["n_both"].reindex(tokens["cot_id"]).fillna(0).to_numpy()
        for (feature, other), rows in counts.groupby(["feature", "other"])
    }
    n_tokens, none = tokens["n_tokens"].to_numpy(np.float64), np.zeros(len(tokens))
    problems, names = pd.factorize(tokens["problem_id"])
    draws = problem_draws(len(names), N_DRAWS, seed)
    found = []
    for first, second in combinations(features, 2):
        a, b = fired.get((first, first), none), fired.get((second, second), none)
        both = fired.get((min(first, second), max(first, second)), none)
        by_chance = _over(a * b, n_tokens, 0.0)
        each = np.stack([np.bincount(problems, of, len(names)) for of in (both, a, b, n_tokens, by_chance)])
        n_both, n_a, n_b, n, chance = each.sum(1)
        drawn = each @ draws.T
        expected = _over(drawn[1] * drawn[2], drawn[3], math.nan)
        overall = _lift(n_both, n_a * n_b / n if n else math.nan, _over(drawn[0], expected, math.nan))
        within = _lift(n_both, chance, _over(drawn[0], drawn[4], math.nan))
        found.append(
            Together(
                first=first,
                second=second,
                n_tokens=int(n),
                n_cots=len(tokens),
                n_problems=len(names),
                n_first=int(n_a),
                n_second=int(n_b),
                n_both=int(n_both),
                overall=overall,
                within=within,
            )
        )
    return found


def _lift(n_both: float, expected: float, draws: np.ndarray) -> Lift:
    if not expected > 0:
        return Lift(expected, math.nan, *UNKNOWN)
    if n_both == 0:
        return Lift(expected, 0.0, 0.0, _MOST_IF_NONE / expected)
    return Lift(expected, n_both / expected, *bootstrap_percentile(draws))


def _over(values: np.ndarray, by: np.ndarray, otherwise: float) -> np.ndarray:
    return np.divide(values, by, out=np.full(len(values), otherwise), where=by > 0)


# Their rows


N_OTHERS = 64  # features whose pairs say what is usual


def others(living: Sequence[int], features: Sequence[int]) -> list[int]:
    """Features that fire, none of `features`, drawn once and for all: at most N_OTHERS, in rising order."""
    left = np.setdiff1d(np.asarray(living, np.int64), np.asarray(features, np.int64))
    drawn = np.random.default_rng(seed_for("features to compare with")).permutation(left)[:N_OTHERS]
    return [int(feature) for feature in np.sort(drawn)]


def pair_cosines(rows: np.ndarray) -> np.ndarray:
    """(models, pairs) of `rows` (models, features, width), pairs as `combinations` has them; NaN where a row is
    zero.
    """
    exact = rows.astype(np.float64)
    sizes = np.linalg.norm(exact, axis=-1, keepdims=True)
    unit = np.divide(exact, sizes, out=np.full(exact.shape, math.nan), where=sizes > 0)
    first, second = np.triu_indices(rows.shape[1], 1)
    return np.clip((unit[:, first] * unit[:, second]).sum(-1), -1, 1)


def usual(rows: np.ndarray) -> list[Interval]:
    """For each model, where 95 % of the cosines of pairs of these rows lie."""
    return [bootstrap_percentile(found) for found in pair_cosines(rows)]
