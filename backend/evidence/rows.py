"""`Evidence` as one row of `associations`, and back."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd

from backend.evidence.association import Association
from backend.evidence.kendall import Kendall
from backend.evidence.laws import Fit, TheilSen
from backend.evidence.mixed import Mixed
from backend.evidence.partial import Partial
from backend.evidence.power import POWER, Power
from backend.evidence.record import Evidence
from backend.evidence.verdict import verdict
from backend.evidence.within import Within
from backend.evidence.zero_inflated import ZeroInflated

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


def row_of(evidence: Evidence) -> dict[str, Any]:
    """The columns of `associations` that do not name the pair, `subset` included; unknown is None, and q is not
    among them.
    """
    details = {
        "null_mean": evidence.rank.null_mean,
        "partial": {"n": evidence.partial.n},
        "power_note": evidence.power.note,
        "zero_inflated": asdict(evidence.zero_inflated),
        "fits": [asdict(fit) for fit in evidence.fits],
        "theil_sen": asdict(evidence.theil_sen),
        "mixed": asdict(evidence.mixed),
        "notes": list(evidence.notes),
    }
    numbers = {column: getattr(evidence.rank, field) for column, field in _RANK.items()}
    numbers |= {
        "kendall": evidence.kendall.tau,
        "kendall_low": evidence.kendall.low,
        "kendall_high": evidence.kendall.high,
    }
    for names, of in ((_WITHIN, evidence.within), (_PARTIAL, evidence.partial)):
        numbers |= {column: getattr(of, field) for column, field in names.items()}
    planted = {column: getattr(evidence.power, field) for column, field in POWER.items()}
    numbers |= {column: list(value) if isinstance(value, tuple) else value for column, value in planted.items()}
    words = {
        "subset": evidence.subset,
        "covariates": list(evidence.partial.covariates),
        "verdict": verdict(replace(evidence, q=math.nan)),
    }
    return words | _known(numbers) | {"details": json.dumps(_known(details), ensure_ascii=False, allow_nan=False)}


def evidence_of(row: Mapping[str, Any]) -> Evidence:
    """What `row_of` gave, read back from a row of the store, with `q` where the row has one."""
    details = json.loads(row["details"])
    rank = {field: row[column] for column, field in _RANK.items()} | {"null_mean": details["null_mean"]}
    covariates = tuple(map(str, row["covariates"])) if pd.api.types.is_list_like(row["covariates"]) else ()
    given = {field: row[column] for column, field in _PARTIAL.items()} | details["partial"]
    return Evidence(
        subset=row["subset"],
        rank=Association(**_numbers(rank), notes=tuple(details["notes"])),
        within=Within(**_numbers({field: row[column] for column, field in _WITHIN.items()})),
        kendall=Kendall(**_numbers({"tau": row["kendall"], "low": row["kendall_low"], "high": row["kendall_high"]})),
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
