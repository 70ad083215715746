"""What pages and the stage ask about cosines of directions: sets, their tails, their pairs."""

from typing import Any, Protocol

import pandas as pd

from backend.schema.tables import TABLES


class _HasFrame(Protocol):
    def frame(self, sql: str, **values: Any) -> pd.DataFrame: ...


class CosineQueries:
    """Mixed into Store, which gives `frame`. Values are bound, columns and order are named."""

    def cosine_sets(self: _HasFrame) -> pd.DataFrame:
        """One row a set of directions, or a draw in its stead (`drawn_from`), by kind, model and layer."""
        columns = ", ".join(TABLES["cosine_sets"].columns)
        return self.frame(
            f"SELECT {columns} FROM cosine_sets ORDER BY kind, role, model, layer, trained_on, seed, source,"
            " drawn_from NULLS FIRST, set_id"
        )

    def cosine_tails(self: _HasFrame, kind: str) -> pd.DataFrame:
        """One row a set of that kind (draws in its stead too) and choice of its rows, with the bins of its tails."""
        return self.frame(
            "SELECT s.role, s.model, s.layer, s.d, s.drawn_from, s.null_of, s.trained_on, s.seed, t.* FROM"
            " cosine_tails t JOIN cosine_sets s USING (set_id) WHERE s.kind = $kind ORDER BY s.role, s.model, s.layer,"
            " s.trained_on, s.seed, s.drawn_from NULLS FIRST, s.set_id, t.subset",
            kind=kind,
        )

    def cosine_exceedances(self: _HasFrame, kind: str) -> pd.DataFrame:
        """One row a set of that kind (draws in its stead too), choice of its rows and threshold, with its tail mass."""
        return self.frame(
            "SELECT s.role, s.model, s.layer, s.d, s.drawn_from, s.null_of, s.trained_on, s.seed, s.source, s.n_total,"
            " t.n_rows, t.n_pairs, t.frequency_low, t.frequency_high, e.* FROM cosine_exceedances e JOIN cosine_sets s"
            " USING (set_id) JOIN cosine_tails t USING (set_id, subset) WHERE s.kind = $kind ORDER BY s.role, s.model,"
            " s.layer, s.trained_on, s.seed, s.drawn_from NULLS FIRST, s.set_id, e.subset, e.mark",
            kind=kind,
        )

    def cosine_pairs(self: _HasFrame, set_id: str) -> pd.DataFrame:
        """One row a pair that is kept of the set, those with the largest cosine first."""
        return self.frame(
            "SELECT a, b, cosine, is_drawn, is_link, token_a, token_b FROM cosine_pairs WHERE set_id = $set ORDER BY"
            " cosine DESC, a, b",
            set=set_id,
        )

    def categories_of_features(self: _HasFrame, dictionary_id: str, features: list[int]) -> pd.DataFrame:
        """One row a function tag and feature among these that fires: how often on chunks of that tag, over how often on
        all tagged ones.
        """
        return self.frame(
            "WITH own AS (SELECT feature, category, n_fired, n_tokens FROM feature_categories WHERE dictionary_id ="
            " $dictionary AND scheme = 'function' AND list_contains($features::BIGINT[], feature)), every AS (SELECT"
            " feature, sum(n_fired) / sum(n_tokens) AS frequency FROM own GROUP BY feature) SELECT o.feature,"
            " o.category, o.n_fired, o.n_fired / o.n_tokens / e.frequency AS lift FROM own o JOIN every e USING"
            " (feature) WHERE o.n_tokens > 0 AND e.frequency > 0 ORDER BY o.feature, o.category",
            dictionary=dictionary_id,
            features=[int(feature) for feature in features],
        )

    def trained_saes(self: _HasFrame) -> pd.DataFrame:
        """One row a small autoencoder of the study."""
        return self.frame(
            "SELECT sae_id, model_id, layer, seed, trained_on, dictionary_id, sha256 FROM saes ORDER BY model_id,"
            " layer, trained_on, seed, sae_id"
        )

    def sae_frequencies(self: _HasFrame, sae_id: str) -> pd.DataFrame:
        """One row a feature of one of them: how often it fires."""
        return self.frame(
            "SELECT feature, frequency FROM sae_features WHERE sae_id = $sae ORDER BY feature", sae=sae_id
        )
