"""The vectors that were kept: choosing one, what is known of it, its name, its files, and the way to Steering."""

import json
from collections.abc import Callable

import pandas as pd
import streamlit as st

from app.shared import live
from app.shared.chosen_vector import VECTOR
from app.shared.views import Here
from app.shell import keys, navigation, selection
from app.shell.data_table import data_table
from app.shell.missing import Missing
from app.shell.numbers import number as figure
from app.shell.untrusted import for_markdown, one_line, show
from app.shell.vocabulary import direction_words
from backend.errors import AnchorscopeError
from backend.geometry.direction_exports import FORMATS, exported_name
from backend.live.available import Choice
from backend.store.library import LONGEST_NAME, KeptVector, Library
from backend.store.store import Store


def a_vector(here: Here) -> Missing | None:
    """A library with a vector in it."""
    if len(Library(here.store.path).vectors()):
        return None
    return Missing(
        "The library of this study has no vectors yet. On the page Steering choose any direction, or a file, and"
        " press Keep this vector: it stands here under its name, and in every link.",
        None,
    )


def chosen(here: Here) -> KeptVector:
    """The vector that is looked at, with the picker."""
    found = Library(here.store.path).vectors()
    names = {
        row.vector_id: f"{one_line(row.name, 60)}, layer {row.layer}" for row in found.rename_axis("n").itertuples()
    }
    vector_id = selection.pick(VECTOR, "Vector", list(names), show=names.__getitem__, width=420)
    return Library(here.store.path).get(vector_id)


def model_of(store: Store, kept: KeptVector) -> Choice | None:
    """The model that the vector was kept for, where it is on this machine."""
    return next((choice for choice in live.steerable(store) if choice.model_id == kept.model_id), None)


def draw_list(here: Here, store: Store) -> None:
    """Every vector of the library."""
    found = Library(store.path).vectors()
    here.once(chosen)
    data_table(
        pd.DataFrame(
            {
                "name": [one_line(name, LONGEST_NAME) for name in found["name"]],
                "layer": found["layer"],
                "model": [one_line(model, 60) for model in found["model"]],
                "made from": [direction_words(kind) for kind in found["kind"]],
                "norm": [figure(norm) for norm in found["norm"]],
                "d": found["d_model"],
                "kept (UTC)": found["created_at"].dt.strftime("%Y-%m-%d %H:%M"),
                "sha256": [f"{digest[:12]}…" for digest in found["sha256"]],
            }
        ),
        hide_index=True,
        row_height=28,
        height=min(320, 40 + 28 * len(found)),
        key=keys.of("library_list"),
    )
    st.caption(
        f"n = {len(found)}. They are kept beside the study, as live runs are: whoever has the study has them, and an"
        " export takes them along. Nothing is found by its name: links and runs name a vector by its values, layer and"
        " model."
    )


def draw_card(here: Here, store: Store) -> None:
    """What is known of the vector, and what can be done with it."""
    kept = here.once(chosen)
    made = dict(kept.made)
    facts = {
        "name": kept.name,
        "model": kept.model + ("" if kept.revision is None else f", revision {kept.revision}"),
        "layer": f"{kept.layer}: the residual stream after this block",
        "norm": f"{figure(kept.norm)}; steered along as a unit vector",
        "d": f"{len(kept.vector)}",
        "made": f"{direction_words(kept.kind)}: {made.get('words', 'not said')}",
        "from": json.dumps(made.get("parameters", {}), ensure_ascii=False, sort_keys=True),
        "sha256": f"{kept.sha256} (of the float32 values)",
        "id": kept.vector_id,
        "kept": "unknown" if kept.created_at is None else f"{kept.created_at:%Y-%m-%d %H:%M} UTC",
    }
    with st.container(border=True, key=keys.of("vector_card")):
        show("\n".join(f"{name:>7}  {value}" for name, value in facts.items()))
    with st.container(horizontal=True):
        if st.button("Steer along it", icon=":material/tune:", key=keys.of("steer_along"), type="primary"):
            _steer(kept)
        _exports(store, kept)
        _rename(store, kept)
        _delete(store, kept)


def _steer(kept: KeptVector) -> None:
    selection.choose(
        {VECTOR: kept.vector_id},
        direction="library",
        model=kept.model_id,
        layer=str(kept.layer),
        last_layer=None,
        run=None,
        second_run=None,
    )
    navigation.go_to(navigation.STEERING)


def _exports(store: Store, kept: KeptVector) -> None:
    models = store.models().set_index("model_id")["family"]
    family = models.get(kept.model_id)
    for form in FORMATS:
        try:
            data = form.encoded(kept, family if isinstance(family, str) else None)
        except AnchorscopeError as error:
            st.button(
                form.words, disabled=True, help=for_markdown(str(error), 300), key=keys.of(f"export{form.ending}")
            )
            continue
        st.download_button(
            form.words,
            data,
            exported_name(kept, form.ending),
            "application/octet-stream",
            icon=":material/download:",
            key=keys.of(f"export{form.ending}"),
            on_click="ignore",
        )


def _rename(store: Store, kept: KeptVector) -> None:
    with st.popover("Rename", icon=":material/edit:"), st.form(keys.of("rename_vector"), border=False):
        name = st.text_input("New name", kept.name, max_chars=LONGEST_NAME, key=keys.of(f"rename_{kept.vector_id}"))
        if st.form_submit_button("Rename"):
            _done(lambda: Library(store.path).rename(kept.vector_id, name))


def _delete(store: Store, kept: KeptVector) -> None:
    with st.popover("Delete", icon=":material/delete:"):
        st.caption("Links to it say that it is gone. Kept again with the same values it is found by them again.")
        if st.button("Delete it with its audits", key=keys.of("delete_vector")):
            _done(lambda: _forget(store, kept))


def _forget(store: Store, kept: KeptVector) -> None:
    Library(store.path).delete(kept.vector_id)
    selection.choose({VECTOR: None})


def _done(act: Callable[[], object]) -> None:
    """Do it and run the page anew, or say why it could not be done."""
    try:
        act()
    except AnchorscopeError as error:
        show(str(error))
        return
    selection.rerun()
