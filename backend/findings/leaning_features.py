"""Features of a crosscoder that lean to one model beyond the band of its null pairs, and that latent scaling confirms.

Without null pairs it is not known what NRN training alone gives: then nothing is claimed, the features that lean most
are named as they are, and the line that adds the control is said. `null_bands` has the rule.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from backend.crosscoder.diff import confirmed
from backend.crosscoder.null_bands import SIDES, Band, beyond_of_nulls, live, nrn_band
from backend.crosscoder.null_kinds import ASK
from backend.findings.finding import Example, Finding, Number, Way
from backend.findings.words import models, number, some
from backend.store.store import Store
from backend.store.undone import Missing, command, lacking

_NORM, _TEXTS = "l1", 3


def find(store: Store) -> Finding | Missing:
    """Of the first dictionary with a feature beyond its band; else of the first that has a band; else of the first."""
    found = [one for row in store.dictionaries().itertuples() if isinstance(one := of_dictionary(store, row), Leaning)]
    if not found:
        return lacking(store, "crosscoder" if store.dictionaries().empty else "features")
    one = min(found, key=lambda one: (one.claimed.empty, one.band is None))
    shown = one.shown["feature"].head(_TEXTS).tolist()
    texts = store.first_examples(one.row.dictionary_id, shown, 1).set_index("feature").reindex(shown)
    lacks = None if one.band is not None else _without(one, store)
    return replace(told(one, texts["window_tokens"].dropna(), models(store)), lacks=lacks)


class Leaning:
    """The live features of one dictionary, the one that leans most first, with `side` and `claimed`."""

    def __init__(self, row: Any, features: pd.DataFrame, nulls: pd.DataFrame):
        self.row, self.nulls = row, nulls
        self.band: Band | None = nrn_band(nulls, _NORM)
        own = live(features)
        own = own[own[f"nrn_{_NORM}"].notna()]
        nrn = own[f"nrn_{_NORM}"].astype(float)
        own = own.assign(nrn=nrn, side=np.where(nrn < 0.5, *SIDES), claimed=self._claimed(own))
        self.features = own.assign(far=(nrn - 0.5).abs()).sort_values(["far", "feature"], ascending=[False, True])

    def _claimed(self, own: pd.DataFrame) -> np.ndarray:
        found = np.zeros(len(own), bool)
        if self.band is not None:
            nrn, nu_eps, nu_r = (own[name].to_numpy(dtype=float) for name in (f"nrn_{_NORM}", "nu_eps", "nu_r"))
            for side, outside in zip(SIDES, (nrn < self.band.low, nrn > self.band.high), strict=True):
                found |= outside & confirmed(nu_eps, nu_r, side=side)
        return found

    @property
    def claimed(self) -> pd.DataFrame:
        return self.features[self.features["claimed"]]

    @property
    def shown(self) -> pd.DataFrame:
        return self.features if self.claimed.empty else self.claimed


def of_dictionary(store: Store, row: Any) -> Leaning | None:
    """None where its features are not measured, or none of them is live, or it is of one model."""
    features = store.features(row.dictionary_id)
    if features.empty or not isinstance(row.distilled_model_id, str):
        return None
    found = Leaning(row, features, store.null_features(row.dictionary_id))
    return None if found.features.empty else found


def told(one: Leaning, texts: pd.Series, called: Mapping[str, str]) -> Finding:
    """`texts` are the tokens around where a feature fires most, by feature."""
    first = one.shown.iloc[0]
    return Finding(
        statement=_said(one, first, called),
        numbers=(
            Number(
                f"NRN of feature {first['feature']}",
                float(first["nrn"]),
                float("nan"),
                float("nan"),
                f"{len(one.features):,} live features",
            ),
        ),
        control=_control(one),
        rows=pd.DataFrame(
            {
                "nrn": one.features["nrn"],
                "claimed": one.features["claimed"],
                "band_low": np.nan if one.band is None else one.band.low,
                "band_high": np.nan if one.band is None else one.band.high,
            }
        ),
        way=Way("crosscoder", "All features", {"dictionary": str(one.row.dictionary_id)}),
        examples=tuple(_example(int(feature), tokens, one, called) for feature, tokens in texts.items()),
    )


def _said(one: Leaning, first: pd.Series, called: Mapping[str, str]) -> str:
    of = f"of {some(len(one.features), 'live feature')} at layer {one.row.layer}"
    if len(one.claimed):
        counts = [int((one.claimed["side"] == side).sum()) for side in SIDES]
        base, other = _names(one, called)
        return (
            f"{len(one.claimed):,} {of} are one model's own, beyond its null pairs and confirmed by latent scaling:"
            f" {counts[0]:,} of {base} and {counts[1]:,} of {other}."
        )
    if one.band is not None:
        return (
            f"No feature {of} is one model's own: none lies beyond the null pairs and is confirmed by latent scaling."
        )
    return (
        f"The {of.removeprefix('of ')} lean at most to NRN {number(first['nrn'])} (0.5 is shared alike). Without a null"
        " pair it is not known what training alone gives, so none is claimed to be one model's own."
    )


def _control(one: Leaning) -> str:
    if one.band is None:
        return "It lacks its control: a null pair, where no direction is one model's own."
    own = beyond_of_nulls(one.nulls, _NORM)
    counts = ", ".join(str(n) for n in own.groupby(["null", "number"])["n_confirmed"].sum())
    return (
        f"Grey: the band of {some(one.band.n_trainings, 'null training')}, NRN {number(one.band.low)} to"
        f" {number(one.band.high)} ({one.band.n_features:,} live features). The same rule finds {counts} there."
    )


def _without(one: Leaning, store: Store) -> Missing:
    if not isinstance(one.row.training_id, str):
        return Missing(
            "This dictionary was read from a file: a null pair is the same training, and cannot be had.", None
        )
    return Missing(f"Add {ASK} to its table [crosscoder] in the study file, and run it again:", command(store.path))


def _names(one: Leaning, called: Mapping[str, str]) -> tuple[str, str]:
    return (
        called.get(one.row.base_model_id, str(one.row.base)),
        called.get(one.row.distilled_model_id, str(one.row.distilled)),
    )


def _example(number_: int, tokens: Sequence[str], one: Leaning, called: Mapping[str, str]) -> Example:
    feature = one.features[one.features["feature"] == number_].iloc[0]
    whose = dict(zip(SIDES, _names(one, called), strict=True))[feature["side"]]
    way = Way("feature", f"Feature {number_}", {"dictionary": str(one.row.dictionary_id), "feature": str(number_)})
    return Example("".join(tokens), f"feature {number_}, NRN {number(feature['nrn'])}, towards {whose}", way)
