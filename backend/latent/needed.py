"""How needed and how specific each latent is, and which problems need latents at all: from answers as they are stored.

1. A problem needs latents where it is answered right with all of them and wrong without any.
2. Needed: the share of right answers that is lost when the latent is replaced by zeros or the mean, each problem held
   against its own plain run (exact McNemar test; Newcombe's interval).
3. Specific: the share of answers that become the donor's when its latent is put there, less the share that do when the
   mean is: the same problems, the same donors. Unknown answers take no part and are counted.
4. In a group of problems that was chosen by its plain answers needed is no estimate for all problems: where all plain
   answers are right they can only be lost.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from backend.latent.kinds import LatentError
from backend.latent.need_kinds import MEAN, PLAIN, SWAP, WITHOUT
from backend.registry import Registry
from backend.statistics.intervals import Interval, wilson
from backend.statistics.paired import Paired, mcnemar


@dataclass(frozen=True)
class Group:
    """Problems of one model, by what it answers with and without latents."""

    name: str
    label: str
    words: str
    plain: bool | None  # whether the plain answer is right; None: either
    without: bool | None  # whether that without latents is


GROUPS: Registry[Group] = Registry(
    "group of problems",
    Group("all", "all", "Every problem.", None, None),
    Group("needs", "needs latents", "Right with all latents, wrong without any.", True, False),
    Group("does without", "does without", "Right with all latents and without any.", True, True),
    Group("harmed", "right only without", "Wrong with all latents, right without any.", False, True),
    Group("never", "wrong either way", "Wrong with all latents and without any.", False, False),
    error=LatentError,
)


@dataclass(frozen=True)
class Needing:
    """What one model's problems need."""

    n: int  # problems
    counts: dict[str, int]  # by the name of the group, without `all`
    share: float  # of the problems, that need latents
    interval: Interval
    share_of_right: float  # of those that are answered right with all latents
    interval_of_right: Interval


@dataclass(frozen=True)
class Effect:
    """What replacing one latent, or all, does to one model's answers. Unknown numbers are NaN."""

    step: int | None  # None: all latents
    needed: Paired  # right answers, replaced less plain: below 0 where they are lost
    right: float  # share of right answers when it is replaced
    right_interval: Interval
    donors: float  # share of answers that are the donor's after a swap
    donors_interval: Interval
    donors_by_mean: float  # the same under the mean: chance
    specific: Paired  # swap less mean


def grouped(rows: pd.DataFrame) -> pd.Series:
    """The name of each problem's group (`all` aside), from one model's rows of `latent_needs`."""
    plain, without = (
        rows[rows["replacement"] == one].set_index("problem_id")["is_correct"].astype(bool) for one in (PLAIN, WITHOUT)
    )
    plain = without if plain.empty else plain  # a model that has no latents runs without them
    names = {(one.plain, one.without): one.name for one in GROUPS.values()}
    return pd.Series({problem: names[bool(plain[problem]), bool(right)] for problem, right in without.items()})


def needing(groups: pd.Series) -> Needing:
    counts = {name: int((groups == name).sum()) for name in GROUPS if name != "all"}
    n, needs = len(groups), counts["needs"]
    n_right = needs + counts["does without"]
    return Needing(
        n,
        counts,
        needs / n if n else math.nan,
        wilson(needs, n),
        needs / n_right if n_right else math.nan,
        wilson(needs, n_right),
    )


def effects(rows: pd.DataFrame, *, replacement: str, place: str, after: str) -> Iterator[Effect]:
    """One a latent, in their order, then all together; from one model's rows of some problems. `replacement` is what
    latents are needed against: zeros or the mean.
    """
    plain = rows[rows["replacement"] == PLAIN].set_index("problem_id")["is_correct"]
    here = rows[(rows["place"] == place) & (rows["after"] == after)]
    steps = sorted(here["step"].dropna().unique())
    for step in [*map(int, steps), None] if len(here) else []:
        of_step = here[here["step"].isna() if step is None else here["step"] == step]
        yield _effect(
            step,
            plain,
            {name: own.set_index("problem_id") for name, own in of_step.groupby("replacement")},
            replacement,
        )


def _effect(step: int | None, plain: pd.Series, of: dict[str, pd.DataFrame], replacement: str) -> Effect:
    right = of[replacement]["is_correct"].reindex(plain.index) if replacement in of else plain.map(lambda _: None)
    swapped, by_mean = (
        of[name]["is_donors"].reindex(plain.index) if name in of else plain.map(lambda _: None) for name in (SWAP, MEAN)
    )
    n, n_right = int(right.notna().sum()), int(right.dropna().astype(bool).sum())
    n_donors, n_became = int(swapped.notna().sum()), int(swapped.dropna().astype(bool).sum())
    chance = by_mean[swapped.notna()].dropna().astype(bool)
    return Effect(
        step,
        mcnemar(_verdicts(plain), _verdicts(right)),
        n_right / n if n else math.nan,
        wilson(n_right, n),
        n_became / n_donors if n_donors else math.nan,
        wilson(n_became, n_donors),
        float(chance.mean()) if len(chance) else math.nan,
        mcnemar(_verdicts(by_mean), _verdicts(swapped)),
    )


def _verdicts(found: pd.Series) -> list[bool | None]:
    return [None if pd.isna(one) else bool(one) for one in found]


def correlation(found: list[Effect]) -> tuple[float, int]:
    """Pearson's r of needed and specific over single latents, and over how many: NaN below three, or where one of them
    does not vary.
    """
    pairs = [(-one.needed.difference, one.specific.difference) for one in found if one.step is not None]
    frame = pd.DataFrame(pairs, columns=["needed", "specific"], dtype=float).dropna()
    if len(frame) < 3 or (frame.nunique() < 2).any():
        return math.nan, len(frame)
    return float(frame["needed"].corr(frame["specific"])), len(frame)
