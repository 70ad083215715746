"""All evidence on one pair: does y (an importance metric) fall or rise with x (a geometry column) over chunks, and would chance do as well?

Every interval draws problems, every p permutes y within CoTs. One pair at one subset is one `Evidence`, which is one row of `associations`.
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
from backend.evidence.sample import sample_of
from backend.evidence.verdict import verdict
from backend.evidence.within import Within, within
from backend.evidence.zero_inflated import ZeroInflated, zero_inflated

# Column of `associations` -> field of Association, where the names differ; the others of `_RANK` have the field's name.
_RANK = {name: name for name in ("n", "n_cots", "n_problems", "n_missing", "n_zero_x", "n_zero_y", "spearman", "ci_low", "ci_high")}
_RANK |= {"p": "p_permutation", "null_low": "null_low", "null_high": "null_high"}
_RANK |= {name: name for name in ("n_bootstrap", "n_permutations", "seed")}


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
    q: float = math.nan  # p after Benjamini and Hochberg over a grid of pairs; NaN for a pair alone
    shared: str = ""  # why x and y are not measured apart (multiple.py): then no law is claimed

    @property
    def notes(self) -> tuple[str, ...]:
        return self.rank.notes

    def row(self) -> dict[str, Any]:
        """The columns of `associations` that do not name the pair, `subset` included; unknown is None, and q is not among them."""
        details = {
            "null_mean": self.rank.null_mean,
            "within": asdict(self.within),
            "partial": {"n": self.partial.n, "null_mean": self.partial.null_mean},
            "zero_inflated": asdict(self.zero_inflated),
            "fits": [asdict(fit) for fit in self.fits],
            "theil_sen": asdict(self.theil_sen),
            "mixed": asdict(self.mixed),
            "notes": list(self.notes),
        }
        numbers = {column: getattr(self.rank, field) for column, field in _RANK.items()}
        numbers |= {"kendall": self.kendall.tau, "kendall_low": self.kendall.low, "kendall_high": self.kendall.high}
        numbers |= {"partial": self.partial.rho, "partial_p": self.partial.p}
        words = {"subset": self.subset, "covariates": list(self.partial.covariates), "verdict": verdict(replace(self, q=math.nan))}
        return words | _known(numbers) | {"details": json.dumps(_known(details), ensure_ascii=False, allow_nan=False)}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "Evidence":
        """What `row()` gave, read back from a row of the store, with `q` where the row has one."""
        details = json.loads(row["details"])
        rank = {field: row[column] for column, field in _RANK.items()} | {"null_mean": details["null_mean"]}
        covariates = tuple(map(str, row["covariates"])) if pd.api.types.is_list_like(row["covariates"]) else ()
        return cls(
            subset=row["subset"],
            rank=Association(**_numbers(rank), notes=tuple(details["notes"])),
            within=Within(**_numbers(details["within"])),
            kendall=Kendall(**_numbers({"tau": row["kendall"], "low": row["kendall_low"], "high": row["kendall_high"]})),
            partial=Partial(**_numbers({"rho": row["partial"], "p": row["partial_p"], **details["partial"]}), covariates=covariates),
            zero_inflated=ZeroInflated(**_numbers(details["zero_inflated"])),
            fits=tuple(Fit(**_numbers(fit)) for fit in details["fits"]),
            theil_sen=TheilSen(**_numbers(details["theil_sen"])),
            mixed=Mixed(**_numbers(details["mixed"])),
            shared=row.get("shared") or "",
            **_numbers({"q": row.get("q")}),
        )


def evidence(
    frame: pd.DataFrame,
    *,
    n_bootstrap: int = 2000,
    n_permutations: int = 2000,
    seed: int,
    covariates: Sequence[str] = (),
    subset: str = "all",
    describe: bool = True,
) -> Evidence:
    """`frame` has `x`, `y`, `cot_id`, `problem_id` and the covariates' columns, one row a chunk; unknown is NaN.

    `describe` = False leaves out what no verdict needs: Kendall's tau, curves, Theil–Sen slope, mixed model.
    """
    sample = sample_of(frame, subset)
    drawn = {"n_permutations": n_permutations, "seed": seed}
    rank, held = association_of_sample(sample, n_bootstrap=n_bootstrap, **drawn), held_fixed(sample, covariates)
    notes = [*rank.notes, *held.notes]
    if sample.n_near:
        chance = "unknown" if math.isnan(rank.null_mean) else f"{rank.null_mean:.2f}".replace("-", "−")
        near = f"{sample.n_near} chunks whose sizes are at or below the median of both"
        notes.insert(0, f"without {near}; leaving them out gives ρ = {chance} by itself")
    return Evidence(
        subset=subset,
        rank=replace(rank, notes=tuple(notes)),
        within=within(sample, n_bootstrap=n_bootstrap, seed=seed),
        kendall=kendall(sample, n_bootstrap=n_bootstrap, seed=seed) if describe else NO_TAU,
        partial=partial(sample, held.values, **drawn),
        zero_inflated=zero_inflated(sample, n_bootstrap=n_bootstrap, **drawn),
        fits=fits(sample, seed=seed) if describe else (),
        theil_sen=theil_sen(sample, seed=seed) if describe else NO_SLOPE,
        mixed=mixed_model.mixed(sample) if describe else mixed_model.unknown(""),
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
