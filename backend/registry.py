"""A kind of thing that can be added to, by name: one entry in one place holds all there is to say of one of them.

An entry is a frozen dataclass with a `name`. A part left out is refused when the entry is made or registered, and a
name that no entry has is refused with those that there are: nothing falls through to another's behaviour.
"""

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from typing import Any, Protocol, TypeVar

from backend.errors import AnchorscopeError


class Named(Protocol):
    @property
    def name(self) -> str: ...


Entry = TypeVar("Entry", bound=Named)


class Registry(Mapping[str, Entry]):
    """Entries by name, in the order in which they came; pickers show them in that order.

    `what` is what an entry is, in words; `error` is raised for a name that is not there, for one that is there already,
    and for an entry without one of its parts.
    """

    def __init__(self, what: str, *entries: Entry, error: type[AnchorscopeError] = AnchorscopeError) -> None:
        self.what, self.error = what, error
        self._entries: dict[str, Entry] = {}
        for entry in entries:
            self.register(entry)

    def register(self, entry: Entry, *, replace: bool = False) -> Entry:
        """Add an entry, for as long as this process runs; `replace` lets it take the place of one of the same name."""
        for part in fields(entry):  # type: ignore[arg-type]  # every entry is a dataclass
            value: Any = getattr(entry, part.name)
            is_left_out = (value is None and "None" not in str(part.type)) or (
                isinstance(value, str) and not value.strip()
            )
            if part.default is MISSING and is_left_out:
                raise self.error(f"An entry for a {self.what} needs {part.name}; {entry.name or 'this one'} has none.")
        if entry.name in self._entries and not replace:
            raise self.error(f"There is a {self.what} {entry.name!r} already; give yours another name.")
        self._entries[entry.name] = entry
        return entry

    def remove(self, name: str) -> None:
        """Take back what was registered."""
        del self._entries[self[name].name]

    def __getitem__(self, name: str) -> Entry:
        if name not in self._entries:
            raise self.error(f"There is no {self.what} {name!r}; expected one of {', '.join(self._entries)}.")
        return self._entries[name]

    def get(self, name: str, default: Any = None) -> Any:
        """The entry, or `default`: for what another version stored, which is shown under its stored name."""
        return self._entries.get(name, default)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
