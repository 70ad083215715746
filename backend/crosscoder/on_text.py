"""A dictionary's features on one text: which ones to look at, and what they add to each model, token by token or chunk
by chunk.

A crosscoder has one code f_k for both models: where feature k fires is the same in both, and what it adds to model m is
f_k · ‖W_dec,k^(m)‖₂, in the scaled units in which the dictionary reads that model. Nothing here imports a model.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from backend.errors import AnchorscopeError

MOST_ROWS = 60


class NoFeatures(AnchorscopeError):
    """Words that name no features of the dictionary."""


@dataclass(frozen=True, eq=False)
class TextCodes:
    """A text as a dictionary reads it. A text's first token has no codes."""

    tokens: Sequence[str]  # joined they are prompt + text
    n_prompt: int  # tokens of the prompt
    codes: pd.DataFrame  # position, feature, code: one row a code of what fires
    chunks: pd.DataFrame  # chunk_id, number (1-based), token_start, token_end: those of the text tile its tokens

    @property
    def first(self) -> int:
        """Position of the first token of the text itself that can have codes."""
        return max(self.n_prompt, 1)

    @property
    def own(self) -> pd.DataFrame:
        """Codes of the text itself, without its prompt."""
        return self.codes[self.codes["position"] >= self.first]

    @property
    def n_coded(self) -> int:
        """Tokens of the text itself that can have codes."""
        return max(len(self.tokens) - self.first, 0)

    def chunk_at(self, position: int) -> str | None:
        """Id of the chunk that the token is of; None in the prompt."""
        inside = self.chunks[(self.chunks["token_start"] <= position) & (position < self.chunks["token_end"])]
        return None if inside.empty else str(inside["chunk_id"].iloc[0])


def summary(text: TextCodes) -> pd.DataFrame:
    """One row a feature that fires on the text itself: `mean` size of its code over the tokens, 0 where it does not
    fire, the `largest`, and `n_fired` of them; strongest first.
    """
    found = text.own.assign(size=text.own["code"].abs())
    found = found.groupby("feature")["size"].agg(["sum", "max", "count"]).reset_index()
    found = found.assign(mean=found["sum"] / max(text.n_coded, 1)).rename(
        columns={"max": "largest", "count": "n_fired"}
    )
    found = found.sort_values(["mean", "feature"], ascending=[False, True], ignore_index=True)
    return found[["feature", "mean", "largest", "n_fired"]]


LEAST_FIRED = 3  # tokens of the text on which a feature must fire to be called specific to it


def lifts(found: pd.DataFrame, text: TextCodes, frequency: pd.Series, n_elsewhere: float) -> pd.DataFrame:
    """A `summary` with `elsewhere`, the share of other tokens on which each feature fires, and `lift`, its share of the
    text's tokens over that: how much more often it fires here than anywhere else.

    `frequency` by feature is over `n_elsewhere` tokens that are not the text's. Half a token is added to those on which
    it fires there, and one to all, so that a lift is finite where it fires nowhere else. NaN where it fires on fewer
    than LEAST_FIRED tokens of the text: of such a few no rate is known.
    """
    fired = frequency.reindex(found["feature"]).to_numpy(dtype=float) * n_elsewhere
    elsewhere = (fired + 0.5) / (n_elsewhere + 1)
    lift = found["n_fired"].to_numpy() / max(text.n_coded, 1) / elsewhere
    return found.assign(elsewhere=elsewhere, lift=np.where(found["n_fired"] >= LEAST_FIRED, lift, np.nan))


def specific(found: pd.DataFrame, n: int) -> list[int]:
    """The first `n` features of `lifts` by lift; features of too few tokens follow, the strongest first."""
    return found.sort_values(["lift", "mean", "feature"], ascending=[False, False, True])["feature"].head(n).tolist()


def ranked(found: pd.DataFrame, nrn: Mapping[int, float], how: str, n: int) -> list[int]:
    """The first `n` features of a `summary`: by mean code, or by NRN from the distilled or the base end; unknown NRN is
    left out.
    """
    if how == "mean":
        return found["feature"].head(n).tolist()
    known = found.assign(nrn=found["feature"].map(nrn)).dropna(subset="nrn")
    return known.sort_values(["nrn", "mean"], ascending=[how == "base", False])["feature"].head(n).tolist()


def named(words: str, n_features: int) -> list[int]:
    """The features that a person lists by number, each once.

    Raises NoFeatures for what is no number, or too large, or too many.
    """
    parts = [part for part in re.split(r"[\s,;]+", words) if part]
    for part in parts:
        if not (part.isascii() and part.isdigit() and len(part) < 12 and int(part) < n_features):
            raise NoFeatures(f"“{part[:40]}” is no feature: the dictionary has features 0 to {n_features - 1:,}.")
    chosen = list(dict.fromkeys(int(part) for part in parts))
    if len(chosen) > MOST_ROWS:
        raise NoFeatures(f"{len(chosen)} features are named; at most {MOST_ROWS} are drawn.")
    return chosen


def by_token(text: TextCodes, features: Sequence[int], *, with_prompt: bool) -> pd.DataFrame:
    """feature, place (position of the token), code: of the features, where they fire."""
    codes = text.codes if with_prompt else text.own
    return (
        codes[codes["feature"].isin(features)]
        .rename(columns={"position": "place"})[["feature", "place", "code"]]
        .reset_index(drop=True)
    )


def by_chunk(text: TextCodes, features: Sequence[int]) -> pd.DataFrame:
    """feature, place (1-based number of the chunk), code (mean over the chunk's tokens), n_fired and n_tokens of them:
    where they fire.
    """
    edges = text.chunks["token_start"].to_numpy(dtype=np.int64)
    codes = text.own[text.own["feature"].isin(features) & (text.own["position"] >= edges.min(initial=len(text.tokens)))]
    if codes.empty:
        return pd.DataFrame({"feature": [], "place": [], "code": [], "n_fired": [], "n_tokens": []}, dtype=float)
    at = np.searchsorted(edges, codes["position"].to_numpy(), side="right") - 1
    numbers, sizes = (
        text.chunks["number"].to_numpy(),
        (text.chunks["token_end"] - text.chunks["token_start"]).to_numpy(),
    )
    found = codes.assign(place=numbers[at], n_tokens=sizes[at]).groupby(["place", "feature"], as_index=False)
    found = found.agg(total=("code", "sum"), n_fired=("code", "size"), n_tokens=("n_tokens", "first"))
    return found.assign(code=found["total"] / found["n_tokens"])[["feature", "place", "code", "n_fired", "n_tokens"]]


def contributions(cells: pd.DataFrame, norms: pd.DataFrame) -> pd.DataFrame:
    """`cells` (feature, code, …) with a column for each column of `norms` (indexed by feature): code times decoder
    norm.
    """
    return cells.assign(
        **{name: cells["code"].to_numpy() * norms[name].reindex(cells["feature"]).to_numpy() for name in norms}
    )


def firing_at(text: TextCodes, first: int, end: int) -> pd.DataFrame:
    """What fires at tokens first … end − 1: feature, code (mean over these tokens), n_fired; largest size first."""
    here = text.codes[(text.codes["position"] >= first) & (text.codes["position"] < end)]
    found = here.groupby("feature", as_index=False).agg(total=("code", "sum"), n_fired=("code", "size"))
    found = found.assign(code=found["total"] / max(end - first, 1), size=found["total"].abs())
    found = found.sort_values(["size", "feature"], ascending=[False, True])
    return found[["feature", "code", "n_fired"]].reset_index(drop=True)
