"""A steered run that moved the answer, and one that did not.

1. A run is what was answered after a change of the residual stream beside what was answered without it: of the study's
   steered anchors and matches, from before the chunk and from after it, and of the runs that a person kept.
2. Its size is the Jensen–Shannon divergence of the two sets of answers, less what chance gives (`importance.jsd`).
   Samples without an answer take no part. p is a permutation's, q Benjamini and Hochberg's over all runs.
3. The control is the same along random directions of the same length; whether the direction does more than they is
   tested alike, steered against random, with a q over all runs too.
4. Moved is q at most 0.05. Named is the largest, of those that also differ from random directions where there are any.
   Of those that did not move the answer it is the one whose interval ends lowest: the one that is known best.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from backend.findings.finding import Example, Finding, Number, Q, Way
from backend.findings.words import direction, interval, line, models, number, some
from backend.ids import seed_for
from backend.importance.jsd import jensen_shannon
from backend.importance.steered_effects import QUANTITIES
from backend.importance.steered_rollouts import BASE, RANDOM, STEERED
from backend.store.experiments import Experiments
from backend.store.store import Store
from backend.store.undone import Missing, lacking

_KEPT = {"base": BASE, "changed": STEERED, "random": RANDOM}
_MOST_KEPT = 40
_JSD = "outcome_shift_jsd"


class Answer(NamedTuple):
    """That some samples of an arm gave it."""

    arm: str
    answer: str
    n: int
    n_correct: int


@dataclass(frozen=True)
class Run:
    name: str
    words: str  # what was done, on one line
    text: str  # of the chunk; empty where none is known
    answers: Sequence[Answer]
    way: Way

    def of(self, arm: str) -> Counter[str]:
        """How often each answer was given."""
        return Counter({one.answer: one.n for one in self.answers if one.arm == arm})


@dataclass(frozen=True)
class Shift:
    """How far one arm's answers are from another's. Unknown is NaN."""

    value: float  # nats, less what chance gives
    low: float
    high: float
    p: float


UNKNOWN = Shift(math.nan, math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class Moved:
    run: Run
    shift: Shift  # steered against unsteered
    q: float
    q_beyond: float  # of steered against random directions
    random: Shift = UNKNOWN  # random directions against unsteered, where it is named

    @property
    def does(self) -> bool:
        return self.q <= Q


def find(store: Store) -> Finding | Missing:
    found = of_study(store)
    return told(found) if found else lacking(store, "causation")


def of_study(store: Store) -> list[Moved]:
    """Every run that has answers with and without steering."""
    return compared([run for run in (*of_anchors(store), *kept(store)) if run.of(STEERED) and run.of(BASE)])


def told(found: Sequence[Moved]) -> Finding:
    moved = [one for one in found if one.does]
    moved.sort(key=lambda one: (not one.q_beyond <= Q, -one.shift.value, one.run.name))
    still = sorted((one for one in found if not one.does), key=lambda one: (one.shift.high, one.run.name))
    named = list(map(with_control, (*moved[:1], *still[:1])))
    numbers = tuple(map(number_of, named))
    return Finding(
        statement=" ".join(filter(None, (_moved(moved, len(found)), *(_still(one) for one in still[:1])))),
        numbers=numbers,
        control=" ".join(_control(one) for one in named if one.does)
        + " Grey: the same along random directions of the same length. q over all of these runs; the largest of many"
        " is on the high side.",
        rows=_drawn(named),
        way=named[0].run.way,
        axis=f"{QUANTITIES[_JSD].label}, nats",
        examples=tuple(
            Example(one.run.text, one.run.words, one.run.way, own)
            for one, own in zip(named, numbers, strict=True)
            if one.run.text
        ),
    )


def with_control(one: Moved) -> Moved:
    """The same with how far random directions moved the answer."""
    return replace(one, random=shift(one.run, RANDOM, BASE))


def compared(runs: Sequence[Run]) -> list[Moved]:
    """Every run with both its q. Neither family is a choice of the other's: what was chosen for being far from
    unsteered answers is far from those along random directions by that alone.
    """
    shifts = [shift(run, STEERED, BASE) for run in runs]
    q, q_beyond = _q([own.p for own in shifts]), _q([shift(run, STEERED, RANDOM, bounds=False).p for run in runs])
    rows = zip(runs, shifts, q, q_beyond, strict=True)
    return [Moved(run, own, q_own, q_own_beyond) for run, own, q_own, q_own_beyond in rows]


def shift(run: Run, arm: str, other: str, *, bounds: bool = True) -> Shift:
    """Of the answers of one arm from those of another; unknown where either has none."""
    p, q, seen = run.of(arm), run.of(other), sorted({one.answer for one in run.answers})
    if not p or not q:
        return UNKNOWN
    of_p, of_q = (np.array([counts[answer] for answer in seen]) for counts in (p, q))
    found = jensen_shannon(of_p, of_q, len(seen))
    rng = np.random.default_rng(seed_for("steered answers", run.name, arm, other))
    p_value = found.p(rng)
    return Shift(found.value, *(found.interval(rng) if bounds else (math.nan, math.nan)), p_value)


def _q(p: Sequence[float]) -> list[float]:
    """Benjamini and Hochberg's, of those that are known."""
    from scipy.stats import false_discovery_control

    given, found = np.asarray(p, float), np.full(len(p), np.nan)
    known = ~np.isnan(given)
    if known.any():
        found[known] = false_discovery_control(given[known], method="bh")
    return found.tolist()


# Runs


def name_of(pair: str, role: str, start: str) -> str:
    """The name of a run of the study's own."""
    return f"{pair} {role} {start}"


def of_anchors(store: Store) -> Iterator[Run]:
    """The study's anchors and matches, from either start."""
    called = models(store)
    stored = _JSD in store.steered_quantities()
    effect = {"steering_effect": _JSD} if stored else {}  # what a run's size is, over all pairs
    for (pair, role, start), rows in store.steered_answers().groupby(["pair_id", "role", "start"], sort=True):
        one = rows.iloc[0]
        words = (
            f"chunk {one.number} ({role}), {direction(one.kind)}, β = {number(one.beta)} {one.unit}"
            + f" at layer {one.layer} of {called.get(one.model_id, one.model_id)}, continued from {start} it"
        )
        at = {"steered_pair": str(pair), "steered_role": str(role), "steered_from": str(start)}
        place = {"chunk": str(one.chunk_id), "steered_model": str(one.model_id)}
        way = Way("causation", "The pair", place | effect | at)
        answers = [Answer(*row) for row in rows[["arm", "cluster", "n", "n_correct"]].itertuples(index=False)]
        yield Run(name_of(str(pair), str(role), str(start)), words, str(one.text), answers, way)


def kept(store: Store) -> Iterator[Run]:
    """Runs that a person kept, the newest first, by dose."""
    ledger = Experiments(store.path)
    history = ledger.history(limit=500)
    for row in history[history["kind"].isin(("continue", "dose"))].head(_MOST_KEPT).itertuples():
        samples = ledger.samples(row.experiment_id)
        samples = samples[samples["answer"].notna() & samples["arm"].isin(list(_KEPT))]
        chosen = {"run": str(row.experiment_id)} | ({"chunk": row.chunk_id} if isinstance(row.chunk_id, str) else {})
        way = Way("steering", "The run that was kept", chosen)
        for beta in sorted(set(samples.loc[samples["arm"] == "changed", "beta"].dropna()) - {0.0}):
            own = samples[(samples["arm"] == "base") | (samples["beta"] == beta)]
            own = own.assign(arm=own["arm"].map(_KEPT), answer=own["answer"].str.strip())
            own["is_correct"] = own["is_correct"].astype("boolean").fillna(False).astype(int)
            counts = own.groupby(["arm", "answer"])["is_correct"].agg(["size", "sum"]).reset_index()
            answers = [Answer(*row) for row in counts.itertuples(index=False)]
            dose = "" if row.kind == "continue" else f", β = {beta:+g}".replace("-", "−")
            yield Run(f"{row.experiment_id} {beta:g}", f"{line(row.sentence, 120)}{dose}", "", answers, way)


# Words


def _moved(moved: Sequence[Moved], n: int) -> str:
    if not moved:
        return f"None of {some(n, 'steered run')} is shown to move the answer (q > {Q:g})."
    first = moved[0]
    n_beyond = sum(one.q_beyond <= Q for one in moved)
    return (
        f"{len(moved)} of {some(n, 'steered run')} moved the answer (q ≤ {Q:g}), {n_beyond} of them otherwise than"
        f" random directions of the same length do. Most:{_named(first.run)} right {right(first.run)}."
    )


def _still(one: Moved) -> str:
    return (
        f"One that did not:{_named(one.run)} right {right(one.run)}; more than {number(one.shift.high)} nats are"
        " excluded."
    )


def _named(run: Run) -> str:
    """What was done, where no example says it."""
    return "" if run.text else f" {run.words}:"


def _control(one: Moved) -> str:
    if math.isnan(one.random.value):
        return "Random directions were not run beside it: that this direction did it is not shown."
    shift = f"random directions move it by {number(one.random.value)} {interval(one.random.low, one.random.high)} nats"
    if one.q_beyond <= Q:
        return f"Beside it {shift}; steered and random differ (q = {number(one.q_beyond)})."
    return (
        f"Beside it {shift}, and steered and random are not told apart (q = {number(one.q_beyond)}): that it is the"
        " direction, and not any push of this length, is not shown."
    )


def right(run: Run) -> str:
    """How many answers of each arm are correct."""
    said = []
    for arm, words in ((BASE, "unsteered"), (STEERED, "steered"), (RANDOM, "random")):
        if own := [one for one in run.answers if one.arm == arm]:
            said.append(f"{words} {sum(one.n_correct for one in own)} of {sum(one.n for one in own)}")
    return ", ".join(said)


def number_of(one: Moved) -> Number:
    """How far it moved the answer; its control where it is known."""
    return Number(
        "moved" if one.does else "not moved",
        one.shift.value,
        one.shift.low,
        one.shift.high,
        f"{one.run.of(STEERED).total()} and {one.run.of(BASE).total()} answers",
        "nats",
        q=one.q,
        control=None if math.isnan(one.random.value) else one.random.value,
    )


def _drawn(named: Sequence[Moved]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "label": ["moved" if one.does else "not moved" for one in named],
            "value": [one.shift.value for one in named],
            "low": [one.shift.low for one in named],
            "high": [one.shift.high for one in named],
            "chance_low": [one.random.low for one in named],
            "chance_high": [one.random.high for one in named],
            "control": [one.random.value for one in named],
            "claimed": [one.does for one in named],
            "told": [one.run.words for one in named],
        }
    )
