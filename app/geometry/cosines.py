"""How directions lie to each other: their cosines' tails against isotropic rows, by layer, and in both models."""

from dataclasses import dataclass
from functools import partial

import pandas as pd
import streamlit as st

from app.figures.cosine_tails import NULL, mass_by_frequency, mass_by_layer, ratio_by_layer, tail_histograms
from app.geometry import cosine_frames, cosine_words
from app.shared.clicks import marks
from app.shared.model_names import called
from app.shared.views import Here
from app.shell import keys, selection, studies
from app.shell.data_figure import data_figure
from app.shell.fields import Field, declare
from app.shell.missing import Missing, undone
from app.shell.more import more
from app.shell.numbers import number
from app.shell.untrusted import for_markdown
from backend.feature_geometry.row_sets import ROW_KINDS
from backend.models.names import ROLES
from backend.store.store import Store

SUBSETS = {"all": "all rows", "live": "without dead rows", "distinct": "without dead and duplicate rows"}
MARKS = {
    "0.1": "|cos| above 0.1, as published",
    "1e-3": "beyond 1 in 1,000 isotropic pairs",
    "1e-6": "beyond 1 in 1,000,000 isotropic pairs",
}
KIND = declare(Field("cosine_rows", "kind of directions", None))
SUBSET = declare(Field("cosine_subset", "rows that take part", SUBSETS, of=None))
MARK = declare(Field("cosine_mark", "threshold of the tail mass", MARKS, of=None, default="1e-3"))
BIN = declare(Field("cosine_bin", "bin of a histogram of cosines", None, of="cosine_rows"))


@dataclass(frozen=True)
class Asked:
    """What is looked at: sets of one kind, and of their rows some."""

    kind: str
    subset: str
    sets: pd.DataFrame  # of `store.cosine_sets()`, of that kind
    tails: pd.DataFrame  # of `store.cosine_tails()`, with `line` and `series`, every subset
    exceedances: pd.DataFrame  # likewise of `store.cosine_exceedances()`

    @property
    def of_subset(self) -> pd.DataFrame:
        return _of_subset(self.exceedances, self.subset)

    @property
    def x_axis(self) -> str:
        is_by_layer = (self.tails["layer"] >= 0).any()
        return "layer (output of the block)" if is_by_layer else "one set a model, of no layer"


def cosined(here: Here) -> Missing | None:
    """Cosines of any set of directions."""
    if studies.ask(here.store.cosine_sets).empty:
        return undone(here.store.path, "cosines")
    return None


def asked(here: Here) -> Asked:
    store = here.store
    sets = _with_parts(store, studies.ask(store.cosine_sets))
    kinds = [kind for kind in ROW_KINDS if kind in set(sets["kind"])]
    kinds += [kind for kind in dict.fromkeys(sets["kind"]) if kind not in kinds]  # of another version
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        kind = selection.pick(KIND, "Directions", kinds, show=_called, width=420)
        with more(SUBSET):
            subset = selection.pick(SUBSET, "Rows", show=SUBSETS.__getitem__, width=260)
    tails = _named(_with_parts(store, studies.ask(store.cosine_tails, kind=kind)))
    exceedances = _named(_with_parts(store, studies.ask(store.cosine_exceedances, kind=kind)))
    return Asked(kind, subset, sets[sets["kind"] == kind], tails, exceedances)


def draw_histograms(here: Here, store: Store) -> None:
    at = here.once(asked)
    rows = _of_subset(at.tails, at.subset)
    layers = sorted({int(layer) for layer in rows["layer"]})
    shown = cosine_frames.drawn_layers(layers)
    left_out = "" if len(shown) == len(layers) else f"{len(shown)} of {len(layers)} layers: every fifth"
    frame = cosine_frames.histogram(rows[rows["layer"].isin(shown)])
    key = keys.of("cosine_histograms")
    data_figure(
        tail_histograms(frame, selected=selection.get(BIN), left_out=left_out),
        key=key,
        on_select=partial(_clicked, key, set(frame["mark"])),
        selection_mode="points",
        config={"scrollZoom": False},
    )
    st.caption(
        f"{_called(at.kind)}; {for_markdown(cosine_frames.models_in_words(at.sets), 300)}."
        f" {cosine_words.of_rows(at.sets)} A pair is counted once, where |cos| is above 0.1, by its"
        " float64 cosine. Red: the exact distribution of isotropic rows at this width. Grey: as many Gaussian rows"
        " with a set's covariance and no clusters. Click a mark: its pairs are listed below."
    )
    near, far = (cosine_words.of_tails(at.of_subset[at.of_subset["mark"] == mark]) for mark in ("0.1", "1e-6"))
    _said(f"{near} Far out: {far[:1].lower()}{far[1:]}", reported=cosine_words.REPORTED)


def draw_mass(here: Here, store: Store) -> None:
    at = here.once(asked)
    mark = here.once(_mark)
    rows = at.of_subset[at.of_subset["mark"] == mark]
    data_figure(
        mass_by_layer(
            cosine_frames.mass(rows),
            axis="tail mass: share of pairs",
            x_axis=at.x_axis,
        ),
        key=keys.of("cosine_mass"),
        config={"displayModeBar": False},
    )
    st.caption(
        f"Pairs with {_beyond(rows, mark)}. At equal exceedance the threshold is the one that this share of isotropic"
        " pairs exceeds, so that widths can be compared; 0.1 is exceeded by 1.6 % of them at d = 576 and by 1.5 in a"
        " million at d = 2304. Bands: 95 %, rows being the sample (pairs share rows), or the extremes over seeds."
    )
    _said(cosine_words.of_tails(rows))


def draw_ratio(here: Here, store: Store) -> None:
    at = here.once(asked)
    mark = here.once(_mark)
    found = cosine_frames.ratios(at.of_subset[at.of_subset["mark"] == mark])
    data_figure(
        ratio_by_layer(found, axis="ratio of tail masses", x_axis=at.x_axis),
        key=keys.of("cosine_ratio"),
        config={"displayModeBar": False},
    )
    st.caption(
        f"{_upper(MARKS[mark])}. 95 % by a delete-a-group jackknife over 16 groups of rows; where row k of one set is"
        " row k of the other (a neuron in both models, the two decoders of a feature), the same rows are left out"
        " of both."
        " Dashed: no difference, which is what base against itself gives."
    )
    _said(cosine_words.of_ratios(found), reported=cosine_words.REPORTED_OF_TUNING)


def draw_frequency(here: Here, store: Store) -> None:
    at = here.once(asked)
    mark = here.once(_mark)
    rows = _few(at.exceedances[at.exceedances["mark"] == mark])
    points = cosine_frames.quarters(rows)
    if points.empty:
        st.caption(cosine_words.of_quarters(points))
        return
    data_figure(
        mass_by_frequency(points, axis="tail mass within the quarter"),
        key=keys.of("cosine_frequency"),
        config={"displayModeBar": False},
    )
    st.caption(
        f"{_upper(MARKS[mark])}, among the live rows of a quarter{_where(rows)}. Frequency: share of tokens on which a"
        " feature fires. Red: isotropic rows."
    )
    st.caption(f"**Here.** {cosine_words.of_quarters(points)}")


def _few(rows: pd.DataFrame) -> pd.DataFrame:
    """Of many sets those of the models themselves, at the middle one of their layers, of one seed."""
    own = rows[cosine_frames.of_the_model(rows)]
    layers = sorted(own["layer"].unique())
    own = own[own["layer"].isin(layers[len(layers) // 2 :][:1])]
    seeds = own["seed"].fillna(-1)
    return own[seeds == seeds.min()]


def _mark(here: Here) -> str:
    return selection.pick(MARK, "Tail mass", show=MARKS.__getitem__, width=360)


def _where(rows: pd.DataFrame) -> str:
    layers = [int(layer) for layer in rows["layer"].unique() if layer >= 0]
    return f", at layer {layers[0]}" if layers else ""


def _beyond(rows: pd.DataFrame, mark: str) -> str:
    found = sorted({number(threshold) for threshold in rows["threshold"]})
    widths = sorted({int(d) for d in rows["d"]})
    if mark == "0.1" or not found:
        return "|cos| above 0.1"
    return f"|cos| above {' or '.join(found)} ({MARKS[mark]}; d = {' or '.join(map(str, widths))})"


def _clicked(key: str, known: set[str]) -> None:
    mark = next(iter(marks(key)), None)
    if isinstance(mark, str) and mark and mark in known:
        selection.choose({BIN: mark})


def _with_parts(store: Store, rows: pd.DataFrame) -> pd.DataFrame:
    """With `part`: what the study calls a model of its pair, else the stored role."""
    words = {model: called(store, model) for model in rows["model"].unique()}
    said = rows["model"].map(words)
    return rows.assign(part=rows["role"].mask(said.isin(list(ROLES.values())), said))


def _named(rows: pd.DataFrame) -> pd.DataFrame:
    named = cosine_frames.lines_of(rows.assign(layer=rows["layer"].fillna(-1)))
    return named[(named["line"] != NULL) | cosine_frames.of_the_model(named)]  # trained nulls have no draws beside them


def _of_subset(rows: pd.DataFrame, subset: str) -> pd.DataFrame:
    """Of each set the rows of the subset. Where firing is unknown no row is known to be dead, and draws have all alone:
    then all stand for live ones.
    """
    stand_in = (rows["line"] == NULL) | (subset == "live")
    has = set(rows.loc[rows["subset"] == subset, "set_id"])
    return rows[(rows["subset"] == subset) | ((rows["subset"] == "all") & stand_in & ~rows["set_id"].isin(has))]


def _called(kind: str) -> str:
    words = ROW_KINDS[kind].words if kind in ROW_KINDS else kind
    return _upper(words)


def _upper(words: str) -> str:
    return words[:1].upper() + words[1:]


def _said(shown: str, *, reported: str | None = None) -> None:
    if reported is not None:
        st.caption(f"**Reported.** {reported}")
    st.caption(f"**Here.** {shown}")
