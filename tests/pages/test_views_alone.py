"""Every view by itself, twice in one run: it shows something or says what is missing, and it has keys of its own."""

import shutil
from pathlib import Path

import duckdb
import pytest
from streamlit.testing.v1 import AppTest

from app.shell import studies
from app.views import registered
from backend.schema.tables import TABLES
from tests.pages.conftest import words

pytestmark = pytest.mark.usefixtures("no_embedded_model")


def alone() -> None:
    """The view that the session names, in two places."""
    import streamlit as st

    from app.shared import views
    from app.shell import navigation, selection, studies
    from app.shell.missing import PageEnds
    from app.views import registered

    st.navigation([navigation.page_named(name) for name in navigation.PAGES], position="hidden")
    selection.begin()
    try:
        store = studies.open_store(navigation.study())
        for place in ("left", "right"):
            with st.container(key=place):
                views.mount(registered()[st.session_state["drawn"]], store, place)
    except PageEnds:
        pass


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """`drawn(study)`: what each view says and shows by itself, by its name; an exception fails."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(studies, "STORES", tmp_path / "stores")

    def draw(study: Path) -> dict[str, str]:
        monkeypatch.setenv("ANCHORSCOPE_STORES", str(study))
        test, said = AppTest.from_function(alone, default_timeout=60), {}
        for name in registered():
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


@pytest.mark.parametrize("study", ["running", "imported"])
def test_a_view_alone_says_what_a_study_does_not_have(drawn, request, study):
    said = drawn(request.getfixturevalue(study))
    assert all(text.strip() for text in said.values()), [name for name, text in said.items() if not text.strip()]
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
