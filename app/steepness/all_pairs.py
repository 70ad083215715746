"""All pairs of geometry and importance: what the study says in words, and the table of them."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from app.figures.evidence import effects
from app.figures.steepness import signed, span
from app.shared.chosen_stream import LAYER, MODEL
from app.shared.chunk_colours import METRIC
from app.shared.clicks import marks, picked_row
from app.shared.geometry_columns import CONVENTION, DIRECTION, POSITION, UNIT, place_in_words
from app.shared.model_names import named
from app.shared.statistics_cache import pairs_of
from app.shared.views import Here
from app.shell import keys, selection
from app.shell.data_figure import data_figure
from app.shell.data_table import data_table
from app.shell.fields import Field, declare
from app.shell.missing import Missing, undone
from app.shell.more import more
from app.shell.untrusted import one_line, show
from app.shell.vocabulary import CONVENTIONS, column, metric_choice, studied_words
from app.steepness import one_pair
from app.steepness.one_pair import COVARIATE_WORDS, SUBSET_WORDS
from backend.evidence.power import POWER, SAID, Power
from backend.evidence.record import disagree
from backend.evidence.rule import P_ALONE, RULE
from backend.ids import stable_id
from backend.importance.metric_registry import METRICS
from backend.store.geometry_columns import COLUMNS, NO_LAYER, NONE
from backend.store.store import Store

_VERDICTS = {"any": "any", "inverse": "inverse", "direct": "direct", "none": "none claimed"}
SUBSET = declare(Field("pairs_among", "chunks of the pairs", SUBSET_WORDS))
CLAIMED = declare(Field("pairs_law", "association of the pairs", _VERDICTS))
GEOMETRY = declare(Field("pairs_geometry", "geometry of the pairs", None))
IMPORTANCE = declare(Field("pairs_importance", "importance of the pairs", None))
_Q = 0.05
_SIGNS = ("within", "within_low", "within_high", "spearman", "ci_low", "ci_high")
_PAIR = ("x", "kind", "model_id", "layer", "position", "unit", "metric", "convention")
_CORRELATIONS = ("|ρ|", "ρ", "low", "high", "null low", "null high", "ρ given", "detectable from", "pooled ρ")


def tested(here: Here) -> Missing | None:
    """Pairs of geometry and importance that were tested."""
    if len(pairs_of(here.store)):
        return None
    return undone(here.store.path, "evidence")


def draw(here: Here, store: Store) -> None:
    """What the study says in words, and the table of all pairs; choosing a row opens its scatter."""
    rows = named(store, pairs_of(store))
    for words in headline(rows):
        show(words)
    one_pair.whose(store)
    st.caption(multiplicity(rows))
    with st.expander("When an association is claimed"):
        st.caption(RULE)
    rows = _filtered(rows)
    several = rows["model_id"].nunique() > 1
    labels = [pair_in_words(row) + (f" · {row['model']}" if several else "") for row in rows.to_dict("records")]
    # Other rows make another table: the browser names a row by its number alone.
    shown = stable_id("t", *(str(value) for name in (*_PAIR, "subset") for value in rows[name]))
    chart, table_key = keys.of(f"effects_{shown}"), keys.of(f"pairs_{shown}")
    data_figure(effects(rows, labels), key=chart, on_select=lambda: _clicked(chart, rows), selection_mode="points")
    table = pair_table(rows)

    def go() -> None:
        if (picked := picked_row(table_key, len(rows))) is not None:
            open_pair(rows.iloc[picked])

    data_table(
        table,
        hide_index=True,
        row_height=28,
        height=560,
        key=table_key,
        on_select=go,
        selection_mode="single-row",
        column_config={
            **{name: st.column_config.NumberColumn(format="%.3f") for name in _CORRELATIONS},
            **{name: st.column_config.NumberColumn(format="%.2g") for name in ("p", "q")},
            "power": st.column_config.NumberColumn(format="percent"),
        },
    )
    untested = int(rows["p"].isna().sum())
    last = f"; {untested:,} with too few chunks for chance to be known come last" if untested else ""
    st.caption(
        f"{len(rows):,} pairs, the largest |ρ| within CoTs first{last}. A click on a heading sorts. Choose a row, or a"
        f" mark, to see its scatter. power: the share of effects of ρ = {signed(SAID)} within CoTs, planted in these"
        " very chunks, that the rule would have claimed of the pair by itself; detectable from: the smallest planted ρ"
        " that it finds 9 times in 10 among all pairs, empty where it finds none of them so often, or that is unknown."
    )


def headline(rows: pd.DataFrame) -> list[str]:
    """For counterfactual importance and the different-trajectories fraction: whether steepness is inversely related to
    it within CoTs here, how strongly, where, whether chance would do as well, and what a "none" is worth. `rows` are
    those of `associations`, of which those on all chunks count whose x and y are measured apart.
    """
    said = []
    steep = [column.name for column in COLUMNS.values() if column.is_steepness]
    for name in (metric.name for metric in METRICS.values() if metric.is_headline):
        own = rows[
            (rows["metric"] == name) & rows["x"].isin(steep) & (rows["subset"] == "all") & rows["within"].notna()
        ]
        own = own[own["shared"] == ""]
        if own.empty:
            said.append(f"{metric_choice(f'{name}:all')}: unknown here, no pair of it with a steepness was tested.")
            continue
        convention = _usual_convention(own)
        said.append(_answer(own[own["convention"] == convention], f"{name}:{convention}"))
    return said


def _usual_convention(rows: pd.DataFrame) -> str:
    order = list(CONVENTIONS)
    return min(set(rows["convention"]), key=lambda name: (order.index(name) if name in order else len(order), name))


def _answer(rows: pd.DataFrame, choice: str) -> str:
    inverse, direct = int((rows["verdict"] == "inverse").sum()), int((rows["verdict"] == "direct").sum())
    claimed = rows[rows["verdict"].isin(["inverse", "direct"])]
    strongest = (claimed if len(claimed) else rows).sort_values("within", key=abs, ascending=False).iloc[0]
    beyond, n = int((rows["q"] <= _Q).sum()), len(rows)
    name = metric_choice(choice)
    if inverse and not direct:
        answer = f"{name} is inversely related to steepness in {inverse} of {n} pairs"
    elif direct and not inverse:
        answer = f"{name} is not inversely related to steepness here: it rises with steepness in {direct} of {n} pairs"
    elif inverse:
        answer = (
            f"{name} falls with steepness in {inverse} and rises with it in {direct} of {n} pairs: it depends on what"
            " is measured"
        )
    else:
        answer = f"{name}: no association is claimed in any of {n} pairs with steepness"
    untested = int(rows["q"].isna().sum())
    if untested == n:
        chance = "whether chance would do as well is unknown"
    elif beyond == 0:
        chance = f"none is beyond what chance does (q > {_Q:g})"
    else:
        chance = f"{beyond} of {n} are beyond chance (q ≤ {_Q:g})" + (
            "" if len(claimed) else ", but fail another condition of the rule"
        )
    if 0 < untested < n:
        chance += f"; of {untested} chance is unknown"
    ways = {"inverse": "falls", "direct": "rises"}
    where = "".join(
        f" It {ways[way]} with steepness for {_places(rows)}." for way, rows in claimed.groupby("verdict", sort=False)
    )
    q = "unknown" if pd.isna(strongest["q"]) else f"{strongest['q']:.2g}"
    return (
        f"{answer}; {chance}. The strongest {'of those claimed' if len(claimed) else 'pair'}: within CoTs ρ = "
        f"{signed(strongest['within'])} {span(strongest['within_low'], strongest['within_high'])}, "
        f"{column(strongest['x']).label}, {place_in_words(strongest)}, {one_line(str(strongest['model']), 40)}; by"
        " chance "
        f"{span(strongest['within_null_low'], strongest['within_null_high'])}, q = {q}, "
        f"n = {strongest['n']} chunks, {strongest['n_problems']} problems; over all chunks ρ ="
        f" {signed(strongest['spearman'])}"
        f"{', the other way' if _other_way(strongest) else ''}.{where}{'' if len(claimed) else worth(rows)}"
    )


def worth(rows: pd.DataFrame) -> str:
    """What so many "none" are worth: the share of effects planted in these pairs that the rule would have claimed."""
    found = pd.Series(
        [Power.of_row(row).at(SAID) for row in rows[list(POWER)].to_dict("records")], dtype=float
    ).dropna()
    if found.empty:
        return " How strong an association would have been found is unknown."
    least = f"{found.min():.0%} to {found.max():.0%}" if found.max() - found.min() >= 0.01 else f"{found.median():.0%}"
    return (
        f" An association of ρ = {signed(SAID)} within CoTs, planted in one of them, would have been claimed in {least}"
        " of cases."
    )


def _other_way(row: Mapping[str, Any] | pd.Series) -> bool:
    rho, low, high, pooled, pooled_low, pooled_high = (
        float("nan") if pd.isna(row[name]) else float(row[name]) for name in _SIGNS
    )
    return disagree(rho, (low, high), pooled, (pooled_low, pooled_high))


def _places(rows: pd.DataFrame) -> str:
    """Models, directions and layers of pairs, on one line."""
    said = []
    for model, of_model in rows.groupby("model", sort=False, dropna=False):
        by_kind = of_model.groupby("kind", sort=False)["layer"].unique()
        kinds = (
            f"{'no direction' if kind == NONE else studied_words(kind)} (layer{'s' if len(layers) > 1 else ''} "
            f"{', '.join(map(str, sorted(layers)))})"
            for kind, layers in by_kind.items()
        )
        said.append(f"{one_line(str(model), 40)}: {', '.join(kinds)}")
    return "; ".join(said)


def multiplicity(rows: pd.DataFrame) -> str:
    """The rule of multiple testing in a sentence, with the number of pairs."""
    tested = rows[rows["p"].notna() & ~rows["x"].isin(list(METRICS)) & (rows["shared"] == "")]
    of_metrics = int((rows["p"].notna() & rows["x"].isin(list(METRICS)) & (rows["shared"] == "")).sum())
    sizes = tested["subset"].value_counts()
    parts = [f"{sizes.get(subset, 0):,} pairs on {words}" for subset, words in SUBSET_WORDS.items()]
    expected = sizes.get("all", 0) * _Q
    return (
        f"Tested: {' and '.join(parts)}. q is Benjamini and Hochberg's over all pairs of a subset, of the larger p with"
        f" and without the covariates held fixed ({of_metrics:,} pairs of two importance metrics are a family of their"
        f" own, {len(tested) + of_metrics:,} tested pairs in all, and the"
        f" {int((rows['shared'] != '').sum()):,} that are not measured apart take no part): of the pairs with q ≤"
        f" {_Q:g}, at most {_Q:.0%} are expected to be chance. Without it about {expected:.0f} of the first would have"
        f" p ≤ {_Q:g} by chance alone."
    )


def _filtered(rows: pd.DataFrame) -> pd.DataFrame:
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        claimed = selection.pick(CLAIMED, "Association", show=_VERDICTS.__getitem__, width=150)
        xs = selection.pick_several(
            GEOMETRY, "Geometry", list(dict.fromkeys(rows["x"])), show=lambda name: column(name).label
        )
        stored = rows["metric"] + ":" + rows["convention"]
        metrics = selection.pick_several(IMPORTANCE, "Importance", sorted(set(stored)), show=metric_choice)
        with more(SUBSET):
            subset = selection.pick(SUBSET, "Chunks", show=SUBSET_WORDS.__getitem__, width=230)
    keep = rows["subset"] == subset
    if claimed != "any":
        keep &= rows["verdict"].fillna("none") == claimed
    if xs:
        keep &= rows["x"].isin(xs)
    if metrics:
        keep &= stored.isin(metrics)
    return rows[keep].reset_index(drop=True)


def pair_in_words(row: Mapping[str, Any]) -> str:
    """A pair on one line."""
    importance, where = metric_choice(f"{row['metric']}:{row['convention']}"), place_in_words(row)
    return f"{importance} × {column(row['x']).label}" + (f" · {where}" if where else "")


def pair_table(rows: pd.DataFrame) -> pd.DataFrame:
    """The pairs as a table whose numbers sort, ρ being that within CoTs; unknown cells are empty."""
    several = rows["model_id"].nunique() > 1
    powers = [Power.of_row(row) for row in rows[list(POWER)].to_dict("records")]
    return pd.DataFrame(
        {
            "geometry": [column(name).label for name in rows["x"]],
            "importance": [metric_choice(f"{row.metric}:{row.convention}") for row in rows.itertuples()],
            "where": [place_in_words(row) for row in rows[["layer", "kind", "position"]].to_dict("records")],
            **({"model": rows["model"]} if several else {}),
            "|ρ|": rows["within"].astype(float).abs(),
            "ρ": rows["within"],
            "low": rows["within_low"],
            "high": rows["within_high"],
            "p": rows["p"],
            "q": rows["q"],
            "null low": rows["within_null_low"],
            "null high": rows["within_null_high"],
            "ρ given": rows["partial"],
            "power": [power.at(SAID) for power in powers],
            "detectable from": [
                power.least(allowed) for power, allowed in zip(powers, rows["p_allowed"].fillna(P_ALONE), strict=True)
            ],
            "pooled ρ": rows["spearman"],
            "pooled sign differs": [_other_way(row) for row in rows[list(_SIGNS)].to_dict("records")],
            "association": rows["verdict"].fillna("unknown").where(rows["shared"] == "", rows["shared"]),
            "covariates": [
                ", ".join(COVARIATE_WORDS.get(name, name) for name in names) if pd.api.types.is_list_like(names) else ""
                for names in rows["covariates"]
            ],
            "n": rows["n"],
            "CoTs": rows["n_cots"],
            "problems": rows["n_problems"],
        }
    )


def open_pair(row: pd.Series) -> None:
    """The scatter of a pair."""
    where = {DIRECTION: row["kind"], POSITION: row["position"], UNIT: row["unit"]}
    of_layer = {field: value for field, value in where.items() if value != NONE} | {LAYER: str(row["layer"])}
    if row["layer"] == NO_LAYER:
        of_layer = {} if row["kind"] == NONE else {CONVENTION: row["kind"]}
    pair = {one_pair.COLUMN: row["x"], METRIC: f"{row['metric']}:{row['convention']}", MODEL: row["model_id"]}
    selection.choose(pair | of_layer, steepness_part="pair")


def _clicked(key: str, rows: pd.DataFrame) -> None:
    if (mark := next((mark for mark in marks(key) if type(mark) is int and 0 <= mark < len(rows)), None)) is not None:
        open_pair(rows.iloc[mark])
