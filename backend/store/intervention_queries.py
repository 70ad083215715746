"""Interventions on features that were asked for, and the samples that answer: kept in the ledger of live runs, beside
the study.

1. Asking keeps one unit: the row of what was asked and its arms. From then on its samples are work to do, whoever does
   it and when.
2. The samples of one problem under one arm are one unit, kept as soon as they are whole. Arms have ids that follow from
   all that shapes their samples: where two interventions share one, it is sampled once.
3. What is left to do are the pairs of arm and problem without a unit: nothing else remembers progress.

So a run that was stopped goes on where it was, beside a study's folder or a portable file, whoever writes to the study
meanwhile.
"""

import contextlib
import json
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from backend.store.beside import remembered
from backend.store.experiments import Experiments, _frame, with_thoughts
from backend.store.unit_files import DamagedFile, StudyFolder, UnitLine, arrow_rows

ASKED, SAMPLED = "interventions", "intervention samples"  # stages of the ledger
_ROW, _ARMS, _SAMPLES = "feature_interventions", "feature_intervention_arms", "feature_intervention_samples"
_THOUGHTS = "feature_intervention_thoughts"

UNDER_WAY = "under_way.json"  # in the room
_UNDER_WAY = ("arm_id", "problem_id", "sample", "answer", "finish", "n_tokens")

Pair = tuple[str, str]  # ids of an arm and a problem


class Interventions:
    """The interventions of the study at `study`, a folder or a portable file, read anew at every call."""

    def __init__(self, study: Path | str):
        self._kept = Experiments(study)

    @property
    def room(self) -> StudyFolder:
        """Where whoever does the work says so: its lock and its progress. Nothing there is needed to go on."""
        return StudyFolder(self._kept.folder.path / "interventions", manifest="none.jsonl")

    def ask(self, row: Mapping[str, Any], arms: Sequence[Mapping[str, Any]]) -> bool:
        """Keep what is asked, from now on work to do; whether it was new, or has arms that it had not.

        Raises NotKept, and AnchorscopeError for wrong columns.
        """
        ids = [row["intervention_id"]]
        if len(self.asked(ids)) and {arm["arm_id"] for arm in arms} <= set(self.arms(ids)["arm_id"]):
            return False
        tables = {_ROW: arrow_rows(_ROW, [row]), _ARMS: arrow_rows(_ARMS, arms)}
        with self._kept.writing("keep an intervention") as writer:
            writer.add(ASKED, row["intervention_id"], tables)
        return True

    def forget(self, intervention_id: str) -> None:
        """No longer asked for, shown or exported as one; samples that are there stay, as other interventions may share
        them.
        """
        if len(self.asked([intervention_id])):
            with self._kept.writing("forget an intervention") as writer:
                writer.add(ASKED, intervention_id, {})

    def keep(
        self,
        arm_id: str,
        problem_id: str,
        samples: Sequence[Mapping[str, Any]],
        thoughts: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Keep all samples of one problem under one arm, and where their tokens went; when this returns they survive a
        kill and a power cut.

        Raises NotKept.
        """
        given = {(one["arm_id"], one["problem_id"]) for one in (*samples, *thoughts)}
        if strangers := given - {(arm_id, problem_id)}:
            raise ValueError(f"samples of {sorted(strangers)} given with arm {arm_id} and problem {problem_id}")
        tables = {_SAMPLES: arrow_rows(_SAMPLES, samples)}
        if thoughts:
            tables[_THOUGHTS] = arrow_rows(_THOUGHTS, thoughts)
        with self._kept.writing("keep samples") as writer:
            writer.add(SAMPLED, f"{arm_id}.{problem_id}", tables)

    def note_under_way(self, samples: Sequence[Mapping[str, Any]]) -> None:
        """Show whoever looks the samples that have ended in units that are not whole yet: arm_id, problem_id, sample,
        answer, finish and n_tokens of each. Nothing is read from there but what a page shows.
        """
        with contextlib.suppress(OSError):  # as for progress: what a run is for does not depend on it
            if samples:
                temporary = self.room.path / "under_way.tmp"
                temporary.write_text(
                    json.dumps([{name: row[name] for name in _UNDER_WAY} for row in samples]), encoding="utf-8"
                )
                os.replace(temporary, self.room.path / UNDER_WAY)
            else:
                (self.room.path / UNDER_WAY).unlink(missing_ok=True)

    def under_way(self) -> pd.DataFrame:
        """Those samples; none where the file is not there, or is not what `note_under_way` wrote."""
        try:
            rows = json.loads((self.room.path / UNDER_WAY).read_text(encoding="utf-8"))
            return pd.DataFrame([[row[name] for name in _UNDER_WAY] for row in rows], columns=list(_UNDER_WAY))
        except (OSError, ValueError, TypeError, KeyError):
            return pd.DataFrame(columns=list(_UNDER_WAY))

    def asked(self, ids: Collection[str] | None = None) -> pd.DataFrame:
        """Rows of feature_interventions, the newest first: some of them, or all."""
        rows = self._kept.units(_ROW, ASKED, ids)
        return _frame(rows.sort_by([("created_at", "descending"), ("intervention_id", "ascending")]))

    def arms(self, ids: Collection[str] | None = None) -> pd.DataFrame:
        """Rows of feature_intervention_arms, of some interventions or of all."""
        return _frame(self._kept.units(_ARMS, ASKED, ids))

    def samples(self, arm_ids: Collection[str]) -> pd.DataFrame:
        """Every sample there is under these arms, in key order; with n_thinking, n_answer and thought, unknown of those
        that were kept before these were counted.
        """
        wanted = set(arm_ids)
        return with_thoughts(_SAMPLES, self._under(_SAMPLES, wanted), self._under(_THOUGHTS, wanted))

    def _under(self, table: str, arm_ids: Collection[str]) -> pa.Table:
        own = {key: line for key, line in self._kept.lines(SAMPLED).items() if key.partition(".")[0] in arm_ids}
        published = self._kept.published(table, but=own.values())
        there = published.filter(pc.is_in(published["arm_id"], pa.array(sorted(arm_ids), pa.string())))
        return pa.concat_tables([there, *self._read(table, own.values())])

    def done(self) -> set[Pair]:
        """Arms and problems whose samples are there."""
        published = self._kept.published(_SAMPLES, columns=("arm_id", "problem_id"))
        kept = {(arm, problem) for arm, _, problem in (key.partition(".") for key in self._kept.lines(SAMPLED))}
        return kept | set(zip(published["arm_id"].to_pylist(), published["problem_id"].to_pylist(), strict=True))

    def _read(self, table: str, lines: Collection[UnitLine]) -> list[pa.Table]:
        """The table's rows of each unit; none of one that is damaged, or was forgotten."""
        found = []
        for line in lines:
            with contextlib.suppress(DamagedFile):
                found.append(remembered(self._kept.folder.path, line))
        return [unit[table] for unit in found if table in unit]


def left(asked: pd.DataFrame, arms: pd.DataFrame, done: Collection[Pair]) -> list[Pair]:
    """What is to be done of these interventions, each pair once: those asked first come first, problem by problem, all
    arms of each.
    """
    by_id = {name: own for name, own in arms.groupby("intervention_id")}
    pairs: dict[Pair, None] = {}
    for row in asked.sort_values(["created_at", "intervention_id"]).itertuples():
        if (own := by_id.get(row.intervention_id)) is None:
            continue
        for problem in row.problems:
            pairs |= dict.fromkeys((arm, problem) for arm in own["arm_id"])
    return [pair for pair in pairs if pair not in done]
