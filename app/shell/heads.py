"""What the head of a column means, with formula and source: one text for one head, in every table."""

from collections.abc import Iterable, Mapping
from typing import Any

import streamlit as st

HEADS = {
    "95 %": "95 % interval: of draws of whole problems unless the text below says otherwise.",
    "95 % interval": "Of draws of whole problems (bootstrap) unless the text below says otherwise.",
    "p": "Of the test that the text names; of N permutations (k + 1) / (N + 1), k of them doing at least as well.",
    "q": "p after Benjamini and Hochberg (1995) over all rows of the family: at q ≤ 0.05 at most 5 % are expected by"
    " chance.",
    "n": "How many observations the value rests on.",
    "CoTs": "Chains of thought among them.",
    "problems": "Problems among them: what is drawn anew for intervals.",
    "ρ": "Spearman's rank correlation within CoTs: of what ranks differ from their CoT's mean.",
    "|ρ|": "Its size.",
    "low": "Lower end of the 95 % interval.",
    "high": "Upper end of the 95 % interval.",
    "null low": "2.5th percentile of ρ when importance is permuted within CoTs.",
    "null high": "97.5th percentile of ρ when importance is permuted within CoTs.",
    "ρ given": "ρ within CoTs with the covariates held fixed (partial rank correlation).",
    "power": "Share of associations of ρ = −0.25 within CoTs, planted in these chunks, that would have been claimed.",
    "detectable from": "The smallest planted ρ that is found 9 times in 10 among all pairs.",
    "pooled ρ": "Spearman's ρ over all chunks: what differs between problems and CoTs is in it.",
    "pooled sign differs": "Whether ρ over all chunks runs the other way than ρ within CoTs.",
    "association": "What is claimed by the rule above: inverse, direct or none.",
    "covariates": "What was held fixed.",
    "below floor": "Whether the whole KL curve lies at or below what rounding alone gives.",
    "f": "Activation of the feature; of a chunk its mean over the tokens.",
    "mean f": "Mean activation when it fires.",
    "fires on": "Share of the study's CoT tokens on which it fires.",
    "lift": "Frequency here over frequency elsewhere: 1 is no more often than anywhere.",
    "NRN, L1": "Normalised relative norm: ‖reasoner's decoder row‖₁ / (sum of both): 0 base only, 1 reasoner only.",
    "NRN (L1)": "Normalised relative norm: ‖reasoner's decoder row‖₁ / (sum of both): 0 base only, 1 reasoner only.",
    "ν^ε": "Latent scaling of the error, β(base) / β(reasoner): 0 reasoner only, 1 shared (Minder et al. 2025).",
    "accuracy": "Correct among those that were judged.",
}


def explained(columns: Iterable[str], config: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The configuration of a table's columns, `config` first, with the help of each head that has words here."""
    found = dict(config or {})
    for name in columns:
        if (words := HEADS.get(name)) is None:
            continue
        own = found.get(name)
        if own is None:
            found[name] = st.column_config.Column(help=words)
        elif isinstance(own, dict) and own.get("help") is None:
            found[name] = {**own, "help": words}
    return found
