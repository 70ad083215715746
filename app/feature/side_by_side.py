"""The parts of the Feature page, each for one feature: with others to compare they stand in two to four columns."""

from collections.abc import Callable, Sequence
from functools import partial

import pandas as pd
import streamlit as st

from app.components.examples import examples
from app.figures.compared_features import COLOURS, firing, written
from app.figures.crosscoder import activation_histogram, firing_by_category, logit_effects
from app.shared import chosen_chunk, chosen_dictionary, said
from app.shared.chosen_chunk import CHUNK, COT, PROBLEM
from app.shared.chosen_dictionary import FEATURE
from app.shared.clicks import picked_row
from app.shared.feature_filters import COLUMNS
from app.shared.model_names import called
from app.shared.steer_by_feature import steer_by
from app.shared.views import Here
from app.shell import keys, navigation, selection, studies
from app.shell.data_figure import data_figure
from app.shell.data_table import data_table
from app.shell.more import more
from app.shell.numbers import number
from app.shell.untrusted import for_markdown, one_line, show
from app.shell.vocabulary import CATEGORIES, category
from backend.crosscoder import label_suggestions
from backend.crosscoder.kinds import firing_of
from backend.crosscoder.top_features import EVERYWHERE
from backend.errors import AnchorscopeError
from backend.models.names import role_words
from backend.statistics.intervals import wilson
from backend.store import notes
from backend.store.labels import LONGEST_AUTHOR, LONGEST_LABEL, add_label, history
from backend.store.store import Store

_SCHEMES = {
    "function": "Chunks, by their first tag",
    "reasoning": (
        "First tokens of target words (self-reflection: Wait; deductive: Therefore, Thus; alternative: Alternatively; "
        "contrastive: But, However)"
    ),
    "before_reasoning": "The tokens that predict those",
}
_READ, _PROBLEM, _ASKED = "leave_for_the_chunk_of_an_example", "label_problem", "labels_from_chat"

ENOUGH = 20  # tokens on which a feature fires, to be read from examples
UNEQUAL = "the norm over √width, as the models' widths differ"
Panel = Callable[[Store, pd.Series, pd.DataFrame, int, int], None]  # store, dictionary, its features, feature, column


# Which features


def controls(here: Here) -> list[int]:
    """The feature, and those compared with it, to change; returns those to show, one a column."""
    store, dictionary, rows = here.store, here.dictionary, here.features
    opened = selection.get(FEATURE) is None
    asked = chosen_dictionary.feature(dictionary)
    feature = most_specific(rows, dictionary) if asked is None else asked
    beside = chosen_dictionary.beside(dictionary, feature)
    selection.choose({FEATURE: str(feature)})
    shown = [feature, *beside]
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        st.number_input(
            "Feature",
            0,
            int(dictionary.n_features) - 1,
            step=1,
            width=150,
            **selection.following("feature_number", feature, partial(_replace, shown, 0)),
        )
        _compare_with(store, dictionary, rows, shown)
        st.page_link(
            navigation.link_to(navigation.CROSSCODER),
            label="All features",
            icon=":material/compare_arrows:",
            query_params=selection.values(),
        )
        steer_by(store, dictionary, shown, label="Steer by it" if len(shown) == 1 else "Steer by one of them")
    if len(shown) == 1:
        _heading(rows, feature, 2)
    if opened:
        st.caption(
            f"Opened here: the most specific feature, of the largest lift on a function tag (else the one that fires on"
            f" fewest tokens), of those that fire on at least {ENOUGH} and on at most half of the tokens."
        )
    return shown


def _compare_with(store: Store, dictionary: pd.Series, rows: pd.DataFrame, shown: list[int]) -> None:
    """What is compared with the first feature: its neighbours are offered, any other number can be typed."""
    found = studies.ask(store.feature_neighbours, dictionary_id=dictionary.dictionary_id, feature=shown[0])
    near, beside = nearest(found), [str(feature) for feature in shown[1:]]
    labels = rows.set_index("feature")["label"]

    def worded(value: str) -> str:
        feature = int(value) if value.isascii() and value.isdigit() and len(value) < 10 else -1
        words = [value]
        if isinstance(label := labels.get(feature), str):
            words.append(one_line(label, 24))
        if feature in near:
            words.append(f"cosine {number(near[feature])}")
        return " · ".join(words)

    def take(values: Sequence[str]) -> None:
        numbers = [int(value) for value in values if FEATURE.takes(value) and int(value) < dictionary.n_features]
        chosen_dictionary.compare([one for one in numbers if one != shown[0]])

    st.multiselect(
        "Compare with",
        list(dict.fromkeys([*beside, *map(str, near)])),
        format_func=worded,
        max_selections=chosen_dictionary.MOST_COMPARED - 1,
        accept_new_options=True,
        placeholder="a neighbour, or any number",
        width=340,
        help="Up to three others, side by side. Offered: the nearest by the cosine of decoder rows, in either model.",
        **selection.following("compared_with", beside, take, initial="default"),
    )
    if not beside and near:
        st.button(
            f"Compare with the nearest, {next(iter(near))}",
            icon=":material/splitscreen_vertical_add:",
            key=keys.of("compare_nearest"),
            on_click=partial(chosen_dictionary.compare, [next(iter(near))]),
        )


def nearest(found: pd.DataFrame) -> dict[int, float]:
    """Neighbours by number, with the larger cosine of their decoder rows in either model, the nearest first.

    `found` are rows of `DictionaryQueries.feature_neighbours`.
    """
    cosines = found.dropna(subset="cosine").groupby("neighbour")["cosine"].max()
    return {int(name): float(value) for name, value in cosines.sort_values(ascending=False, kind="stable").items()}


def most_specific(rows: pd.DataFrame, dictionary: pd.Series) -> int:
    """The feature that the page opens on: alive, not everywhere, with enough tokens to read, and of the largest lift;
    of none known the rarest. Where there is no such one, the rarest that fires; where none does, the first.
    """
    n_judged = 0 if pd.isna(dictionary.n_judged) else int(dictionary.n_judged)
    live = rows[(rows["frequency"] > 0) & (rows["frequency"] <= EVERYWHERE)]
    enough = live[(live["frequency"] * n_judged).round() >= ENOUGH]
    some = next((part for part in (enough, live, rows) if len(part)), rows)
    by = ["top_category_lift", "frequency", "feature"]
    return int(some.sort_values(by, ascending=[False, True, True], na_position="last")["feature"].iloc[0])


def _replace(shown: list[int], column: int, chosen: int | None) -> None:
    """Show another feature in that column."""
    if chosen is not None and column == 0:
        selection.choose({FEATURE: str(chosen)})
    elif chosen is not None:
        chosen_dictionary.compare([*shown[1:column], chosen, *shown[column + 1 :]])


def _heading(rows: pd.DataFrame, feature: int, level: int) -> None:
    st.markdown(f"{'#' * level} Feature {feature}")
    if isinstance(label := rows.loc[rows["feature"] == feature, "label"].iloc[0], str):
        show(label)


def beside(panel: Panel) -> Callable[[Here, Store], None]:
    """A panel drawn for one feature, or for several side by side, each below its name."""

    def draw(here: Here, store: Store) -> None:
        shown = here.once(controls)
        for column, (where, feature) in enumerate(zip(st.columns(len(shown), gap="medium"), shown, strict=True)):
            with where:
                if len(shown) > 1:
                    _heading(here.features, feature, 3)
                panel(store, here.dictionary, here.features, feature, column)

    return draw


def read_later(row: pd.Series) -> None:
    """Select the chunk of a token, or its chain where it has none, and leave for it once the page is drawn."""
    if isinstance(row.chunk_id, str):
        chosen_chunk.go(row.chunk_id)
    else:
        selection.choose({PROBLEM: None, COT: row.cot_id, CHUNK: None})
    st.session_state[_READ] = True


def leave_if_asked() -> None:
    """The last line of a page from which an example opens its chunk."""
    if st.session_state.pop(_READ, False):
        navigation.go_to(navigation.CHAINS)


# What is known of it


def draw_glance(here: Here, store: Store) -> None:
    """One column a feature."""
    shown, rows = here.once(controls), here.features.set_index("feature", drop=False)
    heads = ["value"] if len(shown) == 1 else [f"feature {feature}" for feature in shown]
    each = [dict(facts(rows.loc[feature], here.dictionary)) for feature in shown]
    table = pd.DataFrame({head: pd.Series(known) for head, known in zip(heads, each, strict=True)})
    widths = {"what": st.column_config.TextColumn(width=190)}
    data_table(
        table.rename_axis("what").reset_index(),
        hide_index=True,
        height="content",
        row_height=28,
        column_config=widths,
    )


def facts(row: pd.Series, dictionary: pd.Series) -> list[tuple[str, str]]:
    """What is known of a feature in words; unknown is said to be unknown, with the reason."""
    found = []
    if chosen_dictionary.compares(dictionary):
        known = isinstance(row["class"], str)
        found = [
            (
                "class",
                role_words(row["class"]) if known else "unknown: it never fires" if row.frequency == 0 else "unknown",
            ),
            (
                "NRN, L1 and L2",
                f"{number(row.nrn_l1)} and {number(row.nrn_l2)} (0 base only, 0.5 shared, 1 reasoner only)",
            ),
            *([("NRN, RMS", f"{number(row.nrn_rms)}: {UNEQUAL}")] if chosen_dictionary.is_unequal(dictionary) else []),
            ("RDN, L1 and L2", f"{number(row.rdn_l1)} and {number(row.rdn_l2)}"),
            ("latent scaling ν^ε, ν^r", f"{number(row.nu_eps)}, {number(row.nu_r)} (0 reasoner only, 1 shared)"),
            ("cosine of its two decoder rows", number(row.decoder_cosine)),
        ]
    else:
        found = [("NRN, latent scaling", "unknown: this dictionary reads one model")]
    found.append(("fires on", _firing(row, dictionary)))
    found.append(("f when it fires", f"mean {number(row.mean_activation)}, largest {number(row.max_activation)}"))
    for name in ("top_category", "reasoning", "before_reasoning"):
        lift = row[f"{name}_lift"]
        words = (
            f"{_called(row[name])}, {number(lift)} times as often as elsewhere"
            if isinstance(row[name], str)
            else "none stands out"
        )
        found.append((f"most on: {COLUMNS[name].label}", words))
    return found


def _firing(row: pd.Series, dictionary: pd.Series) -> str:
    if pd.isna(row.frequency) or pd.isna(dictionary.n_judged):
        return "unknown"
    n = int(dictionary.n_judged)
    low, high = wilson(round(row.frequency * n), n)
    return f"{row.frequency:.3%} of n = {n:,} tokens [{low:.3%}, {high:.3%}]"


def _called(name: str) -> str:
    return category(name) if name in CATEGORIES else name


# Its label


def label_panel(store: Store, dictionary: pd.Series, rows: pd.DataFrame, feature: int, column: int) -> None:
    given = history(store.path, dictionary.dictionary_id)
    given = given[given["feature"] == feature]
    words, author = keys.of(f"label_{dictionary.dictionary_id}_{feature}"), keys.of(f"author_{column}")
    st.session_state.setdefault(words, given["label"].iloc[-1] if len(given) else "")
    st.session_state.setdefault(author, st.session_state.get(said.AUTHOR, ""))
    with (
        st.form(keys.of(f"label_form_{column}"), border=False),
        st.container(horizontal=True, vertical_alignment="bottom", gap="small"),
    ):
        st.text_input("Label", key=words, max_chars=LONGEST_LABEL)
        with more():
            st.text_input("Your name", key=author, max_chars=LONGEST_AUTHOR, width=180)
        st.form_submit_button("Keep", on_click=lambda: _keep(store, dictionary, feature, words, author))
    if problem := st.session_state.pop(f"{_PROBLEM}_{feature}", None):
        show(problem)
    _suggestions(store, dictionary, feature, words)
    thing = notes.feature(dictionary.dictionary_id, feature)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"), keys.inside(f"said {column}"):
        said.door(store.path, thing)
        show(said.in_words(notes.in_force(store.path, thing)))
    if len(given):
        newest = given.iloc[-1]
        show(
            f"{'Taken back' if newest.label == '' else 'Named'} by {newest.author},"
            f" {newest.created_at[:16].replace('T', ' ')} UTC."
        )
        if len(given) > 1:
            with st.expander(f"All {len(given)} labels, newest first"):
                data_table(
                    given[["label", "author", "created_at"]].iloc[::-1],
                    hide_index=True,
                    height="content",
                    row_height=28,
                )


def _keep(store: Store, dictionary: pd.Series, feature: int, words: str, author: str) -> None:
    label, by = st.session_state.get(words), st.session_state.get(author, "")
    if label is None:
        return  # the form has gone meanwhile
    st.session_state[said.AUTHOR] = by
    try:
        add_label(store.path, dictionary.dictionary_id, feature, label, by)
    except AnchorscopeError as error:
        st.session_state[f"{_PROBLEM}_{feature}"] = str(error)
    except OSError as error:
        st.session_state[f"{_PROBLEM}_{feature}"] = (
            f"The label could not be written beside the study: {error.strerror}."
        )


def _suggestions(store: Store, dictionary: pd.Series, feature: int, words: str) -> None:
    """What its tokens suggest, and a chat model where one is configured.

    A click fills the box; a person keeps it or does not.
    """
    found = store.feature_examples(dictionary.dictionary_id, feature)
    logits = store.feature_logits(dictionary.dictionary_id, feature)
    logits = logits[logits["model_id"] == list(chosen_dictionary.roles(dictionary))[-1]]
    asked = st.session_state.setdefault(_ASKED, {})
    texts = label_suggestions.from_tokens(found, logits)
    if words in asked and asked[words] not in texts:
        texts.append(asked[words])
    with st.container(horizontal=True, gap="small"):
        for nth, text in enumerate(texts):
            st.button(
                "Use",
                key=keys.of(f"take_{words}_{nth}"),
                icon=":material/north:",
                type="tertiary",
                on_click=lambda text=text: st.session_state.update({words: text}),
            )
            show(one_line(text, 110))
        if len(found) and (chat := _chat()):
            st.button(
                f"Ask {for_markdown(chat.model, 40)}",
                key=keys.of(f"ask_{words}"),
                type="tertiary",
                icon=":material/chat:",
                help=(
                    f"Sends the {len(found)} examples' text to {for_markdown(chat.url)}, which ANCHORSCOPE_CHAT_URL"
                    " names."
                ),
                on_click=lambda: _ask(chat, found, words, feature),
            )


def _chat() -> label_suggestions.ChatModel | None:
    try:
        return label_suggestions.configured()
    except AnchorscopeError as error:
        show(str(error))
        return None


def _ask(chat: label_suggestions.ChatModel, found: pd.DataFrame, words: str, feature: int) -> None:
    try:
        st.session_state.setdefault(_ASKED, {})[words] = label_suggestions.from_chat(chat, found)
    except AnchorscopeError as error:
        st.session_state[f"{_PROBLEM}_{feature}"] = str(error)


# Where it fires, and what it does


def examples_panel(store: Store, dictionary: pd.Series, rows: pd.DataFrame, feature: int, column: int) -> None:
    found = store.feature_examples(dictionary.dictionary_id, feature)
    if found.empty:
        st.caption("It fires on no token of the study's CoTs, so there is no example.")
        return

    roles = [role_words(role) for role in chosen_dictionary.roles(dictionary).values()]
    writers = {writer: called(store, writer) for writer in found["written_by"].unique()}
    found = found.assign(written_by=found["written_by"].map(writers))
    examples(
        found,
        key=keys.of(f"examples_{column}_{feature}"),
        colour=COLOURS[column],
        names=roles,
        on_read=lambda number: read_later(found.iloc[number]),
    )
    st.caption(f"n = {len(found)} tokens")


def draw_examples(here: Here, store: Store) -> None:
    beside(examples_panel)(here, store)
    of_each = " of each model, both reading the same tokens" if chosen_dictionary.compares(here.dictionary) else ""
    st.caption(
        "The tokens with the largest f, the strongest of each CoT before second ones. Hover for a token's f, and the"
        f" norm of what it adds to the residual stream{of_each}."
    )


def histogram_panel(store: Store, dictionary: pd.Series, rows: pd.DataFrame, feature: int, column: int) -> None:
    found = store.feature_histogram(dictionary.dictionary_id, feature)
    edges, counts = ([], []) if found.empty else (list(found["edges"][0]), [int(count) for count in found["counts"][0]])
    data_figure(
        activation_histogram(edges, counts), key=keys.of(f"histogram_{column}"), config={"displayModeBar": False}
    )
    if (firing := firing_of(dictionary.kind, dictionary.parameters)) is not None:
        st.caption(firing.words)


def draw_logits(here: Here, store: Store) -> None:
    """Of one feature what it promotes and suppresses; of several what each promotes, in one grid."""
    dictionary, shown = here.dictionary, here.once(controls)
    found = pd.concat(
        [store.feature_logits(dictionary.dictionary_id, feature).assign(feature=feature) for feature in shown]
    )
    roles = chosen_dictionary.roles(dictionary)
    if len(shown) == 1:
        figure = logit_effects(found, roles)
    else:
        figure = written(found, features={feature: f"feature {feature}" for feature in shown}, roles=roles)
    data_figure(figure, key=keys.of("logits"), config={"displayModeBar": False})
    if found.empty:
        return
    several = " Bold: another of them promotes that token too." if len(shown) > 1 else ""
    st.caption(
        "The decoder row times the final norm's weight and the unembedding: what the feature writes straight to the"
        " logits, without the layers between and before the norm's division. Compare the models in signs and tokens"
        f" rather than in size.{several}"
    )


def neighbours_panel(store: Store, dictionary: pd.Series, rows: pd.DataFrame, feature: int, column: int) -> None:
    found = store.feature_neighbours(dictionary.dictionary_id, feature)
    found = found.merge(rows[["feature", "label"]], left_on="neighbour", right_on="feature", how="left")
    if found.empty:
        st.caption("Its decoder rows are zero, so nothing is near.")
        return
    shown = chosen_dictionary.opened(dictionary)
    adds = len(shown) < chosen_dictionary.MOST_COMPARED and st.toggle(
        "A click compares the neighbour with this one", key=keys.of(f"adds_{column}")
    )
    roles = chosen_dictionary.roles(dictionary)
    alone = len(shown) == 1
    places = st.columns(len(roles), gap="medium") if alone else [st.container() for _ in roles]
    for where, (model_id, role) in zip(places, roles.items(), strict=True):
        near, key = found[found["model_id"] == model_id], keys.of(f"neighbours_{column}_{role}_{feature}")

        def go(near: pd.DataFrame = near, key: str = key) -> None:
            if (picked := picked_row(key, len(near))) is not None:
                chosen = int(near["neighbour"].iloc[picked])
                _replace([*shown, chosen] if adds else shown, len(shown) if adds else column, chosen)

        with where:
            st.markdown(f"**By decoder rows of the {role_words(role)}**" if role != "model" else "**By decoder rows**")
            if near.empty:
                st.caption("The row of this model is zero: nothing is near.")
                continue
            data_table(
                neighbour_table(near, dictionary),
                hide_index=True,
                height="content",
                row_height=28,
                key=key,
                on_select=go,
                selection_mode="single-row",
            )


def neighbour_table(near: pd.DataFrame, dictionary: pd.Series) -> pd.DataFrame:
    """Rows of `DictionaryQueries.feature_neighbours`, with `label`, in words."""
    compared = {}
    if chosen_dictionary.compares(dictionary):
        compared = {
            "NRN, L1": [number(value) for value in near["nrn_l1"]],
            "class": near["class"].fillna("unknown").map(role_words).tolist(),
        }
    return pd.DataFrame(
        {
            "feature": near["neighbour"].tolist(),
            "cosine": [number(value) for value in near["cosine"]],
            **compared,
            "fires on": ["unknown" if pd.isna(value) else f"{value:.3%}" for value in near["frequency"]],
            "function": [_called(value) if isinstance(value, str) else "" for value in near["top_category"]],
            "label": near["label"].fillna("").tolist(),
        }
    )


def draw_categories(here: Here, store: Store) -> None:
    """One chart a scheme, all features in it."""
    dictionary, shown = here.dictionary, here.once(controls)
    found = pd.concat(
        [store.feature_categories(dictionary.dictionary_id, feature).assign(feature=feature) for feature in shown]
    )
    if found.empty:
        st.caption("It fires on no token of the study's CoTs.")
        return
    bounds = [wilson(int(row.n_fired), int(row.n_tokens)) for row in found.itertuples()]
    found = found.assign(low=[bound.low for bound in bounds], high=[bound.high for bound in bounds])
    overall = float(here.features.set_index("feature")["frequency"][shown[0]])
    left, right = st.columns(2, gap="medium")
    for scheme, words in _SCHEMES.items():
        rows = found[found["scheme"] == scheme]
        if len(shown) == 1:
            figure = firing_by_category(rows, overall=overall, names=CATEGORIES)
        else:
            figure = firing(rows, names={feature: str(feature) for feature in shown}, categories=CATEGORIES)
        with left if scheme == "function" else right:
            st.caption(words)
            data_figure(figure, key=keys.of(scheme), config={"displayModeBar": False})
    st.caption(
        "Intervals: Wilson's 95 %, as if tokens were independent; those of one CoT are not, so that the true ones are"
        " wider."
    )
