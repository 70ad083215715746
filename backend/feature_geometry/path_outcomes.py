"""Are paths of CoTs that end correct other than those that end wrong, at equal length?

1. A comparison has strata and a value. `unmatched`: all CoTs together, as they are. `matched`: CoTs of equally many
   chunks. `matched_to_order`: the same, each CoT's value less its own mean over random orders of its chunks, so that
   what is left is a matter of order. `within_problem`: CoTs of one problem, which are equally hard, of any length.
2. The difference is Σ_s w_s (mean of the correct − mean of the wrong in stratum s), w_s ∝ n⁺n⁻ / (n⁺ + n⁻); a stratum
   with one kind alone takes no part. The 95 % interval draws problems with replacement.
3. p: verdicts dealt anew within the strata. Power: verdicts are dealt, and every correct CoT gets so many standard
   deviations (within strata) more; the share of such worlds in which this test says p ≤ 0.05.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from backend.ids import seed_for
from backend.statistics.intervals import bootstrap_percentile
from backend.statistics.resampling import problem_draws

MEASURES = ("progress", "curvature", "effective_dimension")
PLANTED = (0.25, 0.5, 1.0)  # standard deviations within strata
N_WORLDS = 200
ALPHA = 0.05


@dataclass(frozen=True)
class Comparison:
    label: str
    strata: Callable[[pd.DataFrame], pd.Series]
    is_excess: bool  # over the CoT's own random orders


COMPARISONS = {
    "unmatched": Comparison("any length", lambda rows: pd.Series(0, rows.index), is_excess=False),
    "matched": Comparison("equal length", lambda rows: rows["n_chunks"], is_excess=False),
    "matched_to_order": Comparison("equal length, less random order", lambda rows: rows["n_chunks"], is_excess=True),
    "within_problem": Comparison("same problem, any length", lambda rows: rows["problem_id"], is_excess=False),
}


def outcomes(rows: pd.DataFrame, *, n_draws: int, seed: int) -> list[dict[str, Any]]:
    """One row a comparison and measure. `rows` has a row a CoT: problem_id, n_chunks, is_correct, MEASURES and the same
    with `shuffled_` before them; those without a verdict or a value take no part.
    """
    return [
        {"comparison": name, "measure": measure, **compared(_values(rows, measure, kind), n_draws=n_draws, seed=seed)}
        for name, kind in COMPARISONS.items()
        for measure in MEASURES
    ]


def _values(rows: pd.DataFrame, measure: str, kind: Comparison) -> pd.DataFrame:
    """y, correct, stratum, problem_id of the CoTs that take part."""
    y = rows[measure].astype(float) - (rows[f"shuffled_{measure}"].astype(float) if kind.is_excess else 0.0)
    known = y.notna() & rows["is_correct"].notna()
    frame = pd.DataFrame({"y": y, "correct": rows["is_correct"], "stratum": kind.strata(rows), **rows[["problem_id"]]})
    frame = frame[known].astype({"correct": bool})
    both = frame.groupby("stratum")["correct"].transform("nunique") == 2
    return frame[both].reset_index(drop=True)


def compared(frame: pd.DataFrame, *, n_draws: int, seed: int) -> dict[str, Any]:
    """Unknown is NaN: everything but the counts, where no stratum has both kinds."""
    correct = frame["correct"].to_numpy(bool)
    found: dict[str, Any] = {"n_correct": int(correct.sum()), "n_wrong": int((~correct).sum())}
    strata = pd.factorize(frame["stratum"])[0]
    found["n_strata"] = len(set(strata.tolist()))
    if not found["n_strata"]:
        return found
    y = frame["y"].to_numpy(float)
    rng = np.random.default_rng(seed_for("dealt verdicts", seed))
    own, dealt = weights(correct[None], strata)[0], weights(_dealt(correct, strata, n_draws, rng), strata)
    difference, under = float(own @ y), dealt @ y
    spread = _within(y, strata)
    problems = pd.factorize(frame["problem_id"])[0]
    interval = bootstrap_percentile(_drawn(y, correct, strata, problems, n_draws, seed))
    found |= {"difference": difference, "low": interval.low, "high": interval.high, "sd": spread}
    found |= {"p": _p(np.array([difference]), under[None])[0]}
    worlds = _dealt(correct, strata, N_WORLDS, rng)
    found["planted"] = list(PLANTED)
    found["power"] = [_power(y, size * spread, worlds, strata, dealt) for size in PLANTED]
    return found


def weights(correct: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """(k, n): what each CoT's value counts in the difference, for verdicts (k, n) with both kinds in every stratum."""
    members = np.equal.outer(strata, np.arange(strata.max() + 1)).astype(float)
    n_correct, n_all = correct @ members, members.sum(0)
    n_wrong = n_all - n_correct
    overlap = n_correct * n_wrong / n_all
    overlap = overlap / overlap.sum(1, keepdims=True)
    return np.where(correct, (overlap / n_correct)[:, strata], -(overlap / n_wrong)[:, strata])


def _dealt(correct: np.ndarray, strata: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """(n, n_cots): verdicts in random order within strata."""
    order = np.argsort(strata, kind="stable")
    found = np.empty((n, len(correct)), bool)
    for row in found:
        row[order] = correct[np.lexsort((rng.random(len(correct)), strata))]
    return found


def _within(y: np.ndarray, strata: np.ndarray) -> float:
    """Standard deviation about the strata's means."""
    free = len(y) - len(set(strata.tolist()))
    centred = y - (np.bincount(strata, y) / np.bincount(strata))[strata]
    return math.sqrt((centred**2).sum() / free) if free > 0 else math.nan


def _p(values: np.ndarray, under: np.ndarray) -> np.ndarray:
    """Two-sided, of each value (k,) among the draws (k, n_draws), (hits + 1) / (draws + 1)."""
    as_far = np.abs(under) >= np.abs(values)[:, None] - 1e-12 * np.abs(under).max()
    return np.asarray((as_far.sum(1) + 1) / (under.shape[1] + 1))


def _power(y: np.ndarray, size: float, worlds: np.ndarray, strata: np.ndarray, dealt: np.ndarray) -> float:
    """The share of worlds (dealt verdicts, the correct ones `size` more) in which p ≤ ALPHA."""
    planted = y + size * worlds
    values = (weights(worlds, strata) * planted).sum(1)
    return float((_p(values, planted @ dealt.T) <= ALPHA).mean())


def _drawn(
    y: np.ndarray, correct: np.ndarray, strata: np.ndarray, problems: np.ndarray, n_draws: int, seed: int
) -> np.ndarray:
    """The difference in each draw of problems; NaN where none of the strata has both kinds. None with one problem."""
    draws = problem_draws(int(problems.max()) + 1, n_draws, seed)
    often = draws[:, problems].astype(float)
    members = np.equal.outer(strata, np.arange(strata.max() + 1)).astype(float)
    n_correct, n_wrong = (often * correct) @ members, (often * ~correct) @ members
    with np.errstate(invalid="ignore", divide="ignore"):
        apart = (often * correct * y) @ members / n_correct - (often * ~correct * y) @ members / n_wrong
        overlap = n_correct * n_wrong / (n_correct + n_wrong)
    both = (n_correct > 0) & (n_wrong > 0)
    overlap, apart = np.where(both, overlap, 0), np.where(both, apart, 0)
    total = overlap.sum(1)
    return np.divide((overlap * apart).sum(1), total, out=np.full(len(total), np.nan), where=total > 0)
