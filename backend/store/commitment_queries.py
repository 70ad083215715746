"""What pages and the stage `commitment` ask about the answers along a chain: of rollouts, forced ones, and as models
read them.

`n_read` is the number of chunks that were read: rollouts from before chunk i, counted from 0, have read i.
"""

from typing import Any, Protocol

import pandas as pd

from backend.store.answered import ANSWERED, FORCED_AT_CAP


class _HasFrame(Protocol):
    def frame(self, sql: str, **values: Any) -> pd.DataFrame: ...


class CommitmentQueries:
    """Mixed into Store, which gives `frame`. Without a CoT's id each is of every CoT with rollouts."""

    def own_answers(self: _HasFrame, cot_id: str | None = None) -> pd.DataFrame:
        """One row a CoT: the answer that it gives, as written and as what it counts as among its rollouts (`cluster`),
        where it came from, whether it is correct, who wrote the chain, and its number of chunks.
        """
        return self.frame(
            "SELECT c.cot_id, c.problem_id, c.model_id, m.name AS model, m.role, c.answer, c.answer_source,"
            " c.is_correct, coalesce(a.cluster, c.answer) AS cluster, (SELECT count(*) FROM chunks k WHERE k.cot_id ="
            " c.cot_id) AS n_chunks FROM cots c LEFT JOIN models m USING (model_id) LEFT JOIN answer_clusters a ON"
            " a.cot_id = c.cot_id AND a.answer = c.answer WHERE CASE WHEN $cot IS NULL THEN c.cot_id IN (SELECT cot_id"
            " FROM rollouts) ELSE c.cot_id = $cot END ORDER BY c.cot_id",
            cot=cot_id,
        )

    def outcomes_along(self: _HasFrame, cot_id: str | None = None) -> pd.DataFrame:
        """Rollouts counted by CoT, chunks read, kind, answer that theirs counts as (`cluster`; NULL: none was given)
        and verdict, with how many of them were forced at the cap.
        """
        return self.frame(
            "SELECT r.cot_id, k.chunk_index AS n_read, r.kind, coalesce(a.cluster, r.answer) AS cluster, r.is_correct,"
            f" count(*) AS n, count(*) FILTER (r.answer_source = '{FORCED_AT_CAP}') AS n_forced FROM {ANSWERED} r JOIN"
            " chunks k USING (chunk_id) LEFT JOIN answer_clusters a ON a.cot_id = r.cot_id AND a.answer = r.answer"
            " WHERE $cot IS NULL OR r.cot_id = $cot GROUP BY ALL ORDER BY r.cot_id, n_read, r.kind, cluster,"
            " r.is_correct",
            cot=cot_id,
        )

    def answer_readings(self: _HasFrame, cot_id: str | None = None) -> pd.DataFrame:
        """How probable the chain's own answer, and the control's, are after each number of chunks to each model that
        reads it, by lens and layer; `is_model`: the layer is its last one.
        """
        return self.frame(
            "SELECT r.cot_id, k.chunk_index + (CASE WHEN r.side = 'after' THEN 1 ELSE 0 END) AS n_read, r.model_id,"
            " m.name AS model, m.role, r.lens, r.lens_id, r.layer, r.layer = m.n_layers - 1 AS is_model, r.answer,"
            " r.n_tokens, r.logprob, r.first_logprob, r.other_answer, r.other_n_tokens, r.other_logprob,"
            " r.other_first_logprob FROM answer_readings r JOIN chunks k USING (chunk_id) JOIN models m USING"
            " (model_id) WHERE $cot IS NULL OR r.cot_id = $cot ORDER BY r.cot_id, m.role = 'distilled', m.name,"
            " r.model_id, is_model DESC, r.lens, r.lens_id, r.layer, n_read",
            cot=cot_id,
        )

    def readings_of(self: _HasFrame) -> pd.DataFrame:
        """Which models, lenses and layers have read any chain, and how many chains."""
        return self.frame(
            "SELECT r.model_id, m.name AS model, m.role, r.lens, r.lens_id, r.layer, r.layer = m.n_layers - 1 AS"
            " is_model, count(DISTINCT r.cot_id) AS n_cots FROM answer_readings r JOIN models m USING (model_id) GROUP"
            " BY ALL ORDER BY any_value(m.role) = 'distilled', model, r.model_id, r.lens, r.lens_id, r.layer"
        )

    def other_answers(self: _HasFrame, most: int) -> dict[str, tuple[str, ...]]:
        """By CoT with rollouts, at most so many answers other than what its own counts as, the most frequent first, of
        the resampled rollouts of its problem's chains.
        """
        frame = self.frame(
            "WITH given AS (SELECT o.problem_id, coalesce(a.cluster, r.answer) AS answer, count(*) AS n FROM"
            f" {ANSWERED} r JOIN cots o USING (cot_id) LEFT JOIN answer_clusters a ON a.cot_id = r.cot_id AND"
            " a.answer = r.answer"
            " WHERE r.kind = 'resample' AND trim(r.answer) != '' GROUP BY ALL) SELECT c.cot_id, g.answer FROM cots c"
            " JOIN given g USING (problem_id) LEFT JOIN answer_clusters a ON a.cot_id = c.cot_id AND a.answer ="
            " c.answer WHERE c.cot_id IN (SELECT cot_id FROM rollouts) AND g.answer != coalesce(a.cluster, c.answer)"
            " QUALIFY row_number() OVER (PARTITION BY c.cot_id ORDER BY g.n DESC, g.answer) <= $most ORDER BY c.cot_id,"
            " g.n DESC, g.answer",
            most=most,
        )
        return {str(cot): tuple(rows["answer"]) for cot, rows in frame.groupby("cot_id", sort=True)}
