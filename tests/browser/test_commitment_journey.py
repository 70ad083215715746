"""The journey of a chain's commitment in a real browser: the panel is opened, the chain switched, the link kept."""

import re
import sys

import duckdb
import pytest
from playwright.sync_api import expect

from backend.store.store import generation_of
from tests import commitment_study, small_dictionary, small_study
from tests.browser.conftest import serving


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = small_study.make(tmp_path_factory.mktemp("committed") / "small")
    small_dictionary.add(folder)  # with it comes the distilled model
    cot = commitment_study.add_readings(folder, by_both=True)
    with duckdb.connect(str(generation_of(folder))) as connection:
        connection.execute("UPDATE models SET role = 'base' WHERE role = 'model'")
    return folder, cot


@pytest.fixture(scope="module")
def server(chromium, study, tmp_path_factory):
    command = [sys.executable, "-m", "streamlit", "run", "app/main.py"]
    with serving(command, study[0], tmp_path_factory.mktemp("server")) as address:
        yield address


def test_the_panel_says_where_the_text_and_both_models_commit_and_another_chain_says_its_own(tab, server, study):
    _, cot = study
    tab.goto(f"{server}/chains_of_thought?study=small&cot={cot}")
    tab.locator(".st-key-dock_views").get_by_text("Commitment", exact=True).click()
    tab.wait_for_url(re.compile("dock=[^&]*commitment"))
    said = tab.get_by_text(re.compile("^This chain: "))
    expect(said).to_have_text(re.compile(r"\(base, the writer\) commits at 3, the model itself \(reasoner\) at 3;"))
    expect(said).to_have_text(re.compile(r"unknown \(Bayes factor below 3\): text, logit lens, layer 5"))
    expect(tab.get_by_text("reasoner, the model itself: commits at 3", exact=False).first).to_be_visible()

    tab.locator(".st-key-search_chain button").click()
    tab.get_by_role("combobox", name=re.compile("^Chain of thought")).click()
    tab.get_by_role("option").nth(1).click()
    tab.wait_for_function("old => !location.search.includes(old)", arg=cot)
    expect(said).not_to_have_text(re.compile("the model itself"))
    expect(said).to_have_text(re.compile("^This chain: .*(commits at|unknown|turns away)"))
    assert "commitment" in tab.url and tab.foreign == []

    tab.go_back()
    expect(said).to_have_text(re.compile("the model itself"))
