"""How good a lens is: KL(model ‖ lens) on positions that no lens learned from, beside a baseline that reads nothing.

The baseline is one distribution for all positions: the frequencies of the tokens that follow those a lens learned from.
What no token of a vocabulary was seen for gets the mass that Good and Turing give it, the share of the tokens seen
once. A lens that is no better knows nothing of the text.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from backend.lens.lens import Lens, Readout
from backend.lens.positions import ALL, POSITION_KINDS
from backend.models.kl import kl_between
from backend.models.residuals import record_residuals
from backend.statistics.clustered import clustered_mean
from backend.statistics.columns import known

if TYPE_CHECKING:
    from backend.models.loaded import LoadedModel

_AT_ONCE = 256  # positions whose logits are held at once


@dataclass(frozen=True)
class Read:
    """What a lens makes of some positions of a text; `kl` and `agrees` are (n_layers, n), `baseline` is (n,)."""

    kl: np.ndarray  # KL(model ‖ lens), nats, float64
    agrees: np.ndarray  # whether lens and model have the same top token
    baseline: np.ndarray  # KL(model ‖ frequencies), nats, float64


@dataclass(frozen=True)
class Place:
    """A position that was read."""

    problem: str
    kind: str  # in POSITION_KINDS


def frequencies(following: Sequence[int], vocab_size: int) -> np.ndarray:
    """log-probabilities (vocab_size,) of the baseline, from the tokens that follow the training positions."""
    counts = np.bincount(np.asarray(following, dtype=np.int64), minlength=vocab_size).astype(np.float64)
    n = counts.sum()
    unseen = max(float((counts == 1).sum()), 1.0) / max(n, 1.0)
    return np.log((1 - unseen) * counts / max(n, 1.0) + unseen / vocab_size)


@torch.inference_mode()
def read(
    loaded: "LoadedModel",
    lens: Lens,
    token_ids: Sequence[int],
    positions: Sequence[int],
    *,
    layers: Sequence[int],
    baseline: np.ndarray,
) -> Read:
    """What `lens` makes of the text's `positions` at `layers`."""
    readout, last = Readout(loaded), loaded.n_layers - 1
    streams = {
        layer: residual[list(positions)]
        for layer, residual in record_residuals(loaded, token_ids, sorted({*layers, last})).items()
    }
    parts = [
        _read(
            readout,
            lens,
            {layer: found[first : first + _AT_ONCE] for layer, found in streams.items()},
            layers,
            baseline,
        )
        for first in range(0, len(positions), _AT_ONCE)
    ]
    return Read(*(np.concatenate([getattr(part, name) for part in parts], -1) for name in ("kl", "agrees", "baseline")))


def _read(
    readout: Readout,
    lens: Lens,
    streams: Mapping[int, torch.Tensor],
    layers: Sequence[int],
    baseline: np.ndarray,
) -> Read:
    log_p = readout.logits(streams[readout.n_layers - 1]).log_softmax(-1)
    p, top = log_p.exp(), log_p.argmax(-1)
    kl, agrees = [], []
    for layer in layers:
        log_q = readout.log_probs(lens, streams[layer], layer)
        agrees.append((log_q.argmax(-1) == top).cpu().numpy())
        kl.append(kl_between(log_p, p, log_q).cpu().numpy())
    exact = log_p.cpu().double()
    apart = (exact.exp() * (exact - torch.from_numpy(baseline))).sum(-1).numpy()
    return Read(np.stack(kl), np.stack(agrees), apart)


def quality(
    reads: Iterable[Read], places: Sequence[Place], layers: Sequence[int], *, seed: int
) -> list[dict[str, Any]]:
    """For each layer and kind of position: mean KL and gain over the baseline, with intervals over problems.

    `reads` are of all texts, their positions one after the other those of `places`. A kind without positions has no
    row.
    """
    all_read = list(reads)
    kl, agrees = (np.concatenate([getattr(one, name) for one in all_read], -1) for name in ("kl", "agrees"))
    baseline = np.concatenate([one.baseline for one in all_read])
    kinds = np.array([place.kind for place in places])
    problems = np.array([place.problem for place in places])
    rows = []
    for kind in (ALL, *POSITION_KINDS):
        some = np.flatnonzero((kinds == kind) | (kind == ALL))
        if not len(some):
            continue
        of = problems[some].tolist()
        for number, layer in enumerate(layers):
            own = clustered_mean(kl[number, some].tolist(), of, seed=seed)
            gain = clustered_mean((baseline - kl[number])[some].tolist(), of, seed=seed)
            rows.append(
                {
                    "layer": layer,
                    "positions": kind,
                    "kl": own.mean,
                    "ci_low": known(own.low),
                    "ci_high": known(own.high),
                    "agrees": float(agrees[number, some].mean()),
                    "baseline": float(baseline[some].mean()),
                    "gain": gain.mean,
                    "gain_low": known(gain.low),
                    "gain_high": known(gain.high),
                    "n_tokens": own.n,
                    "n_problems": own.n_clusters,
                }
            )
    return rows
