"""In which space word pairs are compared: what is taken out of the vectors, and onto which components they go.

Cleaning (`CLEANINGS`):
- `raw`: the residual stream as it is.
- `centred`: less the mean of the words that the principal components are fitted on, which is what PCA does.
- `distractors`: word length and frequency projected out by linear discriminants. Words of the vocabulary are grouped by
  their length, and then by their token id (a tokenizer's merges run from frequent to rare); the discriminants of either
  grouping are removed, so that the groups' means are equal afterwards.
- `discriminants`: as published code does it: only the discriminants of the differences b − a by class are kept. They
  are fitted on labels of the very pairs that are judged, and with more dimensions than pairs they would make any
  classes look parallel; so each half of a class's pairs is seen through discriminants of the other halves, and
  quadruples do not cross halves.

Linear discriminants are the eigenmodes of signal to noise (Li et al. 2024, arXiv:2410.19750, section 3): signal is the
covariance of the groups' means, noise that within groups, shrunk towards a multiple of the identity (Ledoit & Wolf
2004).

Principal components are fitted on the words of the class (`class`), of all classes (`classes`), or on a draw of the
vocabulary's words (`vocabulary`), which papers leave unsaid. Their axes are those of the centred words. `raw` vectors
are projected as they are, all others less the mean.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from backend.feature_geometry.parallelograms import Pairs, clusters
from backend.feature_geometry.word_spaces import FITTED_ON, NO_PCA
from backend.ids import seed_for

LENGTHS = (3, 4, 5, 6, 7, 8, 9)  # letters: the last of each group; longer words are one more
FREQUENCIES = 5  # groups of equal size by token id
MOST_DISCRIMINANTS = 11  # the most of the published search
_FEWEST_OF_GROUP = 8  # words; smaller groups have no mean to speak of

Matrix = np.ndarray


@dataclass(frozen=True, eq=False)
class Words:
    """The vectors of one model at one layer that all classes are compared in."""

    classes: Mapping[str, Pairs]
    vocabulary: Matrix  # (n, d): words drawn from the vocabulary
    lengths: np.ndarray  # (n,) letters
    token_ids: np.ndarray  # (n,)


@dataclass(frozen=True, eq=False)
class Linear:
    """x → x @ matrix + offset."""

    matrix: Matrix
    offset: np.ndarray

    def __call__(self, x: Matrix) -> Matrix:
        return x @ self.matrix + self.offset

    def then(self, other: "Linear") -> "Linear":
        return Linear(self.matrix @ other.matrix, other(self.offset[None])[0])


@dataclass(frozen=True, eq=False)
class Discriminants:
    """Leading eigenmodes of signal to noise."""

    whitening: Matrix  # (d, d): noise^−½
    unwhitening: Matrix  # (d, d)
    modes: Matrix  # (d, k) orthonormal, of the whitened space
    values: np.ndarray  # (k,) signal over noise, falling
    shrinkage: float

    @property
    def keep(self) -> Matrix:
        """(d, k): coordinates along the discriminants, noise having unit variance."""
        return self.whitening @ self.modes

    @property
    def drop(self) -> Matrix:
        """(d, d): takes them out of a vector, and nothing of what is uncorrelated with them within groups."""
        return np.eye(len(self.modes)) - self.keep @ self.modes.T @ self.unwhitening


def discriminants(x: Matrix, labels: np.ndarray, *, most: int) -> Discriminants:
    """At most `most` discriminants of x (n, d) by its labels (n,); as many as there are groups less one at most."""
    from sklearn.covariance import ledoit_wolf_shrinkage

    found, group = np.unique(labels, return_inverse=True)
    if len(found) < 2:
        return Discriminants(np.eye(x.shape[1]), np.eye(x.shape[1]), np.empty((x.shape[1], 0)), np.empty(0), 0.0)
    means = np.stack([x[group == number].mean(0) for number in range(len(found))])
    within = x - means[group]
    shrinkage = float(ledoit_wolf_shrinkage(within, assume_centered=True))
    noise = within.T @ within / len(x)
    noise = (1 - shrinkage) * noise + shrinkage * np.trace(noise) / len(noise) * np.eye(len(noise))
    spread, axes = np.linalg.eigh(noise)
    spread = np.maximum(spread, spread[-1] * 1e-12)
    whitening, unwhitening = ((axes * spread**power) @ axes.T for power in (-0.5, 0.5))
    weights = np.sqrt(np.bincount(group) / len(x))
    signal = (means - x.mean(0)) * weights[:, None] @ whitening  # (groups, d)
    _, sizes, modes = np.linalg.svd(signal, full_matrices=False)
    k = min(most, int((sizes > 1e-9 * sizes[0]).sum()) if sizes[0] > 0 else 0)
    return Discriminants(whitening, unwhitening, modes[:k].T, sizes[:k] ** 2, shrinkage)


def without_distractors(words: Words) -> Linear:
    """Takes the discriminants of word length out, then those of frequency."""
    d = words.vocabulary.shape[1]
    drop = np.eye(d)
    for labels in (length_groups(words.lengths), frequency_groups(words.token_ids)):
        known = labels >= 0
        found = discriminants(words.vocabulary[known] @ drop, labels[known], most=d)
        drop = drop @ found.drop
    return Linear(drop, np.zeros(d))


def length_groups(lengths: np.ndarray) -> np.ndarray:
    """Group of each word by its letters; −1 of one whose group is too small."""
    return _large_enough(np.searchsorted(LENGTHS, lengths, side="left"))


def frequency_groups(token_ids: np.ndarray) -> np.ndarray:
    """Group of each word by the rank of its token id."""
    rank = np.argsort(np.argsort(token_ids, kind="stable"), kind="stable")
    return _large_enough(rank * FREQUENCIES // max(len(token_ids), 1))


def _large_enough(groups: np.ndarray) -> np.ndarray:
    return np.where(np.bincount(groups)[groups] >= _FEWEST_OF_GROUP, groups, -1) if groups.size else groups


def halves(pairs: Pairs, name: str, seed: int) -> np.ndarray:
    """(n,): which half each pair is of, drawn by the class's name, pairs of one word in one half."""
    of = clusters(pairs.input_ids, pairs.output_ids)
    order = np.random.default_rng(seed_for("halves", seed, name)).permutation(of.max(initial=-1) + 1)
    return order[of] % 2


@dataclass(frozen=True, eq=False)
class Axes:
    """Principal components of some words."""

    mean: np.ndarray  # (d,)
    axes: Matrix  # (d, k) orthonormal, largest variance first

    @classmethod
    def of(cls, population: Matrix) -> "Axes":
        """Of words (n, d): as many as they have, n − 1 or d at most."""
        mean = population.mean(0)
        _, _, axes = np.linalg.svd(population - mean, full_matrices=False)
        return cls(mean, axes[: min(len(population) - 1, population.shape[1])].T)

    def onto(self, components: int, *, centres: bool) -> Linear | None:
        """Onto the first components, or all dimensions for NO_PCA; None where there are not as many."""
        d, k = self.axes.shape
        if components > k or d == 0:
            return None
        axes = np.eye(d) if components == NO_PCA else self.axes[:, :components]
        return Linear(axes, -(self.mean @ axes) if centres else np.zeros(axes.shape[1]))


@dataclass(frozen=True, eq=False)
class Cleaned:
    """Words of one cleaning: the spaces that they are seen in, by part of the pairs."""

    words: Words
    spaces: tuple[Linear, ...]  # one, or one for each half
    parts: Mapping[str, np.ndarray]  # of each class: the part of each pair
    centres: bool
    _axes: dict[tuple[int, str, str], Axes] = field(default_factory=dict, repr=False)

    def seen(self, name: str, *, fitted_on: str, components: int) -> Pairs | None:
        """The pairs of a class in the first principal components of the words fitted on; None where there are not as
        many.
        """
        pairs, part = self.words.classes[name], self.parts[name]
        onto = [
            self._fitted(number, name, fitted_on).onto(components, centres=self.centres)
            for number in range(len(self.spaces))
        ]
        wholes = [space.then(one) for space, one in zip(self.spaces, onto, strict=True) if one is not None]
        if len(wholes) < len(self.spaces):
            return None
        width = wholes[0].matrix.shape[1]
        inputs, outputs = np.empty((pairs.n, width)), np.empty((pairs.n, width))
        for number, whole in enumerate(wholes):
            own = part == number
            inputs[own], outputs[own] = whole(pairs.inputs[own]), whole(pairs.outputs[own])
        return Pairs(inputs, outputs, pairs.input_ids, pairs.output_ids, part)

    def _fitted(self, number: int, name: str, fitted_on: str) -> Axes:
        """In the space of that number, fitted once."""
        key = (number, fitted_on, name if fitted_on == "class" else "")
        if key not in self._axes:
            self._axes[key] = Axes.of(self.spaces[number](self._population(name, fitted_on)))
        return self._axes[key]

    def _population(self, name: str, fitted_on: str) -> Matrix:
        match fitted_on:
            case "class":
                return distinct([self.words.classes[name]])
            case "classes":
                return distinct(list(self.words.classes.values()))
            case "vocabulary":
                return self.words.vocabulary
        raise ValueError(f"principal components are fitted on {', '.join(FITTED_ON)}, not on {fitted_on!r}")


def distinct(classes: Sequence[Pairs]) -> Matrix:
    """The vectors of all words of the classes, each word once."""
    ids = np.concatenate([side for pairs in classes for side in (pairs.input_ids, pairs.output_ids)])
    vectors = np.concatenate([side for pairs in classes for side in (pairs.inputs, pairs.outputs)])
    return vectors[np.unique(ids, return_index=True)[1]]


def clean(words: Words, cleaning: str, *, seed: int) -> Cleaned:
    """The words by a cleaning of `CLEANINGS`."""
    return _CLEAN[cleaning](words, seed)


def _as_they_are(words: Words, *, centres: bool) -> Cleaned:
    d = words.vocabulary.shape[1]
    return Cleaned(words, (Linear(np.eye(d), np.zeros(d)),), _one_part(words), centres)


def _of_differences(words: Words, seed: int) -> Cleaned:
    parts = {name: halves(pairs, name, seed) for name, pairs in words.classes.items()}
    spaces = []
    for part in (0, 1):  # seen through the other half
        chosen = {name: parts[name] != part for name in words.classes}
        differences = [(pairs.outputs - pairs.inputs)[chosen[name]] for name, pairs in words.classes.items()]
        labels = np.repeat(np.arange(len(differences)), [len(rows) for rows in differences])
        found = discriminants(np.concatenate(differences), labels, most=MOST_DISCRIMINANTS)
        spaces.append(Linear(found.keep, np.zeros(found.keep.shape[1])))
    return Cleaned(words, tuple(spaces), parts, True)


def _one_part(words: Words) -> dict[str, np.ndarray]:
    return {name: np.zeros(pairs.n, dtype=np.int64) for name, pairs in words.classes.items()}


_CLEAN: dict[str, Callable[[Words, int], Cleaned]] = {
    "raw": lambda words, seed: _as_they_are(words, centres=False),
    "centred": lambda words, seed: _as_they_are(words, centres=True),
    "distractors": lambda words, seed: Cleaned(words, (without_distractors(words),), _one_part(words), True),
    "discriminants": _of_differences,
}
