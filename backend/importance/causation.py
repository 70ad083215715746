"""Does steering an anchor do more than steering another chunk? One paired test over all pairs of a study.

Each pair is an anchor and its match (`matching`), both steered by as much, and each also along random directions
(`steered_rollouts`). Of an effect (`steered_effects`) five differences are taken pair by pair, and each is tested
against 0 with whole problems as clusters (`statistics.clustered`): anchor less match when steered, which is the answer;
steered less random at the anchors and at the matches; the first of these less the second, which is what the direction
does beyond a push of the same length; and anchor less match along random directions, where no direction is meant.

Pairs whose two chunks are of different problems tie these problems into one cluster.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from backend.importance.steered_effects import QUANTITIES, Quantity
from backend.importance.steered_rollouts import RANDOM, STEERED
from backend.statistics.clustered import ALPHA, ClusteredMean, clustered_mean, power

ROLES = ("anchor", "match")


@dataclass(frozen=True)
class Contrast:
    """A difference within a pair: the weight of the effect of each role and arm."""

    words: str
    weights: Mapping[tuple[str, str], int]


ANSWER, AT_ANCHORS, AT_MATCHES, BEYOND, BY_CHANCE = (
    "anchor_match",
    "anchor_random",
    "match_random",
    "beyond_random",
    "random",
)
CONTRASTS: Mapping[str, Contrast] = {
    ANSWER: Contrast("steered: anchor − match", {("anchor", STEERED): 1, ("match", STEERED): -1}),
    AT_ANCHORS: Contrast("at anchors: steered − random", {("anchor", STEERED): 1, ("anchor", RANDOM): -1}),
    AT_MATCHES: Contrast("at matches: steered − random", {("match", STEERED): 1, ("match", RANDOM): -1}),
    BEYOND: Contrast(
        "beyond random: anchor − match",
        {("anchor", STEERED): 1, ("anchor", RANDOM): -1, ("match", STEERED): -1, ("match", RANDOM): 1},
    ),
    BY_CHANCE: Contrast("random directions: anchor − match", {("anchor", RANDOM): 1, ("match", RANDOM): -1}),
}


@dataclass(frozen=True)
class Tested:
    contrast: str
    found: ClusteredMean  # of the differences; the interval is unknown where all are the same
    n_left_out: int  # pairs with an unknown effect
    sizes: tuple[float, ...]  # of effects, in the quantity's unit
    power: tuple[float, ...]  # share of effects of each size that the test would have found; NaN: likewise unknown

    @property
    def shown(self) -> bool:
        return self.found.p <= ALPHA


def differences(effects: pd.DataFrame, contrast: str) -> pd.DataFrame:
    """One row a pair: pair_id, difference (NaN where an effect is unknown) and cluster.

    `effects` are of one quantity and convention, with the columns pair_id, role, arm, value, anchor_problem and
    match_problem.
    """
    pairs = effects.drop_duplicates("pair_id").set_index("pair_id")[["anchor_problem", "match_problem"]].sort_index()
    values = effects.set_index(["pair_id", "role", "arm"])["value"].astype("float64")
    total = pd.Series(0.0, pairs.index)
    for (role, arm), weight in CONTRASTS[contrast].weights.items():
        own = values[(values.index.get_level_values("role") == role) & (values.index.get_level_values("arm") == arm)]
        total += weight * own.droplevel(["role", "arm"]).reindex(pairs.index)
    return pd.DataFrame({"pair_id": pairs.index, "difference": total.to_numpy(), "cluster": _tied(pairs)})


def compared(effects: pd.DataFrame, quantity: str, *, seed: int = 0) -> dict[str, Tested]:
    """Every contrast of one quantity under one convention, by name."""
    return {contrast: _tested(effects, contrast, sizes_of(QUANTITIES[quantity]), seed) for contrast in CONTRASTS}


def _tested(effects: pd.DataFrame, contrast: str, sizes: tuple[float, ...], seed: int) -> Tested:
    rows = differences(effects, contrast)
    values, clusters = rows["difference"].to_numpy(dtype=np.float64), rows["cluster"].tolist()
    found, known = clustered_mean(values, clusters, seed=seed), values[~np.isnan(values)]
    n_left_out = len(values) - len(known)
    if not len(known) or np.ptp(known) == 0:
        unknown = replace(found, low=math.nan, high=math.nan)
        return Tested(contrast, unknown, n_left_out, sizes, (math.nan,) * len(sizes))
    shares = tuple(power(values, clusters, size, seed=seed) for size in sizes)
    return Tested(contrast, found, n_left_out, sizes, shares)


def sizes_of(quantity: Quantity) -> tuple[float, ...]:
    """Effects whose power is said."""
    return (0.1, 0.25, 0.5) if quantity.unit.startswith("KL") else (0.05, 0.1, 0.2)  # a JSD is at most ln 2


def _tied(pairs: pd.DataFrame) -> list[str]:
    """The cluster of each pair: its problem, or the first of the problems that pairs tie together."""
    if pairs.empty:
        return []
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    codes, problems = pd.factorize(pd.concat([pairs["anchor_problem"], pairs["match_problem"]]), sort=True)
    anchor, match = np.split(codes, 2)
    ties = coo_array((np.ones(len(pairs)), (anchor, match)), shape=(len(problems), len(problems)))
    part = connected_components(ties, directed=False)[1]
    first = {number: str(problem) for number, problem in reversed(list(zip(part, problems, strict=True)))}
    return [first[number] for number in part[anchor]]


# In words


def in_words(found: Mapping[str, Tested], quantity: str) -> str:
    """The answer, and what random directions say to it; unknown is said to be so."""
    one = QUANTITIES[quantity]
    answer = found[ANSWER]
    if math.isnan(answer.found.mean):
        return f"Unknown: no pair has {_lower(one.label)} of both of its chunks."
    return f"{_answer(answer, one)} {_control(found)}"


def _answer(answer: Tested, one: Quantity) -> str:
    what = f"{_lower(one.label)} ({one.unit})"
    if not answer.shown:
        opening = f"No difference is shown: in {what}, anchor less match is {numbers(answer)}."
        return f"{opening} {power_in_words(answer)}"
    larger = answer.found.mean > 0
    opening = "" if one.signed else "Yes: " if larger else "No, the other way: "
    said = f"{what} is {'larger' if larger else 'smaller'} at anchors than at their matches when both are steered"
    return f"{opening or 'A difference is shown: '}{said}, by {numbers(answer)}."


def _control(found: Mapping[str, Tested]) -> str:
    beyond, chance = found[BEYOND], found[BY_CHANCE]
    if math.isnan(beyond.found.mean):
        return "What random directions of the same length do is unknown."
    alike = "random directions of the same length do"
    if found[ANSWER].shown and chance.shown and chance.found.mean * found[ANSWER].found.mean > 0:
        said = f"But {alike} so too ({numbers(chance)}): it is the place, not the direction, that makes this."
    elif beyond.shown:
        said = f"Beyond what {alike}, anchor less match is {numbers(beyond)}."
    else:
        said = f"Beyond what {alike}, no difference is shown: {numbers(beyond)}. {power_in_words(beyond)}"
    return (
        f"{said} Steered less random: {numbers(found[AT_ANCHORS])} at anchors, {numbers(found[AT_MATCHES])} at matches."
    )


def power_in_words(tested: Tested) -> str:
    """What a "none" is worth."""
    least = 2.0 ** (1 - tested.found.n_clusters)
    if least > ALPHA:
        return (
            f"Nothing could be shown either way: of {tested.found.n_clusters} problems p cannot fall below {least:.2g}."
        )
    if any(map(math.isnan, tested.power)):
        return "What it would have found is unknown: the pairs do not vary."
    shares = ", ".join(
        f"{share:.0%} of those of {size:g}" for size, share in zip(tested.sizes, tested.power, strict=True)
    )
    return f"Of effects there, this design would have found {shares}."


def numbers(tested: Tested) -> str:
    """Estimate, interval, p and n."""
    found = tested.found
    if math.isnan(found.mean):
        return "unknown"
    wide = (
        "interval unknown" if math.isnan(found.low) else f"95 % interval [{_signed(found.low)}, {_signed(found.high)}]"
    )
    p = "unknown" if math.isnan(found.p) else f"{found.p:.2g}"
    left_out = f", {tested.n_left_out} unknown" if tested.n_left_out else ""
    return f"{_signed(found.mean)} ({wide}, p = {p}, {found.n} pairs{left_out} of {found.n_clusters} problems)"


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def _lower(label: str) -> str:
    return label[:1].lower() + label[1:]


def known_conventions(effects: pd.DataFrame, quantity: str) -> Sequence[str]:
    """Those under which the effects have the quantity, in their order."""
    there = set(effects.loc[effects["quantity"] == quantity, "convention"])
    return [convention for convention in QUANTITIES[quantity].conventions if convention in there]
