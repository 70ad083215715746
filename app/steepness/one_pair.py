"""One pair: a geometry column against an importance metric, what chance would draw, and the evidence in words and
numbers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import streamlit as st

from app.figures.steepness import CURVE_WORDS, p_value, signed, span, steepness_and_importance
from app.shared import chunk_colours, views
from app.shared.chosen_chunk import ChosenChunk
from app.shared.clicks import go_to_clicked
from app.shared.geometry_columns import BEHIND, known_columns, pick_column, place_in_words
from app.shared.statistics_cache import chance_of, curve_of, evidence_of, selected_slopes_of, stored_evidence
from app.shared.steered_chunk import kl_of_chunk
from app.shared.views import Here
from app.shell import keys, navigation, selection, studies
from app.shell.data_figure import data_figure
from app.shell.data_table import data_table
from app.shell.fields import SWITCH, Field, declare
from app.shell.missing import no_rollouts, say_and_end
from app.shell.more import more
from app.shell.numbers import interval, number
from app.shell.untrusted import one_line, show
from app.shell.vocabulary import column, definition, metric, metric_choice
from app.steepness import fitted_curve, local_geometry
from app.steepness.fitted_curve import CURVE, NO_CURVE
from backend.evidence.association import Association
from backend.evidence.curve_bands import Drawn
from backend.evidence.multiple import shared
from backend.evidence.record import Evidence
from backend.evidence.rule import RULE
from backend.evidence.sample import SUBSETS, sample_of
from backend.evidence.verdict import conditions
from backend.evidence.within import within
from backend.evidence.words import in_words
from backend.statistics.bands import shuffled_within_cots
from backend.store.geometry_columns import NO_LAYER, NONE, may_be_column
from backend.store.geometry_queries import COVARIATES
from backend.store.store import Store

MOSTLY, SPAN = 0.95, 10.0  # of known values above 0, and from their 5th to their 95th percentile: then a log axis
_SCALES = {"linear": "linear", "log": "logarithmic"}
COLUMN = declare(Field("geometry_column", "geometry column", may_be_column))
SCALE = declare(Field("geometry_axis", "scale of the axis", _SCALES, of=None))
INTERVALS = declare(Field("importance_intervals", "switch of the intervals", SWITCH, "no", of=None))
SUBSET_WORDS = {"all": "all chunks", "away_from_origin": "chunks away from the origin"}
COVARIATE_WORDS = {
    "n_tokens": "chunk length",
    "place": "place in the CoT",
    "residual_norm": "activation norm",
    "entropy": "mean entropy",
    "n_rollouts": "rollouts it rests on",
}


@dataclass(frozen=True)
class Chosen:
    """What the page shows. What a geometry column does not have is `none`."""

    x: str
    kind: str
    model: str
    layer: int
    position: str
    unit: str
    metric: str
    convention: str
    source: str
    logarithmic: bool
    intervals: bool
    curve: str

    @property
    def column(self) -> dict[str, Any]:
        """The geometry column by its names in the store."""
        return {
            "x": self.x,
            "kind": self.kind,
            "model_id": self.model,
            "layer": self.layer,
            "position": self.position,
            "unit": self.unit,
        }

    @property
    def pair(self) -> dict[str, Any]:
        return self.column | {"metric": self.metric, "convention": self.convention}


# What is shown


def controls(store: Store) -> Chosen:
    """The pickers. Where nothing is known of geometry or of importance, says what to run and ends the page."""
    choices, metrics = known_columns(store), chunk_colours.importance_options(store)
    if not metrics:
        say_and_end(no_rollouts(store.coverage().iloc[0], store.path, has_tokens=True))
    with views.controls():
        x = selection.pick(
            COLUMN, "Geometry", list(dict.fromkeys(choices["x"])), show=lambda name: column(name).label, width=270
        )
        stream, importance = st.container(width="content"), st.container(width="content")
        door = more(*BEHIND, SCALE, CURVE, INTERVALS)
    where = pick_column(store, choices, x, stream=stream, door=door)
    with importance:
        others = [choice for choice in metrics if choice != f"{x}:{where.kind}"] or metrics
        usual = chunk_colours.usual_choice(others)
        chosen = selection.pick(
            chunk_colours.METRIC, "Importance", others, default=usual, elsewhere=metrics, show=metric_choice, width=390
        )
    name, _, convention = chosen.partition(":")
    source = selection.checked(chunk_colours.TAGS, store.tag_sources()) or ""
    at = (where.kind, where.model_id, int(where.layer), where.position, where.unit)
    linear = Chosen(x, *at, name, convention, source, False, False, NO_CURVE)
    usual = usual_scale(points(store, linear)["x"])
    with door:
        scale = selection.pick(
            SCALE,
            "Horizontal axis",
            default=usual,
            show=_SCALES.__getitem__,
            width=130,
            help=(
                f"Logarithmic at first where at least {MOSTLY:.0%} of the known values are above 0 and span a factor of"
                f" {SPAN:g} or more; those at 0 or below have no place on it and are counted above the figure."
            ),
        )
        curve = selection.pick(CURVE, "Curve", show=lambda name: CURVE_WORDS.get(name, name), width=190)
        intervals = selection.pick_switch(INTERVALS, "95 % CI", help="Draw the bootstrap interval of each importance.")
    return replace(linear, logarithmic=scale == "log", intervals=intervals, curve=curve)


def usual_scale(x: pd.Series) -> str:
    """The axis that the known values allow and ask for."""
    known = x.dropna().astype(float)
    above = known[known > 0]
    if len(above) < 2 or len(above) < MOSTLY * len(known):
        return "linear"
    low, high = above.quantile([0.05, 0.95])
    return "log" if high >= SPAN * low else "linear"


def points(store: Store, chosen: Chosen) -> pd.DataFrame:
    rows = studies.ask(
        store.geometry_and_importance,
        **chosen.column,
        source=chosen.source,
        metric=chosen.metric,
        convention=chosen.convention,
    )
    return rows.assign(number=rows["chunk_index"] + 1)


# On the page


@dataclass(frozen=True)
class Pair:
    """The pair that is looked at: its points, and its evidence on each subset of them."""

    chosen: Chosen
    points: pd.DataFrame
    evidence: Mapping[str, Evidence]
    is_stored: bool
    curves: Mapping[str, Drawn]  # by subset; none where no curve is asked for


def pair(here: Here) -> Pair:
    """The pickers, and the pair by them."""
    chosen = controls(here.store)
    rows = points(here.store, chosen)
    frame = rows.rename(columns={"value": "y"})
    stored = {subset: stored_evidence(here.store, chosen.pair, subset) for subset in SUBSETS}
    found = {subset: kept or _computed(frame, chosen, subset) for subset, kept in stored.items()}
    of_curve = frame[["x", "y", "cot_id", "problem_id"]]
    curves = {subset: curve_of(of_curve, chosen.curve, subset) for subset in SUBSETS if chosen.curve != NO_CURVE}
    return Pair(chosen, rows, found, stored["all"] is not None, curves)


def draw_scatter(here: Here, store: Store) -> None:
    found = here.once(pair)
    _scatter(found, here.chunk.chunk)


def draw_curve(here: Here, store: Store) -> None:
    """What the curve says, and what the selection away from the origin makes of unrelated measures."""
    found = here.once(pair)
    frame = found.points.rename(columns={"value": "y"})[["x", "y", "cot_id", "problem_id"]]
    fitted_curve.draw(found.curves, selected_slopes_of(frame))


def draw_evidence(here: Here, store: Store) -> None:
    found = here.once(pair)
    _evidence(store, found.chosen, found.evidence, is_stored=found.is_stored)


def draw_chunk(here: Here, store: Store) -> None:
    found = here.once(pair)
    chunk(store, here.chunk, found.chosen, found.points)


def _computed(frame: pd.DataFrame, chosen: Chosen, subset: str) -> Evidence:
    covariates = tuple(name for name in COVARIATES if name != chosen.x)
    found = evidence_of(frame[["x", "y", "cot_id", "problem_id", *covariates]], covariates, subset)
    return replace(found, shared=shared(chosen.pair))


def _scatter(shown: Pair, selected: str) -> None:
    rows, chosen, found = shown.points, shown.chosen, shown.evidence["all"]
    name, key = "|".join(map(str, chosen.pair.values())), keys.of("steepness")
    kept = st.session_state.get("shuffled")
    seed = kept[1] if kept and kept[0] == name else None
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.button(
            "Shuffle importance",
            icon=":material/shuffle:",
            key=keys.of("shuffle"),
            on_click=lambda: st.session_state.update(shuffled=(name, (seed or 0) + 1)),
            help="Deal importance anew among the chunks of each CoT: a look at what chance draws.",
        )
        if seed is not None:
            st.button(
                "As measured",
                icon=":material/undo:",
                key=keys.of("unshuffle"),
                on_click=lambda: st.session_state.pop("shuffled", None),
            )
    drawn = rows if seed is None else shuffled_within_cots(rows, seed)
    band = chance_of(rows[["x", "value", "cot_id"]])
    figure = steepness_and_importance(
        drawn,
        column(chosen.x),
        metric(chosen.metric),
        found.rank,
        found.within,
        unit=chosen.unit,
        place=place_in_words(chosen.pair),
        logarithmic=chosen.logarithmic,
        intervals=chosen.intervals,
        selected=selected,
        band=_with_means(band, drawn),
        shuffle=seed,
        curve=shown.curves.get("all") if seed is None else None,
        away=shown.curves.get("away_from_origin") if seed is None else None,
    )
    data_figure(
        figure,
        key=key,
        on_select=lambda: go_to_clicked(key, rows["chunk_id"]),
        selection_mode="points",
        config={"scrollZoom": True},
    )
    if seed is not None:
        both = drawn[drawn["x"].notna() & drawn["value"].notna()]
        dealt = sample_of(both.rename(columns={"value": "y"})[["x", "y", "cot_id", "problem_id"]])
        rho = within(dealt, n_bootstrap=0, n_permutations=0, seed=seed).rho
        st.caption(
            f"Shuffled, seed {seed}: ρ within CoTs = {signed(rho)}. Measured: {signed(found.within.rho)}. Of such"
            f" shuffles 95 % lie in {span(found.within.null_low, found.within.null_high)}."
        )
    if len(band):
        st.caption(
            f"Grey: chunks in {len(band)} equal groups by {column(chosen.x).label}; in 95 % of shuffles of importance"
            " within CoTs the mean of a group falls into the band. Line: where it is."
        )
    explanation(found.rank)


def _with_means(band: pd.DataFrame, drawn: pd.DataFrame) -> pd.DataFrame:
    """The band with the means of the points that are drawn, which may be shuffled."""
    if band.empty:
        return band
    known = drawn[drawn["x"].notna() & drawn["value"].notna()].sort_values("x", kind="stable")
    groups = pd.Series(range(len(band))).repeat(band["n"].to_numpy()).to_numpy()
    return band.assign(mean=known["value"].astype(float).groupby(groups).mean().to_numpy())


def whose(store: Store) -> None:
    """Says so where a model was steered on what another one wrote: then the two axes are of two models."""
    for reader, writer in studies.ask(store.read_by_others).itertuples(index=False):
        show(
            f"Steepness is that of {one_line(reader, 60)}, reading; importance that of {one_line(writer, 60)}, which"
            " wrote the chains."
        )


def explanation(found: Association) -> None:
    """How to read the numbers on the figure."""
    for note in found.notes:
        name, _, rest = note.partition(" ")
        note = f"{COVARIATE_WORDS.get(name, name)} {rest}"
        st.caption(note[:1].upper() + note[1:] + ".")
    st.caption(
        "ρ is a rank correlation; within CoTs it is of what ranks differ from their CoT's mean, so that effects of"
        " problems and CoTs do not count. Chunks of one problem are not independent: its interval resamples whole"
        f" problems ({found.n_bootstrap:,} times); p permutes importance within each CoT ({found.n_permutations:,}"
        f" times, seed {found.seed}). An empty corner is no association: independent heavy tails leave one."
    )


def _evidence(store: Store, chosen: Chosen, by_subset: Mapping[str, Evidence], *, is_stored: bool) -> None:
    """The answer in words, why, and the numbers, on all chunks and away from the origin."""
    whole = by_subset["all"]
    importance = metric_choice(f"{chosen.metric}:{chosen.convention}")
    show(
        in_words(
            whole,
            x_name=column(chosen.x).label,
            y_name=importance,
            where=place_in_words(chosen.pair),
            names=COVARIATE_WORDS,
        )
    )
    whose(store)
    with st.expander("Which conditions of the rule hold"):
        st.caption(RULE)
        for condition in conditions(whole, COVARIATE_WORDS):
            st.text(("✓ " if condition.holds else "✗ ") + condition.words)
    data_table(evidence_table(by_subset), hide_index=True, row_height=28, height="content", key=keys.of("evidence"))
    if not is_stored:
        st.caption("Computed here: this pair is not in the table of all pairs, so its p stands alone and has no q.")
    if whole.fits:
        data_table(fits_table(whole), hide_index=True, row_height=28, height="content", key=keys.of("fits"))
        st.caption(
            "Curves through the same chunks: AIC less the least (lower is better), R² in sample, and CV R² on problems"
            " left out, where a constant has 0 and a curve that predicts worse than the mean is below it."
        )


# The numbers in words


def evidence_table(by_subset: Mapping[str, Evidence]) -> pd.DataFrame:
    """One row a quantity, one column a subset of the chunks; unknown is said to be unknown."""
    columns = {SUBSET_WORDS.get(subset, subset): _quantities(found) for subset, found in by_subset.items()}
    return pd.DataFrame(columns).rename_axis("quantity").reset_index()


def _quantities(found: Evidence) -> dict[str, str]:
    rank, within, parts, slope, mixed = found.rank, found.within, found.zero_inflated, found.theil_sen, found.mixed
    return {
        "chunks · CoTs · problems (unknown)": f"{rank.n} · {rank.n_cots} · {rank.n_problems} ({rank.n_missing})",
        "ρ within CoTs, 95 % over problems": f"{signed(within.rho)} {span(within.low, within.high)}",
        "permuted within CoTs: p, by chance": (
            f"p {_p(rank.p_permutation, rank)}, {span(within.null_low, within.null_high)}"
        ),
        "p over problems": number(within.p_problems),
        "q over all pairs": number(found.q),
        "ρ within CoTs, covariates held fixed": (
            f"{signed(found.partial.rho)}, p {_p(found.partial.p, rank)}, p over problems "
            f"{number(found.partial.p_problems)}, n = {number(found.partial.n)}"
        ),
        "held fixed": (
            ", ".join(COVARIATE_WORDS.get(name, name) for name in found.partial.covariates) or "nothing is known"
        ),
        "would be found (ρ within CoTs: share)": _planted(found),
        "Spearman ρ over all chunks, 95 % over problems": (
            f"{signed(rank.spearman)} {span(rank.ci_low, rank.ci_high)}"
            + (", the other way" if found.runs_the_other_way else "")
        ),
        "Kendall τ-b, 95 %": f"{signed(found.kendall.tau)} {span(found.kendall.low, found.kendall.high)}",
        "importance > 0": (
            f"{parts.n_positive} of {rank.n}" + (f", < 0: {parts.n_negative}" if parts.n_negative else "")
        ),
        "AUC of x for importance > 0": (
            f"{number(parts.auc)} {interval(parts.auc_low, parts.auc_high)}, p {_p(parts.auc_p, rank)}"
        ),
        "ρ where importance > 0": (
            f"{signed(parts.positive_spearman)} {span(parts.positive_low, parts.positive_high)}, "
            f"p {_p(parts.positive_p, rank)}"
        ),
        "Theil–Sen slope, 95 % (chunks as independent)": f"{number(slope.slope)} {interval(slope.low, slope.high)}",
        "mixed model on ranks: slope, 95 %": (
            f"{signed(mixed.slope)} {span(mixed.low, mixed.high)}, p = {number(mixed.p)}"
            + (f" ({one_line(mixed.note, 80)})" if mixed.note else "")
        ),
        "variance between problems": "unknown" if pd.isna(mixed.problem_share) else f"{mixed.problem_share:.0%}",
    }


def _planted(found: Evidence) -> str:
    power = found.power
    shares = ", ".join(f"{signed(rho)}: {share:.0%}" for rho, share in zip(power.rho, power.found, strict=True))
    return shares or f"unknown: {power.note or 'not worked out'}"


def fits_table(found: Evidence) -> pd.DataFrame:
    """The curves fitted, those on the same chunks beside each other; the best by each criterion is marked."""
    rows = []
    for subset in dict.fromkeys(fit.rows for fit in found.fits):
        fits = [fit for fit in found.fits if fit.rows == subset]
        aic, cv = pd.Series([fit.aic for fit in fits], dtype=float), pd.Series([fit.cv_r2 for fit in fits], dtype=float)
        for k, fit in enumerate(fits):
            rows.append(
                {
                    "chunks": (
                        f"{ {'all': 'all', 'positive': 'x > 0 and importance > 0'}.get(subset, subset) }, n = {fit.n}"
                    ),
                    "curve": CURVE_WORDS.get(fit.curve, fit.curve),
                    "AIC − least": _best(fit.aic - aic.min(), aic[k] == aic.min()),
                    "R²": number(fit.r2),
                    "CV R²": _best(fit.cv_r2, cv[k] == cv.max()),
                    "parameters": ", ".join(f"{name} = {number(value)}" for name, value in fit.parameters.items()),
                }
            )
    return pd.DataFrame(rows)


def _best(value: float, wins: bool) -> str:
    return number(value) + (" ← best" if wins else "")


def _p(p: float, rank: Association) -> str:
    return "unknown" if pd.isna(p) else p_value(p, rank.n_permutations)


# The selected chunk


def chunk(store: Store, where: ChosenChunk, chosen: Chosen, rows: pd.DataFrame) -> None:
    """The selected chunk: its text, its two values, its exact geometry, and its KL curves."""
    text = store.chunk_card(where.chunk, chosen.source).iloc[0]
    with st.container(border=True):
        st.markdown(f"## Chunk {text.chunk_index + 1}")
        show(text.text.strip())
        own = rows[rows["chunk_id"] == where.chunk]
        if own.empty:
            st.caption("Nothing of this geometry is known at this chunk. Click a point to choose one.")
        else:
            _values(own.iloc[0], chosen)
        if st.button("Open in the workspace", icon=":material/segment:", width="stretch", key=keys.of("read_chunk")):
            navigation.go_to(navigation.CHAINS)
    if chosen.layer == NO_LAYER:
        return
    local_geometry.of_chunk(
        store, where.chunk, model=chosen.model, layer=chosen.layer, unit=chosen.unit, position=chosen.position
    )
    curves = store.kl_curves_of(where.chunk)
    curves = curves[(curves["model_id"] == chosen.model) & (curves["layer"] == chosen.layer)]
    for name, wanted in (("unit", chosen.unit), ("position", chosen.position)):
        if len(curves):
            curves = curves[curves[name] == (wanted if wanted != NONE else curves[name].min())]
    if len(curves):
        kl_of_chunk(curves)


def _values(row: pd.Series, chosen: Chosen) -> None:
    shown = column(chosen.x)
    with st.container(horizontal=True, gap="medium"):  # one below the other where names do not fit side by side
        st.metric(shown.label, number(row.x), help=f"{shown.axis(chosen.unit)}. {shown.meaning}", width="content")
        words = metric(chosen.metric)
        st.metric(words.short, number(row.value), help=words.meaning, width="content")
    facts = [f"95 % interval of the importance: {interval(row.ci_low, row.ci_high)}"]
    if pd.notna(row.r2):
        facts.append(f"R² of the fit: {number(row.r2)}")
    if pd.notna(row.n_directions):
        facts.append(f"{int(row.n_directions)} direction{'s' if row.n_directions != 1 else ''}")
    if pd.notna(row.below_floor) and row.below_floor:
        facts.append("below the noise floor")
    facts.append(definition(chosen.metric, chosen.convention))
    st.caption(" · ".join(facts))
