"""When a chain of thought commits to the answer that it gives: where its text does, its forced answers, its reading.

1. The own answer of a chain is what the chain itself gives, or what was forced of it at its end where it gives none.
2. A curve is followed along the chain: `n_read` is the number of chunks that were read. Rollouts and forced answers are
   counted at 0 … n − 1, before each chunk; a reading is the probability of the own answer when it is forced there.
   Only these numbers take part in any change, so that all curves are asked about the same chunks; what the last chunk
   does is drawn of readings alone.
3. Each curve has one change or none (`backend.statistics.commitment`). It lies between two numbers of chunks: the chunk
   between them makes it. A change that is known and raises the own answer is a commitment; one that lowers it turns
   away.
4. What of a reading changes can be chosen (SCALES). Usual are the log-odds that DRAWS draws would show: between a
   probability of 1e-4 and one of 1e-13, which a sure model gives to what it does not mean, lie 20 nats and no
   difference in what it would say. The log-probability itself shows what a lens at a middle layer comes to hold long
   before it would say it.
5. What counts as an outcome can be chosen (COUNTED). The own answer against all others is the usual one: it is what a
   reading is of, and with every answer for itself a change among wrong answers is a change too.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from backend.statistics.clustered import ClusteredMean, clustered_mean, detectable
from backend.statistics.commitment import Change, NormalPrior, change_of_counts, change_of_values, share

TEXT, FORCED = "resample", "forced"  # kinds of rollouts
COMMITS, TURNS_AWAY, UNKNOWN, UNMEASURED = "commits", "turns away", "unknown", "not measured"
DRAWS = 20  # of whose counts a probability is worth knowing
STATES = (COMMITS, TURNS_AWAY, UNKNOWN, UNMEASURED)
POINTS = ("curve", "n_read", "share", "low", "high", "k", "n", "n_without")


@dataclass(frozen=True)
class Counting:
    """What counts as an outcome: `codes` gives each row of `Store.outcomes_along` a number, 0 the one that is followed,
    NaN where it has no outcome.
    """

    label: str
    words: str
    codes: Callable[[pd.DataFrame, object], pd.Series]


def _own_or_other(outcomes: pd.DataFrame, own: object) -> pd.Series:
    return (outcomes["cluster"] != own).astype(float).where(outcomes["cluster"].notna())


def _every_answer(outcomes: pd.DataFrame, own: object) -> pd.Series:
    others = sorted(set(outcomes["cluster"].dropna()) - {own})
    return outcomes["cluster"].map({answer: float(code) for code, answer in enumerate([own, *others])})


def _correct_or_wrong(outcomes: pd.DataFrame, own: object) -> pd.Series:
    return 1.0 - outcomes["is_correct"].astype("boolean").astype("Float64").astype("float64")


OWN, EVERY, CORRECT = "own", "every", "correct"
COUNTED: Mapping[str, Counting] = {
    OWN: Counting("the chain's own answer", "the chain's own answer against all others", _own_or_other),
    EVERY: Counting("every answer", "every answer that any rollout of the chain gives, for itself", _every_answer),
    CORRECT: Counting("correct", "correct answers against wrong ones", _correct_or_wrong),
}


def counts_along(outcomes: pd.DataFrame, kind: str, chain: pd.Series, counted: str) -> np.ndarray:
    """(n_chunks, n_outcomes) rollouts of `kind` after each number of chunks, the followed outcome first. `outcomes` are
    the rows of `Store.outcomes_along` of the chain, `chain` its row of `Store.own_answers`; outcomes are those of both
    kinds.
    """
    codes = COUNTED[counted].codes(outcomes, chain.cluster)
    n_outcomes = max(2, 1 + int(np.nan_to_num(codes.max(), nan=0.0)))
    table = np.zeros((int(chain.n_chunks), n_outcomes))
    known = codes.notna() & (outcomes["kind"] == kind)
    n_read, of = outcomes.loc[known, "n_read"].to_numpy(dtype=int), codes[known].to_numpy(dtype=int)
    np.add.at(table, (n_read, of), outcomes.loc[known, "n"].to_numpy(dtype=float))
    return table


def change_of(outcomes: pd.DataFrame, kind: str, chain: pd.Series, counted: str) -> Change | None:
    """The change of the rollouts of a kind; None where nothing is counted twice, or nothing is followed."""
    if counted != CORRECT and pd.isna(chain.cluster):
        return None
    return change_of_counts(counts_along(outcomes, kind, chain, counted))


def points(outcomes: pd.DataFrame, chain: pd.Series, counted: str) -> pd.DataFrame:
    """Rows of POINTS: after each number of chunks with rollouts of a kind the share of the followed outcome, with its
    posterior (Beta(½, ½)), and how many rollouts have no outcome. With every answer for itself it is the own answer's
    share.
    """
    drawn = OWN if counted == EVERY else counted
    if drawn == OWN and pd.isna(chain.cluster):
        return pd.DataFrame(columns=list(POINTS))
    rows = []
    for kind in (TEXT, FORCED):
        counts = counts_along(outcomes, kind, chain, drawn)
        drawn_at = outcomes[outcomes["kind"] == kind].groupby("n_read")["n"].sum()
        for n_read, n_drawn in drawn_at.items():
            k, n = counts[int(n_read), 0], counts[int(n_read)].sum()
            posterior = share(counts[int(n_read)])
            known = (posterior.mean, posterior.low, posterior.high) if n else (np.nan,) * 3
            rows.append((kind, int(n_read), *known, int(k), int(n), int(n_drawn - n)))
    return pd.DataFrame(rows, columns=list(POINTS))


@dataclass(frozen=True)
class Scale:
    """In what a reading's one change is looked for; `of` maps log-probabilities (nats) to it, `prior` is of that."""

    label: str
    words: str
    of: Callable[[np.ndarray], np.ndarray]
    prior: NormalPrior


def _as_draws(logprob: np.ndarray) -> np.ndarray:
    """With half a draw added on either side; from −3.7 to 3.7."""
    hits = DRAWS * np.exp(logprob)
    found: np.ndarray = np.log((hits + 0.5) / (DRAWS - hits + 0.5))
    return found


DRAWN, LOG = "draws", "log"
SCALES: Mapping[str, Scale] = {
    DRAWN: Scale("as draws show them", f"log-odds that {DRAWS} draws would show", _as_draws, NormalPrior(0.5)),
    LOG: Scale("log-probabilities", "log-probability itself", lambda logprob: logprob, NormalPrior(1.0)),
}


def reading_change(readings: pd.DataFrame, n_chunks: int, scale: str, column: str = "logprob") -> Change | None:
    """The change of one model's readings at one layer by one lens, rows of `Store.answer_readings`; the control's with
    `other_logprob`.
    """
    return change_of_values(scaled(readings, n_chunks, scale, column), SCALES[scale].prior)


def scaled(readings: pd.DataFrame, n_chunks: int, scale: str, column: str = "logprob") -> np.ndarray:
    """(n_chunks,): those readings on the scale, nats; NaN where nothing was read."""
    values = np.full(n_chunks, np.nan)
    within = readings[readings["n_read"] < n_chunks]
    values[within["n_read"].to_numpy(dtype=int)] = SCALES[scale].of(within[column].to_numpy(dtype=float))
    return values


def state_of(change: Change | None) -> str:
    if change is None:
        return UNMEASURED
    if not change.is_known:
        return UNKNOWN
    return COMMITS if change.rises else TURNS_AWAY


# Over all chains

OWN_MODEL, OWN_LENS, OTHER_MODEL = "own_model", "own_lens", "other_model"
CURVES = {  # what is followed over all chains
    TEXT: "text",
    FORCED: "forced answers",
    OWN_MODEL: "own model",
    OWN_LENS: "lens in own model",
    OTHER_MODEL: "other model",
}
PAIRS = (
    (TEXT, FORCED),
    (TEXT, OWN_MODEL),
    (FORCED, OWN_MODEL),
    (TEXT, OWN_LENS),
    (FORCED, OWN_LENS),
    (OWN_MODEL, OWN_LENS),
    (OWN_MODEL, OTHER_MODEL),
)


@dataclass(frozen=True)
class Compared:
    """Which of two curves commits at an earlier chunk, over the chains in which both do. Unknown is NaN."""

    first: str
    second: str
    n_first: int  # chains in which the first is the earlier one
    n_same: int
    n_second: int
    n_left_out: int  # chains in which one of them has no known commitment
    difference: ClusteredMean  # first less second, in chunks; its interval and p are over whole problems
    detectable: float  # mean difference that four studies in five like this one would find


def commitments(
    chains: pd.DataFrame, outcomes: pd.DataFrame, readings: pd.DataFrame, counted: str, scale: str
) -> pd.DataFrame:
    """One row a chain and curve of CURVES: cot_id, problem_id, role of the writer, curve, state, and `chunk`, the
    number of the chunk that commits, NaN in any other state. `readings` are those of the models themselves and of one
    lens at one layer (`under`).
    """
    own_outcomes = dict(iter(outcomes.groupby("cot_id")))
    own_readings = dict(iter(readings.groupby("cot_id")))
    rows = []
    for _, chain in chains.iterrows():
        found = {
            kind: change_of(own_outcomes[chain.cot_id], kind, chain, counted) if chain.cot_id in own_outcomes else None
            for kind in (TEXT, FORCED)
        }
        found |= _of_readings(own_readings.get(chain.cot_id), chain, scale)
        for curve, change in found.items():
            state = state_of(change)
            chunk = change.likeliest[1] if change is not None and state == COMMITS else np.nan
            rows.append((chain.cot_id, chain.problem_id, chain.role, curve, state, chunk))
    return pd.DataFrame(rows, columns=["cot_id", "problem_id", "role", "curve", "state", "chunk"])


def under(readings: pd.DataFrame, lens: str | None, layer: int | None) -> pd.DataFrame:
    """The readings by the models themselves, and by one kind of lens at one layer."""
    by_lens = ~readings["is_model"].astype(bool) & (readings["lens"] == lens) & (readings["layer"] == layer)
    return readings[readings["is_model"].astype(bool) | by_lens]


def _of_readings(readings: pd.DataFrame | None, chain: pd.Series, scale: str) -> dict[str, Change | None]:
    if readings is None:
        return dict.fromkeys((OWN_MODEL, OWN_LENS, OTHER_MODEL))
    by_writer = readings["model_id"] == chain.model_id
    chosen = {
        OWN_MODEL: by_writer & readings["is_model"],
        OWN_LENS: by_writer & ~readings["is_model"],
        OTHER_MODEL: ~by_writer & readings["is_model"],
    }
    return {curve: reading_change(readings[rows], int(chain.n_chunks), scale) for curve, rows in chosen.items()}


def compared(rows: pd.DataFrame, first: str, second: str, *, seed: int = 0) -> Compared:
    """Two curves of `commitments`, chain by chain."""
    wide = rows.pivot(index="cot_id", columns="curve", values="chunk")[[first, second]]
    problems = rows.drop_duplicates("cot_id").set_index("cot_id")["problem_id"]
    difference = wide[first] - wide[second]
    known = difference.dropna()
    clusters = problems.reindex(known.index).tolist()
    return Compared(
        first,
        second,
        int((known < 0).sum()),
        int((known == 0).sum()),
        int((known > 0).sum()),
        len(difference) - len(known),
        clustered_mean(known.tolist(), clusters, seed=seed),
        float(detectable(known.tolist(), clusters, seed=seed)),
    )


def all_compared(rows: pd.DataFrame, *, seed: int = 0) -> Sequence[Compared]:
    """PAIRS of which both curves were measured in any chain."""
    measured = set(rows.loc[rows["state"] != UNMEASURED, "curve"])
    return [compared(rows, a, b, seed=seed) for a, b in PAIRS if {a, b} <= measured]
