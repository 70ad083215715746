"""Tuned lenses of latents: fitted on problems that are not scored, measured on those that are.

Problems that are not scored are in two parts by the hash of their id: maps are fitted on one (`backend/lens/fit.py`,
ridge and descent), and validation on the other keeps a map or the identity. What is said of a lens rests on the scored
problems, which took no part. A variant is fitted on all positions together, or on one position alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from backend.ids import seed_for
from backend.latent.lenses import VARIANT_ALL
from backend.lens.corpus import TRAIN, part_of
from backend.lens.fit import Head, LayerFit, Settings, Streams, carried, fit_layer
from backend.statistics.columns import column_means, known

if TYPE_CHECKING:
    from backend.models.loaded import HasModel

TOKENS, BATCH, LEARNING_RATE = 40_000, 256, 1e-3  # of the descent


@dataclass(frozen=True, eq=False)
class Fitted:
    """The lenses of one model, by variant and layer below the last."""

    fits: Mapping[tuple[str, int], LayerFit]
    n_fitted: int  # problems
    n_validation: int
    seed: int

    def carry(self, streams: torch.Tensor, layer: int) -> torch.Tensor:
        """Streams (n, n_steps, d_model) by the map of all positions."""
        return carried(streams, self.fits[VARIANT_ALL, layer].map)

    def carry_alone(self, streams: torch.Tensor, layer: int) -> torch.Tensor:
        """Streams (n, n_steps, d_model), each position by its own map."""
        steps = range(streams.shape[1])
        return torch.stack([carried(streams[:, step], self.fits[str(step), layer].map) for step in steps], 1)


def fit(
    loaded: "HasModel", streams: torch.Tensor, problems: Sequence[str], *, seed: int, tokens: int = TOKENS
) -> Fitted:
    """Of streams (n, n_steps, n_layers, d_model) of problems that are not scored, with their ids."""
    head, settings = Head(loaded), Settings(tokens, BATCH, LEARNING_RATE, seed_for("lens of latents", seed))
    learns = torch.tensor([part_of(problem, seed) == TRAIN for problem in problems], dtype=torch.bool)
    of_problem = np.array(problems)[~learns.numpy()]
    fits = {}
    for variant, steps in _variants(streams.shape[1]):
        train, validation = streams[learns][:, steps], streams[~learns][:, steps]
        last = train[:, :, -1].flatten(0, 1)
        if not len(last):
            raise ValueError("no problem is there to fit a lens on")
        target, names = head.target(last), np.repeat(of_problem, len(steps)).tolist()
        held = validation[:, :, -1].flatten(0, 1)
        for layer in range(streams.shape[2] - 1):
            pair = Streams(train[:, :, layer].flatten(0, 1), last)
            other = Streams(validation[:, :, layer].flatten(0, 1), held)
            fits[variant, layer] = fit_layer(head, pair, target, other, names, settings)
    return Fitted(fits, int(learns.sum()), int((~learns).sum()), seed)


def _variants(n_steps: int) -> Iterator[tuple[str, list[int]]]:
    """Each variant with the positions that it is fitted on."""
    yield VARIANT_ALL, list(range(n_steps))
    for step in range(n_steps):
        yield str(step), [step]


def quality(loaded: "HasModel", fitted: Fitted, streams: torch.Tensor, *, seed: int) -> list[dict[str, Any]]:
    """For each variant, layer and position: KL(model ‖ lens) on streams (n, n_steps, n_layers, d_model) of problems
    that no lens learned from, and how far it lies below the logit lens's; intervals over problems.
    """
    head, rows = Head(loaded), []
    layers = range(streams.shape[2] - 1)
    variants = list(dict.fromkeys(variant for variant, _ in fitted.fits))
    for layer in layers:
        maps = [fitted.fits[variant, layer].map for variant in variants]
        for step in range(streams.shape[1]):
            plain, *found = head.kl(Streams(streams[:, step, layer], streams[:, step, -1]), None, *maps).numpy()
            kl = np.stack(found, 1)
            own, gain = column_means(kl, seed=seed), column_means(plain[:, None] - kl, seed=seed)
            for column, variant in enumerate(variants):
                fit_ = fitted.fits[variant, layer]
                rows.append(
                    {
                        "variant": variant,
                        "layer": layer,
                        "step": step,
                        "kept": fit_.kept,
                        "ridge": fit_.ridge,
                        "steps": fit_.steps,
                        "kl_logit": float(plain.mean()),
                        "kl": float(own.mean[column]),
                        "ci_low": known(own.low[column]),
                        "ci_high": known(own.high[column]),
                        "gain": float(gain.mean[column]),
                        "gain_low": known(gain.low[column]),
                        "gain_high": known(gain.high[column]),
                        "n_problems": int(own.n[column]),
                        "n_fitted": fitted.n_fitted,
                        "n_validation": fitted.n_validation,
                        "seed": fitted.seed,
                    }
                )
    return rows
