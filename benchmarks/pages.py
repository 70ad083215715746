"""How soon a page answers in Chromium, and how much of that the server takes.

    python benchmarks/pages.py

1. A dashboard on the shipped demo study (or `--study`), and beside it, in the same run, the plain reference: a bare
   Streamlit app of two pages with the same kinds of widgets and nothing to compute.
2. A person's steps, each repeated: select the next chunk (j in the reader), change the metric, change the colour of the
   map, go to another page, open the first page (of a warm server, in a new browser).
3. A step ends with the last change of the page after it that is seen; then nothing runs and nothing changes for 300 ms.
   The server's own time is that of Streamlit's runs of the script meanwhile, by a clock that only this program puts
   around them.
   `moved` is the browser's layout shift: what of the window moved times how far; 0 where nothing jumped.

Medians in milliseconds, beside what we aim at. The last line is JSON. Alone on the machine the figures mean something;
beside other work only the ratio does, more or less.
"""

import argparse
import functools
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

SERVER_MS = 150
TARGETS_MS = {
    "select a chunk": 300,
    "change the metric": 500,
    "change the colour": 500,
    "page": 700,
    "first page": 2000,
}
READER, MAP = "chains_of_thought", "latent_map"
CHROMIUM = "/usr/bin/chromium"
QUIET_MS, PATIENCE_MS = 300, 60_000
BARE = """
import streamlit as st

def one():
    st.title("One")
    chosen = st.selectbox("Metric", ["a", "b", "c"])
    colour = st.selectbox("Colour", ["d", "e", "f"])
    st.button("Next", on_click=lambda: st.session_state.update(n=st.session_state.get("n", 0) + 1))
    st.write(chosen, colour, st.session_state.get("n", 0))

def two():
    st.title("Two")
    st.write("nothing")

pages = [st.Page(one, title="One", url_path="one", default=True), st.Page(two, title="Two", url_path="two")]
page = st.navigation(pages, position="hidden")
for each in pages:
    st.sidebar.page_link(each)
page.run()
"""
WATCH = """
(() => {
  const watch = window.watch = { began: 0, changed: 0, armed: false, shift: 0 };
  const aside = "[data-testid=stStatusWidget], [data-testid=stHeader], [data-testid=stToolbar]";
  new MutationObserver((records) => {
    for (const { target, attributeName } of records) {
      if (/^(aria-|role$|tabindex$)/.test(attributeName ?? "")) continue; // said a moment later, and not seen
      const element = target instanceof Element ? target : target.parentElement;
      if (element && !element.closest(aside)) watch.changed = performance.now();
    }
  }).observe(document, { subtree: true, childList: true, attributes: true, characterData: true });
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) watch.shift += entry.value;
  }).observe({ type: "layout-shift", buffered: true });
  for (const kind of ["keydown", "pointerdown"]) {
    addEventListener(kind, () => {
      if (watch.armed) Object.assign(watch, { began: performance.now(), armed: false, shift: 0 });
    }, true);
  }
})();
"""
SETTLED = """
(quiet) => document.querySelector("[data-test-script-state=notRunning]")
  && !document.querySelector("[data-stale=true], [data-testid=stSkeleton]")
  && !watch.armed && watch.changed > watch.began && performance.now() - watch.changed > quiet
"""


@dataclass
class Step:
    """Every repeat of one step, in milliseconds."""

    browser: list[float] = field(default_factory=list)
    server: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)  # of the server's script threads: what a busy machine cannot add to
    shift: list[float] = field(default_factory=list)  # how much of what is seen moved, how far (the browser's measure)
    of: list[str] = field(default_factory=list)  # what each repeat went to, where they differ


class Clock:
    """The runs of a server's script, from the file in which it writes each when it ends."""

    def __init__(self, file: Path):
        self._file, self._seen = file, 0

    def _lines(self) -> list[str]:
        return self._file.read_text().splitlines() if self._file.exists() else []

    def wait(self) -> None:
        """Until a run has ended since the last was asked for. A page may be too quick for its own state to show it."""
        until = time.monotonic() + PATIENCE_MS / 1000
        while len(self._lines()) == self._seen:
            if time.monotonic() > until:
                raise SystemExit("The step started no run of the script.")
            time.sleep(0.01)

    def since_last(self) -> tuple[float, float]:
        """Milliseconds, of the clock and of the processor, of all runs since this was asked last."""
        lines = self._lines()
        new, self._seen = [json.loads(line) for line in lines[self._seen :]], len(lines)
        return 1000 * sum(one["wall"] for one in new), 1000 * sum(one["cpu"] for one in new)


def main() -> None:
    if sys.argv[1:2] == ["serve"]:
        serve(*sys.argv[2:])
        return
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--repeats", type=int, default=7)
    arguments.add_argument("--study", type=Path, help="a study's folder or file; the shipped demo by default")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ours, bare = measured(Path(folder), options.study, options.repeats)
    report(ours, bare)


def measured(folder: Path, study: Path | None, repeats: int) -> tuple[dict[str, Step], dict[str, Step]]:
    """Our steps, and those of the bare app, which take turns with nothing: one server is asked at a time."""
    from playwright.sync_api import sync_playwright

    if study is None:
        from backend.store.packed import unpack

        study = folder / "demo.duckdb"
        unpack(ROOT / "assets" / "demo", study)
    (folder / "bare.py").write_text(BARE)
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        with serving(folder / "bare.py", folder, study) as (address, clock):
            bare = bare_steps(browser, address, clock, repeats)
        with serving(ROOT / "app" / "main.py", folder, study) as (address, clock):
            ours = our_steps(browser, address, clock, repeats)
        browser.close()
    return ours, bare


# The server


def serve(clock: str, *streamlit: str) -> None:
    """Streamlit in this process, with a clock around its runs of the script."""
    from streamlit.runtime.scriptrunner.script_runner import ScriptRunner
    from streamlit.web import cli

    plain = ScriptRunner._run_script

    @functools.wraps(plain)
    def timed(*given: object) -> None:
        wall, cpu = time.perf_counter(), time.thread_time()
        try:
            plain(*given)
        finally:
            run = {"wall": time.perf_counter() - wall, "cpu": time.thread_time() - cpu}
            with open(clock, "a") as file:
                file.write(json.dumps(run) + "\n")

    ScriptRunner._run_script = timed
    sys.argv = ["streamlit", *streamlit]
    cli.main()


@contextmanager
def serving(script: Path, folder: Path, study: Path) -> Iterator[tuple[str, Clock]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    clock = folder / f"{script.stem}.clock"
    command = [sys.executable, __file__, "serve", str(clock), "run", str(script), "--server.headless", "true"]
    with open(folder / f"{script.stem}.log", "w") as log:
        process = subprocess.Popen(
            [*command, "--server.port", port],
            cwd=ROOT,
            env=environment(study),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            address = f"http://127.0.0.1:{port}"
            wait_for(f"{address}/_stcore/health", process)
            yield address, Clock(clock)
        finally:
            process.terminate()
            process.wait(20)


def environment(study: Path) -> dict[str, str]:
    return {**os.environ, "ANCHORSCOPE_STORES": str(study), "ANCHORSCOPE_DEMO": "", "OMP_NUM_THREADS": "1"}


def wait_for(url: str, process: subprocess.Popen) -> None:
    for _ in range(600):
        try:
            urllib.request.urlopen(url, timeout=2)
            return
        except OSError:
            if process.poll() is not None:
                break
            time.sleep(0.1)
    raise SystemExit("The server did not start.")


# The steps


def our_steps(browser, address: str, clock: Clock, repeats: int) -> dict[str, Step]:
    from app.shell.navigation import PAGES

    tab = new_tab(browser)
    open_page(tab, address, clock)  # the server's first run reads modules and the study
    steps = {
        "select a chunk": select_chunks(tab, address, clock, repeats),
        "change the metric": change(tab, f"{address}/{READER}", clock, r"metric|strength", repeats),
        "change the colour": change(tab, f"{address}/{MAP}", clock, r"colou?r", repeats),
        "page": walk(tab, address, clock, [(name, page.title) for name, page in PAGES.items()]),
    }
    tab.context.close()
    return steps | {"first page": first_pages(browser, address, clock, repeats)}


def bare_steps(browser, address: str, clock: Clock, repeats: int) -> dict[str, Step]:
    tab = new_tab(browser)
    open_page(tab, address, clock)
    press = Step()
    for _ in range(repeats):
        timed(tab, clock, press, tab.get_by_role("button", name="Next").click)
    steps = {
        "select a chunk": press,
        "change the metric": change(tab, address, clock, "Metric", repeats),
        "change the colour": change(tab, address, clock, "Colour", repeats),
        "page": walk(tab, address, clock, [("one", "One"), ("two", "Two")] * repeats),
    }
    tab.context.close()
    return steps | {"first page": first_pages(browser, address, clock, repeats)}


def select_chunks(tab, address: str, clock: Clock, repeats: int) -> Step:
    """j in the reader, and k where the chain ends; the first two warm what is read once a chain of thought."""
    step, key = Step(), "j"
    open_page(tab, f"{address}/{READER}", clock)
    tab.locator('.chunk[aria-selected="true"]').wait_for()
    for turn in range(repeats + 2):
        last = tab.locator('.chunk[aria-selected="true"] ~ .chunk').count() == 0
        key = "k" if last or (key == "k" and not first(tab)) else "j"
        timed(tab, clock, step if turn > 1 else Step(), functools.partial(tab.keyboard.press, key))
    return step


def first(tab) -> bool:
    """Whether the chain's first chunk is selected."""
    return tab.locator(".chunk").first.get_attribute("aria-selected") == "true"


def change(tab, url: str, clock: Clock, name: str, repeats: int) -> Step:
    """Another option of the box with this name, and the first again; an empty step where the page has none."""
    step = Step()
    open_page(tab, url, clock)
    box = control(tab, name)
    if box is None:
        return step
    for turn in range(repeats + 2):  # each of two values once before it counts
        box.click()
        options = tab.get_by_role("option")
        options.first.wait_for()
        other = 1 if options.first.get_attribute("aria-selected") == "true" else 0
        if options.count() < 2:
            return step
        timed(tab, clock, step if turn > 1 else Step(), options.nth(other).click)
        box = control(tab, name)
    return step


def control(tab, name: str):
    """The box, or the one behind "More"."""
    for more in (False, True):
        if more and tab.get_by_role("button", name="More").count():
            tab.get_by_role("button", name="More").first.click()
        found = tab.get_by_role("combobox", name=re.compile(name, re.I))
        for box in found.all():
            if box.is_visible() and box.is_enabled():
                return box
    return None


def walk(tab, address: str, clock: Clock, pages: list[tuple[str, str]]) -> Step:
    """From page to page by the sidebar, once round to have each read what it reads once, and then again."""
    step = Step()
    open_page(tab, address, clock)
    for into in (Step(), step):
        for name, title in pages[1:] + pages[:1]:
            timed(tab, clock, into, tab.get_by_role("link", name=title, exact=True).first.click, of=name)
    return step


def first_pages(browser, address: str, clock: Clock, repeats: int) -> Step:
    """The root of the address in a new browser, from the request on."""
    step = Step()
    for _ in range(repeats):
        tab = new_tab(browser)
        open_page(tab, address, clock, into=step)
        tab.context.close()
    return step


# The clock of the browser


def new_tab(browser):
    tab = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
    tab.set_default_timeout(PATIENCE_MS)
    tab.add_init_script(WATCH)
    return tab


def open_page(tab, url: str, clock: Clock, into: Step | None = None) -> None:
    tab.goto(url)
    tab.locator("[data-testid=stMain] :is(h1, h2)").first.wait_for()
    settle(tab, clock, into or Step(), "")


def timed(tab, clock: Clock, into: Step, act: Callable[[], object], of: str = "") -> None:
    tab.evaluate("() => { watch.armed = true; }")
    act()
    settle(tab, clock, into, of)


def settle(tab, clock: Clock, into: Step, of: str) -> None:
    clock.wait()
    tab.wait_for_function(SETTLED, arg=QUIET_MS, polling=50)
    into.browser.append(tab.evaluate("() => watch.changed - watch.began"))
    into.shift.append(tab.evaluate("() => watch.shift"))
    wall, cpu = clock.since_last()
    into.server.append(wall)
    into.cpu.append(cpu)
    into.of.append(of)


# What is said


def report(ours: dict[str, Step], bare: dict[str, Step]) -> None:
    print(
        f"{'ms, medians':<20}{'n':>4}{'browser':>9}{'aim':>6}{'server':>9}{'cpu':>6}{'aim':>6}{'bare':>7}{'ratio':>7}"
    )
    said = {}
    for name, aim in TARGETS_MS.items():
        step, plain = ours[name], bare[name]
        if not step.browser:
            print(f"{name:<20}{0:>4}  no such control on the page")
            continue
        browser, server, cpu, reference, shift = (
            statistics.median(values) for values in (step.browser, step.server, step.cpu, plain.browser, step.shift)
        )
        ratio = browser / reference
        print(
            f"{name:<20}{len(step.browser):>4}{browser:>9.0f}{aim:>6}{server:>9.0f}{cpu:>6.0f}{SERVER_MS:>6}"
            f"{reference:>7.0f}{ratio:>7.2f}{shift:>7.2f}"
        )
        said[name] = {
            "n": len(step.browser),
            "browser_ms": round(browser),
            "server_ms": round(server),
            "server_cpu_ms": round(cpu),
            "bare_browser_ms": round(reference),
            "bare_server_ms": round(statistics.median(plain.server)),
            "ratio": round(ratio, 2),
            "layout_shift": round(shift, 3),
            "aim_ms": aim,
            "server_aim_ms": SERVER_MS,
        }
    walked = ours["page"]
    print("\npages, slowest first: name, browser, server, cpu")
    for browser, server, cpu, name in sorted(
        zip(walked.browser, walked.server, walked.cpu, walked.of, strict=True), reverse=True
    ):
        print(f"  {name:<22}{browser:>8.0f}{server:>8.0f}{cpu:>8.0f}")
    print(json.dumps(said))


if __name__ == "__main__":
    main()
