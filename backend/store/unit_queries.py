"""What the stages of precompute ask of a store: whole inputs in a fixed order, as plain records."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa

from backend.schema.tables import CAPPED, TABLES
from backend.store.answered import ANSWERED, SAMPLED

# The reference set that a model's directions rest on.
_IN_USE = """
    SELECT chunk_id, steered, convention FROM reference_chunks JOIN references_in_use u USING (reference_id)
    WHERE u.model_id = $m
"""

# Ways to ask which chunk acts on which (see `influence_by_way`), by the names of table `influence_agreement`.
WAYS = ("suppression", "attention", "resampling", "published", "published_suppression")


class _HasFrame(Protocol):
    def frame(self, sql: str, **values: Any) -> pd.DataFrame: ...

    def arrow(self, sql: str, **values: Any) -> pa.Table: ...


class UnitQueries:
    """Mixed into Store, which gives `frame`."""

    def study_problems(self: _HasFrame) -> list[dict[str, Any]]:
        """Every problem, easiest first."""
        return _records(
            self.frame(
                "SELECT problem_id, level, question, answer FROM problems ORDER BY level, source, source_key,"
                " problem_id"
            )
        )

    def tokenised_cots(self: _HasFrame) -> list[dict[str, Any]]:
        """Every CoT whose tokens are known, by id; `role` is that of the model which wrote it."""
        return _records(
            self.frame(
                "SELECT cot_id, problem_id, model_id, name AS model_name, prompt, text, after_text, think_close,"
                " token_ids, n_prompt_tokens, answer, seed FROM cots JOIN models USING (model_id) WHERE token_ids IS"
                " NOT NULL ORDER BY cot_id"
            )
        )

    def cot_texts(self: _HasFrame) -> list[tuple[str, str, bool]]:
        """(id, text, whether it was sampled here and not imported) of every CoT, by id."""
        frame = self.frame("SELECT cot_id, text, seed IS NOT NULL AS ours FROM cots ORDER BY cot_id")
        return list(frame.itertuples(index=False, name=None))

    def cots_worth_rollouts(
        self: _HasFrame, min_chunks: int, max_chunks: int, most: Mapping[str, int] | None = None
    ) -> list[str]:
        """Ids of our CoTs with so many chunks, best first: those that ended by themselves, then those of candidate
        problems (the nearer the accuracy to a half the sooner), then turn by turn over problems, so that a budget is
        not spent on one problem. A candidate is one of a model under a prompt; models and prompts take turns, so that
        the budget is not spent on one of them. `most` says by model id how many, where it is not all of them.
        """
        frame = self.frame(
            "WITH sized AS (SELECT cot_id, count(*) AS n_chunks FROM chunks GROUP BY cot_id), eligible AS (SELECT"
            " cot_id, row_number() OVER (PARTITION BY problem_id, model_id, prompt_name ORDER BY sample) AS turn,"
            " candidate, abs(accuracy - 0.5) AS distance, model_id, prompt_name, finish FROM cots JOIN sized USING"
            " (cot_id) LEFT JOIN problem_accuracy USING (problem_id, model_id, prompt_name) WHERE cots.seed IS NOT NULL"
            " AND n_chunks BETWEEN $low AND $high) SELECT cot_id, model_id FROM eligible ORDER BY row_number() OVER"
            " (PARTITION BY model_id, prompt_name ORDER BY finish = 'eos' DESC, coalesce(candidate, false) DESC, turn,"
            " coalesce(distance, 1), cot_id), model_id, prompt_name",
            low=min_chunks,
            high=max_chunks,
        )
        turn, limit = frame.groupby("model_id").cumcount(), frame["model_id"].map(most or {})
        return frame.loc[~(turn >= limit), "cot_id"].tolist()

    def imported_cots(self: _HasFrame) -> list[dict[str, Any]]:
        """Imported CoTs, all columns of the table and the writer's name, by id."""
        return _records(
            self.frame(
                "SELECT cots.*, name AS model_name FROM cots JOIN models USING (model_id) WHERE seed IS NULL ORDER BY"
                " cot_id"
            )
        )

    def chunks_of(self: _HasFrame, cot_ids: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
        """Chunks in reading order, by CoT."""
        frame = self.frame(
            "SELECT cot_id, chunk_id, chunk_index, char_start, char_end, text, token_start, token_end FROM chunks "
            "WHERE list_contains($ids, cot_id) ORDER BY cot_id, chunk_index",
            ids=list(cot_ids),
        )
        return {str(cot): _records(rows) for cot, rows in frame.groupby("cot_id", sort=True)}

    def answers_by_rollout(self: _HasFrame) -> list[dict[str, Any]]:
        """Which rollouts of ours each CoT has, and what counts as their answers: enough to know whether its importance
        is up to date.
        """
        return _records(
            self.frame(
                "SELECT r.cot_id, r.kind, count(*) AS n, "
                "md5(string_agg(rollout_id || coalesce(r.answer, '') || coalesce('+' || n_kept, ''), ',' ORDER BY "
                "rollout_id)) AS digest "
                f"FROM {ANSWERED} r WHERE r.seed IS NOT NULL "
                "GROUP BY r.cot_id, r.kind ORDER BY r.cot_id, r.kind"
            )
        )

    def answers_by_problem(self: _HasFrame) -> dict[str, str]:
        """By CoT, a digest of `answers_of_problem`."""
        found = self.frame(
            "WITH given AS (SELECT DISTINCT problem_id, r.answer FROM rollouts r JOIN cots USING (cot_id) WHERE r.seed"
            " IS NOT NULL AND r.answer IS NOT NULL) SELECT cot_id, md5(coalesce(string_agg(length(answer) || ':' ||"
            " answer, ',' ORDER BY answer), '')) AS digest FROM (SELECT cot_id, problem_id FROM cots) LEFT JOIN given"
            " USING (problem_id) GROUP BY cot_id"
        )
        return dict(zip(found["cot_id"], found["digest"], strict=True))

    def answers_of_problem(self: _HasFrame, problem_id: str) -> list[str]:
        """The distinct answers that rollouts of ours of the problem's CoTs gave, in alphabetical order: those forced at
        the cap, or of rollouts drawn later, are left out, so that the other CoTs stay as they are when some come in.
        """
        return self.frame(
            "SELECT DISTINCT r.answer FROM rollouts r JOIN cots c ON c.cot_id = r.cot_id WHERE c.problem_id = $problem"
            " AND r.seed IS NOT NULL AND r.answer IS NOT NULL ORDER BY r.answer",
            problem=problem_id,
        )["answer"].tolist()

    def rollout_texts(self: _HasFrame) -> pd.DataFrame:
        """Every rollout that has a text, by id, with the character of its CoT from before which it goes on."""
        return self.frame(
            "SELECT rollout_id, r.cot_id, char_start, r.text, r.kind, r.n_tokens FROM rollouts r JOIN chunks USING"
            " (chunk_id) WHERE r.text != '' ORDER BY rollout_id"
        )

    def digest_of_rollouts(self: _HasFrame) -> str:
        """Of all their texts."""
        found = self.frame(
            "SELECT coalesce(md5(string_agg(rollout_id || coalesce(text, ''), ',' ORDER BY rollout_id)), '') AS digest"
            " FROM rollouts"
        )
        return str(found["digest"].iloc[0])

    def rollouts_of(self: _HasFrame, cot_id: str) -> pd.DataFrame:
        """The rollouts of one CoT, by id, without their texts; `given_answer` and `given_is_correct` leave out what was
        forced at the cap, `added_id` is known of those that were drawn later.
        """
        return self.frame(
            "SELECT rollout_id, chunk_id, kind, sample, n_kept, departing_chunk, departing_similarity, resampled_chunk,"
            " similarity, answer, is_correct, answer_source, given_answer, given_is_correct, added_id"
            f" FROM {ANSWERED} WHERE cot_id = $cot ORDER BY rollout_id",
            cot=cot_id,
        )

    def texts_by_rollout(self: _HasFrame) -> list[dict[str, Any]]:
        """Which resampled rollouts of ours each CoT has and what they say, of the CoTs whose answers are clustered."""
        return _records(
            self.frame(
                "SELECT r.cot_id, count(*) AS n, md5(string_agg(rollout_id || coalesce(cluster, '') || coalesce(r.text,"
                f" ''), ',' ORDER BY rollout_id)) AS digest FROM {ANSWERED} r LEFT JOIN answer_clusters a ON a.cot_id ="
                " r.cot_id AND a.answer = r.answer WHERE r.seed IS NOT NULL AND r.kind = 'resample' GROUP BY r.cot_id"
                " HAVING count(*) FILTER (trim(r.answer) != '' AND cluster IS NULL) = 0 ORDER BY r.cot_id"
            )
        )

    def resampled(self: _HasFrame, cot_id: str) -> pd.DataFrame:
        """The resampled rollouts of one CoT, by id, with their texts; `answer_cluster` is the answer that theirs counts
        as.
        """
        return self.frame(
            "SELECT rollout_id, chunk_id, kind, sample, r.text, resampled_chunk, similarity, r.answer, cluster AS"
            " answer_cluster, is_correct, finish, n_kept, departing_chunk, departing_similarity"
            f" FROM {ANSWERED} r LEFT JOIN answer_clusters a ON a.cot_id = r.cot_id"
            " AND a.answer = r.answer WHERE r.cot_id = $cot AND kind = 'resample' ORDER BY rollout_id",
            cot=cot_id,
        )

    def resampled_texts(self: _HasFrame) -> list[dict[str, Any]]:
        """How many resampled rollouts with a text each CoT has, and a digest of what they say."""
        return _records(
            self.frame(
                "SELECT cot_id, count(*) AS n, md5(string_agg(rollout_id || text || coalesce(similarity::VARCHAR, ''),"
                f" ',' ORDER BY rollout_id)) AS digest FROM {SAMPLED} WHERE kind = 'resample' AND text IS NOT NULL"
                " GROUP BY cot_id ORDER BY cot_id"
            )
        )

    def head_attention_digests(self: _HasFrame) -> dict[str, str]:
        """By model, of all attention between chunks that is stored head by head."""
        frame = self.frame(
            "SELECT model_id, md5(string_agg(source_chunk_id || target_chunk_id || hash(by_head), ',' ORDER BY"
            " source_chunk_id, target_chunk_id)) AS digest FROM head_attention GROUP BY model_id ORDER BY model_id"
        )
        return dict(zip(frame["model_id"], frame["digest"], strict=True))

    def head_attention_of(self: _HasFrame, model_id: str) -> dict[str, list[dict[str, Any]]]:
        """By CoT, its pairs of chunks in reading order: numbers of both, tokens of both, the problem, and `by_head`."""
        frame = self.frame(
            "SELECT s.cot_id, c.problem_id, s.chunk_index AS source, t.chunk_index AS target, a.n_source, a.n_target,"
            " h.by_head FROM head_attention h JOIN chunk_attention a USING (source_chunk_id, target_chunk_id, model_id)"
            " JOIN chunks s ON s.chunk_id = h.source_chunk_id JOIN chunks t ON t.chunk_id = h.target_chunk_id JOIN cots"
            " c ON c.cot_id = s.cot_id WHERE h.model_id = $m ORDER BY s.cot_id, s.chunk_index, t.chunk_index",
            m=model_id,
        )
        return {str(cot): rows.to_dict("records") for cot, rows in frame.groupby("cot_id", sort=True)}

    def influence_readers(self: _HasFrame) -> list[str]:
        """Ids of the models that read chunks for what one does to another."""
        frame = self.frame(
            "SELECT model_id FROM influences UNION SELECT model_id FROM chunk_attention ORDER BY model_id"
        )
        return frame["model_id"].tolist()

    def influence_by_way(self: _HasFrame, model_id: str | None) -> pd.DataFrame:
        """Every pair of chunks that a way to influence knows something of, in reading order: CoT, problem, who wrote
        it, distance in chunks, and a column a way, NULL where it is unknown. Without a model, of the ways that need
        none.
        """
        return self.frame(
            "WITH pairs AS (SELECT source_chunk_id, target_chunk_id, 'suppression' AS way, kl AS value FROM influences"
            " WHERE model_id = $m AND suppressed = 'all' UNION ALL SELECT source_chunk_id, target_chunk_id,"
            " 'attention', attention FROM chunk_attention WHERE model_id = $m UNION ALL SELECT source_chunk_id,"
            " target_chunk_id, 'resampling', effect FROM resampled_influences WHERE convention = 'embedding' UNION ALL"
            " SELECT source_chunk_id, target_chunk_id, convention, value FROM step_importance) SELECT s.cot_id,"
            " c.problem_id, c.model_id AS writer_id, t.chunk_index - s.chunk_index AS distance,"
            + ", ".join(f" max(value) FILTER (way = '{way}') AS {way}" for way in WAYS)
            + " FROM pairs JOIN chunks s ON s.chunk_id = source_chunk_id JOIN chunks t ON t.chunk_id = target_chunk_id"
            " JOIN cots c ON c.cot_id = s.cot_id GROUP BY s.cot_id, c.problem_id, c.model_id, s.chunk_index,"
            " t.chunk_index ORDER BY s.cot_id, s.chunk_index, t.chunk_index",
            m=model_id,
        )

    def capped_by_cot(self: _HasFrame) -> list[dict[str, Any]]:
        """CoTs with rollouts that the token cap cut before they gave an answer: who wrote them, how many, and a digest
        of what they say.
        """
        return _records(
            self.frame(
                "SELECT r.cot_id, c.model_id, count(*) AS n, md5(string_agg(rollout_id || coalesce(r.text, ''), ','"
                f" ORDER BY rollout_id)) AS digest FROM (SELECT * FROM {SAMPLED} WHERE {CAPPED}) r JOIN cots c USING"
                " (cot_id) JOIN problems p USING (problem_id) WHERE c.token_ids IS NOT NULL AND r.text IS NOT NULL AND"
                " r.n_tokens IS NOT NULL GROUP BY r.cot_id, c.model_id ORDER BY r.cot_id"
            )
        )

    def capped_rollouts(self: _HasFrame, cot_ids: Sequence[str]) -> list[dict[str, Any]]:
        """Those CoTs, by id, with `rollouts`: each one that was cut, and where its chunk begins."""
        cots = _records(
            self.frame(
                "SELECT cot_id, model_id, prompt, c.text, think_close, p.answer AS truth FROM cots c JOIN problems p"
                " USING (problem_id) WHERE list_contains($ids, cot_id) ORDER BY cot_id",
                ids=list(cot_ids),
            )
        )
        rollouts = self.frame(
            "SELECT r.cot_id, r.rollout_id, r.chunk_id, r.seed, r.text, r.n_tokens, k.char_start, k.token_start FROM"
            f" (SELECT * FROM {SAMPLED} WHERE {CAPPED}) r JOIN chunks k USING (chunk_id) WHERE r.text IS NOT NULL AND"
            " r.n_tokens IS NOT NULL AND list_contains($ids, r.cot_id) ORDER BY r.rollout_id",
            ids=list(cot_ids),
        )
        own = {str(cot): _records(rows) for cot, rows in rollouts.groupby("cot_id", sort=True)}
        return [cot | {"rollouts": own.get(cot["cot_id"], [])} for cot in cots]

    def curves_of(self: _HasFrame, model_id: str, chunk_ids: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
        """Rows of `kl_curves` and `steepness` of these chunks by the model, all columns, by table."""
        return {
            table: self.arrow(
                f"SELECT * FROM {table} WHERE model_id = $m AND list_contains($ids, chunk_id) ORDER BY curve_id",
                m=model_id,
                ids=list(chunk_ids),
            ).to_pylist()
            for table in ("kl_curves", "steepness")
        }

    def activation_layers(self: _HasFrame, model_id: str) -> list[int]:
        """Layers for which the model has chunk activations, lowest first."""
        return self.frame("SELECT DISTINCT layer FROM activations WHERE model_id = $m ORDER BY layer", m=model_id)[
            "layer"
        ].tolist()

    def activation_digest(self: _HasFrame, model_id: str) -> str:
        """Changes whenever the set of chunks with activations changes."""
        return str(
            self.frame(
                "SELECT md5(string_agg(chunk_id || ':' || layer, ',' ORDER BY chunk_id, layer)) AS d FROM activations"
                " WHERE model_id = $m",
                m=model_id,
            )["d"].iloc[0]
        )

    def reference_digest(self: _HasFrame, model_id: str) -> str:
        """`activation_digest` of the model's reference set alone; of all chunks where it has none."""
        return str(
            self.frame(
                "SELECT md5(string_agg(chunk_id || ':' || layer, ',' ORDER BY chunk_id, layer)) AS d FROM activations"
                f" WHERE model_id = $m AND (NOT EXISTS ({_IN_USE}) OR chunk_id IN (SELECT chunk_id FROM ({_IN_USE})))",
                m=model_id,
            )["d"].iloc[0]
        )

    def reference_chunks(self: _HasFrame, model_id: str) -> dict[str, bool]:
        """Ids of the chunks of the set that the model's directions rest on, with whether each is steered; none where
        there is no set.
        """
        frame = self.frame(f"{_IN_USE} ORDER BY chunk_id", m=model_id)
        return dict(zip(frame["chunk_id"], frame["steered"].tolist(), strict=True))

    def reference_convention(self: _HasFrame, model_id: str) -> str | None:
        """The convention of importance by which that set's anchors are chosen."""
        found = self.frame(f"SELECT any_value(convention) AS c FROM ({_IN_USE})", m=model_id)["c"].iloc[0]
        return None if pd.isna(found) else str(found)

    def frozen_sets(self: _HasFrame) -> list[dict[str, Any]]:
        """Every reference set, the largest first: its id, model, name, and whether all of its chunks have
        activations now.
        """
        return _records(
            self.frame(
                "SELECT reference_id, r.model_id, any_value(name) AS name, bool_and(a.chunk_id IS NOT NULL) AS whole"
                " FROM reference_chunks r LEFT JOIN (SELECT DISTINCT model_id, chunk_id FROM activations) a"
                " USING (model_id, chunk_id) GROUP BY reference_id, r.model_id ORDER BY count(*) DESC, reference_id"
            )
        )

    def frozen_rows(self: _HasFrame, reference_id: str) -> list[dict[str, Any]]:
        """The rows of one reference set."""
        return _records(
            self.frame("SELECT * FROM reference_chunks WHERE reference_id = $r ORDER BY chunk_id", r=reference_id)
        )

    def chunks_with_activations(self: _HasFrame, model_id: str) -> list[str]:
        return self.frame(
            "SELECT DISTINCT chunk_id FROM activations WHERE model_id = $m ORDER BY chunk_id", m=model_id
        )["chunk_id"].tolist()

    def activations(self: _HasFrame, model_id: str, layer: int) -> tuple[list[str], np.ndarray]:
        """Chunk ids in order and their activations, (n_chunks, d_model) float32."""
        frame = self.frame(
            "SELECT chunk_id, vector FROM activations WHERE model_id = $m AND layer = $l ORDER BY chunk_id",
            m=model_id,
            l=layer,
        )
        return frame["chunk_id"].tolist(), (
            np.stack(frame["vector"].to_list()) if len(frame) else np.empty((0, 0), np.float32)
        )

    def directions_at(self: _HasFrame, model_id: str, layer: int) -> tuple[pd.DataFrame, np.ndarray]:
        """direction_id, kind, chunk_id, seed and number of the chunk (from 1), in the order of their ids, and the unit
        vectors (n_directions, d_model).
        """
        frame = self.frame(
            "SELECT d.direction_id, d.kind, d.chunk_id, d.seed, k.chunk_index + 1 AS number, d.vector FROM directions d"
            " LEFT JOIN chunks k USING (chunk_id) WHERE d.model_id = $m AND d.layer = $l ORDER BY d.direction_id",
            m=model_id,
            l=layer,
        )
        vectors = np.stack(frame["vector"].to_list()) if len(frame) else np.empty((0, 0), np.float32)
        return frame.drop(columns="vector"), vectors

    def chunk_ids(self: _HasFrame) -> list[tuple[str, str]]:
        """Every chunk and its CoT, by id."""
        frame = self.frame("SELECT chunk_id, cot_id FROM chunks ORDER BY chunk_id")
        return list(zip(frame["chunk_id"], frame["cot_id"], strict=True))

    def rollout_rows(self: _HasFrame, cot_id: str) -> list[dict[str, Any]]:
        """The CoT's rows of rollouts, whole, by id."""
        return _records(self.frame("SELECT * FROM rollouts WHERE cot_id = $c ORDER BY rollout_id", c=cot_id))

    def dissimilar_counts(self: _HasFrame, threshold: float) -> dict[str, int]:
        """By chunk, its resampled rollouts whose first chunk has a similarity below the threshold to it."""
        frame = self.frame(
            "SELECT chunk_id, count(*) AS n FROM rollouts WHERE kind = 'resample' AND similarity < $threshold GROUP BY"
            " chunk_id ORDER BY chunk_id",
            threshold=threshold,
        )
        return dict(zip(frame["chunk_id"], frame["n"].tolist(), strict=True))

    def dissimilar_rollouts(
        self: _HasFrame, cot_ids: Sequence[str], threshold: float
    ) -> dict[str, list[dict[str, Any]]]:
        """Those rollouts with what they wrote, by CoT, in the order of their ids."""
        frame = self.frame(
            "SELECT cot_id, chunk_id, rollout_id, text, resampled_chunk FROM rollouts WHERE kind = 'resample' AND"
            " similarity < $threshold AND list_contains($ids, cot_id) ORDER BY cot_id, rollout_id",
            threshold=threshold,
            ids=list(cot_ids),
        )
        return {str(cot): _records(rows) for cot, rows in frame.groupby("cot_id", sort=True)}

    def first_tags(self: _HasFrame, source: str) -> dict[str, str]:
        """The category that gives each chunk its colour, of the chunks that `source` tagged."""
        frame = self.frame(
            "SELECT chunk_id, category FROM categories WHERE source = $source AND rank = 0 ORDER BY chunk_id",
            source=source,
        )
        return dict(zip(frame["chunk_id"], frame["category"], strict=True))

    def cots_with_importance(self: _HasFrame) -> list[str]:
        """Ids of the CoTs of which at least one importance is known."""
        return self.frame(
            "SELECT DISTINCT cot_id FROM importance JOIN chunks USING (chunk_id) WHERE value IS NOT NULL ORDER BY"
            " cot_id"
        )["cot_id"].tolist()

    def dictionary_ids(self: _HasFrame) -> list[str]:
        """Ids of the study's dictionaries, in order."""
        return self.frame("SELECT dictionary_id FROM dictionaries ORDER BY dictionary_id")["dictionary_id"].tolist()

    def coded_cots(self: _HasFrame, dictionary_id: str) -> list[str]:
        """Ids of the CoTs that have codes, in order."""
        return self.frame("SELECT cot_id FROM cot_codes WHERE dictionary_id = $d ORDER BY cot_id", d=dictionary_id)[
            "cot_id"
        ].tolist()

    def codes(self: _HasFrame, dictionary_id: str, cot_id: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Positions (int64), features (int64) and values (float32) of the CoT's codes that are not 0, rising by
        position.
        """
        row = self.frame(
            "SELECT positions, features, codes FROM cot_codes WHERE dictionary_id = $dictionary AND cot_id = $cot",
            dictionary=dictionary_id,
            cot=cot_id,
        ).iloc[0]
        return (
            np.asarray(row["positions"], np.int64),
            np.asarray(row["features"], np.int64),
            np.asarray(row["codes"], np.float32),
        )

    def token_texts(self: _HasFrame, dictionary_id: str, cot_id: str) -> list[str]:
        """The text of each token of prompt + CoT."""
        return self.frame(
            "SELECT tokens FROM cot_codes WHERE dictionary_id = $dictionary AND cot_id = $cot",
            dictionary=dictionary_id,
            cot=cot_id,
        )["tokens"][0].tolist()

    def fitted_means(self: _HasFrame, dictionary_id: str) -> dict[str, np.ndarray]:
        """Mean residual stream of the judged tokens, (d_model,) float32, by model."""
        frame = self.frame(
            "SELECT model_id, mean FROM dictionary_fits WHERE dictionary_id = $d ORDER BY model_id", d=dictionary_id
        )
        return {row.model_id: np.asarray(row.mean, np.float32) for row in frame.itertuples()}

    def metric_by_chunk(self: _HasFrame, metric: str, conventions: Sequence[str]) -> dict[str, float | None]:
        """One metric for every chunk that has a row of it, under the first of the conventions it has; None where it is
        unknown.
        """
        frame = self.frame(
            "SELECT chunk_id, value FROM importance WHERE metric = $metric AND list_contains($conventions, convention)"
            " QUALIFY row_number() OVER (PARTITION BY chunk_id ORDER BY list_position($conventions, convention)) = 1"
            " ORDER BY chunk_id",
            metric=metric,
            conventions=list(conventions),
        )
        return {row.chunk_id: None if pd.isna(row.value) else float(row.value) for row in frame.itertuples()}

    def given_metric_by_chunk(self: _HasFrame, metric: str, convention: str) -> dict[str, float | None]:
        """`metric_by_chunk` of one convention, without answers forced at the cap and rollouts drawn later: as it was
        before there were any.
        """
        frame = self.frame(
            "SELECT i.chunk_id, CASE WHEN g.chunk_id IS NULL THEN i.value ELSE g.value END AS value FROM importance"
            " i LEFT JOIN importance_given g USING (chunk_id, metric, convention) WHERE i.metric = $metric AND"
            " i.convention = $convention ORDER BY i.chunk_id",
            metric=metric,
            convention=convention,
        )
        return {row.chunk_id: None if pd.isna(row.value) else float(row.value) for row in frame.itertuples()}

    def model_facts(self: _HasFrame, model_id: str) -> dict[str, Any]:
        """The model's row, or {} before its first CoT."""
        return next(iter(_records(self.frame("SELECT * FROM models WHERE model_id = $m", m=model_id))), {})

    def mean_lengths(self: _HasFrame) -> tuple[float | None, float | None]:
        """Mean tokens of a CoT and of a chunk; None before there are any."""
        row = self.frame(
            "SELECT (SELECT avg(n_tokens) FROM cots) AS cot, (SELECT avg(token_end - token_start) FROM chunks) AS chunk"
        ).iloc[0]
        return (None if pd.isna(row["cot"]) else float(row["cot"])), (
            None if pd.isna(row["chunk"]) else float(row["chunk"])
        )

    def mean_prompt_tokens(self: _HasFrame) -> float | None:
        """Mean tokens before the first chunk of a CoT; None before there are chunks."""
        found = self.frame("SELECT avg(token_start) AS prompt FROM chunks WHERE chunk_index = 0")["prompt"][0]
        return None if pd.isna(found) else float(found)

    def whole_table(self: _HasFrame, table: str) -> pa.Table:
        """Every row of one of the schema's tables, in key order, with the schema's column types."""
        definition = TABLES[table]
        columns = ", ".join(f'"{name}"' for name in definition.columns)
        order = ", ".join(f'"{name}"' for name in definition.key)
        return self.arrow(f'SELECT {columns} FROM "{table}" ORDER BY {order}').cast(definition.arrow)

    def chunks_to_tag(self: _HasFrame) -> list[dict[str, Any]]:
        """Every chunk of our own CoTs, in reading order, with the question of its CoT."""
        return _records(
            self.frame(
                "SELECT cot_id, chunk_id, chunks.text, question FROM chunks JOIN cots USING (cot_id) JOIN problems"
                " USING (problem_id) WHERE seed IS NOT NULL ORDER BY cot_id, chunk_index"
            )
        )


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as dicts of Python values; unknown is None."""
    plain = frame.astype(object).where(frame.notna(), None)
    return [{str(name): _python(value) for name, value in row.items()} for row in plain.to_dict("records")]


def _python(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    return value.tolist() if isinstance(value, np.ndarray) else value
