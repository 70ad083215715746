"""The journey of influence in a real browser: a threshold is set, an arc and a cell are clicked, a head is chosen; the
link keeps each.
"""

import re
import sys

import duckdb
import pytest
from playwright.sync_api import expect

from backend.store.store import Store, generation_of
from tests import influence_study, small_dictionary, small_study
from tests.browser.conftest import serving

# Where a point of the chart with such an axis title is on the screen.
POINT = """
([title, x, y]) => {
  const charts = [...document.querySelectorAll(".js-plotly-plot")];
  const chart = charts.find((one) => one._fullLayout?.xaxis?.title?.text === title);
  const layout = chart?._fullLayout;
  if (!layout?.xaxis?.d2p) return null;
  chart.scrollIntoView({block: "center"});
  const box = chart.getBoundingClientRect();
  return [box.x + layout.xaxis._offset + layout.xaxis.d2p(x), box.y + layout.yaxis._offset + layout.yaxis.d2p(y)];
}
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = small_study.make(tmp_path_factory.mktemp("influenced") / "small")
    small_dictionary.add(folder)  # with it comes the distilled model
    influence_study.add(folder).close()
    with duckdb.connect(str(generation_of(folder))) as connection:
        connection.execute("UPDATE models SET role = 'base' WHERE role = 'model'")
    return folder


@pytest.fixture(scope="module")
def server(chromium, study, tmp_path_factory):
    command = [sys.executable, "-m", "streamlit", "run", "app/main.py"]
    with serving(command, study, tmp_path_factory.mktemp("server"), own_cache=True) as address:
        yield address


@pytest.fixture(scope="module")
def chunks(study):
    found = influence_study.read_chunks(Store(study))
    return max(found.values(), key=len)


def click(tab, title: str, x: float, y: float) -> None:
    """Click a point of a chart, once it says what is there: until then the page may still move."""
    said = tab.locator(".hoverlayer .hovertext").first
    for _ in range(60):
        across, down = tab.wait_for_function(POINT, arg=[title, x, y]).json_value()
        tab.mouse.move(across - 2, down)
        tab.mouse.move(across, down, steps=3)
        tab.wait_for_timeout(1000)
        if said.is_visible():
            break
    expect(said).to_be_visible()
    tab.mouse.click(across, down)


def test_an_arc_locks_a_chunk_keys_walk_on_and_the_threshold_is_in_the_link(tab, server, chunks):
    tab.goto(f"{server}/chains_of_thought?study=small&chunk={chunks[0]}&chunk_panel=influence&influence_above=0")
    arcs = tab.locator(".arcs")
    expect(arcs.locator(".row")).to_have_count(len(chunks))
    n = len(chunks) * (len(chunks) - 1) // 2
    tab.wait_for_function(
        "n => [...document.querySelectorAll('*')].some((one) => "
        "(one.shadowRoot?.querySelectorAll('.link').length ?? 0) > n)",
        arg=n * 0.8,
    )
    expect(arcs.locator(".link.out").first).to_be_attached()

    for _ in range(60):  # until the page no longer moves under the pointer
        arcs.locator(".row").nth(3).hover()
        tab.wait_for_timeout(500)
        if arcs.locator(".link.in").count() == 3:
            break
    expect(arcs.locator(".link.in")).to_have_count(3)  # of three earlier chunks
    arcs.locator(".row").nth(3).click()
    expect(arcs.locator(".row").nth(3)).to_have_attribute("aria-selected", "true")
    tab.wait_for_url(re.compile(f"chunk={chunks[3]}"))
    expect(tab.locator('.reader .chunk[aria-selected="true"] .badge')).to_have_text("4")

    tab.keyboard.press("j")
    tab.wait_for_url(re.compile(f"chunk={chunks[4]}"))
    expect(arcs.locator(".row").nth(4)).to_have_attribute("aria-selected", "true")

    tab.locator(".st-key-dock_influence").get_by_role("button", name="More").click()
    threshold = tab.get_by_role("spinbutton", name=re.compile("Links of at least"))
    threshold.fill("0.3")
    threshold.press("Enter")
    tab.wait_for_url(re.compile(r"influence_above=0\.3"))
    expect(tab.get_by_text(re.compile("those of at least 0.3 nats"))).to_be_visible()
    assert arcs.locator(".link").count() < n / 2 and tab.foreign == []


def test_a_cell_of_the_matrix_goes_to_the_chunk_acted_on_and_from_there_to_the_one_that_acts(tab, server, chunks):
    tab.goto(f"{server}/chains_of_thought?study=small&chunk={chunks[0]}&chunk_panel=influence&influence_shown=map")
    click(tab, "chunk that acts", 2, 6)
    tab.wait_for_url(re.compile(f"chunk={chunks[5]}"))
    expect(tab.get_by_role("heading", name="Chunk 6 of")).to_be_visible()
    click(tab, "chunk that acts", 2, 6)
    tab.wait_for_url(re.compile(f"chunk={chunks[1]}"))
    expect(tab.get_by_role("heading", name="Chunk 2 of")).to_be_visible()


def test_a_head_of_the_page_is_chosen_and_its_curve_is_of_the_chain(tab, server, chunks):
    tab.goto(f"{server}/influence?study=small&chunk={chunks[0]}")
    expect(tab.get_by_text(re.compile("^In this study: base, "))).to_be_visible()
    tab.get_by_role("radio", name="Receiver heads").or_(tab.get_by_role("button", name="Receiver heads")).first.click()
    tab.wait_for_url(re.compile("influence_page=heads"))
    expect(tab.get_by_text("Layer 0, head 0: what each chunk of the chain receives")).to_be_visible()
    click(tab, "head", 0, 1)
    tab.wait_for_url(re.compile(r"influence_head=1\.0"))
    expect(tab.get_by_text("Layer 1, head 0: what each chunk of the chain receives")).to_be_visible()
    tab.go_back()
    expect(tab.get_by_text("Layer 0, head 0: what each chunk of the chain receives")).to_be_visible()
    assert tab.foreign == []
