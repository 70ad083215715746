"""The journey of a lens in a real browser: a cell of the map is clicked; its tokens, its chunk and the link follow."""

import re
import sys

import pytest
from playwright.sync_api import expect

from tests import lensed_study, steerable_study
from tests.browser.conftest import serving

CELL = """
([layer, place]) => {
  const chart = [...document.querySelectorAll(".js-plotly-plot")].find(
    (one) => one.data?.some((trace) => trace.type === "heatmap"));
  const layout = chart?._fullLayout;
  if (!layout?.xaxis?.d2p) return null;
  const box = chart.getBoundingClientRect();
  return [box.x + layout.xaxis._offset + layout.xaxis.d2p(place), box.y + layout.yaxis._offset
    + layout.yaxis.d2p(layer)];
}
"""
SELECTED = '.chunk[aria-selected="true"]'


@pytest.fixture(scope="module")
def study(tmp_path_factory, tiny):
    folder = steerable_study.make(tmp_path_factory.mktemp("lensed") / "small", tiny("llama"))
    lensed_study.add(folder, tiny("llama"))
    return folder


@pytest.fixture(scope="module")
def server(chromium, study, tmp_path_factory):
    command = [sys.executable, "-m", "streamlit", "run", "app/main.py"]
    with serving(command, study, tmp_path_factory.mktemp("server"), own_cache=True) as address:
        yield address


def click(tab, layer: int, place: int):
    x, y = tab.wait_for_function(CELL, arg=[layer, place]).json_value()
    tab.mouse.move(x - 2, y)
    tab.mouse.move(x, y, steps=3)
    expect(tab.locator(".hoverlayer .hovertext").first).to_be_visible()
    tab.mouse.click(x, y)


def test_a_clicked_cell_shows_its_likeliest_tokens_and_its_chunk_and_the_link_opens_it_again(tab, server, chromium):
    tab.goto(f"{server}/lenses?study=small")
    expect(tab.get_by_text(re.compile("whole map .* GFLOP"))).to_be_visible()
    click(tab, 2, 3)
    tab.wait_for_url(re.compile("layer=2"))
    expect(tab.get_by_text(re.compile(r"Layer 2, token \d+ .* of chunk 3: what comes next"))).to_be_visible()
    expect(tab.locator(SELECTED)).to_have_attribute("data-id", re.compile("_0002$"))
    link = tab.url
    assert re.search(r"chunk=\w+_0002", link)

    other = chromium.new_page()
    other.goto(link)
    expect(other.get_by_text(re.compile(r"Layer 2, token \d+ .* of chunk 3: what comes next"))).to_be_visible()
    other.close()

    tab.locator(".chunk").first.click()
    expect(tab.get_by_text(re.compile(r"Layer 2, token \d+ .* of chunk 1: what comes next"))).to_be_visible()
    tab.get_by_role("link", name="Steering", exact=True).click()
    expect(tab.locator(SELECTED)).to_have_attribute("data-id", re.compile("_0000$"))
    assert "layer=2" in tab.url and tab.foreign == []
