"""What a result needs to be made again: versions of everything that computed it, and the commit of this code."""

import platform
import subprocess
from importlib.metadata import version

from backend.root import INSTALLED, ROOT
from backend.schema.tables import SCHEMA_VERSION

# Commands whose row of `runs` has a study file as its parameters; those of an import are its own.
OF_A_STUDY_FILE = ("run", "refresh")
_LIBRARIES = (
    "torch",
    "transformers",
    "tokenizers",
    "numpy",
    "pandas",
    "scipy",
    "scikit-learn",
    "umap-learn",
    "duckdb",
    "pyarrow",
    "math-verify",
    "pint",
)


def versions() -> dict[str, str]:
    """Python, libraries and schema, by name."""
    return {
        "python": platform.python_version(),
        "schema": str(SCHEMA_VERSION),
        **{name: version(name) for name in _LIBRARIES},
    }


def commit() -> str | None:
    """The checkout's commit, with + where tracked files were changed; None outside a checkout. Installed: the commit
    that was built, or else the version.
    """
    if INSTALLED:  # the folder may lie inside somebody's own repository
        built = ROOT / "COMMIT"
        return built.read_text(encoding="utf-8") if built.is_file() else f"anchorscope {version('anchorscope')}"
    try:
        head = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "-uno"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + "+" * bool(changed)
