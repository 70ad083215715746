"""What findings ask of a study as a whole, where no page asks the same."""

from typing import Any, Protocol

import pandas as pd

from backend.store.decided import DECIDED


class _HasFrame(Protocol):
    def frame(self, sql: str, **values: Any) -> pd.DataFrame: ...


class FindingQueries:
    """Mixed into Store, which gives `frame`."""

    def known_importances(self: _HasFrame, metric: str, convention: str) -> pd.DataFrame:
        """One row a chunk of which the importance is known, the largest first, with its q over the study (`decided`),
        the start of its text and its first tag by the source of most tags.
        """
        return self.frame(
            "SELECT k.chunk_id, k.cot_id, c.problem_id, c.model_id, k.chunk_index + 1 AS number, left(k.text, 400) AS"
            " text, t.category, i.value, i.ci_low, i.ci_high, i.p, i.q, i.n_tested, i.n, i.n_comparator FROM"
            f" {DECIDED} i JOIN chunks k USING (chunk_id) JOIN cots c USING (cot_id) LEFT JOIN categories t ON"
            " t.chunk_id = k.chunk_id AND t.rank = 0 AND t.source = (SELECT source FROM categories GROUP BY source"
            " ORDER BY count(*) DESC, source LIMIT 1) WHERE i.metric = $metric AND i.convention = $convention AND"
            " i.value IS NOT NULL ORDER BY i.value DESC, k.cot_id, k.chunk_index",
            metric=metric,
            convention=convention,
        )

    def steered_quantities(self: _HasFrame) -> set[str]:
        """The effects of steering anchors and matches that are known."""
        return set(self.frame("SELECT DISTINCT quantity FROM causation_effects")["quantity"])

    def steered_answers(self: _HasFrame) -> pd.DataFrame:
        """Of every chunk that was steered as an anchor or as a match, where its samples start, and of each arm: how
        many gave each answer (`cluster`), and how many of these are correct. Samples without an answer take no part.
        """
        return self.frame(
            "SELECT s.pair_id, s.role, s.start, s.arm, s.chunk_id, k.chunk_index + 1 AS number, left(k.text, 400) AS"
            " text, p.model_id, p.kind, p.layer, p.place, p.unit, p.beta, p.n AS n_samples, s.cluster, count(*) AS n,"
            " count(*) FILTER (s.is_correct) AS n_correct FROM causation_samples s JOIN causation_pairs p USING"
            " (pair_id) JOIN chunks k ON k.chunk_id = s.chunk_id WHERE s.cluster IS NOT NULL GROUP BY ALL"
            " ORDER BY s.pair_id, s.role, s.start,"
            " s.arm, n DESC, s.cluster"
        )
