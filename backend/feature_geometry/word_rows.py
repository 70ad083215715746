"""Rows of parallelograms: every class in every space, by model, and two models compared on the same pairs."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from backend.feature_geometry.cleaning import Words, clean
from backend.feature_geometry.parallelograms import (
    Compared,
    Measured,
    compare,
    compare_ratios,
    extremes,
    measure,
)
from backend.feature_geometry.word_pairs import WordPair
from backend.statistics.paired import paired_difference

EVERY_CLASS = "all classes"  # the row over classes
_DIGITS = 4  # of a curve's losses: their own error is larger


@dataclass(frozen=True)
class Spaces:
    """In which spaces classes are measured, and how."""

    cleanings: Sequence[str]
    fitted_on: Sequence[str]
    components: Sequence[int]
    shuffles: int
    examples: int
    seed: int

    def named(self) -> Iterator["Space"]:
        for cleaning in self.cleanings:
            for fitted_on in self.fitted_on:
                for components in self.components:
                    yield Space(cleaning, fitted_on, components)


@dataclass(frozen=True)
class Space:
    cleaning: str
    fitted_on: str
    components: int

    def row(self) -> dict[str, Any]:
        return {"cleaning": self.cleaning, "fitted_on": self.fitted_on, "components": self.components}


Found = dict[tuple[Space, str], Measured]  # by space and class


def found(words: Words, spaces: Spaces) -> Found:
    """Every class in every space that there is: principal components that the words do not have are left out."""
    measured: Found = {}
    for cleaning in spaces.cleanings:
        cleaned = clean(words, cleaning, seed=spaces.seed)
        for space in spaces.named():
            if space.cleaning != cleaning:
                continue
            for name in words.classes:
                seen = cleaned.seen(name, fitted_on=space.fitted_on, components=space.components)
                if seen is not None:
                    measured[space, name] = measure(seen, shuffles=spaces.shuffles, seed=spaces.seed)
    return measured


def reading_row(words: Words) -> dict[str, Any]:
    """Columns of `word_readings` but for model, layer and context."""
    norms = np.linalg.norm(words.vocabulary, axis=1)
    variances = np.linalg.svd(words.vocabulary - words.vocabulary.mean(0), compute_uv=False) ** 2
    return {"n_words": len(norms)} | known(
        {
            "norm_median": np.median(norms),
            "norm_largest": norms.max(),
            "first_share": variances[0] / variances.sum() if variances.sum() > 0 else math.nan,
        }
    )


def class_rows(measured: Found) -> Iterator[dict[str, Any]]:
    """Columns of `parallelograms` but for model and layer."""
    for (space, name), one in measured.items():
        spread = np.quantile(one.null_means, [0.025, 0.975]) if one.null_means.size else (math.nan, math.nan)
        yield known(
            space.row()
            | {
                "word_class": name,
                "n_pairs": len(one.losses),
                "n_quadruples": int(one.upper.size),
                "loss": one.mean,
                "null": one.null,
                "null_low": spread[0],
                "null_high": spread[1],
                "p": one.p,
                "ratio": one.ratio,
                "ratio_low": one.ratio_interval.low,
                "ratio_high": one.ratio_interval.high,
            }
        ) | {"losses": _rounded(one.curve), "null_losses": _rounded(one.null_curve)}


def example_rows(measured: Found, pairs: Mapping[str, Sequence[WordPair]], n: int) -> Iterator[dict[str, Any]]:
    """Columns of `parallelogram_examples` but for model and layer: the best from 1 on, the worst from −1 down."""
    for (space, name), one in measured.items():
        for places, sign in zip(extremes(one.losses, n), (1, -1), strict=True):
            for rank, (i, j) in enumerate(places, start=1):
                first, second = pairs[name][i], pairs[name][j]
                yield space.row() | {
                    "word_class": name,
                    "place": sign * rank,
                    "a": first.input,
                    "b": first.output,
                    "c": second.input,
                    "d": second.output,
                    "loss": round(float(one.losses[i, j]), _DIGITS),
                }


def comparison_rows(base: Found, other: Found) -> Iterator[dict[str, Any]]:
    """Columns of `parallelogram_comparisons` but for models and layer: each class over its pairs, and all classes over
    classes, by exact sign flips.
    """
    for space in dict.fromkeys(space for space, _ in base):
        names = [name for of, name in base if of == space and (space, name) in other]
        losses = {name: compare(base[space, name], other[space, name]) for name in names}
        ratios = {name: compare_ratios(base[space, name], other[space, name]) for name in names}
        for name in names:
            n = len(base[space, name].losses)
            yield _comparison(space, name, n, losses[name], ratios[name], "Student's t over pairs")
        over, test = _over(losses), "sign flips over classes"
        yield _comparison(space, EVERY_CLASS, len(names), over, _over(ratios), test)


def _over(compared: Mapping[str, Compared]) -> Compared:
    differences = [one.difference for one in compared.values()]
    paired = paired_difference([0.0] * len(differences), differences)
    return Compared(paired.difference, paired.low, paired.high, paired.p)


def _comparison(space: Space, name: str, n: int, losses: Compared, ratios: Compared, test: str) -> dict[str, Any]:
    return known(
        space.row()
        | {"word_class": name, "n": n, "test": test}
        | {"difference": losses.difference, "low": losses.low, "high": losses.high, "p": losses.p}
        | {"log_ratio": ratios.difference, "log_ratio_low": ratios.low, "log_ratio_high": ratios.high}
        | {"log_ratio_p": ratios.p}
    )


def known(row: Mapping[str, Any]) -> dict[str, Any]:
    """Unknown is None; numbers have as many digits as their errors bear."""
    return {name: _number(value) for name, value in row.items()}


def _number(value: Any) -> Any:
    if not isinstance(value, (float, np.floating)):
        return value
    return None if math.isnan(value) else float(f"{value:.5g}")


def _rounded(values: np.ndarray) -> list[float] | None:
    return None if np.isnan(values).any() else [round(float(value), _DIGITS) for value in values]
