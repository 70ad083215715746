"""Pull-back cosines: which directions interfere in the output though they look orthogonal, and which do not though they
look alike.
"""

from typing import Any

import pandas as pd
import streamlit as st

from app.figures.geometry_pullback import pullback_map
from app.shared.model_names import called
from app.shared.views import Here
from app.shell import keys, selection, studies
from app.shell.data_figure import data_figure
from app.shell.data_table import data_table
from app.shell.fields import Decimal, Field, declare
from app.shell.missing import Missing, undone
from app.shell.numbers import number
from app.shell.untrusted import show
from app.shell.vocabulary import category
from backend.feature_geometry.pullback import EDGES
from backend.feature_geometry.row_sets import ROW_KINDS
from backend.store.store import Store

SET = declare(Field("pullback_set", "set of directions with pull-back cosines", None))
RELATIONS = {"hidden": "look orthogonal and interfere", "apart": "look alike and do not interfere"}
RELATION = declare(Field("pullback_relation", "relation of two directions", tuple(RELATIONS), of=None))
BETA = declare(Field("pullback_beta", "size of the steps that interfere, β", Decimal(0.0, 1e6), default="1", of=None))
_NATS = "interference β²·uᵀḠv, nats"
DRAWN = {
    "rows": "the directions",
    "covariance": "drawn with their covariance",
    "isotropic": "isotropic",
}


def measured(here: Here) -> Missing | None:
    """A set of directions whose pull-back cosines are known."""
    return None if len(studies.ask(here.store.pullback_sets)) else undone(here.store.path, "interference")


def draw(here: Here, store: Store) -> None:
    own = here.once(_chosen)
    one = own.loc["rows"]
    data_figure(
        pullback_map(
            studies.ask(store.pullback_bins, set_id=one["set_id"]),
            panels=DRAWN,
            edges=EDGES,
            hidden=(one["cosine_small"], one["pullback_large"]),
            apart=(one["cosine_large"], one["pullback_small"]),
        ),
        key=keys.of("pullback_map"),
        config={"displayModeBar": False},
    )
    show(said(own))
    st.caption(_what(one))
    st.caption(_error(one))


def _what(one: pd.Series) -> str:
    return (
        f"Ḡ: the exact metric averaged over {one['n_chunks']} chunks, at the output of block {one['layer']}."
        f" {one['n_pairs']:,} pairs of {one['n_rows']:,} {ROW_KINDS[one['kind']].row}s;"
        f" {one['n_duplicates']:,} duplicates (cosine above 0.9) are in no share, {one['n_left_out']:,} rows are"
        " left out. In the solid boxes pairs look orthogonal (|cosine| at most the isotropic median,"
        f" {one['cosine_small']:.3f}) and interfere (|pull-back cosine| beyond the 99.9 % of isotropic pairs,"
        f" {one['pullback_large']:.2f}); in the dotted ones |cosine| is beyond the 99.9 % ({one['cosine_large']:.2f})"
        f" and the pull-back cosine is at most the isotropic median ({one['pullback_small']:.2f})."
    )


def _error(one: pd.Series) -> str:
    return (
        f"The metric has a participation ratio of {one['participation_ratio']:.1f}, so that even isotropic directions"
        " meet in the output. Error by halves without a problem in common: each differs from Ḡ by"
        f" {100 * one['error_of_halves']:.0f} % of it; pull-back cosines under the one and the other correlate with"
        f" r = {one['correlation_of_halves']:.3f} and differ by {one['difference_of_halves']:.2f} (root mean square)."
    )


def said(own: pd.DataFrame) -> str:
    """What the shares are, beside those of drawn pairs."""
    parts = []
    for name, words, chance in (
        (
            "hidden",
            "of the pairs that look orthogonal interfere",
            "Of all isotropic pairs one in 1,000 lies so far out.",
        ),
        ("apart", "of the pairs that look alike do not interfere", ""),
    ):
        shares = {drawn: _share(own.loc[drawn], name) for drawn in DRAWN if drawn in own.index}
        if shares.get("rows") is None:
            parts.append(f"No pair is there of which it could be said whether they {words.split(' ', 4)[-1]}.")
            continue
        beside = ", ".join(
            f"{share or 'none to be counted'} {DRAWN[drawn]}" for drawn, share in shares.items() if drawn != "rows"
        )
        parts.append(f"{shares['rows']} {words} ({beside}). {chance}".strip())
    return " ".join(parts)


def _share(row: pd.Series, name: str) -> str | None:
    if pd.isna(row[name]):
        return None
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    span = "" if pd.isna(low) else f" [{number(100 * low)}, {number(100 * high)}]"
    return f"{number(100 * row[name])} %{span}"


def draw_pairs(here: Here, store: Store) -> None:
    """The pairs that differ most."""
    own = here.once(_chosen)
    one = own.loc["rows"]
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        relation = selection.pick(RELATION, "Pairs", show=RELATIONS.__getitem__, width=300)
        beta = selection.pick_decimal(BETA, "β of both steps", 1.0, step=1.0, width=140)
    rows = studies.ask(store.pullback_pairs, set_id=one["set_id"])
    rows = rows[rows["relation"] == relation]
    if rows.empty:
        st.caption(f"No pair of this set does: none of {one['n_pairs']:,} pairs {RELATIONS[relation]}.")
        return
    categories = _categories(store, one)
    kind = ROW_KINDS[one["kind"]].row
    data_table(
        pd.DataFrame(
            {
                f"{kind} u": [_name(n, categories) for n in rows["first"]],
                f"{kind} v": [_name(n, categories) for n in rows["second"]],
                "cosine": rows["cosine"].round(3).tolist(),
                "pull-back cosine": rows["pullback_cosine"].round(3).tolist(),
                "in the halves": [", ".join(f"{value:.2f}" for value in halves) for halves in rows["by_half"]],
                _NATS: (beta**2 * rows["nats"]).tolist(),
            }
        ),
        hide_index=True,
        row_height=28,
        column_config={_NATS: st.column_config.NumberColumn(format="%.3g")},
        key=keys.of("pullback_pairs"),
    )
    st.caption(
        "u and v are unit rows, β counts in the unit of the metric. A step along both costs, beyond what each costs"
        " alone, β²·uᵀḠv nats of KL to second order: above 0 they add up in the output, below it they take from each"
        " other."
    )


def _categories(store: Store, one: pd.Series) -> dict[int, str]:
    """What features fire on more than elsewhere, where they are those of a dictionary."""
    if pd.isna(one["dictionary_id"]):
        return {}
    features = studies.ask(store.features, dictionary_id=one["dictionary_id"])
    known = features[features["top_category"].notna()]
    return {int(n): category(str(name)) for n, name in zip(known["feature"], known["top_category"], strict=True)}


def _name(feature: int, categories: dict[int, str]) -> str:
    return f"{feature} · {categories[feature]}" if feature in categories else str(feature)


def _chosen(here: Here) -> pd.DataFrame:
    """The rows of the chosen set, by what was drawn."""
    sets = studies.ask(here.store.pullback_sets)
    one_each = sets.drop_duplicates("set_id")
    names = {
        str(row["set_id"]): _words(row, called(here.store, row["model_id"])) for row in one_each.to_dict("records")
    }
    of_dictionary = one_each[one_each["kind"] == "dictionary"]
    usual = (of_dictionary if len(of_dictionary) else one_each).iloc[0]["set_id"]
    chosen = selection.pick(SET, "Directions", list(names), default=str(usual), show=names.__getitem__, width=620)
    return sets[sets["set_id"] == chosen].set_index("drawn")


def _words(row: dict[str, Any], model: str) -> str:
    kind = ROW_KINDS[row["kind"]].words.split(" (")[0]
    return f"{model}, layer {row['layer']}: {kind}"
