"""The README says what is true of the code: its tables, keys, commands and folders."""

import re
from pathlib import Path
from typing import get_args

from backend.schema.tables import as_document
from precompute.study import Study

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_table_and_column_is_documented_as_the_schema_says():
    """Write the file anew with `python -m backend.schema.tables > docs/schema.md`."""
    assert (ROOT / "docs" / "schema.md").read_text(encoding="utf-8") == as_document()


def test_every_key_of_a_study_file_is_explained():
    section = README.split("## Your own study")[1].split("```")[0]
    parts = {
        name: field.annotation
        for name, field in Study.model_fields.items()
        if name not in ("name", "seed", "models", "problems")
    }
    for name, annotation in parts.items():
        assert f"[{name}]" in section, name
        (part,) = (kind for kind in (annotation, *get_args(annotation)) if hasattr(kind, "model_fields"))
        for key in part.model_fields:
            assert f"`{key}`" in section, f"{name}.{key}"


def test_every_make_target_and_command_named_exists():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`?make ([a-z]+)`?", README)) <= targets
    commands = set(
        re.findall(r'@app\.command\("?([a-z-]*)"?\)\s+def ([a-z_]+)', (ROOT / "precompute" / "cli.py").read_text())
    )
    known = {name or function for name, function in commands}
    assert set(re.findall(r"python -m precompute ([a-z-]+)", README)) <= known


def test_every_folder_and_picture_named_is_there():
    for name in re.findall(r"^\| `([a-z]+)/` \|", README, re.MULTILINE):
        assert (ROOT / name).is_dir(), name
    for picture in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README):
        assert (ROOT / picture).is_file(), picture
