"""Studies in the states a person may find them in, and the dashboard opened on one of them without a browser."""

import os
import shutil
import time
from pathlib import Path

import duckdb
import pytest
from streamlit.testing.v1 import AppTest

from app.figures import rows
from app.shared import live
from app.shell import axes, parts, studies
from app.shell.navigation import ROOT_PAGE
from backend.store.store import generation_of
from tests import influence_study, parallelogram_study, parted_study, shaped_study, small_dictionary, small_study

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("findings", "overview", "chains_of_thought", "latent_map", "steepness")


@pytest.fixture(scope="session")
def whole(tmp_path_factory) -> Path:
    """Every stage done."""
    return small_study.make(tmp_path_factory.mktemp("whole") / "small")


@pytest.fixture(scope="session")
def running(tmp_path_factory) -> Path:
    """Chunks and categories are there; rollouts, activations and steering are still to come."""
    return small_study.make(
        tmp_path_factory.mktemp("running") / "small", rollouts=False, activations=False, steering=False
    )


@pytest.fixture(scope="session")
def imported(tmp_path_factory) -> Path:
    """A published CoT: no tokens, no rollouts, no activations."""
    return small_study.make_imported(tmp_path_factory.mktemp("imported") / "small")


@pytest.fixture(scope="session")
def everything(tmp_path_factory) -> Path:
    """A portable study with rows in every table that pages read."""
    folder = small_study.make(tmp_path_factory.mktemp("everything") / "small")
    small_dictionary.add_nulls(folder, small_dictionary.add(folder))
    with pytest.MonkeyPatch.context() as patch:
        for module in (small_study, shaped_study, parted_study, parallelogram_study):
            patch.setattr(module, "publish", lambda writer: None)  # none of them reads what another adds
        small_study.add_training(folder)
        shaped_study.add(folder)
        parted_study.add(folder)
        parallelogram_study.add_to_pair(folder)
    influence_study.add(folder).close()  # which publishes all
    file = folder.parent / "small.duckdb"
    shutil.copy(generation_of(folder), file)
    return file


@pytest.fixture
def of_schema(tmp_path):
    """`of_schema(version)`: a study whose published store bears another schema version."""

    def make(version: int) -> Path:
        study = small_study.make(tmp_path / "small")
        generation = study / "generations" / (study / "CURRENT").read_text().strip()
        with duckdb.connect(str(generation)) as connection:
            connection.execute(
                "UPDATE about SET value = $version WHERE name = 'schema_version'", {"version": str(version)}
            )
        return study

    return make


@pytest.fixture(autouse=True)
def the_page_runs_as_a_whole(monkeypatch):
    """AppTest keeps the elements of the last run alone: parts of a page do not run by themselves."""
    monkeypatch.setattr(parts, "outdated", lambda values: None)


@pytest.fixture(autouse=True)
def every_figure_gets_its_columns(monkeypatch):
    """Whatever a page of the test draws: its query gives each column that the figure's row type names."""
    missing, of = set(), rows.missing_columns

    def noted(row, frame):
        missing.update((row.__name__, column) for column in of(row, frame))
        return of(row, frame)

    monkeypatch.setattr(rows, "missing_columns", noted)
    yield
    assert not missing


@pytest.fixture(autouse=True)
def every_axis_has_words(monkeypatch):
    """Whatever a page of the test draws: the title of each axis and scale of colour has a term that is explained."""
    untold, explained = set(), axes.explained

    def noted(titles, own):
        untold.update(axes.without_words(titles, own))
        return explained(titles, own)

    monkeypatch.setattr(axes, "explained", noted)
    yield
    assert not untold


@pytest.fixture
def opened(monkeypatch, tmp_path):
    """`opened(page, *studies, **selection)`: the dashboard after its first run on a page,
    knowing these studies alone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(studies, "STORES", tmp_path / "stores")

    def open_page(page: str, *paths: Path, **selection: str) -> AppTest:
        monkeypatch.setenv("ANCHORSCOPE_STORES", os.pathsep.join(map(str, paths)))
        test = AppTest.from_file(str(ROOT / "app" / "main.py"), default_timeout=60)
        for name, value in selection.items():
            test.query_params[name] = value
        if page != ROOT_PAGE:
            test.switch_page(f"../pages/{page}.py")
        return test.run()

    return open_page


def words(test: AppTest) -> str:
    """All that the page says in text, captions, code and headings."""
    kinds = (test.text, test.caption, test.code, test.markdown, test.title, test.header, test.subheader)
    return "\n".join(str(element.value) for kind in kinds for element in kind)


@pytest.fixture(scope="module")
def no_embedded_model(tmp_path_factory):
    """The machine's own cache is out of reach: what these tests show does not depend on it."""
    patch = pytest.MonkeyPatch()
    patch.setenv("ANCHORSCOPE_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    live.service().close()
    live.service.clear()
    patch.undo()


def settled(test, condition, seconds: float = 60):
    """The page run again until the condition holds, as its own clock would, but seldom while the worker is at work."""
    until = time.monotonic() + seconds
    while not condition(test):
        assert time.monotonic() < until, words(test)
        time.sleep(0.1)
        again = time.monotonic() + 2
        while time.monotonic() < again and (load := live.service().load())["running"] + load["waiting"]:
            time.sleep(0.05)
        test.run()
        assert not test.exception, test.exception
    return test
