"""The workspace in a real browser: a whole journey by keyboard alone, and what a choice draws anew."""

import re
import sys
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import expect

from backend.store.experiments import Experiments
from tests import steerable_study
from tests.browser.conftest import serving

SELECTED = '.chunk[aria-selected="true"]'


@pytest.fixture(scope="module")
def steerable(tmp_path_factory, tiny):
    return steerable_study.make(tmp_path_factory.mktemp("worked") / "small", tiny("llama"))


@pytest.fixture(scope="module")
def live_server(chromium, steerable, tmp_path_factory):
    command = [sys.executable, "-m", "streamlit", "run", "app/main.py"]
    with serving(command, steerable, tmp_path_factory.mktemp("server"), own_cache=True) as address:
        yield address


def selected(tab) -> str:
    return tab.locator(SELECTED).get_attribute("data-id")


def chosen(tab) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(tab.url).query).items()}


def wait_for_choice(tab, name: str, value: str) -> None:
    tab.wait_for_function(
        "([name, value]) => new URLSearchParams(location.search).get(name) === value", arg=[name, value]
    )


def opened(tab, link: str) -> None:
    """Go there, until a chunk is selected and keys are listened to."""
    tab.goto(link)
    expect(tab.locator(SELECTED)).to_have_count(1)
    expect(tab.locator("dialog.sheet[data-listening]")).to_be_attached()


def at_rest(tab) -> list[float]:
    """How far down each view of the dock stands, once that has stayed for a second."""
    where, before = "[...document.querySelectorAll('[class*=st-key-dock_]')].map(one => one.offsetTop)", None
    while (now := tab.evaluate(where)) != before:
        before = now
        tab.wait_for_timeout(1000)
    return now


def tab_to(tab, words: str) -> None:
    """Press Tab until the button of these words has the focus."""
    for _ in range(200):
        tab.keyboard.press("Tab")
        if tab.evaluate("document.activeElement?.innerText ?? ''").strip().endswith(words):
            return
    raise AssertionError(f"no button {words!r} is reached by Tab")


def test_find_compare_steer_and_keep_by_keyboard_alone(tab, live_server, steerable):
    opened(tab, f"{live_server}/chains_of_thought?study=small")
    first = selected(tab)

    tab.keyboard.press("?")
    expect(tab.get_by_role("dialog", name="Keys")).to_be_visible()
    expect(tab.get_by_role("dialog", name="Keys")).to_contain_text("pin what is open")
    tab.keyboard.press("Escape")
    expect(tab.get_by_role("dialog", name="Keys")).not_to_be_visible()

    tab.keyboard.press("p")  # the chunk, to compare with
    wait_for_choice(tab, "pinned_chunk", first)
    tab.keyboard.press("K")  # the chain before: the last one was open
    expect(tab.locator(SELECTED)).not_to_have_attribute("data-id", first)
    expect(tab.get_by_text(re.compile("^Problem .* beside Problem "))).to_be_visible()
    second = selected(tab)
    tab.keyboard.press("k" if second.endswith("_0003") else "j")
    expect(tab.locator(SELECTED)).not_to_have_attribute("data-id", second)
    third = selected(tab)
    wait_for_choice(tab, "chunk", third)

    tab.keyboard.press("u")
    wait_for_choice(tab, "chunk", second)
    expect(tab.locator(SELECTED)).to_have_attribute("data-id", second)
    expect(tab.locator('[class*="st-key-redo"] button').first).to_be_enabled()
    tab.keyboard.press("U")
    wait_for_choice(tab, "chunk", third)

    tab.keyboard.press("s")
    tab.wait_for_url(re.compile("dock=[^&]*steer"))
    expect(tab.get_by_role("button", name="Steer", exact=True).last).to_be_enabled()
    tab_to(tab, "Steer")
    tab.keyboard.press("Enter")
    tab.wait_for_url(re.compile("run="))
    expect(tab.locator(".streams .token").nth(3)).to_be_attached()
    run = chosen(tab)["run"]
    while Experiments(steerable).get(run) is None:  # it is kept when it has ended
        tab.wait_for_timeout(500)
    assert tab.url.split("?")[0].endswith("/chains_of_thought") and tab.foreign == []


def test_a_stranger_comes_from_the_first_page_to_a_controlled_result_in_few_clicks(tab, live_server, steerable):
    """No field is typed into: what is steered, how far and beside which control is what the pages open with."""
    clicked = []

    def click(there) -> None:
        expect(there).to_be_enabled()
        there.click()
        clicked.append(there)

    tab.goto(live_server)
    click(tab.get_by_role("link", name="Workspace"))
    click(tab.locator(".chunk").nth(1))
    tab.wait_for_url(re.compile("chunk=.*_0001"))
    click(tab.get_by_role("button", name="7 Steer"))
    docked = tab.locator(".st-key-dock_steer")
    click(docked.get_by_role("button", name="More"))
    click(tab.get_by_role("radio", name="Many").or_(tab.get_by_role("button", name="Many", exact=True)).first)
    tab.wait_for_url(re.compile("run_kind=continue"))
    click(docked.get_by_role("button", name=re.compile("^Continue")))
    expect(tab.get_by_text("compared in pairs")).to_be_visible()
    assert len(clicked) <= 20
    arms = {sample["arm"] for sample in Experiments(steerable).samples(chosen(tab)["run"]).to_dict("records")}
    assert arms == {"base", "changed", "random"}


def test_keys_1_to_9_put_views_into_the_dock_and_back_takes_them_out(tab, server):
    opened(tab, f"{server}/chains_of_thought?study=small")
    tab.keyboard.press("2")
    wait_for_choice(tab, "dock", "metrics.rollouts.steering")
    expect(tab.locator(".st-key-dock_steering")).to_be_visible()
    tab.keyboard.press("1")
    wait_for_choice(tab, "dock", "metrics.steering")
    expect(tab.locator(".st-key-dock_rollouts")).to_have_count(0)
    tab.go_back()
    wait_for_choice(tab, "dock", "metrics.rollouts.steering")
    expect(tab.locator(".st-key-dock_rollouts")).to_be_visible()


def test_nothing_jumps_when_a_metric_or_a_chunk_is_chosen(tab, server):
    opened(tab, f"{server}/chains_of_thought?study=small&dock=metrics.neighbours&dock_arranged=columns")
    expect(tab.locator(".st-key-dock_neighbours")).to_contain_text("largest cosine")
    tab.evaluate("document.fonts.ready.then(() => null)")  # before, words take other room
    heights = at_rest(tab)
    bar = tab.get_by_role("combobox", name=re.compile("Metric"))
    bar.click()
    tab.get_by_role("option").nth(2).click()
    tab.wait_for_url(re.compile("metric="))
    tab.evaluate("document.activeElement.blur()")  # letters typed into a choice look for an option
    before = selected(tab)
    tab.keyboard.press("k" if before.endswith("_0003") else "j")
    expect(tab.locator(SELECTED)).not_to_have_attribute("data-id", before)
    wait_for_choice(tab, "chunk", selected(tab))
    assert at_rest(tab) == heights


def test_a_click_on_the_map_of_the_dock_selects_and_stays(tab, server):
    from tests.browser.test_journey import PIXELS_OF_A_LONELY_POINT

    tab.goto(f"{server}/chains_of_thought?study=small&dock=map")
    chart = tab.locator(".js-plotly-plot").last
    expect(chart.locator(".gl-canvas").first).to_be_attached()
    script = PIXELS_OF_A_LONELY_POINT.replace(
        'document.querySelector(".js-plotly-plot")', 'document.querySelector(".st-key-dock_map .js-plotly-plot")'
    )
    x, y, chunk = tab.wait_for_function(script, arg=selected(tab)).json_value()
    box = chart.bounding_box()
    tab.mouse.click(box["x"] + x, box["y"] + y)
    wait_for_choice(tab, "chunk", chunk)
    expect(tab.locator(SELECTED)).to_have_attribute("data-id", chunk)
    assert tab.url.split("?")[0].endswith("/chains_of_thought")
