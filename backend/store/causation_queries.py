"""What pages ask about anchors and their matches when both are steered."""

from typing import Any, Protocol

import pandas as pd

from backend.store.answered import FORCED_AT_CAP


class _HasFrame(Protocol):
    def frame(self, sql: str, **values: Any) -> pd.DataFrame: ...


class CausationQueries:
    """Mixed into Store, which gives `frame`."""

    def causation_pairs(self: _HasFrame) -> pd.DataFrame:
        """Every pair, by model and falling importance of the anchor, with place and text of both chunks and the
        problems they are of.
        """
        return self.frame(
            "SELECT p.*, m.name AS model, a.chunk_index + 1 AS anchor_number, a.text AS anchor_text, b.chunk_index + 1"
            " AS match_number, b.text AS match_text, a.cot_id AS anchor_cot, b.cot_id AS match_cot, ac.problem_id AS"
            " anchor_problem, bc.problem_id AS match_problem FROM causation_pairs p LEFT JOIN models m USING (model_id)"
            " JOIN chunks a ON a.chunk_id = p.anchor_id JOIN chunks b ON b.chunk_id = p.match_id JOIN cots ac ON"
            " ac.cot_id = a.cot_id JOIN cots bc ON bc.cot_id = b.cot_id ORDER BY m.name, p.model_id,"
            " p.anchor_importance DESC, p.pair_id"
        )

    def causation_effects(self: _HasFrame, model_id: str) -> pd.DataFrame:
        """Every effect on the chunks of one model's pairs, with the problems of anchor and match."""
        return self.frame(
            "SELECT e.*, a.problem_id AS anchor_problem, b.problem_id AS match_problem FROM causation_effects e JOIN"
            " causation_pairs p USING (pair_id) JOIN chunks ka ON ka.chunk_id = p.anchor_id JOIN cots a ON a.cot_id ="
            " ka.cot_id JOIN chunks kb ON kb.chunk_id = p.match_id JOIN cots b ON b.cot_id = kb.cot_id WHERE p.model_id"
            " = $m ORDER BY e.pair_id, e.role, e.arm, e.quantity, e.convention",
            m=model_id,
        )

    def causation_arms(self: _HasFrame, model_id: str) -> pd.DataFrame:
        """Of each role, start and arm, over all pairs of one model: samples, how many have an answer, were made to give
        it, are correct; mean tokens, and mean similarity of the first sentence to the chunk.
        """
        return self.frame(
            "SELECT role, start, arm, count(*) AS n, count(answer) AS n_answered, count(*) FILTER (is_correct) AS"
            " n_correct, count(is_correct) AS n_judged, count(*) FILTER (answer_source = $forced) AS n_forced,"
            " avg(n_tokens) AS n_tokens, avg(similarity) AS similarity FROM causation_samples JOIN causation_pairs"
            " USING (pair_id) WHERE model_id = $m GROUP BY role, start, arm ORDER BY role, start DESC,"
            " list_position(['base', 'steered', 'random'], arm)",
            m=model_id,
            forced=FORCED_AT_CAP,
        )

    def causation_answers(self: _HasFrame, pair_id: str) -> pd.DataFrame:
        """Of one pair: how many samples of each role, start and arm gave each answer; NULL is none."""
        return self.frame(
            "SELECT role, start, arm, cluster AS answer, bool_or(is_correct) AS is_correct, count(*) AS n FROM"
            " causation_samples WHERE pair_id = $p GROUP BY role, start, arm, cluster ORDER BY role, start DESC,"
            " list_position(['base', 'steered', 'random'], arm), n DESC, cluster",
            p=pair_id,
        )
