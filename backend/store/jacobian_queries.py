"""What a study has of Jacobian lenses: rows of named tokens, and how settled the averages are."""

from typing import Any, Protocol

import pandas as pd


class _HasFrame(Protocol):
    def frame(self, sql: str, **values: Any) -> pd.DataFrame: ...


class JacobianQueries:
    """Mixed into Store, which gives `frame`."""

    def jacobian_lenses(self: _HasFrame) -> pd.DataFrame:
        """One row a Jacobian lens with named tokens: its row of `lenses`, `n_layers` of its model and how many tokens
        are named (`n_named`); those with whole matrices first.
        """
        return self.frame(
            "SELECT lenses.*, n_layers, (SELECT count(*) FROM jacobian_tokens t WHERE t.lens_id = lenses.lens_id) AS"
            " n_named FROM lenses JOIN models USING (model_id) WHERE kind = 'jacobian' AND lens_id IN (SELECT lens_id"
            " FROM jacobian_tokens) ORDER BY model_id, variant = 'all' DESC, lens_id"
        )

    def jacobian_tokens(self: _HasFrame, lens_id: str) -> pd.DataFrame:
        """Its named tokens by id: token_id, text, roles, constant."""
        return self.frame(
            "SELECT token_id, text, roles, constant FROM jacobian_tokens WHERE lens_id = $l ORDER BY token_id",
            l=lens_id,
        )

    def jacobian_rows(self: _HasFrame, lens_id: str) -> pd.DataFrame:
        """layer, token_id, values and cosine of each row, by layer and token."""
        return self.frame(
            'SELECT layer, token_id, "values", cosine FROM jacobian_rows WHERE lens_id = $l ORDER BY layer, token_id',
            l=lens_id,
        )

    def jacobian_convergence(self: _HasFrame, lens_id: str) -> pd.DataFrame:
        """n_texts and relative_change, in the order of averaging."""
        return self.frame(
            "SELECT n_texts, relative_change FROM jacobian_convergence WHERE lens_id = $l ORDER BY n_texts", l=lens_id
        )
