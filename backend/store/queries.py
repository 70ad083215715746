"""Every question the pages ask of a store, each a method named after its answer."""

from typing import Any, Protocol

import numpy as np
import pandas as pd

from backend.schema.tables import CONVENTIONS, TABLES
from backend.store.answered import ANSWERED, FORCED_AT_CAP
from backend.store.decided import DECIDED, Q


class _HasFrame(Protocol):
    def frame(self, sql: str, **values: Any) -> pd.DataFrame: ...


# Of rollouts `r`, outer-joined or not.
_ANSWER_COUNTS = (
    "count(r.rollout_id) AS n, count(r.rollout_id) FILTER (r.answer IS NULL) AS n_without_answer, count(r.rollout_id)"
    f" FILTER (r.answer_source = '{FORCED_AT_CAP}') AS n_forced, count(r.rollout_id) FILTER (r.added_id IS NOT NULL) AS"
    " n_added"
)


class Queries:
    """Mixed into Store, which gives `frame`. Values are bound, columns and order are named."""

    # The study as a whole

    def counts(self: _HasFrame) -> pd.DataFrame:
        """One row: how many rows each main table has, and how many rollouts were made to answer at once."""
        tables = ("problems", "cots", "chunks", "rollouts", "importance", "activations", "projections", "kl_curves")
        counted = ", ".join(f"(SELECT count(*) FROM {name}) AS {name}" for name in tables)
        forced = "(SELECT count(*) FROM rollouts WHERE kind = 'forced') AS forced_rollouts"
        return self.frame(f"SELECT {counted}, {forced}")

    def coverage(self: _HasFrame) -> pd.DataFrame:
        """One row: CoTs, those with rollouts, chunks, and those whose tokens a model has."""
        return self.frame(
            "SELECT (SELECT count(*) FROM cots) AS cots, (SELECT count(DISTINCT cot_id) FROM rollouts) AS"
            " cots_resampled, (SELECT count(*) FROM chunks) AS chunks, (SELECT count(*) FROM chunks WHERE token_start"
            " IS NOT NULL) AS chunks_with_tokens"
        )

    def progress(self: _HasFrame) -> pd.DataFrame:
        """One row a stage that every study runs, in the order of their tables: how many things it is for (`wanted`),
        and for how many of them it is `done`.
        """
        counted = [filled for table in TABLES.values() for filled in table.filled if filled.of]
        return self.frame(
            " UNION ALL ".join(
                f"SELECT {n} AS n, '{one.stage}' AS stage, ({one.of})::BIGINT AS wanted, ({one.done})::BIGINT AS done"
                for n, one in enumerate(counted)
            )
            + " ORDER BY n"
        ).drop(columns="n")

    def models(self: _HasFrame) -> pd.DataFrame:
        """One row a model, with how many CoTs it wrote; a distilled model after its base."""
        return self.frame(
            "SELECT m.model_id, m.name, m.role, m.revision, m.dtype, m.family, m.n_layers, m.d_model, count(c.cot_id)"
            " AS n_cots FROM models m LEFT JOIN cots c USING (model_id) GROUP BY ALL ORDER BY any_value(m.role) ="
            " 'distilled', m.name, m.model_id"
        )

    def runs(self: _HasFrame) -> pd.DataFrame:
        """One row a command that wrote to the study, newest first."""
        return self.frame(
            'SELECT run_id, started_at, command, study, seed, "commit", versions, parameters, warnings FROM runs '
            "ORDER BY started_at DESC, run_id"
        )

    def accuracy_by_level(self: _HasFrame) -> pd.DataFrame:
        """One row a model, prompt and level: CoTs judged, of them correct, problems and candidates; and of its chains
        of our own (n_chains) those without an answer and those whose answer was forced.

        The unknown level comes last.
        """
        return self.frame(
            "WITH given AS (SELECT problem_id, model_id, prompt_name, count(*) AS n_chains, count(*) FILTER (answer IS"
            " NULL) AS n_without_answer, count(*) FILTER (answer_source = 'forced') AS n_forced FROM cots WHERE seed IS"
            " NOT NULL GROUP BY ALL) SELECT a.model_id, m.name AS model, a.prompt_name, p.level, sum(a.n)::BIGINT AS n,"
            " sum(a.n_correct)::BIGINT AS n_correct, count(*) AS n_problems, count(*) FILTER (a.candidate) AS"
            " n_candidates, coalesce(sum(g.n_chains), 0)::BIGINT AS n_chains, coalesce(sum(g.n_without_answer),"
            " 0)::BIGINT AS n_without_answer, coalesce(sum(g.n_forced), 0)::BIGINT AS n_forced FROM problem_accuracy a"
            " JOIN problems p USING (problem_id) JOIN models m USING (model_id) LEFT JOIN given g USING (problem_id,"
            " model_id, prompt_name) GROUP BY a.model_id, m.name, m.role, a.prompt_name, p.level ORDER BY m.role ="
            " 'distilled', m.name, a.model_id, a.prompt_name, p.level NULLS LAST"
        )

    def base_accuracy(self: _HasFrame, cot_id: str) -> pd.DataFrame:
        """At most one row: the accuracy of the CoT's problem over all its CoTs by that model under that prompt, with
        its interval, the CoTs judged (n), and of all of them (n_chains) those without an answer and those whose answer
        was forced; 0 CoTs where they were imported.
        """
        return self.frame(
            "SELECT a.accuracy, a.ci_low, a.ci_high, a.n, a.n_correct, count(o.cot_id) AS n_chains, count(o.cot_id)"
            " FILTER (o.answer IS NULL) AS n_without_answer, count(o.cot_id) FILTER (o.answer_source = 'forced') AS"
            " n_forced FROM cots c JOIN problem_accuracy a USING (problem_id, model_id, prompt_name) LEFT JOIN cots o"
            " ON o.problem_id = c.problem_id AND o.model_id = c.model_id AND o.prompt_name = c.prompt_name AND o.seed"
            " IS NOT NULL WHERE c.cot_id = $cot GROUP BY a.accuracy, a.ci_low, a.ci_high, a.n, a.n_correct",
            cot=cot_id,
        )

    def rollout_answers(self: _HasFrame) -> pd.DataFrame:
        """One row a model that wrote resampled rollouts: how many, without an answer, forced at the cap, cut at the
        cap, of these without an answer of their own, drawn later at one chunk.
        """
        return self.frame(
            f"SELECT m.model_id, m.name AS model, {_ANSWER_COUNTS}, count(*) FILTER (r.finish = 'cap') AS n_capped,"
            " count(*) FILTER (r.finish = 'cap' AND r.given_answer IS NULL) AS n_capped_without FROM"
            f" {ANSWERED} r JOIN cots c USING (cot_id) JOIN models m USING (model_id) WHERE r.kind = 'resample' GROUP"
            " BY m.model_id, m.name, m.role ORDER BY m.role = 'distilled', m.name, m.model_id"
        )

    def answers_in_cot(self: _HasFrame, cot_id: str) -> pd.DataFrame:
        """One row a chunk, in reading order: its resampled rollouts, those without an answer, forced at the cap, drawn
        later; 0 where it has none.
        """
        return self.frame(
            f"SELECT k.chunk_id, {_ANSWER_COUNTS} FROM chunks k LEFT JOIN {ANSWERED} r ON r.chunk_id = k.chunk_id AND"
            " r.kind = 'resample' WHERE k.cot_id = $cot GROUP BY k.chunk_id, k.chunk_index ORDER BY k.chunk_index",
            cot=cot_id,
        )

    def tokens_by_chunk(self: _HasFrame, cot_id: str | None = None) -> pd.DataFrame:
        """One row a chunk with rollouts of which it is known whether they reach a later one: how many, their tokens,
        and how many do. Of one CoT, or of all.
        """
        return self.frame(
            "SELECT chunk_id, count(*) AS n, sum(n_tokens) AS tokens, count(*) FILTER (n_kept > 0) AS n_reaching"
            " FROM rollouts WHERE n_kept IS NOT NULL AND ($cot IS NULL OR cot_id = $cot) GROUP BY chunk_id"
            " ORDER BY chunk_id",
            cot=cot_id,
        )

    def verdicts(self: _HasFrame) -> pd.DataFrame:
        """One row a CoT of our own: its model and prompt, whether it has an answer, whether that was forced, its
        verdict (NULL: none), the tokens of the CoT, how it ended, and whether it is a thought between think tags.

        Imported ones are left out: which of them were published may depend on their outcome. A distilled model comes
        after its base.
        """
        return self.frame(
            "SELECT c.problem_id, c.model_id, m.name AS model, c.prompt_name, c.sample, c.answer IS NOT NULL AS"
            " answered, coalesce(c.answer_source = 'forced', false) AS forced, c.is_correct, c.n_tokens, c.finish,"
            " c.think_close IS NOT NULL AS thinks FROM cots c JOIN models m"
            " USING (model_id) WHERE c.seed IS NOT NULL ORDER BY m.role = 'distilled', m.name, c.model_id,"
            " c.prompt_name, c.problem_id, c.sample"
        )

    def n_asked(self: _HasFrame) -> int:
        """Pairs of a model and a prompt with CoTs of our own."""
        asked = self.frame("SELECT count(DISTINCT (model_id, prompt_name)) AS n FROM cots WHERE seed IS NOT NULL")
        return int(asked["n"][0])

    def prompts(self: _HasFrame) -> pd.DataFrame:
        """One row a prompt and model that was asked under it; none in a study of before there were prompts."""
        return self.frame(
            "SELECT p.prompt_name, p.model_id, m.name AS model, p.text, p.system, p.worked, p.manner, p.settings,"
            " p.wording FROM prompts p JOIN models m USING (model_id) ORDER BY p.prompt_name, m.role = 'distilled',"
            " m.name, p.model_id"
        )

    def training_runs(self: _HasFrame) -> pd.DataFrame:
        """One row a training of one of the study's models, oldest first; `n_steps` is its last step.

        `model` is NULL until it is known.
        """
        return self.frame(
            "SELECT t.training_id, m.name AS model, t.kind, t.base, t.started_at, t.seconds, t.seed, t.parameters,"
            ' t.n_tokens, t.n_weights, t.versions, t."commit", (SELECT max(step) FROM training_metrics WHERE'
            " training_id = t.training_id) AS n_steps FROM training_runs t LEFT JOIN models m USING (model_id) WHERE"
            " t.model_id IS NOT NULL ORDER BY t.started_at, t.training_id"
        )

    def training_metrics(self: _HasFrame, training_id: str) -> pd.DataFrame:
        """Every metric of the training, step by step; value NULL where unknown."""
        return self.frame(
            "SELECT metric, step, tokens, value FROM training_metrics WHERE training_id = $training ORDER BY metric,"
            " step",
            training=training_id,
        )

    # Choosing a chain of thought

    def problem_index(self: _HasFrame) -> pd.DataFrame:
        """One row a problem with at least one CoT: level, question, accuracy over the CoTs of all models, candidate for
        any of them.
        """
        return self.frame(
            "SELECT p.problem_id, p.source, p.source_key, p.level, p.question, p.answer, sum(a.n)::BIGINT AS n, "
            "sum(a.n_correct)::BIGINT AS n_correct, coalesce(bool_or(a.candidate), false) AS candidate "
            "FROM problems p LEFT JOIN problem_accuracy a USING (problem_id) "
            "WHERE p.problem_id IN (SELECT problem_id FROM cots) "
            "GROUP BY p.problem_id, p.source, p.source_key, p.level, p.question, p.answer "
            "ORDER BY p.level NULLS LAST, p.source, length(p.source_key), p.source_key, p.problem_id"
        )

    def cot_index(self: _HasFrame) -> pd.DataFrame:
        """One row a CoT, without its text."""
        return self.frame(
            "SELECT c.cot_id, c.problem_id, c.model_id, m.name AS model, c.prompt_name, c.sample, c.n_tokens, c.answer,"
            " c.answer_source, c.is_correct, c.finish, count(k.chunk_id) AS n_chunks, c.cot_id IN (SELECT cot_id FROM"
            " rollouts) AS has_rollouts FROM cots c JOIN models m USING (model_id) LEFT JOIN chunks k USING (cot_id)"
            " GROUP BY ALL ORDER BY c.problem_id, m.name, c.prompt_name, c.sample, c.cot_id"
        )

    def most_important_chunk(self: _HasFrame, cot_id: str | None = None, problem_id: str | None = None) -> pd.DataFrame:
        """At most one row: the chunk of largest counterfactual importance, of the CoT or problem where one is named,
        with the `q` of the study's chunks (`decided`).

        A chunk with a known interval comes first, then `jsd` before the published conventions; of `jsd` those whose q
        is small enough, of the others those with at least 5 rollouts: of fewer, the largest value is chance. Where no
        importance is known it is the first chunk of the first CoT, with metric NULL.
        """
        return self.frame(
            "SELECT k.chunk_id, k.cot_id, c.problem_id, i.metric, i.convention, i.value, i.q, i.n_tested FROM chunks k"
            f" JOIN cots c USING (cot_id) LEFT JOIN {DECIDED} i ON i.chunk_id = k.chunk_id AND i.metric IN"
            " ('counterfactual_importance_jsd', 'counterfactual_importance_kl') AND i.value IS NOT NULL WHERE ($cot IS"
            " NULL OR k.cot_id = $cot) AND ($problem IS NULL OR c.problem_id = $problem) ORDER BY i.value IS NULL,"
            " i.ci_low IS NULL, list_position($conventions, i.convention),"
            " coalesce(i.q > $q, coalesce(i.n, 0) < 5), i.value DESC, k.cot_id, k.chunk_index LIMIT 1",
            cot=cot_id,
            problem=problem_id,
            q=Q,
            conventions=list(CONVENTIONS),
        )

    def chunk_place(self: _HasFrame, chunk_id: str) -> pd.DataFrame:
        """At most one row: where the chunk is."""
        return self.frame(
            "SELECT k.chunk_id, k.cot_id, c.problem_id, k.chunk_index FROM chunks k JOIN cots c USING (cot_id) WHERE"
            " k.chunk_id = $chunk",
            chunk=chunk_id,
        )

    def tag_sources(self: _HasFrame) -> list[str]:
        """Who tagged the chunks, the source of most tags first."""
        return self.frame("SELECT source FROM categories GROUP BY source ORDER BY count(*) DESC, source")[
            "source"
        ].tolist()

    def importance_choices(self: _HasFrame) -> pd.DataFrame:
        """One row a metric and convention that is stored: rows, of them known."""
        return self.frame(
            "SELECT metric, convention, count(*) AS n_chunks, count(value) AS n_known FROM importance "
            "GROUP BY metric, convention ORDER BY metric, convention"
        )

    # One chain of thought

    def cot(self: _HasFrame, cot_id: str) -> pd.DataFrame:
        """At most one row: the CoT with its problem and model."""
        return self.frame(
            "SELECT c.cot_id, c.problem_id, c.model_id, c.prompt_name, c.sample, c.seed, c.text, c.after_text,"
            " c.n_prompt_tokens, c.n_tokens, c.finish, c.answer, c.answer_source, c.is_correct, c.grader, m.name AS"
            " model, p.source, p.source_key, p.level, p.question, p.answer AS ground_truth FROM cots c JOIN problems p"
            " USING (problem_id) JOIN models m USING (model_id) WHERE c.cot_id = $cot",
            cot=cot_id,
        )

    def cot_to_read(self: _HasFrame, cot_id: str) -> pd.DataFrame:
        """At most one row: what a model needs to read the CoT again, and its problem's ground truth.

        Tokens are NULL where unknown.
        """
        return self.frame(
            "SELECT c.cot_id, c.model_id, m.name AS written_by, c.prompt, c.text, c.token_ids, c.n_prompt_tokens,"
            " p.question, p.answer AS ground_truth FROM cots c JOIN problems p USING (problem_id) JOIN models m USING"
            " (model_id) WHERE c.cot_id = $cot",
            cot=cot_id,
        )

    def chunk_spans(self: _HasFrame, cot_id: str) -> pd.DataFrame:
        """Character and token spans of the CoT's chunks, in reading order. Token spans are NULL where unknown."""
        return self.frame(
            "SELECT chunk_id, chunk_index, char_start, char_end, token_start, token_end FROM chunks WHERE cot_id = $cot"
            " ORDER BY chunk_index",
            cot=cot_id,
        )

    def tagged_chunks(self: _HasFrame, cot_id: str, source: str) -> pd.DataFrame:
        """The CoT's chunks in reading order; `categories` are the tags of `source`, first the one that gives the colour
        (empty: none).
        """
        return self.frame(
            "SELECT k.chunk_id, k.chunk_index, k.text, k.token_start, k.token_end, coalesce(list(t.category ORDER BY"
            " t.rank) FILTER (t.category IS NOT NULL), []) AS categories, first(t.score ORDER BY t.rank) AS score FROM"
            " chunks k LEFT JOIN categories t ON t.chunk_id = k.chunk_id AND t.source = $source WHERE k.cot_id = $cot"
            " GROUP BY k.chunk_id, k.chunk_index, k.text, k.token_start, k.token_end ORDER BY k.chunk_index",
            cot=cot_id,
            source=source,
        )

    def importance_in_cot(self: _HasFrame, cot_id: str, metric: str, convention: str) -> pd.DataFrame:
        """One metric for the CoT's chunks, in reading order, with the q of the study's chunks (`decided`); a chunk
        without a row of it has value NULL.
        """
        return self.frame(
            "SELECT k.chunk_id, i.value, i.ci_low, i.ci_high, i.n, i.n_comparator, i.p, i.q, i.n_tested FROM chunks k"
            f" LEFT JOIN {DECIDED} i ON i.chunk_id = k.chunk_id AND i.metric = $metric AND i.convention = $convention"
            " WHERE k.cot_id = $cot ORDER BY k.chunk_index",
            cot=cot_id,
            metric=metric,
            convention=convention,
        )

    # One chunk

    def chunk_card(self: _HasFrame, chunk_id: str, source: str) -> pd.DataFrame:
        """One row: the chunk's text, number and first tag by `source` (NULL: none)."""
        return self.frame(
            "SELECT k.chunk_id, k.chunk_index, k.text, t.category FROM chunks k LEFT JOIN categories t ON t.chunk_id ="
            " k.chunk_id AND t.source = $source AND t.rank = 0 WHERE k.chunk_id = $chunk",
            chunk=chunk_id,
            source=source,
        )

    def importance_of_chunk(self: _HasFrame, chunk_id: str) -> pd.DataFrame:
        """Every stored metric and convention of the chunk, with the q of the study's chunks (`decided`); `is_last` says
        whether another chunk follows.
        """
        return self.frame(
            "SELECT i.metric, i.convention, i.value, i.ci_low, i.ci_high, i.p, i.q, i.n_tested, i.n, i.n_comparator,"
            " i.written, i.reason, k.chunk_index = (SELECT max(chunk_index) FROM chunks WHERE cot_id = k.cot_id) AS"
            f" is_last FROM {DECIDED} i JOIN chunks k USING (chunk_id) WHERE i.chunk_id = $chunk ORDER BY i.metric,"
            " i.convention",
            chunk=chunk_id,
        )

    def rollouts_at(self: _HasFrame, chunk_id: str) -> pd.DataFrame:
        """Rollouts that start before the chunk, nearest first; `cluster` is the answer they count as."""
        return self.frame(
            "SELECT r.rollout_id, r.kind, r.sample, r.text, r.resampled_chunk, r.similarity, r.answer, "
            "coalesce(a.cluster, r.answer) AS cluster, r.is_correct, r.finish, r.n_tokens, r.answer_source, "
            "r.forced_text, r.added_id, r.n_kept, r.departing_chunk, r.departing_similarity "
            f"FROM {ANSWERED} r LEFT JOIN answer_clusters a ON a.cot_id = r.cot_id AND a.answer = r.answer "
            "WHERE r.chunk_id = $chunk ORDER BY r.kind DESC, r.similarity DESC NULLS LAST, r.sample",
            chunk=chunk_id,
        )

    def n_outcomes(self: _HasFrame, cot_id: str) -> int:
        """How many answers the rollouts of all CoTs of its problem gave; two that are one answer in a CoT are one."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        alike = self.frame(
            "SELECT DISTINCT a.answer, a.cluster FROM answer_clusters a JOIN cots USING (cot_id) WHERE problem_id ="
            " (SELECT problem_id FROM cots WHERE cot_id = $cot) ORDER BY a.answer, a.cluster",
            cot=cot_id,
        )
        if alike.empty:
            return 0
        codes, names = pd.factorize(pd.concat([alike["answer"], alike["cluster"]]))
        ties = coo_array((np.ones(len(alike)), np.split(codes, 2)), shape=(len(names), len(names)))
        return int(connected_components(ties, directed=False)[0])

    def added_at(self: _HasFrame, chunk_id: str) -> pd.DataFrame:
        """Drawings that added rollouts before this chunk, for its own metric or for that of the chunk before, the
        newest first: how many they drew here (n_here), in all, and their looks.
        """
        return self.frame(
            "SELECT a.added_id, a.created_at, a.chunk_id, a.metric, a.convention, a.half_width, a.stopped, a.n,"
            " a.looks, a.seed, m.name AS model, count(*) AS n_here FROM added a JOIN added_rollouts r USING (added_id)"
            " LEFT JOIN models m USING (model_id) WHERE r.chunk_id = $chunk GROUP BY ALL ORDER BY a.created_at DESC,"
            " a.added_id",
            chunk=chunk_id,
        )

    def added_rollouts(self: _HasFrame, added_id: str) -> pd.DataFrame:
        """The rollouts of one drawing, by chunk and number."""
        return self.frame(
            f"SELECT r.* FROM {ANSWERED} r WHERE r.added_id = $added ORDER BY r.chunk_id, r.sample", added=added_id
        )

    def rollouts_beside(self: _HasFrame, chunk_id: str, after: bool) -> pd.DataFrame:
        """Resampled rollouts from before the chunk, or from before the next one (`after`): answer and verdict."""
        return self.frame(
            "WITH here AS (SELECT cot_id, chunk_index FROM chunks WHERE chunk_id = $chunk) SELECT r.answer,"
            f" r.is_correct FROM {ANSWERED} r JOIN chunks k USING (chunk_id) JOIN here h ON h.cot_id = k.cot_id AND"
            " k.chunk_index = h.chunk_index + $step WHERE r.kind = 'resample' ORDER BY r.sample",
            chunk=chunk_id,
            step=int(after),
        )

    def outcomes_around(self: _HasFrame, chunk_id: str, kind: str) -> pd.DataFrame:
        """Answers of the rollouts before the chunk and before the next one, counted by cluster, with how many of them
        were forced at the cap; cluster NULL: no answer was given.
        """
        return self.frame(
            "WITH here AS (SELECT cot_id, chunk_index FROM chunks WHERE chunk_id = $chunk) SELECT CASE WHEN"
            " k.chunk_index = h.chunk_index THEN 'before' ELSE 'after' END AS side, coalesce(a.cluster, r.answer) AS"
            " cluster, bool_or(r.is_correct) AS is_correct, count(*) AS n, count(*) FILTER (r.answer_source ="
            f" '{FORCED_AT_CAP}') AS n_forced FROM {ANSWERED} r JOIN chunks k USING (chunk_id) JOIN here h ON h.cot_id"
            " = k.cot_id AND k.chunk_index - h.chunk_index IN (0, 1) LEFT JOIN answer_clusters a ON a.cot_id = r.cot_id"
            " AND a.answer = r.answer WHERE r.kind = $kind GROUP BY side, coalesce(a.cluster, r.answer) ORDER BY n"
            " DESC, cluster",
            chunk=chunk_id,
            kind=kind,
        )

    def kl_curves_of(self: _HasFrame, chunk_id: str) -> pd.DataFrame:
        """Every KL(beta) curve of the chunk with its fits."""
        return self.frame(
            "SELECT c.curve_id, c.kind, c.model_id, c.layer, c.position, c.unit, c.betas, c.kl, c.noise_floor,"
            " c.n_tokens, s.steepness, s.r2, s.amplitude, s.amplitude_r2, s.n_betas, s.below_floor FROM kl_curves c"
            " LEFT JOIN steepness s USING (curve_id) WHERE c.chunk_id = $chunk ORDER BY c.model_id, c.layer,"
            " c.position, c.kind, c.curve_id",
            chunk=chunk_id,
        )

    def activation_at(self: _HasFrame, chunk_id: str, model_id: str) -> pd.DataFrame:
        """One row a layer at which the chunk's activation by this model is stored."""
        return self.frame(
            "SELECT layer, rms, n_tokens FROM activations WHERE chunk_id = $chunk AND model_id = $model ORDER BY layer",
            chunk=chunk_id,
            model=model_id,
        )

    def activations_of(self: _HasFrame, chunk_id: str) -> pd.DataFrame:
        """One row a model and layer at which the chunk's activation is stored."""
        return self.frame(
            "SELECT a.model_id, m.name AS model, a.layer FROM activations a LEFT JOIN models m USING (model_id) WHERE"
            " a.chunk_id = $chunk ORDER BY m.name, a.model_id, a.layer",
            chunk=chunk_id,
        )

    def neighbours(self: _HasFrame, chunk_id: str, model_id: str, layer: int, n: int) -> pd.DataFrame:
        """The n chunks whose activations have the largest cosine with this chunk's,
        exact over all chunks of the layer."""
        return self.frame(
            "WITH own AS (SELECT vector FROM activations WHERE chunk_id = $chunk AND model_id = $model AND layer ="
            " $layer), near AS (SELECT a.chunk_id, list_cosine_similarity(a.vector, own.vector) AS cosine FROM"
            " activations a, own WHERE a.model_id = $model AND a.layer = $layer AND a.chunk_id <> $chunk) SELECT"
            " near.chunk_id, near.cosine, k.chunk_index, k.text, k.cot_id FROM near JOIN chunks k USING (chunk_id)"
            " WHERE NOT isnan(near.cosine) ORDER BY near.cosine DESC, near.chunk_id LIMIT $n",
            chunk=chunk_id,
            model=model_id,
            layer=layer,
            n=n,
        )

    # All chunks at once

    def maps(self: _HasFrame) -> pd.DataFrame:
        """Every fitted map with its parameters."""
        return self.frame(
            "SELECT p.model_id, m.name AS model, p.layer, p.method, p.n, p.seed, p.parameters, p.trustworthiness,"
            " p.explained_variance FROM maps p LEFT JOIN models m USING (model_id) ORDER BY m.name, p.model_id,"
            " p.layer, p.method"
        )

    def map_points(self: _HasFrame, model_id: str, layer: int, method: str, source: str) -> pd.DataFrame:
        """One row a chunk on the map, in reading order within each CoT, with its first tag."""
        return self.frame(
            "SELECT p.chunk_id, k.cot_id, c.problem_id, c.is_correct, k.chunk_index, p.x, p.y, p.z, left(k.text, 160)"
            " AS text, t.category FROM projections p JOIN chunks k USING (chunk_id) JOIN cots c USING (cot_id) LEFT"
            " JOIN categories t ON t.chunk_id = p.chunk_id AND t.source = $source AND t.rank = 0 WHERE p.model_id ="
            " $model AND p.layer = $layer AND p.method = $method ORDER BY k.cot_id, k.chunk_index",
            model=model_id,
            layer=layer,
            method=method,
            source=source,
        )

    def activation_places(self: _HasFrame) -> pd.DataFrame:
        """One row a model and layer with chunk activations."""
        return self.frame(
            "SELECT a.model_id, m.name AS model, a.layer, count(*) AS n_chunks FROM activations a LEFT JOIN models m"
            " USING (model_id) GROUP BY ALL ORDER BY m.name, a.model_id, a.layer"
        )

    def streams(self: _HasFrame) -> pd.DataFrame:
        """One row a model and layer at which the study has done anything: chunks swept, dictionaries that read it,
        activations stored.
        """
        return self.frame(
            "WITH swept AS (SELECT model_id, layer, count(DISTINCT chunk_id) AS n FROM steepness GROUP BY model_id,"
            " layer), reading AS (SELECT base_model_id AS model_id, layer FROM dictionaries UNION ALL SELECT"
            " distilled_model_id, layer FROM dictionaries WHERE distilled_model_id IS NOT NULL), trained AS (SELECT"
            " model_id, layer, count(*) AS n FROM reading GROUP BY model_id, layer), stored AS (SELECT model_id, layer,"
            " count(*) AS n FROM activations GROUP BY model_id, layer), places AS (SELECT model_id, layer FROM swept"
            " UNION SELECT model_id, layer FROM trained UNION SELECT model_id, layer FROM stored UNION SELECT model_id,"
            " layer FROM maps) SELECT p.model_id, m.name AS model, m.role, m.n_layers, p.layer, coalesce(swept.n, 0) AS"
            " n_swept, coalesce(trained.n, 0) AS n_dictionaries, coalesce(stored.n, 0) AS n_stored FROM places p LEFT"
            " JOIN models m USING (model_id) LEFT JOIN swept USING (model_id, layer) LEFT JOIN trained USING (model_id,"
            " layer) LEFT JOIN stored USING (model_id, layer) ORDER BY p.model_id, p.layer"
        )

    def with_and_without(self: _HasFrame, metric: str, convention: str) -> pd.DataFrame:
        """One metric of every chunk that has a row of it, as it counts (`value`), and `without` answers forced at the
        cap and rollouts drawn later, which is the same where its CoT has none (`differs` is false).
        """
        return self.frame(
            "SELECT i.chunk_id, k.cot_id, k.chunk_index + 1 AS number, i.value, CASE WHEN g.chunk_id IS NULL THEN"
            " i.value ELSE g.value END AS without, g.chunk_id IS NOT NULL AS differs FROM importance i JOIN chunks k"
            " USING (chunk_id) LEFT JOIN importance_given g USING (chunk_id, metric, convention) WHERE i.metric ="
            " $metric AND i.convention = $convention ORDER BY k.cot_id, k.chunk_index",
            metric=metric,
            convention=convention,
        )

    def under_two_rules(self: _HasFrame) -> pd.DataFrame:
        """One row a chunk: the share of dissimilar rollouts among n by the rule `embedding` and by `numbers`, and the
        counterfactual importance (JSD) that goes with it, `without` the numbers and with them (`value`).
        """
        return self.frame(
            "PIVOT (SELECT i.chunk_id, i.value, i.n, CASE WHEN i.metric = 'different_trajectories_fraction' THEN 'a'"
            " WHEN i.metric = 'different_trajectories_fraction_numbers' THEN 'b' WHEN i.convention = 'jsd' THEN 'c'"
            " ELSE 'd' END AS what FROM importance i WHERE i.convention IN ('all', 'jsd', 'jsd_numbers') AND i.metric"
            " IN ('different_trajectories_fraction', 'different_trajectories_fraction_numbers',"
            " 'counterfactual_importance_jsd')) ON what IN ('a', 'b', 'c', 'd') USING first(value) AS value, first(n)"
            " AS n GROUP BY chunk_id ORDER BY chunk_id"
        ).rename(
            columns={
                "a_value": "share",
                "b_value": "share_numbers",
                "a_n": "n",
                "b_n": "n_numbers",
                "c_value": "without",
                "d_value": "value",
            }
        )

    def given_importance_of_chunk(self: _HasFrame, chunk_id: str) -> pd.DataFrame:
        """Every metric of the chunk, and again with `_without` answers forced at the cap and rollouts drawn later; no
        row where its CoT has none.
        """
        return self.frame(
            "SELECT i.metric, i.convention, i.value, i.ci_low, i.ci_high, i.n, i.n_comparator, g.value AS"
            " value_without, g.ci_low AS ci_low_without, g.ci_high AS ci_high_without, g.n AS n_without,"
            " g.n_comparator AS n_comparator_without FROM importance i JOIN importance_given g USING (chunk_id, metric,"
            " convention) WHERE i.chunk_id = $chunk ORDER BY i.metric, i.convention",
            chunk=chunk_id,
        )

    def importance_values(self: _HasFrame) -> pd.DataFrame:
        """Every known importance: one row a chunk, metric and convention."""
        return self.frame(
            "SELECT i.chunk_id, k.cot_id, c.problem_id, i.metric, i.convention, i.value FROM importance i JOIN chunks k"
            " USING (chunk_id) JOIN cots c USING (cot_id) WHERE i.value IS NOT NULL ORDER BY k.cot_id, k.chunk_index,"
            " i.metric, i.convention"
        )

    def local_geometry_at(self: _HasFrame, model_id: str, layer: int, position: str, unit: str) -> pd.DataFrame:
        """One row a chunk: its steepnesses that need no direction, in reading order within each CoT; NULL where
        unknown.
        """
        return self.frame(
            "SELECT g.chunk_id, k.chunk_index + 1 AS number, left(k.text, 160) AS text, g.isotropic_steepness,"
            " g.isotropic_se, g.on_manifold_steepness, g.off_manifold_steepness FROM local_geometry g JOIN"
            " chunks k USING (chunk_id) WHERE g.model_id = $model AND g.layer = $layer AND g.position = $position AND"
            " g.unit = $unit ORDER BY k.cot_id, k.chunk_index",
            model=model_id,
            layer=layer,
            position=position,
            unit=unit,
        )

    def steepness_choices(self: _HasFrame) -> pd.DataFrame:
        """One row a model, layer, direction kind, position and unit that was swept."""
        return self.frame(
            "SELECT s.model_id, m.name AS model, s.layer, s.kind, s.position, s.unit, count(DISTINCT s.chunk_id) AS"
            " n_chunks FROM steepness s LEFT JOIN models m USING (model_id) GROUP BY ALL ORDER BY m.name, s.model_id,"
            " s.layer, s.kind, s.position, s.unit"
        )
