"""What steering latents did, from the stored answers: numbers of a map, of its random vectors, and of two maps.

1. `Map` knows of every cell and problem whether the answer is right: the whole one, and the one of its first token.
2. `seen` is a map under an arm (`published.py`): its labels, its answers, early or at the end, beside the unsteered
   answers of the same length.
3. `cell_table` has each cell's accuracy and its difference to unsteered: Wilson and paired intervals, exact McNemar,
   Holm over the map, the rank among the random vectors, and the difference that would have been found.
4. `against_random` asks of the whole map whether differences do more than random vectors of their length: vectors are
   dealt anew between the two groups, all cells of one together; the interval draws problems and random vectors anew.
   Pairs share their means, so that the p is approximate.
5. `likeness` is the correlation over cells of two maps' effects; its interval draws problems anew.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from backend.ids import seed_for
from backend.latent.asked import is_right
from backend.latent.kinds import LatentError
from backend.latent.map_kinds import FITTED, NONE, PAIR
from backend.latent.published import Arm
from backend.statistics.holm import holm
from backend.statistics.intervals import Interval, bootstrap_percentile, wilson
from backend.statistics.paired import detectable, mcnemar_of_counts

ALPHA = 0.05
N_DRAWS = 2000  # of bootstraps and permutations


@dataclass(frozen=True, eq=False)
class Map:
    """A stored map: a row of `latent_steerings`, its cells, and which answers are right."""

    facts: Mapping[str, Any]
    cells: pd.DataFrame
    right: np.ndarray  # (n_cells, n_problems)
    first_right: np.ndarray  # likewise, of the first token alone

    def where(self, kind: str) -> pd.DataFrame:
        return self.cells[self.cells["kind"] == kind]


def read_map(facts: Mapping[str, Any], cells: pd.DataFrame) -> Map:
    """From a row of `latent_steerings` and its cells. An answer that was not given is not right."""
    cells = cells.reset_index(drop=True)
    numbers = np.array([list(own) for own in cells["answers"]], dtype=np.int64).reshape(len(cells), -1)
    truths = list(facts["truths"])
    return Map(facts, cells, _right(facts["answers"], truths, numbers), _right(facts["first_answers"], truths, numbers))


def _right(answers: Sequence[str | None], truths: Sequence[str], numbers: np.ndarray) -> np.ndarray:
    different = sorted(set(truths))
    known = np.array(
        [[is_right(answer, truth) is True for truth in different] for answer in answers], dtype=bool
    ).reshape(-1, len(different))
    return known[numbers, [different.index(truth) for truth in truths]]


@dataclass(frozen=True, eq=False)
class Seen:
    """Cells of one kind of vector as an arm labels them, with (n_cells, n_problems) right answers."""

    labels: pd.DataFrame  # vector, a, b, target, exit, length
    right: np.ndarray
    unsteered: np.ndarray

    @property
    def effects(self) -> np.ndarray:
        """(n_cells, n_problems) float64: −1, 0 or 1."""
        return self.right.astype(np.float64) - self.unsteered


NO_CELLS = Seen(pd.DataFrame(columns=["vector", "target"]), np.empty((0, 0), bool), np.empty((0, 0), bool))


def seen(own: Map, arm: Arm, *, early: bool, kind: str = PAIR) -> Seen:
    """The map under the arm, at early exits or at the end. Under `one_more` the first latent has no label."""
    cells, n_latents = own.where(kind), int(own.facts["n_latents"])
    exits = cells["target"] if early else n_latents
    cells = cells[cells["exit"] == exits]
    first = cells["a"].fillna(cells["target"]).clip(upper=cells["target"]).astype(int)
    cells = cells[first > arm.shift]
    right = own.first_right if arm.is_one_token else own.right
    plain = own.where(NONE)
    at = pd.Series(plain.index, index=plain["exit"].astype(int))
    labels = cells[["vector", "a", "b", "target", "exit", "length", "bound"]].copy()
    labels[["a", "b", "target"]] -= arm.shift
    return Seen(labels.reset_index(drop=True), right[cells.index], right[at.loc[cells["exit"].astype(int)].to_numpy()])


def cell_table(pairs: Seen, randoms: Seen) -> pd.DataFrame:
    """One row a cell; shares and differences of accuracy between 0 and 1. Unknown is NaN."""
    rows = []
    targets, sizes = randoms.labels["target"].to_numpy(), np.array([abs(own.mean()) for own in randoms.effects])
    by_target = {target: sizes[targets == target] for target in set(targets)}
    for number, label in enumerate(pairs.labels.to_dict("records")):
        rows.append({**label, **_cell(pairs.right[number], pairs.unsteered[number], by_target.get(label["target"]))})
    table = pd.DataFrame(rows)
    if table.empty:
        return table
    table["p_holm"] = holm(table["p"].to_numpy())
    table["detectable"] = [
        detectable(int(n), share, alpha=ALPHA / len(table))
        for n, share in zip(table["n"], (table["gained"] + table["lost"]) / table["n"], strict=True)
    ]
    return table


def _cell(right: np.ndarray, unsteered: np.ndarray, random_sizes: np.ndarray | None) -> dict[str, Any]:
    n, both = len(right), int((right & unsteered).sum())
    n_right, n_unsteered = int(right.sum()), int(unsteered.sum())
    tested = mcnemar_of_counts(both, n_unsteered - both, n_right - both, n)
    accuracy = wilson(n_right, n)
    sizes = np.array([]) if random_sizes is None else random_sizes
    as_far = int((sizes >= abs(tested.difference) - 1e-12).sum())
    return {
        "n": n,
        "accuracy": n_right / n if n else math.nan,
        "accuracy_low": accuracy.low,
        "accuracy_high": accuracy.high,
        "unsteered": n_unsteered / n if n else math.nan,
        "difference": tested.difference,
        "low": tested.low,
        "high": tested.high,
        "gained": n_right - both,
        "lost": n_unsteered - both,
        "p": tested.p,
        "n_random": len(sizes),
        "n_random_as_far": as_far,
        "p_random": (as_far + 1) / (len(sizes) + 1) if len(sizes) else math.nan,
    }


@dataclass(frozen=True)
class AgainstRandom:
    """A whole map beside random vectors of the same length. Changes of accuracy are shares; unknown is NaN."""

    n: int  # problems
    n_pairs: int
    n_random: int
    n_cells: int
    n_higher: int  # cells above unsteered after Holm
    n_lower: int
    n_random_cells: int
    n_random_found: int  # cells of random vectors that the smallest p of Holm would have called significant
    pairs: float  # mean change of accuracy over cells
    random: float
    difference: float  # pairs − random
    low: float
    high: float
    p_helps: float  # of the difference, two-sided
    size_pairs: float  # mean over cells of the absolute change
    size_random: float
    p_moves: float  # of the difference of those two, two-sided
    detectable: float  # change of one cell found with 80 % power after Holm, median over cells


def against_random(pairs: Seen, randoms: Seen, *, seed: int = 0) -> AgainstRandom:
    """Means over cells; every vector has all its targets."""
    table = cell_table(pairs, randoms)
    found = table["p_holm"] <= ALPHA if len(table) else np.array([], dtype=bool)
    n_random_cells, n = len(randoms.labels), pairs.right.shape[1]
    random_p = [_cell(a, b, None)["p"] for a, b in zip(randoms.right, randoms.unsteered, strict=True)]
    own, other = _by_vector(pairs), _by_vector(randoms)
    difference, p_helps = _dealt(own.mean(2).mean(1), other.mean(2).mean(1), seed)
    _, p_moves = _dealt(np.abs(own.mean(2)).mean(1), np.abs(other.mean(2)).mean(1), seed)
    low, high = _two_way(own.mean((0, 1)), other.mean(1), seed) if len(other) and len(own) else (math.nan, math.nan)
    sizes = [float(np.abs(group.mean(2)).mean()) if len(group) else math.nan for group in (own, other)]
    return AgainstRandom(
        n=n,
        n_pairs=len(own),
        n_random=len(other),
        n_cells=len(table),
        n_higher=int((found & (table["difference"] > 0)).sum()) if len(table) else 0,
        n_lower=int((found & (table["difference"] < 0)).sum()) if len(table) else 0,
        n_random_cells=n_random_cells,
        n_random_found=sum(p <= ALPHA / max(len(table), 1) for p in random_p),
        pairs=float(own.mean()) if own.size else math.nan,
        random=float(other.mean()) if other.size else math.nan,
        difference=difference,
        low=low,
        high=high,
        p_helps=p_helps,
        size_pairs=sizes[0],
        size_random=sizes[1],
        p_moves=p_moves,
        detectable=float(table["detectable"].median()) if len(table) else math.nan,
    )


def _by_vector(cells: Seen) -> np.ndarray:
    """(n_vectors, n_targets, n_problems) effects."""
    names = cells.labels["vector"].to_numpy()
    order = np.lexsort((cells.labels["target"].to_numpy(), names))
    effects = cells.effects[order]
    return effects.reshape(len(set(names)), -1, effects.shape[1]) if len(names) else effects.reshape(0, 1, -1)


def _dealt(own: np.ndarray, other: np.ndarray, seed: int) -> tuple[float, float]:
    """Difference of two means of vectors, and how often one as far from 0 comes where vectors are dealt anew."""
    if not len(own) or not len(other):
        return math.nan, math.nan
    rng = np.random.default_rng(seed_for("steered latents dealt", seed))
    both = np.concatenate([own, other])
    dealt = np.argsort(rng.random((N_DRAWS, len(both))), axis=1)
    mixed = both[dealt]
    differences = mixed[:, : len(own)].mean(1) - mixed[:, len(own) :].mean(1)
    difference = float(own.mean() - other.mean())
    as_far = int((np.abs(differences) >= abs(difference) - 1e-12).sum())
    return difference, (as_far + 1) / (N_DRAWS + 1)


def _two_way(own: np.ndarray, other: np.ndarray, seed: int) -> Interval:
    """Of mean(own) − mean(other): `own` (n_problems,) and `other` (n_random, n_problems) are means over cells; problems
    are drawn anew, the same for both, and random vectors are.
    """
    rng = np.random.default_rng(seed_for("steered latents drawn", seed))
    n_random, n = other.shape
    problems = rng.multinomial(n, np.full(n, 1 / n), size=N_DRAWS) / n
    vectors = rng.multinomial(n_random, np.full(n_random, 1 / n_random), size=N_DRAWS) / n_random
    return bootstrap_percentile(problems @ own - ((vectors @ other) * problems).sum(1))


@dataclass(frozen=True)
class Estimated:
    value: float
    low: float
    high: float
    n: int  # cells


def mean_change(cells: Seen, *, seed: int = 0) -> Estimated:
    """Mean change of accuracy over the cells; the interval draws problems anew."""
    if not len(cells.labels):
        return Estimated(math.nan, math.nan, math.nan, 0)
    by_problem = cells.effects.mean(0)
    drawn = _drawn_problems(len(by_problem), seed) @ by_problem
    return Estimated(float(by_problem.mean()), *bootstrap_percentile(drawn), len(cells.labels))


def likeness(one: Seen, other: Seen, *, seed: int = 0) -> Estimated:
    """Pearson's correlation of two maps' changes of accuracy, over the cells of one label. NaN where one is flat."""
    keys = [pd.MultiIndex.from_frame(cells.labels[["a", "b", "target"]]) for cells in (one, other)]
    if one.right.shape[1] != other.right.shape[1]:
        raise LatentError("Two maps are compared on the same problems; these have not equally many.")
    common = keys[0].intersection(keys[1])
    if len(common) < 3:
        return Estimated(math.nan, math.nan, math.nan, len(common))
    a, b = (cells.effects[key.get_indexer(common)] for cells, key in zip((one, other), keys, strict=True))
    weights = _drawn_problems(a.shape[1], seed)
    value = float(_correlations(a.mean(1)[None], b.mean(1)[None])[0])
    return Estimated(value, *bootstrap_percentile(_correlations(weights @ a.T, weights @ b.T)), len(common))


def _drawn_problems(n: int, seed: int) -> np.ndarray:
    """(N_DRAWS, n) weights that add up to 1."""
    return np.random.default_rng(seed_for("problems of maps", seed)).multinomial(n, np.full(n, 1 / n), size=N_DRAWS) / n


def _correlations(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Row by row; NaN where a row is flat."""
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = np.sqrt((a**2).sum(1) * (b**2).sum(1))
        return np.where(scale > 1e-12, (a * b).sum(1) / scale, np.nan)


def fitted_table(own: Map) -> pd.DataFrame:
    """One row a fitted vector and target: its bound, its length in typical ones, and what it did."""
    cells = seen(own, Arm(str(own.facts["space"])), early=True, kind=FITTED)
    table = cell_table(cells, NO_CELLS)
    return table.assign(lengths=table["length"] / float(own.facts["typical_length"])) if len(table) else table
