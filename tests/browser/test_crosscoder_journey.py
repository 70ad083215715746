"""The journey of a comparison in a real browser: brush NRN, open a feature, read its example in its chunk, steer by the
feature there.
"""

import re
import sys

import pytest
from playwright.sync_api import expect

from backend.store.publish import publish
from backend.store.store import Store
from backend.store.unit_files import StudyFolder
from tests import intervened_study, small_dictionary, steerable_study
from tests.browser.conftest import serving

FEATURE = 9  # NRN 0.75: the brush keeps it
SELECTED = '.chunk[aria-selected="true"]'


@pytest.fixture(scope="module")
def study(tmp_path_factory, tiny):
    """A study whose model is here, with a crosscoder of it and another model, and examples of one feature."""
    folder = steerable_study.make(tmp_path_factory.mktemp("compared") / "small", tiny("llama"))
    name = intervened_study.add_dictionary(folder, [tiny("llama").model_id, "m0"], 64)
    store = Store(folder)
    cots, chunks = store.tokenised_cots(), store.whole_table("chunks").to_pylist()
    store.close()
    tables = {
        "cot_codes": [small_dictionary._codes(name, cot) for cot in cots],
        "feature_examples": [row | {"feature": FEATURE} for row in small_dictionary._examples(name, 1, cots, chunks)],
    }
    with StudyFolder(folder).writing("test") as writer:
        writer.add("codes", "all", tables)
        publish(writer)
    return folder


@pytest.fixture(scope="module")
def server(chromium, study, tmp_path_factory):
    command = [sys.executable, "-m", "streamlit", "run", "app/main.py"]
    with serving(command, study, tmp_path_factory.mktemp("server"), own_cache=True) as address:
        yield address


def reach(tab, number: int):
    """The drawing area of a chart, scrolled to: one below the fold is drawn when it is reached."""
    drawn = tab.locator(".js-plotly-plot").nth(number).locator(".nsewdrag")
    below = tab.get_by_text(("Drag over a range", "Click a mark to select")[number])
    for _ in range(60):
        if below.count():
            below.evaluate("element => element.scrollIntoView({block: 'end', behavior: 'instant'})")
        tab.wait_for_timeout(500)
        if drawn.count():
            break
    expect(drawn).to_be_visible()
    return drawn.bounding_box()


def test_a_range_of_nrn_leads_to_a_feature_its_example_the_chunk_and_steering_by_it(tab, server, study):
    tab.goto(f"{server}/crosscoder?study=small")
    box = reach(tab, 0)
    middle = box["y"] + box["height"] / 2
    tab.mouse.move(box["x"] + 0.70 * box["width"], middle)
    tab.mouse.down()
    tab.mouse.move(box["x"] + 0.80 * box["width"], middle, steps=8)
    tab.mouse.up()
    tab.wait_for_url(re.compile("feature_filters="))
    expect(tab.get_by_text("1 of 12 features")).to_be_visible()

    marks, chart = reach(tab, 1), tab.locator(".js-plotly-plot").nth(1)
    expect(chart.locator(".gl-canvas").first).to_be_attached()
    x, y = marks["x"] + marks["width"] * 0.77 / 1.04, marks["y"] + marks["height"] / 2  # NRN 0.75, both scalings 1
    tab.mouse.move(x - 3, y)
    tab.mouse.move(x, y, steps=3)
    expect(chart.locator(".hoverlayer .hovertext").first).to_be_visible()
    tab.mouse.click(x, y)
    tab.get_by_role("link", name=f"Open feature {FEATURE}").click()
    tab.wait_for_url(re.compile("/feature"))
    expect(tab.get_by_role("heading", name=f"Feature {FEATURE}")).to_be_visible()
    example = tab.locator(".example").nth(1)
    where = int(re.search(r"chunk (\d+)", example.locator(".where").inner_text())[1])
    example.get_by_role("button", name="Read its chunk").click()
    expect(tab.locator(SELECTED)).to_have_count(1)
    expect(tab.get_by_role("heading", name=f"Chunk {where} of")).to_be_visible()
    chunk = tab.locator(SELECTED).get_attribute("data-id")
    cots = Store(study).frame("SELECT cot_id FROM feature_examples ORDER BY rank")["cot_id"]
    assert chunk.startswith(cots[1])

    tab.get_by_role("link", name="Feature", exact=True).click()
    tab.get_by_role("button", name="Steer by it").click()
    tab.get_by_test_id("stPopoverBody").get_by_role("combobox").last.click()
    tab.get_by_role("option", name="base").click()
    tab.get_by_role("button", name="Open on the Steering page").click()
    tab.wait_for_url(re.compile("/steering"))
    expect(tab.locator(SELECTED)).to_have_attribute("data-id", chunk)
    expect(tab.locator(".st-key-intervention")).to_contain_text(f"of the decoder row of feature {FEATURE} at layer 1")
    button = tab.locator(".st-key-run_button button")
    expect(button).to_be_enabled()
    button.click()
    expect(tab.locator(".streams .token").nth(3)).to_be_attached()
    assert tab.foreign == []
