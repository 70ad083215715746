"""What pages and the evidence ask about geometry: any geometry column beside any importance, and all that is known of
one chunk.

A geometry column is named by x, the direction's kind, model, layer, position and unit. What does not apply to it is
`none`; the layer of an importance metric that stands as x is NO_LAYER, its model the one that wrote the CoTs, and its
kind is its own convention. Influence is of no layer either, and of the CoTs that its model wrote.
"""

from typing import Any, Protocol

import pandas as pd

from backend.schema.tables import TABLES
from backend.store.geometry_columns import (
    COLUMNS,
    KEPT,
    NAME,
    RANDOM_STEPS,
    GeometryColumn,
    column_named,
    may_be_column,
)

# Held fixed by a partial correlation: tokens of the chunk, its index over the number of chunks, norm of its activation
# at the layer, mean entropy (nats) of the unsteered predictions of its tokens, and the rollouts that its importance
# rests on: a smoothed KL of few rollouts is large by chance alone, and there are few where most of them are similar to
# the chunk.
COVARIATES = ("n_tokens", "place", "residual_norm", "entropy", "n_rollouts")


class _HasFrame(Protocol):
    def frame(self, sql: str, **values: Any) -> pd.DataFrame: ...


def _columns(store: _HasFrame) -> dict[str, GeometryColumn]:
    """The registry's, and those of which the study keeps values while their code is not here."""
    kept = store.frame("SELECT DISTINCT x FROM kept_columns ORDER BY x")["x"]
    return {**COLUMNS, **{x: column_named(x) for x in kept if x not in COLUMNS and may_be_column(x)}}


def _column(store: _HasFrame, x: str) -> GeometryColumn:
    """Raises ColumnError for an x that is neither registered nor kept in the study."""
    return COLUMNS[x] if x in COLUMNS else _columns(store).get(x) or COLUMNS[x]


class GeometryQueries:
    """Mixed into Store, which gives `frame`. Values are bound, columns and order are named."""

    def geometry_choices(self: _HasFrame) -> pd.DataFrame:
        """One row a geometry column that is there: its chunks, and those of which it is known."""
        columns = " UNION ALL ".join(
            f"SELECT {number} AS number, '{x}' AS x, {', '.join(NAME)}, count(*) AS n_chunks, count(x) AS n_known FROM"
            f" ({column.sql()}) GROUP BY {', '.join(NAME)}"
            for number, (x, column) in enumerate(_columns(self).items())
        )
        return self.frame(
            "SELECT g.x, g.kind, g.model_id, m.name AS model, g.layer, g.position, g.unit, g.n_chunks, g.n_known "
            f"FROM ({columns}) g LEFT JOIN models m USING (model_id) "
            "ORDER BY g.number, m.name, g.model_id, g.layer, g.kind, g.position, g.unit"
        )

    def geometry_and_importance(
        self: _HasFrame,
        x: str,
        kind: str,
        model_id: str,
        layer: int,
        position: str,
        unit: str,
        source: str,
        metric: str,
        convention: str,
    ) -> pd.DataFrame:
        """One row a chunk that has the geometry column: x (mean over the kind's directions), importance and COVARIATES;
        NULL where unknown.

        `n_directions` counts the directions of which x is known, NULL for a column without any; `r2` is of the fit and
        `below_floor` holds when every one of the chunk's curves is, both NULL for what is not fitted. Raises
        AnchorscopeError for an x that is no geometry column.
        """
        return self.frame(
            f"WITH g AS (SELECT * FROM ({_column(self, x).sql()})"
            " WHERE kind = $kind AND model_id = $model AND layer = $layer AND position ="
            " $position AND unit = $unit), sizes AS (SELECT cot_id, count(*) AS n_chunks FROM chunks GROUP"
            " BY cot_id), entropies AS (SELECT chunk_id, min(entropy) AS entropy FROM local_geometry WHERE model_id ="
            " $model GROUP BY chunk_id) SELECT g.chunk_id, k.cot_id, c.problem_id, k.chunk_index, left(k.text, 160) AS"
            " text, t.category, g.x, g.r2, g.n_directions, g.below_floor, i.value, i.ci_low, i.ci_high, i.n,"
            " k.token_end - k.token_start AS n_tokens, k.chunk_index / sizes.n_chunks AS place, h.residual_norm,"
            " entropies.entropy, i.n AS n_rollouts FROM g JOIN chunks k USING (chunk_id) JOIN cots c USING (cot_id)"
            " JOIN sizes USING (cot_id) LEFT JOIN categories t ON t.chunk_id = g.chunk_id AND t.source = $source AND"
            " t.rank = 0 LEFT JOIN importance i ON i.chunk_id = g.chunk_id AND i.metric = $metric AND i.convention ="
            " $convention LEFT JOIN neighbourhoods h ON h.chunk_id = g.chunk_id AND h.model_id = $model AND h.layer ="
            " $layer LEFT JOIN entropies ON entropies.chunk_id = g.chunk_id ORDER BY k.cot_id, k.chunk_index",
            kind=kind,
            model=model_id,
            layer=int(layer),  # DuckDB binds no NumPy integers
            position=position,
            unit=unit,
            source=source,
            metric=metric,
            convention=convention,
        )

    def read_by_others(self: _HasFrame) -> pd.DataFrame:
        """Names of a reader and a writer, for each model that was steered on CoTs that another one wrote."""
        return self.frame(
            "SELECT DISTINCT r.name AS reader, w.name AS writer FROM (SELECT DISTINCT model_id, chunk_id FROM"
            " steepness) s JOIN chunks USING (chunk_id) JOIN cots c USING (cot_id) JOIN models r ON r.model_id ="
            " s.model_id JOIN models w ON w.model_id = c.model_id WHERE r.model_id != w.model_id ORDER BY ALL"
        )

    def associations(self: _HasFrame) -> pd.DataFrame:
        """Every pair and subset as it was stored, with its model's name, by name. `evidence.multiple.judged` adds what
        looking at many of them leaves of each.
        """
        return self.frame(
            "SELECT a.*, m.name AS model FROM associations a LEFT JOIN models m USING (model_id)"
            f" ORDER BY a.x, {', '.join(f'a.{name}' for name in NAME)}, a.metric, a.convention, a.subset"
        )

    def associations_digest(self: _HasFrame) -> str | None:
        """Changes whenever a stored pair does; None where there is none."""
        order = ", ".join(TABLES["associations"].key)
        digest = self.frame(f"SELECT md5(string_agg(t::VARCHAR, ',' ORDER BY {order})) AS d FROM associations t")["d"]
        return None if pd.isna(digest.iloc[0]) else str(digest.iloc[0])

    def evidence_digest(self: _HasFrame, model_id: str, layer: int) -> str:
        """Changes whenever a value changes on which the model's pairs at the layer rest."""
        sources = dict.fromkeys([*(column.source for column in COLUMNS.values()), KEPT])
        tables = [*((one.table, one.key, one.rests) for one in sources), ("chunks", "chunk_id", "true")]
        parts = [
            f"(SELECT md5(string_agg(t::VARCHAR, ',' ORDER BY {key})) FROM {table} t WHERE {rests})"
            for table, key, rests in tables
        ]
        entropies = (
            "SELECT chunk_id, min(entropy) AS entropy FROM local_geometry WHERE model_id = $model GROUP BY chunk_id"
        )
        parts.append(
            "(SELECT md5(string_agg(chunk_id || coalesce(entropy::VARCHAR, ''), ',' ORDER BY chunk_id)) FROM"
            f" ({entropies}))"
        )
        digests = self.frame(f"SELECT concat_ws(' ', {', '.join(parts)}) AS digest", model=model_id, layer=int(layer))
        return str(digests["digest"].iloc[0])

    # One chunk, or one chain of thought

    def local_geometry_of(self: _HasFrame, chunk_id: str) -> pd.DataFrame:
        """All of table `local_geometry` about the chunk."""
        return self.frame(
            "SELECT * FROM local_geometry WHERE chunk_id = $chunk ORDER BY model_id, layer, position, unit",
            chunk=chunk_id,
        )

    def geometry_of(self: _HasFrame, chunk_id: str, model_id: str, layer: int) -> pd.DataFrame:
        """One row a geometry column of the chunk at a layer, direction's kind, position and unit, in the order of
        the registry, then those kept: `name`, kind, position, unit, x, se, n; NULL where unknown.
        """
        parts = " UNION ALL ".join(
            f"SELECT {number} AS number, '{name}' AS name, kind, position, unit, x, se, n FROM ({column.sql()}) WHERE"
            " chunk_id = $chunk AND model_id = $model AND layer = $layer"
            for number, (name, column) in enumerate(_columns(self).items())
        )
        return self.frame(
            f"SELECT * EXCLUDE (number) FROM ({parts}) ORDER BY number, kind, position, unit",
            chunk=chunk_id,
            model=model_id,
            layer=int(layer),
        )

    def curve_choices(self: _HasFrame) -> pd.DataFrame:
        """One row a model, layer and unit with KL(β) curves."""
        return self.frame(
            "SELECT DISTINCT v.model_id, m.name AS model, v.layer, v.unit FROM kl_curves v JOIN chunks k USING"
            " (chunk_id) LEFT JOIN models m USING (model_id) ORDER BY m.name, v.model_id, v.layer, v.unit"
        )

    def most_moved(
        self: _HasFrame,
        kinds: list[str],
        *,
        most: float,
        chunk: str | None = None,
        model: str | None = None,
        layer: int | None = None,
    ) -> pd.DataFrame:
        """The point of the KL(β) curves of these kinds with the largest KL of at most `most` nats: a row, none where
        there is no such point. Of one chunk, model or layer where they are given.
        """
        return self.frame(
            "SELECT * FROM (SELECT v.chunk_id, v.kind, v.model_id, v.layer, v.position, v.unit, unnest(v.betas) AS"
            " beta, unnest(v.kl) AS kl FROM kl_curves v WHERE list_contains($kinds, v.kind) AND ($chunk IS NULL OR"
            " v.chunk_id = $chunk) AND ($model IS NULL OR v.model_id = $model) AND ($layer IS NULL OR v.layer ="
            " $layer)) WHERE isfinite(kl) AND kl > 0 AND kl <= $most ORDER BY kl DESC, chunk_id, kind, model_id, layer,"
            " beta DESC LIMIT 1",
            kinds=kinds,
            most=most,
            chunk=chunk,
            model=model,
            layer=layer,
        )

    def kl_curves_at(self: _HasFrame, model_id: str, layer: int, unit: str) -> pd.DataFrame:
        """Every KL(β) curve at one layer, one row a chunk, direction and position, in reading order within each CoT."""
        return self.frame(
            "SELECT v.chunk_id, k.cot_id, c.problem_id, k.chunk_index + 1 AS number, v.kind, v.position, v.betas, v.kl,"
            " v.noise_floor, v.unit, s.r2 FROM kl_curves v JOIN chunks k USING (chunk_id) JOIN cots c ON c.cot_id ="
            " k.cot_id LEFT JOIN steepness s USING (curve_id) WHERE v.model_id = $model AND v.layer = $layer AND v.unit"
            " = $unit ORDER BY k.cot_id, k.chunk_index, v.position, v.kind, v.curve_id",
            model=model_id,
            layer=int(layer),
            unit=unit,
        )

    def random_steps_at(self: _HasFrame, model_id: str, layer: int, position: str, unit: str) -> pd.DataFrame:
        """One row a chunk with finite steps along random directions, in reading order within each CoT, and what is
        exact about it there; NULL where unknown. `ratio_as_published` is largest over smallest KL at magnitude 1,
        whether or not the smallest is above the noise floor; of older studies, whose directions' own KLs were not kept
        (`kl_at_1`), it is known above the floor alone.
        """
        return self.frame(
            "SELECT r.*, k.cot_id, c.problem_id, k.chunk_index + 1 AS number, left(k.text, 160) AS text,"
            " g.isotropic_steepness, g.isotropic_se, g.participation_ratio, m.d_model"
            f" FROM ({RANDOM_STEPS}) r LEFT JOIN local_geometry g USING (chunk_id, model_id, layer, position, unit)"
            " LEFT JOIN models m USING (model_id) JOIN chunks k USING (chunk_id) JOIN cots c ON c.cot_id = k.cot_id"
            " WHERE r.model_id = $model AND r.layer = $layer AND r.position = $position AND r.unit = $unit"
            " AND r.n_random IS NOT NULL ORDER BY k.cot_id, k.chunk_index",
            model=model_id,
            layer=int(layer),
            position=position,
            unit=unit,
        )

    def random_steps_of(self: _HasFrame, chunk_id: str) -> pd.DataFrame:
        """One row a model, layer, position and unit at which the chunk has finite steps along random directions."""
        return self.frame(
            f"SELECT model_id, layer, position, unit, n_random, n_below_floor, anisotropy_ratio FROM ({RANDOM_STEPS})"
            " WHERE chunk_id = $chunk AND n_random IS NOT NULL ORDER BY model_id, layer, position, unit",
            chunk=chunk_id,
        )

    def neighbourhood_of(self: _HasFrame, chunk_id: str) -> pd.DataFrame:
        """All of table `neighbourhoods` about the chunk."""
        return self.frame(
            "SELECT * FROM neighbourhoods WHERE chunk_id = $chunk ORDER BY model_id, layer", chunk=chunk_id
        )

    def fisher_of(self: _HasFrame, chunk_id: str) -> pd.DataFrame:
        """All of table `fisher` about the chunk, with the fits of the same curves; NULL where a curve was not swept."""
        return self.frame(
            "SELECT f.*, s.steepness, s.amplitude, s.below_floor FROM fisher f LEFT JOIN steepness s USING (curve_id) "
            "WHERE f.chunk_id = $chunk ORDER BY f.model_id, f.layer, f.position, f.kind, f.curve_id",
            chunk=chunk_id,
        )

    def cots_before_after(self: _HasFrame, model_id: str, layer: int) -> list[str]:
        """Ids of the CoTs that were steered before and after their chunks, in order."""
        return self.frame(
            "SELECT DISTINCT k.cot_id FROM before_after b JOIN chunks k USING (chunk_id) WHERE b.model_id = $model AND"
            " b.layer = $layer ORDER BY k.cot_id",
            model=model_id,
            layer=int(layer),
        )["cot_id"].tolist()

    def before_after_of(self: _HasFrame, cot_id: str) -> pd.DataFrame:
        """All of table `before_after` about the CoT's chunks, in reading order, with the kind and seed of the
        direction.
        """
        return self.frame(
            "SELECT k.chunk_index, d.kind, d.seed, b.* FROM before_after b JOIN chunks k USING (chunk_id) "
            "LEFT JOIN directions d USING (direction_id) WHERE k.cot_id = $cot "
            "ORDER BY k.chunk_index, b.model_id, b.layer, b.direction_id, b.side DESC, b.unit, b.beta",
            cot=cot_id,
        )

    # Anchors before and after

    def anchor_choices(self: _HasFrame) -> pd.DataFrame:
        """One row a model and layer at which anchors were steered before and after, with how many."""
        return self.frame(
            "SELECT c.model_id, m.name AS model, c.layer, count(*) FILTER (c.is_anchor) AS n_anchors FROM"
            " counterfactuals c LEFT JOIN models m USING (model_id) GROUP BY ALL ORDER BY m.name, c.model_id, c.layer"
        )

    def steered_anchors(self: _HasFrame, model_id: str, layer: int) -> pd.DataFrame:
        """All of table `counterfactuals` at a layer, by CoT and chunk, with the chunk's index and text."""
        return self.frame(
            "SELECT c.*, k.cot_id, k.chunk_index, left(k.text, 160) AS text, t.problem_id FROM counterfactuals c JOIN"
            " chunks k USING (chunk_id) JOIN cots t USING (cot_id) WHERE c.model_id = $model AND c.layer = $layer ORDER"
            " BY k.cot_id, k.chunk_index",
            model=model_id,
            layer=int(layer),
        )

    def anchor_steering(self: _HasFrame, model_id: str, layer: int) -> pd.DataFrame:
        """All of table `anchor_steering` at a layer, by its key."""
        return self.frame(
            "SELECT * FROM anchor_steering WHERE model_id = $model AND layer = $layer ORDER BY chunk_id, arm, number,"
            " place, beta",
            model=model_id,
            layer=int(layer),
        )

    def anchor_attention(self: _HasFrame, model_id: str, layer: int) -> pd.DataFrame:
        """All of table `anchor_attention` at a layer, by its key."""
        return self.frame(
            "SELECT * FROM anchor_attention WHERE model_id = $model AND layer = $layer ORDER BY chunk_id, side, arm,"
            " number",
            model=model_id,
            layer=int(layer),
        )

    def counterfactual_direction(self: _HasFrame, chunk_id: str, model_id: str, layer: int) -> pd.DataFrame:
        """One row, or none: the unit vector, norm and parameters of the chunk's direction to its counterfactuals."""
        return self.frame(
            "SELECT d.vector, d.norm, d.parameters FROM counterfactuals c JOIN directions d USING (direction_id) WHERE"
            " c.chunk_id = $chunk AND c.model_id = $model AND c.layer = $layer",
            chunk=chunk_id,
            model=model_id,
            layer=int(layer),
        )
