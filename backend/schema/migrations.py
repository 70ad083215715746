"""Schema history: one numbered step a change, applied to unit files when they are published.

The step for version v turns rows written under schema v into rows of schema v + 1: a change of `schema.TABLES` raises
SCHEMA_VERSION, and one of columns that a table had adds its step here.

1 → 2: the tables `experiments` and `experiment_samples` came in. 2 → 3: the tables `training_runs` and
`training_metrics` came in. 3 → 4: the tables of dictionaries came in: `dictionaries`, `dictionary_fits`,
`spliced_losses`, `features`, `feature_…` and `cot_codes`. 4 → 5: the tables of exact geometry and evidence came in:
`fisher`, `local_geometry`, `neighbourhoods`, `before_after`, `associations`. 5 → 6: columns came in: see `_SIXTH`.
6 → 7: the tables of reference sets came in: `reference_chunks`, `references_in_use`. 7 → 8: the tables
`capped_answers`, `importance_given`, `added`, `added_rollouts`, `claims`, `random_steps`, `counterfactuals`,
`anchor_steering`, `anchor_attention`, `experiment_thoughts`, `feature_intervention_thoughts`, `firing_ablations`,
`causation_pairs`, `causation_samples`, `causation_effects`, `vectors`, `vector_audits` and `typed_texts` came in.
8 → 9: the tables `lenses`, `lens_layers`, `lens_rows`, `lens_quality`, `jacobian_tokens`, `jacobian_rows`,
`jacobian_convergence` and `answer_readings` came in. 9 → 10: the tables of latent reasoning came in:
`latent_problems`, `latent_models`, `latent_runs`, `latents`, `latent_readings`, `latent_tokens`,
`latent_lens_quality`, `latent_parity`, `latent_near_misses`, `latent_difference_readings`, `latent_components`,
`latent_projections`, `latent_attention`, `latent_steerings`, `latent_steering_cells` and `latent_needs`.
10 → 11: the tables of feature geometry came in: `pullback_parts`,
`pullback_rows`, `pullback_sets`, `pullback_shares`, `pullback_bins` and `pullback_pairs`;
`saes`, `sae_features` and `sae_tails`;
`shapes`, `curve_sets`, `curves`, `curve_points`, `paths`, `path_steps` and `path_outcomes`;
`cosine_sets`, `cosine_tails`, `cosine_exceedances` and `cosine_pairs`;
`parallelograms`, `word_classes`, `word_readings`,
`parallelogram_comparisons`, `parallelogram_examples`, `feature_quadruple_searches` and `feature_quadruples`;
`divergence`. 11 → 12: the tables of influence came in: `influences`, `chunk_influences`, `chunk_attention`,
`head_attention`, `receiver_heads`, `receiver_reliability`, `received_attention`, `resampled_influences` and
`influence_agreement`. 12 → 13: the column `p` came in, of the tables `importance` and `importance_given`.
13 → 14: the columns `n_kept`, `departing_chunk` and `departing_similarity` came in, of `rollouts` and `added_rollouts`.
14 → 15: the tables `null_categories`, `null_peaks` and `twin_ablations` came in, and the column `null_id` of
`feature_intervention_arms`. 15 → 16: the tables `registered` and `kept_columns` came in.
"""

from collections.abc import Callable

import pyarrow as pa

from backend.errors import AnchorscopeError
from backend.root import PRECOMPUTE
from backend.schema.tables import SCHEMA_VERSION, TABLES


def _unknown(rows: pa.Table, table: str, *columns: str) -> pa.Table:
    """`rows` with new columns in which nothing is known, where they are not there yet."""
    for column in set(columns) - set(rows.column_names):
        rows = rows.append_column(column, pa.nulls(rows.num_rows, TABLES[table].arrow.field(column).type))
    return rows


def _prompted(rows: pa.Table) -> pa.Table:
    """CoTs know their prompt by name, and the tag that closes their thought: until version 5 there was one of each."""
    opened = [
        after is not None or (prompt + text).rfind("<think>") > (prompt + text).rfind("</think>")
        for after, prompt, text in zip(
            *(rows[name].to_pylist() for name in ("after_text", "prompt", "text")), strict=True
        )
    ]
    names = pa.array(
        [_ONLY_PROMPT if seed is not None else _IMPORTED for seed in rows["seed"].to_pylist()], pa.string()
    )
    closing = pa.array(["</think>" if one else None for one in opened], pa.string())
    return rows.append_column("prompt_name", names).append_column("think_close", closing)


def _accuracy_prompted(rows: pa.Table) -> pa.Table:
    # Accuracies that a seed study was published with bear our prompt's name too: these rows alone do not tell them
    # apart.
    return rows.append_column("prompt_name", pa.array([_ONLY_PROMPT] * len(rows), pa.string()))


def _unjudged(rows: pa.Table) -> pa.Table:
    """Associations that a rule over all chunks judged: what stands within CoTs, and the verdict on it, is unknown until
    computed.
    """
    kept = rows.drop_columns(["verdict", "partial", "partial_p"])
    return _unknown(
        kept, "associations", *(name for name in TABLES["associations"].arrow.names if name not in kept.column_names)
    )


_ONLY_PROMPT, _IMPORTED = "boxed", "published"

# What version 6 added to the rows of a table; tables that are not named stayed as they were.
_SIXTH: dict[str, Callable[[pa.Table], pa.Table]] = {
    "problems": lambda rows: _unknown(rows, "problems", "difficulty"),
    "cots": _prompted,
    "problem_accuracy": _accuracy_prompted,
    "importance": lambda rows: _unknown(rows, "importance", "written", "reason"),
    "associations": _unjudged,
}


def _sixth(table: str, rows: pa.Table) -> pa.Table:
    return _SIXTH[table](rows) if table in _SIXTH else rows


STEPS: dict[int, Callable[[str, pa.Table], pa.Table]] = {5: _sixth}  # of a version without one, rows stay as they were
# Columns by the version that they came in with, of which nothing is known in rows of before: a store of before is read
# as it is, with NULL in them.
_KEPT = ("n_kept", "departing_chunk", "departing_similarity")
_CAME_IN: dict[int, dict[str, tuple[str, ...]]] = {
    13: {"importance": ("p",), "importance_given": ("p",)},
    14: {"rollouts": _KEPT, "added_rollouts": _KEPT},
    15: {"feature_intervention_arms": ("null_id",)},
}


def later_columns(found: int) -> dict[str, tuple[str, ...]]:
    """By table, the columns of today that rows of schema `found` lack."""
    later: dict[str, tuple[str, ...]] = {}
    for version, tables in sorted(_CAME_IN.items()):
        for table, columns in tables.items() if found < version else ():
            later[table] = later.get(table, ()) + columns
    return later


def later_tables(found: int) -> tuple[str, ...] | None:
    """Tables that a store of schema `found` lacks, and that are empty there; None where it cannot be read as it is,
    because columns changed since.
    """
    if not _FIRST_READ <= found <= SCHEMA_VERSION or any(version in STEPS for version in range(found, SCHEMA_VERSION)):
        return None
    return tuple(name for name, table in TABLES.items() if found < table.since <= SCHEMA_VERSION)


_FIRST_READ = 6  # tables say since when they are there, from the next version on


class WrongSchema(AnchorscopeError):
    """A study of a schema that this version cannot read."""


def refusal(found: int, what: str) -> str:
    """What to do about `what`, written under schema `found`."""
    if found > SCHEMA_VERSION:
        return (
            f"{what} has schema version {found}; this Anchorscope reads up to {SCHEMA_VERSION}. Update Anchorscope to"
            " open it."
        )
    return (
        f"{what} has schema version {found}; this Anchorscope needs {SCHEMA_VERSION}. Run `{PRECOMPUTE} publish"
        " FOLDER` on the study's folder to upgrade it, or export it again from there."
    )


def upgraded(table: str, rows: pa.Table, found: int) -> pa.Table:
    """Rows of `table` written under schema `found`, as rows of today's schema.
    Raises WrongSchema when there is no way."""
    if not 1 <= found <= SCHEMA_VERSION:
        raise WrongSchema(refusal(found, f"a unit file of table {table}"))
    for version in range(found, SCHEMA_VERSION):
        rows = STEPS[version](table, rows) if version in STEPS else rows
    rows = _unknown(rows, table, *later_columns(found).get(table, ()))
    if set(TABLES[table].arrow.names) - set(
        rows.column_names
    ):  # a file of version 6 may be older than one of its columns
        rows = _sixth(table, rows)
    return rows.select(TABLES[table].arrow.names)
