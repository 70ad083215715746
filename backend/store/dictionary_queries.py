"""What pages ask of a study's dictionaries: crosscoders of two models, or sparse autoencoders of one."""

from typing import Any, Protocol

import pandas as pd

from backend.schema.tables import TABLES


class _HasFrame(Protocol):
    def frame(self, sql: str, **values: Any) -> pd.DataFrame: ...


def _wide(side: str) -> str:
    """Columns of one model's fit and losses, means over tokens; `recovered` is the share of what the baseline loses
    that splicing keeps.
    """
    return (
        f"f_{side}.variance_explained AS variance_explained_{side}, l_{side}.loss AS loss_{side}, l_{side}.loss_spliced"
        f" AS loss_spliced_{side}, l_{side}.loss_zeroed AS loss_zeroed_{side}, l_{side}.loss_averaged AS"
        f" loss_averaged_{side}, (l_{side}.loss_zeroed - l_{side}.loss_spliced) / (l_{side}.loss_zeroed -"
        f" l_{side}.loss) AS loss_recovered_{side}, (l_{side}.loss_averaged - l_{side}.loss_spliced) /"
        f" (l_{side}.loss_averaged - l_{side}.loss) AS loss_recovered_from_mean_{side}"
    )


# NRN by norms over √width: at equal widths that of L2; `f` are features, `d` their dictionary, `a` and `b` its models.
_NRN_RMS = (
    "CASE WHEN d.d_model IS NOT NULL THEN f.nrn_l2 ELSE (f.norm_distilled_l2 / sqrt(b.d_model)) /"
    " nullif(f.norm_base_l2 / sqrt(a.d_model) + f.norm_distilled_l2 / sqrt(b.d_model), 0) END AS nrn_rms"
)
_OF_NRN_RMS = (
    "JOIN dictionaries d ON d.dictionary_id = f.dictionary_id LEFT JOIN models a ON a.model_id = d.base_model_id LEFT"
    " JOIN models b ON b.model_id = d.distilled_model_id"
)


# Of rows `category`, `scheme` and `lift`: a feature's category with the largest lift in each scheme, and the lift.
_BEST = ", ".join(
    f"arg_max(category, lift) FILTER (scheme = '{scheme}') AS {scheme}, max(lift) FILTER (scheme = '{scheme}')"
    f" AS {scheme}_lift"
    for scheme in ("reasoning", "before_reasoning")
)


def _beside(side: str) -> str:
    return (
        f"LEFT JOIN models m_{side} ON m_{side}.model_id = d.{side}_model_id LEFT JOIN dictionary_fits f_{side} ON"
        f" f_{side}.dictionary_id = d.dictionary_id AND f_{side}.model_id = d.{side}_model_id LEFT JOIN losses l_{side}"
        f" ON l_{side}.dictionary_id = d.dictionary_id AND l_{side}.model_id = d.{side}_model_id "
    )


def _fired(above: float | None, by_norms: bool) -> tuple[str, dict[str, Any]]:
    """Rows cot_id, position, feature, code of what fires in a dictionary's CoTs, their prompts left out, and what they
    bind beside the dictionary; `above` and `by_norms` as in `codes_of_cot`.
    """
    codes = (
        "SELECT s.cot_id, c.n_prompt_tokens, unnest(s.positions) AS position, unnest(s.features) AS feature,"
        " unnest(s.codes) AS code FROM cot_codes s JOIN cots c USING (cot_id) WHERE s.dictionary_id = $dictionary"
    )
    own = "s.position >= greatest(s.n_prompt_tokens, 1)"
    if above is None:
        return f"SELECT s.* EXCLUDE (n_prompt_tokens) FROM ({codes}) s WHERE {own}", {}
    norms = "(f.norm_base_l2 + coalesce(f.norm_distilled_l2, 0))" if by_norms else "1"
    return (
        f"SELECT s.* EXCLUDE (n_prompt_tokens) FROM ({codes}) s JOIN features f ON f.dictionary_id = $dictionary AND"
        f" f.feature = s.feature WHERE {own} AND abs(s.code) * {norms} > $above",
        {"above": above},
    )


class DictionaryQueries:
    """Mixed into Store, which gives `frame`. Values are bound, columns and order are named."""

    def dictionaries(self: _HasFrame) -> pd.DataFrame:
        """One row a dictionary: what it is, and how well it does on the study's CoTs; NULL where that is not measured
        yet.

        `n_judged` tokens without prompts; `l0` features that fire on a token, mean; `dead_share` features that fire on
        none of them. Losses are nats a token; `loss_recovered_…` is 1 where splicing the reconstruction in costs
        nothing and 0 where it costs as much as zeroing the residual stream, `loss_recovered_from_mean_…` the same
        against its mean. `n_base_only`, … count features by class.
        """
        return self.frame(
            "WITH fired AS (SELECT dictionary_id, sum(frequency) AS l0, avg((frequency = 0)::INT) AS dead_share,"
            " count(*) FILTER (class = 'base only') AS n_base_only, count(*) FILTER (class = 'shared') AS n_shared,"
            " count(*) FILTER (class = 'distilled only') AS n_distilled_only, count(*) FILTER (class = 'suspect') AS"
            " n_suspect FROM features GROUP BY dictionary_id), losses AS (SELECT dictionary_id, model_id, sum(loss *"
            " n_tokens) / sum(n_tokens) AS loss, sum(loss_spliced * n_tokens) / sum(n_tokens) AS loss_spliced,"
            " sum(loss_zeroed * n_tokens) / sum(n_tokens) AS loss_zeroed, sum(loss_averaged * n_tokens) /"
            " sum(n_tokens) AS loss_averaged FROM spliced_losses GROUP BY dictionary_id, model_id) SELECT"
            " d.dictionary_id, d.kind, d.base_model_id, m_base.name AS base, d.distilled_model_id, m_distilled.name AS"
            " distilled, d.layer, d.n_features, d.d_model, d.k, d.scale, d.source, d.training_id, d.n_tokens,"
            f" d.sha256, d.parameters, f_base.n_tokens AS n_judged, fired.* EXCLUDE (dictionary_id), {_wide('base')},"
            f" {_wide('distilled')} FROM dictionaries d LEFT JOIN fired USING (dictionary_id)"
            f" {_beside('base')}{_beside('distilled')}ORDER BY d.layer, d.dictionary_id"
        )

    def dictionary_trainings(self: _HasFrame) -> pd.DataFrame:
        """One row a training of a dictionary, newest first, also one that is still going on: then `dictionary_id` is
        NULL. `n_steps` done; its metrics are those of `training_metrics`.
        """
        return self.frame(
            "SELECT t.training_id, d.dictionary_id, t.kind, t.started_at, t.seconds, t.seed, t.parameters, t.n_tokens,"
            ' t.n_weights, t.versions, t."commit", (SELECT max(step) FROM training_metrics WHERE training_id ='
            " t.training_id) AS n_steps FROM training_runs t LEFT JOIN dictionaries d USING (training_id) WHERE"
            " t.model_id IS NULL ORDER BY t.started_at DESC, t.training_id"
        )

    def dictionary_training_curve(self: _HasFrame, training_id: str, n_points: int = 400) -> pd.DataFrame:
        """Its metrics as means over runs of steps, at most about `n_points` for each: `step` and `tokens` at the end of
        each run, `value` the mean of the `n_steps` known values in it, NULL where none is known.
        """
        return self.frame(
            "WITH width AS (SELECT greatest(1, ceil(max(step) / $points))::BIGINT AS steps FROM training_metrics WHERE"
            " training_id = $training) SELECT metric, max(step) AS step, max(tokens) AS tokens, avg(value) AS value,"
            " count(value) AS n_steps FROM training_metrics, width WHERE training_id = $training GROUP BY metric, (step"
            " - 1) // width.steps ORDER BY metric, step",
            training=training_id,
            points=n_points,
        )

    def spliced_losses(self: _HasFrame, dictionary_id: str) -> pd.DataFrame:
        """One row a model and CoT that takes part: next-token losses in nats a token, and the problem that the CoT is
        about.
        """
        return self.frame(
            "SELECT s.model_id, s.cot_id, c.problem_id, s.n_tokens, s.loss, s.loss_spliced, s.loss_zeroed,"
            " s.loss_averaged FROM spliced_losses s JOIN cots c USING (cot_id) WHERE s.dictionary_id = $dictionary"
            " ORDER BY s.model_id, s.cot_id",
            dictionary=dictionary_id,
        )

    def features(self: _HasFrame, dictionary_id: str) -> pd.DataFrame:
        """One row a feature."""
        return self.frame(
            "SELECT f.feature, f.norm_base_l1, f.norm_distilled_l1, f.norm_base_l2, f.norm_distilled_l2, f.rdn_l1,"
            f" f.rdn_l2, f.nrn_l1, f.nrn_l2, {_NRN_RMS}, f.decoder_cosine, f.nu_eps, f.nu_r, f.class, f.frequency,"
            " f.mean_activation, f.max_activation, f.top_category, f.top_category_lift FROM features f"
            f" {_OF_NRN_RMS} WHERE f.dictionary_id = $dictionary ORDER BY f.feature",
            dictionary=dictionary_id,
        )

    def null_dictionaries(self: _HasFrame, dictionary_id: str) -> pd.DataFrame:
        """One row a null that was trained beside the dictionary."""
        return self.frame(
            'SELECT null_id, "null", number, seed, n_features, n_tokens, n_judged, variance_explained_base,'
            " variance_explained_distilled, l0, dead_share, parameters FROM null_dictionaries WHERE dictionary_id ="
            ' $dictionary ORDER BY "null", number',
            dictionary=dictionary_id,
        )

    def null_features(self: _HasFrame, dictionary_id: str) -> pd.DataFrame:
        """One row a feature of each of them; `nrn_rms` is the NRN of L2, as their models' widths are equal."""
        return self.frame(
            'SELECT n.null_id, n."null", n.number, f.feature, f.nrn_l1, f.nrn_l2, f.nrn_l2 AS nrn_rms, f.nu_eps,'
            " f.nu_r, f.class, f.frequency, f.top_category, f.top_category_lift, f.peak_share FROM null_features f JOIN"
            ' null_dictionaries n USING (null_id) WHERE n.dictionary_id = $dictionary ORDER BY n."null", n.number,'
            " f.feature",
            dictionary=dictionary_id,
        )

    def planted_directions(self: _HasFrame, dictionary_id: str) -> pd.DataFrame:
        """One row a direction that was planted, with the feature that is nearest to it."""
        return self.frame(
            "SELECT p.direction, p.strength, p.share, p.feature, p.cosine, f.nrn_l1, f.nrn_l2, f.nrn_l2"
            " AS nrn_rms, f.nu_eps, f.nu_r, f.class, f.frequency FROM planted_directions p JOIN null_dictionaries n"
            " USING (null_id) LEFT JOIN null_features f ON f.null_id = p.null_id AND f.feature = p.feature WHERE"
            " n.dictionary_id = $dictionary ORDER BY p.strength, p.direction",
            dictionary=dictionary_id,
        )

    def reasoning_categories(self: _HasFrame, dictionary_id: str) -> pd.DataFrame:
        """One row a feature that fires on the first tokens of target words (`reasoning`) or on the tokens that predict
        them (`before_reasoning`) more often than elsewhere: the category with the largest lift, and the lift, its
        frequency there over its frequency on all tokens. NULL where there is none on which it fires at least 5 times
        with a lift above 1.
        """
        return self.frame(
            "WITH lifts AS (SELECT c.feature, c.scheme, c.category, c.frequency / f.frequency AS lift FROM"
            " feature_categories c JOIN features f USING (dictionary_id, feature) WHERE c.dictionary_id = $dictionary"
            f" AND c.n_fired >= 5) SELECT feature, {_BEST} FROM lifts WHERE lift > 1 AND scheme <> 'function' GROUP BY"
            " feature ORDER BY feature",
            dictionary=dictionary_id,
        )

    def null_reasoning(self: _HasFrame, dictionary_id: str) -> pd.DataFrame:
        """One row a feature that fires of each of its nulls whose evidence is there, but the planted one: its NRN, and
        its reasoning categories by the rule of `reasoning_categories`.
        """
        return self.frame(
            "WITH there AS (SELECT DISTINCT null_id FROM null_categories), lifts AS (SELECT c.null_id, c.feature,"
            " c.scheme, c.category, c.n_fired / c.n_tokens / f.frequency AS lift FROM null_categories c JOIN"
            " null_features f USING (null_id, feature) WHERE c.n_fired >= 5), best AS (SELECT null_id, feature,"
            f' {_BEST} FROM lifts WHERE lift > 1 GROUP BY null_id, feature) SELECT n.null_id, n."null", n.number,'
            " f.feature, f.nrn_l1, f.nrn_l2, f.nrn_l2 AS nrn_rms, b.* EXCLUDE (null_id, feature) FROM null_features f"
            " JOIN there USING (null_id) JOIN null_dictionaries n USING (null_id) LEFT JOIN best b ON b.null_id ="
            " f.null_id AND b.feature = f.feature WHERE n.dictionary_id = $dictionary AND f.frequency > 0 ORDER BY"
            ' n."null", n.number, f.feature',
            dictionary=dictionary_id,
        )

    def null_peaks(self: _HasFrame, dictionary_id: str) -> pd.DataFrame:
        """One row a feature of its frozen decoder that fires: columns as of `peak_tokens`, and what function tag it
        fires on most.
        """
        return self.frame(
            "SELECT p.feature, p.tokens, p.counts, p.n_examples, p.promoted, f.frequency, f.top_category,"
            " f.top_category_lift FROM null_peaks p JOIN null_features f USING (null_id, feature) JOIN"
            " null_dictionaries n USING (null_id) WHERE n.dictionary_id = $dictionary ORDER BY p.feature",
            dictionary=dictionary_id,
        )

    # One feature

    def feature_examples(self: _HasFrame, dictionary_id: str, feature: int) -> pd.DataFrame:
        """The tokens on which it fires most, strongest first, each with its window: `window_tokens` are texts,
        `window_values` codes, the first of both at `window_start`. `written_by` is the writer's name.
        """
        return self.frame(
            "SELECT e.rank, e.cot_id, c.problem_id, m.name AS written_by, e.chunk_id, k.chunk_index, e.position,"
            " e.activation, e.contribution_base, e.contribution_distilled, e.window_start, list_slice(s.tokens,"
            " e.window_start + 1, e.window_start + len(e.window_values)) AS window_tokens, e.window_values FROM"
            " feature_examples e JOIN cot_codes s USING (dictionary_id, cot_id) JOIN cots c ON c.cot_id = e.cot_id JOIN"
            " models m ON m.model_id = c.model_id LEFT JOIN chunks k ON k.chunk_id = e.chunk_id WHERE e.dictionary_id ="
            " $dictionary AND e.feature = $feature ORDER BY e.rank",
            dictionary=dictionary_id,
            feature=int(feature),  # DuckDB binds no NumPy integers
        )

    def first_examples(self: _HasFrame, dictionary_id: str, features: list[int], n: int) -> pd.DataFrame:
        """The `n` tokens on which each of the features fires most, with their windows, as `feature_examples` has
        them.
        """
        return self.frame(
            "SELECT e.feature, e.rank, e.position, e.activation, e.window_start, list_slice(s.tokens, e.window_start +"
            " 1, e.window_start + len(e.window_values)) AS window_tokens, e.window_values FROM feature_examples e JOIN"
            " cot_codes s USING (dictionary_id, cot_id) WHERE e.dictionary_id = $dictionary AND"
            " list_contains($features::BIGINT[], e.feature) AND e.rank < $n ORDER BY e.feature, e.rank",
            dictionary=dictionary_id,
            features=[int(feature) for feature in features],
            n=n,
        )

    def peak_tokens(self: _HasFrame, dictionary_id: str, model_id: str, n: int = 5) -> pd.DataFrame:
        """One row a feature that fires: `tokens` and `counts`, the texts of the tokens on which it fires most, the
        commonest first, at most `n`, of `n_examples`; `promoted`, the `n` that its row of the model promotes most, or
        NULL.
        """
        return self.frame(
            "WITH texts AS (SELECT cot_id, unnest(tokens) AS token, generate_subscripts(tokens, 1) - 1 AS position FROM"
            " cot_codes WHERE dictionary_id = $dictionary), counted AS (SELECT e.feature, t.token, count(*) AS n FROM"
            " feature_examples e JOIN texts t ON t.cot_id = e.cot_id AND t.position = e.position WHERE e.dictionary_id"
            " = $dictionary GROUP BY ALL), ordered AS (SELECT *, row_number() OVER (PARTITION BY feature ORDER BY n"
            " DESC, token) AS place FROM counted), promoted AS (SELECT feature, list(token ORDER BY rank) AS promoted"
            " FROM feature_logits WHERE dictionary_id = $dictionary AND model_id = $model AND side = 'top' AND rank <"
            " $n GROUP BY feature) SELECT o.feature, list(o.token ORDER BY place) FILTER (place <= $n) AS tokens,"
            " list(o.n ORDER BY place) FILTER (place <= $n) AS counts, sum(o.n)::BIGINT AS n_examples,"
            " any_value(p.promoted) AS promoted FROM ordered o LEFT JOIN promoted p USING (feature) GROUP BY o.feature"
            " ORDER BY o.feature",
            dictionary=dictionary_id,
            model=model_id,
            n=n,
        )

    def feature_logits(self: _HasFrame, dictionary_id: str, feature: int) -> pd.DataFrame:
        """Tokens that it promotes (`side` top) and suppresses (bottom) in each model, strongest first."""
        return self.frame(
            "SELECT model_id, side, rank, token_id, token, effect FROM feature_logits "
            "WHERE dictionary_id = $dictionary AND feature = $feature ORDER BY model_id, side DESC, rank",
            dictionary=dictionary_id,
            feature=int(feature),  # DuckDB binds no NumPy integers
        )

    def promoted_tokens(self: _HasFrame, dictionary_id: str, features: list[int], n: int = 4) -> pd.DataFrame:
        """One row a feature and model: `tokens`, the texts of the `n` that it promotes most, strongest first."""
        return self.frame(
            "SELECT model_id, feature, list(token ORDER BY rank) AS tokens FROM feature_logits WHERE dictionary_id ="
            " $dictionary AND side = 'top' AND rank < $n AND list_contains($features::BIGINT[], feature) GROUP BY"
            " model_id, feature ORDER BY model_id, feature",
            dictionary=dictionary_id,
            features=[int(feature) for feature in features],
            n=n,
        )

    def feature_neighbours(self: _HasFrame, dictionary_id: str, feature: int) -> pd.DataFrame:
        """Features with the nearest decoder rows in each model, with what the neighbours are themselves."""
        return self.frame(
            "SELECT n.model_id, n.rank, n.neighbour, n.cosine, f.nrn_l1, f.nrn_l2, f.class, f.frequency, f.top_category"
            " FROM feature_neighbours n LEFT JOIN features f ON f.dictionary_id = n.dictionary_id AND f.feature ="
            " n.neighbour WHERE n.dictionary_id = $dictionary AND n.feature = $feature ORDER BY n.model_id, n.rank",
            dictionary=dictionary_id,
            feature=int(feature),  # DuckDB binds no NumPy integers
        )

    def feature_histogram(self: _HasFrame, dictionary_id: str, feature: int) -> pd.DataFrame:
        """At most one row: bins of its codes when it fires."""
        return self.frame(
            "SELECT edges, counts FROM feature_histograms WHERE dictionary_id = $dictionary AND feature = $feature",
            dictionary=dictionary_id,
            feature=int(feature),  # DuckDB binds no NumPy integers
        )

    def feature_categories(self: _HasFrame, dictionary_id: str, feature: int) -> pd.DataFrame:
        """How often it fires on the tokens of each category, by scheme, most often first; none for a feature that never
        fires.
        """
        return self.frame(
            "SELECT scheme, category, n_tokens, n_fired, frequency, mean_activation FROM feature_categories "
            "WHERE dictionary_id = $dictionary AND feature = $feature ORDER BY scheme, frequency DESC, category",
            dictionary=dictionary_id,
            feature=int(feature),  # DuckDB binds no NumPy integers
        )

    def category_frequencies(self: _HasFrame, dictionary_id: str, scheme: str) -> pd.DataFrame:
        """Every feature that fires at all on each category of one scheme, with its NRN. `scheme`: function, reasoning
        (the target words' own tokens) or before_reasoning (the tokens that predict those).
        """
        return self.frame(
            "SELECT c.feature, c.category, c.n_tokens, c.n_fired, c.frequency, c.mean_activation, f.nrn_l1, f.nrn_l2,"
            f" {_NRN_RMS}, f.class FROM feature_categories c JOIN features f ON f.dictionary_id = c.dictionary_id AND"
            f" f.feature = c.feature {_OF_NRN_RMS} WHERE c.dictionary_id = $dictionary AND c.scheme = $scheme ORDER BY"
            " c.category, c.feature",
            dictionary=dictionary_id,
            scheme=scheme,
        )

    def feature_ablations(self: _HasFrame, dictionary_id: str) -> pd.DataFrame:
        """What zeroing features does to target words, with the `role` (base, distilled) of the model; columns as the
        table's. `ranked` says of what features k % were taken: firing, those that fire on the category at all, or all;
        `n_ranked` is their number, `n_there` that of the category's target tokens in the study.
        """
        columns = ", ".join(f"a.{name}" for name in TABLES["feature_ablations"].arrow.names if name != "dictionary_id")
        every = " UNION ALL BY NAME ".join(
            f"SELECT *, '{ranked}' AS ranked FROM {table}"
            for ranked, table in (("firing", "firing_ablations"), ("all", "feature_ablations"))
        )
        return self.frame(
            f"WITH a AS ({every}), there AS (SELECT dictionary_id, category, scheme, max(n_tokens) AS n_there, count(*)"
            " FILTER (n_fired > 0) AS n_firing FROM feature_categories GROUP BY ALL) SELECT"
            " CASE a.model_id WHEN d.base_model_id THEN 'base' ELSE 'distilled' END AS role, a.ranked, CASE a.ranked"
            f" WHEN 'all' THEN d.n_features ELSE t.n_firing END AS n_ranked, t.n_there, {columns} FROM a JOIN"
            " dictionaries d USING (dictionary_id) LEFT JOIN there t USING (dictionary_id, category, scheme) WHERE"
            " a.dictionary_id = $dictionary ORDER BY a.ranked, a.category, role, a.scheme, a.nrn_above, a.top_percent,"
            " a.control, a.measure",
            dictionary=dictionary_id,
        )

    def twin_ablations(self: _HasFrame, dictionary_id: str) -> pd.DataFrame:
        """What zeroing matched features of its frozen decoder does, with the `role` of the model; columns as the
        table's.
        """
        return self.frame(
            "SELECT CASE a.model_id WHEN d.base_model_id THEN 'base' ELSE 'distilled' END AS role, a.* EXCLUDE"
            " (dictionary_id) FROM twin_ablations a JOIN dictionaries d USING (dictionary_id) WHERE a.dictionary_id ="
            " $dictionary ORDER BY a.ranked, a.category, role, a.scheme, a.nrn_above, a.top_percent, a.measure",
            dictionary=dictionary_id,
        )

    # One chain of thought

    def codes_of_cot(
        self: _HasFrame, dictionary_id: str, cot_id: str, above: float | None = None, by_norms: bool = True
    ) -> pd.DataFrame:
        """One row a code of what fires, prompt included, in reading order. In a dictionary whose codes are never 0 that
        is where |code|, times its decoder norms where it is `by_norms`, exceeds `above`; left out: every code that is
        stored.
        """
        codes = (
            "SELECT unnest(positions) AS position, unnest(features) AS feature, unnest(codes) AS code FROM cot_codes"
            " WHERE dictionary_id = $dictionary AND cot_id = $cot"
        )
        if above is None:
            return self.frame(f"{codes} ORDER BY position, feature", dictionary=dictionary_id, cot=cot_id)
        norms = "(f.norm_base_l2 + coalesce(f.norm_distilled_l2, 0))" if by_norms else "1"
        return self.frame(
            f"WITH c AS ({codes}) SELECT c.position, c.feature, c.code FROM c JOIN features f ON f.dictionary_id ="
            f" $dictionary AND f.feature = c.feature WHERE abs(c.code) * {norms} > $above ORDER BY c.position,"
            " c.feature",
            dictionary=dictionary_id,
            cot=cot_id,
            above=above,
        )

    def code_sizes(
        self: _HasFrame, dictionary_id: str, above: float | None = None, by_norms: bool = True
    ) -> pd.DataFrame:
        """One row a CoT and feature that fires in it, its prompt left out: `total` size of its codes, and on how many
        tokens it fires (`n_fired`). `above` and `by_norms` as in `codes_of_cot`.
        """
        fired, bound = _fired(above, by_norms)
        return self.frame(
            f"WITH s AS ({fired}) SELECT cot_id, feature, sum(abs(code)) AS total, count(*) AS n_fired FROM s GROUP BY"
            " cot_id, feature ORDER BY cot_id, feature",
            dictionary=dictionary_id,
            **bound,
        )

    def coded_tokens(self: _HasFrame, dictionary_id: str) -> pd.DataFrame:
        """One row a CoT with codes: its problem, and `n_tokens` of its own that have them."""
        return self.frame(
            "SELECT s.cot_id, c.problem_id, len(s.tokens) - greatest(c.n_prompt_tokens, 1) AS n_tokens FROM cot_codes s"
            " JOIN cots c USING (cot_id) WHERE s.dictionary_id = $dictionary ORDER BY c.problem_id, s.cot_id",
            dictionary=dictionary_id,
        )

    def fired_together(
        self: _HasFrame,
        dictionary_id: str,
        features: tuple[int, ...],
        above: float | None = None,
        by_norms: bool = True,
    ) -> pd.DataFrame:
        """One row a CoT and pair of these features, the smaller first: on how many tokens both fire (`n_both`), its
        prompt left out; of a feature with itself, on how many it fires. Pairs that never do have no row. `above` and
        `by_norms` as in `codes_of_cot`.
        """
        fired, bound = _fired(above, by_norms)
        return self.frame(
            f"WITH s AS ({fired}), own AS (SELECT cot_id, position, feature FROM s WHERE"
            " list_contains($features::BIGINT[], feature)) SELECT a.cot_id, a.feature, b.feature AS other, count(*) AS"
            " n_both FROM own a JOIN own b USING (cot_id, position) WHERE a.feature <= b.feature GROUP BY a.cot_id,"
            " a.feature, b.feature ORDER BY a.cot_id, a.feature, b.feature",
            dictionary=dictionary_id,
            features=[int(feature) for feature in features],
            **bound,
        )

    def places_together(
        self: _HasFrame,
        dictionary_id: str,
        features: tuple[int, ...],
        n: int = 10,
        above: float | None = None,
        by_norms: bool = True,
    ) -> pd.DataFrame:
        """The `n` tokens on which most of these features fire, two at least, with the features and their codes in one
        order, and the text around the token: `window_tokens`, the first at `window_start`.

        Of as many features the best place of each CoT comes before second ones, and then that where the weakest of
        them, its size over the largest of its own in the study (`least`), is strongest.
        """
        fired, bound = _fired(above, by_norms)
        return self.frame(
            f"WITH s AS ({fired}), own AS (SELECT cot_id, position, feature, code, abs(code) / max(abs(code)) OVER"
            " (PARTITION BY feature) AS share FROM s WHERE list_contains($features::BIGINT[], feature)), places AS"
            " (SELECT cot_id, position, count(*) AS n_features, min(share) AS least, list(feature ORDER BY feature) AS"
            " features, list(code ORDER BY feature) AS codes FROM own GROUP BY cot_id, position HAVING count(*) > 1),"
            " ranked AS (SELECT *, row_number() OVER (PARTITION BY cot_id, n_features ORDER BY least DESC, position) AS"
            " turn FROM places), best AS (SELECT * FROM ranked ORDER BY n_features DESC, turn, least DESC, cot_id LIMIT"
            " $n) SELECT b.cot_id, c.problem_id, m.name AS written_by, k.chunk_id, k.chunk_index, b.position,"
            " b.n_features, b.least, b.features, b.codes, greatest(b.position - 8, 0) AS window_start,"
            " list_slice(t.tokens, greatest(b.position - 8, 0) + 1, b.position + 6) AS window_tokens FROM best b JOIN"
            " cot_codes t ON t.dictionary_id = $dictionary AND t.cot_id = b.cot_id JOIN cots c ON c.cot_id = b.cot_id"
            " JOIN models m ON m.model_id = c.model_id LEFT JOIN chunks k ON k.cot_id = b.cot_id AND b.position >="
            " k.token_start AND b.position < k.token_end ORDER BY b.n_features DESC, b.turn, b.least DESC, b.cot_id",
            dictionary=dictionary_id,
            features=[int(feature) for feature in features],
            n=n,
            **bound,
        )

    def tokens_of_cot(self: _HasFrame, dictionary_id: str, cot_id: str) -> pd.DataFrame:
        """Every token of prompt + CoT with its text, in reading order; `chunk_id` is NULL in the prompt."""
        return self.frame(
            "WITH texts AS (SELECT unnest(tokens) AS token, generate_subscripts(tokens, 1) - 1 AS position FROM"
            " cot_codes WHERE dictionary_id = $dictionary AND cot_id = $cot) SELECT t.position, t.token, k.chunk_id,"
            " k.chunk_index FROM texts t LEFT JOIN chunks k ON k.cot_id = $cot AND t.position >= k.token_start AND"
            " t.position < k.token_end ORDER BY t.position",
            dictionary=dictionary_id,
            cot=cot_id,
        )
