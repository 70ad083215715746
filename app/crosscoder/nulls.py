"""What lies beyond the null pairs of a crosscoder: the first thing that is said of its features."""

from typing import Any

import pandas as pd
import streamlit as st

from app.crosscoder.classes import how_compared
from app.shared.untrained_nulls import say_untrained
from app.shared.views import Here
from app.shell import studies
from app.shell.data_table import data_table
from app.shell.numbers import interval, number
from app.shell.vocabulary import CATEGORIES, category
from backend.crosscoder.class_counts import CLASSES
from backend.crosscoder.null_bands import (
    FOUND_COSINE,
    LEVEL,
    SIDES,
    Band,
    beyond,
    beyond_of_nulls,
    nrn_band,
    power,
    share_bands,
)
from backend.crosscoder.null_kinds import NULL_KINDS, PAIRS
from backend.models.names import role_words
from backend.store.store import Store

_MODELS = dict(zip(SIDES, ("base", "reasoner"), strict=True))


def null_features(here: Here) -> pd.DataFrame:
    """Features of all nulls of the dictionary; none where it has none."""
    return studies.ask(here.store.null_features, dictionary_id=here.dictionary.dictionary_id)


def band(here: Here) -> Band | None:
    """Of NRN by the norm that is shown."""
    return nrn_band(here.once(null_features), here.once(how_compared).norm)


def draw(here: Here, store: Store) -> None:
    """Features beyond the band that latent scaling confirms, and the nulls' own; or that there is no null pair."""
    found = here.once(band)
    if found is None:
        say_untrained(
            here.dictionary,
            "null pair",
            "how many features are one model's own is not claimed, and the classes below are by fixed bounds, as it is"
            " not known what NRN training alone gives",
        )
        return
    norm, nulls = here.once(how_compared).norm, here.once(null_features)
    own = beyond_of_nulls(nulls, norm)
    sides = zip(st.columns(2, gap="medium"), _MODELS.values(), beyond(here.features, found, norm), strict=True)
    for column, whose, one in sides:
        beside = own[own["side"] == one.side]
        said = f"null pairs: {', '.join(str(n) for n in beside['n_confirmed'])} of as many trainings"
        column.metric(
            f"of the {whose} alone",
            f"{one.n_confirmed:,} of {one.n_live:,}",
            border=True,
            delta=said if len(beside) != 1 else f"null pair: {int(beside['n_confirmed'].iloc[0])}",
            delta_color="off",
            delta_arrow="off",
        )
    st.caption(
        f"Live features with an NRN ({norm.upper()}) outside [{found.low:.3f}, {found.high:.3f}], the"
        f" {LEVEL:.0%} band of the null pairs ({_made_of(found)};"
        f" {found.n_trainings} trainings, {found.n_features:,} live features), and confirmed by latent scaling: |ν^ε| <"
        " 0.2 and |ν^r| < 0.5, of 1/ν for the base model. Beside them the same count of each null training, where no"
        f" direction is one model's own. {_how_held(own)}"
    )
    _tables(here, store, found)


def _made_of(found: Band) -> str:
    return "; ".join(NULL_KINDS[one].label for one in found.kinds)


def _how_held(own: pd.DataFrame) -> str:
    if own.empty or not own["is_own_band"].any():
        return "A null training is held against the others of its kind."
    return (
        "A null of which there is one training is held against its own band, beyond which lies about 1 % of it by"
        " construction (null_seeds trains more)."
    )


def _tables(here: Here, store: Store, found: Band) -> None:
    features, nulls, norm = here.features, here.once(null_features), here.once(how_compared).norm
    with st.expander("Against the null pairs: beyond the band, classes, categories, and what would have been found"):
        left, right = st.columns(2, gap="medium")
        with left:
            st.markdown("**Beyond the band, before latent scaling and after**")
            _show(beyond_table(features, nulls, found, norm))
            st.markdown("**Classes of live features**")
            _show(shares_table(share_bands(features, nulls, "class", CLASSES), "class"))
        with right:
            st.markdown("**Top categories of live features**")
            shares = share_bands(features, nulls, "top_category", list(CATEGORIES))
            _show(shares_table(shares[shares["n"] > 0], "top_category"))
        st.caption(
            f"Band: what as many features of a null pair give with {LEVEL:.0%} (beta-binomial), the widest"
            " of its kinds."
        )
        planted = studies.ask(store.planted_directions, dictionary_id=here.dictionary.dictionary_id)
        if len(planted):
            st.markdown("**What would have been found**")
            _show(power_table(power(planted, found, norm)))
            st.caption(
                "Directions that were planted in the second model of a null pair, by their length in mean norms of"
                f" (reasoner − base); found: a live feature's row has a cosine of {FOUND_COSINE} or more with it, is"
                " beyond the band and confirmed. Intervals: Wilson's 95 %."
            )
        st.markdown("**All nulls**")
        _show(nulls_table(studies.ask(store.null_dictionaries, dictionary_id=here.dictionary.dictionary_id), nulls))
        st.caption(
            "Peak share: of a live feature's 20 strongest tokens those that are its commonest, median over features:"
            " how much alike the examples of features are that nothing was learned for."
        )


def _show(table: pd.DataFrame) -> None:
    data_table(table, hide_index=True, height="content", row_height=28)


def beyond_table(features: pd.DataFrame, nulls: pd.DataFrame, found: Band, norm: str) -> pd.DataFrame:
    """One row a training and side."""
    rows: list[dict[str, Any]] = [{"of": "this crosscoder", **vars(one)} for one in beyond(features, found, norm)]
    for one in beyond_of_nulls(nulls, norm).to_dict("records"):
        rows.append({"of": f"{NULL_KINDS[one['null']].label}, {one['number']}", **one})
    return pd.DataFrame(
        {
            "of": [row["of"] for row in rows],
            "side": [_MODELS[row["side"]] for row in rows],
            "live": [row["n_live"] for row in rows],
            "beyond": [row["n_beyond"] for row in rows],
            "confirmed": [row["n_confirmed"] for row in rows],
        }
    )


def shares_table(shares: pd.DataFrame, column: str) -> pd.DataFrame:
    """Rows of `share_bands` in words."""
    names = shares[column].map(category) if column == "top_category" else shares[column].map(role_words)
    return pd.DataFrame(
        {
            "category" if column == "top_category" else "class": names,
            "features": shares["n"],
            "of": shares["of"],
            "band of the null pairs": [
                "unknown" if pd.isna(row.low) else f"{row.low:.0f} to {row.high:.0f}" for row in shares.itertuples()
            ],
            "beyond it": [
                "unknown" if pd.isna(row.low) else "below" if row.n < row.low else "above" if row.n > row.high else ""
                for row in shares.itertuples()
            ],
        }
    )


def power_table(found: pd.DataFrame) -> pd.DataFrame:
    """Rows of `null_bands.power` in words."""
    return pd.DataFrame(
        {
            "length": found["strength"],
            "planted": found["n"],
            "found": found["found"],
            "share": [number(share) for share in found["share"]],
            "95 % interval": [interval(row.low, row.high) for row in found.itertuples()],
        }
    )


def nulls_table(nulls: pd.DataFrame, features: pd.DataFrame) -> pd.DataFrame:
    """One row a null: how well it does, and how alike its features' examples are."""
    live = features[features["frequency"] > 0].groupby("null_id")
    peaks, norms = live["peak_share"].median(), live["nrn_l2"].median()
    return pd.DataFrame(
        {
            "null": [NULL_KINDS[name].label for name in nulls["null"]],
            "number": nulls["number"],
            "null pair": ["yes" if name in PAIRS else "" for name in nulls["null"]],
            "explained, first": [number(share) for share in nulls["variance_explained_base"]],
            "explained, second": [number(share) for share in nulls["variance_explained_distilled"]],
            "L0": [number(l0) for l0 in nulls["l0"]],
            "dead": [f"{share:.1%}" for share in nulls["dead_share"]],
            "median NRN, L2": [number(norms.get(name)) for name in nulls["null_id"]],
            "median peak share": [number(peaks.get(name)) for name in nulls["null_id"]],
        }
    )
