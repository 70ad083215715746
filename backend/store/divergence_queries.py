"""What a study has of where its base and its distilled model part."""

from typing import Any, Protocol

import pandas as pd


class _HasFrame(Protocol):
    def frame(self, sql: str, **values: Any) -> pd.DataFrame: ...


class DivergenceQueries:
    """Mixed into Store, which gives `frame`."""

    def divergence(self: _HasFrame) -> pd.DataFrame:
        """All of table `divergence`, by its key; `base` and `distilled` are the models' names."""
        return self.frame(
            "SELECT d.*, b.name AS base, m.name AS distilled, b.d_model FROM divergence d LEFT JOIN models b ON"
            " b.model_id = d.base_model_id LEFT JOIN models m ON m.model_id = d.distilled_model_id ORDER BY"
            " d.base_model_id, d.distilled_model_id, d.layer, d.positions, d.measure"
        )

    def divergence_beside(self: _HasFrame) -> pd.DataFrame:
        """Relative norm and CKA of each pair and layer, over all positions: what stands beside pickers of layers."""
        return self.frame(
            "SELECT base_model_id, distilled_model_id, layer, measure, value FROM divergence WHERE positions = 'all'"
            " AND measure IN ('relative_norm', 'cka') ORDER BY base_model_id, distilled_model_id, layer, measure"
        )
