"""How the repository becomes the one package `anchorscope` of a wheel.

1. In the repository the code imports `backend`, `app`, `precompute`. Names so common must not land in anybody's
   site-packages, so the wheel has these folders inside `anchorscope`.
2. Their imports are rewritten on the way: `from backend.ids import …` becomes `from anchorscope.backend.ids import …`.
   Python's own parser says where an import stands; all other text stays as it is. Whatever else depends on a module's
   name asks `backend.root`.
3. Dependencies are those of requirements.txt, and the extra `dev` is requirements-dev.txt: one list, in one place.
"""

import ast
import shutil
import subprocess
import tempfile
from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

PACKAGE = "anchorscope"
FOLDERS = ("app", "assets", "backend", "pages", "precompute", "studies")  # those that a program at run time reads
_PACKAGES = {"app", "backend", "precompute"}
_LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc", "*.png", ".*")  # pictures are the documents'


def requirements(file: Path) -> list[str]:
    """The requirements of a file without their reasons; `-r` lines are what is required already."""
    lines = (line.partition("#")[0].strip() for line in file.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("-r ")]


def inside(source: str, name: str) -> str:
    """The source with its imports of our packages as they are inside `anchorscope`."""
    places = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.ImportFrom(level=0, module=str(module)) if module.partition(".")[0] in _PACKAGES:
                places.append((node.lineno, node.col_offset + len("from ")))
            case ast.Import(names=names):
                for alias in names:
                    if alias.name.partition(".")[0] in _PACKAGES:
                        if alias.asname is None:
                            raise ValueError(
                                f"{name}, line {alias.lineno}: `import {alias.name}` binds a name that is another one"
                                f" inside {PACKAGE}; write `from … import …`, or `import … as …`."
                            )
                        places.append((alias.lineno, alias.col_offset))
    lines = source.splitlines(keepends=True)
    for line, column in sorted(places, reverse=True):
        text = lines[line - 1]
        lines[line - 1] = f"{text[:column]}{PACKAGE}.{text[column:]}"
    return "".join(lines)


def assemble(root: Path, target: Path) -> None:
    """Make `target` the package as it is installed."""
    shutil.copytree(root / PACKAGE, target, ignore=_LEFT_OUT)
    for folder in FOLDERS:
        shutil.copytree(root / folder, target / folder, ignore=_LEFT_OUT)
    # Streamlit reads settings beside its script, which hold before those of the person and of the folder.
    shutil.copytree(root / ".streamlit", target / "app" / ".streamlit")
    for file in target.rglob("*.py"):
        file.write_text(inside(file.read_text(encoding="utf-8"), str(file.relative_to(target))), encoding="utf-8")
    if (commit := _commit(root)) is not None:
        (target / "COMMIT").write_text(commit, encoding="utf-8")


def _commit(root: Path) -> str | None:
    """The checkout's commit, with + where tracked files were changed; None outside a checkout."""
    if not (root / ".git").exists():
        return None
    try:
        head, changed = (
            subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True).stdout.strip()
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "-uno"])
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + "+" * bool(changed)


class Dependencies(MetadataHookInterface):
    def update(self, metadata: dict) -> None:
        metadata["dependencies"] = requirements(Path(self.root, "requirements.txt"))
        metadata["optional-dependencies"] = {"dev": requirements(Path(self.root, "requirements-dev.txt"))}


class Inside(BuildHookInterface):
    def initialize(self, version: str, build_data: dict) -> None:
        if self.target_name != "wheel" or version == "editable":  # an editable one is the repository itself
            return
        self.scratch = tempfile.TemporaryDirectory()
        made = Path(self.scratch.name, PACKAGE)
        assemble(Path(self.root), made)
        build_data["force_include"][str(made)] = PACKAGE

    def finalize(self, version: str, build_data: dict, artifact_path: str) -> None:
        if hasattr(self, "scratch"):
            self.scratch.cleanup()
