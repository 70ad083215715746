"""When text, forced answers and the lens commit to the answer, and which of them is shown to come first.

Commitments are those of `importance.commitment`; the three differences are held against chance together (Holm).
"""

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from backend.findings.finding import Finding, Number, Q, Way
from backend.findings.words import number, some
from backend.importance import commitment
from backend.importance.commitment import CURVES, DRAWN, FORCED, OWN, OWN_LENS, TEXT, Compared
from backend.lens.kinds import LENSES
from backend.statistics.commitment import KNOWN
from backend.statistics.holm import holm
from backend.store.store import Store
from backend.store.undone import Missing, lacking

_PAIRS = ((TEXT, FORCED), (TEXT, OWN_LENS), (FORCED, OWN_LENS))


def find(store: Store) -> Finding | Missing:
    outcomes = store.outcomes_along()
    if outcomes.empty:
        return lacking(store, "rollouts")
    lens, layer = read_by(store.readings_of())
    readings = commitment.under(store.answer_readings(), lens, layer)
    rows = commitment.commitments(store.own_answers(), outcomes, readings, OWN, DRAWN)
    if (rows["state"] == commitment.UNMEASURED).all():
        return lacking(store, "rollouts")
    return replace(told(rows, lens, layer), lacks=lacking(store, "commitment") if lens is None else None)


def read_by(readings: pd.DataFrame) -> tuple[str | None, int | None]:
    """The kind of lens and the layer: a fitted kind where one has read, at its last layer; None where none has."""
    by_lens = readings[~readings["is_model"].astype(bool)]
    kinds = [kind for kind in LENSES if kind in set(by_lens["lens"])]
    if not kinds:
        return None, None
    lens = next((kind for kind in kinds if LENSES[kind].is_fitted), kinds[0])
    return lens, int(by_lens.loc[by_lens["lens"] == lens, "layer"].max())


def told(rows: pd.DataFrame, lens: str | None, layer: int | None) -> Finding:
    """Of rows of `commitment.commitments`."""
    measured = set(rows.loc[rows["state"] != commitment.UNMEASURED, "curve"])
    shown = [curve for curve in (TEXT, FORCED, OWN_LENS) if curve in measured]
    found = [commitment.compared(rows, a, b) for a, b in _PAIRS if a in shown and b in shown]
    found = [one for one in found if one.difference.n]
    p = holm([one.difference.p for one in found]).tolist()
    names = {**CURVES, OWN_LENS: f"{lens} lens at layer {layer}"}
    return Finding(
        statement=" ".join([_when(rows, shown, names), *_first(found, p, names)]),
        numbers=tuple(
            Number(
                f"{names[one.first]} − {names[one.second]}",
                one.difference.mean,
                one.difference.low,
                one.difference.high,
                f"{one.difference.n} chains of {one.difference.n_clusters} problems",
                "chunks",
                p=value,
            )
            for one, value in zip(found, p, strict=True)
        ),
        control=(
            f"Only changes with a Bayes factor of {KNOWN:g} and more count; in chunks, over chains in which both are"
            " known. p: signs of whole problems are flipped, Holm's over these differences."
        ),
        rows=pd.DataFrame(
            {
                "label": [f"{names[one.first]} − {names[one.second]}" for one in found],
                "value": [one.difference.mean for one in found],
                "low": [one.difference.low for one in found],
                "high": [one.difference.high for one in found],
                "chance_low": [None for _ in found],
                "chance_high": [None for _ in found],
                "control": [None for _ in found],
                "claimed": [value <= Q for value in p],
                "told": [f"n = {one.difference.n} chains" for one in found],
            }
        ),
        way=Way("chains_of_thought", "One chain, and all", {"dock": "commitment"}),
        axis="difference of the change points, chunks",
    )


def _when(rows: pd.DataFrame, shown: Sequence[str], names: dict[str, str]) -> str:
    said = []
    for curve in shown:
        own = rows[(rows["curve"] == curve) & (rows["state"] != commitment.UNMEASURED)]
        commits = own.loc[own["state"] == commitment.COMMITS, "chunk"]
        at = f", at chunk {number(commits.median())} in the middle" if len(commits) else ""
        said.append(f"{names[curve]} in {len(commits)} of {some(len(own), 'chain')}{at}")
    return f"A known commitment to the answer: {'; '.join(said)}."


def _first(found: Sequence[Compared], p: Sequence[float], names: dict[str, str]) -> list[str]:
    said = []
    for one, value in zip(found, p, strict=True):
        first, second = names[one.first], names[one.second]
        if not value <= Q:
            continue
        earlier, later = (first, second) if one.difference.mean < 0 else (second, first)
        said.append(f"The change of {earlier} comes {number(abs(one.difference.mean))} chunks before that of {later}.")
    if said or not found:
        return said
    known = [one.detectable for one in found if pd.notna(one.detectable) and one.detectable != float("inf")]
    worth = f"; {number(max(known))} chunks would have been found in four of five such studies" if known else ""
    return [f"None is shown to come first{worth}."]
