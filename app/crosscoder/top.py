"""The strongest features over all problems, as published, beside those that are specific to one problem or category."""

from typing import Any

import pandas as pd
import streamlit as st

from app.shared import chosen_chunk, chosen_dictionary
from app.shared.chosen_chunk import PROBLEM
from app.shared.clicks import picked_row
from app.shared.views import Here
from app.shell import keys, selection, studies
from app.shell.data_table import data_table
from app.shell.fields import Field, declare
from app.shell.missing import Missing, there, undone
from app.shell.numbers import interval, number
from app.shell.untrusted import one_line, show
from app.shell.vocabulary import CATEGORIES, category
from backend.cot.reasoning import TARGETS
from backend.crosscoder.top_features import (
    DENSE,
    LEAST_FIRED,
    Listed,
    specific_to_category,
    specific_to_problem,
    strongest,
)
from backend.store.store import Store

_OF = {"problem": "a problem", **{name: f"target words: {name}" for name in TARGETS}, **CATEGORIES}
SPECIFIC_TO = declare(Field("specific_to", "what top features are specific to", _OF))
PUBLISHED = "“Decoding R1's CoT” lists the 20 features with the largest mean activation over all problems."


def draw(here: Here, store: Store) -> None:
    """What is specific on the left; on the right the published list, with how much of it is merely dense."""
    dictionary, features = here.dictionary, here.features
    found = _sizes(store, dictionary)
    sums, tokens = there(found)
    listed = strongest(sums, tokens, features.set_index("feature")["frequency"])
    left, right = st.columns(2, gap="medium")
    with right:
        st.markdown(f"**Top {len(listed.rows)} by mean activation over all problems**")
        _table(listed_table(listed, features), listed.rows["feature"].tolist(), "top_over_all")
        show(PUBLISHED)
        show(in_this_study(listed))
    with left:
        _specific(store, dictionary, features, sums, tokens, set(listed.rows["feature"]))


def _sizes(store: Store, dictionary: pd.Series) -> tuple[pd.DataFrame, pd.DataFrame] | Missing:
    name = dictionary.dictionary_id
    tokens = studies.ask(store.coded_tokens, dictionary_id=name)
    if tokens.empty:
        return undone(store.path, "codes")
    fires = chosen_dictionary.fires_above(dictionary)
    return studies.ask(store.code_sizes, dictionary_id=name, **fires), tokens


def in_this_study(listed: Listed) -> str:
    """What of the published list is dense here."""
    return (
        f"Here {listed.n_dense} of the {len(listed.rows)} fire on more than {DENSE:.0%} of tokens (of all features that"
        f" fire {listed.share_dense:.1%} do), and {listed.n_most_frequent} are among the {len(listed.rows)} that fire"
        f" most often: so far the list says how often, not where. n = {listed.n_problems} problems,"
        f" {listed.n_tokens:,} tokens; a problem counts once, however long its chains."
    )


def listed_table(listed: Listed, features: pd.DataFrame) -> pd.DataFrame:
    """Rows of the published list in words."""
    rows = listed.rows.merge(features[["feature", "nrn_l1", "label"]], on="feature", how="left")
    return pd.DataFrame(
        {
            "feature": rows["feature"],
            "mean |f|": [number(value) for value in rows["mean"]],
            "fires on": ["unknown" if pd.isna(share) else f"{share:.1%}" for share in rows["frequency"]],
            "dense": ["dense" if dense else "" for dense in rows["dense"]],
            "NRN, L1": [number(value) for value in rows["nrn_l1"]],
            "label": rows["label"].fillna(""),
        }
    )


def _specific(
    store: Store,
    dictionary: pd.Series,
    features: pd.DataFrame,
    sums: pd.DataFrame,
    tokens: pd.DataFrame,
    published: set[int],
) -> None:
    what = selection.pick(SPECIFIC_TO, "Specific to", show=_words, width=300)
    if what == "problem":
        problem = _problem(store, tokens)
        found = specific_to_problem(sums, tokens, problem)
        title = "Most specific to this problem"
        how = (
            "Lift: mean |f| in this problem's chains over that in the other problems'; its 95 % interval draws this"
            f" problem's {int((tokens['problem_id'] == problem).sum())} chains and the other"
            f" {tokens['problem_id'].nunique() - 1} problems anew, and features stand in the order of its lower end. A"
            " lift of which the interval holds 1 says nothing; of so many features some exceed 1 by chance."
        )
    else:
        scheme = "reasoning" if what in TARGETS else "function"
        rates = studies.ask(store.category_frequencies, dictionary_id=dictionary.dictionary_id, scheme=scheme)
        found = specific_to_category(rates[rates["category"] == what], features)
        title = f"Most specific to {_words(what)}"
        how = (
            "Lift: mean |f| on these tokens over that on all tokens. It is from counts over the whole study and has no"
            " interval; n fired says on how many tokens it rests."
        )
    st.markdown(f"**{title}**")
    if found.empty:
        st.caption(f"No feature fires there on {LEAST_FIRED} tokens or more.")
        return
    _table(specific_table(found, features), found["feature"].tolist(), f"top_specific_{what}")
    both = len(published & set(found["feature"]))
    show(f"{how} Of these {len(found)}, {both} are in the published list beside them.")


def specific_table(found: pd.DataFrame, features: pd.DataFrame) -> pd.DataFrame:
    """Rows of `specific_to_problem` or `specific_to_category` in words."""
    rows = found.merge(features[["feature", "frequency", "label"]], on="feature", how="left")
    columns = {
        "feature": rows["feature"],
        "mean |f|": [number(value) for value in rows["mean"]],
        "lift": ["only here" if pd.isna(lift) else number(lift) for lift in rows["lift"]],
    }
    if "low" in rows:
        columns["95 %"] = [
            interval(low, high) if pd.notna(high) and high < float("inf") else _open(low)
            for low, high in zip(rows["low"], rows["high"], strict=True)
        ]
    return pd.DataFrame(
        columns | {"n fired": rows["n_fired"], "fires on": _shares(rows), "label": rows["label"].fillna("")}
    )


def _open(low: float) -> str:
    return "unknown" if pd.isna(low) else f"[{number(low)}, …"


def _shares(rows: pd.DataFrame) -> list[str]:
    return ["unknown" if pd.isna(share) else f"{share:.1%}" for share in rows["frequency"]]


def _problem(store: Store, tokens: pd.DataFrame) -> str:
    """The problem that is looked at, where its chains have codes; else the first that has."""
    known = list(dict.fromkeys(tokens["problem_id"]))
    found = chosen_chunk.find(store)
    opened = known[0] if isinstance(found, Missing) or found.problem not in known else found.problem
    asked = studies.ask(store.problem_index).set_index("problem_id")["question"]
    words = {name: one_line(str(asked.get(name, name)), 70) for name in known}
    return selection.pick(PROBLEM, "Problem", known, default=opened, show=words.__getitem__)


def _words(what: str) -> str:
    return category(what) if what in CATEGORIES else _OF[what]


def _table(table: pd.DataFrame, features: list[Any], name: str) -> None:
    key = keys.of(name)

    def go() -> None:
        if (picked := picked_row(key, len(features))) is not None:
            chosen_dictionary.choose_feature(int(features[picked]))

    data_table(table, hide_index=True, height=380, row_height=28, key=key, selection_mode="single-row", on_select=go)
