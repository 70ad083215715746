"""All evidence on one pair: does y (an importance metric) fall or rise with x (a geometry column) over chunks, and
would chance do as well?

What is left within CoTs leads, and the correlation over all chunks stands beside it. Every interval draws problems,
every p permutes y within CoTs, except where problems are asked whether they agree. One pair at one subset is one
`Evidence`, one row of `associations`.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from backend.evidence import mixed as mixed_model
from backend.evidence.association import Association, association_of_sample
from backend.evidence.kendall import NO_TAU, Kendall, kendall
from backend.evidence.laws import NO_SLOPE, Fit, TheilSen, fits, theil_sen
from backend.evidence.mixed import Mixed
from backend.evidence.partial import Partial, held_fixed, partial
from backend.evidence.power import POWER, Power, power
from backend.evidence.sample import sample_of
from backend.evidence.verdict import P_ALONE, verdict
from backend.evidence.within import Within, within
from backend.evidence.zero_inflated import ZeroInflated, zero_inflated

# Column of `associations` -> field of Association, where the names differ; the others of `_RANK` have the field's name.
_RANK = {
    name: name
    for name in ("n", "n_cots", "n_problems", "n_missing", "n_zero_x", "n_zero_y", "spearman", "ci_low", "ci_high")
}
_RANK |= {"p": "p_permutation", "null_low": "null_low", "null_high": "null_high"}
_RANK |= {name: name for name in ("n_bootstrap", "n_permutations", "seed")}
_WITHIN = {
    "within": "rho",
    "within_low": "low",
    "within_high": "high",
    "within_null_low": "null_low",
    "within_null_high": "null_high",
    "p_problems": "p_problems",
}
_PARTIAL = {"partial": "rho", "partial_p": "p", "partial_p_problems": "p_problems"}


@dataclass(frozen=True)
class Evidence:
    """Unknown numbers are NaN; `notes` and `mixed.note` say why."""

    subset: str  # all, or away_from_origin (see sample.py)
    rank: Association
    within: Within
    kendall: Kendall
    partial: Partial
    zero_inflated: ZeroInflated
    fits: tuple[Fit, ...]  # empty where it was not asked for
    theil_sen: TheilSen
    mixed: Mixed
    power: Power
    q: float = math.nan  # Benjamini and Hochberg's over a grid of pairs; NaN for a pair alone
    p_allowed: float = P_ALONE  # what p may be at most for a law to be claimed: in a grid q may ask for less
    shared: str = ""  # why x and y are not measured apart (multiple.py): then no law is claimed

    @property
    def notes(self) -> tuple[str, ...]:
        return self.rank.notes

    @property
    def runs_the_other_way(self) -> bool:
        """Whether ρ over all chunks and ρ within CoTs have different signs, and either is beyond its interval."""
        within, rank = self.within, self.rank
        return disagree(within.rho, (within.low, within.high), rank.spearman, (rank.ci_low, rank.ci_high))

    def row(self) -> dict[str, Any]:
        """The columns of `associations` that do not name the pair, `subset` included; unknown is None, and q is not
        among them.
        """
        details = {
            "null_mean": self.rank.null_mean,
            "partial": {"n": self.partial.n},
            "power_note": self.power.note,
            "zero_inflated": asdict(self.zero_inflated),
            "fits": [asdict(fit) for fit in self.fits],
            "theil_sen": asdict(self.theil_sen),
            "mixed": asdict(self.mixed),
            "notes": list(self.notes),
        }
        numbers = {column: getattr(self.rank, field) for column, field in _RANK.items()}
        numbers |= {"kendall": self.kendall.tau, "kendall_low": self.kendall.low, "kendall_high": self.kendall.high}
        for names, of in ((_WITHIN, self.within), (_PARTIAL, self.partial)):
            numbers |= {column: getattr(of, field) for column, field in names.items()}
        planted = {column: getattr(self.power, field) for column, field in POWER.items()}
        numbers |= {column: list(value) if isinstance(value, tuple) else value for column, value in planted.items()}
        words = {
            "subset": self.subset,
            "covariates": list(self.partial.covariates),
            "verdict": verdict(replace(self, q=math.nan)),
        }
        return words | _known(numbers) | {"details": json.dumps(_known(details), ensure_ascii=False, allow_nan=False)}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "Evidence":
        """What `row()` gave, read back from a row of the store, with `q` where the row has one."""
        details = json.loads(row["details"])
        rank = {field: row[column] for column, field in _RANK.items()} | {"null_mean": details["null_mean"]}
        covariates = tuple(map(str, row["covariates"])) if pd.api.types.is_list_like(row["covariates"]) else ()
        given = {field: row[column] for column, field in _PARTIAL.items()} | details["partial"]
        return cls(
            subset=row["subset"],
            rank=Association(**_numbers(rank), notes=tuple(details["notes"])),
            within=Within(**_numbers({field: row[column] for column, field in _WITHIN.items()})),
            kendall=Kendall(
                **_numbers({"tau": row["kendall"], "low": row["kendall_low"], "high": row["kendall_high"]})
            ),
            partial=Partial(**_numbers(given), covariates=covariates),
            zero_inflated=ZeroInflated(**_numbers(details["zero_inflated"])),
            fits=tuple(Fit(**_numbers(fit)) for fit in details["fits"]),
            theil_sen=TheilSen(**_numbers(details["theil_sen"])),
            mixed=Mixed(**_numbers(details["mixed"])),
            power=Power.of_row(row, details["power_note"]),
            shared=row.get("shared") or "",
            **_numbers({"q": row.get("q")}),
            **({} if pd.isna(row.get("p_allowed")) else {"p_allowed": float(row["p_allowed"])}),
        )


def disagree(rho: float, interval: tuple[float, float], other: float, other_interval: tuple[float, float]) -> bool:
    """Whether two correlations differ in sign and the interval of either does not contain 0.

    Unknown disagrees with nothing.
    """
    return rho * other < 0 and any(low * high > 0 for low, high in (interval, other_interval))


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


def _known(value: Any) -> Any:
    """The same with None for NaN and infinities, at every depth."""
    if isinstance(value, dict):
        return {name: _known(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_known(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _numbers(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The same with NaN for None, and numbers of Python for those of NumPy."""
    plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in fields.items()}
    return {name: math.nan if value is None or value is pd.NA else value for name, value in plain.items()}
