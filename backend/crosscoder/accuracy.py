"""What the samples of an intervention's arms say: how many problems are solved, how the texts end, and each arm against
another.

Samples are rows of feature_intervention_samples with `arm`: sample k of a problem drew with the same random numbers in
every arm, so arms are compared in pairs.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from backend.crosscoder.trials import BASE
from backend.models.interventions import InterventionError
from backend.statistics.intervals import UNKNOWN, Interval, beyond, bootstrap_mean, prediction, wilson
from backend.statistics.paired import mcnemar, paired_difference

LENGTHS = {"length": "n_tokens", "thinking": "n_thinking", "answering": "n_answer"}  # column by name


def summarise_arms(samples: pd.DataFrame) -> list[dict[str, Any]]:
    """One row an arm of one model's judged samples (those of `accuracy_run`, with is_correct: True, False or None), in
    the order they come.

    n, n_problems, n_judged and n_without_answer, and shares, each with _low and _high by Wilson and _n, how many took
    part: `solved`, correct of all whose answer was judged or is missing, so that a model that says nothing solves
    nothing · `accuracy`, correct of the judged · `cap`, cut at the most tokens · `degenerate`. `length` is the mean
    number of tokens, `thinking` and `answering` of those before and after the thought's closing tag, each with a
    bootstrap interval and NaN where it was not counted. Intervals take samples for independent; those of one problem
    are not, so with several a problem they are too narrow: `compare_arms` tests both ways. `same` of `same_n` texts are
    those of the arm without an edit, to the letter.
    """
    rows, keyed = [], samples.set_index(["problem_id", "sample"])
    unedited = keyed.loc[keyed["arm"] == BASE, "text"]
    for arm, own in samples.groupby("arm", sort=False):
        correct = own["is_correct"].astype("boolean")
        shares = {
            "solved": solved(own),
            "accuracy": correct,
            "cap": own["finish"] == "cap",
            "degenerate": own["degenerate"].astype("boolean"),
        }
        row: dict[str, Any] = {
            "arm": arm,
            "n": len(own),
            "n_problems": own["problem_id"].nunique(),
            "n_judged": int(correct.notna().sum()),
            "n_without_answer": int(own["answer"].isna().sum()),
        }
        for name, verdicts in shares.items():
            known = verdicts.dropna()
            row[name] = float(known.mean()) if len(known) else math.nan
            row[f"{name}_low"], row[f"{name}_high"] = wilson(int(known.sum()), len(known))
            row[f"{name}_n"] = len(known)
        for name, column in LENGTHS.items():
            known = own[column].dropna().astype(float) if column in own else pd.Series(dtype=float)
            row[name] = float(known.mean()) if len(known) else math.nan
            row[f"{name}_low"], row[f"{name}_high"] = bootstrap_mean(known)
        beside = keyed.loc[keyed["arm"] == arm, "text"].to_frame("own").join(unedited.rename("base"), how="inner")
        row["same"], row["same_n"] = int((beside["own"] == beside["base"]).sum()), len(beside)
        rows.append(row)
    return rows


def compare_arms(
    samples: pd.DataFrame, against: str = BASE, *, only: Collection[str] | None = None, seed: int = 0
) -> list[dict[str, Any]]:
    """Every other arm of one model, or `only` some, against `against`, paired by problem and sample number: rows of
    arm, against, quantity and a `Paired`.

    `solved`, `accuracy` and `degenerate` compare sample with sample, by McNemar's test, which takes pairs for
    independent; `solved by problem` and `length by problem` are mean differences of a problem's pairs, one value a
    problem, by sign flips. With one sample a problem the two agree. Where h is replaced, compare with `reconstruct` and
    `random` too: against base the dictionary's error counts.
    """
    keyed = samples.assign(solved=solved(samples), accuracy=samples["is_correct"].astype("boolean"))
    by_arm = {arm: own.set_index(["problem_id", "sample"]) for arm, own in keyed.groupby("arm", sort=False)}
    if against not in by_arm:
        raise InterventionError(f"There are no samples of arm {against}; expected one of {', '.join(by_arm)}.")
    rows = []
    for arm in [arm for arm in by_arm if arm != against and (only is None or arm in only)]:
        pairs = by_arm[against].index.union(by_arm[arm].index)
        base, other = (by_arm[name].reindex(pairs) for name in (against, arm))
        found = {name: mcnemar(list(base[name]), list(other[name])) for name in ("solved", "accuracy", "degenerate")}
        for name, column in (("solved by problem", "solved"), ("length by problem", "n_tokens")):
            difference = other[column].astype("Float64") - base[column].astype("Float64")
            by_problem = difference.groupby(level="problem_id").mean()
            found[name] = paired_difference(
                [None if pd.isna(value) else 0.0 for value in by_problem], list(by_problem), seed=seed
            )
        rows += [{"arm": arm, "against": against, "quantity": name, **vars(paired)} for name, paired in found.items()]
    return rows


@dataclass(frozen=True)
class ControlBand:
    """What a change does to the share solved, and where its controls say that the same change of features that were not
    chosen would leave it.
    """

    effect: float  # share solved under the change less under the arm it is set against, mean over pairs of samples
    n: int  # pairs
    band: Interval  # the widest of the controls'; NaN, NaN where none has one
    controls: dict[str, Interval]  # of each control arm
    n_sets: dict[str, int]

    @property
    def is_beyond(self) -> bool | None:
        return beyond(self.effect, self.band)


def control_band(samples: pd.DataFrame, changed: str, controls: Sequence[str], *, against: str = BASE) -> ControlBand:
    """The effect of arm `changed` beside control arms, whose samples take several sets of features in turn.

    A control's band is where the effect of one more such set lies (95 %): `prediction` from the mean effects of its
    sets, each on the samples that it was changed in, in pairs with `against`. A set has its share of the samples alone,
    so that a band is wide where there are few. The band is the envelope of the controls.
    """
    keyed = samples.assign(solved=solved(samples).astype("Float64")).set_index(["problem_id", "sample"])
    before = keyed.loc[keyed["arm"] == against, "solved"]

    def effects(arm: str) -> pd.DataFrame:
        own = keyed[keyed["arm"] == arm]
        return own.assign(effect=own["solved"] - before.reindex(own.index)).dropna(subset=["effect"])

    own = effects(changed)["effect"].astype(float)
    found: dict[str, Interval] = {}
    n_sets: dict[str, int] = {}
    for arm in controls:
        rows = effects(arm)
        by_set = rows["effect"].astype(float).groupby(rows["features"].map(tuple)).mean()
        found[arm], n_sets[arm] = prediction(by_set.to_numpy()), len(by_set)
    known = [one for one in found.values() if not math.isnan(one.low)]
    band = Interval(min(one.low for one in known), max(one.high for one in known)) if known else UNKNOWN
    return ControlBand(float(own.mean()) if len(own) else math.nan, len(own), band, found, n_sets)


def solved(samples: pd.DataFrame) -> pd.Series:
    """True where the answer is correct, False where it is wrong or missing, NA where there is one that was not or could
    not be judged.
    """
    return samples["is_correct"].astype("boolean").mask(samples["answer"].isna(), False)
