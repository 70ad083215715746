"""Stored readings of latents, summed up over problems. Nothing here imports a model."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from backend.latent.kinds import LatentError
from backend.registry import Registry
from backend.statistics.columns import column_means
from backend.statistics.intervals import wilson

CELL = "cell"  # in place of a role: the whole reading


@dataclass(frozen=True, eq=False)
class Read:
    """What one lens reads at one layer of one model: (n_problems, n_steps) each; unknown is NaN."""

    model_id: str
    layer: int
    first_step: int  # latents run at the first column
    problems: tuple[str, ...]
    token: np.ndarray
    probability: np.ndarray
    cosine: np.ndarray
    entropy: np.ndarray
    rank: dict[str, np.ndarray]  # by role
    log_prob: dict[str, np.ndarray]

    @property
    def steps(self) -> range:
        return range(self.first_step, self.first_step + self.token.shape[1])

    def of(self, problems: Sequence[str]) -> "Read":
        """Of some of the problems, in this order."""
        place = {name: row for row, name in enumerate(self.problems)}
        rows = [place[name] for name in problems if name in place]
        return replace(
            self,
            problems=tuple(self.problems[row] for row in rows),
            token=self.token[rows],
            probability=self.probability[rows],
            cosine=self.cosine[rows],
            entropy=self.entropy[rows],
            rank={role: values[rows] for role, values in self.rank.items()},
            log_prob={role: values[rows] for role, values in self.log_prob.items()},
        )


def unpacked(rows: pd.DataFrame) -> list[Read]:
    """Rows of latent_readings under one lens, by model and layer."""
    return [_unpacked(own) for _, own in rows.groupby(["model_id", "layer"], sort=False)]


def _unpacked(rows: pd.DataFrame) -> Read:
    n_steps = len(rows["token_ids"].iloc[0])
    shape = (len(rows), n_steps)
    known = list(dict.fromkeys(role for roles in rows["roles"] for role in roles))
    rank, log_prob = ({role: np.full(shape, np.nan) for role in known} for _ in range(2))
    for row, (roles, ranks, logs) in enumerate(zip(rows["roles"], rows["ranks"], rows["log_probs"], strict=True)):
        by_role = _reals(logs, len(roles) * n_steps).reshape(len(roles), n_steps)
        counts = _reals(ranks, len(roles) * n_steps).reshape(len(roles), n_steps)
        for place, role in enumerate(roles):
            rank[role][row], log_prob[role][row] = np.where(counts[place] < 1, np.nan, counts[place]), by_role[place]
    probability, cosine, entropy = (
        np.stack([_reals(one, n_steps) for one in rows[name]]) for name in ("probabilities", "cosines", "entropies")
    )
    return Read(
        model_id=str(rows["model_id"].iloc[0]),
        layer=int(rows["layer"].iloc[0]),
        first_step=int(rows["first_step"].iloc[0]),
        problems=tuple(rows["problem_id"]),
        token=np.stack([np.asarray(one, dtype=np.int64) for one in rows["token_ids"]]),
        probability=probability,
        cosine=cosine,
        entropy=entropy,
        rank=rank,
        log_prob=log_prob,
    )


def _reals(values: Any, n: int) -> np.ndarray:
    """(n,) float64, NaN where unknown or not there at all."""
    if not hasattr(values, "__len__"):  # None, NaN or NA
        return np.full(n, np.nan)
    return np.ma.filled(np.ma.asarray(values, dtype=np.float64), np.nan)


@dataclass(frozen=True)
class Measure:
    """A number of a reading."""

    name: str
    label: str
    unit: str | None
    words: str
    of_role: bool  # of a followed word, not of the whole reading
    is_log: bool  # drawn as log10
    low_is_sure: bool
    values: Callable[[Read, str], np.ndarray]  # (n_problems, n_steps), of a role


MEASURES: Registry[Measure] = Registry(
    "measure of a reading",
    Measure(
        "entropy",
        "entropy",
        "nats",
        "entropy of the whole reading, mean over problems",
        False,
        False,
        True,
        lambda read, _: read.entropy,
    ),
    Measure(
        "probability",
        "probability of the top token",
        None,
        "how sure the reading is of its likeliest token, mean over problems",
        False,
        False,
        False,
        lambda read, _: read.probability,
    ),
    Measure(
        "followed",
        "probability of a followed word",
        None,
        "of each problem's own word, mean over problems",
        True,
        False,
        False,
        lambda read, role: np.exp(read.log_prob[role]),
    ),
    Measure(
        "rank",
        "rank of a followed word",
        "log₁₀",
        "1 + how many tokens are likelier, geometric mean over problems",
        True,
        True,
        True,
        lambda read, role: np.log10(read.rank[role]),
    ),
    Measure(
        "top",
        "share where a followed word is first",
        None,
        "share of problems in which the word is the likeliest token",
        True,
        False,
        False,
        lambda read, role: np.where(np.isnan(read.rank[role]), np.nan, read.rank[role] == 1),
    ),
    Measure(
        "cosine",
        "cosine with the nearest embedding",
        None,
        "with the input embedding that lies nearest, mean over problems",
        False,
        False,
        False,
        lambda read, _: read.cosine,
    ),
    error=LatentError,
)


def words_of_role(role: str) -> str:
    """What a followed word is, in words."""
    told = {
        "answer": "the answer",
        "other": "another problem's answer (control)",
        "operand": "a number of the question (control)",
    }
    return told.get(role) or (f"“{role.removeprefix('word ')}”" if role.startswith("word ") else role)


def roles_in(reads: Sequence[Read]) -> list[str]:
    """Every role that some problem has: intermediates before the answer, then controls and named words."""
    known = list(dict.fromkeys(role for read in reads for role in read.rank))
    between = sorted((role for role in known if role.startswith("intermediate")), key=lambda role: int(role.split()[1]))
    return [*between, *(role for role in known if role not in between)]


def cells(read: Read, measure: Measure, role: str, *, seed: int = 0) -> list[dict[str, Any]]:
    """One row a step: mean of the measure with its interval over problems, and the most frequent top token. A role that
    no problem here has is unknown.
    """
    has_it = not measure.of_role or role in read.rank
    values = measure.values(read, role) if has_it else np.full(read.token.shape, np.nan)
    found = column_means(values, seed=seed)
    rows = []
    for column, step in enumerate(read.steps):
        counts = Counter(read.token[:, column].tolist())
        token, n = max(counts.items(), key=lambda one: (one[1], -one[0])) if counts else (None, 0)
        rows.append(
            {
                "model_id": read.model_id,
                "layer": read.layer,
                "step": step,
                "value": float(found.mean[column]),
                "low": float(found.low[column]),
                "high": float(found.high[column]),
                "n": int(found.n[column]),
                "token_id": token,
                "token_share": n / len(read.problems) if read.problems else np.nan,
                "entropy": _mean(read.entropy[:, column]),
                "probability": _mean(read.probability[:, column]),
            }
        )
    return rows


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def top_tokens(read: Read, step: int) -> list[tuple[int, int, float]]:
    """Of one step: each top token with the number of problems that have it and its mean probability there, the most
    frequent first.
    """
    column = step - read.first_step
    tokens, probability = read.token[:, column], read.probability[:, column]
    found = [(int(token), tokens == token) for token in np.unique(tokens)]
    rows = [(token, int(own.sum()), _mean(probability[own])) for token, own in found]
    return sorted(rows, key=lambda row: (-row[1], row[0]))


@dataclass(frozen=True)
class Decoded:
    """How a followed word fares where it is most probable, beside the control there."""

    role: str
    layer: int
    step: int
    value: float  # mean over problems
    control: float  # of another problem's answer, at the same place
    excess: float  # paired
    low: float  # 95 % interval of the excess
    high: float
    n: int  # problems


def best_cell(reads: Sequence[Read], role: str, control: str = "other", *, seed: int = 0) -> Decoded | None:
    """Of one role over layers and steps. Every second problem chooses the place, and the others say what is found
    there, so that the choice makes nothing look larger. None where nothing is known of it.
    """
    found = [
        (read, step) for read in reads if role in read.log_prob and control in read.log_prob for step in read.steps
    ]
    by = [_mean(np.exp(read.log_prob[role][0::2, step - read.first_step])) for read, step in found]
    if not found or np.isnan(by).all():
        return None
    read, step = found[int(np.nanargmax(by))]
    own, other = (np.exp(read.log_prob[one][1::2, step - read.first_step]) for one in (role, control))
    apart = column_means((own - other)[:, None], seed=seed)
    excess, low, high = (float(one[0]) for one in (apart.mean, apart.low, apart.high))
    return Decoded(role, read.layer, step, _mean(own), _mean(other), excess, low, high, int(apart.n[0]))


def early_answers(runs: pd.DataFrame) -> pd.DataFrame:
    """By model and number of latents: the share of problems whose answer, forced there, is right, with Wilson's
    interval. A run without an answer is not right.
    """
    rows = []
    for (model_id, n_latents), own in runs.groupby(["model_id", "n_latents"], sort=False):
        right = int(own["is_correct"].eq(True).sum())
        low, high = wilson(right, len(own))
        found = {"value": right / len(own), "low": low, "high": high, "n": len(own)}
        rows.append({"model_id": model_id, "step": int(n_latents), **found})
    return pd.DataFrame(rows, columns=["model_id", "step", "value", "low", "high", "n"])


def at_the_end(runs: pd.DataFrame, model_id: str) -> pd.Series:
    """Whether each problem is answered right with all latents of a model, by problem."""
    own = runs[runs["model_id"] == model_id]
    last = own[own["n_latents"] == own["n_latents"].max()]
    return last.set_index("problem_id")["is_correct"].eq(True)
