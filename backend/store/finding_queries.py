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

    # A study as one point among others

    def nrn_of_features(self: _HasFrame) -> pd.DataFrame:
        """One row a feature that fires, or of which that is not known, of each dictionary of two models: NRN, L2."""
        return self.frame(
            "SELECT f.dictionary_id, d.distilled_model_id AS model_id, d.layer, f.nrn_l2 FROM features f JOIN"
            " dictionaries d USING (dictionary_id) WHERE d.distilled_model_id IS NOT NULL AND f.nrn_l2 IS NOT NULL AND"
            " coalesce(f.frequency > 0, true) ORDER BY f.dictionary_id, f.feature"
        )

    def parallelogram_ratios(self: _HasFrame) -> pd.DataFrame:
        """One row a model, space and class of word pairs."""
        return self.frame(
            'SELECT model_id, layer, cleaning, fitted_on, components, word_class, loss, "null", ratio FROM'
            " parallelograms ORDER BY model_id, layer, cleaning, fitted_on, components, word_class"
        )

    def tail_shares(self: _HasFrame, mark: str) -> pd.DataFrame:
        """One row a set of directions and subset: the share of pairs beyond the mark, and the mean of its nulls'."""
        return self.frame(
            "SELECT s.set_id, s.kind, s.model_id, s.model, s.role, s.layer, e.subset, e.share, e.ci_low, e.ci_high,"
            ' t.n_rows AS n, avg(o.share) AS "null" FROM cosine_sets s JOIN cosine_exceedances e USING (set_id) JOIN'
            " cosine_tails t USING (set_id, subset) LEFT JOIN cosine_sets z ON z.null_of = s.set_id LEFT JOIN"
            " cosine_exceedances o ON o.set_id = z.set_id AND o.mark = e.mark AND o.subset = e.subset WHERE s.null_of"
            " IS NULL AND coalesce(s.trained_on, 'model') = 'model' AND e.mark = $mark GROUP BY ALL ORDER BY s.kind,"
            " s.role, s.layer, s.set_id, e.subset",
            mark=mark,
        )

    def steepness_pairs(self: _HasFrame) -> pd.DataFrame:
        """One row a pair of swept steepness and an importance, on all chunks."""
        return self.frame(
            "SELECT kind, model_id, layer, position, unit, metric, convention, within, within_low, within_high,"
            " within_null_low, within_null_high, n FROM associations WHERE x = 'steepness' AND subset = 'all' ORDER BY"
            " kind, model_id, layer, position, unit, metric, convention"
        )

    def accuracy_of_problems(self: _HasFrame) -> pd.DataFrame:
        """One row a problem, model and prompt with chains that were judged."""
        return self.frame(
            "SELECT problem_id, model_id, prompt_name, n, accuracy FROM problem_accuracy WHERE accuracy IS NOT NULL"
            " ORDER BY model_id, prompt_name, problem_id"
        )

    def seeds(self: _HasFrame) -> list[int]:
        """Of the study's runs, each once."""
        found = self.frame("SELECT DISTINCT seed FROM runs WHERE seed IS NOT NULL ORDER BY seed")
        return [int(seed) for seed in found["seed"]]
