"""What the curve through a pair's chunks says: its parameters, the same without the chunks near the origin, and what
that selection makes of unrelated measures.
"""

from collections.abc import Mapping

import pandas as pd

from app.figures.steepness import CURVE_WORDS, signed, span
from app.shell import keys
from app.shell.data_table import data_table
from app.shell.fields import Field, declare
from app.shell.numbers import interval, number
from app.shell.untrusted import show
from backend.evidence.curve_bands import CURVES, Drawn
from backend.evidence.selection import Selected

NO_CURVE = "none"
CURVE = declare(Field("fitted_curve", "curve through the chunks", (*CURVES, NO_CURVE), of=None))
_SUBSETS = {"all": "all chunks", "away_from_origin": "away from the origin"}
REPORTED = (
    "Dawes 2025 reports an inverse law between steepness and importance, A/(x + x₀) + c, and looks at it again without"
    " the points near the origin (section 4.2)."
)


def draw(curves: Mapping[str, Drawn], selected: Selected) -> None:
    """Under the scatter: the parameters, in words what they say, and the demonstration."""
    if any(found.parameters for found in curves.values()):
        data_table(parameters(curves), hide_index=True, row_height=28, height="content", key=keys.of("parameters"))
    show(f"{REPORTED} {in_words(curves)}" if curves else REPORTED)
    data_table(slopes(selected), hide_index=True, row_height=28, height="content", key=keys.of("selection_slopes"))
    show(selection_in_words(selected))


def parameters(curves: Mapping[str, Drawn]) -> pd.DataFrame:
    """One row a parameter, on all chunks and away from the origin; unknown is said to be unknown."""
    names = list(dict.fromkeys(name for found in curves.values() for name in found.parameters))
    return pd.DataFrame(
        {"parameter": names}
        | {
            f"{_SUBSETS[subset]}, n = {found.n}": [
                f"{number(own.value)} {interval(own.low, own.high)}"
                if (own := found.parameters.get(name)) is not None
                else "unknown"
                for name in names
            ]
            for subset, found in curves.items()
        }
    )


def in_words(curves: Mapping[str, Drawn]) -> str:
    """What the curve says of this pair, on all chunks and on the others."""
    said = []
    for subset, found in curves.items():
        where = f"on {_SUBSETS[subset]} (n = {found.n}, {found.n_problems} problems)"
        if found.note:
            said.append(f"{where}: not fitted, {found.note}")
        elif (slope := _falls_by(found)) is None:
            said.append(f"{where}: {CURVE_WORDS[found.curve]} has no way to fall or rise")
        else:
            name, falling = slope
            own = found.parameters[name]
            low, high = own.low, own.high
            says = (
                "whether it falls or rises is unknown"
                if pd.isna(low) or pd.isna(high)
                else "it neither falls nor rises for certain"
                if low <= 0 <= high
                else "it falls"
                if (own.value > 0) == falling
                else "it rises"
            )
            said.append(f"{where}: {name} = {number(own.value)} {interval(low, high)}, {says}")
    return f"Here, {'; '.join(said)}. Intervals: {_draws(curves)} draws of whole problems."


def _falls_by(found: Drawn) -> tuple[str, bool] | None:
    """The parameter whose sign says which way the curve goes, and whether it falls where that is above 0."""
    return {
        "inverse": ("A", True),
        "linear": ("slope", False),
        "theil_sen": ("slope", False),
        "log_log": ("exponent", False),
        "constant": None,
    }[found.curve]


def _draws(curves: Mapping[str, Drawn]) -> int:
    return max((found.n_draws for found in curves.values()), default=0)


def slopes(selected: Selected) -> pd.DataFrame:
    """The slope and ρ on all chunks, on those away from the origin, and what the selection alone makes."""
    rows = {
        "all chunks": selected.whole,
        "away from the origin": selected.away,
        f"the selection alone, {selected.n_shuffles} shuffles": selected.by_selection,
    }
    return pd.DataFrame(
        {
            "chunks": list(rows),
            "n": [row.n for row in rows.values()],
            "slope, 95 %": [f"{number(row.slope)} {interval(row.low, row.high)}" for row in rows.values()],
            "Spearman ρ, 95 %": [f"{signed(row.rho)} {span(row.rho_low, row.rho_high)}" for row in rows.values()],
        }
    )


def selection_in_words(selected: Selected) -> str:
    """Why a slope away from the origin is no evidence by itself."""
    away, alone = selected.away, selected.by_selection
    if any(pd.isna(value) for value in (away.rho, alone.rho_low, alone.rho_high)):
        return "What leaving out the chunks near the origin makes by itself is unknown here: there are too few."
    beyond = not alone.rho_low <= away.rho <= alone.rho_high
    return (
        "Why leaving out the corner proves nothing by itself: with importance dealt anew among the chunks of each CoT,"
        " which unties it from x, the same selection still leaves ρ ="
        f" {signed(alone.rho)} {span(alone.rho_low, alone.rho_high)}: of the chunks with a small x only those"
        f" with a large importance are left. Measured: ρ = {signed(away.rho)}, which is"
        f" {'beyond' if beyond else 'within'} what the selection alone makes."
    )
