"""What a person can choose: each choice is declared once, beside the view or the shared part that offers it.

A declaration is its word in links, what a sentence calls it, which values it takes, and what it belongs to. Who offers
a choice has the declaration; who only reads it, or sets it from elsewhere, may name it. A name that nobody declared is
an error, and so are two declarations of one name.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from backend.errors import AnchorscopeError
from backend.registry import Registry


@dataclass(frozen=True)
class Whole:
    """A whole number, in decimal digits."""

    low: int
    high: int

    def __call__(self, text: str) -> bool:
        return text.isascii() and text.isdecimal() and len(text) < 16 and self.low <= int(text) <= self.high


@dataclass(frozen=True)
class Decimal:
    """A number; none that is not finite lies between the two."""

    low: float
    high: float

    def __call__(self, text: str) -> bool:
        try:
            return self.low <= float(text) <= self.high
        except ValueError:
            return False


SWITCH = ("yes", "no")
# The values, or a check of one; None: what the study has, or a text, which the part that reads it looks at.
Allowed = Collection[str] | Callable[[str], bool] | None


@dataclass(frozen=True, eq=False)
class Field:
    name: str  # its word in links and kept runs; says what it is wherever it is read
    words: str  # what a sentence calls it
    allowed: Allowed
    default: str | None = None  # None: the first that is offered, or what the part that offers it says
    of: str | None = "study"  # the choice whose change makes this one meaningless; None: it is kept for good
    before: str = ""  # said before a value that does not say of itself what it is

    def takes(self, value: str) -> bool:
        """Whether the value could be one here or in another place."""
        if self.allowed is None:
            return False
        return self.allowed(value) if callable(self.allowed) else value in self.allowed

    @property
    def options(self) -> list[str]:
        """All values, in their order. Raises AnchorscopeError where they are not a list."""
        if self.allowed is None or callable(self.allowed):
            raise AnchorscopeError(f"The values of {self.name} are no list: who offers it says which.")
        return list(self.allowed)


FIELDS: Registry[Field] = Registry("choice")


def declare(field: Field) -> Field:
    """Take part in every link. Raises AnchorscopeError where there is a choice of that name."""
    return FIELDS.register(field)


def named(field: Field | str) -> str:
    """The word of a declared choice. Raises AnchorscopeError for any other."""
    name = field if isinstance(field, str) else field.name
    if FIELDS[name] is not field and not isinstance(field, str):
        raise AnchorscopeError(f"This {name} was not declared, but another choice of that name.")
    return name


def belonging_to(name: str) -> set[str]:
    """What a change of this choice makes meaningless: what belongs to it, and what belongs to that."""
    own = {other for other, field in FIELDS.items() if field.of == name}
    return own.union(*map(belonging_to, own))


STUDY = declare(Field("study", "study", None, of=None))


# Links of before


def _stream(value: str) -> dict[str, str]:
    model, _, rest = value.partition(":")
    layer, _, unit = rest.partition(":")
    found = {"model": model, "layer": layer, "unit": unit}
    return {name: word for name, word in found.items() if word not in ("", "none", "-1")}


def _layers(value: str) -> dict[str, str]:
    first, _, last = value.partition("-")
    return {"layer": first} | ({"last_layer": last} if last not in ("", first) else {})


# What links and kept runs said before: today's word for the same, or what it comes to. A word that stands here is never
# given to another choice. Of two that say the same, today's word counts, then the first.
FORMER: dict[str, str | Callable[[str], dict[str, str]]] = {
    # before one model and one layer held for every page
    "live": "model",
    "layers": _layers,
    "swept": _stream,
    "layer": _stream,  # MODEL:LAYER
    "kind": "direction",
    # before the panels about a chunk stood in a dock
    "chunk_panel": "dock",
    # before more than two features could be compared
    "pinned_feature": "compared_features",
    # before a word said what it is wherever it is read
    "above": "ablated_above",
    "added": "change_beta",
    "after": "typed_after",
    "against": "second_run",
    "asked": "interventions",
    "candidates": "only_candidates",
    "cells": "heat_cells",
    "change": "change_operation",
    "chosen": "heat_features",
    "claimed": "pairs_law",
    "colour": "map_colour",
    "column": "geometry_column",
    "columns": "pairs_geometry",
    "about": "vector_category",
    "component": "vector_component",
    "deleted": "chunk_deleted",
    "drawn": "vector_seed",
    "error": "change_error",
    "every": "every_convention",
    "factor": "change_factor",
    "filters": "feature_filters",
    "halfwidth": "resample_halfwidth",
    "highlight": "map_bright",
    "intervals": "importance_intervals",
    "level": "problem_level",
    "limit": "solution_tokens",
    "longest": "run_tokens",
    "made": "vector_layer",
    "map": "map_method",
    "measure": "ablation_measure",
    "metrics": "pairs_importance",
    "most": "resample_most",
    "n": "samples",
    "norm": "nrn_norm",
    "nucleus": "top_p",
    "numbers": "changed_features",
    "of": "vector_from",
    "other": "vector_minus",
    "own": "own_text",
    "panel": "dock",
    "pinned": "compared_features",
    "place": "steered_where",
    "prompt": "prompt_name",
    "prompted": "heat_with_prompt",
    "question": "own_question",
    "rank": "heat_order",
    "reasoning": "reasoning_category",
    "rest": "before_after_on",
    "reworded": "chunk_reworded",
    "rollouts": "rollout_kind",
    "rows": "heat_rows",
    "scale": "geometry_axis",
    "scaling": "latent_scaling",
    "scheme": "firing_on",
    "sets": "random_sets",
    "size": "before_after_beta",
    "solved": "solved_problems",
    "source": "changed_by",
    "start": "continue_from",
    "subset": "pairs_among",
    "tags": "tags_from",
    "through": "last_layer",
    "top": "changed_most",
    "truth": "own_answer",
    "typed": "text_from",
    "verdict": "answer_verdict",
    "view": "steepness_part",
    "beyond": "changed_above",
    "what": "run_kind",
    "while": "only_while",
    "words": "typed_text",
    "writer": "written_by",
    "written": "own_chain",
}


def read(link: Mapping[str, str]) -> dict[str, str]:
    """What a link says, by today's names and in one order. What is no name of a choice is left out."""
    found = {name: link[name] for name in FIELDS if link.get(name) and not (name in FORMER and ":" in link[name])}
    for name, now in FORMER.items():
        if link.get(name) and name not in found:
            found = (now(link[name]) if callable(now) else {now: link[name]}) | found
    return {name: found[name] for name in FIELDS if name in found}
