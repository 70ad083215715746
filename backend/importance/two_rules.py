"""The difference that the rule `numbers` makes over a study: a sentence of other numbers is not similar."""

from dataclasses import dataclass

import pandas as pd

from backend.importance.with_and_without import Moves, moves


@dataclass(frozen=True)
class TwoRules:
    n_rollouts: int  # resampled ones whose similarity is known under both rules
    n_moved: int  # of them: similar by their embeddings, of other numbers or operators
    moves: Moves  # of counterfactual importance (JSD), `jsd_numbers` against `jsd`


def two_rules(rows: pd.DataFrame) -> TwoRules:
    """Of rows of `Store.under_two_rules`."""
    known = rows[rows["share"].notna() & rows["share_numbers"].notna()]
    moved = (known["share_numbers"] * known["n_numbers"] - known["share"] * known["n"]).round()
    return TwoRules(int(known["n_numbers"].sum()), int(moved.sum()), moves(rows))
