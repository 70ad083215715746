"""Rows of the figures of cosine tails, from the rows of the store."""

import numpy as np
import pandas as pd

from app.figures.cosine_tails import LAW, NULL, SET
from app.shell.numbers import interval, number
from backend.feature_geometry.covariance_nulls import NULLS
from backend.feature_geometry.exact_law import expected_counts
from backend.feature_geometry.tail_mass import Grouped, ratio
from backend.feature_geometry.trained_on import MODEL, SOURCES
from backend.models.names import short_name

ISOTROPIC = "isotropic rows (exact distribution)"
EVERY = 5  # layers of which histograms are drawn, as published
MOST_PANELS = 9


def part_of(rows: pd.DataFrame) -> pd.Series:
    """A set's part in the comparison, as the study calls it (`part`), else as it is stored."""
    return rows["part"] if "part" in rows else rows["role"]


def series_of(rows: pd.DataFrame) -> pd.Series:
    """What a set's line is called: its part in the comparison, with the model's name where several have that part; of
    an autoencoder also what it was trained on.
    """
    names, parts = rows["model"].map(short_name), part_of(rows)
    several = {part for part, own in names.groupby(parts) if own.nunique() > 1} | {"model"}
    part = parts.where(parts != "model", "")
    full = (names + " (" + part + ")").str.replace(" ()", "", regex=False)
    said = part.where(~parts.isin(several), full)
    trained = rows["trained_on"].map(lambda name: SOURCES[name].label if name in SOURCES else name, na_action="ignore")
    return said.where(trained.isna(), said + ", trained on " + trained.fillna(""))


def models_in_words(rows: pd.DataFrame) -> str:
    """Which model has which part."""
    found = dict.fromkeys(zip(part_of(rows), rows["model"].map(short_name), strict=True))
    return ", ".join(name if role == "model" else f"{role}: {name}" for role, name in found)


def lines_of(rows: pd.DataFrame) -> pd.DataFrame:
    """With `line` and `series`: a draw in a set's stead is a null, called by what it shares with the set."""
    named = series_of(rows)
    called = rows["drawn_from"].map(lambda null: NULLS[null].label if null in NULLS else str(null))
    called = called + ("; " + named if named.nunique() > 1 else "")
    is_set = rows["drawn_from"].isna()
    return rows.assign(line=np.where(is_set, SET, NULL), series=named.where(is_set, called))


def of_the_model(rows: pd.DataFrame) -> pd.Series:
    """Which rows are not of an autoencoder that was trained on a null."""
    return rows["trained_on"].fillna(MODEL) == MODEL


def drawn_layers(layers: list[int]) -> list[int]:
    """Every fifth layer where there are many; all of few."""
    if len(layers) <= MOST_PANELS // 2:
        return layers
    fifth = [layer for layer in layers if layer % EVERY == 0]
    return (fifth or layers)[:MOST_PANELS]


def bins(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a bin with pairs, of rows of `cosine_tails`: `cosine` its middle, `low` and `high` its edges of |cosine|,
    `n` pairs.
    """
    found = []
    for row in rows.itertuples():
        for side, counts in ((-1, row.negative), (1, row.positive)):
            held = [k for k, n in enumerate(counts) if n]
            found += [(row.Index, side, k, int(counts[k])) for k in held]
    table = pd.DataFrame(found, columns=["of", "side", "bin", "n"])
    of = rows.loc[table["of"]]
    low = of["first_edge"].to_numpy() + table["bin"].to_numpy() * of["bin_width"].to_numpy()
    table = table.assign(low=low.round(9), high=(low + of["bin_width"].to_numpy()).round(9))
    kept = ["set_id", "line", "series", "layer", "d", "n_pairs", "n_rows"]
    table = pd.concat([table, of[kept].reset_index(drop=True)], axis=1)
    return table.assign(
        cosine=table["side"] * (table["low"] + table["high"]) / 2,
        share=table["n"] / table["n_pairs"].clip(lower=1),
        mark=np.where(
            table["line"] == SET, table["set_id"] + "|" + (table["side"] * (table["bin"] + 1)).astype(str), ""
        ),
    )


def histogram(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of the histograms' figure; `rows` are of `cosine_tails`, one subset, with `line` and `series`."""
    known = rows[rows["n_pairs"] > 0]
    if known.empty:
        return pd.DataFrame(columns=["panel", "line", "series", "cosine", "share", "mark", "told"])
    table, panels = bins(known), _panels(known)
    table = table.assign(
        panel=table["layer"].map(panels),
        told=[
            f"{row.series}: {row.n:,} of {row.n_pairs:,} pairs with {'−' if row.side < 0 else ''}cos in ({row.low:g},"
            f" {row.high:g}]"
            for row in table.itertuples()
        ],
    )
    law = pd.concat([_law(own, panel) for panel, own in known.groupby(known["layer"].map(panels), sort=False)])
    columns = ["panel", "line", "series", "cosine", "share", "mark", "told", "layer"]
    both = pd.concat([table[columns], law[columns]])
    return both.sort_values("layer", kind="stable", ignore_index=True)


def _panels(rows: pd.DataFrame) -> dict[float, str]:
    """What each layer's panel is called, with its numbers of rows."""
    found = {}
    for layer, own in rows[rows["line"] == SET].groupby("layer"):
        sizes = sorted({int(n) for n in own["n_rows"]})
        n = f"n = {sizes[0]:,} rows" if len(sizes) == 1 else f"n = {sizes[0]:,} to {sizes[-1]:,} rows"
        found[layer] = f"layer {int(layer)}, {n}" if layer >= 0 else n
    return found


def _law(rows: pd.DataFrame, panel: str) -> pd.DataFrame:
    """The exact law in the bins where it expects a pair at all."""
    first = rows.sort_values("n_pairs").iloc[-1]
    n_bins = round((1 - first.first_edge) / first.bin_width)
    edges = np.minimum(first.first_edge + first.bin_width * np.arange(n_bins + 1), 1.0)
    expected = expected_counts(edges, int(first.d), int(first.n_pairs))
    middle = (edges[1:] + edges[:-1]) / 2
    there = expected > 0.3
    table = pd.DataFrame({"cosine": middle[there], "expected": expected[there]})
    both = pd.concat([table.assign(cosine=-table["cosine"]), table])
    return both.assign(
        panel=panel,
        line=LAW,
        series=ISOTROPIC,
        share=both["expected"] / first.n_pairs,
        mark="",
        layer=first.layer,
        told=[f"isotropic rows, d = {int(first.d)}: {number(n)} pairs expected" for n in both["expected"]],
    )


def mass(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of the figure of tail mass by layer; `rows` are of `cosine_exceedances`, one subset and threshold, with
    `line` and `series`. Autoencoders that differ in their seed alone make one point: their mean, between extremes.
    """
    points = [
        _point(str(line), str(series), layer, own)
        for (line, series, layer), own in rows.groupby(["line", "series", "layer"], sort=False)
    ]
    law = [
        {
            "line": LAW,
            "series": ISOTROPIC,
            "layer": layer,
            "value": own["expected"].iloc[0],
            "low": None,
            "high": None,
            "told": f"isotropic rows, d = {int(own['d'].iloc[0])}: {number(own['expected'].iloc[0])}",
        }
        for layer, own in rows.groupby("layer")
    ]
    return pd.DataFrame([*points, *law], columns=["line", "series", "layer", "value", "low", "high", "told"])


def _point(line: str, series: str, layer: int, own: pd.DataFrame) -> dict[str, object]:
    known = own[own["share"].notna()]
    single, value = len(known) == 1, known["share"].mean()
    low, high = (known["ci_low"], known["ci_high"]) if single else (known["share"], known["share"])
    n = ", ".join(f"{int(one):,}" for one in known["n_beyond"])
    sure = "95 % interval" if single else f"{len(known)} seeds from"
    return {
        "line": line,
        "series": series,
        "layer": layer,
        "value": value,
        "low": low.min(),
        "high": high.max(),
        "told": f"{series}, layer {layer}: {number(value)}, {sure} {interval(low.min(), high.max())}, {n} pairs"
        f" beyond |cos| {number(own['threshold'].iloc[0])}",
    }


def ratios(rows: pd.DataFrame) -> pd.DataFrame:
    """The tuned model over the base one at each layer where both are, of rows of `cosine_exceedances` of one subset and
    threshold. Rows of a model and of its tuned copy correspond, and so do the two decoders of one dictionary; those of
    two dictionaries do not.
    """
    sets = rows[(rows["line"] == SET) & (rows["trained_on"].fillna(MODEL) == MODEL)]
    found = []
    for (layer, _, seed), own in sets.groupby(["layer", "d", sets["seed"].fillna(-1)]):
        known = list(own.itertuples())
        base, tuned = ([one for one in known if one.role == role] for role in ("base", "tuned"))
        for one in tuned:
            for other in base:
                paired = one.n_total == other.n_total and _correspond(one, other)
                masses = [
                    Grouped(int(side.n_beyond), np.asarray(side.touching), np.asarray(side.group_rows))
                    for side in (one, other)
                ]
                how = ratio(*masses, paired=paired)
                name = f"{one.series} over {other.series}" + (", same rows left out of both" if paired else "")
                found.append(
                    {
                        "line": SET,
                        "series": name if seed < 0 else f"{name}, seed {int(seed)}",
                        "layer": int(layer),
                        "value": how and how.value,
                        "low": how and how.low,
                        "high": how and how.high,
                        "told": f"layer {int(layer)}: {number(how.value)} {interval(how.low, how.high)}"
                        if how
                        else f"layer {int(layer)}: unknown",
                    }
                )
    return pd.DataFrame(found, columns=["line", "series", "layer", "value", "low", "high", "told"]).astype(
        {"value": float, "low": float, "high": float}
    )


def _correspond(one: object, other: object) -> bool:
    """Whether row k of one set is row k of the other: both are a model's own, or decoders of one dictionary."""
    sources = [getattr(side, "source", None) for side in (one, other)]
    return all(source is None for source in sources) or sources[0] == sources[1]


def quarters(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of the figure by firing frequency; `rows` are of `cosine_exceedances`, one threshold, with `line` and
    `series`.
    """
    own = rows[rows["subset"].str.startswith("fired") & (rows["line"] == SET)]
    own = own.sort_values(["layer", "series", "subset"])
    several = own["layer"].nunique() > 1
    points = pd.DataFrame(
        {
            "line": SET,
            "series": own["series"] + (", layer " + own["layer"].astype(int).astype(str) if several else ""),
            "quarter": own["subset"].map({f"fired {k}": word for k, word in enumerate(_QUARTERS, start=1)}),
            "value": own["share"].astype(float),
            "low": own["ci_low"].astype(float),
            "high": own["ci_high"].astype(float),
            "told": [
                f"{row.series}, features that fire on {number(100 * row.frequency_low)} to"
                f" {number(100 * row.frequency_high)} % of tokens: {number(row.share)}"
                f" {interval(row.ci_low, row.ci_high)}, n = {row.n_rows:,} rows"
                for row in own.itertuples()
            ],
        }
    )
    if points.empty:
        return points
    law = pd.DataFrame(
        {
            "line": LAW,
            "series": ISOTROPIC,
            "quarter": list(_QUARTERS),
            "value": float(own["expected"].iloc[0]),
            "low": None,
            "high": None,
            "told": f"isotropic rows: {number(own['expected'].iloc[0])}",
        }
    )
    return pd.concat([points, law], ignore_index=True)


_QUARTERS = ("rarest", "second", "third", "most often")
