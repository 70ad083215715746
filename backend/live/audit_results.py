"""What an audit says, from its kept results: numbers with their n, intervals and controls."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from backend.statistics.intervals import bootstrap_mean, wilson
from backend.statistics.paired import Paired, paired_difference

ARMS = ("base", "changed", "random")
PAIRS = (("changed", "base"), ("random", "base"), ("changed", "random"))


def cost_rows(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row an arm (vector, random) and β: quartiles of KL over the chunks, nats, n (chunks) and n_below_floor (of
    them).

    A chunk's random value is the mean over its random vectors.
    """
    chunks, pushes = results["chunks"], results["pushes"]
    floors = _array([chunk["noise_floor"] for chunk in chunks])
    own = _array([chunk["kl"] for chunk in chunks])
    rows = [_quartiles("vector", beta, own[:, k], floors) for k, beta in enumerate(results["betas"])]
    if any(chunk["random"] for chunk in chunks):
        random = _array([np.mean(_array(chunk["random"]), axis=0) for chunk in chunks])
        rows += [_quartiles("random", beta, random[:, k], floors) for k, beta in enumerate(pushes)]
    return rows


def _quartiles(arm: str, beta: float, kl: np.ndarray, floors: np.ndarray) -> dict[str, Any]:
    known = kl[np.isfinite(kl)]
    low, middle, high = np.quantile(known, (0.25, 0.5, 0.75)) if len(known) else (math.nan,) * 3
    return {
        "arm": arm,
        "beta": float(beta),
        "low": float(low),
        "median": float(middle),
        "high": float(high),
        "n": len(known),
        "n_below_floor": int((kl <= floors).sum()),
    }


def cost_against_random(results: Mapping[str, Any], beta: float) -> dict[str, Any]:
    """How the vector's KL at `beta` stands to that of random vectors of its norm.

    ratio (geometric mean over chunks of KL over the mean of the random ones, with its bootstrap interval over CoTs, and
    n chunks of n_cots; chunks at or below the noise floor on either side are left out and counted) · rank: the share of
    the random vectors whose median KL over the chunks is at least the vector's, as p = (k + 1)/(K + 1).
    """
    chunks, at = results["chunks"], list(results["betas"]).index(beta)
    pushed = list(results["pushes"]).index(beta)
    own = _array([chunk["kl"][at] for chunk in chunks])
    random = _array([[one[pushed] for one in chunk["random"]] for chunk in chunks])
    floors = _array([chunk["noise_floor"] for chunk in chunks])
    mean = random.mean(axis=1)
    known = (own > floors) & (mean > floors)
    logs = pd.Series(np.log(own[known] / mean[known]))
    by_cot = logs.groupby([_cot(chunk["chunk_id"]) for chunk, kept in zip(chunks, known, strict=True) if kept]).mean()
    low, high = bootstrap_mean(by_cot.tolist())
    medians = np.median(random, axis=0)
    k = int((medians >= np.median(own)).sum())
    return {
        "ratio": math.exp(by_cot.mean()) if len(by_cot) else math.nan,
        "low": math.exp(low),
        "high": math.exp(high),
        "n": int(known.sum()),
        "n_cots": len(by_cot),
        "n_left_out": int((~known).sum()),
        "median": float(np.median(own)),
        "random_medians": medians.tolist(),
        "p": (k + 1) / (len(medians) + 1),
    }


def _cot(chunk_id: str) -> str:
    return chunk_id.rpartition("_")[0]


def text_rows(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row an arm: its thinking tokens (mean of problems' means, with the bootstrap interval over problems), the
    share of loops and of thoughts that were not closed (Wilson), n texts of n_problems.
    """
    samples = pd.DataFrame(results["samples"])
    return [_of_arm(arm, rows) for arm in ARMS if len(rows := samples[samples["arm"] == arm])]


def _of_arm(arm: str, rows: pd.DataFrame) -> dict[str, Any]:
    by_problem = rows.groupby("problem_id")["thinking_tokens"].mean()
    length = bootstrap_mean(by_problem.tolist())
    loops, n = int(rows["degenerate"].sum()), len(rows)
    cut = int((rows["finish"] == "cap").sum())
    return {
        "arm": arm,
        "n": n,
        "n_problems": len(by_problem),
        "length": float(by_problem.mean()),
        "length_low": length.low,
        "length_high": length.high,
        "loops": loops / n,
        "loops_low": wilson(loops, n).low,
        "loops_high": wilson(loops, n).high,
        "cut": cut / n,
    }


def text_pairs(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Arms against one another, problem by problem: one row a pair and quantity (thinking_tokens, degenerate), with the
    difference of problems' means, its interval, n problems and the p of sign flips.
    """
    samples = pd.DataFrame(results["samples"])
    rows = []
    for quantity in ("thinking_tokens", "degenerate"):
        means = samples.groupby(["arm", "problem_id"])[quantity].mean().unstack("arm")
        for arm, against in PAIRS:
            if {arm, against} <= set(means):
                found = _paired(means[against], means[arm])
                rows.append({"arm": arm, "against": against, "quantity": quantity, **vars(found)})
    return rows


def _paired(base: Sequence[float], changed: Sequence[float]) -> Paired:
    return paired_difference(list(base), list(changed))


def _array(values: Any) -> np.ndarray:
    """float64, unknown (None) as NaN."""
    return np.array(values, dtype=np.float64)
