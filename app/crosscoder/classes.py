"""How many features are of one model alone."""

from dataclasses import dataclass

import pandas as pd
import streamlit as st

from app.shared import chosen_dictionary
from app.shared.feature_rows import NORM, NORMS
from app.shared.views import Here
from app.shell import selection
from app.shell.data_table import data_table
from app.shell.fields import Field, declare
from app.shell.missing import Missing
from app.shell.more import more
from app.shell.numbers import interval, number
from backend.crosscoder.class_counts import beyond, class_counts
from backend.models.names import role_words
from backend.store.store import Store

SCALINGS = {"nu_eps": "ν^ε, of the error", "nu_r": "ν^r, of the reconstruction"}
SCALING = declare(Field("latent_scaling", "latent scaling", SCALINGS))


RULE = (
    "Classes, by L2 norms (bounds of Minder et al. 2025): reasoner only where NRN > 5/6, |ν^ε| < 0.2 and |ν^r| < 0.5;"
    " base only where NRN < 1/6 and the same holds of 1/ν; suspect where the norms say one model, and latent scaling"
    " finds the feature in the other too (faked by shrinkage or decoupling); shared between 1/6 and 5/6."
)


UNEQUAL = (
    "The models' widths differ. A feature with the same share in both then has rows whose L2 norms are as the roots of"
    " the widths, and whose L1 norms are as the widths themselves: NRN by L1 or L2 leans to the wider model. Choose RMS"
    " (L2 over √width), where 0.5 is the same share; the classes are by it. Cosines between the two rows do not exist,"
    " and latent scaling is along each model's own row."
)


@dataclass(frozen=True)
class Compared:
    """The decoder norm and the latent scaling that the charts show."""

    norm: str
    scaling: str


def two_models(here: Here) -> Missing | None:
    """A dictionary that compares two models."""
    if chosen_dictionary.compares(here.dictionary):
        return None
    return Missing("This dictionary reads one model, so its features are of no class.", None)


def how_compared(here: Here) -> Compared:
    """The controls of what is compared; the usual where the dictionary reads one model."""
    if not chosen_dictionary.compares(here.dictionary):
        return Compared("l1", "nu_eps")
    with more(NORM, SCALING):
        norm = selection.pick(NORM, "Decoder norm of NRN", show=NORMS.__getitem__, width=260)
        scaling = selection.pick(
            SCALING,
            "Latent scaling",
            show=SCALINGS.__getitem__,
            width=260,
            help=(
                "ν = β(base) / β(reasoner), β being how much of the feature's direction a model's activations hold"
                " when it fires: 0 reasoner only, 1 shared, ±∞ base only. Drawn as 1 / (1 + ν), on the scale of NRN."
            ),
        )
    return Compared(norm, scaling)


def firing(features: pd.DataFrame) -> pd.DataFrame:
    """All but those of which it is known that they never fire on the study's tokens."""
    return features[features["frequency"] != 0]


def draw(here: Here, store: Store) -> None:
    """How many are base only, shared and distilled only, by the stated rule and by decoder norms at other bounds."""
    norm, rows = here.once(how_compared).norm, firing(here.features)
    silent, unknown = len(here.features) - len(rows), int(rows["class"].isna().sum())
    cards = [(row["class"], row.n, _share(row)) for _, row in class_counts(rows["class"]).iterrows()]
    cards.append(("class unknown", unknown, f"of {len(rows):,} that fire"))
    cards.append(("never fire", silent, f"of {len(here.features):,} features"))
    for column, (name, n, words) in zip(st.columns(len(cards)), cards, strict=True):
        column.metric(role_words(name), f"{n:,}", border=True, delta=words, delta_color="off", delta_arrow="off")
    if chosen_dictionary.is_unequal(here.dictionary):
        st.caption(UNEQUAL)
    st.caption(
        f"Shares of the {len(rows) - unknown:,} features that fire on the study's tokens and whose class is known, with"
        " Wilson's 95 % intervals. Those that never fire are in no class here, and in the table alone."
    )
    with st.expander("The rule of the classes, and how many survive latent scaling beyond other bounds of NRN"):
        st.caption(
            f"{RULE} The intervals are as if features were independent draws; another training of the dictionary may"
            " differ by more."
        )
        data_table(beyond_table(rows, norm), hide_index=True, height="content", row_height=30)
        st.caption(
            "Confirmed: |ν^ε| < 0.2 and |ν^r| < 0.5 (for base only, of 1/ν), of those beyond the bound whose ν are"
            " known. Features that never fire on the study's tokens are left out."
        )


def beyond_table(rows: pd.DataFrame, norm: str) -> pd.DataFrame:
    """Rows of `class_counts.beyond` in words."""
    found = beyond(rows, norm=norm)
    return pd.DataFrame(
        {
            "NRN": [
                f"< {row.bound:.3g}" if row.side == "base only" else f"> {1 - row.bound:.3g}"
                for row in found.itertuples()
            ],
            "side": found["side"].map(role_words),
            "features": found["n_beyond"],
            "ν known": found["of"],
            "confirmed": found["n"],
            "share": [number(share) for share in found["share"]],
            "95 % interval": [interval(row.low, row.high) for row in found.itertuples()],
        }
    )


def _share(row: pd.Series) -> str:
    return "unknown" if pd.isna(row.share) else f"{row.share:.1%} [{row.low * 100:.1f}, {row.high * 100:.1f}]"
