"""What a study has of small autoencoders: what each was trained on, how good it is, and how its decoder rows lie."""

from typing import Any, Protocol

import pandas as pd


class _HasFrame(Protocol):
    def frame(self, sql: str, **values: Any) -> pd.DataFrame: ...


class SaeQueries:
    """Mixed into Store, which gives `frame`."""

    def saes(self: _HasFrame) -> pd.DataFrame:
        """One row an autoencoder, base model first, by layer, what it was trained on and seed: its row of `saes`, and
        role, name, family, layers and width of its model.
        """
        return self.frame(
            "SELECT saes.*, role, name AS model_name, family, n_layers, d_model FROM saes JOIN models USING"
            " (model_id) ORDER BY role, model_id, layer, trained_on, seed, sae_id"
        )

    def sae_tails(self: _HasFrame, rows: str, exceedance: float) -> pd.DataFrame:
        """One row an autoencoder: threshold, n_rows, n_pairs and share of this choice of rows at this exceedance."""
        return self.frame(
            'SELECT sae_id, threshold, n_rows, n_pairs, share FROM sae_tails WHERE "rows" = $r AND exceedance = $e'
            " ORDER BY sae_id",
            r=rows,
            e=exceedance,
        )
