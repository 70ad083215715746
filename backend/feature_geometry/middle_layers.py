"""Whether decoder rows cluster more in the middle third of the layers than in the first and the last, beyond what
training does to clouds that have no features.

1. A training's size of tail is y = ln(share of pairs beyond the threshold / share of isotropic ones beyond it), so that
   ln 1 = 0 is isotropic. Layers are compared at one width, number of features and k, and those whose L0 is far from the
   others' are left out: both change tails by themselves.
2. The contrast is the mean of y over the middle third less its mean over the others, each layer's seeds averaged first;
   exp of it is how many times as heavy the middle's tails are.
   The middle beside the earlier layers alone, and beside the later ones alone, are contrasts too: a tail that grows
   with depth may lie above the mean of both in the middle, and has no peak there.
3. Seeds of a layer differ by training alone. Their variance is pooled over a model's layers, and over all that it was
   trained on: one number with Σ (n − 1) degrees of freedom, of which t intervals are made. A null with one seed a layer
   is taken to vary as much. So intervals say what other seeds would have given, not other texts.
4. What the model shows beyond a null is the difference of the two contrasts, over the layers that both have.
5. Power: the contrast that would be told from 0 in 80 % of studies with as many layers and seeds.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import t as student

from backend.feature_geometry.trained_on import MODEL

LEVEL, POWER = 0.95, 0.8
_APART = 0.1  # of the median L0, by which a layer may differ

Sizes = Mapping[int, Sequence[float]]  # y of each seed, by layer


@dataclass(frozen=True)
class Spread:
    """Between seeds of one layer."""

    sd: float
    df: int


@dataclass(frozen=True)
class Contrast:
    """As a natural logarithm; what needs a spread is None where no layer has two seeds."""

    value: float
    low: float | None
    high: float | None
    detectable: float | None  # above 0
    n_middle: int  # layers
    n_outer: int

    @property
    def is_above(self) -> bool:
        return self.low is not None and self.low > 0

    @property
    def is_below(self) -> bool:
        return self.high is not None and self.high < 0


def is_middle(layer: int, n_layers: int) -> bool:
    """Whether the block lies in the middle third of the model's."""
    return n_layers <= 3 * layer < 2 * n_layers


def comparable(l0: Mapping[int, float]) -> set[int]:
    """Layers whose L0 is near the median of all."""
    if not l0:
        return set()
    median = float(np.median(list(l0.values())))
    return {layer for layer, value in l0.items() if abs(value - median) <= _APART * median}


def spread(groups: Sequence[Sequence[float]]) -> Spread | None:
    """Pooled over groups of seeds; None where no group has two."""
    df = sum(len(group) - 1 for group in groups if len(group) > 1)
    if not df:
        return None
    squares = sum(float(np.square(np.asarray(group) - np.mean(group)).sum()) for group in groups if len(group) > 1)
    return Spread(math.sqrt(squares / df), df)


def contrast(sizes: Sizes, n_layers: int, of: Spread | None) -> Contrast | None:
    """Middle third less the others; None where either has no layer."""
    return _contrast(_terms(sizes, n_layers, 1.0), of)


def sides(sizes: Sizes, n_layers: int, of: Spread | None) -> tuple[Contrast | None, Contrast | None]:
    """Middle third less the earlier layers, and less the later ones."""
    early = {layer: one for layer, one in sizes.items() if 3 * layer < 2 * n_layers}
    late = {layer: one for layer, one in sizes.items() if 3 * layer >= n_layers}
    return contrast(early, n_layers, of), contrast(late, n_layers, of)


def beyond(sizes: Sizes, null: Sizes, n_layers: int, of: Spread | None) -> Contrast | None:
    """The contrast less the null's, over the layers that both have."""
    shared = sizes.keys() & null.keys()
    own, other = ({layer: one[layer] for layer in sorted(shared)} for one in (sizes, null))
    return _contrast([*_terms(own, n_layers, 1.0), *_terms(other, n_layers, -1.0)], of)


def mean_size(sizes: Sizes, of: Spread | None) -> tuple[float, float | None, float | None]:
    """Mean of y over the layers, each one's seeds averaged, with its interval."""
    value = float(np.mean([np.mean(seeds) for seeds in sizes.values()]))
    return _around(value, sum(1 / len(seeds) for seeds in sizes.values()), len(sizes), of)


def level(sizes: Sizes, null: Sizes, of: Spread | None) -> tuple[float, float | None, float | None] | None:
    """Mean of y less the null's, over the layers that both have, with its interval; None where there is none."""
    shared = sorted(sizes.keys() & null.keys())
    if not shared:
        return None
    value = float(np.mean([np.mean(sizes[layer]) - np.mean(null[layer]) for layer in shared]))
    return _around(value, sum(1 / len(one[layer]) for layer in shared for one in (sizes, null)), len(shared), of)


def _around(value: float, of_seeds: float, n: int, of: Spread | None) -> tuple[float, float | None, float | None]:
    """A mean over `n` layers whose variances sum to `of_seeds` spreads squared, with its interval."""
    if of is None:
        return value, None, None
    half = _quantile((1 + LEVEL) / 2, of) * of.sd * math.sqrt(of_seeds) / n
    return value, value - half, value + half


@dataclass(frozen=True)
class _Term:
    """A layer's mean, with its weight in a contrast."""

    mean: float
    weight: float
    n: int  # seeds
    middle: bool


def _terms(sizes: Sizes, n_layers: int, sign: float) -> list[_Term]:
    middle = {layer: is_middle(layer, n_layers) for layer in sizes}
    n_middle = sum(middle.values())
    counts = {True: n_middle, False: len(sizes) - n_middle}
    if not all(counts.values()):
        return []
    return [
        _Term(
            float(np.mean(seeds)),
            sign * (1 if middle[layer] else -1) / counts[middle[layer]],
            len(seeds),
            middle[layer],
        )
        for layer, seeds in sizes.items()
    ]


def _contrast(terms: Sequence[_Term], of: Spread | None) -> Contrast | None:
    if not terms:
        return None
    value = sum(term.mean * term.weight for term in terms)
    own = [term for term in terms if (term.weight > 0) == term.middle]  # the null's count the same layers again
    n_middle = sum(term.middle for term in own)
    if of is None:
        return Contrast(value, None, None, None, n_middle, len(own) - n_middle)
    error = of.sd * math.sqrt(sum(term.weight**2 / term.n for term in terms))
    half = _quantile((1 + LEVEL) / 2, of) * error
    detectable = half + _quantile(POWER, of) * error
    return Contrast(value, value - half, value + half, detectable, n_middle, len(own) - n_middle)


def _quantile(p: float, of: Spread) -> float:
    return float(student.ppf(p, of.df))


@dataclass(frozen=True)
class Null:
    """What training on a cloud does, and what the model shows beyond it."""

    mean_size: tuple[float, float | None, float | None]
    contrast: Contrast | None
    beyond: Contrast | None
    level: tuple[float, float | None, float | None] | None  # the model's mean size less its own, over shared layers


@dataclass(frozen=True)
class Answer:
    """Of one model."""

    contrast: Contrast | None
    earlier: Contrast | None  # the middle beside the layers before it alone
    later: Contrast | None  # and beside those after it alone
    mean_size: tuple[float, float | None, float | None] | None
    nulls: Mapping[str, Null]
    n_layers_left_out: int  # by L0, of the model's own or of a null's
    n_unknown: int  # trainings without a pair beyond the threshold

    @property
    def is_peak(self) -> bool:
        """Whether the middle is above both of its sides."""
        return all(one is not None and one.is_above for one in (self.earlier, self.later))


def answer(rows: pd.DataFrame, n_layers: int) -> Answer:
    """`rows`, one a training of one model and of its nulls, have trained_on, layer, l0 and size: y, NaN where it is
    unknown.
    """
    l0 = rows.groupby(["trained_on", "layer"])["l0"].mean()
    near = {name: comparable(one.droplevel(0).to_dict()) for name, one in l0.groupby(level=0)}
    all_layers = {(name, layer) for name, layer in l0.index}
    left_out = sum(layer not in near[name] for name, layer in all_layers)
    sizes: dict[str, dict[int, list[float]]] = {}
    for (name, layer), own in rows[rows["size"].notna()].groupby(["trained_on", "layer"]):
        if layer in near[name]:
            sizes.setdefault(str(name), {})[int(layer)] = own["size"].tolist()
    of = spread([seeds for one in sizes.values() for seeds in one.values()])
    own = sizes.pop(MODEL, {})
    nulls = {
        name: Null(mean_size(one, of), contrast(one, n_layers, of), beyond(own, one, n_layers, of), level(own, one, of))
        for name, one in sizes.items()
    }
    mean = mean_size(own, of) if own else None
    earlier, later = sides(own, n_layers, of)
    unknown = int(rows["size"].isna().sum())
    return Answer(contrast(own, n_layers, of), earlier, later, mean, nulls, left_out, unknown)
