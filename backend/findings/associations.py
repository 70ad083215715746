"""The strongest association of geometry or importance with importance that is claimed, and the strongest that is not.

Both by |ρ within CoTs|. What is claimed is what `evidence.multiple.judged` leaves when all pairs of the study are
looked at. Of those that are not claimed one counts that could have been: whose x and y are measured apart, over all
chunks, with a known p.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from backend.evidence.multiple import judged
from backend.evidence.power import POWER, SAID, Power
from backend.evidence.rule import P_ALONE
from backend.findings.finding import Finding, Number, Way
from backend.findings.words import direction, models, number, some
from backend.importance.metric_registry import METRICS, metric_named
from backend.store.geometry_columns import NO_LAYER, NONE, column_named
from backend.store.store import Store
from backend.store.undone import Missing, lacking

CLAIMS = ("inverse", "direct")


def find(store: Store) -> Finding | Missing:
    tested = testable(judged(store.associations()))
    return lacking(store, "evidence") if tested.empty else told(tested, models(store))


def testable(pairs: pd.DataFrame) -> pd.DataFrame:
    """Pairs of which chance is known, and that are measured apart."""
    return pairs[pairs["p"].notna() & (pairs["shared"] == "")]


def told(tested: pd.DataFrame, called: Mapping[str, str]) -> Finding:
    """Of pairs that were judged together, largest |ρ within CoTs| first."""
    claimed = tested[tested["verdict"].isin(CLAIMS)].to_dict("records")
    others = tested[(tested["verdict"] == "none") & (tested["subset"] == "all")].to_dict("records")
    named = [*claimed[:1], *others[:1]]
    first = named[0] if named else tested.iloc[0].to_dict()
    return Finding(
        statement=" ".join(
            [
                _claimed(claimed, len(tested), called),
                *(_not_claimed(row, called) for row in others[:1]),
            ]
        ),
        numbers=tuple(
            Number(
                "claimed" if row["verdict"] in CLAIMS else "not claimed",
                _float(row["within"]),
                _float(row["within_low"]),
                _float(row["within_high"]),
                f"{row['n']} chunks of {row['n_problems']} problems",
                "ρ within CoTs",
                q=_float(row["q"]),
            )
            for row in named
        ),
        control=(
            "Grey: where importance shuffled within its chain puts ρ. q is over all pairs of the study; a claim also"
            " asks that problems agree, and that it outlives the covariates."
        ),
        rows=pd.DataFrame(
            {
                "label": [f"{'claimed' if row['verdict'] in CLAIMS else 'not claimed'}" for row in named],
                "value": [row["within"] for row in named],
                "low": [row["within_low"] for row in named],
                "high": [row["within_high"] for row in named],
                "chance_low": [row["within_null_low"] for row in named],
                "chance_high": [row["within_null_high"] for row in named],
                "control": [None for _ in named],
                "claimed": [row["verdict"] in CLAIMS for row in named],
                "told": [_named(row, called) for row in named],
            }
        ),
        way=Way("steepness", "Its scatter" if claimed else "Scatter of the strongest", _selected(first)),
        axis="ρ within CoTs",
    )


def _claimed(rows: list[dict[str, Any]], n: int, called: Mapping[str, str]) -> str:
    if not rows:
        return f"No association is claimed in any of {some(n, 'pair')} that {'was' if n == 1 else 'were'} tested."
    row = rows[0]
    does = "falls" if row["verdict"] == "inverse" else "rises"
    return (
        f"{some(len(rows), 'association')} of {some(n, 'tested pair')} {'is' if len(rows) == 1 else 'are'} claimed. The"
        f" strongest: {_y(row)} {does} with {_x(row, called)}, ρ = {number(row['within'])} within chains."
    )


def _not_claimed(row: Mapping[str, Any], called: Mapping[str, str]) -> str:
    power = Power.of_row({name: row[name] for name in POWER})
    found, least = power.at(SAID), power.least(P_ALONE if pd.isna(row["p_allowed"]) else row["p_allowed"])
    worth = (
        "How strong a relation would have been found there is unknown."
        if pd.isna(found)
        else f"Of relations of ρ = {number(SAID)} planted there, {found:.0%} would have been claimed of this pair alone"
        + (
            "; among all pairs none of the planted sizes is found 9 times in 10."
            if pd.isna(least)
            else f"; among all pairs 9 in 10 from ρ = {number(least)} on."
        )
    )
    return (
        f"The strongest that is not claimed: {_y(row)} with {_x(row, called)}, ρ = {number(row['within'])}"
        f"{_given(row)}. {worth}"
    )


def _given(row: Mapping[str, Any]) -> str:
    """What is left of it where the covariates alone keep it from a claim."""
    if not row["p"] <= P_ALONE or pd.isna(row["partial"]):
        return ""
    return (
        f", of which {number(row['partial'])} is left (p = {number(row['partial_p'])}) with the covariates held fixed"
    )


def _named(row: Mapping[str, Any], called: Mapping[str, str]) -> str:
    return f"{_y(row)} with {_x(row, called)}"


def _y(row: Mapping[str, Any]) -> str:
    name = metric_named(row["metric"]).label
    return name if row["convention"] == "all" else f"{name} ({row['convention']})"


def _x(row: Mapping[str, Any], called: Mapping[str, str]) -> str:
    x = str(row["x"])
    name = _lower(METRICS[x].label if x in METRICS and row["layer"] == NO_LAYER else column_named(x).label)
    if row["layer"] == NO_LAYER:
        return name
    kind = "" if row["kind"] == NONE else f", along {direction(row['kind'])}"
    return f"{name} ({called.get(row['model_id'], row['model_id'])}, layer {row['layer']}{kind})"


def _lower(words: str) -> str:
    return words if words[1:2].isupper() else words[:1].lower() + words[1:]


def _selected(row: Mapping[str, Any]) -> dict[str, str]:
    """As the page of one pair is opened from the table of all."""
    chosen = {
        "steepness_part": "pair",
        "geometry_column": str(row["x"]),
        "metric": f"{row['metric']}:{row['convention']}",
    }
    if row["layer"] == NO_LAYER:
        return chosen | ({} if row["kind"] == NONE else {"convention": str(row["kind"])})
    of_layer = {"direction": row["kind"], "position": row["position"], "unit": row["unit"]}
    chosen |= {"model": str(row["model_id"]), "layer": str(row["layer"])}
    return chosen | {name: str(value) for name, value in of_layer.items() if value != NONE}


def _float(value: Any) -> float:
    return float("nan") if pd.isna(value) else float(value)
