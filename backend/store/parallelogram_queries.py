"""What a study has of parallelograms: of word pairs, and among decoder rows."""

from typing import Any, Protocol

import pandas as pd


class _HasFrame(Protocol):
    def frame(self, sql: str, **values: Any) -> pd.DataFrame: ...


class ParallelogramQueries:
    """Mixed into Store, which gives `frame`."""

    def parallelogram_spaces(self: _HasFrame) -> pd.DataFrame:
        """Every layer, cleaning, fit and number of components that classes were measured in, in order."""
        return self.frame(
            "SELECT DISTINCT layer, cleaning, fitted_on, components FROM parallelograms ORDER BY layer, cleaning,"
            " fitted_on, components"
        )

    def parallelograms(self: _HasFrame, layer: int, cleaning: str, fitted_on: str, components: int) -> pd.DataFrame:
        """One row a model and class in this space, with the model's `role` and `model` (its name), base first."""
        return self.frame(
            "SELECT p.*, role, name AS model FROM parallelograms p JOIN models USING (model_id) WHERE layer = $layer"
            " AND cleaning = $cleaning AND fitted_on = $fitted_on AND components = $components ORDER BY word_class,"
            " role, model_id",
            layer=layer,
            cleaning=cleaning,
            fitted_on=fitted_on,
            components=components,
        )

    def parallelogram_layers(self: _HasFrame, cleaning: str, fitted_on: str, components: int) -> pd.DataFrame:
        """One row a layer, model and class: loss, null and ratio, with the model's `role`."""
        return self.frame(
            'SELECT layer, role, model_id, word_class, loss, "null", ratio FROM parallelograms JOIN models USING'
            " (model_id) WHERE cleaning = $cleaning AND fitted_on = $fitted_on AND components = $components ORDER BY"
            " layer, role, model_id, word_class",
            cleaning=cleaning,
            fitted_on=fitted_on,
            components=components,
        )

    def parallelogram_differences(
        self: _HasFrame, cleaning: str, fitted_on: str, components: int, *, word_class: str
    ) -> pd.DataFrame:
        """One row a layer: the distilled model against the base model in a class, or in all of them."""
        return self.frame(
            "SELECT layer, n, log_ratio, log_ratio_low, log_ratio_high, log_ratio_p FROM parallelogram_comparisons"
            " WHERE cleaning = $cleaning AND fitted_on = $fitted_on AND components = $components AND word_class = $name"
            " ORDER BY layer",
            cleaning=cleaning,
            fitted_on=fitted_on,
            components=components,
            name=word_class,
        )

    def parallelogram_comparisons(
        self: _HasFrame, layer: int, cleaning: str, fitted_on: str, components: int
    ) -> pd.DataFrame:
        """One row a class in this space, and one of all classes: the distilled model against the base model."""
        return self.frame(
            "SELECT * FROM parallelogram_comparisons WHERE layer = $layer AND cleaning = $cleaning AND fitted_on ="
            " $fitted_on AND components = $components ORDER BY word_class",
            layer=layer,
            cleaning=cleaning,
            fitted_on=fitted_on,
            components=components,
        )

    def parallelogram_examples(
        self: _HasFrame, layer: int, cleaning: str, fitted_on: str, components: int
    ) -> pd.DataFrame:
        """The best (place from 1) and worst (from −1) quadruples of each model and class in this space."""
        return self.frame(
            "SELECT e.*, role, name AS model FROM parallelogram_examples e JOIN models USING (model_id) WHERE layer ="
            " $layer AND cleaning = $cleaning AND fitted_on = $fitted_on AND components = $components ORDER BY"
            " word_class, role, model_id, place < 0, abs(place)",
            layer=layer,
            cleaning=cleaning,
            fitted_on=fitted_on,
            components=components,
        )

    def word_classes(self: _HasFrame) -> pd.DataFrame:
        """One row a class of word pairs: what takes part and what is left out."""
        return self.frame("SELECT * FROM word_classes ORDER BY word_class")

    def word_readings(self: _HasFrame) -> pd.DataFrame:
        """One row a model and layer: how the vocabulary's words lie there."""
        return self.frame(
            "SELECT r.*, role, name AS model FROM word_readings r JOIN models USING (model_id) ORDER BY layer, role,"
            " model_id"
        )

    def searched_dictionaries(self: _HasFrame) -> pd.DataFrame:
        """One row a search among decoder rows and nulls, with the model's `role`; of an autoencoder its layer, what it
        was trained on and `sae_id`, which are NULL of the study's dictionaries.
        """
        return self.frame(
            "SELECT s.dictionary_id, s.model_id, role, name AS model, searched, draw, s.n_rows, median, smallest,"
            " sae_id, saes.layer, trained_on FROM feature_quadruple_searches s JOIN models USING (model_id) LEFT JOIN"
            " saes ON saes.dictionary_id = s.dictionary_id AND saes.model_id = s.model_id ORDER BY sae_id IS NOT NULL,"
            " saes.layer, role, s.model_id, trained_on, s.dictionary_id, searched, draw"
        )

    def feature_quadruple_searches(self: _HasFrame, dictionary_id: str) -> pd.DataFrame:
        """One row a search among the dictionary's rows or a null of them, by model."""
        return self.frame(
            "SELECT s.*, role, name AS model FROM feature_quadruple_searches s JOIN models USING (model_id) WHERE"
            " dictionary_id = $d ORDER BY role, model_id, searched, draw",
            d=dictionary_id,
        )

    def feature_quadruples(self: _HasFrame, dictionary_id: str) -> pd.DataFrame:
        """The best quadruples of the dictionary's features, by model."""
        return self.frame(
            "SELECT q.*, role, name AS model FROM feature_quadruples q JOIN models USING (model_id) WHERE"
            " dictionary_id = $d ORDER BY role, model_id, place",
            d=dictionary_id,
        )
