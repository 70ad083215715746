"""Every geometry column, one entry each: where it is stored, its words, and the stage that has to have run.

A geometry column is a number of a chunk that can be set against importance: a column of a table, or any SQL over one
row of it, so that a new one can be had from what is stored. docs/extending/add-a-geometry-column.md adds one step by
step.
"""

from dataclasses import dataclass
from typing import Any

from backend.errors import AnchorscopeError
from backend.registry import Registry
from backend.store.registered import NAME as REGISTERED
from backend.store.registered import meaning_of, words_of

NO_LAYER = -1
NONE = "none"
NAME = ("kind", "model_id", "layer", "position", "unit")


class ColumnError(AnchorscopeError):
    """A geometry column that there is not."""


@dataclass(frozen=True)
class Source:
    """A table whose rows are of a chunk, and what else they are of; what does not apply is `none`."""

    table: str
    stage: str  # that fills it
    key: str  # its rows in order, for a digest of them
    kind: str = f"'{NONE}'"  # SQL of the direction's kind, or of an importance's convention
    layer: str = "layer"
    position: str = f"'{NONE}'"
    unit: str = f"'{NONE}'"
    joined: str = ""  # with the tables that say the rest
    read: str = ""  # SQL that is read in the table's stead, where another one has some of its rows
    is_directed: bool = False  # a row a direction: a chunk has the mean over its kind's
    rests: str = "model_id = $model AND layer = $layer"  # SQL: the rows that pairs of a model and layer rest on


SWEPT = Source("steepness", "sweep", "curve_id", "kind", position="position", unit="unit", is_directed=True)
EXACT = Source("fisher", "geometry", "curve_id", "kind", position="position", unit="unit", is_directed=True)
LOCAL = Source("local_geometry", "geometry", "position, unit, chunk_id", position="position", unit="unit")
# At every chunk where the stage has run, and else at the few where the exact geometry took such steps.
RANDOM_STEPS = """
    SELECT chunk_id, model_id, layer, position, unit, epsilons, random_kl, random_cv, kl_at_1, n_random, n_below_floor,
        anisotropy_ratio, noise_floor, list_max(kl_at_1) / list_min(kl_at_1) AS ratio_as_published FROM random_steps
    UNION ALL
    SELECT chunk_id, model_id, layer, position, unit, epsilons, random_kl, random_cv, NULL, n_random, n_below_floor,
        anisotropy_ratio, noise_floor, anisotropy_ratio FROM local_geometry
    WHERE (chunk_id, model_id, layer, position, unit) NOT IN
        (SELECT chunk_id, model_id, layer, position, unit FROM random_steps)
"""
STEPS = Source(
    "random_steps",
    "random_steps",
    "position, unit, chunk_id",
    position="position",
    unit="unit",
    read=f"({RANDOM_STEPS})",
)
CLOUDS = Source("neighbourhoods", "neighbourhoods", "chunk_id")
PATHS = Source("path_steps", "paths", "chunk_id")
ACTIVATIONS = Source("activations", "activations", "chunk_id")
IMPORTANCE = Source(
    "importance",
    "importance",
    "chunk_id, metric, convention",
    "convention",
    layer=str(NO_LAYER),
    joined=" JOIN chunks USING (chunk_id) JOIN cots USING (cot_id)",
    rests="true",  # every pair has an importance
)
# Of each CoT as the model that wrote it reads it; of one whose writer reads nothing, as whoever reads it.
OWN_INFLUENCES = """
    SELECT i.* FROM chunk_influences i JOIN chunks USING (chunk_id) JOIN cots c USING (cot_id)
    WHERE suppressed = 'all'
        AND (c.model_id = i.model_id OR c.model_id NOT IN (SELECT model_id FROM chunk_influences))
"""
INFLUENCE = Source(
    "chunk_influences",
    "influence",
    "chunk_id",
    layer=str(NO_LAYER),
    read=f"({OWN_INFLUENCES})",
    rests=f"model_id = $model AND $layer = {NO_LAYER} AND suppressed = 'all'",
)


# Values of columns that are not Anchorscope's own, as they were when they were computed or handed over.
KEPT = Source("kept_columns", "keep", ", ".join(("x", *NAME, "chunk_id")), "kind", position="position", unit="unit")


@dataclass(frozen=True)
class GeometryColumn:
    name: str  # as it is stored in `associations`
    label: str
    unit: str  # as on an axis; a β in it is said with its own unit
    meaning: str  # formula or source, in a sentence
    source: Source
    value: str  # SQL over one row of the source
    r2: str = "NULL::DOUBLE"  # SQL: of the fit that it comes from
    below_floor: str = "NULL::BOOLEAN"  # SQL: the curve lies at or below the noise floor
    where: str = "true"  # SQL: which rows
    se: str = "NULL::DOUBLE"  # SQL: standard error of the value
    n: str = "NULL::BIGINT"  # SQL: how many `counted` it rests on; of a source with directions, those that are known
    counted: str = ""
    is_steepness: bool = False  # the Steepness page's question is about it
    rule: int = 1  # raise it when the value changes: pairs are tested anew. 0: as before columns had rules

    def __post_init__(self) -> None:
        if not str(self.name).isidentifier():
            raise ColumnError(f"A geometry column is called {self.name!r}; letters, digits and _ were expected.")

    def sql(self) -> str:
        """chunk_id, the rest of its NAME, x, r2, n_directions, below_floor, se, n."""
        of = self.source
        named = f"{of.kind} AS kind, model_id, {of.layer} AS layer, {of.position} AS position, {of.unit} AS unit"
        rows = f"FROM {of.read or of.table}{of.joined} WHERE {self.where}"
        if not of.is_directed:
            return (
                f"SELECT chunk_id, {named}, {self.value} AS x, {self.r2} AS r2, NULL::BIGINT AS n_directions,"
                f" {self.below_floor} AS below_floor, {self.se} AS se, {self.n} AS n {rows}"
            )
        return (
            f"SELECT chunk_id, {named}, avg({self.value}) AS x, avg({self.r2}) AS r2, count({self.value}) AS"
            f" n_directions, bool_and({self.below_floor}) AS below_floor, NULL::DOUBLE AS se, count({self.value}) AS n"
            f" {rows} GROUP BY chunk_id, {', '.join(NAME)}"
        )


COLUMNS: Registry[GeometryColumn] = Registry("geometry column", error=ColumnError)
register = COLUMNS.register


def column_named(name: str) -> GeometryColumn:
    """The registry's entry, or the one that reads the values which a study keeps of a column without code here.

    Raises ColumnError for a name that no column could have.
    """
    if name in COLUMNS or not REGISTERED.fullmatch(name):
        return COLUMNS[name]
    said = words_of("column", name)
    return GeometryColumn(
        name,
        said.label if said else name,
        said.unit if said else "value",
        meaning_of("column", name),
        KEPT,
        "value",
        where=f"x = '{name}'",
        se="se",
        n="n",
        counted="things",
    )


def may_be_column(name: str) -> bool:
    """Whether it is a geometry column, or could be one that a study keeps."""
    return name in COLUMNS or REGISTERED.fullmatch(name) is not None


def columns_of(*sources: Source) -> tuple[str, ...]:
    return tuple(column.name for column in COLUMNS.values() if column.source in sources)


def rules() -> dict[str, dict[str, int]]:
    """What the evidence adds to its units' inputs for columns that came, or changed, since columns have rules; often
    nothing.
    """
    found = {column.name: column.rule for column in COLUMNS.values() if column.rule}
    return {"columns": found} if found else {}


_PER_BETA = "nats per β²"


def _shipped(name: str, label: str, unit: str, meaning: str, source: Source, value: str = "", **how: Any) -> None:
    register(GeometryColumn(name, label, unit, meaning, source, value or name, rule=0, **how))


_shipped(
    "steepness",
    "Swept steepness |a|",
    _PER_BETA,
    "|a| of the quadratic fitted through KL(β); mean over the kind's directions.",
    SWEPT,
    r2="r2",
    below_floor="below_floor",
    is_steepness=True,
)
_shipped(
    "amplitude",
    "Swept pure square",
    _PER_BETA,
    "Coefficient of a·β² alone fitted through KL(β).",
    SWEPT,
    r2="amplitude_r2",
    below_floor="below_floor",
    is_steepness=True,
)
_shipped(
    "fisher_steepness",
    "Fisher steepness ½·vᵀGv",
    _PER_BETA,
    "Exact limit of KL(β)/β² as β → 0: no sweep and no fit.",
    EXACT,
    is_steepness=True,
)
_shipped(
    "isotropic_steepness",
    "Isotropic steepness tr(G)/2d",
    _PER_BETA,
    "Mean of ½·vᵀGv over directions, by Hutchinson's estimator.",
    LOCAL,
    is_steepness=True,
    se="isotropic_se",
    n="n_probes",
    counted="probes",
)
_shipped(
    "on_manifold_steepness",
    "On-manifold steepness",
    _PER_BETA,
    "Mean of ½·vᵀGv along the leading tangents of the nearest chunks.",
    LOCAL,
    n="n_tangents",
    counted="tangents",
)
_shipped(
    "off_manifold_steepness",
    "Off-manifold steepness",
    _PER_BETA,
    "The same along random directions orthogonal to those tangents.",
    LOCAL,
    n="n_tangents",
    counted="tangents",
)
_shipped(
    "participation_ratio",
    "Participation ratio of G",
    "directions",
    "(Σλ)²/Σλ²: how many directions share the sensitivity.",
    LOCAL,
    se="participation_se",
    n="n_probes",
    counted="probes",
)
_shipped(
    "anisotropy_ratio",
    "Anisotropy ratio",
    "largest / smallest KL",
    "Of the random directions, at magnitude 1.",
    STEPS,
    n="n_random",
    counted="random directions",
)
_shipped(
    "random_cv",
    "Variation over random directions",
    "SD / mean of KL",
    "Coefficient of variation of their KL at magnitude 1.",
    STEPS,
    "random_cv[list_position(epsilons, 1.0)]",
    n="n_random",
    counted="random directions",
)
_shipped(
    "dimension_twonn",
    "Intrinsic dimension (TwoNN)",
    "dimensions",
    "Of the nearest chunk activations, by TwoNN.",
    CLOUDS,
    n="k",
    counted="nearest chunks",
)
_shipped(
    "dimension_mle",
    "Intrinsic dimension (MLE)",
    "dimensions",
    "Of the nearest chunk activations, by maximum likelihood.",
    CLOUDS,
    n="k",
    counted="nearest chunks",
)
_shipped(
    "curvature",
    "Curvature",
    "radians",
    "Mean principal angle between the chunk's tangent space and its neighbours'.",
    CLOUDS,
    n="k",
    counted="nearest chunks",
)
_shipped(
    "density",
    "Density",
    "log 1 / distance",
    "Log of 1 / distance to the k-th nearest chunk, distances in units of their median.",
    CLOUDS,
    n="k",
    counted="nearest chunks",
)
_shipped(
    "residual_norm",
    "Norm of the activation",
    "norm",
    "Norm of the chunk's mean residual stream.",
    CLOUDS,
)
# Rule 0: their table is empty in a study without [paths], whose pairs and keys stay what they were; where it is filled,
# the digest of its rows is in the key.
_shipped(
    "step_length",
    "Step into the chunk",
    "distance",
    "Distance of the chunk's mean residual stream from that of the chunk before it.",
    PATHS,
)
_shipped(
    "step_progress",
    "Progress of the step",
    "part of the way",
    "Projection of the step into the chunk on the way from the first to the last chunk, over its length; sums to 1.",
    PATHS,
)
_shipped(
    "turning_angle",
    "Turning angle",
    "radians",
    "Between the step into the chunk and the step out of it: curvature of the CoT's path. 0 is straight on.",
    PATHS,
)
_shipped(
    "different_trajectories_fraction",
    "Different trajectories",
    "share of rollouts",
    "Share of rollouts whose first sentence says something else (cosine below 0.8).",
    IMPORTANCE,
    "value",
    where="metric = 'different_trajectories_fraction'",
)
# Likewise, of [influence].
_shipped(
    "out_influence",
    "Influence on later chunks",
    "nats",
    "Mean KL over the later chunks when attention to this chunk is suppressed everywhere.",
    INFLUENCE,
)
_shipped(
    "in_influence",
    "Influence of earlier chunks",
    "nats",
    "Mean over the earlier chunks of what suppressing attention to each does to this one.",
    INFLUENCE,
)
_shipped(
    "last_reader",
    "Reach of the influence",
    "chunks",
    "How far back the last chunk lies that it moves by at least the CoT's median pair; 0 where it moves none as far.",
    INFLUENCE,
)
SHIPPED = frozenset(COLUMNS)  # what comes later, somebody registered
