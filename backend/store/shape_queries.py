"""What a study has of the shape of its activations: of the whole, of words in order, and of the paths of its chains."""

from typing import Any, Protocol

import pandas as pd


class _HasFrame(Protocol):
    def frame(self, sql: str, **values: Any) -> pd.DataFrame: ...


class ShapeQueries:
    """Mixed into Store, which gives `frame`. `model` is a model's name, which an unknown one lacks."""

    def shapes(self: _HasFrame) -> pd.DataFrame:
        """All of table `shapes`, by its key."""
        return self.frame(
            "SELECT s.*, m.name AS model, m.role, m.d_model FROM shapes s LEFT JOIN models m USING (model_id) ORDER BY"
            " m.role, m.name, s.model_id, s.points, s.layer, s.category, s.measure"
        )

    def curve_sets(self: _HasFrame) -> pd.DataFrame:
        """One row a set of words and model."""
        return self.frame(
            "SELECT s.*, m.name AS model, m.role FROM curve_sets s LEFT JOIN models m USING (model_id) ORDER BY m.role,"
            " m.name, s.model_id, s.curve"
        )

    def curves(self: _HasFrame) -> pd.DataFrame:
        """All of table `curves`, by its key."""
        return self.frame(
            "SELECT c.*, m.name AS model, m.role FROM curves c LEFT JOIN models m USING (model_id) ORDER BY m.role,"
            " m.name, c.model_id, c.curve, c.layer"
        )

    def curve_points(self: _HasFrame, model_id: str, curve: str, layer: int) -> pd.DataFrame:
        """One row a circle and word, in order."""
        return self.frame(
            "SELECT period, place, word, x, y FROM curve_points WHERE model_id = $m AND curve = $c AND layer = $l ORDER"
            " BY period, place",
            m=model_id,
            c=curve,
            l=int(layer),
        )

    def path_places(self: _HasFrame) -> pd.DataFrame:
        """One row a model and layer with paths, and the CoTs that have one."""
        return self.frame(
            "SELECT p.model_id, m.name AS model, m.role, p.layer, count(*) AS n_cots FROM paths p LEFT JOIN models m"
            " USING (model_id) GROUP BY ALL ORDER BY m.role, m.name, p.model_id, p.layer"
        )

    def paths_at(self: _HasFrame, model_id: str, layer: int) -> pd.DataFrame:
        """One row a CoT with a path there, with its problem and verdict (NULL: none)."""
        return self.frame(
            "SELECT p.*, c.problem_id, c.is_correct, left(b.question, 160) AS question, c.sample FROM paths p JOIN cots"
            " c USING (cot_id) LEFT JOIN problems b USING (problem_id) WHERE p.model_id = $m AND p.layer = $l ORDER BY"
            " p.cot_id",
            m=model_id,
            l=int(layer),
        )

    def path_outcomes(self: _HasFrame) -> pd.DataFrame:
        """All of table `path_outcomes`, by its key."""
        return self.frame(
            "SELECT o.*, m.name AS model, m.role FROM path_outcomes o LEFT JOIN models m USING (model_id) ORDER BY"
            " m.role, m.name, o.model_id, o.layer, o.comparison, o.measure"
        )

    # For stages

    def cot_verdicts(self: _HasFrame) -> pd.DataFrame:
        """cot_id, problem_id, is_correct (NULL: no verdict) of every CoT, by id."""
        return self.frame("SELECT cot_id, problem_id, is_correct FROM cots ORDER BY cot_id")

    def verdict_digest(self: _HasFrame) -> str:
        """Changes whenever a verdict does."""
        return str(
            self.frame(
                "SELECT md5(string_agg(cot_id || ':' || coalesce(is_correct::VARCHAR, ''), ',' ORDER BY cot_id)) AS d"
                " FROM cots"
            )["d"].iloc[0]
        )

    def tag_digest(self: _HasFrame, source: str) -> str:
        """Changes whenever a first tag of the source does."""
        return str(
            self.frame(
                "SELECT md5(string_agg(chunk_id || ':' || category, ',' ORDER BY chunk_id)) AS d FROM categories WHERE"
                " source = $s AND rank = 0",
                s=source,
            )["d"].iloc[0]
        )
