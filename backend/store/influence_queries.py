"""What a study has of which chunk acts on which.

There are four ways to the question, each with its table: attention to a chunk suppressed (`influences`), attention
(`chunk_attention`), what rollouts write without it (`resampled_influences`), and step importance as published. Here
they have one form: a way, the model that reads (empty where the way has none), a part (what is suppressed, or the
convention; empty where the way has none), and the value of a pair of chunks.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import pandas as pd


class _HasFrame(Protocol):
    def frame(self, sql: str, **values: Any) -> pd.DataFrame: ...


# By the number that a chunk is away, the first of each span: distances beyond are taken together as they get rarer.
SPANS = (1, 2, 3, 4, 6, 8, 11, 16, 24, 36, 54, 81)
FIFTHS = 5  # of the way through the chain, that places are told apart by

_UNKNOWN = "NULL::DOUBLE AS low, NULL::DOUBLE AS high, NULL::DOUBLE AS p"
_PAIRS = f"""(
    SELECT 'suppression' AS way, source_chunk_id, target_chunk_id, model_id, suppressed AS part, kl AS value,
        {_UNKNOWN}, n_tokens AS n FROM influences
    UNION ALL SELECT 'attention', source_chunk_id, target_chunk_id, model_id, '', attention,
        {_UNKNOWN}, n_target FROM chunk_attention
    UNION ALL SELECT 'resampling', source_chunk_id, target_chunk_id, '', convention, effect, low, high, p,
        n_kept + n_replaced FROM resampled_influences
    UNION ALL SELECT 'published', source_chunk_id, target_chunk_id, '', convention, value,
        {_UNKNOWN}, NULL FROM step_importance
)"""
_WITH_CHUNKS = (
    f"{_PAIRS} i JOIN chunks s ON s.chunk_id = i.source_chunk_id JOIN chunks t ON t.chunk_id = i.target_chunk_id"
)
_SPAN = (
    "CASE"
    + "".join(f" WHEN t.chunk_index - s.chunk_index < {first} THEN {n}" for n, first in enumerate(SPANS[1:]))
    + f" ELSE {len(SPANS) - 1} END"
)


def span_words(span: int) -> str:
    """How many chunks away those of a span are."""
    first, after = SPANS[span], SPANS[span + 1] if span + 1 < len(SPANS) else None
    return f"{first} and more" if after is None else str(first) if after == first + 1 else f"{first}–{after - 1}"


class InfluenceQueries:
    """Mixed into Store, which gives `frame`."""

    def influence_readings(self: _HasFrame) -> pd.DataFrame:
        """One row a way, model that reads and part: how many pairs of how many CoTs; the first hundredth of the values
        above 0 (`least`), four fifths (`upper`) and the end (`most`) of all without their sign, whether any is below 0,
        and the median `noise` of the chunks. Base before distilled.
        """
        return self.frame(
            "WITH floors AS (SELECT 'suppression' AS way, model_id, suppressed AS part, median(noise) AS noise FROM"
            " chunk_influences GROUP BY ALL) SELECT i.way, i.model_id, m.name AS model, m.role, i.part, count(i.value)"
            " AS n_pairs, count(DISTINCT s.cot_id) AS n_cots, quantile_cont(i.value, 0.01) FILTER (i.value > 0) AS"
            " least, quantile_cont(abs(i.value), 0.8) AS upper, max(abs(i.value)) AS most, coalesce(bool_or(i.value <"
            f" 0), false) AS is_signed, any_value(f.noise) AS noise FROM {_WITH_CHUNKS} LEFT JOIN models m ON"
            " m.model_id = i.model_id LEFT JOIN floors f ON f.way = i.way AND f.model_id = i.model_id AND f.part ="
            " i.part GROUP BY i.way, i.model_id, m.name, m.role, i.part ORDER BY i.way, m.role = 'distilled' NULLS"
            " FIRST, i.model_id, i.part <> 'all', i.part"
        )

    def influence_ways_of(self: _HasFrame, cot_id: str) -> pd.DataFrame:
        """One row a way, model and part by which a pair of the CoT's chunks is known, with how many are."""
        return self.frame(
            f"SELECT i.way, i.model_id, i.part, count(i.value) AS n_pairs FROM {_WITH_CHUNKS} WHERE s.cot_id = $cot"
            " GROUP BY ALL ORDER BY i.way, i.model_id, i.part",
            cot=cot_id,
        )

    def influence_pairs(self: _HasFrame, cot_id: str, way: str, part: str) -> pd.DataFrame:
        """The pairs of the CoT's chunks under every model that reads, in reading order: 0-based numbers of both, value,
        its interval and p where the way has one, and n (tokens of the target, or rollouts).
        """
        return self.frame(
            "SELECT i.model_id, i.source_chunk_id, i.target_chunk_id, s.chunk_index AS source_index, t.chunk_index AS"
            f" target_index, i.value, i.low, i.high, i.p, i.n FROM {_WITH_CHUNKS} WHERE s.cot_id = $cot AND i.way ="
            " $way AND i.part = $part ORDER BY i.model_id, s.chunk_index, t.chunk_index",
            cot=cot_id,
            way=way,
            part=part,
        )

    def influence_everywhere(self: _HasFrame, way: str) -> pd.DataFrame:
        """Every pair of the study by a way, in reading order, with who wrote the chain, who reads it, the interval and
        p, what was counted (tokens of the target, or rollouts), and the source's noise floor; NULL where it has none.
        """
        return self.frame(
            "SELECT c.problem_id, s.cot_id, w.name AS written_by, i.way, i.part, i.model_id, m.name AS read_by,"
            " i.source_chunk_id, i.target_chunk_id, s.chunk_index AS source_index, t.chunk_index AS target_index,"
            " i.value, i.low, i.high, i.p, CASE WHEN i.way IN ('suppression', 'attention') THEN i.n END AS n_tokens,"
            " r.n_kept, r.n_replaced, f.noise"
            f" FROM {_WITH_CHUNKS} JOIN cots c ON c.cot_id = s.cot_id LEFT JOIN models w ON w.model_id = c.model_id"
            " LEFT JOIN models m ON m.model_id = i.model_id LEFT JOIN chunk_influences f ON i.way = 'suppression' AND"
            " f.chunk_id = i.source_chunk_id AND f.model_id = i.model_id AND f.suppressed = i.part LEFT JOIN"
            " resampled_influences r ON i.way = 'resampling' AND r.source_chunk_id = i.source_chunk_id AND"
            " r.target_chunk_id = i.target_chunk_id AND r.convention = i.part WHERE i.way = $way ORDER BY s.cot_id,"
            " i.part, i.model_id, s.chunk_index, t.chunk_index",
            way=way,
        )

    def chunk_influences_of(self: _HasFrame, cot_id: str, suppressed: str) -> pd.DataFrame:
        """One row a chunk of the CoT and model that reads, in reading order: what suppressing it does in all."""
        return self.frame(
            "SELECT i.model_id, i.chunk_id, k.chunk_index, i.answer_kl, i.n_answer, i.noise, i.out_influence,"
            " i.in_influence, i.last_reader, i.n_later, i.n_earlier FROM chunk_influences i JOIN chunks k USING"
            " (chunk_id) WHERE k.cot_id = $cot AND i.suppressed = $suppressed ORDER BY i.model_id, k.chunk_index",
            cot=cot_id,
            suppressed=suppressed,
        )

    def influence_by_source(self: _HasFrame, way: str, part: str) -> pd.DataFrame:
        """One row a model that reads, chunk that acts, and span of distances (of SPANS): sum of its values there and
        how many; with its CoT, problem, and fifth of the way through the chain.
        """
        return self.frame(
            "WITH sizes AS (SELECT cot_id, count(*) AS n_chunks FROM chunks GROUP BY cot_id) SELECT i.model_id,"
            f" s.chunk_id, s.cot_id, c.problem_id, {_place('s')} AS place, {_SPAN} AS span, sum(i.value) AS total,"
            f" count(i.value) AS n FROM {_WITH_CHUNKS} JOIN sizes z ON z.cot_id = s.cot_id JOIN cots c ON c.cot_id ="
            " s.cot_id WHERE i.way = $way AND i.part = $part AND i.value IS NOT NULL GROUP BY i.model_id, s.chunk_id,"
            " s.cot_id, c.problem_id, place, span, s.chunk_index ORDER BY i.model_id, s.cot_id, s.chunk_index, span",
            way=way,
            part=part,
        )

    def chunk_influences_everywhere(self: _HasFrame, suppressed: str) -> pd.DataFrame:
        """One row a chunk and model that reads: how far it acts, and on the answer; `place` is the fifth of its way
        through the chain, `span` that of the number of chunks after it (those of the last chunk: the first).
        """
        return self.frame(
            "WITH sizes AS (SELECT cot_id, count(*) AS n_chunks FROM chunks GROUP BY cot_id) SELECT i.model_id,"
            f" i.chunk_id, s.cot_id, c.problem_id, {_place('s')} AS place, CASE"
            + "".join(f" WHEN z.n_chunks - 1 - s.chunk_index < {first} THEN {n}" for n, first in enumerate(SPANS[1:]))
            + f" ELSE {len(SPANS) - 1} END AS span, i.last_reader, i.answer_kl FROM chunk_influences i JOIN chunks s"
            " USING (chunk_id) JOIN sizes z ON z.cot_id = s.cot_id JOIN cots c ON c.cot_id = s.cot_id WHERE"
            " i.suppressed = $suppressed ORDER BY i.model_id, s.cot_id, s.chunk_index",
            suppressed=suppressed,
        )

    def receiver_heads(self: _HasFrame) -> pd.DataFrame:
        """Every head of every model, by its rank."""
        return self.frame(
            "SELECT r.model_id, m.name AS model, m.role, r.layer, r.head, r.kurtosis, r.low, r.high, r.shuffled,"
            " r.shuffled_low, r.shuffled_high, r.placed, r.rank, r.n_cots, r.n_problems FROM receiver_heads r LEFT JOIN"
            " models m USING (model_id) ORDER BY m.role = 'distilled' NULLS FIRST, r.model_id, r.rank, r.layer, r.head"
        )

    def receiver_reliability(self: _HasFrame) -> pd.DataFrame:
        """One row a model and split of the problems into halves."""
        return self.frame(
            "SELECT model_id, number, spearman, shared, top, by_chance, n_cots_a, n_cots_b FROM receiver_reliability"
            " ORDER BY model_id, number"
        )

    def received_attention(self: _HasFrame, cot_id: str, model_id: str, layer: int, head: int) -> pd.DataFrame:
        """One row a chunk of the CoT, in reading order: the attention it receives from later ones in one head, where
        that is kept.
        """
        return self.frame(
            "SELECT k.chunk_id, k.chunk_index, k.text, r.received, r.n_later FROM chunks k JOIN received_attention r ON"
            " r.chunk_id = k.chunk_id AND r.model_id = $model AND r.layer = $layer AND r.head = $head WHERE k.cot_id ="
            " $cot ORDER BY k.chunk_index",
            cot=cot_id,
            model=model_id,
            layer=layer,
            head=head,
        )

    def influence_agreement(self: _HasFrame) -> pd.DataFrame:
        """One row a reading model, writer and two ways."""
        return self.frame(
            "SELECT a.model_id, m.name AS model, m.role, a.writer_id, w.name AS writer, a.first, a.second, a.spearman,"
            " a.low, a.high, a.at_distance, a.p, a.n_cots, a.n_problems, a.n_pairs FROM influence_agreement a LEFT JOIN"
            " models m ON m.model_id = a.model_id LEFT JOIN models w ON w.model_id = a.writer_id ORDER BY a.first,"
            " a.second, a.writer_id <> 'all', w.role = 'distilled' NULLS FIRST, a.writer_id, m.role = 'distilled' NULLS"
            " FIRST, a.model_id"
        )

    def influence_by_both(self: _HasFrame, first: Sequence[str], second: Sequence[str], model_id: str) -> pd.DataFrame:
        """Pairs of chunks that two ways (each a way and its part) know under a model: both values, and the chunks'
        numbers and CoT. A way without a model that reads stands for every one.
        """
        return self.frame(
            "SELECT s.cot_id, i.source_chunk_id, i.target_chunk_id, s.chunk_index AS source_index, t.chunk_index AS"
            f" target_index, i.value AS first_value, j.value AS second_value FROM {_WITH_CHUNKS} JOIN {_PAIRS} j ON"
            " j.source_chunk_id = i.source_chunk_id AND j.target_chunk_id = i.target_chunk_id WHERE i.way = $first AND"
            " i.part = $first_part AND i.model_id IN ('', $model) AND j.way = $second AND j.part = $second_part AND"
            " j.model_id IN ('', $model) AND i.value IS NOT NULL AND j.value IS NOT NULL ORDER BY s.cot_id,"
            " s.chunk_index, t.chunk_index",
            first=first[0],
            first_part=first[1],
            second=second[0],
            second_part=second[1],
            model=model_id,
        )

    def answered(self: _HasFrame, cot_id: str) -> pd.DataFrame:
        """At most one row: what follows the CoT, for a model that reads it with its answer."""
        return self.frame("SELECT answer, after_text, think_close FROM cots WHERE cot_id = $cot", cot=cot_id)

    def texts_of(self: _HasFrame, chunk_ids: Sequence[str]) -> pd.DataFrame:
        """Number and text of these chunks."""
        return self.frame(
            "SELECT chunk_id, chunk_index, text FROM chunks WHERE list_contains($chunks, chunk_id) ORDER BY chunk_id",
            chunks=list(chunk_ids),
        )


def _place(chunk: str) -> str:
    """The fifth of the way through the chain at which a chunk stands, from 0."""
    return f"least({FIFTHS - 1}, ({chunk}.chunk_index * {FIFTHS}) // z.n_chunks)"
