"""The labelling sheet: the features of highest and of lowest NRN, ten at a time with their examples, each with a field
for its label that is kept at once.
"""

import pandas as pd
import streamlit as st

from app.crosscoder.classes import how_compared
from app.shared.views import Here
from app.shell import keys, selection
from app.shell.fields import SWITCH, Field, Whole, declare
from app.shell.more import more
from app.shell.numbers import number
from app.shell.untrusted import one_line, show
from app.shell.vocabulary import category
from backend.crosscoder import label_suggestions
from backend.crosscoder.extremes import extremes
from backend.errors import AnchorscopeError
from backend.store.labels import LONGEST_AUTHOR, LONGEST_LABEL, add_label, labels
from backend.store.store import Store

SHEET = declare(Field("label_sheet", "switch to the labelling sheet", SWITCH, "no"))
PLACE = declare(Field("label_place", "place on the labelling sheet", Whole(0, 10**4), before="place "))
EACH, AT_ONCE = 100, 10  # features of each end, and how many are shown at a time
_EXAMPLES, _EXAMPLE_CHARS = 3, 160
_AUTHOR, _PROBLEM = "label_author", "label_sheet_problem"  # the first is the Feature page's too


def draw(here: Here, store: Store) -> None:
    """The sheet, behind a switch: it opens at the first feature without a label."""
    st.caption(f"The {EACH} features of highest and of lowest NRN, to label in one sitting.")
    with more(SHEET):
        is_open = selection.pick_switch(SHEET, "Show the sheet")
    if not is_open:
        return
    norm = here.once(how_compared).norm
    sheet = extremes(here.features, f"nrn_{norm}", EACH)
    if sheet.empty:
        st.caption("No feature that fires has a known NRN.")
        return
    given = labels(store.path, here.dictionary.dictionary_id).set_index("feature")
    sheet = sheet.assign(
        **{name: given[name].reindex(sheet["feature"]).to_numpy() for name in ("label", "author", "created_at")}
    )
    done = int(sheet["label"].notna().sum())
    st.markdown(f"**{done} of {len(sheet)} labelled**")
    st.progress(done / len(sheet))
    author = _author()
    first = _first(sheet)
    _turn(sheet, first)
    shown = sheet.iloc[first : first + AT_ONCE]
    _features(store, here.dictionary, shown, f"nrn_{norm}", author)
    _turn(sheet, first, below=True)
    st.download_button(
        "The sheet as CSV",
        sheet_csv(sheet, f"nrn_{norm}"),
        file_name=f"labels_{here.dictionary.dictionary_id}_{norm}.csv",
        mime="text/csv",
        icon=":material/download:",
        key=keys.of("label_sheet_csv"),
    )


def sheet_csv(sheet: pd.DataFrame, nrn: str) -> str:
    """One line a feature of the sheet, labelled or not."""
    columns = ["end", "feature", nrn, "frequency", "top_category", "label", "author", "created_at"]
    return sheet[columns].to_csv(index=False)


def first_unlabelled(sheet: pd.DataFrame) -> int:
    """The place at which ten are shown, so that the first feature without a label is among them."""
    left = [place for place, label in enumerate(sheet["label"]) if not isinstance(label, str)]
    return (left[0] if left else 0) // AT_ONCE * AT_ONCE


def _first(sheet: pd.DataFrame) -> int:
    """Where the sheet is open. It is chosen once, so that a label that is given does not turn the page."""
    text = selection.get(PLACE)
    if text is None or not PLACE.takes(text) or int(text) >= len(sheet):
        text = str(first_unlabelled(sheet))
        selection.choose({PLACE: text})
    return int(text) // AT_ONCE * AT_ONCE


def _turn(sheet: pd.DataFrame, first: int, *, below: bool = False) -> None:
    last = min(first + AT_ONCE, len(sheet))
    steps = {
        "Ten before": first - AT_ONCE if first else None,
        "First without a label": first_unlabelled(sheet),
        "Next ten": last if last < len(sheet) else None,
    }
    with st.container(horizontal=True, vertical_alignment="center"):
        for words, place in steps.items():
            st.button(
                words,
                disabled=place is None or place == first,
                key=keys.of(f"label_turn_{words}_{below}"),
                on_click=lambda place=place: selection.choose({PLACE: str(place)}),
            )
        st.caption(
            f"{first + 1} to {last} of {len(sheet)}. Enter keeps a label, Tab goes on; an empty one takes it back."
        )


def _author() -> str:
    key = keys.of("label_sheet_author")
    st.session_state.setdefault(key, st.session_state.get(_AUTHOR, ""))
    said = st.text_input("Your name, kept with every label", key=key, max_chars=LONGEST_AUTHOR, width=320)
    st.session_state[_AUTHOR] = said or ""
    return said or ""


def _features(store: Store, dictionary: pd.Series, shown: pd.DataFrame, nrn: str, author: str) -> None:
    name, numbers = dictionary.dictionary_id, [int(feature) for feature in shown["feature"]]
    found = store.first_examples(name, numbers, n=8)
    promoted = store.promoted_tokens(name, numbers)
    model = (
        dictionary.distilled_model_id if isinstance(dictionary.distilled_model_id, str) else dictionary.base_model_id
    )
    for row in shown.to_dict("records"):
        own = found[found["feature"] == row["feature"]]
        tokens = promoted.loc[(promoted["feature"] == row["feature"]) & (promoted["model_id"] == model), "tokens"]
        st.divider()
        left, right = st.columns([3, 5], gap="medium")
        with left:
            st.markdown(f"**Feature {int(row['feature'])}** · {row['end']} NRN {number(row[nrn])}")
            about = category(row["top_category"]) if isinstance(row["top_category"], str) else "unknown"
            st.caption(f"fires on {row['frequency']:.2%} of tokens · most on: {about}")
            _field(store, name, row, author)
        with right:
            for line in label_suggestions.marked(own.head(_EXAMPLES)):
                show(one_line(line, _EXAMPLE_CHARS))
            if said := _suggestion(own, list(tokens.iloc[0]) if len(tokens) else []):
                show(f"Suggested: {one_line(said, LONGEST_LABEL)}")


def _suggestion(found: pd.DataFrame, promoted: list[str]) -> str:
    logits = pd.DataFrame({"side": "top", "rank": range(len(promoted)), "token": promoted})
    return "; ".join(label_suggestions.from_tokens(found, logits))


def _field(store: Store, dictionary_id: str, row: dict[str, object], author: str) -> None:
    feature = int(str(row["feature"]))
    key = keys.of(f"sheet_label_{dictionary_id}_{feature}")

    def keep() -> None:
        if (label := st.session_state.get(key)) is None:
            return
        try:
            add_label(store.path, dictionary_id, feature, label, author)
        except AnchorscopeError as error:
            st.session_state[_PROBLEM] = feature, str(error)

    known = row["label"] if isinstance(row["label"], str) else ""
    st.session_state.setdefault(key, known)
    st.text_input(
        f"Label of feature {feature}", key=key, max_chars=LONGEST_LABEL, on_change=keep, label_visibility="collapsed"
    )
    problem = st.session_state.get(_PROBLEM)
    if problem is not None and problem[0] == feature:
        show(st.session_state.pop(_PROBLEM)[1])
