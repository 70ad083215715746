"""Which dictionary of the study is looked at, and which of its features: one place for every page about features."""

import tomllib
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from app.shared import chosen_stream, parting
from app.shared.chosen_stream import LAYER
from app.shared.clicks import marks
from app.shared.model_names import called
from app.shell import navigation, selection, studies
from app.shell.fields import Field, Whole, declare
from app.shell.missing import Missing, command, no_tokens, study_file, there, undone
from app.shell.untrusted import show
from backend.crosscoder.kinds import firing_of
from backend.store.store import Store

DICTIONARY = declare(Field("dictionary", "dictionary", None))
FEATURE = declare(Field("feature", "feature", Whole(0, 10**9), of="dictionary"))
COMPARED = declare(
    Field(
        "compared_features",
        "features compared",
        lambda value: all(map(FEATURE.takes, value.split("|"))),
        of="dictionary",
    )
)
MOST_COMPARED = 4  # features side by side
_CLICKED = "feature_clicked_on"
_README = "README.md explains it under “Your own study”"


def choose(store: Store) -> pd.Series:
    """The chosen row of `store.dictionaries()`, behind a picker where there are several.

    Where there is none, says what to run and ends.
    """
    row, found = there(find(store)), _by_id(store)
    if len(found) > 1:
        names = {one.Index: named(store, one) for one in found.itertuples()}
        selection.pick(
            DICTIONARY,
            "Dictionary",
            list(names),
            default=row.dictionary_id,
            show=names.__getitem__,
            then=_follow_layer(found),
            help=parting.at_layer(store, row.base_model_id, int(row.layer)),
        )
    selection.choose({DICTIONARY: row.dictionary_id})
    wanted = chosen_stream.chosen(store)
    if wanted is not None and wanted.layer not in (None, row.layer):
        selection.stand_in(LAYER, f"layer {wanted.layer}", f"layer {row.layer}, which this dictionary reads")
    return row


def choose_and_name(store: Store) -> None:
    """Choose it, and say which it is."""
    show(named(store, choose(store)))


def find(store: Store) -> pd.Series | Missing:
    """The chosen dictionary, or what to run where there is none."""
    found = _by_id(store)
    if found.empty:
        return no_dictionary(store)
    return found.loc[selection.in_force(DICTIONARY, list(found.index), _at_the_layer(store, found))]


def _by_id(store: Store) -> pd.DataFrame:
    return studies.ask(store.dictionaries).set_index("dictionary_id", drop=False)


def _at_the_layer(store: Store, found: pd.DataFrame) -> str:
    """The dictionary that is shown where none is chosen: one of the layer that is looked at, else of the nearest."""
    streams = {
        chosen_stream.Stream(model, int(row.layer)): row.Index
        for row in found[::-1].itertuples()
        for model in (row.base_model_id, row.distilled_model_id)
        if isinstance(model, str)
    }
    return streams[chosen_stream.nearest(store, streams)]


def _follow_layer(found: pd.DataFrame) -> Callable[[], None]:
    """A dictionary that is chosen by hand brings its layer along to every page."""
    return lambda: selection.choose({LAYER: str(found.loc[selection.get(DICTIONARY)].layer)})


def feature(dictionary: pd.Series, field: Field = FEATURE, default: int | None = None) -> int | None:
    """The number in `field`, where the dictionary has such a feature; else `default`."""
    value = selection.get(field)
    if value is None:
        return default
    if not (field.takes(value) and int(value) < dictionary.n_features):
        selection.forget_unknown(field)
        return default
    return int(value)


def beside(dictionary: pd.Series, feature: int | None) -> list[int]:
    """The features that are compared with this one, in the order in which they were chosen."""
    value = selection.get(COMPARED)
    if value is None:
        return []
    if not (COMPARED.takes(value) and all(int(one) < dictionary.n_features for one in value.split("|"))):
        selection.forget_unknown(COMPARED)
        return []
    found = dict.fromkeys(int(one) for one in value.split("|"))
    return [one for one in found if one != feature][: MOST_COMPARED - 1]


def opened(dictionary: pd.Series) -> list[int]:
    """The feature that was opened or clicked elsewhere, and those compared with it."""
    own = feature(dictionary)
    return [*([] if own is None else [own]), *beside(dictionary, own)]


def compare(features: Sequence[int]) -> None:
    """Select the features to compare with the one that is open."""
    selection.choose({COMPARED: "|".join(map(str, features)) or None})


def compares(dictionary: pd.Series) -> bool:
    """Whether it reads two models: only then is there an NRN."""
    return isinstance(dictionary.distilled_model_id, str)


def fires_above(dictionary: pd.Series) -> dict[str, Any]:
    """When its codes count as firing, as queries of the store take it; empty where every code that is stored does."""
    firing = firing_of(dictionary.kind, dictionary.parameters)
    return {} if firing is None else {"above": firing.above, "by_norms": firing.by_norms}


def is_unequal(dictionary: pd.Series) -> bool:
    """Whether its models have different widths: then norms by L1 and L2 have another scale in each."""
    return bool(pd.isna(dictionary.d_model))


def roles(dictionary: pd.Series) -> dict[str, str]:
    """model_id to base or distilled; the only model of an autoencoder is the model."""
    if not compares(dictionary):
        return {dictionary.base_model_id: "model"}
    return {dictionary.base_model_id: "base", dictionary.distilled_model_id: "distilled"}


def choose_feature(feature: int) -> None:
    """Select a feature that was clicked; the page then shows the way to it (`way_to_feature`)."""
    selection.choose({FEATURE: str(int(feature))})
    st.session_state[_CLICKED] = selection.page()
    selection.redraw()


def way_to_feature() -> None:
    """The last line of a page on which a click selects a feature: the way to its page, once one was clicked."""
    feature = selection.get(FEATURE)
    if st.session_state.get(_CLICKED) != selection.page() or feature is None or not feature.isdecimal():
        return
    with st.container(key="clicked_feature"):
        st.page_link(
            navigation.link_to(navigation.FEATURE),
            label=f"Open feature {feature}",
            icon=":material/lens_blur:",
            query_params=selection.values(),
        )


def clicked(key: str, dictionary: pd.Series) -> int | None:
    """The feature that was clicked on the chart `key`, whose marks bear features' numbers as `customdata`."""
    return next((number for number in marks(key) if type(number) is int and 0 <= number < dictionary.n_features), None)


def choose_clicked(key: str, dictionary: pd.Series) -> None:
    """Select the feature that was clicked on the chart `key`."""
    if (feature := clicked(key, dictionary)) is not None:
        choose_feature(feature)


def named(store: Store, row: pd.Series) -> str:
    """A dictionary as a person calls it: what it is, of which models, where."""
    ids = (row.base_model_id, row.distilled_model_id)
    pair = " and ".join(called(store, model) for model in ids if isinstance(model, str))
    kind = "crosscoder" if isinstance(row.distilled_model_id, str) else "autoencoder"
    return f"{row.kind} {kind} of {pair or 'unknown models'}, layer {row.layer}, {row.n_features:,} features"


def no_dictionary(store: Store) -> Missing:
    """Why there is none, and what to run."""
    coverage = store.coverage().iloc[0]
    if coverage.chunks and not coverage.chunks_with_tokens:
        return no_tokens(store.path)
    file = study_file(store.path)
    asked = file is not None and "crosscoder" in tomllib.loads(file.read_text(encoding="utf-8"))
    if asked:
        return undone(store.path, "crosscoder")
    return Missing(
        "This study has no dictionary of activations. Name a base and a distilled model (or one model alone, for an"
        f" autoencoder) under [[models]] in its study file, add a section [crosscoder] ({_README}), and run it again:",
        command(store.path, "crosscoder"),
    )
