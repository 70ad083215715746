"""The journey of latent steps in a real browser, on the study that ships: a cell of the steering map is clicked and its
runs are listed; the parts of the page, the sibling and the cell are in the link.
"""

import re
import sys

import pytest
from playwright.sync_api import expect

from backend.store.packed import unpack
from tests.browser.conftest import ROOT, serving

CELL = """
([x, y]) => {
  const charts = [...document.querySelectorAll(".js-plotly-plot")];
  const chart = charts.find((one) => one._fullLayout?.annotations?.some((said) => /15 pairs/.test(said.text)));
  const layout = chart?._fullLayout;
  if (!layout?.xaxis?.d2p) return null;
  chart.scrollIntoView({block: "center"});
  const box = chart.getBoundingClientRect();
  return [box.x + layout.xaxis._offset + layout.xaxis.d2p(x), box.y + layout.yaxis._offset + layout.yaxis.d2p(y)];
}
"""


@pytest.fixture(scope="module")
def server(chromium, tmp_path_factory):
    command = [sys.executable, "-m", "streamlit", "run", "app/main.py"]
    study = unpack(ROOT / "assets" / "latent-study", tmp_path_factory.mktemp("stores") / "latent-study.duckdb")
    with serving(command, study, tmp_path_factory.mktemp("server"), own_cache=True) as address:
        yield address


def test_a_cell_of_the_steering_map_lists_its_runs_and_the_link_opens_them_again(tab, server, chromium):
    tab.goto(f"{server}/latent_steps?study=latent-study")
    expect(tab.get_by_text(re.compile("Of 90 cells 0 are above and 32 below"))).to_be_visible()
    x, y = tab.wait_for_function(CELL, arg=[4, "2 − 4"]).json_value()
    tab.mouse.move(x - 2, y)
    tab.mouse.move(x, y, steps=3)
    expect(tab.locator(".hoverlayer .hovertext").first).to_be_visible()
    tab.mouse.click(x, y)
    tab.wait_for_url(re.compile("latent_cell="))
    said = tab.get_by_text(re.compile(r"2 − 4.*latent 4"))
    expect(said.first).to_be_visible()

    other = chromium.new_page()
    other.goto(tab.url)
    expect(other.get_by_text(re.compile(r"2 − 4.*latent 4")).first).to_be_visible()
    other.close()
    assert tab.foreign == []


def test_parts_are_in_the_link_and_each_says_what_the_control_does(tab, server):
    tab.goto(f"{server}/latent_steps?study=latent-study")
    tab.get_by_role("radio", name="Odd and even latents").click()
    tab.wait_for_url(re.compile("latent_reading=parity"))
    expect(tab.get_by_text(re.compile("pause, seed 0: the answer"))).to_be_visible()
    tab.get_by_role("radio", name="Siblings and spaces").click()
    tab.wait_for_url(re.compile("latent_steering=siblings"))
    expect(
        tab.get_by_text(re.compile(r"Beside random vectors as long, accuracy is in z \(latent: .*; pause: "))
    ).to_be_visible()
    tab.get_by_role("radio", name="Which problems need latents?").click()
    tab.wait_for_url(re.compile("latent_need=problems"))
    expect(tab.get_by_text(re.compile("^needs latents: Right with all latents"))).to_be_visible()
