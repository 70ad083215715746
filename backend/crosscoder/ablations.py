"""The ablation effect: what a model's target words lose when features of one model of the pair, or of both, are taken
out of it.

1. Targets: tokens that begin a reasoning category's target word in a CoT. CoTs are drawn one after another, with at
   most MOST_A_COT of their targets each, until there are enough.
2. Features K: those with NRN above t that are also among the k % of features that fire most often on the category's
   tokens; k % of those that fire there at all (`top_firing`), or, to the letter, of all features (`top_features`). One
   that never fires there is never among them. Where few do, as with sparse codes and few targets, k % of all features
   take in every one of them from a small k on, and K grows no more: the first was made for that.
3. Teacher-forced, h ← h − Σ_K f_k·W_dec,k^(m) / scale_m at every token but the first: `zero`, with the reconstruction's
   error kept in. The codes f are those of both unedited models reading the text, as stored: an edit at a layer moves
   only what lies above it.
4. The effect is the mean over targets of the target token's logit after, less before. A logit has no zero of its own,
   and all logits may move together: the same is measured in the token's log-probability.
5. The control: for each CoT one of several random sets of as many other features, matched by how often they fire on the
   study's CoTs. How much either takes out is measured too: mean ‖what is taken out‖ / ‖h‖ over the tokens.

Targets of one problem are not independent: problems are drawn anew for the interval, and so are the control's sets.

Source: Baek & Tegmark 2025, figure 2. Departures: the log-probability, the control, the intervals.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from backend.ids import seed_for
from backend.models.edits import addition, encode
from backend.statistics.intervals import UNKNOWN, Interval, bootstrap_percentile

if TYPE_CHECKING:
    from backend.crosscoder.dictionary import Dictionary
    from backend.models.loaded import LoadedModel

MEASURES = ("logit", "log_probability")
MOST_A_COT = 4
N_BOOTSTRAP = 2000


@dataclass(frozen=True, eq=False)
class CodedText:
    """A CoT with its prompt, the codes of its tokens that are not 0, and the target tokens that are looked at."""

    text_id: str
    token_ids: tuple[int, ...]
    targets: tuple[int, ...]  # positions of the target tokens themselves, from 2 on
    positions: np.ndarray  # (n_codes,)
    features: np.ndarray  # (n_codes,)
    codes: np.ndarray  # (n_codes,)


@dataclass(frozen=True, eq=False)
class Changes:
    """What zeroing each of some sets of features did to one text's targets."""

    before: np.ndarray  # (2, n_targets): by MEASURES, unedited
    change: np.ndarray  # (n_sets, 2, n_targets): after less before
    removed: (
        np.ndarray
    )  # (n_sets,): mean of ‖what is taken out‖ / ‖h‖ over the tokens before the last target but the first


def drawn_targets(targets: Mapping[str, Sequence[int]], n: int, *, seed: int) -> dict[str, tuple[int, ...]]:
    """At most `n` of the target positions of all texts, text by text in a random order; the same for the same texts and
    seed.
    """
    rng = np.random.default_rng(seed_for("ablation targets", seed))
    drawn: dict[str, tuple[int, ...]] = {}
    left = n
    for name in rng.permutation(sorted(targets)).tolist():
        own = rng.permutation(sorted(position for position in targets[name] if position >= 2))[: min(MOST_A_COT, left)]
        if len(own):
            drawn[name] = tuple(sorted(own.tolist()))
            left -= len(own)
        if not left:
            break
    return drawn


def top_features(
    frequency: np.ndarray, mean_activation: np.ndarray, nrn: np.ndarray, *, above: float, percent: float
) -> tuple[int, ...]:
    """Features with NRN above `above` among the `percent` % of all features that fire most often on a category, in
    order of their numbers.

    All arrays are (D,): `frequency` and `mean_activation` on the category's tokens (the latter breaks ties). Unknown
    NRN is not above.
    """
    first = _most_frequent(frequency, mean_activation, len(frequency) * percent)
    return tuple(sorted(int(feature) for feature in first if frequency[feature] > 0 and nrn[feature] > above))


def top_firing(
    frequency: np.ndarray, mean_activation: np.ndarray, nrn: np.ndarray, *, above: float, percent: float
) -> tuple[int, ...]:
    """As `top_features`, among the `percent` % of the features that fire on the category at all."""
    first = _most_frequent(frequency, mean_activation, int((frequency > 0).sum()) * percent)
    return tuple(sorted(int(feature) for feature in first if nrn[feature] > above))


def _most_frequent(frequency: np.ndarray, mean_activation: np.ndarray, hundredths: float) -> np.ndarray:
    """The first `hundredths` / 100 features, rounded up, by how often and then by how strongly they fire."""
    strength = np.nan_to_num(mean_activation)
    return np.lexsort((np.arange(len(frequency)), -strength, -frequency))[: int(-(-hundredths // 100))]


@torch.inference_mode()
def target_changes(
    loaded: "LoadedModel",
    dictionary: "Dictionary",
    model: int,
    layer: int,
    text: CodedText,
    sets: Sequence[Sequence[int]],
) -> Changes:
    """One plain pass of the text up to its last target, and for each set one of the layers above.

    `model`: its number in the dictionary.
    """
    read = text.token_ids[: max(text.targets)]
    before = [target - 1 for target in text.targets]
    encoded = encode(loaded, read, layers=[layer])
    tokens = torch.tensor([text.token_ids[target] for target in text.targets], device=encoded.normed.device)[:, None]
    norms = encoded.residual(layer).double().norm(dim=1).cpu()

    def measured(normed: torch.Tensor) -> np.ndarray:
        logits = encoded.parts.unembed(normed).double()
        return torch.stack([values.gather(1, tokens)[:, 0] for values in (logits, logits.log_softmax(1))]).cpu().numpy()

    own = measured(encoded.normed[before])
    change, removed = np.zeros((len(sets), *own.shape)), np.zeros(len(sets))
    for number, features in enumerate(sets):
        positions, vectors = taken_out(dictionary, model, text, features, len(read))
        if positions:
            edit = addition(layer, positions, -vectors.to(encoded.normed.device))
            change[number] = measured(encoded.edited([edit], before).normed[0]) - own
            removed[number] = (vectors.norm(dim=1) / norms[list(positions)]).sum() / (len(read) - 1)
    return Changes(own, change, removed)


def taken_out(
    dictionary: "Dictionary", model: int, text: CodedText, features: Sequence[int], n_tokens: int
) -> tuple[tuple[int, ...], torch.Tensor]:
    """Where any of the features has a code among the first `n_tokens`, and what they add to the model there,
    (n_positions, its width) float64.
    """
    fires = np.isin(text.features, list(features)) & (text.positions >= 1) & (text.positions < n_tokens)
    positions, row = np.unique(text.positions[fires], return_inverse=True)
    rows = dictionary.decoder[model, text.features[fires], : dictionary.width(model)]
    decoder = rows.double() / dictionary.scale[model].double()
    added = decoder * torch.from_numpy(text.codes[fires].astype(np.float64))[:, None]
    vectors = torch.zeros(len(positions), dictionary.width(model), dtype=torch.float64).index_add_(
        0, torch.from_numpy(row), added
    )
    return tuple(positions.tolist()), vectors


def clustered_mean(
    sums: np.ndarray, counts: np.ndarray, clusters: Sequence[Sequence[str | int]], *, seed: int
) -> tuple[float, Interval]:
    """Mean over targets, from the sum and number of each CoT (n_cots,), with a 95 % bootstrap interval.

    Each of `clusters` says which cluster every CoT is of (its problem; its control set): clusters of each kind are
    drawn anew, and a CoT counts as often as all of its own were. With fewer than two of a kind the interval is unknown.
    Source: Owen 2007, "The pigeonhole bootstrap".
    """
    if not counts.sum():
        return float("nan"), UNKNOWN
    rng = np.random.default_rng(seed_for("ablation interval", seed))
    weights = np.ones((N_BOOTSTRAP, len(counts)))
    mean = float(sums.sum() / counts.sum())
    for kind in clusters:
        names, member = np.unique(np.asarray(kind), return_inverse=True)
        if len(names) < 2:
            return mean, UNKNOWN
        weights *= rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=N_BOOTSTRAP)[:, member]
    with np.errstate(invalid="ignore"):
        return mean, bootstrap_percentile((weights @ sums) / (weights @ counts))
