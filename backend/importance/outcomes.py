"""What steering did to the continuations: each arm by itself, arms against the unsteered one, the chunk's importance,
and the dose.

`samples` everywhere has the columns of the table `experiment_samples` (of one experiment) and, where answers are
counted, `cluster`: the answer that a sample's answer counts as, None where it gave none. Answers of all arms and of the
stored rollouts they are compared with are clustered together (`answers.cluster_answers`), else equal answers would bear
different names.

Conventions, as in `metrics`: a sample without an answer is neither correct nor wrong, and unknown takes no part but is
counted. A sample cut at the cap would have gone on: its length is a lower bound, and its answer may be missing for that
reason, so the share cut stands beside both. Every quantity is {"value", "low", "high", "n"}: its 95 % interval and how
many samples took part. Results are plain dicts that JSON can hold; unknown is None.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from backend.cot.degeneration import is_degenerate
from backend.ids import seed_for
from backend.importance import conventions
from backend.importance.conventions import AFTER, ALL, CORRECTNESS, HERE, REACHING_HERE, WRITTEN
from backend.importance.estimates import kl_divergence
from backend.importance.jsd import jensen_shannon
from backend.importance.metric_registry import METRICS, sides_of
from backend.statistics.changepoint import MIN_X, changepoint
from backend.statistics.intervals import UNKNOWN, Interval, bootstrap_mean, bootstrap_percentile, wilson
from backend.statistics.paired import mcnemar, paired_difference

BASE = "base"
ARMS = ("base", "changed", "flipped", "random", "same", "paraphrase")
# Pairs of arms that are compared: every other one with the base, and a new wording with a paraphrase of the old one.
PAIRS = (*((arm, BASE) for arm in ARMS[1:]), ("changed", "paraphrase"))

# Quantities that are means over samples, with their units.
MEANS = {
    "thinking": "tokens before the thought's closing tag",
    "answering": "tokens after it",
    "length": "tokens",
    "reflection_rate": "self-reflection words per 100 tokens",
    "repetition": "share of word 4-grams",
    "compression_ratio": "bytes over compressed bytes",
}

# Metric and convention of every row of `importance_change`.
CHANGES = (
    ("resampling_importance_accuracy", ALL),
    ("resampling_importance_jsd", "jsd"),
    ("resampling_importance_kl", "fl"),
    ("resampling_importance_kl", "ta"),
)

# For `dose_steps`: the quantities of a dose that are shares or means over its samples, and the samples' column of each.
STEPPED = {"accuracy": "correct", "thinking": "thinking", "length": "length", "degenerate_share": "degenerate"}
# Samples that a dose must have to take part in the test of a step. With n of them the bootstrap within a dose is too
# narrow by √(1 − 1/n): 29 % of two, 11 % of five.
MIN_PER_DOSE = 5

# For `importance_change`: where the arms continue from, and so which stored rollouts stand on the other side of the
# chunk.
SIDES = ("before", "after")


def arm_summary(samples: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Every arm that has samples, by name and in the order of ARMS, with:

    n, n_judged, n_correct, n_without_answer · accuracy, cap_share, degenerate_share (shares with Wilson's interval; of
    the judged, of those whose finish is known, of all) · those of MEANS (with a bootstrap interval; of `answering`
    those with a tag that says where the answer begins) · answers: [{"cluster", "n", "is_correct"}], most frequent
    first, is_correct None where its samples were not judged.
    """
    table = _of_one_dose(_measured(samples))
    found = dict(iter(table.groupby("arm")))
    return {arm: {**_summary(found[arm]), "answers": _answers(found[arm])} for arm in ARMS if arm in found}


def compare(samples: pd.DataFrame, *, seed: int = 0) -> list[dict[str, Any]]:
    """Arms against one another (PAIRS), paired by the number of the sample: one row a pair of arms and quantity.

    A row has arm, against, quantity (accuracy, then those of MEANS), unit, n (pairs), n_left_out (pairs with a side
    unknown or missing), difference (arm − against), low, high, p and test. The p are of single comparisons, not
    corrected for their number.
    """
    by_arm = {arm: rows.set_index("sample") for arm, rows in _of_one_dose(_measured(samples)).groupby("arm")}
    rows = []
    for arm, against in PAIRS:
        if arm not in by_arm or against not in by_arm:
            continue
        numbers = by_arm[against].index.union(by_arm[arm].index)
        base, other = (by_arm[name].reindex(numbers) for name in (against, arm))
        results = {"accuracy": ("share of the judged", mcnemar(base["correct"], other["correct"]))}
        results |= {name: (unit, paired_difference(base[name], other[name], seed=seed)) for name, unit in MEANS.items()}
        rows += [
            _plain({"arm": arm, "against": against, "quantity": name, "unit": unit, **vars(paired)})
            for name, (unit, paired) in results.items()
        ]
    return rows


def importance_change(
    base: pd.DataFrame,
    changed: pd.DataFrame,
    stored: pd.DataFrame,
    side: str,
    *,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """How the chunk's resampling importance changes when one side of it is steered: rows for accuracy, JSD, KL by `fl`
    and KL by `ta`.

    Side "before": the arms continue from before chunk i, and `stored` are the study's rollouts at i+1. Side "after":
    the arms continue from after chunk i, and `stored` are the rollouts at i. In either case the importance is that of
    `conventions`, with its direction and its outcomes; base and changed arm are compared with the same stored rollouts.
    `base` and `changed` have the columns sample, cluster and is_correct, `stored` has cluster and is_correct; where it
    has `kind` only its resample rollouts count. Where all three have `answer`, `ta` counts that; else it counts
    clusters.

    A row has metric, convention, base and changed (each {"value", "low", "high", "n"}), n_stored, difference (changed −
    base), low, high, and reason: why numbers are missing, or None. For the intervals, samples are drawn anew by their
    number, the same for both arms, which share random numbers, and the stored rollouts by themselves. A KL of few
    samples reads too high in either arm, and so does either divergence of samples drawn anew; most of that leaves the
    difference. A JSD by itself has the interval that `jsd` gives.
    """
    if side not in SIDES:
        raise ValueError(f"side is {side!r}; expected before or after")
    if "kind" in stored.columns:
        stored = stored[stored["kind"] == "resample"]
    arms = {"base": base, "changed": changed}
    for name, arm in arms.items():
        if arm["sample"].duplicated().any():
            raise ValueError(
                f"a sample number occurs twice in the {name} arm; pass the samples of one arm and one beta"
            )
    numbers = np.unique(np.concatenate([arm["sample"].to_numpy() for arm in arms.values()]))
    groups = {name: arm.set_index("sample").reindex(numbers) for name, arm in arms.items()} | {
        "stored": stored.reset_index(drop=True)
    }
    by_verdict = {name: _verdicts(group).fillna(-1).to_numpy(dtype=np.int64) for name, group in groups.items()}

    rng = np.random.default_rng(seed_for("importance change", seed))
    drawn = _draws(len(numbers), n_bootstrap, rng)
    draws = {"base": drawn, "changed": drawn, "stored": _draws(len(stored), n_bootstrap, rng)}
    rows = []
    for metric, convention in CHANGES:
        of_verdicts = METRICS[metric].is_accuracy or conventions.CONVENTIONS[convention].outcomes == CORRECTNESS
        codes = by_verdict if of_verdicts else _answer_codes(groups, conventions.CONVENTIONS[convention].outcomes)
        n_outcomes = 2 if of_verdicts else 1 + max(int(of.max(initial=-1)) for of in codes.values())
        outcomes = {name: _one_hot(of, n_outcomes) for name, of in codes.items()}
        n = {name: int(hot.sum()) for name, hot in outcomes.items()}
        row = {"metric": metric, "convention": convention, "n_stored": n["stored"]}
        values, replicates = {}, {}
        for name in arms:
            values[name] = float(
                _importance(outcomes[name].sum(0), outcomes["stored"].sum(0), side, metric, convention)
            )
            resampled = _importance(
                draws[name] @ outcomes[name], draws["stored"] @ outcomes["stored"], side, metric, convention
            )
            replicates[name] = resampled if min(n[name], n["stored"]) > 1 else np.full(n_bootstrap, math.nan)
            own = bootstrap_percentile(replicates[name])
            if METRICS[metric].by_permutation and n[name] and n["stored"]:
                counts = outcomes[name].sum(0), outcomes["stored"].sum(0)
                own = jensen_shannon(*counts, n_outcomes).interval(
                    np.random.default_rng(seed_for("importance change", seed, metric))
                )
            row[name] = _quantity(values[name], own, n[name])
        interval = bootstrap_percentile(replicates["changed"] - replicates["base"])
        row |= {"difference": values["changed"] - values["base"], "low": interval.low, "high": interval.high}
        rows.append(_plain({**row, "reason": _why_unknown(n, side, "a verdict" if of_verdicts else "an answer")}))
    return rows


def dose_response(samples: pd.DataFrame, kl: Mapping[float, float], *, arm: str = "changed") -> list[dict[str, Any]]:
    """One row a beta of `arm`, rising: beta, kl (nats, None where `kl`, by beta, does not have it), and what
    `arm_summary` has but answers.

    The base arm is the dose 0, unless `arm` has samples there itself.
    """
    table = _by_dose(samples, arm)
    rows = {beta: _summary(rows) for beta, rows in table.groupby("beta")}
    nothing = _summary(table.iloc[:0])
    return [
        _plain({"beta": beta, "kl": kl.get(beta), **rows.get(beta, nothing)})
        for beta in sorted({*rows, *map(float, kl)})
    ]


def dose_steps(samples: pd.DataFrame, *, arm: str = "changed", seed: int = 0) -> dict[str, dict[str, Any]]:
    """The one step along β of each quantity of `dose_response`, tested on that quantity's own samples.

    By quantity (kl and those of STEPPED): step (`changepoint`, or None), reason (why there is none, in words, or None),
    n (samples that took part) and n_doses. A dose takes part with MIN_PER_DOSE samples in which the quantity is known.
    A KL is one exact number a dose: it has no samples, and no step is tested on it. The p are of single tests.
    """
    table = _by_dose(samples, arm)
    exact = "KL is one exact number at each β, without samples to test a step on"
    return {"kl": {"step": None, "reason": exact, "n": 0, "n_doses": 0}} | {
        quantity: _step_of({beta: rows[column].dropna() for beta, rows in table.groupby("beta")}, seed)
        for quantity, column in STEPPED.items()
    }


def _step_of(known: Mapping[float, pd.Series], seed: int) -> dict[str, Any]:
    """The step of samples by β."""
    enough = {beta: of.to_numpy(dtype=np.float64) for beta, of in known.items() if len(of) >= MIN_PER_DOSE}
    found = {"step": None, "reason": None, "n": sum(map(len, enough.values())), "n_doses": len(enough)}
    if len(enough) < MIN_X:
        wanted = f"it takes {MIN_PER_DOSE} continuations at each of {MIN_X} β"
        return found | {"reason": f"{wanted}; {len(enough)} β have them"}
    step = changepoint(list(enough), list(enough.values()), seed=seed)
    if step is None:
        return found | {"reason": "the same in every continuation, so there is no step"}
    return found | {"step": _plain(vars(step))}


def _by_dose(samples: pd.DataFrame, arm: str) -> pd.DataFrame:
    """The arm's samples by beta. The base arm is the dose 0, unless `arm` has samples there itself."""
    table = _measured(samples)
    table = table[table["arm"].isin([BASE, arm])]
    table = table.assign(beta=table["beta"].astype("float64").mask(table["arm"] == BASE, 0.0))
    return table[table["arm"] == arm] if ((table["arm"] == arm) & (table["beta"] == 0)).any() else table


def _measured(samples: pd.DataFrame) -> pd.DataFrame:
    """The samples with the columns of MEANS, `correct` and `degenerate`."""
    if strangers := sorted(set(samples["arm"]) - set(ARMS)):
        raise ValueError(f"there is no arm {strangers[0]!r}; expected {', '.join(ARMS)}")
    if samples.duplicated(["arm", "beta", "sample"]).any():
        raise ValueError("a sample number occurs twice in an arm; pass the samples of one experiment")
    length = samples["n_tokens"].astype("Float64").to_numpy(dtype=np.float64, na_value=np.nan)
    spent = {
        name: samples[column].astype("float64") if column in samples else np.full(len(samples), np.nan)
        for name, column in (("thinking", "n_thinking"), ("answering", "n_answer"))
    }
    words = samples["reflection_words"].astype("Float64").to_numpy(dtype=np.float64, na_value=np.nan)
    return samples.assign(
        length=length,
        **spent,
        reflection_rate=np.divide(100 * words, length, out=np.full(len(length), np.nan), where=length > 0),
        repetition=samples["repetition"].astype("float64"),
        compression_ratio=samples["compression_ratio"].astype("float64"),
        correct=_verdicts(samples),
        degenerate=[is_degenerate(text) for text in samples["text"]],
    )


def _of_one_dose(table: pd.DataFrame) -> pd.DataFrame:
    if table.duplicated(["arm", "sample"]).any():
        raise ValueError("an arm has samples of several betas; `dose_response` takes those, or pass one beta at a time")
    return table


def _verdicts(table: pd.DataFrame) -> pd.Series:
    """1 correct, 0 wrong, NA unknown."""
    return table["is_correct"].astype("boolean").astype("Int64")


def _summary(rows: pd.DataFrame) -> dict[str, Any]:
    judged, finish = rows["correct"].dropna(), rows["finish"].dropna()
    shares = {
        "accuracy": _share(judged == 1),
        "cap_share": _share(finish == "cap"),
        "degenerate_share": _share(rows["degenerate"]),
    }
    means = {}
    for name in MEANS:
        known = rows[name].dropna().to_numpy(dtype=np.float64)
        means[name] = _quantity(float(known.mean()) if len(known) else math.nan, bootstrap_mean(known), len(known))
    without = rows["answer"].isna() | (rows["answer"].astype("string").str.strip() == "").fillna(True)
    counts = {
        "n": len(rows),
        "n_judged": len(judged),
        "n_correct": int((judged == 1).sum()),
        "n_without_answer": int(without.sum()),
    }
    return _plain({**counts, **shares, **means})


def _answers(rows: pd.DataFrame) -> list[dict[str, Any]]:
    found = []
    for cluster, members in rows.groupby("cluster"):
        verdicts = members["correct"].dropna()
        found.append(
            {"cluster": cluster, "n": len(members), "is_correct": bool(verdicts.iloc[0]) if len(verdicts) else None}
        )
    return sorted(found, key=lambda answer: (-answer["n"], answer["cluster"]))


def _share(hits: Iterable[bool]) -> dict[str, Any]:
    hits = np.asarray(hits, dtype=bool)
    return _quantity(float(hits.mean()) if len(hits) else math.nan, wilson(int(hits.sum()), len(hits)), len(hits))


def _quantity(value: float, interval: Interval, n: int) -> dict[str, Any]:
    low, high = UNKNOWN if math.isnan(value) else interval
    return {"value": value, "low": low, "high": high, "n": n}


def _draws(n: int, n_bootstrap: int, rng: np.random.Generator) -> np.ndarray:
    """(n_bootstrap, n): how often each of n samples is drawn."""
    return rng.multinomial(n, np.full(n, 1 / n), size=n_bootstrap) if n else np.zeros((n_bootstrap, 0), dtype=np.int64)


def _one_hot(codes: np.ndarray, n_outcomes: int) -> np.ndarray:
    """(n, n_outcomes) of 0 and 1; a row of zeros where the outcome is unknown (−1)."""
    return (codes[:, None] == np.arange(n_outcomes)).astype(np.int64)


def _answer_codes(groups: Mapping[str, pd.DataFrame], outcomes: str) -> dict[str, np.ndarray]:
    """The number of each answer, the same for the same outcome in all groups; −1 where there is none."""
    written = outcomes == WRITTEN and all("answer" in group for group in groups.values())
    answers = pd.concat([group["cluster"] for group in groups.values()])
    if written:
        answers = conventions.written_answers(
            pd.concat([group["answer"] for group in groups.values()]).where(answers.notna().to_numpy())
        )
    ends = np.cumsum([len(group) for group in groups.values()])[:-1]
    return dict(zip(groups, np.split(pd.factorize(answers)[0], ends), strict=True))


def _importance(arm: np.ndarray, stored: np.ndarray, side: str, metric: str, convention: str) -> np.ndarray:
    """Resampling importance from counts (..., n_outcomes) of the arm and of the stored rollouts; NaN where either is
    empty.
    """
    after, here = (stored, arm) if side == "before" else (arm, stored)
    by_group = {AFTER: after, HERE: here, REACHING_HERE: here}  # rollouts from earlier are not looked at
    sides = sides_of(metric, convention)
    p, (q,) = by_group[sides.p], (by_group[name] for name in sides.q)
    if METRICS[metric].is_kl:
        return kl_divergence(p, q, conventions.CONVENTIONS[convention].smoothing)
    if METRICS[metric].by_permutation:
        pairs = zip(*np.broadcast_arrays(np.atleast_2d(p), np.atleast_2d(q)), strict=True)
        found = [
            jensen_shannon(one, other, p.shape[-1]).value if one.any() and other.any() else math.nan
            for one, other in pairs
        ]
        return np.reshape(found, p.shape[:-1])
    with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN that is wanted
        return p[..., 1] / p.sum(-1) - q[..., 1] / q.sum(-1)


def _why_unknown(n: Mapping[str, int], side: str, outcome: str) -> str | None:
    if not n["stored"]:
        return f"no stored rollout {'after' if side == 'before' else 'before'} the chunk has {outcome}"
    empty = [name for name in ("base", "changed") if not n[name]]
    return f"no sample of the {' and of the '.join(empty)} arm has {outcome}" if empty else None


def _plain(value: Any) -> Any:
    """As JSON can hold it: NaN becomes None, numpy's numbers Python's."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and math.isnan(value) else value
