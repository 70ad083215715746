"""Readers of other people's data: every module of this package is one, and its IMPORTER is the entry.

An importer is called what its file is called, with - for _, so that its name is known without importing it.
"""

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from backend.errors import AnchorscopeError
from backend.registry import Registry

if TYPE_CHECKING:
    from precompute.checked_json import Part


@dataclass(frozen=True)
class Importer:
    """How one layout of folders is read."""

    name: str  # as the command line has it
    words: str  # whose data it reads
    parts: "Callable[[Path], list[Part]]"  # the CoTs below a folder; raises ImportFormatError for what is none


IMPORTERS: Registry[Importer] = Registry("importer")


def names() -> list[str]:
    """What can be read, without importing it."""
    return list(dict.fromkeys([*map(_name, _modules()), *IMPORTERS]))


def importer(name: str) -> Importer:
    """Raises AnchorscopeError for a name that there is none of, saying what there is."""
    for module in _modules():
        if _name(module) not in IMPORTERS:
            found = import_module(f"{__name__}.{module}").IMPORTER
            if found.name != _name(module):
                raise AnchorscopeError(f"{module}.py calls its importer {found.name!r}; expected {_name(module)!r}.")
            IMPORTERS.register(found)
    if name not in IMPORTERS:
        known = ", ".join(f"{one.name} ({one.words})" for one in IMPORTERS.values())
        raise AnchorscopeError(f"There is no importer {name!r}; there are {known}.")
    return IMPORTERS[name]


def _modules() -> list[str]:
    return [module.name for module in pkgutil.iter_modules(__path__)]


def _name(module: str) -> str:
    return module.replace("_", "-")
