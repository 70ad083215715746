"""A reader is one module: the command, its choices and the import follow from it."""

import sys
from dataclasses import replace

import pytest

from backend.errors import AnchorscopeError
from backend.store.unit_files import StudyFolder
from precompute import importers
from precompute.checked_json import ImportedStudy, ImportFormatError, Part, row, whole
from precompute.importers import IMPORTERS, Importer
from precompute.importing import import_folder
from precompute.terminal import console
from tests.registering import lists_of, registered

MODULE = """
from precompute.importers import Importer

IMPORTER = Importer("{name}", "lines of text", lambda folder: [])
"""


@pytest.fixture
def written(tmp_path, monkeypatch):
    """A folder beside the package's own, in which a reader is written down."""
    monkeypatch.setattr(importers, "__path__", [*importers.__path__, str(tmp_path)])

    def write(module: str, name: str) -> None:
        (tmp_path / f"{module}.py").write_text(MODULE.format(name=name))

    yield write
    for name in [name for name in sys.modules if name.startswith("precompute.importers.my_")]:
        del sys.modules[name]
    for name in [name for name in IMPORTERS if name.startswith("my-")]:
        IMPORTERS.remove(name)


def parts(folder):
    problem = row("problems", problem_id="p1", source="lines", source_key="1", question="1 + 1?", answer="2")
    model = row("models", model_id="m1", name="somebody")
    cot = row("cots", cot_id="c1", problem_id="p1", model_id="m1", prompt="1 + 1?", text="Two. ", sample=0)
    chunk = row("chunks", chunk_id="c1_0000", cot_id="c1", chunk_index=0, char_start=0, char_end=5, text="Two. ")
    tables = {"models": [model], "problems": [problem], "cots": [cot], "chunks": [chunk]}
    return [Part("i1", "the one", lambda rollouts: "digest", lambda rollouts: ImportedStudy("one", tables, []))]


def test_a_module_in_the_folder_is_an_importer_and_a_choice_of_the_command(written):
    written("my_lines", "my-lines")
    assert "my-lines" in importers.names()
    assert importers.importer("my-lines").words == "lines of text"


def test_a_module_that_calls_itself_otherwise_is_refused(written):
    written("my_lines", "lines")
    with pytest.raises(AnchorscopeError, match=r"my_lines.py calls its importer 'lines'; expected 'my-lines'"):
        importers.importer("seed-study")


def test_every_shipped_reader_is_there_by_the_name_that_is_known_without_importing_it():
    assert [importers.importer(name).name for name in importers.names()] == importers.names()


def test_what_a_registered_reader_reads_becomes_a_study(tmp_path):
    with registered(IMPORTERS, Importer("one-line", "one line", parts)):
        assert "one-line" in importers.names()
        import_folder("one-line", tmp_path, StudyFolder(tmp_path / "study"), wait=False, console=console)
    from backend.store.store import Store

    assert Store(tmp_path / "study").cot_index()["cot_id"].tolist() == ["c1"]


@pytest.mark.parametrize(
    ("table", "changed", "said"),
    [
        ("chunks", {"chunk_id": None}, "a row of chunks without chunk_id"),
        ("chunks", {"char_end": None}, r"chunk 0 stands at \[0, None\) of its CoT"),
        ("chunks", {"text": "Three. "}, r"stands at \[0, 5\) .* expected 'Three. '"),
        ("chunks", {"cot_id": "c2"}, "whose text there is another"),
        ("problems", {"extra": 1}, "a row of problems without exactly its columns"),
        ("thoughts", {}, "'thoughts', which is no table of a study"),
    ],
)
def test_rows_that_no_study_can_hold_are_refused_before_anything_is_written(tmp_path, table, changed, said):
    (right,) = parts(tmp_path)
    tables = right.read(True).tables
    wrong = tables | {table: [one | changed for one in tables.get(table, [{}])]}
    part = replace(right, read=lambda rollouts: ImportedStudy("one", wrong, []))
    assert whole(right.read(True), "the one").tables == tables
    with (
        registered(IMPORTERS, Importer("one-line", "one line", lambda folder: [part])),
        pytest.raises(ImportFormatError, match=f"the one: its importer .*{said}"),
    ):
        import_folder("one-line", tmp_path, StudyFolder(tmp_path / "study"), wait=False, console=console)
    assert not (tmp_path / "study").exists()


def test_an_unknown_source_is_refused_with_those_that_there_are(tmp_path):
    with pytest.raises(AnchorscopeError, match=r"no importer 'x'; there are .*thought-anchors \(chains of Thought"):
        import_folder("x", tmp_path, StudyFolder(tmp_path / "study"), wait=False, console=console)


@pytest.mark.parametrize("part", ["name", "words", "parts"])
def test_a_reader_without_one_of_its_parts_is_refused(part):
    with pytest.raises(AnchorscopeError, match=f"needs {part}"):
        IMPORTERS.register(replace(Importer("x", "whose", parts), **{part: None}))


def test_no_other_module_lists_the_importers():
    assert lists_of(importers.names()) == []


def test_a_folder_that_is_none_is_refused_by_the_reader(tmp_path):
    for name in importers.names():
        with pytest.raises(ImportFormatError):
            importers.importer(name).parts(tmp_path / "nowhere")
