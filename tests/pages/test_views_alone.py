"""Every view by itself, beside all others in one run: it shows something or says what is missing, with its own keys."""

import shutil
from pathlib import Path

import duckdb
import pytest
from streamlit.testing.v1 import AppTest

from app.shell import studies
from app.views import registered
from backend.schema.tables import TABLES
from tests import small_study
from tests.pages.conftest import words

pytestmark = pytest.mark.usefixtures("no_embedded_model")


def side_by_side(places: tuple[str, ...]) -> None:
    """All views in one run, each by itself, in every one of the places: as in a dock."""
    import streamlit as st

    from app.shared import views
    from app.shell import navigation, selection, studies
    from app.views import registered

    st.navigation([navigation.page_named(name) for name in navigation.PAGES], position="hidden")
    every = registered()
    selection.begin()
    store = studies.open_store(navigation.study())
    for name, view in every.items():
        st.session_state["drawn"] = name
        for place in places:
            with st.container(key=f"{place} {name}"):
                views.mount(view, store, place)


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """`drawn(study, *places)`: what each view says and shows by itself, by its name; an exception fails."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(studies, "STORES", tmp_path / "stores")

    def draw(study: Path, *places: str) -> dict[str, str]:
        monkeypatch.setenv("ANCHORSCOPE_STORES", str(study))
        test = AppTest.from_function(side_by_side, args=(places,), default_timeout=300).run()
        assert not test.exception, (test.session_state["drawn"], test.exception)
        panels = [(name, place) for name in registered() for place in places]
        said = {panel: shown(block) for panel, block in zip(panels, test.main.children.values(), strict=True)}
        assert not [panel for panel, text in said.items() if not text.strip()]
        return {name: said[name, places[0]] for name in registered()}

    return draw


def shown(panel) -> str:
    """The words of a view, and the kinds of what else it shows."""
    kinds = ("dataframe", "plotly_chart", "metric", "selectbox", "button", "bidi_component")
    return words(panel) + " ".join(kind for kind in kinds if len(panel.get(kind)))


def test_a_view_alone_shows_something_on_a_whole_study_and_stands_there_twice(drawn, everything):
    assert "bidi_component" in drawn(everything, "left", "right")["chain_text"]


@pytest.fixture(scope="module")
def before_geometry(tmp_path_factory) -> Path:
    """Made before there was any exact geometry, dictionary or training: those tables are empty."""
    return small_study.make(tmp_path_factory.mktemp("old") / "small", geometry=False)


@pytest.mark.parametrize("study", ["running", "imported", "before_geometry"])
def test_a_view_alone_says_what_a_study_does_not_have(drawn, request, study):
    said = drawn(request.getfixturevalue(study), "here")
    if study == "before_geometry":
        assert (
            "python -m precompute run" in said["finite_steps"] and "python -m precompute run" in said["feature_label"]
        )
    if study == "running":
        assert "python -m precompute run" in said["latent_map"] and "python -m precompute run" in said["all_pairs"]


def test_a_view_alone_says_what_an_empty_study_lacks(drawn, everything, tmp_path):
    file = tmp_path / "small.duckdb"
    shutil.copy(everything, file)
    with duckdb.connect(str(file)) as connection:
        for table in set(TABLES) - {"about", "models"}:
            connection.execute(f"DELETE FROM {table}")
    said = drawn(file, "here")
    assert "no chains of thought cut into chunks yet" in said["chain_text"]
