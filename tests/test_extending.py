"""The pages of docs/extending do what they say: their code runs as it stands, and its tests pass."""

import importlib
import importlib.util
import re
import shutil
import subprocess
import sys
from contextlib import ExitStack, closing
from pathlib import Path
from types import ModuleType

import pyarrow as pa
import pytest
from streamlit.testing.v1 import AppTest

import app
import backend.schema.tables
from app.chains_of_thought.views import ABOUT
from app.shared.views import View, chunks
from app.shell import navigation
from app.shell.fields import FIELDS
from app.shell.missing import missing
from app.views import registered
from backend.geometry.direction_kinds import DIRECTION_KINDS
from backend.importance.metric_registry import METRICS
from backend.models.interventions import OPERATIONS
from backend.root import ROOT
from backend.schema.tables import FILLED, TABLES
from backend.store.geometry_columns import COLUMNS
from backend.store.store import Store
from backend.store.unit_files import arrow_rows
from precompute import importers, stages
from precompute.rules import units_of
from precompute.study import Study
from precompute.units import Context
from tests import small_study
from tests.backend.models import test_operations

PAGES = sorted((Path(__file__).parents[1] / "docs" / "extending").glob("add-*.md"))
REGISTRIES = (DIRECTION_KINDS, METRICS, COLUMNS, OPERATIONS, importers.IMPORTERS)


def blocks(page: str) -> list[str]:
    (file,) = (path for path in PAGES if path.stem == page)
    return re.findall(r"^```python\n(.*?)^```", file.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def keep_only(registry, names: set[str]) -> None:
    for name in set(registry) - names:
        registry.remove(name)


@pytest.fixture
def run():
    """Runs code as a notebook would; what it registers is taken back."""
    with ExitStack() as taken_back:
        for registry in REGISTRIES:
            taken_back.callback(keep_only, registry, set(registry))

        def run(code: str, **names) -> dict:
            exec(compile(code, "a page of docs/extending", "exec"), names)
            return names

        yield run


def try_tests(names: dict, **fixtures) -> None:
    """Every test among the names, with the fixtures it asks for."""
    own = [value for name, value in names.items() if name.startswith("test_") and value.__globals__ is names]
    assert own
    for test in own:
        test(**{name: fixtures[name] for name in test.__code__.co_varnames[: test.__code__.co_argcount]})


def test_a_direction_is_added_as_the_page_says(run):
    code, test = blocks("add-a-direction")
    run(code)
    try_tests(run(test))


def test_a_metric_is_added_as_the_page_says(run):
    code, test, comparisons = blocks("add-a-metric")
    run(code)
    try_tests(run(test))
    run(comparisons)
    try_tests(run(test))


def test_a_geometry_column_is_added_as_the_page_says(run, tmp_path):
    code, test = blocks("add-a-geometry-column")
    run(code)
    store = Store(small_study.make(tmp_path / "small"))
    try_tests(run(test, COLUMNS=COLUMNS, pytest=pytest), store=store)
    store.close()


def test_an_operation_is_added_as_the_page_says(run):
    code, test = blocks("add-an-operation")
    run(code)
    try_tests(
        run(test, **{name: getattr(test_operations, name) for name in ("changed", "H", "Intervention", "V", "torch")})
    )


def test_a_stage_is_added_as_the_page_says(run, tmp_path, monkeypatch):
    code, table, test = blocks("add-a-stage")
    stage = ModuleType("precompute.stages.repetitions")
    exec(compile(code, stage.__name__, "exec"), vars(stage))
    monkeypatch.setitem(sys.modules, stage.__name__, stage)
    monkeypatch.setattr(stages, "repetitions", stage, raising=False)
    with pytest.raises(TypeError, match="The stage repetitions has no words"):
        stages.whole(stage)
    tables = dict(TABLES)
    exec(compile(table, "tables", "exec"), {**vars(backend.schema.tables), "TABLES": tables})
    monkeypatch.setitem(TABLES, "repetitions", tables["repetitions"])
    monkeypatch.setitem(FILLED, "repetitions", tables["repetitions"].filled[0])
    try_tests(run(test))
    study = Study.model_validate(
        {"name": "s", "models": [{"name": "tiny"}], "problems": {"per_level": 1}, "sweep": {"layers": [5]}}
    )
    with closing(Store(small_study.make(tmp_path / "small"))) as store:
        context = Context(study, "r", store, lambda words: None)
        made = list(stages.whole(stage).compute(context, units_of(stage, context)))
        rows = pa.concat_tables(arrow_rows("repetitions", one.tables["repetitions"]) for one in made)
        assert sorted(rows["chunk_id"].to_pylist()) == sorted(store.frame("SELECT chunk_id FROM chunks")["chunk_id"])
        (left,) = [one for one in missing(store) if "--stage repetitions" in one.command]
        assert left.what == tables["repetitions"].filled[0].none


def test_an_importer_is_added_as_the_page_says(run, tmp_path, monkeypatch):
    reader, test = blocks("add-an-importer")
    folder = tmp_path / "importers"
    folder.mkdir()
    (folder / "json_chains.py").write_text(reader)
    monkeypatch.setattr(importers, "__path__", [*importers.__path__, str(folder)])
    monkeypatch.delitem(sys.modules, "precompute.importers.json_chains", raising=False)
    names = run(test)
    for name, case in list(names.items()):
        if name.startswith("test_"):
            place = tmp_path / name
            place.mkdir()
            case(place)


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """`scratch(package, name, code)`: a module of the app that lies elsewhere; what it declares is taken back."""
    registered()
    declared, written = set(FIELDS), []

    def write(package: str, name: str, code: str) -> ModuleType:
        folder = tmp_path / package
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.py").write_text(code)
        whole = f"app.{package}"
        if importlib.util.find_spec(whole) is None:
            monkeypatch.setattr(app, "__path__", [*app.__path__, str(tmp_path)])
            written.append(whole)
        monkeypatch.setattr(importlib.import_module(whole), "__path__", [*sys.modules[whole].__path__, str(folder)])
        written.append(f"{whole}.{name}")
        return importlib.import_module(f"{whole}.{name}")

    yield write
    for name in written:
        sys.modules.pop(name, None)
    keep_only(FIELDS, declared)


def shown_alone(study) -> None:
    """The view that the session has, on a study."""
    import streamlit as st

    from app.shared import views
    from app.shell import selection, studies

    selection.begin()
    views.mount(st.session_state["drawn"], studies.open_store(study), "here")


def test_a_view_is_added_as_the_page_says(run, scratch, tmp_path):
    module, entry, test = blocks("add-a-view")
    length = scratch("chains_of_thought", "length", module)
    about = run(entry, View=View, chunks=chunks, length=length, ABOUT=dict(ABOUT))["ABOUT"]
    assert about.keys() - ABOUT.keys() == {"length"} and "length_counted" in FIELDS
    try_tests(run(test))
    shown = AppTest.from_function(shown_alone, args=(small_study.make(tmp_path / "small"),), default_timeout=60)
    shown.session_state["drawn"] = about["length"]
    assert not shown.run().exception and shown.metric[0].value.endswith(" words")
    shown.selectbox[0].set_value("characters").run()
    assert shown.metric[0].value.endswith(" characters")


def test_a_page_is_added_as_the_page_says(run, scratch, tmp_path, monkeypatch):
    table, of_folder, script, entry, test = blocks("add-a-page")
    scratch("chunk_lengths", "__init__", "")
    scratch("chunk_lengths", "table", table)
    scratch("chunk_lengths", "views", of_folder)
    pages = tmp_path / "pages"
    shutil.copytree(ROOT / "pages", pages)
    (pages / "chunk_lengths.py").write_text(script)
    monkeypatch.setattr(navigation, "_FILES", pages)
    monkeypatch.setattr(navigation, "_LINKED", {})  # links to the files of before
    monkeypatch.setitem(navigation.PAGES, "chunk_lengths", None)  # the test's end takes it out again
    run(entry, PAGES=navigation.PAGES, Page=navigation.Page)
    try_tests(run(test))
    monkeypatch.setenv("ANCHORSCOPE_DEMO", "")
    monkeypatch.setenv("ANCHORSCOPE_STORES", str(small_study.make(tmp_path / "small")))
    shown = AppTest.from_file(str(ROOT / "app" / "main.py"), default_timeout=60)
    shown.switch_page(str(pages / "chunk_lengths.py")).run()
    assert not shown.exception and shown.title[0].value == "Chunk lengths"
    assert list(shown.dataframe[0].value.columns) == ["chunk", "words", "text"]


@pytest.mark.parametrize("page", [path.stem for path in PAGES])
def test_what_a_page_gives_passes_the_lint(page):
    """What stands in the file that a block goes to is not known here; that functions say their types, mypy asks too."""
    ruff = [sys.executable, "-m", "ruff"]
    typed = ["--extend-select", "ANN001,ANN002,ANN003,ANN201,ANN202"]
    for code in blocks(page):
        check = [*ruff, "check", "--extend-ignore", "F821", *([] if "def test_" in code else typed)]
        for command in (check, [*ruff, "format", "--check"]):
            given = {"input": code, "capture_output": True, "text": True, "cwd": ROOT}
            found = subprocess.run([*command, "--stdin-filename", f"{page}.py", "-"], **given)
            assert found.returncode == 0, found.stdout + found.stderr


def test_every_page_is_tried():
    assert {path.stem for path in PAGES} == set(re.findall(r'blocks\("([a-z-]+)"\)', Path(__file__).read_text()))


def test_a_direction_of_a_notebook_needs_nothing_else(tmp_path):
    """In a fresh process, as somebody would begin a notebook."""
    code, test = blocks("add-a-direction")
    script = tmp_path / "notebook.py"
    script.write_text(f"{code}\n{test}\ntest_a_step_is_what_a_chunk_adds_to_the_one_before_it()\n")
    found = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, env={"PYTHONPATH": str(PAGES[0].parents[2])}
    )
    assert found.returncode == 0, found.stderr
