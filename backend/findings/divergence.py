"""Where the models part: at which layer their residual streams differ most on the same tokens, and from which on."""

from collections.abc import Sequence

import pandas as pd

from backend.feature_geometry.divergence_kinds import ALL, MEASURES
from backend.findings.finding import Finding, Number, Way
from backend.findings.words import interval, models, number
from backend.store.store import Store
from backend.store.undone import Missing, lacking

_MEASURES = ("relative_norm", "kl")  # the first that is known of any layer


def find(store: Store) -> Finding | Missing:
    rows = store.divergence()
    known = rows[(rows["positions"] == ALL) & rows["value"].notna()]
    measure = next((name for name in _MEASURES if (known["measure"] == name).any()), None)
    if measure is None:
        return lacking(store, "diverge")
    known = known[known["measure"] == measure]
    first = known.iloc[0]
    own = known[
        (known["base_model_id"] == first["base_model_id"])
        & (known["distilled_model_id"] == first["distilled_model_id"])
    ]
    called = models(store)
    return told(own, measure, [called.get(first[f"{role}_model_id"], first[role]) for role in ("base", "distilled")])


def told(own: pd.DataFrame, measure: str, names: Sequence[str]) -> Finding:
    """Of the rows of one measure of two models."""
    own = own.sort_values("layer")
    most = own.loc[own["value"].idxmax()]
    unit = "" if measure == "relative_norm" else "nats"
    return Finding(
        statement=_said(own, most, names, MEASURES[measure].label),
        numbers=(
            Number(
                f"layer {int(most['layer'])}",
                float(most["value"]),
                float("nan") if pd.isna(most["low"]) else float(most["low"]),
                float("nan") if pd.isna(most["high"]) else float(most["high"]),
                f"{int(most['n_tokens']):,} tokens of {int(most['n_problems'])} problems",
                unit,
                control=None if pd.isna(most["control"]) else float(most["control"]),
            ),
        ),
        control=_control(own, measure),
        rows=own[["layer", "value", "low", "high", "control"]],
        way=Way("geometry", "Every measure by layer", {"geometry_part": "parting"}),
        axis=MEASURES[measure].axis,
    )


def _said(own: pd.DataFrame, most: pd.Series, names: Sequence[str], label: str) -> str:
    both = f"{names[0]} and {names[1]}"
    if (own["value"] == 0).all():
        return f"{both[:1].upper()}{both[1:]} are equal, bit for bit, at all {len(own)} layers."
    equal = own[(own["value"] == 0).cummin()]
    since = (
        f"are equal, bit for bit, up to layer {equal['layer'].max()}"
        if len(equal)
        else "differ from the first layer on"
    )
    return (
        f"{both[:1].upper()}{both[1:]} {since}, and differ most at layer {int(most['layer'])} of {own['layer'].max()}:"
        f" {label[:1].lower()}{label[1:]} {number(most['value'])} {interval(most['low'], most['high'])}."
    )


def _control(own: pd.DataFrame, measure: str) -> str:
    known = own[own["control"].notna() & own["low"].notna()]
    what = f"Dashed: {MEASURES[measure].control}."
    if known.empty:
        return "What the base model alone gives is not known here, so it is not said whether this is much."
    beyond = known[known["low"] > known["control"]]
    if beyond.empty:
        return f"{what} At no layer are the two models shown to be further apart than that."
    return (
        f"{what} The two models are further apart than that, interval and all, at {len(beyond)} of {len(known)} layers,"
        f" the first of them {beyond['layer'].min()}."
    )
