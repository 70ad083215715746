"""What steering anchors towards their counterfactuals does, over a study, beside chunks that are no anchors and beside
random directions.

The effect of a place is log KL at β = −1. Of a chunk:

1. before − after: log KL steered just before it less log KL steered just after it, on the same tokens: by how much the
   rest of the CoT gives way more while the chunk is still to come. Along v; along the random directions of v's length
   (mean of their logs); and `beyond`: the first less the second.
2. Attention to it: log of the attention steered over the attention unsteered, before and after, along the same.
3. Sharpness, of an anchor: each of its alternatives is steered at every place, and counts there as log KL less that of
   its random direction. The drop across a chunk is what is lost from just before it to just after it; sharpness is the
   drop across the anchor less the mean drop across the CoT's other chunks. `course` says of one anchor how it runs.

A KL below the noise floor counts as the floor. Anchors stand against the chunks they are matched with, pair by pair;
problems are the clusters of every interval and test.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from backend.geometry.counterfactuals import (
    AFTER,
    ALTERNATIVE,
    BEFORE,
    NOWHERE,
    RANDOM,
    RANDOM_ALTERNATIVE,
    TOWARDS,
    UNSTEERED,
)
from backend.statistics.clustered import ALPHA, ClusteredMean, clustered_mean, detectable
from backend.statistics.course import Course, course

ANCHORS, MATCHED, DIFFERENCE = "anchors", "matched", "difference"
GROUPS = (ANCHORS, MATCHED, DIFFERENCE)
BEYOND = "beyond"  # along v, less along random directions
ALONG = (TOWARDS, RANDOM, BEYOND)
READOUTS = ("rest", "answer")


@dataclass(frozen=True)
class Effect:
    """A mean over pairs of an anchor and its match, or over anchors."""

    group: str  # one of GROUPS
    along: str  # one of ALONG
    found: ClusteredMean
    n_cots: int
    # Size of an effect that 80 % of such studies would find, where this one finds none (infinite: none would be); NaN
    # where it finds one.
    would_find: float


def before_after_effects(chunks: pd.DataFrame, steering: pd.DataFrame, readout: str) -> pd.DataFrame:
    """`chunks` with a column for each of ALONG: log KL before − log KL after; NaN where either is unknown.

    `chunks` has rows of `counterfactuals` with `chunk_index`, `steering` the rows of `anchor_steering` of these.
    """
    logs = _logs(chunks, steering[steering["arm"].isin((TOWARDS, RANDOM))], readout)
    logs["side"] = (logs["place"] - logs["chunk_index"]).map({0: BEFORE, 1: AFTER})
    means = logs.pivot_table(index="chunk_id", columns=["arm", "side"], values="log", dropna=False)
    return _with_beyond(chunks, {arm: _at(means, arm, BEFORE) - _at(means, arm, AFTER) for arm in (TOWARDS, RANDOM)})


def attention_effects(chunks: pd.DataFrame, attention: pd.DataFrame, side: str) -> pd.DataFrame:
    """`chunks` with a column for each of ALONG: log(attention steered on this side / unsteered); `attention` has rows
    of `anchor_attention`.
    """
    known = attention[attention["attention"] > 0]
    logs = known.assign(log=np.log(known["attention"].astype(float)))
    means = logs.pivot_table(index="chunk_id", columns=["arm", "side"], values="log", dropna=False)
    unsteered = _at(means, UNSTEERED, NOWHERE)
    return _with_beyond(chunks, {arm: _at(means, arm, side) - unsteered for arm in (TOWARDS, RANDOM)})


def over_pairs(effects: pd.DataFrame, *, seed: int = 0) -> list[Effect]:
    """Means over the pairs in which both chunks have the effect: of the anchors, of their matches, and of the anchor
    less its match.
    """
    found = []
    for along in ALONG:
        anchors = effects[effects["is_anchor"].astype(bool)].set_index("chunk_id")
        others = effects[~effects["is_anchor"].astype(bool)].set_index("matched_chunk_id")
        pairs = anchors[["cot_id", "problem_id", along]].join(others[along].rename("match"), how="inner").dropna()
        values = {ANCHORS: pairs[along], MATCHED: pairs["match"], DIFFERENCE: pairs[along] - pairs["match"]}
        found += [_effect(group, along, values[group], pairs, seed) for group in GROUPS]
    return found


def sharpness(chunks: pd.DataFrame, steering: pd.DataFrame, readout: str) -> pd.DataFrame:
    """One row an anchor whose alternatives are known before and after it and at two more places at least: `drop` across
    it, `elsewhere` the mean drop across the other chunks, `sharpness` their difference; nats of log KL.
    """
    rows = []
    for chunk in chunks[chunks["is_anchor"].astype(bool)].to_dict("records"):
        samples = alternative_samples(chunk, steering, readout)
        means = {place: float(np.mean(values)) for place, values in samples.items()}
        drops = {place: means[place] - means[place + 1] for place in means if place + 1 in means}
        here = drops.pop(chunk["chunk_index"], math.nan)
        elsewhere = float(np.mean(list(drops.values()))) if drops else math.nan
        rows.append({**chunk, "drop": here, "elsewhere": elsewhere, "sharpness": here - elsewhere})
    columns = [*chunks.columns, "drop", "elsewhere", "sharpness"]
    return pd.DataFrame(rows, columns=columns).dropna(subset=["sharpness"])


def mean_sharpness(rows: pd.DataFrame, *, seed: int = 0) -> Effect:
    """Over the anchors of `sharpness`."""
    return _effect(ANCHORS, BEYOND, rows["sharpness"], rows, seed)


def along_the_chain(chunk: Mapping[str, object], steering: pd.DataFrame, readout: str) -> Course:
    """How what the anchor's alternatives do runs along its CoT: a sample is an alternative at a place."""
    samples = alternative_samples(chunk, steering, readout)
    rows = steering[(steering["chunk_id"] == chunk["chunk_id"]) & (steering["arm"] == ALTERNATIVE)]
    return course(samples, n_unknown=len(rows) - sum(map(len, samples.values())))


def alternative_samples(chunk: Mapping[str, object], steering: pd.DataFrame, readout: str) -> dict[int, list[float]]:
    """By place, log KL of each alternative less that of its random direction; unknown ones are left out."""
    own = steering[
        (steering["chunk_id"] == chunk["chunk_id"]) & steering["arm"].isin((ALTERNATIVE, RANDOM_ALTERNATIVE))
    ]
    logs = _logs(pd.DataFrame([chunk]), own, readout)
    wide = logs.pivot_table(index=["place", "number"], columns="arm", values="log", dropna=False)
    if not {ALTERNATIVE, RANDOM_ALTERNATIVE} <= set(wide.columns):
        return {}
    beyond = (wide[ALTERNATIVE] - wide[RANDOM_ALTERNATIVE]).dropna()
    return {int(place): values.tolist() for place, values in beyond.groupby(level="place")}


def of(effects: Iterable[Effect], group: str, along: str) -> Effect:
    """The one of a group and a vector."""
    return next(effect for effect in effects if (effect.group, effect.along) == (group, along))


def _effect(group: str, along: str, values: pd.Series, rows: pd.DataFrame, seed: int) -> Effect:
    clusters = rows["problem_id"].astype(str).tolist()
    found = clustered_mean(values.tolist(), clusters, seed=seed)
    is_found = math.isnan(found.p) or found.p <= ALPHA
    would = math.nan if is_found else detectable(values.tolist(), clusters, seed=seed)
    return Effect(group, along, found, rows["cot_id"].nunique(), would)


def _logs(chunks: pd.DataFrame, steering: pd.DataFrame, readout: str) -> pd.DataFrame:
    """Rows at β = −1 with `log`, log KL of what is above 0, never below the noise floor."""
    about = chunks[["chunk_id", "chunk_index", "noise_floor"]]
    rows = steering.loc[steering["beta"] == -1].merge(about, on="chunk_id", how="inner")
    kl = rows[f"kl_{readout}"].astype(float)
    floored = np.fmax(kl, rows["noise_floor"].astype(float)).where(kl.notna())
    return rows.assign(log=np.log(floored.where(floored > 0)))


def _at(means: pd.DataFrame, arm: str, side: str) -> pd.Series:
    return means[arm, side] if (arm, side) in means else pd.Series(math.nan, index=means.index)


def _with_beyond(chunks: pd.DataFrame, effects: Mapping[str, pd.Series]) -> pd.DataFrame:
    columns = {arm: chunks["chunk_id"].map(values).astype(float) for arm, values in effects.items()}
    return chunks.assign(**columns, **{BEYOND: columns[TOWARDS] - columns[RANDOM]})
