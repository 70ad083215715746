"""Rows that an earlier study file asked for and that serve today's: what was measured is not measured again.

A stored unit serves where its key is what today's inputs give with the directions and positions that it holds: then it
differs from today's unit in these alone, and a row that both have is the same in both. Units that count no more serve
too, and what serves is copied into the unit that counts. A portable study has no unit files, so that none serves.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from backend.schema.migrations import upgraded
from backend.store.unit_files import DamagedFile, StudyFolder, UnitLine
from precompute.units import Context, Unit

Tables: TypeAlias = dict[str, list[dict[str, Any]]]
Held = Callable[[Tables], Mapping[str, Any]]  # the inputs of a unit that its own rows say


class KeptUnits:
    """The stored units of a stage, counting or not, by what they are of."""

    def __init__(self, context: Context, stage: str) -> None:
        self._folder = StudyFolder(context.store.path)
        self._lines: dict[str, list[UnitLine]] = defaultdict(list)
        ledger = self._folder.ledger()
        for (of, key), line in (*ledger.retired.items(), *ledger.live.items()):
            if of == stage:
                self._lines[key.rpartition("@")[0]].append(line)

    def that_serve(self, unit: Unit, held: Held) -> Iterator[Tables]:
        """The tables of each stored unit that differs from `unit` in what `held` says alone, the newest last."""
        for line in self._lines[unit.unit_id]:
            found = self._read(line)
            if found is not None and Unit(unit.unit_id, {**unit.inputs, **held(found)}).key == line.key:
                yield found

    def _read(self, line: UnitLine) -> Tables | None:
        """None of a unit that is damaged: it is of no use, and work to do anyway."""
        found: Tables = {}
        try:
            for file in line.files:
                rows = upgraded(file.table, self._folder.read(file), line.schema)
                found[file.table] = rows.to_pylist()
        except DamagedFile:
            return None
        return found
