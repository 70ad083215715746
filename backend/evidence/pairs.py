"""All evidence on one pair: does y (an importance metric) fall or rise with x (a geometry column) over chunks, and
would chance do as well?

What is left within CoTs leads, and the correlation over all chunks stands beside it. Every interval draws problems,
every p permutes y within CoTs, except where problems are asked whether they agree. One pair at one subset is one
`Evidence` (`record.py`), one row of `associations` (`rows.py`).
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from backend.evidence import mixed as mixed_model
from backend.evidence.association import association_of_sample
from backend.evidence.kendall import NO_TAU, kendall
from backend.evidence.laws import NO_SLOPE, fits, theil_sen
from backend.evidence.partial import held_fixed, partial
from backend.evidence.power import power
from backend.evidence.record import Evidence
from backend.evidence.sample import sample_of
from backend.evidence.within import within
from backend.evidence.zero_inflated import zero_inflated


def evidence(
    frame: pd.DataFrame,
    *,
    n_bootstrap: int = 2000,
    n_permutations: int = 2000,
    seed: int,
    covariates: Sequence[str] = (),
    subset: str = "all",
    describe: bool = True,
    n_planted: int = 0,
) -> Evidence:
    """`frame` has `x`, `y`, `cot_id`, `problem_id` and the covariates' columns, one row a chunk; unknown is NaN.

    `describe` = False leaves out what no verdict needs: intervals over all chunks, Kendall's tau, curves, Theil–Sen
    slope, mixed model. `n_planted` effects of each size are planted to know the rule's power; none unless asked for.
    """
    sample = sample_of(frame, subset)
    drawn = {"n_permutations": n_permutations, "seed": seed}
    beside = n_bootstrap if describe else 0  # draws of the intervals that stand beside the verdict
    rank, held = association_of_sample(sample, n_bootstrap=beside, **drawn), held_fixed(sample, covariates)
    notes = [*rank.notes, *held.notes]
    if sample.n_near:
        chance = "unknown" if math.isnan(rank.null_mean) else f"{rank.null_mean:.2f}".replace("-", "−")
        near = f"{sample.n_near} chunks whose sizes are at or below the median of both"
        notes.insert(0, f"without {near}; leaving them out gives ρ = {chance} by itself")
    return Evidence(
        subset=subset,
        rank=replace(rank, notes=tuple(notes)),
        within=within(sample, n_bootstrap=n_bootstrap, **drawn),
        kendall=kendall(sample, n_bootstrap=n_bootstrap, seed=seed) if describe else NO_TAU,
        partial=partial(sample, held.values, **drawn),
        zero_inflated=zero_inflated(sample, n_bootstrap=beside, **drawn),
        fits=fits(sample, seed=seed) if describe else (),
        theil_sen=theil_sen(sample, seed=seed) if describe else NO_SLOPE,
        mixed=mixed_model.mixed(sample) if describe else mixed_model.unknown(""),
        power=power(sample, held.values, n_planted=n_planted, n_bootstrap=n_bootstrap, **drawn),
    )
