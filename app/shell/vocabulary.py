"""The words a reader sees: what each stored name is called, in which unit, and what it means in a sentence."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from backend.cot import categories
from backend.geometry.direction_kinds import DIRECTION_KINDS
from backend.importance import conventions, metric_registry
from backend.importance.metric_registry import METRICS as METRICS
from backend.importance.metric_registry import Metric as Metric
from backend.models.interventions import PLACES, UNITS
from backend.store.decided import Q
from backend.store.geometry_columns import COLUMNS, column_named, may_be_column
from backend.store.registered import words_of


@dataclass(frozen=True)
class Column:
    """How a geometry column (one of `backend.store.geometry_columns`) is shown."""

    label: str
    unit: str
    meaning: str

    def axis(self, unit: str) -> str:
        """Label and unit as on an axis; `unit` is that of β."""
        return f"{self.label}, {self.unit}" + (f" (β in {unit_words(unit)})" if "β" in self.unit else "")


CONVENTIONS = {name: convention.label for name, convention in conventions.CONVENTIONS.items()} | {
    conventions.PUBLISHED: "as published by the authors of the data",
    conventions.ALL: "the same under every convention",
}

CATEGORIES = categories.NAMES | {"untagged": "Not tagged"}

RUN_KINDS = {
    "stream": "One continuation",
    "continue": "Many",
    "dose": "Dose–response",
    "wording": "Reword the sentence",
    "curve": "KL(β)",
}

# What an arm is called, by the name it is stored under: `base` is a role of models, and says nothing of an arm.
ARMS = {"base": "unsteered", "changed": "steered", "flipped": "sign flipped", "random": "random directions"}
# Where a sentence is reworded nothing is steered.
REWORDED_ARMS = {
    "base": "as written",
    "changed": "reworded",
    "same": "the same sentence again",
    "paraphrase": "your paraphrase",
}

OUTCOMES = {
    "accuracy": "accuracy",
    "thinking": "thinking, tokens",
    "answering": "answer, tokens",
    "length": "all, tokens",
    "reflection_rate": "self-reflection words per 100 tokens",
    "repetition": "repetition (word 4-grams)",
    "compression_ratio": "compression ratio",
    "cap_share": "cut at the cap",
    "degenerate_share": "degenerate",
}

FINISHES = {"eos": "ended by itself", "cap": "cut at the cap"}

THOUGHTS = {
    "closed": "",
    "open": ", the thought did not end",
    "untagged": ", no tag says where the answer begins",
}


def spent_words(n_tokens: int, n_thinking: int | None, n_answer: int | None, thought: str | None) -> str:
    """The length of a continuation: thinking tokens, and those of its answer apart; what is not known is said so."""
    if thought is None or n_thinking is None or pd.isna(thought) or pd.isna(n_thinking):
        return f"{n_tokens} tokens in all, thinking tokens not counted"
    answer = "" if n_answer is None or pd.isna(n_answer) else f" and {int(n_answer)} answer"
    return f"{int(n_thinking)} thinking{answer} tokens{THOUGHTS.get(thought, '')}"


METHODS = {"umap_2d": "UMAP, 2-D", "umap_3d": "UMAP, 3-D", "pca_2d": "PCA, 2-D", "pca_3d": "PCA, 3-D"}


def unit_words(name: str) -> str:
    """What β counts, as on an axis."""
    found = UNITS.get(name)
    return found.words if found else name


def position_words(name: str) -> str:
    """Where a swept chunk was steered."""
    found = PLACES.get(name)
    return (found.as_swept or found.words) if found else name


def metric(name: str) -> Metric:
    """How to show `name`; one whose code is not here by the study's words, or else under its stored name."""
    return metric_registry.metric_named(name)


def metric_choice(choice: str) -> str:
    """`metric:convention` as a person would call it."""
    name, _, convention = choice.partition(":")
    shown = metric(name)
    return shown.axis if convention == "all" else f"{shown.axis} · {convention}"


def metric_briefly(choice: str) -> str:
    """The same where little room is and all choices are importances: without unit, the word importance, and a
    convention that the name says already.
    """
    name, _, convention = choice.partition(":")
    shown = metric(name).short.replace(" importance", "")
    return shown if convention in ("all", "jsd") else f"{shown} · {convention}"


def definition(name: str, convention: str) -> str:
    """What a value of a metric under a convention is: direction, comparator, outcomes and smoothing."""
    label = CONVENTIONS.get(convention, "stored under this name")
    return ". ".join(filter(None, (f"Convention {convention}: {label}", metric_registry.definition(name, convention))))


def column(name: str) -> Column:
    """How to show the geometry column `name`; an importance metric can be one too."""
    of_metric = name not in COLUMNS and (name in METRICS or words_of("metric", name) is not None)
    found = metric(name) if of_metric or not may_be_column(name) else column_named(name)
    return Column(found.label, found.unit, found.meaning)


def direction_words(kind: str) -> str:
    """How to call a way to make a direction, in a picker."""
    found = DIRECTION_KINDS.get(kind)
    return _strange_kind(kind) if found is None else (found.by_hand and found.by_hand.words) or found.words


def studied_words(kind: str) -> str:
    """How to call a study's own directions of a kind."""
    found = DIRECTION_KINDS.get(kind)
    return _strange_kind(kind) if found is None else found.words


def _strange_kind(kind: str) -> str:
    said = words_of("direction", kind)
    return kind if said is None else said.label


def direction_order(kinds: Iterable[str]) -> list[str]:
    """The registry's, and after them those that it does not know."""
    there = set(kinds)
    return [kind for kind in DIRECTION_KINDS if kind in there] + sorted(there - set(DIRECTION_KINDS))


def category(name: str) -> str:
    return CATEGORIES.get(name, name)


SET_BY_SMOOTHING = "set by the 1e-9 in the logarithm"


def smoothing_decides(name: str, convention: str | None, value: float, n_comparator: float | None = None) -> bool:
    """Whether a KL under a convention that adds 1e-9 to every count is so large that the 1e-9 sets its size.

    Where every answer of p was given by some of q's n rollouts, KL is at most ln n: what is larger says that one was
    not, and ln(1e9) = 21 stands for it. Where n is unknown, from 10 nats on: with half of the answers of one side
    unseen on the other, ln(1e9)/2 is about that.
    """
    most = 10.0 if n_comparator is None or pd.isna(n_comparator) or n_comparator < 1 else math.log(n_comparator)
    return metric(name).is_kl and _adds_little(convention) and value > most


def decision(p: float | None, q: float | None, n_tested: float | None) -> str:
    """The decision on one chunk's importance, in words; empty where its metric has no p."""
    if p is None or q is None or pd.isna(p) or pd.isna(q):
        return ""
    verdict = "more than chance" if q <= Q else "no more than chance gives"
    return f"{verdict}: permutation p = {p:.2g}, q = {q:.2g} over the {int(n_tested or 0)} chunks of the study"


def _adds_little(convention: str | None) -> bool:
    found = conventions.CONVENTIONS.get(conventions.like(convention or ""))
    return found is not None and found.smoothing < 1e-3
