"""What texts say of a dictionary: how well it reconstructs them, how often its features fire, on what, and where most.

`Judge` is given each text once and keeps sums and the strongest tokens alone, so that memory does not grow with the
texts. Only tokens from `first` on are judged: prompts that many texts share would count many times. Frequencies are
shares of those tokens. Sums are float64. What fires is said by `kinds`; means, largest codes and the strongest tokens
are by |code|, which differs from the code in a linear dictionary alone.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.sparse import csr_array, vstack

from backend.crosscoder.diff import LatentScaling, sizes_where_firing

if TYPE_CHECKING:
    from backend.crosscoder.dictionary import Dictionary

N_STRONGEST = 20  # tokens kept for each feature
N_BINS = 20  # of a histogram
BEFORE, AFTER = 15, 5  # tokens of a window around a strong one
LEAST_FIRED = 5  # tokens of a category on which a feature must fire for the category to be its top one
_TOKENS_AT_ONCE = 4096
_PENDING = 500_000  # codes looked through at once for the strongest


@dataclass(frozen=True, eq=False)
class ReadText:
    """One text as the dictionary's models read it. Row r is token r + 1: the first token of a text is not read."""

    text_id: str
    activations: np.ndarray  # (n, m, d), raw
    codes: csr_array  # (n, D)
    first: int  # row of the first judged token
    labels: np.ndarray  # (n, C) bool: which tokens are of which category


@dataclass(frozen=True, eq=False)
class Findings:
    """Over n judged tokens, for D features, C categories and m models. What was not measured is NaN."""

    n: int
    frequency: np.ndarray  # (D,)
    mean_activation: np.ndarray  # (D,), |code| over the tokens on which it fires
    max_activation: np.ndarray  # (D,), largest |code|
    nu_eps: np.ndarray  # (D,), latent scaling, base over distilled; of one model NaN
    nu_r: np.ndarray  # (D,)
    variance_explained: np.ndarray  # (m,): 1 − Σ‖a − â‖² / Σ‖a − mean‖²
    mean: np.ndarray  # (m, d): of raw activations
    category_tokens: np.ndarray  # (C,)
    category_fired: np.ndarray  # (D, C) tokens
    category_mean: np.ndarray  # (D, C), |code| over the tokens on which it fires
    strongest: (
        pd.DataFrame
    )  # feature, rank, text_id, position (of the token in its text), code; sorted by feature and rank


def judged(dictionary: "Dictionary", n_categories: int, texts: Iterable[ReadText]) -> Findings:
    """Of all texts, some tokens at a time. Raises ValueError where there are none."""
    judge, waiting = Judge(dictionary, n_categories), []
    for text in texts:
        waiting.append(text)
        if sum(len(one.activations) for one in waiting) > _TOKENS_AT_ONCE:
            judge.add(waiting)
            waiting = []
    if waiting:
        judge.add(waiting)
    return judge.findings()


class Judge:
    """Sums over texts. `n_categories` is C, the columns of every text's labels."""

    def __init__(self, dictionary: "Dictionary", n_categories: int) -> None:
        m, n_features, d = dictionary.decoder.shape
        self._rows = dictionary.decoder.permute(1, 0, 2).reshape(n_features, m * d).numpy()
        self._bias = dictionary.decoder_bias.reshape(-1).numpy()
        self._scale = dictionary.scale.numpy()[:, None]
        self._scaling = LatentScaling(dictionary) if m == 2 else None
        self._fires_above = dictionary.fires_above.double().numpy()
        self._n = 0
        self._fired, self._sum, self._max = np.zeros(n_features, np.int64), np.zeros(n_features), np.zeros(n_features)
        self._total, self._squares, self._residual = np.zeros((m, d)), np.zeros(m), np.zeros(m)
        self._tokens = np.zeros(n_categories, np.int64)
        self._category_fired = np.zeros((n_features, n_categories), np.int64)
        self._category_sum = np.zeros((n_features, n_categories))
        self._strongest: list[pd.DataFrame] = []

    def add(self, texts: Sequence[ReadText]) -> None:
        """Some texts at once cost less than one after another."""
        activations = np.concatenate([text.activations[text.first :] for text in texts])
        codes = csr_array(vstack([text.codes[text.first :] for text in texts], format="csr"))
        codes.eliminate_zeros()
        labels = np.concatenate([text.labels[text.first :] for text in texts]).astype(np.float64)
        if not len(activations):
            return
        if self._scaling is not None:
            self._scaling.add(activations, codes)
        rebuilt = (codes @ self._rows + self._bias).reshape(activations.shape) / self._scale
        exact = activations.astype(np.float64)
        self._n += len(exact)
        self._total += exact.sum(0)
        self._squares += (exact**2).sum((0, 2))
        self._residual += ((exact - rebuilt) ** 2).sum((0, 2))
        by_feature = sizes_where_firing(codes.T.tocsr().astype(np.float64), self._fires_above)
        fires = by_feature.copy()
        fires.data[:] = 1.0
        self._fired += np.diff(by_feature.indptr)
        self._sum += by_feature.sum(axis=1)
        self._max = np.maximum(self._max, by_feature.max(axis=1).toarray().reshape(-1))
        self._tokens += labels.sum(0).astype(np.int64)
        self._category_fired += (fires @ labels).astype(np.int64)
        self._category_sum += by_feature @ labels
        self._strongest += [_tokens_of(text, self._fires_above) for text in texts]
        if sum(map(len, self._strongest)) > _PENDING:
            self._strongest = [self._pruned()]

    def findings(self) -> Findings:
        """Of all texts so far. Raises ValueError before there are any."""
        if not self._n:
            raise ValueError("there are no judged tokens yet")
        with np.errstate(invalid="ignore"):
            mean_activation, category_mean = self._sum / self._fired, self._category_sum / self._category_fired
        spread = self._squares - (self._total**2).sum(1) / self._n
        unknown = np.full(len(self._fired), np.nan)
        scaling = None if self._scaling is None else self._scaling.statistics()
        strongest = self._pruned().sort_values(
            ["feature", "size", "text_id", "position"], ascending=[True, False, True, True]
        )
        return Findings(
            n=self._n,
            frequency=self._fired / self._n,
            mean_activation=mean_activation,
            max_activation=np.where(self._fired > 0, self._max, np.nan),
            nu_eps=unknown if scaling is None else scaling.nu_eps,
            nu_r=unknown if scaling is None else scaling.nu_r,
            variance_explained=1 - self._residual / spread,
            mean=self._total / self._n,
            category_tokens=self._tokens,
            category_fired=self._category_fired,
            category_mean=category_mean,
            strongest=strongest.assign(rank=strongest.groupby("feature").cumcount())
            .drop(columns=["nth", "size"])
            .reset_index(drop=True),
        )

    def _pruned(self) -> pd.DataFrame:
        """N_STRONGEST tokens a feature: the strongest of each text before the second strongest of any, and so on."""
        found = pd.concat(self._strongest, ignore_index=True)
        found = found.sort_values(["feature", "nth", "size", "text_id"], ascending=[True, True, False, True])
        return found[found.groupby("feature").cumcount() < N_STRONGEST]


def _tokens_of(text: ReadText, fires_above: np.ndarray) -> pd.DataFrame:
    """The N_STRONGEST judged tokens of each feature in one text; `nth` counts them from the strongest on."""
    codes = text.codes[text.first :].tocoo()
    found = pd.DataFrame({"feature": codes.coords[1], "position": codes.coords[0] + text.first + 1, "code": codes.data})
    found = found.assign(size=found["code"].abs())
    found = found[found["size"] > fires_above[found["feature"]]]
    found = found.sort_values(["feature", "size", "position"], ascending=[True, False, True])
    nth = found.groupby("feature").cumcount()
    return found.assign(nth=nth, text_id=text.text_id)[nth < N_STRONGEST]


class Histograms:
    """Codes of each feature when it fires, in N_BINS bins of one width from 0 to its largest; of signed ones from minus
    its largest |code|.
    """

    def __init__(self, max_activation: np.ndarray, *, is_signed: bool = False) -> None:
        self._max = np.nan_to_num(max_activation)
        self._least = -self._max if is_signed else np.zeros_like(self._max)
        self.counts = np.zeros((len(max_activation), N_BINS), np.int64)  # (D, N_BINS)

    def add(self, features: np.ndarray, codes: np.ndarray) -> None:
        """Codes of tokens on which it fires, and the feature of each."""
        least, most = self._least[features], self._max[features]
        bins = np.minimum(((codes - least) / (most - least) * N_BINS).astype(np.int64), N_BINS - 1)
        np.add.at(self.counts, (features, bins), 1)

    def edges(self, feature: int) -> np.ndarray:
        return np.linspace(self._least[feature], self._max[feature], N_BINS + 1)


def windows(codes: csr_array, positions: Sequence[int], features: Sequence[int]) -> list[tuple[int, np.ndarray]]:
    """For each token of one text and feature: where its window starts, as a position in the text, and the feature's
    codes in it.

    `codes` (n, D) are of tokens 1 … n; the window has no token before the first of them.
    """
    chosen = codes[:, list(features)].toarray()
    starts = [max(1, position - BEFORE) for position in positions]
    return [
        (start, chosen[start - 1 : position + AFTER, column])
        for column, (start, position) in enumerate(zip(starts, positions, strict=True))
    ]


def top_categories(fired: np.ndarray, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each feature the category, of those that share the tokens out among them, on which it fires most relative to
    how often it fires at all: its column (−1 where it fires on fewer than LEAST_FIRED tokens of every one), and how
    many times as often (NaN).

    `fired` is (D, C), `tokens` (C,), both in tokens.
    """
    if not tokens.sum():
        return np.full(len(fired), -1), np.full(len(fired), np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        lift = (fired / tokens) / (fired.sum(1, keepdims=True) / tokens.sum())
    lift = np.where(fired >= LEAST_FIRED, lift, -np.inf)
    best = lift.argmax(1)
    largest = lift[np.arange(len(lift)), best]
    known = np.isfinite(largest)
    return np.where(known, best, -1), np.where(known, largest, np.nan)


def labelled(n_tokens: int, members: Mapping[int, Sequence[int]], n_categories: int) -> np.ndarray:
    """Labels (n_tokens − 1, C) of a text from the positions of its tokens that are of each category; its first token
    has no row.
    """
    labels = np.zeros((n_tokens, n_categories), bool)
    for category, positions in members.items():
        labels[list(positions), category] = True
    return labels[1:]
