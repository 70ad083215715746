"""Local geometry on the page: what is exact about the selected chunk,
and the ways to measure steepness side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import streamlit as st

from app.figures.geometry import (
    KLS,
    before_and_after,
    eigenvalues,
    isotropic_against_random,
    on_and_off_manifold,
    swept_against_fisher,
)
from app.shared.chosen_chunk import CHUNK, COT, PROBLEM
from app.shared.clicks import go_to_clicked
from app.shared.geometry_columns import DIRECTION, known_columns, pick_column
from app.shared.views import Here
from app.shell import keys, selection, studies
from app.shell.data_figure import data_figure
from app.shell.data_table import data_table
from app.shell.fields import Field, declare
from app.shell.missing import Missing, PageEnds, say, undone
from app.shell.more import more
from app.shell.numbers import number
from app.shell.untrusted import show
from app.shell.vocabulary import direction_order, direction_words, studied_words, unit_words
from app.steepness.course_words import course_in_words
from backend.geometry.before_after import along_the_cot
from backend.statistics.course import Course
from backend.store.geometry_columns import EXACT, LOCAL, NONE, columns_of
from backend.store.store import Store

SIZE = declare(Field("before_after_beta", "β before and after", None))
REST = declare(Field("before_after_on", "tokens of the KL before and after", ("rest", "answer")))
_DRAWN = ("steepness", "amplitude", "fisher_steepness")  # side by side


def not_computed(store: Store) -> Missing:
    """What to do where a study has no exact geometry."""
    return undone(store.path, "geometry")


# One chunk


def of_chunk(store: Store, chunk: str, *, model: str, layer: int, unit: str, position: str) -> None:
    """What is exact about the chunk at a layer; nothing where nothing is known.

    A unit or position of `none` means whichever is there.
    """
    asked = store.local_geometry_of, store.neighbourhood_of, store.fisher_of, store.random_steps_of
    exact, clouds, fisher, steps = (
        rows[(rows["model_id"] == model) & (rows["layer"] == layer)] for rows in (ask(chunk) for ask in asked)
    )
    for name, wanted in (("unit", unit), ("position", position)):
        exact, fisher, steps = (
            rows[rows[name] == (rows[name].min() if wanted == NONE else wanted)] for rows in (exact, fisher, steps)
        )
    if exact.empty and clouds.empty and fisher.empty and steps.empty:
        return
    st.markdown("**Exact geometry here**")
    if len(fisher):
        data_table(directions_table(fisher), hide_index=True, row_height=28, height="content", key=keys.of("fisher"))
    rows = quantities(*(rows.iloc[0] if len(rows) else None for rows in (exact, clouds, steps)))
    data_table(rows, hide_index=True, row_height=28, height="content", key=keys.of("exact"))
    if len(exact) and pd.api.types.is_list_like(exact["eigenvalues"].iloc[0]):
        row = exact.iloc[0]
        data_figure(
            eigenvalues(row.eigenvalues, unit=row.unit), key=keys.of("eigenvalues"), config={"displayModeBar": False}
        )
        if pd.notna(row.eigen_residual):
            st.caption(
                "Half the leading eigenvalues of G: the steepness along their eigenvectors; largest ‖Gv − λv‖ / λ₁ is "
                f"{number(row.eigen_residual)}."
            )


def directions_table(fisher: pd.DataFrame) -> pd.DataFrame:
    """Fisher against swept for each kind of direction, in nats per β²; a mean where a kind has several directions."""
    order = direction_order(fisher["kind"])
    both = fisher.dropna(subset=["fisher_steepness"])
    means = fisher.groupby("kind")[list(_DRAWN)].mean().reindex(order)
    swept = both.dropna(subset=["steepness"]).groupby("kind")[list(_DRAWN)].mean().reindex(order)
    return pd.DataFrame(
        {
            "direction": [studied_words(kind) for kind in order],
            "n": [
                f"{n} ({k} swept)" if n != k else str(n)
                for n, k in (
                    (int(own["fisher_steepness"].notna().sum()), int(own["steepness"].notna().sum()))
                    for own in (fisher[fisher["kind"] == kind] for kind in order)
                )
            ],
            "Fisher ½·vᵀGv": [number(value) for value in means["fisher_steepness"]],
            "swept |a|": [number(value) for value in means["steepness"]],
            "pure square": [number(value) for value in means["amplitude"]],
            "|a| / Fisher": [
                number(ratio)
                for ratio in swept["steepness"] / swept["fisher_steepness"].where(swept["fisher_steepness"] > 0)
            ],
        }
    )


def quantities(exact: pd.Series | None, cloud: pd.Series | None, steps: pd.Series | None) -> pd.DataFrame:
    """What is known of the chunk without a direction, in words; `exact` is a row of local_geometry, `cloud` one of
    neighbourhoods, `steps` one of `Store.random_steps_of`.
    """
    rows = {}
    if exact is not None:
        per_beta = f"nats per β², β in {unit_words(exact.unit)}"
        rows["isotropic steepness tr(G)/2d"] = (
            f"{_with_error(exact.isotropic_steepness, exact.isotropic_se)} {per_beta}"
        )
        rows["participation ratio of G"] = _with_error(exact.participation_ratio, exact.participation_se)
        rows["on / off manifold"] = (
            f"{number(exact.on_manifold_steepness)} / {number(exact.off_manifold_steepness)} {per_beta}"
        )
    if steps is not None:
        rows["anisotropy ratio at magnitude 1"] = (
            f"{number(steps.anisotropy_ratio)} ({steps.n_random:.0f} random directions,"
            f" {steps.n_below_floor:.0f} at or below the noise floor)"
        )
    if cloud is not None:
        rows["intrinsic dimension, TwoNN / MLE"] = f"{number(cloud.dimension_twonn)} / {number(cloud.dimension_mle)}"
        rows["curvature"] = f"{number(cloud.curvature)} rad"
        rows["density, log 1 / distance"] = f"{number(cloud.density)} (k = {cloud.k} of {cloud.n} chunks)"
    return pd.DataFrame({"quantity": list(rows), "value": list(rows.values())})


def _with_error(value: float, error: float) -> str:
    return number(value) if pd.isna(value) or pd.isna(error) else f"{number(value)} ± {error:.2g}"


# Side by side


@dataclass(frozen=True)
class MeasuredAt:
    """Where steepness is measured in several ways: a stream, a position and a unit of β, and the directions' kind."""

    kind: str
    model: str
    layer: int
    position: str
    unit: str

    @property
    def named(self) -> dict[str, Any]:
        """By its names in the store."""
        return {"model_id": self.model, "layer": self.layer, "position": self.position, "unit": self.unit}

    def of(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The rows of its stream."""
        return rows[(rows["model_id"] == self.model) & (rows["layer"] == self.layer)]


def measured_at(here: Here) -> MeasuredAt:
    """Its pickers. Ends the page where no chunk was steered."""
    choices = known_columns(here.store)
    if not set(columns_of(EXACT, LOCAL)) & set(choices["x"]):
        say(not_computed(here.store))
    directed = choices[choices["x"].isin(_DRAWN)]
    if directed.empty:
        raise PageEnds
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        exact = (
            directed["x"] == "fisher_steepness"
        )  # where there is any, a place without it has nothing to set side by side
        row = pick_column(
            here.store, directed.assign(x=(exact | ~exact.any()).map({True: "here", False: "elsewhere"})), "here"
        )
    return MeasuredAt(row.kind, row.model_id, int(row.layer), row.position, row.unit)


def draw_swept(here: Here, store: Store) -> None:
    """The sweep against its exact limit."""
    at = here.once(measured_at)
    curves = swept_and_fisher(store, at.named, at.kind)
    _chart(swept_against_fisher(curves, unit=at.unit, selected=here.chunk.chunk), keys.of("swept_fisher"), curves)
    several = curves["n_directions"].max() > 1 if len(curves) else False
    st.caption(
        ("Each mark is a chunk: mean over its directions of this kind. " if several else "Each mark is a chunk. ")
        + "|a| is fitted over all β and bends with what is not quadratic; Fisher is the limit at β = 0."
    )


def draw_isotropic(here: Here, store: Store) -> None:
    """Random directions against the exact mean over all of them."""
    at = here.once(measured_at)
    random = isotropic_and_random(store, at.named, _everywhere(store, at))
    figure = isotropic_against_random(random, unit=at.unit, selected=here.chunk.chunk)
    _chart(figure, keys.of("isotropic_random"), random)
    st.caption("tr(G)/2d is the mean of ½·vᵀGv over all directions; bars: ± one standard error of its estimate.")


def draw_manifold(here: Here, store: Store) -> None:
    """Steepness along the manifold against off it."""
    at = here.once(measured_at)
    rows = _everywhere(store, at)
    _chart(on_and_off_manifold(rows, unit=at.unit, selected=here.chunk.chunk), keys.of("manifold"), rows)
    st.caption(
        "Tangents: leading principal components of the nearest chunk activations. Off: random directions orthogonal"
        " to them."
    )


def _everywhere(store: Store, at: MeasuredAt) -> pd.DataFrame:
    return studies.ask(store.local_geometry_at, **at.named)


def swept_and_fisher(store: Store, where: Mapping[str, Any], kind: str) -> pd.DataFrame:
    """One row a chunk: Fisher steepness, |a| and pure square (means over the kind's directions), NULL where unknown."""
    columns = {name: _values(store, name, kind, where) for name in _DRAWN}
    rows = columns["steepness"] if len(columns["steepness"]) else columns["fisher_steepness"]
    found = rows[["chunk_id", "number", "text", "below_floor", "n_directions"]]
    for name, values in columns.items():
        found = found.merge(values[["chunk_id", "x"]].rename(columns={"x": name}), on="chunk_id", how="left")
    return found


def isotropic_and_random(store: Store, where: Mapping[str, Any], everywhere: pd.DataFrame) -> pd.DataFrame:
    """One row a chunk: tr(G)/2d with its error, and the mean |a| of the swept random directions."""
    swept = _values(store, "steepness", "random", where)[["chunk_id", "x", "n_directions"]].rename(
        columns={"x": "steepness"}
    )
    return everywhere.merge(swept, on="chunk_id", how="inner")


def _values(store: Store, x: str, kind: str, where: Mapping[str, Any]) -> pd.DataFrame:
    rows = studies.ask(store.geometry_and_importance, x=x, kind=kind, source="", metric="", convention="", **where)
    return rows.assign(number=rows["chunk_index"] + 1)


def _chart(figure: object, key: str, rows: pd.DataFrame) -> None:
    data_figure(
        figure,
        key=key,
        on_select=lambda: go_to_clicked(key, rows["chunk_id"]),
        selection_mode="points",
        config={"scrollZoom": True},
    )


def _offer(ids: Sequence[str], key: str, label: str, field: Field) -> None:
    """A button to the first of the chunks or CoTs that have what the selected one has not."""
    if len(ids) and st.button(label, icon=":material/arrow_forward:", key=key):
        selection.choose({PROBLEM: None, COT: None, CHUNK: None} | {field: next(iter(ids))})
        selection.rerun()


# Before and after


def draw_before_after(here: Here, store: Store) -> None:
    """Steering just before each chunk of the chain against just after it."""
    with keys.inside("before_after"):  # its pickers may stand on the page a second time
        where, at = here.chunk, here.once(measured_at)
    rows = at.of(store.before_after_of(where.cot))
    if rows.empty:
        st.caption(
            "This chain of thought was not steered before and after its chunks at this layer (`before_after` CoTs of"
            " [geometry])."
        )
        _offer(
            store.cots_before_after(at.model, at.layer),
            keys.of("before_after_at"),
            "Show a chain of thought that was",
            COT,
        )
        return
    every = rows = rows[rows["unit"] == rows["unit"].iloc[0]]
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        kinds = list(dict.fromkeys(rows["kind"].fillna(NONE)))
        kind = kinds[0]
        if len(kinds) > 1:
            kind = selection.checked(DIRECTION, kinds, at.kind, show=direction_words)
            selection.offer(
                "before_after_direction",
                "Direction",
                kinds,
                kind,
                lambda kind: selection.choose({DIRECTION: kind}),
                show=direction_words,
                width=290,
            )
        rows = rows[rows["kind"].fillna(NONE) == kind]
        betas = sorted(rows["beta"].unique(), key=abs)
        worded = {f"{value:g}": value for value in betas}
        with more(SIZE):
            beta = worded[selection.pick(SIZE, "β", list(worded), default=f"{betas[-1]:g}", width=110)]
        measure = selection.pick(
            REST,
            "KL on",
            show=lambda name: KLS[f"kl_{name}"][0],
            widget=st.segmented_control,
            required=True,
        )
    found, measure = along(every), f"kl_{measure}"
    rows = rows[rows["beta"] == beta].assign(number=rows["chunk_index"] + 1)
    step = found.step if measure == "kl_answer" and found.verdict in ("sharp", "gradual") else None
    unit, n_chunks = rows["unit"].iloc[0], len(store.chunk_spans(where.cot))
    figure = before_and_after(rows, measure=measure, unit=unit, step=step, selected=where.chunk, n_chunks=n_chunks)
    data_figure(figure, key=keys.of("before_after"), config={"displayModeBar": False})
    show(
        course_in_words(found, "KL on the answer")
        + (f" Unknown, and left out: {found.n_unknown} directions at places." if found.n_unknown else "")
    )
    st.caption(
        f"Each point: KL(steered ‖ unsteered), mean over the tokens of {KLS[measure][0]} and over the chunk's"
        f" directions, at β = {beta:g}. The rest begins after the chunk on both sides, so that only where it is steered"
        " differs. Gradual or sharp: constant, line and step through log KL on the answer, over all β and the"
        " directions that are steered at every chunk, compared by AIC."
    )


def along(rows: pd.DataFrame) -> Course:
    """How the KL on the answer falls along the CoT, from the directions that are steered at several chunks, of its rows
    of one layer.
    """
    shared = rows.groupby("direction_id")["chunk_id"].transform("nunique") > 1
    known = rows[shared].astype(object)
    return along_the_cot(known.where(known.notna(), None).to_dict("records"))
