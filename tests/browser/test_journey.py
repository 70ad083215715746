"""The main journeys, in a real browser: what a person does in the first five minutes."""

import re
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import expect

from backend.store.store import Store
from tests.browser.conftest import serving

SELECTED = '.chunk[aria-selected="true"]'


def chunk_in_url(tab) -> str:
    tab.wait_for_url(re.compile("[?&]chunk="))
    return parse_qs(urlsplit(tab.url).query)["chunk"][0]


def open_reader(tab, address: str) -> None:
    tab.goto(address)
    tab.get_by_role("link", name="Workspace").click()
    expect(tab.locator(SELECTED)).to_have_count(1)
    expect(tab.locator("dialog.sheet[data-listening]")).to_be_attached()  # keys are listened to


def put_into_the_dock(tab, view: str) -> None:
    tab.locator(".st-key-dock_views").get_by_text(re.compile(f"^([1-9] )?{view}$")).click()


def wait_for_chunk(tab, chunk: str) -> None:
    """Until both the reader and the URL show the chunk."""
    expect(tab.locator(SELECTED)).to_have_attribute("data-id", chunk)
    tab.wait_for_url(re.compile(f"chunk={chunk}"))


def test_j_and_k_move_through_the_text_and_the_url_follows(tab, server):
    open_reader(tab, server)
    first = tab.locator(SELECTED).get_attribute("data-id")
    following = tab.locator(f'.chunk[data-id="{first}"] ~ .chunk').first.get_attribute("data-id")

    tab.keyboard.press("j")
    wait_for_chunk(tab, following)
    number = int(following.rsplit("_", 1)[1]) + 1
    expect(tab.get_by_role("heading", name=f"Chunk {number} of")).to_be_visible()

    tab.keyboard.press("k")
    wait_for_chunk(tab, first)
    tab.keyboard.press("ArrowDown")
    wait_for_chunk(tab, following)


def test_a_held_key_ends_on_the_chunk_it_reached(tab, server):
    open_reader(tab, server)
    ids = tab.locator(".chunk").evaluate_all("chunks => chunks.map(chunk => chunk.dataset.id)")
    tab.locator(".chunk").first.click()
    wait_for_chunk(tab, ids[0])
    for _ in range(6):
        tab.keyboard.press("j")
    wait_for_chunk(tab, ids[6])
    expect(tab.get_by_role("heading", name="Chunk 7 of")).to_be_visible()
    assert tab.locator(SELECTED).get_attribute("data-id") == ids[6]


def test_a_link_shows_the_same_view_after_a_reload_and_in_a_new_browser(tab, chromium, server):
    open_reader(tab, server)
    put_into_the_dock(tab, "KL curve")
    tab.wait_for_url(re.compile("dock=metrics.rollouts.steering"))
    tab.keyboard.press("j")
    tab.wait_for_function("old => !location.search.includes(old)", arg=chunk_in_url(tab))
    link, chunk = tab.url, chunk_in_url(tab)

    tab.reload()
    wait_for_chunk(tab, chunk)
    expect(tab.get_by_text("Dissimilar (cosine < 0.8)")).to_be_visible()

    elsewhere = chromium.new_context(viewport={"width": 1440, "height": 900}).new_page()
    elsewhere.goto(link)
    wait_for_chunk(elsewhere, chunk)
    expect(elsewhere.get_by_text("Dissimilar (cosine < 0.8)")).to_be_visible()
    elsewhere.context.close()


def test_back_undoes_one_step_and_leaves_a_page(tab, server):
    open_reader(tab, server)
    first = chunk_in_url(tab)
    tab.keyboard.press("j")
    tab.wait_for_function("old => !location.search.includes(old)", arg=first)
    second = chunk_in_url(tab)
    tab.get_by_role("link", name="Latent map").click()
    expect(tab.get_by_role("heading", name="Latent map", exact=True)).to_be_visible()
    tab.go_back()
    wait_for_chunk(tab, second)
    tab.go_back()
    wait_for_chunk(tab, first)


def test_choosing_a_chain_of_thought_opens_its_text(tab, server):
    open_reader(tab, server)
    before = tab.locator(SELECTED).get_attribute("data-id").rsplit("_", 1)[0]
    tab.locator(".st-key-search_chain button").click()
    tab.get_by_role("combobox", name=re.compile("Chain of thought")).click()
    tab.get_by_role("option").filter(has_text="sample 0").click()
    expect(tab.locator(SELECTED)).not_to_have_attribute("data-id", re.compile(before))
    expect(tab.get_by_text("54 (given)")).to_be_visible()


def test_a_click_on_the_map_selects_its_chunk_there(tab, server):
    open_reader(tab, server)
    before = chunk_in_url(tab)
    tab.get_by_role("link", name="Latent map").click()
    chart = tab.locator(".js-plotly-plot")
    expect(chart.locator(".gl-canvas").first).to_be_attached()
    x, y, chunk = tab.wait_for_function(PIXELS_OF_A_LONELY_POINT, arg=before).json_value()
    box = chart.bounding_box()
    tab.mouse.move(box["x"] + x, box["y"] + y)
    expect(chart.locator(".hoverlayer .hovertext").first).to_be_visible()
    tab.mouse.click(box["x"] + x, box["y"] + y)
    tab.wait_for_url(re.compile(f"chunk={chunk}"))
    assert "/latent_map" in tab.url and chunk != before
    tab.get_by_role("button", name="Open in the workspace").click()
    wait_for_chunk(tab, chunk)


def test_a_box_around_every_point_lists_them_and_a_row_selects_its_chunk(tab, server, study):
    open_reader(tab, server)
    tab.get_by_role("link", name="Latent map").click()
    chart = tab.locator(".js-plotly-plot")
    expect(chart.locator(".gl-canvas").first).to_be_attached()
    chart.hover()
    chart.locator('[data-title="Box Select"]').click()
    box = chart.locator(".nsewdrag").bounding_box()
    tab.mouse.move(box["x"] + 2, box["y"] + 2)
    tab.mouse.down()
    tab.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.5, steps=5)
    tab.mouse.move(box["x"] + box["width"] - 2, box["y"] + box["height"] - 2, steps=5)
    tab.mouse.up()
    expect(tab.get_by_text("chunks in the selection")).to_be_visible()
    row = tab.get_by_test_id("stDataFrame").last
    row.scroll_into_view_if_needed()
    model = Store(study).models()["model_id"][0]
    first = Store(study).map_points(model, 5, "umap_2d", "").iloc[0].chunk_id
    row.click(position={"x": 16, "y": 48})
    tab.wait_for_url(re.compile(f"chunk={first}"))


def test_what_a_model_wrote_is_only_ever_text(tab, server):
    open_reader(tab, server)
    texts = tab.locator(".chunk").all_text_contents()
    assert any("<img src=x onerror=" in text for text in texts)
    assert any("![pixel](http://tracker.invalid/p.png)" in text for text in texts)
    assert any("<script>" in text for text in texts)
    assert any("$\\href{http://tracker.invalid/h}{x}$ <b>bold</b>" in text for text in texts)
    for panel in ("Neighbours", "Influence"):
        put_into_the_dock(tab, panel)
        tab.wait_for_url(re.compile(f"dock=[^&]*{panel.lower()}"))
    tab.locator(".st-key-search_chain button").click()
    tab.get_by_role("combobox", name=re.compile("Problem")).click()
    tab.get_by_role("option").filter(has_text="<img src=x").click()
    expect(tab.locator("[data-testid=stText]").filter(has_text="<img src=x onerror=").first).to_be_visible()
    tab.keyboard.press("Escape")  # closes the list of chains
    for name in ("Latent map", "Steepness and importance", "About this study"):
        tab.get_by_role("link", name=name).click()
        expect(tab.get_by_role("heading", name=name, exact=True)).to_be_visible()
    assert tab.title() == "Anchorscope"
    assert tab.locator("img[src=x], script:text('owned')").count() == 0
    assert tab.foreign == []


def test_a_new_generation_appears_without_a_reload(tab, server, study):
    from backend.store.publish import publish
    from backend.store.unit_files import StudyFolder
    from tests.small_study import problem

    tab.goto(f"{server}/overview")
    cell = tab.get_by_test_id("stMetric").filter(has_text="Problems")
    expect(cell.get_by_text("3", exact=True)).to_be_visible()
    with StudyFolder(study).writing("test") as writer:
        writer.add("problems", "late", {"problems": [problem(99)]})
        publish(writer)
    expect(cell.get_by_text("4", exact=True)).to_be_visible()


def test_it_also_starts_by_the_streamlit_command(tab, chromium, study, tmp_path):
    command = Path(sys.executable).with_name("streamlit")
    if not command.exists():
        pytest.skip("the streamlit command is not beside this Python")
    with serving([str(command), "run", "app/main.py"], study, tmp_path) as address:
        open_reader(tab, address)


def test_a_click_on_the_steepness_figure_selects_its_chunk_beside_it(tab, server):
    open_reader(tab, server)
    before = chunk_in_url(tab)
    tab.get_by_role("link", name="Steepness and importance").click()
    chart = tab.locator(".js-plotly-plot").first
    expect(chart.locator(".gl-canvas").first).to_be_attached()
    x, y, chunk = tab.wait_for_function(PIXELS_OF_A_LONELY_POINT, arg=before).json_value()
    box = chart.bounding_box()
    tab.mouse.click(box["x"] + x, box["y"] + y)
    tab.wait_for_url(re.compile(f"chunk={chunk}"))
    expect(tab.get_by_role("heading", name=f"Chunk {int(chunk.rsplit('_', 1)[1]) + 1}", exact=True)).to_be_visible()


PIXELS_OF_A_LONELY_POINT = """
(avoid) => {
  const chart = document.querySelector(".js-plotly-plot");
  const layout = chart?._fullLayout, xaxis = layout?.xaxis, yaxis = layout?.yaxis;
  if (!xaxis || !chart._fullData || !chart._fullData.length) return null;
  const points = [];
  for (const trace of chart._fullData) {
    const ids = chart.data[trace.index].customdata;
    if (trace.mode !== "markers" || !ids) continue;
    for (let k = 0; k < trace.x.length; k++) {
      points.push([xaxis._offset + xaxis.d2p(trace.x[k]), yaxis._offset + yaxis.d2p(trace.y[k]), ids[k]]);
    }
  }
  const cot = avoid.slice(0, avoid.lastIndexOf("_"));
  const lonely = points.filter((p) => !p[2].startsWith(cot))
    .map((p) => [Math.min(...points.filter((q) => q !== p).map((q) => Math.hypot(p[0] - q[0], p[1] - q[1]))), p])
    .sort((a, b) => b[0] - a[0]);
  return lonely.length ? lonely[0][1] : null;
}
"""
