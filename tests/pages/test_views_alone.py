"""Every view by itself, twice in one run: it shows something or says what is missing, and it has keys of its own."""

import shutil
from collections.abc import Iterable
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


def alone() -> None:
    """The view that the session names, in two places."""
    import streamlit as st

    from app.shared import views
    from app.shell import navigation, selection, studies
    from app.shell.missing import PageEnds
    from app.views import registered
    from backend.errors import AnchorscopeError

    st.navigation([navigation.page_named(name) for name in navigation.PAGES], position="hidden")
    every = registered()
    selection.begin()
    try:
        store = studies.open_store(navigation.study())
        for place in ("left", "right"):
            with st.container(key=place):
                views.mount(every[st.session_state["drawn"]], store, place)
    except PageEnds:
        pass
    except AnchorscopeError as error:  # the study cannot be opened: a page shows the words
        for place in ("left", "right"):
            st.container(key=place).text(str(error))


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """`drawn(study)`: what each view says and shows by itself, by its name; an exception fails."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(studies, "STORES", tmp_path / "stores")

    def draw(study: Path, views: Iterable[str] = tuple(registered())) -> dict[str, str]:
        monkeypatch.setenv("ANCHORSCOPE_STORES", str(study))
        test, said = AppTest.from_function(alone, default_timeout=60), {}
        for name in views:
            test.session_state["drawn"] = name
            test.run()
            assert not test.exception, (name, test.exception)
            kinds = ("dataframe", "plotly_chart", "metric", "selectbox", "button", "bidi_component")
            said[name] = words(test) + " ".join(kind for kind in kinds if len(test.get(kind)))
            left, right = (list(place) for place in test.main.children.values())
            assert left and right, f"{name} shows nothing where it stands a second time"
        return said

    return draw


def test_a_view_alone_shows_something_on_a_whole_study(drawn, everything):
    said = drawn(everything)
    assert all(text.strip() for text in said.values()), [name for name, text in said.items() if not text.strip()]


@pytest.fixture(scope="module")
def before_geometry(tmp_path_factory) -> Path:
    """Made before there was any exact geometry, dictionary or training: those tables are empty."""
    return small_study.make(tmp_path_factory.mktemp("old") / "small", geometry=False)


@pytest.mark.parametrize("study", ["running", "imported", "before_geometry"])
def test_a_view_alone_says_what_a_study_does_not_have(drawn, request, study):
    said = drawn(request.getfixturevalue(study))
    assert all(text.strip() for text in said.values()), [name for name, text in said.items() if not text.strip()]
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
    said = drawn(file)
    assert all(text.strip() for text in said.values()), [name for name, text in said.items() if not text.strip()]
    assert "no chains of thought cut into chunks yet" in said["chain_text"]


def test_a_view_of_a_study_of_another_version_says_how_to_bring_it_up(drawn, of_schema):
    said = drawn(of_schema(1), views=["problem", "study_name"])
    assert all("python -m precompute publish" in text for text in said.values())
