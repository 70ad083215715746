"""Journeys through the page Geometry in a real browser: from a bin of a histogram of cosines to both features, a part
by its link, from words to a direction in the library, and how far the models part beside a picker of layers.
"""

import re
import sys
from contextlib import closing

import pytest
from playwright.sync_api import expect

from app.geometry.views import PARTS
from backend.models.word_contexts import vocabulary
from backend.store.library import Library
from backend.store.packed import unpack
from backend.store.publish import publish
from backend.store.store import Store
from backend.store.unit_files import StudyFolder
from tests import parallelogram_study, steerable_study
from tests.browser.conftest import ROOT, serving

COMMAND = [sys.executable, "-m", "streamlit", "run", "app/main.py"]
PLACE_OF_MARK = """
(mark) => {
  for (const chart of document.querySelectorAll(".js-plotly-plot")) {
    for (const trace of chart._fullData ?? []) {
      const number = (trace.customdata ?? []).findIndex((one) => Array.isArray(one) && one[0] === mark);
      if (number < 0) continue;
      const layout = chart._fullLayout;
      const x = layout["xaxis" + trace.xaxis.slice(1)], y = layout["yaxis" + trace.yaxis.slice(1)];
      if (!x?.d2p || !y?.d2p) return null;
      chart.scrollIntoView({block: "center", behavior: "instant"});
      const box = chart.getBoundingClientRect();
      return [box.x + x._offset + x.d2p(trace.x[number]), box.y + y._offset + y.d2p(trace.y[number])];
    }
  }
  return null;
}
"""


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return unpack(ROOT / "assets" / "demo", tmp_path_factory.mktemp("stores") / "demo.duckdb")


@pytest.fixture(scope="module")
def demo_server(chromium, demo, tmp_path_factory):
    with serving(COMMAND, demo, tmp_path_factory.mktemp("server"), own_cache=True) as address:
        yield address


def bin_with_a_pair(study) -> tuple[str, int, int]:
    """A bin of the dictionary's base rows that one kept pair is in whose features both fire: its mark, the features."""
    with closing(Store(study)) as store:
        tails = store.cosine_tails("dictionary")
        own = tails[(tails["subset"] == "all") & tails["drawn_from"].isna() & (tails["role"] == "base")].iloc[0]
        pairs = store.cosine_pairs(str(own["set_id"]))
        fires = set(store.frame("SELECT DISTINCT feature FROM feature_examples")["feature"])
    drawn = pairs[pairs["is_drawn"].astype(bool) & (pairs["cosine"] > 0)]
    bins = ((drawn["cosine"] - own["first_edge"]) // own["bin_width"]).astype(int)
    alone = drawn[~bins.duplicated(keep=False) & drawn["a"].isin(fires) & drawn["b"].isin(fires)]
    row = alone.loc[alone["cosine"].idxmax()]
    return f"{own['set_id']}|{bins[row.name] + 1}", int(row["a"]), int(row["b"])


def test_a_bin_of_the_cosines_leads_to_its_pairs_and_both_features_examples(tab, demo_server, demo, chromium):
    mark, *features = bin_with_a_pair(demo)
    tab.goto(f"{demo_server}/geometry?study=demo&geometry_part=cosines&cosine_rows=dictionary")
    expect(tab.get_by_text("Click a mark of a set in a histogram")).to_be_visible()
    tab.wait_for_function(PLACE_OF_MARK, arg=mark)
    tab.wait_for_timeout(500)  # the page has come to rest where it was scrolled
    x, y = tab.wait_for_function(PLACE_OF_MARK, arg=mark).json_value()
    tab.mouse.move(x - 3, y)
    tab.mouse.move(x, y, steps=3)
    expect(tab.locator(".hoverlayer .hovertext").first).to_be_visible()
    tab.mouse.click(x, y)
    tab.wait_for_url(re.compile("cosine_bin="))

    def pairs_and_examples(page) -> None:
        expect(page.get_by_text(re.compile(r"pairs have cos in \(.*\]; 1 of them are kept"))).to_be_visible()
        for feature in features:
            expect(page.get_by_text(f"Feature {feature}", exact=True).first).to_be_visible()
        expect(page.locator(".example").first).to_be_visible()

    pairs_and_examples(tab)
    other = chromium.new_page()
    other.goto(tab.url)
    pairs_and_examples(other)
    other.close()
    tab.locator(".example").first.get_by_role("button", name="Read its chunk").click()
    expect(tab.locator('.chunk[aria-selected="true"]')).to_have_count(1)
    assert tab.foreign == []


def test_each_part_is_in_the_link_which_opens_it_again(tab, demo_server, chromium):
    tab.goto(f"{demo_server}/geometry?study=demo")
    for part in ("shape", "quadruples", "curves"):
        words, views = PARTS[part]
        tab.get_by_role("radio", name=words).or_(tab.get_by_role("button", name=words, exact=True)).first.click()
        tab.wait_for_url(re.compile(f"geometry_part={part}"))
        expect(tab.get_by_role("heading", name=views[0].title)).to_be_visible()
    other = chromium.new_page()
    other.goto(tab.url)
    expect(other.get_by_role("heading", name=views[0].title)).to_be_visible()
    expect(other.get_by_text("Any ordered smooth curve")).to_be_visible()
    other.close()
    assert tab.foreign == []


def test_how_far_the_models_part_stands_beside_a_picker_and_leads_to_all_layers(tab, demo_server):
    tab.goto(f"{demo_server}/latent_map?study=demo&layer=15")
    picker = tab.get_by_test_id("stSelectbox").filter(has_text="Residual stream of")
    picker.get_by_test_id("stTooltipIcon").first.hover()
    said = tab.get_by_test_id("stTooltipContent")
    expect(said).to_contain_text(re.compile(r"Base and reasoner differ here by 0\.\d+ \(relative norm\), CKA 0\.\d+"))
    with tab.context.expect_page() as opened:
        said.get_by_role("link", name="Where the models part").click()
    there = opened.value
    there.wait_for_url(re.compile("/geometry.*geometry_part=parting"))
    expect(there.get_by_text("are equal, bit for bit, up to layer 9")).to_be_visible()
    assert tab.foreign == []


@pytest.fixture(scope="module")
def words(tiny):
    """Three words that the tiny model has as single tokens."""
    return tuple(vocabulary(tiny("llama").tokenizer, leading_space=True).values())[:3]


@pytest.fixture(scope="module")
def steerable(tmp_path_factory, tiny, words):
    """A study whose model is here, with a quadruple of words that it can read."""
    folder = steerable_study.make(tmp_path_factory.mktemp("words") / "small", tiny("llama"))
    parallelogram_study.add(folder, [tiny("llama").model_id])
    with closing(Store(folder)) as store:
        rows = store.whole_table("parallelogram_examples").to_pylist()
    space = {"word_class": "antonym", "cleaning": "raw", "components": 5}
    row = next(row for row in rows if row | space == row)
    corners = dict(zip("abc", words, strict=True))
    with StudyFolder(folder).writing("test") as writer:
        writer.add("parallelograms", "read", {"parallelogram_examples": [row | corners | {"place": 9}]})
        publish(writer)
    return folder


@pytest.fixture(scope="module")
def steerable_server(chromium, steerable, tmp_path_factory):
    with serving(COMMAND, steerable, tmp_path_factory.mktemp("server"), own_cache=True) as address:
        yield address


def test_b_less_a_plus_c_of_words_is_kept_and_steered_along(tab, steerable_server, steerable, words):
    a, b, c = words
    tab.goto(f"{steerable_server}/geometry?study=small&geometry_part=parallelograms&word_class=antonym")
    tab.get_by_role("combobox", name=re.compile("b − a")).click()
    tab.get_by_role("option").filter(has_text=f"{b} − {a} + {c}").click()
    tab.locator(".st-key-analogy_words button").click()
    tab.wait_for_url(re.compile(r"/steering.*direction=library"))
    expect(tab.locator(".st-key-intervention")).to_contain_text(f"{b} − {a} + {c}, layer 1")
    (name,) = Library(steerable).vectors()["name"]
    assert name.startswith(f"{b} − {a} + {c}, layer 1")
    tab.reload()
    expect(tab.locator(".st-key-intervention")).to_contain_text(f"“{name}”")
    assert tab.foreign == []
