"""The steering journey in a real browser: choose a chunk, move the slider, watch text stream and stop it, run many,
reload the link.
"""

import re
import sys

import pytest
from playwright.sync_api import expect

from backend.store.experiments import Experiments
from tests import steerable_study
from tests.browser.conftest import serving

SELECTED = '.chunk[aria-selected="true"]'


@pytest.fixture(scope="module")
def study(tmp_path_factory, tiny):
    return steerable_study.make(tmp_path_factory.mktemp("steerable") / "small", tiny("llama"))


@pytest.fixture(scope="module")
def server(chromium, study, tmp_path_factory):
    command = [sys.executable, "-m", "streamlit", "run", "app/main.py"]
    with serving(command, study, tmp_path_factory.mktemp("server"), own_cache=True) as address:
        yield address


SLOW = """
(() => {
  const late = (listener) => (event) => setTimeout(() => listener(event), 1200);
  window.WebSocket = class extends WebSocket {
    addEventListener(kind, listener) { super.addEventListener(kind, kind === "message" ? late(listener) : listener); }
  };
})();
"""


def run_button(tab):
    return tab.locator(".st-key-run_button button")


def said(tab):
    return tab.locator(".st-key-intervention")


def set_behind_more(tab, label: str, value: str) -> None:
    """Type a number into a field that stands behind one of the page's doors."""
    for door in tab.get_by_role("button", name=re.compile("^More")).all():
        door.click()
        tab.wait_for_timeout(1000)  # until it is open
        if (field := tab.get_by_label(label, exact=True)).count():
            field.first.fill(value)
            field.first.press("Tab")
            tab.keyboard.press("Escape")
            return
        tab.keyboard.press("Escape")
    raise AssertionError(f"no field {label!r} behind any door")


def test_a_choice_stays_where_the_browser_hears_of_it_late(tab, server):
    tab.add_init_script(SLOW)  # every message of the server is heard 1.2 s after it came
    tab.goto(f"{server}/steering?study=small&direction=random&place=onward&what=stream")
    expect(run_button(tab)).to_be_enabled()
    slider = tab.get_by_role("slider", name="Magnitude β")
    slider.press("ArrowRight")
    tab.wait_for_url(re.compile("beta=8.5"))
    for _ in range(3):  # each before the last was answered
        slider.press("ArrowRight")
        tab.wait_for_timeout(400)
    tab.wait_for_url(re.compile("beta=10"))
    tab.get_by_role("radio", name="Many").or_(tab.get_by_role("button", name="Many", exact=True)).first.click()
    tab.wait_for_url(re.compile("run_kind=continue"))
    tab.wait_for_timeout(3000)  # all that was on its way has arrived
    assert "beta=10&" in tab.url and "run_kind=continue" in tab.url
    expect(said(tab)).to_contain_text("add +10 RMS of random direction 1")
    expect(slider).to_have_value("10")
    tab.go_back()
    expect(run_button(tab)).to_have_text(re.compile("Steer"))
    assert "beta=10&" in tab.url
    tab.go_back()
    expect(said(tab)).not_to_contain_text("add +10 RMS")
    assert "beta=10" not in tab.url


def test_a_chunk_is_chosen_steered_stopped_sampled_and_found_again_by_its_link(tab, server, study):
    tab.goto(f"{server}/steering?study=small&direction=random&place=onward")
    expect(tab.locator(SELECTED)).to_have_count(1)
    tab.locator(".chunk").nth(1).click()
    tab.wait_for_url(re.compile("chunk=.*_0001"))
    expect(run_button(tab)).to_be_enabled()

    slider = tab.get_by_role("slider", name="Magnitude β")
    for _ in range(20):
        if float(slider.input_value()) >= 9:
            break
        slider.focus()
        slider.press("ArrowRight")
        tab.wait_for_timeout(500)  # as a person does, who looks where it went
    tab.wait_for_url(re.compile("beta=9"))
    expect(said(tab)).to_contain_text("add +9 RMS of random direction 1")
    expect(tab.get_by_text("random pushes of this size")).to_be_visible()

    set_behind_more(tab, "Max new tokens", "1024")
    tab.wait_for_url(re.compile("=1024"))
    expect(run_button(tab)).to_be_enabled()
    run_button(tab).click()
    streamed = tab.locator(".streams .token")
    expect(streamed.nth(3)).to_be_attached()
    tab.get_by_role("button", name="Stop").last.click()
    expect(tab.get_by_role("button", name="Stop")).to_have_count(0)
    tab.wait_for_timeout(500)
    n = streamed.count()
    tab.wait_for_timeout(700)
    assert streamed.count() == n > 3
    streamed.nth(2).hover()
    expect(tab.get_by_role("tooltip").or_(tab.locator(".popover")).first).to_be_visible()

    set_behind_more(tab, "Max new tokens", "24")
    tab.wait_for_url(re.compile("=24(&|$)"))
    tab.get_by_role("radio", name="Many").or_(tab.get_by_role("button", name="Many", exact=True)).first.click()
    set_behind_more(tab, "Samples", "4")
    tab.wait_for_url(re.compile("samples=4"))
    expect(run_button(tab)).to_have_text(re.compile("Continue 4 times"))
    run_button(tab).click()
    expect(tab.get_by_text("compared in pairs")).to_be_visible()
    expect(tab.get_by_text("The 12 texts")).to_be_visible()
    run = re.search(r"run=(x\w+)", tab.url)[1]
    assert len(Experiments(study).samples(run)) == 12

    link = tab.url
    tab.goto("about:blank")
    tab.goto(link)
    expect(tab.get_by_text("compared in pairs")).to_be_visible()
    expect(said(tab)).to_contain_text("add +9 RMS of random direction 1")
    assert tab.foreign == []
