"""Which features of a dictionary a table shows: bounds on a number, choices of a word, words within a label.

All filters together are one short text, so that they fit in a link: `nrn_l1:0.9..1,class:suspect|shared,label:wait`. A
filter without bounds, choices or words lets everything pass. A value that is unknown passes no filter but the choice of
what is not known.
"""

import math
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote, unquote

import pandas as pd

NOT_KNOWN = "none"  # the choice of words that are missing


@dataclass(frozen=True)
class Column:
    """What is known of a feature, as the table and the filters call it."""

    label: str
    holds: Literal["number", "word", "text"]
    meaning: str
    compares: bool = False  # unknown in a dictionary of one model


COLUMNS = {
    "label": Column("label", "text", "What people call it."),
    "class": Column("class", "word", "By NRN (L2) and latent scaling; the rule is above.", True),
    "nrn_l1": Column("NRN, L1", "number", "Decoder norms, L1: 0 base only, 0.5 shared, 1 reasoner only.", True),
    "nrn_l2": Column(
        "NRN, L2", "number", "Decoder norms, L2: the norm that training penalises, and the one of the classes.", True
    ),
    "nrn_rms": Column(
        "NRN, RMS", "number", "Decoder norms over √width: the same share in both models is 0.5 at any widths.", True
    ),
    "nu_eps": Column(
        "ν^ε", "number", "Latent scaling of the error, base over reasoner: 0 reasoner only, 1 shared.", True
    ),
    "nu_r": Column("ν^r", "number", "Latent scaling of the reconstruction, base over reasoner.", True),
    "frequency": Column("fires on", "number", "Share of the study's CoT tokens on which it fires."),
    "top_category": Column("function", "word", "Function tag on which it fires most, relative to how often it fires."),
    "top_category_lift": Column(
        "lift, function", "number", "Lift: frequency on that tag over frequency on all tagged chunks."
    ),
    "reasoning": Column(
        "target words",
        "word",
        "Reasoning category on whose target words it fires most, relative to how often it fires.",
    ),
    "reasoning_lift": Column(
        "lift, target words", "number", "Lift: frequency on these tokens over frequency on all tokens."
    ),
    "before_reasoning": Column("before target words", "word", "The same for the tokens that predict the target words."),
    "before_reasoning_lift": Column(
        "lift, before target words", "number", "Lift: frequency on these tokens over frequency on all tokens."
    ),
    "mean_activation": Column("mean f", "number", "Mean size of its activation when it fires."),
    "max_activation": Column("max f", "number", "Largest activation."),
    "rdn_l1": Column("RDN, L1", "number", "Reasoner's decoder norm over base decoder norm, L1.", True),
    "rdn_l2": Column("RDN, L2", "number", "The same in L2.", True),
    "decoder_cosine": Column("decoder cosine", "number", "Between its two decoder rows.", True),
    "share_eps": Column("1/(1+ν^ε)", "number", "ν^ε as a share, on the scale of NRN.", True),
    "share_r": Column("1/(1+ν^r)", "number", "ν^r as a share, on the scale of NRN.", True),
    "starred": Column("starred", "word", "Whether a person starred it."),
    "note": Column("note", "text", "What a person noted of it."),
    "feature": Column("feature", "number", "Its number in the dictionary."),
}


@dataclass(frozen=True)
class Between:
    """Bounds, both included; None where there is none."""

    low: float | None = None
    high: float | None = None


Filter = Between | tuple[str, ...] | str
Filters = dict[str, Filter]


def nothing(column: str) -> Filter:
    """A filter on the column that lets everything pass."""
    filters: Filters = {"number": Between(), "word": (), "text": ""}
    return filters[COLUMNS[column].holds]


def as_text(filters: Filters) -> str:
    return ",".join(f"{column}:{_written(given)}" for column, given in filters.items())


def parse(text: str) -> Filters:
    """What `as_text` has written. Raises ValueError for anything else."""
    found: Filters = {}
    for part in text.split(","):
        column, colon, value = part.partition(":")
        if not colon or column not in COLUMNS or column in found:
            raise ValueError(f"no filter: {part!r}")
        found[column] = _read(COLUMNS[column].holds, value)
    return found


def passing(features: pd.DataFrame, filters: Filters) -> pd.Series:
    """For each row whether it passes all filters."""
    passes = pd.Series(True, index=features.index)
    for column, given in filters.items():
        if given != nothing(column):
            passes &= _passes(features[column], given)
    return passes


def _written(given: Filter) -> str:
    if isinstance(given, Between):
        return "..".join("" if bound is None else f"{bound:.6g}" for bound in (given.low, given.high))
    return "|".join(quote(word, safe="") for word in given) if isinstance(given, tuple) else quote(given, safe="")


def _read(holds: str, value: str) -> Filter:
    if holds == "number":
        low, dots, high = value.partition("..")
        bounds = [float(bound) if bound else None for bound in (low, high)]
        if not dots or any(bound is not None and not math.isfinite(bound) for bound in bounds):
            raise ValueError(f"no bounds: {value!r}")
        return Between(*bounds)
    return tuple(unquote(word) for word in value.split("|") if word) if holds == "word" else unquote(value)


def _passes(values: pd.Series, given: Filter) -> pd.Series:
    if isinstance(given, Between):
        low, high = (-math.inf if given.low is None else given.low), (math.inf if given.high is None else given.high)
        return values.between(low, high).fillna(False).astype(bool)
    if isinstance(given, tuple):
        return values.astype(object).where(values.notna(), NOT_KNOWN).isin(given)
    return values.fillna("").astype(str).str.contains(given, case=False, regex=False)
