"""docs/study-files.md: every key of a study file, from the records that read it.

`python -m precompute.study_document > docs/study-files.md` writes the file anew.
"""

import json
from collections.abc import Iterator
from typing import Any

from precompute.study import Study

_HEAD = """# Study files

A study is one TOML file. A key that does not exist, or a value out of range, is refused with the key, the value and
what is allowed. These pages say more: [prompts](prompts.md), [problems](problems.md),
[dictionaries](dictionaries.md), [families of models](families.md).
`python -m precompute.study_document > docs/study-files.md` writes this file."""


def as_document() -> str:
    schema = Study.model_json_schema()
    tables = [("", "", schema), *_inside("", schema, schema["$defs"])]
    return "\n\n".join([_HEAD, *(_section(title, inside, table) for title, inside, table in tables)]) + "\n"


def _inside(inside: str, table: dict[str, Any], records: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Title, what stands before its keys' own tables, and schema of each table in a table, however deep."""
    for key, value in table["properties"].items():
        if (name := _record(value)) is not None:
            yield _table(inside + key, value), f"{inside}{key}.", records[name]
            yield from _inside(f"{inside}{key}.", records[name], records)


def _section(title: str, inside: str, table: dict[str, Any]) -> str:
    required = table.get("required", [])
    lines = [
        f"## `{title}`" if title else "## At the top",
        "",
        " ".join(table["description"].split()),
        "",
        "| key | value | left out | meaning |",
        "| --- | --- | --- | --- |",
    ]
    for key, value in table["properties"].items():
        if not (about := value.get("description")):
            if _record(value) is None:
                raise ValueError(f"the key {key} of {title or 'a study'} has no description")
            about = f"see `{_table(inside + key, value)}`"
        lines.append(f"| `{key}` | {_allowed(value)} | {_default(value, key in required)} | {_cell(about)} |")
    return "\n".join(lines)


def _record(value: dict[str, Any]) -> str | None:
    """The name of the record that a key holds, one or many of; None for a plain value."""
    if "$ref" in value:
        return str(value["$ref"].rpartition("/")[2])
    inner = [*value.get("anyOf", ()), *([value["items"]] if "items" in value else [])]
    return next((name for part in inner if (name := _record(part)) is not None), None)


def _table(key: str, value: dict[str, Any]) -> str:
    return f"[[{key}]]" if value.get("type") == "array" else f"[{key}]"


def _default(value: dict[str, Any], required: bool) -> str:
    if required:
        return "must be given"
    default = value.get("default")
    if default is None or default == [] or _record(value) is not None:
        return ""
    return f"`{_cell(json.dumps(default))}`"


def _allowed(value: dict[str, Any]) -> str:
    """Type and range of a value, in words."""
    if _record(value) is not None:
        return "tables" if value.get("type") == "array" else "table"
    if "anyOf" in value:
        return " or ".join(_allowed(part) for part in value["anyOf"] if part.get("type") != "null")
    if "enum" in value or "const" in value:
        return ", ".join(f"`{one}`" for one in value.get("enum", [value.get("const")]))
    if value["type"] == "array":
        return f"list of {_allowed(value['items'])}"
    names = {"integer": "whole number", "number": "number", "string": "text", "boolean": "`true` or `false`"}
    names["object"] = "inline table"
    bounds = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}
    limits = [f"{word} {value[bound]:,}" for bound, word in bounds.items() if bound in value]
    what = "path" if value.get("format") == "path" else names[value["type"]]
    return " ".join([what, *limits])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(as_document(), end="")
