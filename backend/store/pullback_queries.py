"""What a study has of pull-back cosines: the averaged metrics, and sets of directions measured with them."""

from typing import Any, Protocol

import numpy as np
import pandas as pd


class _HasFrame(Protocol):
    def frame(self, sql: str, **values: Any) -> pd.DataFrame: ...


class PullbackQueries:
    """Mixed into Store, which gives `frame`."""

    def pullback_parts(self: _HasFrame, model_id: str, layer: int) -> set[str]:
        """Blocks of chunks whose summed metrics are there."""
        found = self.frame(
            "SELECT part FROM pullback_parts WHERE model_id = $m AND layer = $l AND EXISTS (FROM pullback_rows r WHERE"
            " r.model_id = $m AND r.layer = $l AND r.part = pullback_parts.part)",
            m=model_id,
            l=layer,
        )
        return set(found["part"])

    def pullback_halves(self: _HasFrame, model_id: str, layer: int) -> dict[str, tuple[int, np.ndarray]]:
        """By half: how many chunks, and the sum of their metrics, (d_model, d_model) float64; empty where one of them
        has none.
        """
        place = {"m": model_id, "l": layer}
        counts = self.frame(
            "SELECT half, sum(len(chunk_ids))::BIGINT AS n FROM pullback_parts WHERE model_id = $m AND layer = $l"
            " GROUP BY half ORDER BY half",
            **place,
        )
        rows = self.frame(
            'SELECT half, "row", list(sums ORDER BY part) AS sums FROM pullback_rows JOIN pullback_parts USING'
            ' (model_id, layer, part) WHERE model_id = $m AND layer = $l GROUP BY half, "row" ORDER BY half, "row"',
            **place,
        )
        found = {}
        for half, n in zip(counts["half"], counts["n"], strict=True):
            own = rows[rows["half"] == half]
            if not own.empty:
                found[str(half)] = (
                    int(n),
                    np.array([np.sum(np.stack(parts), 0, dtype=np.float64) for parts in own["sums"]]),
                )
        return found if len(found) == 2 else {}

    def dictionaries_at(self: _HasFrame, model_id: str, layer: int) -> list[tuple[str, int]]:
        """Ids of dictionaries that read this model there, and which of their models it is."""
        found = self.frame(
            "SELECT dictionary_id, (base_model_id <> $m)::INT AS number FROM dictionaries WHERE layer = $l AND $m IN"
            " (base_model_id, distilled_model_id) ORDER BY dictionary_id",
            m=model_id,
            l=layer,
        )
        return [(str(one), int(number)) for one, number in zip(found["dictionary_id"], found["number"], strict=True)]

    def pullback_sets(self: _HasFrame) -> pd.DataFrame:
        """One row a set of directions: its row of the table, and the shares of its rows and of what was drawn."""
        return self.frame(
            "SELECT * FROM pullback_sets JOIN pullback_shares USING (set_id) ORDER BY model_id, layer, kind,"
            " dictionary_id, drawn"
        )

    def pullback_bins(self: _HasFrame, set_id: str) -> pd.DataFrame:
        """Counts of pairs by both cosines: drawn, cosine_bin, pullback_bin, n."""
        return self.frame(
            "SELECT drawn, cosine_bin, pullback_bin, n FROM pullback_bins WHERE set_id = $s ORDER BY ALL", s=set_id
        )

    def pullback_pairs(self: _HasFrame, set_id: str) -> pd.DataFrame:
        """The pairs that differ most, by relation and rank."""
        return self.frame("SELECT * FROM pullback_pairs WHERE set_id = $s ORDER BY relation, rank", s=set_id)
