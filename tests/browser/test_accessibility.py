"""Every page, in the light and in the dark, is for everybody: axe-core finds no serious fault on it, its headings are
in order, its charts have names and words, nothing of a chart is faint, cut or covered, and whatever has the focus shows
it.

The pages show the studies that are shipped, so that every view is drawn with what it was made for.
"""

import sys
from pathlib import Path

import pytest
from playwright.sync_api import TimeoutError as PlaywrightTimeout

from app.shell.navigation import PAGES
from backend.store.packed import unpack
from tests.browser.conftest import ROOT, serving

THEMES = ("light", "dark")
WORST = ("serious", "critical")
ALSO = ("heading-order",)  # which axe calls moderate
SHIPPED = ("demo", "latent-study")
LATENT = "latent_steps"  # has a study of its own

# What Streamlit draws so and leaves us no way to draw otherwise: (rule, part of the element's selector) and why.
STREAMLITS_OWN: dict[tuple[str, str], str] = {}

AXE = """
async (also) => (await axe.run(document, {resultTypes: ["violations"]})).violations
  .filter((fault) => ["serious", "critical"].includes(fault.impact) || also.includes(fault.id))
  .flatMap((fault) => fault.nodes.map((node) => ({
    rule: fault.id, html: node.html.slice(0, 160),
    element: node.target.flat().join(" ").split(" > ").slice(-2).join(" > "),
    why: [...node.any, ...node.all, ...node.none].map((check) => check.message).join("; ").slice(0, 240),
  })))
"""
# Words of charts whose colour is too close to the page's: those that lie on the page, not on a mark.
FAINT_WORDS = """
() => {
  const parts = (colour) => (colour.match(/[\\d.]+/g) ?? [0, 0, 0, 0]).map(Number);
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = [];
  for (const chart of document.querySelectorAll(".js-plotly-plot")) {
    let page = chart;
    while (page && (parts(getComputedStyle(page).backgroundColor)[3] ?? 1) === 0) page = page.parentElement;
    const ground = parts(getComputedStyle(page ?? document.body).backgroundColor).slice(0, 3);
    const words = ".xtick text, .ytick text, [class*=title] text, .legendtext, .annotation-text";
    for (const text of chart.querySelectorAll(words)) {
      const box = text.closest(".annotation-text-g")?.querySelector("rect.bg");
      if (!text.textContent.trim() || Number(box?.style.fillOpacity) > 0) continue;
      const style = getComputedStyle(text), ink = parts(style.fill);
      const alpha = (ink[3] ?? 1) * Number(style.fillOpacity) * Number(style.opacity);
      const seen = ink.slice(0, 3).map((c, k) => alpha * c + (1 - alpha) * ground[k]);
      const [high, low] = [luminance(seen), luminance(ground)].sort((a, b) => b - a);
      const contrast = (high + 0.05) / (low + 0.05);
      if (contrast < 4.5) found.push(`${text.textContent.trim().slice(0, 40)}: ${contrast.toFixed(2)}`);
    }
  }
  return found;
}
"""
# Words of a chart that lie on each other, legends that cover marks, and what is cut at the chart's edge.
COLLISIONS = """
() => {
  const found = [], words = (node) => node.textContent.trim().slice(0, 30);
  const along = (a, b, low, high) => Math.min(a[high], b[high]) - Math.max(a[low], b[low]);
  const common = (a, b) => Math.min(along(a, b, "left", "right"), along(a, b, "top", "bottom"));
  const kinds = {
    title: "[class^=g-][class*=title] text", tick: "[class$=tick] text", legend: ".legend", note: ".annotation-text",
    scale: ".colorbar", plot: ".nsewdrag",
  };
  const apart = {
    title: ["title", "tick", "legend", "note", "scale"], legend: ["title", "tick", "note", "plot", "scale"],
    tick: ["title", "legend", "tick", "note", "scale"], note: ["title", "legend", "tick", "note"],
    scale: ["title", "legend", "tick"], plot: ["legend"],
  };
  for (const chart of document.querySelectorAll(".js-plotly-plot")) {
    const frame = chart.getBoundingClientRect(), parts = [];
    if (!chart.checkVisibility()) continue;
    for (const [kind, selector] of Object.entries(kinds)) {
      for (const node of chart.querySelectorAll(selector)) {
        const box = node.getBoundingClientRect(), inside = kind !== "scale" && node.closest(".colorbar");
        if (box.width && box.height && !inside && (kind === "plot" || words(node))) parts.push({ kind, node, box });
      }
    }
    parts.forEach(({ kind, node, box }, place) => {
      const [left, right] = [frame.left - box.left, box.right - frame.right];
      const out = Math.max(left, right, frame.top - box.top, box.bottom - frame.bottom);
      if (kind !== "plot" && out > 2) found.push(`cut by ${out.toFixed()}: ${kind} “${words(node)}”`);
      for (const other of parts.slice(place + 1)) {
        const turned = kind === "tick" && /rotate\\((?!0)/.test(node.getAttribute("transform") ?? "");
        if (!apart[kind].includes(other.kind) || (turned && other.kind === "tick")) continue;
        if (common(box, other.box) > 3) found.push(`${kind} “${words(node)}” on ${other.kind} “${words(other.node)}”`);
      }
    });
  }
  return found;
}
"""
NAMELESS_CHARTS = """
() => [...document.querySelectorAll(".js-plotly-plot")].filter((chart) => {
  const [name, text] = [chart, chart.querySelector("[role=img]")].map((part) => part?.getAttribute("aria-label") ?? "");
  return !name || name.includes("Click to enter") || text.length < 20;
}).map((chart) => chart.outerHTML.slice(0, 200))
"""
FADED = """
() => document.getAnimations().every((one) => one.playState !== "running"
  || one.effect?.getComputedTiming().endTime === Infinity)
"""
FOCUS_IS_SEEN = """
() => {
  let at = document.activeElement;
  while (at?.shadowRoot?.activeElement) at = at.shadowRoot.activeElement;
  if (!at || at === document.body) return null;
  const marked = (style) =>
    (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0) || style.boxShadow !== "none";
  for (let around = at, up = 0; around && up < 4; around = around.parentElement, up++) {
    if (marked(getComputedStyle(around))) return {seen: true};
  }
  return {seen: false, element: at.outerHTML.slice(0, 160)};
}
"""


@pytest.fixture(scope="session")
def shipped(chromium, tmp_path_factory):
    """Address of a dashboard that knows the shipped studies alone."""
    folder = tmp_path_factory.mktemp("shipped")
    for name in SHIPPED:
        unpack(ROOT / "assets" / name, folder / f"{name}.duckdb")
    with serving([sys.executable, "-m", "streamlit", "run", "app/main.py"], folder, folder) as address:
        yield address


@pytest.fixture(scope="module")
def axe():
    return (Path(pytest.importorskip("axe_playwright_python").__file__).parent / "axe.min.js").read_text("utf-8")


def opened(tab, address: str, name: str) -> None:
    tab.goto(f"{address}/{name}?study={SHIPPED[name == LATENT]}")
    settled(tab)


def settled(tab) -> None:
    tab.wait_for_selector("[data-testid=stMain] :is(h1, h2)")
    tab.wait_for_function(
        "() => document.querySelector('[data-test-script-state=notRunning]')"
        " && !document.querySelector('[data-stale=true], [data-testid=stSkeleton]')"
    )
    tab.wait_for_function(
        "() => [...document.querySelectorAll('.js-plotly-plot')]"
        ".every((chart) => !chart.checkVisibility() || Math.abs(chart._fullLayout?.width - chart.clientWidth) < 2)"
    )
    tab.wait_for_timeout(600)  # ms: the theme has reached the charts, which it draws anew
    tab.wait_for_function(FADED)


def faults_that_stay(tab, axe: str) -> list[str]:
    """What axe finds, and words of charts that are too faint, each time of three: a page that is being drawn anew, as
    one with something live is when it likes, shows its old parts pale.
    """
    for _ in range(3):
        settled(tab)
        tab.evaluate(axe)
        found = [
            f"{fault['rule']}: {fault['element']} {fault['html']} ({fault['why']})"
            for fault in tab.evaluate(AXE, ALSO)
            if not any(fault["rule"] == rule and part in fault["element"] for rule, part in STREAMLITS_OWN)
        ]
        found += [f"words of a chart: {words}" for words in tab.evaluate(FAINT_WORDS)]
        if not found:
            break
    return found


def named(tab) -> None:
    """Waits until every chart has its name: a chart is named once it is drawn, whenever that is."""
    try:
        tab.wait_for_function(f"() => !({NAMELESS_CHARTS})().length")
    except PlaywrightTimeout:
        nameless = tab.evaluate(NAMELESS_CHARTS)
        assert not nameless, f"charts without a name or without words: {nameless}"


@pytest.mark.parametrize("name", PAGES)
def test_a_page_keeps_nobody_out(tab, shipped, axe, name):
    found = []
    opened(tab, shipped, name)
    for theme in THEMES:
        tab.emulate_media(color_scheme=theme)
        found += [f"{name}, {theme}, {fault}" for fault in faults_that_stay(tab, axe)]
    named(tab)
    tab.set_viewport_size({"width": 1280, "height": 900})
    settled(tab)
    found += [f"{name}, at 1280 pixels, {words}" for words in tab.evaluate(COLLISIONS)]
    assert not found, "\n".join(found)


def test_what_has_the_focus_shows_it(tab, shipped):
    opened(tab, shipped, "chains_of_thought")
    seen = []
    for _ in range(40):
        tab.keyboard.press("Tab")
        if (said := tab.evaluate(FOCUS_IS_SEEN)) is not None:
            seen.append(said)
    assert len(seen) > 20
    assert not [one["element"] for one in seen if not one["seen"]]
