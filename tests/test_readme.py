"""README and docs say what is true of the code: every command, snippet, link, path, table and key in them."""

import importlib.util
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer

from anchorscope import cli
from backend.schema import tables
from backend.search import columns
from backend.store.packed import unpack
from precompute import cli as precompute
from precompute import study_document
from precompute.study import Study

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in PAGES}
PARSERS = {
    ("python", "-m", "precompute"): typer.main.get_command(precompute.app),
    ("anchorscope",): typer.main.get_command(cli.app),
}
MAKE = {
    target
    for line in re.findall(r"^([a-z ]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for target in line.split()
}


def blocks(text: str, language: str) -> list[str]:
    """What stands between fences of this language."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [body for of, body in found if of == language]


def whole_commands(text: str) -> list[str]:
    """Commands as they are typed: the lines of the blocks without a language, without what is said of them."""
    lines = [line.partition("#")[0].strip() for body in blocks(text, "") for line in body.splitlines()]
    return [line for line in lines if line]


def named_commands(text: str) -> list[str]:
    """Commands in a sentence, which may leave out what they need."""
    return [code for code in re.findall(r"`([^`\n]+)`", text) if re.match(r"(python|make|anchorscope|pip) ", code)]


def fault(command: str, *, whole: bool) -> str | None:
    """Why the command cannot be called so; None where it can."""
    words = shlex.split(command.partition(" > ")[0])
    for start, parser in PARSERS.items():
        if tuple(words[: len(start)]) == start:
            return _fault_of_arguments(parser, words[len(start) :], whole=whole)
    match words:
        case ["make", target, *_]:
            return None if target in MAKE else f"no target {target}"
        case ["pip", "install", "." | ".[dev]"] | ["cp", _, _]:
            return None
        case ["python", "-m", name, *_]:
            return None if importlib.util.find_spec(name) else f"no module {name}"
        case ["python", file, *options]:
            if not (ROOT / file).is_file():
                return f"no file {file}"
            source = (ROOT / file).read_text(encoding="utf-8")
            return next((f"no option {o}" for o in options if o.startswith("--") and f'"{o}"' not in source), None)
    return "no command that this test knows"


def _fault_of_arguments(parser, words: list[str], *, whole: bool) -> str | None:
    """Parsed by the command's own parser; nothing is done."""
    try:
        context = parser.context_class(parser)
        while words and hasattr(parser, "resolve_command") and not words[0].startswith("-"):
            _, parser, words = parser.resolve_command(context, words)
            context = parser.context_class(parser, parent=context)
        is_group = hasattr(parser, "resolve_command")
        if words != ["--help"] and (words or whole or not is_group):
            parser.parse_args(context, words)
    except Exception as error:  # typer names no base class of its errors; all others are raised again
        if not hasattr(error, "format_message"):
            raise
        if whole or type(error).__name__ != "MissingParameter":
            return error.format_message()
    return None


def test_a_command_that_does_not_exist_or_takes_no_such_option_is_noticed():
    assert fault("python -m precompute plan studies/quick.toml", whole=True) is None
    assert fault("python -m precompute plan", whole=False) is None
    for wrong in (
        "python -m precompute plan",
        "python -m precompute pln studies/quick.toml",
        "python -m precompute plan studies/quick.toml --soon",
        "anchorscope opne",
        "make runs",
        "python benchmarks/none.py",
        "python -m backend.none",
        "python benchmarks/sweep.py --none",
        "rm x",
    ):
        assert fault(wrong, whole=True), wrong


@pytest.mark.parametrize("page", TEXTS)
def test_every_command_can_be_called_as_it_stands(page):
    commands = [(command, True) for command in whole_commands(TEXTS[page])]
    commands += [(command, False) for command in named_commands(TEXTS[page])]
    assert not [(command, why) for command, whole in commands if (why := fault(command, whole=whole))]


@pytest.mark.parametrize("page", TEXTS)
def test_every_link_leads_to_a_file(page):
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", TEXTS[page])
    inside = [link for link in links if not re.match(r"[a-z]+:", link)]
    assert not [link for link in inside if not ((ROOT / page).parent / link).exists()]


@pytest.mark.parametrize("page", TEXTS)
def test_every_path_of_the_repository_that_is_named_is_there(page):
    top = "|".join(path.name for path in ROOT.iterdir() if path.is_dir() and path.name not in ("stores", ".venv"))
    named = re.findall(rf"`((?:{top})/[\w./-]*)`", TEXTS[page])
    if (
        "extending/add-" in page
    ):  # names files that one adds, beside those that are there or in a new folder beside them
        assert not [path for path in named if not any((ROOT / near).exists() for near in Path(path).parents[:2])]
        return
    assert not [path for path in named if not (ROOT / path).exists()]


def test_every_table_of_toml_is_toml():
    for text in TEXTS.values():
        for body in blocks(text, "toml"):
            tomllib.loads(body)


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    return unpack(ROOT / "assets" / "demo", tmp_path_factory.mktemp("demo") / "demo.duckdb")


def test_every_notebook_snippet_runs_on_the_demo(demo, monkeypatch):
    """Those of docs/extending are run by tests/test_extending.py."""
    monkeypatch.setenv("ANCHORSCOPE_STORES", str(demo))
    pages = [text for page, text in TEXTS.items() if "extending/" not in page]
    snippets = [body for text in pages for body in blocks(text, "python")]
    assert snippets
    for body in snippets:
        *before, last = body.strip().split("\n")
        names: dict = {}
        exec("\n".join(before), names)
        assert len(eval(last, names)) > 0


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_bytes()) <= 12_000


def test_every_page_is_in_the_index():
    for folder in ("docs", "docs/extending"):
        index = TEXTS[f"{folder}/README.md"]
        pages = {page.name for page in (ROOT / folder).glob("*.md")} - {"README.md"}
        assert not [name for name in pages if f"]({name})" not in index]
    assert "(docs/README.md)" in TEXTS["README.md"]


def test_every_table_and_column_is_documented_as_the_schema_says():
    """Write the file anew with `python -m backend.schema.tables > docs/schema.md`."""
    assert TEXTS["docs/schema.md"] == tables.as_document()


def test_every_column_of_the_search_is_documented_as_it_is_known():
    """Write the file anew with `python -m backend.search.columns > docs/search-columns.md`."""
    assert TEXTS["docs/search-columns.md"].strip() == columns.as_document().strip()


def test_every_key_of_a_study_file_is_documented_as_it_is_read():
    """Write the file anew with `python -m precompute.study_document > docs/study-files.md`."""
    assert TEXTS["docs/study-files.md"] == study_document.as_document()
    assert set(re.findall(r"^## `\[+(\w+)\]+`", TEXTS["docs/study-files.md"], re.MULTILINE)) == set(
        Study.model_fields
    ) - {"name", "seed"}
