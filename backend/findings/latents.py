"""What latents do to accuracy: a model's answers with all of its latents beside those that were forced with none, and
beside its siblings.

1. Of the first training that is stored, on its scored problems. A run without an answer is not right. Differences are
   paired by problem, in points of accuracy; p is McNemar's, by Holm over what is compared.
2. A model that stops at once stops earlier than it was trained to, which harms by itself. So the siblings are the
   control, trained alike: with pauses (as many positions, no recurrence), and with nothing between question and answer.
"""

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from backend.findings.finding import Finding, Number, Q, Way
from backend.findings.words import interval, number, some
from backend.latent.kinds import SIBLINGS
from backend.latent.summaries import at_the_end, early_answers
from backend.statistics.holm import holm
from backend.statistics.paired import Paired, mcnemar
from backend.store.store import Store
from backend.store.undone import Missing, lacking

_LATENT = "latent"


@dataclass(frozen=True)
class Compared:
    """Two sets of answers to the same problems."""

    label: str
    found: Paired
    p: float  # by Holm over all that are compared
    control: float | None = None  # the same difference of the sibling with pauses, in points


def find(store: Store) -> Finding | Missing:
    models, runs = store.latent_models(), store.latent_runs()
    models = models[models["model_id"].isin(runs["model_id"])]
    return lacking(store, "latents") if models.empty else told(models, runs)


def told(models: pd.DataFrame, runs: pd.DataFrame) -> Finding:
    """`models` are rows of `Store.latent_models` with runs among `Store.latent_runs`, at least one."""
    seed = models["training_seed"].iloc[0]
    group = models[models["training_seed"].isna() if pd.isna(seed) else models["training_seed"] == seed]
    recurrent = group[group["sibling"] == _LATENT]
    model = (recurrent if len(recurrent) else group).iloc[0]
    others = group[group["sibling"] != _LATENT] if len(recurrent) else group.iloc[:0]
    siblings = {str(row.sibling): str(row.model_id) for row in others.itertuples()}
    found = _compared(runs, str(model["model_id"]), siblings)
    numbers = tuple(
        Number(
            one.label,
            100 * one.found.difference,
            100 * one.found.low,
            100 * one.found.high,
            some(one.found.n, "problem"),
            "points of accuracy",
            p=one.p,
            control=one.control,
        )
        for one in found
    )
    return Finding(
        statement=_said(runs, str(model["model_id"]), siblings, found),
        numbers=numbers,
        control=_control(siblings),
        rows=pd.DataFrame(
            {
                "label": [one.label for one in numbers],
                "value": [one.value for one in numbers],
                "low": [one.low for one in numbers],
                "high": [one.high for one in numbers],
                "chance_low": None,
                "chance_high": None,
                "control": [one.control for one in numbers],
                "claimed": [one.claimed for one in numbers],
                "told": [f"{one.label}: {number(one.value)} {interval(one.low, one.high)} points" for one in numbers],
            }
        ),
        axis="points of accuracy",
        way=Way("latent_steps", "Answers after fewer latents", {"latent_reading": "early"}),
        lacks=None if siblings else Missing("It lacks its control: a sibling that was trained without latents.", None),
    )


def _compared(runs: pd.DataFrame, model: str, siblings: dict[str, str]) -> list[Compared]:
    """With all latents against none, and against each sibling; each where both are there."""
    own = runs[runs["model_id"] == model]
    pairs = [] if own["n_latents"].nunique() < 2 else [("all latents − none", _at_the_start(runs, model))]
    pairs += [(f"latents − sibling {_called(name)}", at_the_end(runs, one)) for name, one in siblings.items()]
    end = at_the_end(runs, model)
    tests = [(label, _paired(other, end)) for label, other in pairs]
    return [
        Compared(label, one, float(p), _pauses(runs, siblings) if label.startswith("all") else None)
        for (label, one), p in zip(tests, holm([one.p for _, one in tests]), strict=True)
    ]


def _pauses(runs: pd.DataFrame, siblings: dict[str, str]) -> float | None:
    """What all of its pauses do to the sibling that has them, in points."""
    if "pause" not in siblings:
        return None
    found = _paired(_at_the_start(runs, siblings["pause"]), at_the_end(runs, siblings["pause"]))
    return None if math.isnan(found.difference) else 100 * found.difference


def _at_the_start(runs: pd.DataFrame, model: str) -> pd.Series:
    """Whether each problem is answered right with the fewest latents of a model, by problem."""
    own = runs[runs["model_id"] == model]
    return own[own["n_latents"] == own["n_latents"].min()].set_index("problem_id")["is_correct"].eq(True)


def _paired(base: pd.Series, changed: pd.Series) -> Paired:
    both = base.index.intersection(changed.index)
    return mcnemar(base[both].tolist(), changed[both].tolist())


def _said(runs: pd.DataFrame, model: str, siblings: dict[str, str], found: list[Compared]) -> str:
    steps = early_answers(runs).sort_values("step", kind="stable")
    own = steps[steps["model_id"] == model]
    last = own.iloc[-1]
    said = f"With {some(int(last['step']), 'latent')} {_share(last)} of {some(int(last['n']), 'problem')} are answered"
    said += " right" if len(own) == 1 else f" right, with {int(own.iloc[0]['step'])} {_share(own.iloc[0])}"
    beside = [f"{_called(name)} {_share(steps[steps['model_id'] == one].iloc[-1])}" for name, one in siblings.items()]
    said += f"; of its siblings: {', '.join(beside)}." if beside else "."
    if not found:
        return said
    apart = [one for one in found if one.p <= Q]
    if len(apart) == len(found):
        return f"{said} Each difference is beyond chance (p ≤ {Q:g})."
    return (
        f"{said} {len(apart)} of {some(len(found), 'difference')} {'is' if len(apart) == 1 else 'are'} beyond chance."
    )


def _share(row: Any) -> str:
    return f"{100 * row['value']:.1f} % [{100 * row['low']:.1f}, {100 * row['high']:.1f}]"


def _called(sibling: str) -> str:
    known = SIBLINGS.get(sibling)
    return {"pause": "with pauses", "none": "with neither"}.get(sibling, known.label if known else sibling)


def _control(siblings: dict[str, str]) -> str:
    said = (
        "A model that is made to answer with fewer latents stops earlier than it was trained to, which harms by itself."
    )
    if siblings:
        said += " The siblings were trained alike: pauses are as many positions without the recurrence."
    if "pause" in siblings:
        said += " Grey mark: what all pauses add to the sibling that has them."
    return f"{said} Pairs are of the same problem; p is McNemar's, by Holm over these differences."
