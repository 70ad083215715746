"""What rows of cosine tails say, in sentences."""

import pandas as pd

from app.figures.cosine_tails import NULL, SET
from app.shell.numbers import interval, number
from app.shell.untrusted import for_markdown

REPORTED = (
    "“Feature Geometry” reports, for published dictionaries of Gemma 2, that decoder rows are spread nearly as"
    " isotropic ones in the first and last layers and cluster in the middle; its tails begin at |cos| 0.1."
)
REPORTED_OF_TUNING = (
    "“Feature Geometry” reports, for published dictionaries of Gemma 2 (9B, layers 9, 20 and 31), that instruction"
    " tuning makes the middle more uniform and the rest less."
)


def of_tails(rows: pd.DataFrame) -> str:
    """Of rows of `cosine_exceedances`, one subset and threshold, with `line` and `series`: each series against the
    exact law and against draws with its covariance.
    """
    sets = rows[(rows["line"] == SET) & rows["share"].notna()]
    if sets.empty:
        return "No tail mass is known of these rows."
    parts = [_of_series(str(series), own, rows) for series, own in sets.groupby("series", sort=False)]
    expected = sorted({number(100 * one) for one in sets["expected"]})
    marks = sorted({number(one) for one in sets["threshold"]})
    return (
        f"Beyond |cos| {' or '.join(marks)} isotropic rows have {' or '.join(expected)} % of their pairs. "
        + " ".join(parts)
    )


def _of_series(series: str, own: pd.DataFrame, rows: pd.DataFrame) -> str:
    own, n = own.sort_values("share"), len(own)
    least, most = own.iloc[0], own.iloc[-1]
    above, below = int((own["ci_low"] > own["expected"]).sum()), int((own["ci_high"] < own["expected"]).sum())
    span = f"{_share(most)}{_at(most)}" if n == 1 else f"from {_share(least)}{_at(least)} to {_share(most)}{_at(most)}"
    verdict = (
        f"its 95 % interval lies above that in {above} and below it in {below} of {n} sets"
        if n > 1
        else (
            "its 95 % interval lies above that"
            if above
            else "below that"
            if below
            else "its 95 % interval contains that"
        )
    )
    return f"{for_markdown(series, 80)}: {span}; {verdict}.{_against_draws(own, rows)}"


def _against_draws(own: pd.DataFrame, rows: pd.DataFrame) -> str:
    draws = rows[(rows["line"] == NULL) & rows["null_of"].isin(own["set_id"])]
    parts = []
    for null, drawn in draws.groupby("drawn_from", sort=False):
        both = own.merge(drawn[["null_of", "share"]], left_on="set_id", right_on="null_of", suffixes=("", "_drawn"))
        above, n = int((both["ci_low"] > both["share_drawn"]).sum()), len(both)
        below = int((both["ci_high"] < both["share_drawn"]).sum())
        low, high = (number(100 * one) for one in (both["share_drawn"].min(), both["share_drawn"].max()))
        span = f"{low} %" if low == high else f"{low} to {high} %"
        parts.append(
            f" Gaussian rows with {_WORDS.get(str(null), for_markdown(str(null), 40))} have {span}: it lies above them"
            f" in {above} and below in {below} of {n}."
        )
    return "".join(parts)


_WORDS = {
    "rows": "its own mean and covariance",
    "rows_centred": "its own covariance and mean 0",
    "activations": "the covariance of the layer's activations",
}


def _share(row: pd.Series) -> str:
    return f"{number(100 * row.share)} % {interval(100 * row.ci_low, 100 * row.ci_high)}"


def _at(row: pd.Series) -> str:
    return "" if row.layer < 0 else f" (layer {int(row.layer)})"


def of_ratios(ratios: pd.DataFrame) -> str:
    """Of rows of the figure of one model over the other."""
    known = ratios[ratios["value"].notna()]
    if known.empty:
        return "Nothing can be compared: sets of two models at one layer, both with pairs beyond, are needed."
    parts = []
    for series, own in known.groupby("series", sort=False):
        more, less = own[own["low"] > 1], own[own["high"] < 1]
        middle, layers = own["value"].median(), "1 layer" if len(own) == 1 else f"n = {len(own)} layers"
        parts.append(
            f"{for_markdown(str(series), 160)}: median ratio {number(middle)} over {layers}; above 1 with"
            f" its 95 % interval at {_layers(more)}, below 1 at {_layers(less)}."
        )
    unknown = len(ratios) - len(known)
    beside = f" At {unknown} layers one of the two has no pair beyond: unknown." if unknown else ""
    return (
        " ".join(parts)
        + f" By chance 1 in 20 intervals leaves out 1, {number(len(known) / 20)} of these {len(known)}.{beside}"
    )


def _layers(rows: pd.DataFrame) -> str:
    layers = [str(int(layer)) for layer in rows["layer"] if layer >= 0]
    if not len(rows):
        return "none"
    return f"{'layer' if len(layers) == 1 else 'layers'} {', '.join(layers)}" if layers else "the only one"


def of_quarters(points: pd.DataFrame) -> str:
    """Of rows of the figure by firing frequency."""
    sets = points[(points["line"] == SET) & points["value"].notna()] if len(points) else points
    if not len(sets):
        return "It is not known how often the features of these rows fire, or there are too few to be quartered."
    parts = []
    for series, own in sets.groupby("series", sort=False):
        first, last = own.iloc[0], own.iloc[-1]
        apart = first["high"] < last["low"] or last["high"] < first["low"]
        masses = [
            f"{number(100 * one['value'])} % {interval(100 * one['low'], 100 * one['high'])}" for one in (first, last)
        ]
        parts.append(
            f"{for_markdown(str(series), 90)}: {masses[0]} of the pairs of the rarest quarter, {masses[1]} of those of"
            f" the most frequent; the intervals {'do not meet' if apart else 'meet'}."
        )
    return " ".join(parts)


def of_rows(sets: pd.DataFrame) -> str:
    """What was left out of each choice of rows: zero, dead and duplicate ones; how many stand for a larger set."""
    own = sets[sets["drawn_from"].isna()]
    if own.empty:
        return ""
    duplicates, zero = int(own["n_duplicates"].fillna(0).sum()), int(own["n_zero"].sum())
    rows = int(own["n_rows"].sum())
    said = [f"n = {len(own)} sets, {rows:,} rows"]
    if (own["n_rows"] < own["n_total"]).any():
        said.append(f"drawn from {int(own['n_total'].sum()):,}, the same of every model")
    known = own["n_dead"].notna()
    dead = f"{int(own.loc[known, 'n_dead'].sum()):,} never fired (dead)"
    said.append(dead if known.any() else "how often they fire is unknown")
    said.append(f"{duplicates:,} repeat an earlier one (cosine above 0.9)")
    if zero:
        said.append(f"{zero:,} are zero and have no direction")
    return "; ".join(said) + "."
