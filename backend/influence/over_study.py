"""Which kinds of chunk act furthest, over a whole study, and how influence falls with distance.

A mean over the chunks of a category has its bootstrap interval over problems, and two things beside it:

1. What the place alone gives (`at_place`): for every chunk the mean, over the chunks of *other* CoTs that stand at the
   same fifth of their chain, of the same quantity. An influence over later chunks is taken distance by distance: the
   chunk's own number of pairs at each span of distances is kept. A chunk whose place no other CoT has takes no part.
2. A null: the values are dealt anew among the chunks of one CoT and third of its length, so that the category keeps its
   CoTs and its places; p is the share of deals whose mean lies as far from theirs.

With few chunks a CoT the thirds are small, and the null leaves little room: a category that always stands alone in its
third cannot be told from its place.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from backend.statistics.clustered import N_DRAWS, clustered_mean
from backend.statistics.columns import column_means
from backend.statistics.holm import holm
from backend.statistics.intervals import UNKNOWN, bootstrap_percentile
from backend.statistics.permutation import NO_NULL, null_of_sum
from backend.statistics.resampling import problem_draws

OUT = "out"  # what a chunk does to the later ones, on average
_DEALS = 999
_CHUNK = ["model_id", "cot_id", "problem_id", "chunk_id", "value", "expected"]
_THIRDS = 3
FEWEST_PAIRS = 6  # of a CoT, where two ways are set against each other
BY_CATEGORY = (
    "model_id",
    "category",
    "n",
    "n_cots",
    "n_problems",
    "mean",
    "low",
    "high",
    "at_place",
    "n_placed",
    "null_mean",
    "null_low",
    "null_high",
    "p",
    "p_holm",
)
DIFFERENCES = ("category", "n", "n_problems", "difference", "low", "high", "p")


def chunk_means(by_source: pd.DataFrame) -> pd.DataFrame:
    """One row a model and chunk that acts: `value`, the mean over the chunks it acts on, and `expected`, what its place
    gives (NaN where no other CoT has it). Takes rows of `influence_by_source`.
    """
    key = ["model_id", "place", "span"]
    every = by_source.groupby(key)[["total", "n"]].transform("sum")
    own = by_source.groupby([*key, "cot_id"])[["total", "n"]].transform("sum")
    others = every - own
    with np.errstate(invalid="ignore", divide="ignore"):
        usual = np.where(others["n"] > 0, others["total"] / others["n"], math.nan)
    rows = by_source.assign(usual=usual * by_source["n"], unplaced=np.isnan(usual))
    found = rows.groupby(["model_id", "cot_id", "problem_id", "chunk_id"], as_index=False, sort=False)[
        ["total", "n", "usual", "unplaced"]
    ].sum()
    expected = np.where(found["unplaced"] > 0, math.nan, found["usual"] / found["n"])
    return found.assign(value=found["total"] / found["n"], expected=expected)[_CHUNK]


def chunk_values(everywhere: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """The same of a quantity that a chunk has by itself (`last_reader`, `answer_kl`): rows of
    `chunk_influences_everywhere` in which it is known, beside chunks of other CoTs at the same fifth with about as many
    chunks after them.
    """
    rows = everywhere.assign(value=everywhere[quantity].astype(float)).dropna(subset="value")
    key = ["model_id", "place", "span"]
    rows = rows.assign(n=1)
    others = rows.groupby(key)[["value", "n"]].transform("sum") - rows.groupby([*key, "cot_id"])[
        ["value", "n"]
    ].transform("sum")
    with np.errstate(invalid="ignore", divide="ignore"):
        expected = np.where(others["n"] > 0, others["value"] / others["n"], math.nan)
    return rows.assign(expected=expected)[_CHUNK]


def by_category(chunks: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """One row a model and category, in BY_CATEGORY. `chunks` are rows of `chunk_means` or `chunk_values` in reading
    order within their CoT, with `category` (None where a chunk has none, which takes part in the null alone).
    """
    rows = [
        row
        for model, own in chunks.groupby("model_id", sort=False)
        for row in _categories(str(model), own.reset_index(drop=True), seed)
    ]
    found = pd.DataFrame(rows, columns=[name for name in BY_CATEGORY if name != "p_holm"])
    corrected = np.full(len(found), math.nan)
    known = found["p"].notna().to_numpy()
    corrected[known] = holm(found.loc[known, "p"].to_numpy(float))
    return found.assign(p_holm=corrected)[list(BY_CATEGORY)]


def _categories(model: str, own: pd.DataFrame, seed: int) -> list[tuple[object, ...]]:
    own = own.assign(stratum=_strata(own)).sort_values("stratum", kind="stable", ignore_index=True)
    values, strata = own["value"].to_numpy(float), own["stratum"].to_numpy()
    problems, of_problem = np.unique(own["problem_id"].to_numpy(str), return_inverse=True)
    draws = problem_draws(len(problems), N_DRAWS, seed)
    rows: list[tuple[object, ...]] = []
    for category in sorted(own["category"].dropna().unique()):
        is_own = (own["category"] == category).to_numpy()
        n, there = int(is_own.sum()), np.unique(of_problem[is_own])
        sums = np.bincount(of_problem[is_own], values[is_own], len(problems))
        counts = np.bincount(of_problem[is_own], minlength=len(problems))
        interval = _drawn(draws, sums, counts) if len(there) > 1 else UNKNOWN
        placed = own.loc[is_own, "expected"].dropna()
        null = null_of_sum(is_own / n, values, strata, n_permutations=_DEALS, seed=seed) if len(own) > 1 else NO_NULL
        rows.append(
            (
                model,
                category,
                n,
                int(own.loc[is_own, "cot_id"].nunique()),
                len(there),
                float(values[is_own].mean()),
                *interval,
                float(placed.mean()) if len(placed) else math.nan,
                len(placed),
                null.mean,
                null.low,
                null.high,
                null.p,
            )
        )
    return rows


def _strata(own: pd.DataFrame) -> np.ndarray:
    """A number for each CoT and third of its chunks, as even as can be."""
    places, sizes = own.groupby("cot_id").cumcount(), own.groupby("cot_id")["chunk_id"].transform("size")
    found = pd.factorize(own["cot_id"])[0] * _THIRDS + (places * _THIRDS // sizes).to_numpy()
    return np.unique(found, return_inverse=True)[1]


def _drawn(draws: np.ndarray, sums: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
    drawn = draws @ counts
    interval = bootstrap_percentile((draws @ sums)[drawn > 0] / drawn[drawn > 0])
    return interval.low, interval.high


def differences(chunks: pd.DataFrame, base: str, distilled: str, *, seed: int) -> pd.DataFrame:
    """One row a category: distilled less base over the chunks that both read, with its interval over problems and p
    (flips of signs), in DIFFERENCES.
    """
    both = chunks[chunks["model_id"] == base].merge(
        chunks.loc[chunks["model_id"] == distilled, ["chunk_id", "value"]], on="chunk_id", suffixes=("_base", "")
    )
    rows = []
    for category, own in both.groupby("category", sort=True):
        found = clustered_mean((own["value"] - own["value_base"]).tolist(), own["problem_id"].tolist(), seed=seed)
        rows.append((category, found.n, found.n_clusters, found.mean, found.low, found.high, found.p))
    return pd.DataFrame(rows, columns=list(DIFFERENCES))


def by_distance(by_source: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """One row a model and span of distances: the mean over problems of a problem's mean pair, its interval over
    problems, and the pairs behind it.
    """
    rows = []
    for model, own in by_source.groupby("model_id", sort=False):
        sums = own.groupby(["problem_id", "span"])[["total", "n"]].sum()
        means = (sums["total"] / sums["n"]).unstack("span")
        found = column_means(means.to_numpy(float), seed=seed)
        pairs = sums["n"].groupby("span").sum()
        rows += [
            (model, int(span), found.mean[at], found.low[at], found.high[at], int(found.n[at]), int(pairs[span]))
            for at, span in enumerate(means.columns)
        ]
    return pd.DataFrame(rows, columns=["model_id", "span", "mean", "low", "high", "n_problems", "n_pairs"])


@dataclass(frozen=True)
class SharedHeads:
    """What two models' heads have in common where neither can be a second finding of the other."""

    n_blocks: int  # the first blocks in which every head's value is the same in both: 0 where none is
    n_heads_before: int  # heads of those blocks
    n_equal: int  # heads of equal value anywhere
    n_heads: int  # known in both
    top: int  # heads of the largest values that are compared, of those in later blocks
    shared: int  # of these the same in both
    by_chance: float  # shared heads expected if the models had nothing in common


def shared_heads(heads: pd.DataFrame, first: str, second: str, *, top: int) -> SharedHeads:
    """Of two models (their ids) in rows of `receiver_heads`. Models that differ from some block on attend alike before
    it, and their heads there are one measurement; equal is within 1e-9 of the value, what rounding may leave.
    """
    own = {model: heads.loc[heads["model_id"] == model, ["layer", "head", "kurtosis"]] for model in (first, second)}
    both = own[first].merge(own[second], on=["layer", "head"]).dropna()
    equal = np.isclose(both["kurtosis_x"], both["kurtosis_y"], rtol=1e-9, atol=0)
    alike = both.assign(equal=equal).groupby("layer")["equal"].all()
    n_blocks = next((at for at, layer in enumerate(alike.index) if layer != at or not alike[layer]), len(alike))
    later = both[both["layer"] >= n_blocks].reset_index(drop=True)
    n_top = min(top, len(later))
    largest = [set(later[name].nlargest(n_top).index) for name in ("kurtosis_x", "kurtosis_y")]
    by_chance = n_top**2 / len(later) if len(later) else math.nan
    return SharedHeads(
        n_blocks,
        len(both) - len(later),
        int(equal.sum()),
        len(both),
        n_top,
        len(largest[0] & largest[1]),
        by_chance,
    )


def disagreements(both: pd.DataFrame, n: int) -> pd.DataFrame:
    """The `n` pairs whose place among the pairs of their CoT differs most between two ways: `first_rank` and
    `second_rank` are the shares of pairs at or below (mid-ranks, so 1 is the strongest). Takes rows of
    `influence_by_both`; CoTs with fewer than FEWEST_PAIRS take no part.
    """
    cots = both.groupby("cot_id")
    both = both[cots["cot_id"].transform("size") >= FEWEST_PAIRS]
    ranked = both.assign(
        first_rank=both.groupby("cot_id")["first_value"].rank(pct=True),
        second_rank=both.groupby("cot_id")["second_value"].rank(pct=True),
    )
    apart = (ranked["first_rank"] - ranked["second_rank"]).abs()
    return ranked.assign(apart=apart).sort_values("apart", ascending=False, kind="stable").head(n)
