"""What the features of a frozen decoder would be called: how often the evidence of a name arises by chance."""

import pandas as pd
import streamlit as st

from app.shared import chosen_dictionary
from app.shared.untrained_nulls import say_undone
from app.shared.views import Here
from app.shell import keys, studies
from app.shell.data_table import data_table
from app.shell.vocabulary import CATEGORIES, category
from backend.crosscoder.label_suggestions import names_of
from backend.crosscoder.null_kinds import TWIN
from backend.crosscoder.reasoning_bands import evidence
from backend.store.store import Store

_SHOWN = 200  # names
_EVIDENCE = {"token": "one token is at least half of its strongest ones", "tag": "it has a top function tag"}


def draw(here: Here, store: Store) -> None:
    """The evidence of names, of this dictionary's features and of the twin's, and the twin's names."""
    dictionary = here.dictionary
    twin = studies.ask(store.null_peaks, dictionary_id=dictionary.dictionary_id)
    if twin.empty:
        say_undone(
            store,
            dictionary,
            "null_evidence",
            "frozen-decoder twin",
            "how often the evidence of a suggested name arises by chance is not known",
            (TWIN,),
        )
        return
    distilled = list(chosen_dictionary.roles(dictionary))[-1]
    peaks = studies.ask(store.peak_tokens, dictionary_id=dictionary.dictionary_id, model_id=distilled)
    rows = evidence(here.features, peaks, twin, list(CATEGORIES))
    data_table(evidence_table(rows), hide_index=True, height="content", row_height=28, key=keys.of("names_by_chance"))
    st.caption(
        "Suggested names rest on these. The frozen decoder learned from the same tokens by rows that stay as drawn: its"
        " features are random directions, named by the same rule. What they have as often is no evidence that a feature"
        " means something. Intervals: Wilson's 95 %, as if features were independent."
    )
    with st.expander("What its features would be called"):
        names = names_of(twin, twin)
        shown = twin.sort_values(["frequency", "feature"], ascending=[False, True]).head(_SHOWN)
        data_table(
            pd.DataFrame(
                {
                    "feature of the twin": shown["feature"],
                    "fires on": [f"{share:.2%}" for share in shown["frequency"]],
                    "suggested": [names[int(feature)] for feature in shown["feature"]],
                }
            ),
            hide_index=True,
            height=320,
            row_height=28,
            key=keys.of("twin_names"),
        )
        st.caption(f"The {len(shown)} of {len(twin):,} that fire most often.")


def evidence_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of `evidence` in words; what neither has is left out."""
    there = rows[(rows["n"] > 0) | (rows["twin_n"] > 0) | rows["evidence"].isin(_EVIDENCE)]
    return pd.DataFrame(
        {
            "evidence": [_EVIDENCE.get(name) or f"the tag is {category(name)}" for name in there["evidence"]],
            "this dictionary": [_share(row.n, row.of, row.low, row.high) for row in there.itertuples()],
            "frozen decoder": [
                _share(row.twin_n, row.twin_of, row.twin_low, row.twin_high) for row in there.itertuples()
            ],
        }
    )


def _share(n: int, of: int, low: float, high: float) -> str:
    return f"{n:,} of {of:,}: {n / of:.1%} [{low:.1%}, {high:.1%}]" if of else "unknown"
