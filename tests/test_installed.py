"""What is installed: one package of that name, whose code says of itself what it is called there."""

import ast
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import hatch_build

ROOT = Path(__file__).resolve().parents[1]
_WRITES_DOCUMENTS = {
    "precompute/train_categories.py",
    "precompute/evaluate_reasoner.py",
    "precompute/study_document.py",
    "backend/schema/tables.py",
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder that holds what pip would put into site-packages."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=300)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(folder / "site")
    wheel.unlink()
    return folder / "site"


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """The person's data folder, to which the demo is unpacked once."""
    return tmp_path_factory.mktemp("data")


def written(installed: Path) -> list[Path]:
    """All files but the bytecode that Python makes at first use, and pip when it installs: compiled anew by each
    process, the package takes longer than what it is asked for.
    """
    return sorted(path for path in installed.rglob("*") if "__pycache__" not in path.parts)


@pytest.fixture
def python(installed, data, tmp_path) -> Iterator[Callable[..., subprocess.CompletedProcess]]:
    """A Python that stands in an empty folder and finds the installed package."""
    environment = {**os.environ, "PYTHONPATH": str(installed), "XDG_DATA_HOME": str(data)}
    environment.pop("ANCHORSCOPE_DEMO", None)
    before = written(installed)

    def run(*arguments: str) -> subprocess.CompletedProcess:
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)

    yield run
    assert written(installed) == before  # nothing is written where the package lies


def test_a_wheel_brings_one_package_and_its_metadata(installed):
    names = {path.name for path in installed.iterdir()}
    assert names == {"anchorscope", "anchorscope-0.1.0.dist-info"}
    assert {"app", "assets", "backend", "pages", "precompute", "studies"} <= {
        path.name for path in (installed / "anchorscope").iterdir()
    }
    files = next(installed.glob("*.dist-info")).joinpath("RECORD").read_text(encoding="utf-8").splitlines()
    assert len(files) > 500 and not [line for line in files if re.search(r"\.png,|__pycache__|/stores/", line)]


def test_its_dependencies_are_the_lists_of_the_repository(installed):
    metadata = next(installed.glob("*.dist-info")).joinpath("METADATA").read_text(encoding="utf-8")
    needed = {line.split(": ")[1] for line in metadata.splitlines() if line.startswith("Requires-Dist: ")}
    run = set(hatch_build.requirements(ROOT / "requirements.txt"))
    assert {line for line in needed if "extra ==" not in line} == run
    assert {line.split(";")[0].strip() for line in needed if "extra ==" in line} == set(
        hatch_build.requirements(ROOT / "requirements-dev.txt")
    )


def test_a_notebook_outside_the_clone_opens_the_demo_and_finds_no_foreign_names(python, data, tmp_path):
    done = python(
        "-c",
        "from importlib.util import find_spec\n"
        "import anchorscope\n"
        "assert not any(map(find_spec, ('app', 'backend', 'precompute', 'pages')))\n"
        "study = anchorscope.open_study()\n"
        "assert study.frame('SELECT count(*) AS n FROM chunks').n[0] > 0\n"
        "print(study.path)\n"
        "from anchorscope.backend.errors import AnchorscopeError\n"
        "try:\n    anchorscope.open_study('nothing')\nexcept AnchorscopeError as error:\n    print(error)\n"
        "assert not any(map(find_spec, ('app', 'backend', 'precompute', 'pages')))",
    )
    assert done.returncode == 0, done.stderr
    assert str(data / "anchorscope" / "demo.duckdb") in done.stdout
    assert "no study 'nothing'" in done.stdout and "Here are: demo" in done.stdout
    assert "`anchorscope precompute run STUDY.toml`" in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--help",), 0, "precompute"),
        (("--version",), 0, "0.1.0"),
        (("precompute", "plan", "studies/quick.toml"), 0, "rollouts"),
        (("precompute", "status", "studies/quick.toml"), 1, "`anchorscope precompute run studies/quick.toml`"),
        (("study", "quick"), 0, 'name = "quick"'),
        (("open", "nothing"), 1, "nothing at nothing"),
    ],
)
def test_the_command_works_outside_the_clone(python, arguments, code, said):
    done = python("-m", "anchorscope", *arguments)
    assert done.returncode == code and said in done.stdout + done.stderr, done.stdout + done.stderr


def test_the_installed_dashboard_draws_the_demo_and_keeps_its_settings(python, installed):
    main = installed / "anchorscope" / "app" / "main.py"
    done = python(
        "-c",
        "from streamlit.testing.v1 import AppTest\n"
        f"test = AppTest.from_file({str(main)!r}, default_timeout=120).run()\n"
        "assert not test.exception, test.exception\n"
        "assert 'Findings' in [title.value for title in test.title], test.title\n"
        "import sys; assert not {'app', 'backend'} & set(sys.modules)\n",
    )
    assert done.returncode == 0, done.stderr
    assert 'address = "127.0.0.1"' in (main.parent / ".streamlit" / "config.toml").read_text(encoding="utf-8")


def test_only_imports_change_on_the_way():
    source = 'from backend.ids import x\n"from backend.ids import x"\nimport app.shell as s\nfrom backends import y\n'
    changed = source.replace("from backend.ids import x\n", "from anchorscope.backend.ids import x\n", 1)
    assert hatch_build.inside(source, "a.py") == changed.replace("import app", "import anchorscope.app")
    with pytest.raises(ValueError, match=r"a\.py, line 1: `import backend\.ids` binds"):
        hatch_build.inside("import backend.ids\n", "a.py")


def test_no_text_says_a_command_that_is_another_one_where_it_is_installed():
    said = ("python -m precompute", "make run", "make study", "make model")
    for folder in ("app", "backend", "precompute", "pages"):
        for file in (ROOT / folder).rglob("*.py"):
            source, name = file.read_text(encoding="utf-8"), file.relative_to(ROOT).as_posix()
            if name in {*_WRITES_DOCUMENTS, "backend/root.py"} or not any(command in source for command in said):
                continue
            tree = ast.parse(source)
            prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
            for node in ast.walk(tree):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
                    assert not any(command in node.value for command in said), (name, node.value)
