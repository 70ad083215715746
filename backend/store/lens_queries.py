"""What a study has of lenses: their cards, how each layer was fitted, their maps, and how good they are."""

import json
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import pandas as pd


def _is_by(said: object, settings: Mapping[str, Any]) -> bool:
    """Whether a lens whose card says this of itself was fitted by these settings, as far as both name them."""
    own = json.loads(said) if isinstance(said, str) else {}
    return bool(settings.keys() & own.keys()) and all(own[name] == settings[name] for name in settings.keys() & own)


class _HasFrame(Protocol):
    def frame(self, sql: str, **values: Any) -> pd.DataFrame: ...


class LensQueries:
    """Mixed into Store, which gives `frame`."""

    def lenses(self: _HasFrame, model_id: str) -> pd.DataFrame:
        """One row a fitted lens of the model: its row of `lenses`, how many layers it reads (the last left out), at how
        many of these the identity is kept, the minutes it took, and whether its whole maps are here, so that it gives
        probabilities. Of several of a kind and variant the one by the settings of the newest run comes first, then the
        one of more layers and tokens. `is_readable`: its maps, or its rows of named tokens, are here; a pack may be
        made without them.
        """
        found = self.frame(
            "WITH layers AS (SELECT lens_id, count(*) AS n_layers, count_if(kept = 'identity') AS n_identity,"
            " sum(seconds) / 60 AS minutes, bool_and(kept = 'identity' OR (lens_id, layer) IN (SELECT (lens_id, layer)"
            " FROM lens_rows)) AS is_whole FROM lens_layers GROUP BY lens_id) SELECT lenses.*, coalesce(n_layers, 0) AS"
            " n_layers, coalesce(n_identity, 0)::BIGINT AS n_identity, minutes, coalesce(is_whole, false) AS is_whole,"
            " coalesce(is_whole, false) OR lens_id IN (SELECT lens_id FROM jacobian_rows) AS is_readable"
            " FROM lenses LEFT JOIN layers USING (lens_id) WHERE model_id = $m ORDER BY n_layers DESC, n_tokens DESC"
            " NULLS LAST, lens_id",
            m=model_id,
        )
        runs = self.frame("SELECT parameters FROM runs WHERE parameters IS NOT NULL ORDER BY started_at DESC, run_id")
        asked = (json.loads(said).get("lens") for said in runs["parameters"])
        newest: dict[str, Any] = next((own for own in asked if own), {})
        order = found.assign(
            _tuned=found["kind"] != "tuned",
            _all=found["variant"] != "all",
            _other=[not _is_by(said, newest) for said in found["parameters"]],
        ).sort_values(["_tuned", "_all", "kind", "variant", "_other"], kind="stable")
        return found.loc[order.index].reset_index(drop=True)

    def lens_facts(self: _HasFrame, lens_id: str) -> dict[str, Any]:
        """The lens's row, with `n_layers` and `d_model` of its model; {} where there is none."""
        found = self.frame(
            "SELECT lenses.*, n_layers, d_model, name AS model_name FROM lenses JOIN models USING (model_id) WHERE"
            " lens_id = $l",
            l=lens_id,
        )
        return {} if found.empty else found.iloc[0].to_dict()

    def lens_layers(self: _HasFrame, lens_id: str) -> pd.DataFrame:
        """One row a layer that the lens reads, from the first on: how it was fitted, and what was kept."""
        return self.frame("SELECT * FROM lens_layers WHERE lens_id = $l ORDER BY layer", l=lens_id)

    def lens_map(self: _HasFrame, lens_id: str, layer: int) -> tuple[np.ndarray, np.ndarray] | None:
        """The map less the identity (d_model, d_model) and b (d_model,), float32; None where it is not here."""
        found = self.frame(
            'SELECT "values", bias FROM lens_rows WHERE lens_id = $l AND layer = $n ORDER BY "row"', l=lens_id, n=layer
        )
        if found.empty:
            return None
        return np.stack(found["values"].tolist()).astype(np.float32), found["bias"].to_numpy(dtype=np.float32)

    def lens_quality(self: _HasFrame, model_id: str) -> pd.DataFrame:
        """One row a lens that is here, layer and kind of position; `variant` is none of the logit lens."""
        return self.frame(
            "SELECT q.*, coalesce(variant, 'none') AS variant FROM lens_quality q LEFT JOIN lenses USING (lens_id)"
            " WHERE q.model_id = $m AND (q.lens_id = 'logit' OR lenses.lens_id IS NOT NULL) ORDER BY q.lens_id <>"
            " 'logit', q.lens_id, positions = 'all' DESC, positions, layer",
            m=model_id,
        )
