"""A real server and a real Chromium for the journeys; skipped, with the reason, where Chromium is missing."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests import small_study

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = Path("/usr/bin/chromium")
PATIENCE = 120_000  # ms for whatever a page does: these tests say what comes, never how fast a busy machine brings it
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def chromium():
    if not CHROMIUM.exists():
        pytest.skip(f"no Chromium at {CHROMIUM}; install it to run the browser tests")
    playwright = pytest.importorskip("playwright.sync_api")
    playwright.expect.set_options(timeout=PATIENCE)
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def study(tmp_path_factory):
    return small_study.make(tmp_path_factory.mktemp("stores") / "small")


@pytest.fixture(scope="session")
def server(chromium, study, tmp_path_factory):
    """Address of a dashboard that knows the small study alone."""
    with serving(
        [sys.executable, "-m", "streamlit", "run", "app/main.py"], study, tmp_path_factory.mktemp("log")
    ) as address:
        yield address


class serving:
    """The dashboard on a free port, started by `command` in the repository's root; a context manager that gives its
    address.
    """

    def __init__(self, command: list[str], study: Path, folder: Path, *, own_cache: bool = False):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        self.log = folder / "server.log"
        self.command = [*command, "--server.headless", "true", "--server.port", str(port)]
        self.environment = {**os.environ, "ANCHORSCOPE_STORES": str(study), "OMP_NUM_THREADS": "1"}
        if own_cache:  # what is merged and fetched for this dashboard's models stays out of the person's own
            self.environment["ANCHORSCOPE_CACHE"] = str(folder / "cache")

    def __enter__(self) -> str:
        self.process = subprocess.Popen(
            self.command, cwd=ROOT, env=self.environment, stdout=self.log.open("w"), stderr=subprocess.STDOUT
        )
        deadline = time.monotonic() + PATIENCE / 1000
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                urllib.request.urlopen(f"{self.address}/_stcore/health", timeout=2)
                return self.address
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.1)
        raise RuntimeError(f"the dashboard did not start:\n{self.log.read_text()}")

    def __exit__(self, *_) -> None:
        self.process.terminate()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:  # it writes nothing that must be whole
            self.process.kill()
            self.process.wait()


@pytest.fixture
def tab(chromium):
    """A page in a browser context of its own; it notes every request that leaves this machine."""
    context = chromium.new_context(viewport={"width": 1440, "height": 900})
    opened = context.new_page()
    opened.set_default_timeout(PATIENCE)
    opened.foreign = []
    opened.on("request", lambda request: opened.foreign.append(request.url) if _leaves(request.url) else None)
    yield opened
    context.close()


def _leaves(url: str) -> bool:
    return not url.startswith(("http://127.0.0.1", "ws://127.0.0.1", "data:", "blob:"))
