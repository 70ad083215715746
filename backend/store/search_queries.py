"""Chunks, or chains of thought, that meet a condition on any columns, as one query.

1. A column is a number, a word, yes or no, or a text of a chunk or of its CoT. Its SQL is ours; what it takes from a
   study or from a person (the name of a metric, a layer, what was typed) is bound and never written into the SQL.
2. Unknown is NULL, with SQL's three truths: a comparison with it is neither true nor false, and so is its negation.
   Rows that fail to match for that alone are counted, column by column.
3. A CoT meets a condition where it does itself, its text being its whole text and what belongs to chunks unknown, or
   where any of its chunks does. Of its chunks' numbers it has the largest among those that do.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import pandas as pd

from backend.store.answered import SAMPLED
from backend.store.decided import DECIDED
from backend.store.geometry_columns import GeometryColumn

Level = Literal["chunks", "cots"]


@dataclass(frozen=True)
class Rows:
    """SQL of at most one row for each `by`, which a column is read from; `bound` are the names in it that are bound."""

    sql: str
    bound: tuple[tuple[str, Any], ...] = ()
    by: Literal["chunk_id", "cot_id", "problem_id, model_id, prompt_name"] = "chunk_id"


@dataclass(frozen=True)
class Column:
    """One column of a study, as the search knows it."""

    name: str  # in a query
    holds: Literal["number", "word", "yes or no", "text"]
    of: Literal["chunk", "cot"]
    value: str  # SQL over k (the chunk), c (its CoT), p (its problem) and j (its row of `rows`)
    label: str
    meaning: str
    rows: Rows | None = None
    unit: str = ""
    signed: bool = False  # may be below 0
    is_whole: bool = False
    small_counts: bool = False  # the smallest of a CoT's chunks stands for it, not the largest
    is_count: bool = False  # yes and no can be said of it: more than 0, and 0
    among: str = ""  # SQL of a list: of all words that it has, where there are several
    words: tuple[tuple[str, tuple[str, ...]], ...] | None = None  # what may be said: the stored words; None: anything


# Conditions


@dataclass(frozen=True)
class Compares:
    column: Column
    sign: Literal["<", "<=", ">", ">=", "=", "<>"]
    number: float


@dataclass(frozen=True)
class IsOneOf:
    column: Column
    words: tuple[str, ...]


@dataclass(frozen=True)
class IsTrue:
    column: Column
    yes: bool


@dataclass(frozen=True)
class Says:
    """The text has these characters somewhere, in capitals or not."""

    column: Column
    text: str


@dataclass(frozen=True)
class IsKnown:
    column: Column


@dataclass(frozen=True)
class Not:
    part: "Condition"


@dataclass(frozen=True)
class Every:
    """All of the parts; of none, everything."""

    parts: tuple["Condition", ...] = ()


@dataclass(frozen=True)
class Some:
    parts: tuple["Condition", ...]


Condition = Compares | IsOneOf | IsTrue | Says | IsKnown | Not | Every | Some


def columns_in(condition: Condition) -> tuple[Column, ...]:
    """The columns whose values decide, each once, in their order."""
    match condition:
        case Not(part):
            return columns_in(part)
        case Every(parts) | Some(parts):
            return tuple(dict.fromkeys(column for part in parts for column in columns_in(part)))
        case IsKnown():
            return ()
        case _:
            return (condition.column,)


@dataclass
class _Query:
    """A query that is being put together: what is joined, and what is bound."""

    level: Level
    joined: dict[Rows, str] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)

    def bind(self, value: Any) -> str:
        name = f"v{len(self.values)}"
        self.values[name] = value
        return f"${name}"

    def value(self, column: Column, sql: str = "") -> str:
        """SQL of the column's value; unknown is NULL, also where a number is none."""
        sql = re.sub(r"\bj\.", f"{self._alias(column.rows)}.", sql or column.value) if column.rows else column.value
        if column.holds == "number":
            sql = f"nullif(({sql})::DOUBLE, 'NaN'::DOUBLE)"
        if self.level == "cots" and column.of == "chunk" and column.holds != "text":
            sql = f"CASE WHEN k.chunk_id IS NOT NULL THEN {sql} END"
        return f"({sql})"

    def _alias(self, rows: Rows) -> str:
        return self.joined.setdefault(rows, f"j{len(self.joined)}")

    def holds(self, condition: Condition) -> str:
        match condition:
            case Compares(column, sign, number):
                return f"({self.value(column)} {sign} {self.bind(float(number))})"
            case IsOneOf(column, words) if column.among:
                listed = ", ".join(map(self.bind, words))
                return f"list_has_any({self.value(column, column.among)}, [{listed}])"
            case IsOneOf(column, words):
                listed = ", ".join(f"lower({self.bind(word)})" for word in words)
                return f"(lower({self.value(column)}) IN ({listed}))"
            case IsTrue(column, yes):
                return f"({self.value(column)} = {self.bind(yes)})"
            case Says(column, text):
                return f"contains(lower({self.value(column)}), lower({self.bind(text)}))"
            case IsKnown(column):
                return f"({self.value(column)} IS NOT NULL)"
            case Not(part):
                return f"(NOT {self.holds(part)})"
            case Every(parts):
                return f"({' AND '.join(map(self.holds, parts))})" if parts else "true"
            case Some(parts):
                return f"({' OR '.join(map(self.holds, parts))})"

    def source(self) -> str:
        """FROM and its joins: asked for when all values are."""
        chunks = "chunks"
        if self.level == "cots":  # and every CoT once more, as a whole
            own = "chunk_id, cot_id, chunk_index, text, token_start, token_end"
            chunks = f"(SELECT {own} FROM chunks UNION ALL SELECT NULL, cot_id, NULL, text, NULL, NULL FROM cots)"
        joins = "".join(
            f" LEFT JOIN ({self._bound(rows)}) {alias} ON {self._same(rows, alias)}"
            for rows, alias in self.joined.items()
        )
        return f"FROM {chunks} k JOIN cots c USING (cot_id) LEFT JOIN problems p USING (problem_id){joins}"

    def _bound(self, rows: Rows) -> str:
        given = {name: self.bind(value) for name, value in rows.bound}
        return re.sub(r"\$(\w+)", lambda found: given[found[1]], rows.sql)

    @staticmethod
    def _same(rows: Rows, alias: str) -> str:
        keys = rows.by.split(", ")
        own = {"chunk_id": "k"}
        return " AND ".join(f"{alias}.{key} = {own.get(key, 'c')}.{key}" for key in keys)


# What a study has more of than one row a chunk


def importance_rows(metric: str, convention: str, *, with_q: bool = False) -> Rows:
    """One metric of every chunk that has it; with the q of the study's chunks where asked, which takes longer."""
    what, table = ("q, n_tested", DECIDED) if with_q else ("value, ci_low, ci_high, p, n", "importance")
    return Rows(
        f"SELECT chunk_id, {what} FROM {table} WHERE metric = $metric AND convention = $convention",
        (("metric", metric), ("convention", convention)),
    )


def geometry_rows(column: GeometryColumn, *, kind: str, layer: int, position: str, unit: str) -> Rows:
    """A geometry column of every chunk that has it, as the model that wrote its CoT reads it; of one whose writer reads
    nothing, as whoever reads it.
    """
    return Rows(
        "SELECT g.chunk_id, first(g.x ORDER BY g.model_id <> o.model_id, g.model_id) AS x FROM"
        f" ({column.sql()}) g JOIN chunks USING (chunk_id) JOIN cots o USING (cot_id) WHERE kind = $kind AND"
        " layer = $layer AND position = $position AND unit = $unit GROUP BY g.chunk_id",
        (("kind", kind), ("layer", int(layer)), ("position", position), ("unit", unit)),
    )


def firing_rows(dictionary: str, feature: int) -> Rows:
    """The largest activation of a feature at a token of the chunk, 0 where it fires at none; of CoTs whose codes are
    stored.
    """
    return Rows(
        "WITH coded AS (SELECT cot_id, unnest(positions) AS position, unnest(features) AS feature, unnest(codes) AS"
        " code FROM cot_codes WHERE dictionary_id = $dictionary), fired AS (SELECT cot_id, position, code FROM coded"
        " WHERE feature = $feature) SELECT h.chunk_id, coalesce(max(f.code), 0) AS code FROM chunks h JOIN (SELECT"
        " cot_id FROM cot_codes WHERE dictionary_id = $dictionary) USING (cot_id) LEFT JOIN fired f ON f.cot_id ="
        " h.cot_id AND f.position >= h.token_start AND f.position < h.token_end WHERE h.token_start IS NOT NULL GROUP"
        " BY h.chunk_id",
        (("dictionary", dictionary), ("feature", feature)),
    )


def tag_rows(source: str) -> Rows:
    """All tags of a chunk by one source, and the first of them."""
    return Rows(
        "SELECT chunk_id, list(category ORDER BY rank) AS tags, first(category ORDER BY rank) AS tag, first(score ORDER"
        " BY rank) AS score FROM categories WHERE source = $source GROUP BY chunk_id",
        (("source", source),),
    )


def said_rows(said: pd.DataFrame) -> Rows:
    """What people said of chunks, rows of `notes.counting`, where a chunk still has the text that it was said of."""
    given = said.astype(object).where(said.notna(), None)
    return Rows(
        "SELECT h.chunk_id, s.note, s.star, s.tag FROM (SELECT unnest($names::VARCHAR[]) AS chunk_id,"
        " unnest($texts::VARCHAR[]) AS digest, unnest($notes::VARCHAR[]) AS note, unnest($stars::VARCHAR[]) AS star,"
        " unnest($tags::VARCHAR[]) AS tag) s JOIN chunks h ON h.chunk_id = s.chunk_id AND sha256(h.text) = s.digest",
        tuple((f"{name}s", tuple(given[name])) for name in ("name", "text", "note", "star", "tag")),
    )


def corrected_rows(source: str, said: pd.DataFrame) -> Rows:
    """All tags of a chunk and the first of them, by `said` where a person corrected it, else by the source."""
    computed, corrected = tag_rows(source), said_rows(said)
    return Rows(
        "SELECT chunk_id, t.tag AS corrected, CASE WHEN t.tag IS NULL THEN o.tags ELSE [t.tag] END AS tags,"
        f" coalesce(t.tag, o.tag) AS tag FROM ({computed.sql}) o FULL JOIN ({corrected.sql}) t USING (chunk_id)",
        (*computed.bound, *corrected.bound),
    )


ROLLOUT_ROWS = Rows(f"SELECT chunk_id, count(*) AS n FROM {SAMPLED} WHERE kind = 'resample' GROUP BY chunk_id")
SIZE_ROWS = Rows("SELECT cot_id, count(*) AS n FROM chunks GROUP BY cot_id", by="cot_id")
ACCURACY_ROWS = Rows(
    "SELECT problem_id, model_id, prompt_name, accuracy FROM problem_accuracy", by="problem_id, model_id, prompt_name"
)


class _HasFrame(Protocol):
    def frame(self, sql: str, **values: Any) -> pd.DataFrame: ...


class SearchQueries:
    """Mixed into Store, which gives `frame`. Values are bound, columns and order are named."""

    def search(
        self: _HasFrame,
        condition: Condition,
        columns: Sequence[Column],
        *,
        level: Level = "chunks",
        sort: Column | None = None,
        falling: bool = True,
        limit: int | None = None,
        offset: int = 0,
    ) -> pd.DataFrame:
        """The chunks, or the CoTs, that meet the condition: chunk_id, cot_id, problem_id, chunk_index, and a column for
        each of `columns`, under its name; sorted, unknown ones last, and among equals in reading order.

        A CoT has its first chunk that does, and how many of its chunks do (`n_matching`).
        """
        query = _Query(level)
        shown = {column: f"s{n}" for n, column in enumerate(dict.fromkeys((*columns, *([sort] if sort else []))))}
        values = ", ".join(f"{query.value(column)} AS {name}" for column, name in shown.items())
        inner = (
            f"SELECT k.chunk_id, k.cot_id, c.problem_id, k.chunk_index{values and ', '}{values},"
            f" {query.holds(condition)} AS matches {query.source()}"
        )
        how = "DESC" if falling else "ASC"
        first = f"{shown[sort]} {how} NULLS LAST, " if sort else ""
        if level == "chunks":
            chosen = ", ".join(("chunk_id", "cot_id", "problem_id", "chunk_index", *shown.values()))
            sql = f"SELECT {chosen} FROM ({inner}) WHERE matches ORDER BY {first}problem_id, cot_id, chunk_index"
        else:
            met = "matches AND chunk_id IS NOT NULL"
            whole = "".join(f", {_of_cot(column, name, met)} AS {name}" for column, name in shown.items())
            sql = (
                f"SELECT arg_min(chunk_id, chunk_index) FILTER ({met}) AS chunk_id, cot_id, problem_id,"
                f" min(chunk_index) FILTER ({met}) AS chunk_index, count(*) FILTER ({met}) AS n_matching{whole} FROM"
                f" ({inner}) GROUP BY cot_id, problem_id HAVING bool_or(matches) ORDER BY {first}problem_id, cot_id"
            )
        if limit is not None:
            sql += f" LIMIT {query.bind(limit)} OFFSET {query.bind(offset)}"
        found = self.frame(sql, **query.values)
        for column, name in shown.items():
            if column.is_whole:
                found[name] = found[name].astype("Int64")
        return found.rename(columns={name: column.name for column, name in shown.items()})

    def search_counts(self: _HasFrame, condition: Condition, *, level: Level = "chunks") -> pd.DataFrame:
        """One row a column of the condition: how many chunks, or CoTs, do not meet it for no other reason than that the
        column is unknown (`n_unknown`); `n` meet it, of `n_all`. Without a column one row, of name NULL.
        """
        query, named = _Query(level), columns_in(condition)
        values = "".join(f", {query.value(column)} IS NULL AS s{n}" for n, column in enumerate(named))
        inner = f"SELECT k.chunk_id, k.cot_id, {query.holds(condition)} AS matches{values} {query.source()}"
        if level == "cots":
            its = ["" if column.of == "cot" else " AND chunk_id IS NOT NULL" for column in named]
            open_ = "".join(f", bool_or(matches IS NULL AND s{n}{own}) AS s{n}" for n, own in enumerate(its))
            inner = f"SELECT coalesce(bool_or(matches), false) AS met{open_} FROM ({inner}) GROUP BY cot_id"
            counted = "".join(f", count(*) FILTER (s{n} AND NOT met) AS s{n}" for n in range(len(named)))
            sql = f"SELECT count(*) AS n_all, count(*) FILTER (met) AS n{counted} FROM ({inner})"
        else:
            counted = "".join(f", count(*) FILTER (matches IS NULL AND s{n}) AS s{n}" for n in range(len(named)))
            sql = f"SELECT count(*) AS n_all, count(*) FILTER (matches) AS n{counted} FROM ({inner})"
        row = self.frame(sql, **query.values).iloc[0]
        names: Sequence[str | None] = [column.name for column in named] or (None,)
        unknown = [int(row[f"s{n}"]) for n in range(len(named))] or [0]
        return pd.DataFrame({"name": names, "n_unknown": unknown, "n": int(row["n"]), "n_all": int(row["n_all"])})

    def column_values(self: _HasFrame, column: Column) -> pd.DataFrame:
        """One row a chunk, in reading order within each CoT: its `value` of the column, NULL where unknown."""
        query = _Query("chunks")
        value = query.value(column)
        return self.frame(
            f"SELECT k.chunk_id, {value} AS value {query.source()} ORDER BY k.cot_id, k.chunk_index", **query.values
        )

    def words_of_columns(self: _HasFrame) -> pd.DataFrame:
        """One row a column and stored word of a CoT, or of its problem: those of which there are few kinds."""
        return self.frame(
            "SELECT DISTINCT 'prompt' AS name, prompt_name AS word FROM cots UNION SELECT 'finish', finish FROM cots"
            " WHERE finish IS NOT NULL UNION SELECT 'answer_source', answer_source FROM cots WHERE answer_source IS NOT"
            " NULL UNION SELECT 'source', source FROM problems ORDER BY ALL"
        )

    def tags_of(self: _HasFrame, source: str) -> list[str]:
        """The tags that a source gave, the most frequent first."""
        rows = self.frame(
            "SELECT category FROM categories WHERE source = $source GROUP BY category ORDER BY count(*) DESC, category",
            source=source,
        )
        return rows["category"].tolist()

    def coded_dictionaries(self: _HasFrame) -> pd.DataFrame:
        """One row a dictionary with codes of CoTs: its features; that of most CoTs first."""
        return self.frame(
            "SELECT d.dictionary_id, d.n_features FROM dictionaries d JOIN (SELECT dictionary_id, count(*) AS n FROM"
            " cot_codes GROUP BY dictionary_id) USING (dictionary_id) ORDER BY n DESC, d.dictionary_id"
        )


def _of_cot(column: Column, name: str, met: str) -> str:
    """SQL of what a CoT has of a column of its rows."""
    if column.of == "cot":
        return f"any_value({name})"
    if column.holds == "text":
        return f"arg_min({name}, chunk_index) FILTER ({met})"
    most = "mode" if column.holds != "number" else "min" if column.small_counts else "max"
    return f"{most}({name}) FILTER ({met})"
