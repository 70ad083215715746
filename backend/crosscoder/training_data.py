"""Which recorded tokens a dictionary learns from, and what their activations are multiplied by: named conventions.

- `whole_texts` (ours): every token but a text's first, prompts included; one factor a model, by which the mean norm
  over all of them is √d.
- `as_published` ("Decoding R1's CoT: Crosscoder Diffing and Steering Impact"): the first 50 tokens of each response,
  prompts left out, normalised problem by problem. The document's text that we know says no more than that: how it
  normalised is our reading, which is the factor of `whole_texts` for each problem by itself. A token of another problem
  has no such factor, so the one that is kept with the weights, and used by whatever reads the dictionary later, is that
  of all the learned tokens together; how far the problems' own lie from it is kept beside it.

What the cut does: chains of thought of which only the beginning was learned. Words that come later (Wait, Therefore,
answers) are hardly among the tokens, and codes there are the dictionary's guess.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from backend.crosscoder.shards import ShardError, Shards
from backend.registry import Registry

PUBLISHED_TOKENS = 50  # of each response
_BLOCK = 65_536  # rows in memory at once


@dataclass(frozen=True)
class Response:
    """A recorded text that answers a problem."""

    text_id: str
    problem: str
    first: int  # position of the response's first token


@dataclass(frozen=True, eq=False)
class Learned:
    rows: np.ndarray  # (n,) of the shards
    factors: np.ndarray  # (n, n_models) float32, or (1, n_models) where all are alike
    scale: np.ndarray  # (n_models,), kept with the weights
    facts: dict[str, Any] = field(default_factory=dict)  # to be kept, beyond the convention's name
    centre: np.ndarray | None = None  # (n_models, width) raw, taken away before scaling; None: nothing is

    def scaled(self, shards: Shards, places: np.ndarray) -> np.ndarray:
        """(n, n_models, width) float32 of the `places` among the learned rows, rising."""
        factors = self.factors if len(self.factors) == 1 else self.factors[places]
        found = shards.activations(self.rows[places])
        if self.centre is not None:
            found -= self.centre.astype(np.float32)
        return found * factors[:, :, None]


@dataclass(frozen=True)
class Convention:
    name: str
    words: str
    learned: Callable[[Shards, Sequence[Response]], Learned]


def _whole_texts(shards: Shards, responses: Sequence[Response]) -> Learned:
    scale = shards.scale()
    return Learned(np.arange(len(shards)), scale[None].astype(np.float32), scale)


def centred(learned: Learned, shards: Shards) -> Learned:
    """The same rows less each model's mean, scaled so that what is left has a mean norm of √d."""
    n, total, norms = len(learned.rows), np.zeros((shards.n_models, shards.width)), np.zeros(shards.n_models)
    blocks = [learned.rows[first : first + _BLOCK] for first in range(0, n, _BLOCK)]
    for rows in blocks:
        total += shards.activations(rows).astype(np.float64).sum(0)
    for rows in blocks:
        norms += np.linalg.norm(shards.activations(rows) - total / n, axis=2).sum(0)
    scale = np.sqrt(np.asarray(shards.widths or [shards.width] * shards.n_models, np.float64)) * n / norms
    return replace(learned, factors=scale[None].astype(np.float32), scale=scale, centre=total / n)


def _as_published(shards: Shards, responses: Sequence[Response]) -> Learned:
    """Raises ShardError where no response has a token."""
    own: dict[str, list[np.ndarray]] = {}
    for response in responses:
        rows = shards.rows_of(response.text_id)
        places = shards.tokens(rows)[:, 1]
        cut = (places >= response.first) & (places < response.first + PUBLISHED_TOKENS)
        own.setdefault(response.problem, []).append(rows[cut])
    by_problem = {problem: np.concatenate(parts) for problem, parts in own.items() if sum(map(len, parts))}
    if not by_problem:
        raise ShardError(f"{shards.folder} has no token of a response, and as_published learns from nothing else.")
    roots = np.sqrt(np.asarray(shards.widths or [shards.width] * shards.n_models, np.float64))
    norms = {problem: _norms(shards, rows) for problem, rows in by_problem.items()}
    scale = roots / np.concatenate(list(norms.values())).mean(0)
    factors = {problem: roots / own_norms.mean(0) for problem, own_norms in norms.items()}
    rows = np.concatenate(list(by_problem.values()))
    each = np.concatenate([np.tile(factors[problem], (len(own_rows), 1)) for problem, own_rows in by_problem.items()])
    order = rows.argsort(kind="stable")
    apart = np.array(list(factors.values())) / scale
    return Learned(
        rows[order],
        each[order].astype(np.float32),
        scale,
        {
            "response_tokens": PUBLISHED_TOKENS,
            "n_problems": len(by_problem),
            "problem_factors_over_scale": {"least": apart.min(0).tolist(), "most": apart.max(0).tolist()},
        },
    )


def _norms(shards: Shards, rows: np.ndarray) -> np.ndarray:
    """(n, n_models) float64."""
    return np.linalg.norm(shards.activations(rows).astype(np.float64), axis=2)


CONVENTIONS: Registry[Convention] = Registry(
    "convention of training data",
    Convention("whole_texts", "every token of every text, one scale a model", _whole_texts),
    Convention(
        "as_published",
        f"the first {PUBLISHED_TOKENS} tokens of each response, each problem scaled by itself",
        _as_published,
    ),
    error=ShardError,
)
