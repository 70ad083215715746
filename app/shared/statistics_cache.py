"""Statistics that take longer than a rerun may, computed once for each generation and choice.

The same rows have the same answer.
"""

from dataclasses import dataclass
from typing import Any

import pandas as pd
import streamlit as st

from backend.evidence.agreement import rank_agreement
from backend.evidence.curve_bands import Drawn, curve_through
from backend.evidence.multiple import judged
from backend.evidence.pairs import evidence
from backend.evidence.power import N_PLANTED
from backend.evidence.record import Evidence
from backend.evidence.rows import evidence_of as evidence_of_row
from backend.evidence.selection import Selected, slopes_by_selection
from backend.findings.steering import Moved, of_study
from backend.importance import commitment
from backend.importance.by_prompt import CONTRAST_COLUMNS, contrasts
from backend.importance.causation import Tested, compared
from backend.importance.convergence import convergence
from backend.influence import over_study as influence
from backend.latent import outcomes
from backend.latent.map_kinds import RANDOM
from backend.latent.published import Arm
from backend.statistics.bands import chance_band
from backend.statistics.curves import mean_curves, quartiles, ratios_to
from backend.store.experiments import Experiments
from backend.store.store import Store

_SEED = 0
_KEY = ("x", "kind", "model_id", "layer", "position", "unit", "metric", "convention", "subset")


@st.cache_data(max_entries=128, show_spinner=False)
def chance_of(frame: pd.DataFrame) -> pd.DataFrame:
    """`frame` has `x`, `value`, `cot_id`."""
    return chance_band(frame, seed=_SEED)


@st.cache_data(max_entries=128, show_spinner="Computing the evidence for this pair …")
def evidence_of(frame: pd.DataFrame, covariates: tuple[str, ...], subset: str) -> Evidence:
    """`frame` has `x`, `y`, `cot_id`, `problem_id` and the covariates."""
    return evidence(frame, seed=_SEED, covariates=covariates, subset=subset, n_planted=N_PLANTED)


@st.cache_data(max_entries=128, show_spinner="Fitting the curve …")
def curve_of(frame: pd.DataFrame, curve: str, subset: str) -> Drawn:
    """`frame` has `x`, `y`, `cot_id`, `problem_id`."""
    return curve_through(frame, curve, subset=subset, seed=_SEED)


@st.cache_data(max_entries=128, show_spinner="Dealing importance anew …")
def selected_slopes_of(frame: pd.DataFrame) -> Selected:
    """Likewise."""
    return slopes_by_selection(frame, seed=_SEED)


def stored_evidence(store: Store, pair: dict[str, Any], subset: str) -> Evidence | None:
    """The pair's evidence as the table `associations` has it, q included; None where it does not, or a rule of before
    judged it."""
    rows = _stored(store, str(store.generation), store.published_at)
    row = rows.get(tuple((pair | {"subset": subset})[name] for name in _KEY))
    return None if row is None or pd.isna(row["verdict"]) else evidence_of_row(row)


def pairs_of(store: Store) -> pd.DataFrame:
    """Every pair in `associations`, largest |rho within CoTs| first, without its details."""
    return _pairs(store, str(store.generation), store.published_at)


@st.cache_data(max_entries=8, show_spinner="Comparing prompts and models …")
def prompt_contrasts(chains: pd.DataFrame) -> pd.DataFrame:
    """`chains` are rows of `Queries.verdicts`."""
    return pd.DataFrame(contrasts(chains, seed=_SEED), columns=CONTRAST_COLUMNS)


@st.cache_data(max_entries=64, show_spinner="Testing the pairs …")
def causation_of(effects: pd.DataFrame, quantity: str) -> dict[str, Tested]:
    """`effects` are rows of `CausationQueries.causation_effects`, of one quantity and convention."""
    return compared(effects, quantity, seed=_SEED)


def steered_runs_of(store: Store) -> list[Moved]:
    """Every steered run with how far it moved the answer, and its q over all of them."""
    kept = Experiments(store.path).folder.manifest_bytes()
    return _steered_runs(store, str(store.generation), store.published_at, kept)


@st.cache_data(max_entries=8, show_spinner="Comparing the answers of steered runs …")
def _steered_runs(_store: Store, generation: str, published_at: str, kept: int) -> list[Moved]:
    return of_study(_store)


@st.cache_data(max_entries=64, show_spinner="Computing rank correlations …")
def agreement_of(frame: pd.DataFrame) -> pd.DataFrame:
    return rank_agreement(frame, seed=_SEED)


@st.cache_data(max_entries=64, show_spinner="Drawing rollouts anew …")
def convergence_of(
    rollouts: pd.DataFrame,
    chunk_ids: tuple[str, ...],
    chunk: str,
    metric: str,
    convention: str,
    sizes: tuple[int, ...],
    n_outcomes: int = 0,
) -> pd.DataFrame:
    return convergence(rollouts, chunk_ids, chunk, metric, convention, sizes=sizes, n_outcomes=n_outcomes, seed=_SEED)


@st.cache_resource(max_entries=4, show_spinner="Reading all pairs …")
def _stored(_store: Store, generation: str, published_at: str) -> dict[tuple[Any, ...], dict[str, Any]]:
    return {tuple(row[name] for name in _KEY): row for row in judged(_store.associations()).to_dict("records")}


@st.cache_data(max_entries=4, show_spinner=False)
def _pairs(_store: Store, generation: str, published_at: str) -> pd.DataFrame:
    return pd.DataFrame(_stored(_store, generation, published_at).values()).drop(columns="details", errors="ignore")


def influence_of_chunks(store: Store, way: str, part: str, quantity: str, tags: str) -> pd.DataFrame:
    """What each chunk of the study does by a way under a part, with what its place gives and its category."""
    return _influence_chunks(store, str(store.generation), store.published_at, way, part, quantity, tags)


@st.cache_data(max_entries=24, show_spinner=False)
def _influence_chunks(
    _store: Store, generation: str, published_at: str, way: str, part: str, quantity: str, tags: str
) -> pd.DataFrame:
    if quantity == influence.OUT:
        chunks = influence.chunk_means(_store.influence_by_source(way, part))
    else:
        chunks = influence.chunk_values(_store.chunk_influences_everywhere(part), quantity)
    return chunks.assign(category=chunks["chunk_id"].map(_store.first_tags(tags)))


@st.cache_data(max_entries=24, show_spinner="Dealing influences anew …")
def influence_by_category(chunks: pd.DataFrame) -> pd.DataFrame:
    """`chunks` are those of `influence_of_chunks`."""
    return influence.by_category(chunks, seed=_SEED)


@st.cache_data(max_entries=24, show_spinner=False)
def influence_differences(chunks: pd.DataFrame, base: str, distilled: str) -> pd.DataFrame:
    """Likewise."""
    return influence.differences(chunks, base, distilled, seed=_SEED)


@st.cache_data(max_entries=24, show_spinner=False)
def influence_by_distance(by_source: pd.DataFrame) -> pd.DataFrame:
    """`by_source` are rows of `Queries.influence_by_source`."""
    return influence.by_distance(by_source, seed=_SEED)


def commitment_of(store: Store, counted: str, scale: str, lens: str | None, layer: int | None) -> pd.DataFrame:
    """`commitments` of every chain with rollouts, with the lens at `layer`."""
    return _commitments(store, str(store.generation), store.published_at, (counted, scale), (lens, layer))


@st.cache_data(max_entries=12, show_spinner="Looking for the change in every chain …")
def _commitments(
    _store: Store, generation: str, published_at: str, how: tuple[str, str], lens: tuple[str | None, int | None]
) -> pd.DataFrame:
    readings = commitment.under(_store.answer_readings(), *lens)
    return commitment.commitments(_store.own_answers(), _store.outcomes_along(), readings, *how)


@st.cache_data(max_entries=12, show_spinner="Comparing the commitments …")
def commitments_compared(rows: pd.DataFrame) -> list[commitment.Compared]:
    """`rows` are those of `commitment_of`."""
    return list(commitment.all_compared(rows, seed=_SEED))


@dataclass(frozen=True)
class Curves:
    """KL(β) at one layer: `by_chunk` of `mean_curves`, and what `quartiles` says of it."""

    by_chunk: pd.DataFrame
    over_chunks: pd.DataFrame


def curves_at(store: Store, model: str, layer: int, unit: str) -> Curves:
    return _curves(store, str(store.generation), store.published_at, model, layer, unit)


@st.cache_resource(max_entries=6, show_spinner="Reading all curves …")
def _curves(_store: Store, generation: str, published_at: str, model: str, layer: int, unit: str) -> Curves:
    found = mean_curves(_store.kl_curves_at(model, layer, unit))
    return Curves(found, quartiles(found))


def ratios_at(store: Store, place: tuple[str, int, str], position: str, reference: str) -> pd.DataFrame:
    """`ratios_to` the reference kind, of the curves at `place` (model, layer, unit) that were steered at `position`."""
    return _ratios(store, str(store.generation), store.published_at, place, position, reference)


@st.cache_data(max_entries=24, show_spinner="Comparing kinds of direction …")
def _ratios(
    _store: Store, generation: str, published_at: str, place: tuple[str, int, str], position: str, reference: str
) -> pd.DataFrame:
    curves = curves_at(_store, *place).by_chunk
    return ratios_to(curves[curves["position"] == position], reference, seed=_SEED)


def steered_map(store: Store, steering_id: str) -> outcomes.Map:
    """A stored map of steered latents, and which of its answers are right."""
    return _steered(store, str(store.generation), store.published_at, steering_id)


@st.cache_resource(max_entries=64, show_spinner="Reading steered latents …")
def _steered(_store: Store, generation: str, published_at: str, steering_id: str) -> outcomes.Map:
    facts = _store.latent_steering(steering_id).iloc[0].to_dict()
    return outcomes.read_map(facts, _store.latent_steering_cells(steering_id))


def steered_cells(own: outcomes.Map, arm: Arm, *, early: bool) -> pd.DataFrame:
    """Every pair and target of a map under an arm."""
    return _steered_cells(own, str(own.facts["steering_id"]), _said(arm), early)


@st.cache_data(max_entries=128, show_spinner=False)
def _steered_cells(_own: outcomes.Map, steering_id: str, said: tuple[str, ...], early: bool) -> pd.DataFrame:
    arm = Arm(said[0], frozenset(said[1:]))
    return outcomes.cell_table(
        outcomes.seen(_own, arm, early=early), outcomes.seen(_own, arm, early=early, kind=RANDOM)
    )


def steered_against_random(own: outcomes.Map, arm: Arm, *, early: bool) -> outcomes.AgainstRandom:
    """The whole map beside its random vectors."""
    return _against_random(own, str(own.facts["steering_id"]), _said(arm), early)


@st.cache_data(max_entries=256, show_spinner="Dealing vectors anew …")
def _against_random(_own: outcomes.Map, steering_id: str, said: tuple[str, ...], early: bool) -> outcomes.AgainstRandom:
    arm = Arm(said[0], frozenset(said[1:]))
    return outcomes.against_random(
        outcomes.seen(_own, arm, early=early), outcomes.seen(_own, arm, early=early, kind=RANDOM), seed=_SEED
    )


def _said(arm: Arm) -> tuple[str, ...]:
    return (arm.space, *sorted(arm.defects))
