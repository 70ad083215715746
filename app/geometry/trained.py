"""Do the decoder rows of dictionaries cluster in the middle layers, and do those of dictionaries of any cloud?"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd
import streamlit as st

from app.figures.geometry_saes import quality_by_layer, tails_by_layer
from app.shared.model_names import named
from app.shared.views import Here
from app.shell import keys, selection, studies
from app.shell.data_figure import data_figure
from app.shell.fields import Field, declare
from app.shell.missing import Missing, undone
from app.shell.numbers import number
from app.shell.untrusted import for_markdown, one_line, show
from backend.feature_geometry.middle_layers import Answer, Contrast, Null, answer, is_middle
from backend.feature_geometry.trained_on import MODEL, RANDOM_WEIGHTS, SOURCES
from backend.store.store import Store

ROWS = {
    "distinct": "that fire, without duplicates",
    "live": "that fire, duplicates too",
    "all": "all of them",
}
EXCEEDANCES = {"1e-3": "1 in 1,000 isotropic pairs exceeds", "1e-6": "1 in 1,000,000 isotropic pairs exceeds"}
WHICH = declare(Field("sae_rows", "choice of decoder rows", tuple(ROWS), of=None))
EXCEEDANCE = declare(
    Field("sae_exceedance", "share of isotropic pairs beyond the threshold", tuple(EXCEEDANCES), of=None)
)
_WORDS = {"gaussian": "Gaussian clouds", RANDOM_WEIGHTS: "activations of random weights"}


class Trained(NamedTuple):
    """What is shown: one row a training and panel, and which rows and threshold are counted."""

    rows: pd.DataFrame  # of saes and sae_tails, with panel, source and size; a shared null is in every panel it is of
    others: int  # trainings of other settings, which are not compared
    exceedance: float


def measured(here: Here) -> Missing | None:
    """A small autoencoder whose decoder rows were counted."""
    return None if len(studies.ask(here.store.saes)) else undone(here.store.path, "saes")


def _chosen(here: Here) -> Trained:
    """Controls that both views share."""
    with st.container(horizontal=True, gap="small"):
        which = selection.pick(WHICH, "Decoder rows", show=ROWS.__getitem__, width=300)
        exceedance = selection.pick(EXCEEDANCE, "A |cosine| that", show=EXCEEDANCES.__getitem__, width=320)
    saes = studies.ask(here.store.saes)
    kind = ["n_features", "k", "tokens", "d_model"]
    counts = saes.groupby(kind, sort=False)["sae_id"].count()
    compared = saes.set_index(kind).loc[[counts.idxmax()]].reset_index()
    tails = studies.ask(here.store.sae_tails, rows=which, exceedance=float(exceedance))
    rows = _by_panel(named(here.store, compared.merge(tails, on="sae_id", how="left"), "model_name"))
    times = rows["share"] / float(exceedance)
    rows = rows.assign(
        times=times,
        size=[math.log(value) if value > 0 else math.nan for value in times],
        source=[SOURCES[name].label if name in SOURCES else name for name in rows["trained_on"]],
    )
    order = [[*SOURCES].index(name) if name in SOURCES else len(SOURCES) for name in rows["trained_on"]]
    rows = rows.iloc[sorted(range(len(rows)), key=lambda row: order[row])]  # a panel's own order stays
    return Trained(rows, len(saes) - len(compared), float(exceedance))


def _by_panel(saes: pd.DataFrame) -> pd.DataFrame:
    """A panel a model. The null of random weights stands in that of every model of its architecture."""
    made = []
    for model_id in dict.fromkeys(saes.loc[saes["trained_on"] == MODEL, "model_id"]):
        own = saes[saes["model_id"] == model_id]
        one = own.iloc[0]
        shared = saes[saes["trained_on"] == RANDOM_WEIGHTS]
        alike = [shared[name] == one[name] for name in ("family", "n_layers", "d_model")]
        others = shared[alike[0] & alike[1] & alike[2] & (shared["model_id"] != model_id)]
        has_own = (own["trained_on"] == RANDOM_WEIGHTS).any()
        panel = str(one["model_name"])
        made.append(pd.concat([own, others[:0] if has_own else others]).assign(panel=panel))
    return pd.concat(made, ignore_index=True) if made else saes.assign(panel="")[:0]


def draw(here: Here, store: Store) -> None:
    """Tails by layer, and what they say."""
    shown = here.once(_chosen)
    rows = shown.rows
    if rows.empty:
        st.caption("The nulls are trained, and none of the model's own dictionaries is yet.")
        return
    data_figure(
        tails_by_layer(rows, middle={panel: _middle(own) for panel, own in _panels(rows)}),
        key=keys.of("sae_tails"),
        config={"displayModeBar": False},
    )
    for panel, own in _panels(rows):
        st.markdown(f"**{for_markdown(one_line(panel, 80))}**")
        show(said(answer(own, int(own["n_layers"].iloc[0])), own))
    st.caption(
        "Published: dictionaries of Gemma 2 are nearly isotropic in the first and the last layers and cluster in the"
        " middle ones (“Feature Geometry”), at a fixed |cosine| of 0.1 and beside random vectors."
    )
    st.caption(_what(shown))


def said(found: Answer, rows: pd.DataFrame) -> str:
    """What this model's dictionaries show, and what its nulls do."""
    if found.mean_size is None:
        return "None of its dictionaries has a pair of these rows beyond the threshold."
    if found.contrast is None:
        return "Its layers do not lie in the middle third and outside of it, so that there is nothing to compare."
    seeds = int(rows[rows["trained_on"] == MODEL].groupby("layer")["seed"].nunique().max())
    own = found.contrast
    sentences = [
        f"Pairs of its decoder rows lie beyond {_times(found.mean_size)} as often as isotropic ones, and in the"
        f" {own.n_middle} layers of the middle third {_ratio(own)} as often as in the {own.n_outer} others"
        f" ({seeds} seeds a layer): {_verdict(own)}."
    ]
    if found.earlier is not None and found.later is not None:
        sentences.append(
            f"That is {_ratio(found.earlier)} as often as in the {found.earlier.n_outer} layers before them and"
            f" {_ratio(found.later)} as often as in the {found.later.n_outer} after them."
        )
    for name, null in found.nulls.items():
        sentences.append(_of_null(name, null))
    sentences.append(_conclusion(found))
    return " ".join(sentences)


def _of_null(name: str, null: Null) -> str:
    words = _WORDS.get(name, name)
    mean = (
        f"Trained on {words}, pairs lie beyond {_times(null.mean_size)} as often as isotropic ones: {_clusters(null)}"
    )
    if null.level is not None:
        mean += f", and the model's own do ×{_exped(null.level)} as often as these"
    if null.contrast is None or null.beyond is None:
        return f"{mean}."
    return (
        f"{mean}. Their middle layers do {_ratio(null.contrast)} as often as the others; beyond this the model's middle"
        f" layers have {_ratio(null.beyond)}: {_beyond(null.beyond)}."
    )


def _clusters(null: Null) -> str:
    _, low, high = null.mean_size
    if low is None or high is None:
        return "with one seed it is not known how surely"
    if low > 0:
        return "training alone clusters decoder rows"
    return "training alone spreads decoder rows apart" if high < 0 else "not told from isotropic"


def _beyond(found: Contrast) -> str:
    if found.low is None:
        return "with one seed it is not known how surely"
    if found.is_above:
        return "more than training on it does"
    if found.is_below:
        return "less than training on it does"
    return f"no more than chance between seeds shows; ×{number(_exp(found.detectable))} would be found in 80 % of cases"


def _verdict(found: Contrast) -> str:
    if found.low is None:
        return "with one seed it is not known how surely"
    if found.is_above:
        return "the middle layers cluster more than these on average"
    if found.is_below:
        return "the middle layers cluster less than these on average"
    return f"no difference is found, and ×{number(_exp(found.detectable))} would have been in 80 % of cases"


def _conclusion(found: Answer) -> str:
    """The answer to the question of the view."""
    beyond = [null.beyond for null in found.nulls.values() if null.beyond is not None and null.beyond.low is not None]
    if found.contrast is None or found.contrast.low is None or not beyond:
        return "Whether the middle layers cluster is not said without seeds and trained nulls."
    if not found.contrast.is_above:
        return "So the middle layers of this model do not cluster more than the others."
    if not found.is_peak:
        sides = ("earlier", found.earlier), ("later", found.later)
        as_much = [words for words, one in sides if one is None or not one.is_above]
        return (
            f"So there is no peak in the middle: the {' and the '.join(as_much)} layers are not shown to cluster less"
            " than the middle ones."
        )
    if not all(one.is_above for one in beyond):
        return (
            "So the middle layers' rows lie nearer together, but not more so than training on a cloud without features"
            " may make them."
        )
    said = (
        "So the middle layers cluster more than those before and those after them, and training on clouds without"
        " features does not do that"
    )
    nearer = [_WORDS.get(name, name) for name, null in found.nulls.items() if null.level and (null.level[2] or 0) < 0]
    if not nearer:
        return f"{said}."
    return f"{said}; but rows trained on {' and '.join(nearer)} lie nearer together than the model's own do."


def _ratio(found: Contrast) -> str:
    if found.low is None or found.high is None:
        return f"×{number(_exp(found.value))}"
    return f"×{number(_exp(found.value))} [{number(_exp(found.low))}, {number(_exp(found.high))}]"


def _times(size: tuple[float, float | None, float | None]) -> str:
    value, *span = _exped(size).split(" ", 1)
    return " ".join([value, "times", *span])


def _exped(size: tuple[float, float | None, float | None]) -> str:
    value, low, high = map(_exp, size)
    return number(value) if low is None or high is None else f"{number(value)} [{number(low)}, {number(high)}]"


def _exp(value: float | None) -> float | None:
    return None if value is None else math.exp(value)


def _what(shown: Trained) -> str:
    rows, one = shown.rows, shown.rows.iloc[0]
    distinct = rows["distinct_tokens"]
    again = one["tokens"] / distinct.median()
    parts = [
        f"Small TopK autoencoders of {one['n_features']:,} features, k = {one['k']}, trained on {one['tokens']:,}"
        f" tokens ({int(distinct.median()):,} different ones, each read {again:.1f} times). A mark is a training; lines"
        f" are geometric means. Beyond: |cosine| above {number(one['threshold'])}, which one isotropic pair in"
        f" {round(1 / shown.exceedance):,} exceeds at width {one['d_model']} (red line: as many). Shaded: the middle"
        f" third of the layers. Brackets: 95 % over seeds, their variance pooled over layers and sources"
        " (t intervals): other texts are not in them. Layers whose L0 is more than 10 % from the median take no part.",
        _counted(rows),
    ]
    if shown.others:
        parts.append(f"{shown.others} trainings of other sizes are not compared.")
    return " ".join(parts)


def _counted(rows: pd.DataFrame) -> str:
    n, kept = rows["n_features"], rows["n_rows"].dropna()
    if kept.empty:
        return "Their rows are not counted at this threshold."
    unknown = int((rows["share"] == 0).sum() + rows["share"].isna().sum())
    missing = f" {unknown} trainings have no pair beyond and are not drawn." if unknown else ""
    return f"Of each dictionary's {int(n.iloc[0]):,} rows {_range(kept)} are counted.{missing}"


def _range(values: pd.Series) -> str:
    low, high = int(values.min()), int(values.max())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def draw_quality(here: Here, store: Store) -> None:
    """How good the dictionaries are, on problems that they did not learn from."""
    rows = here.once(_chosen).rows
    data_figure(quality_by_layer(rows), key=keys.of("sae_quality"), config={"displayModeBar": False})
    st.caption(
        f"On {_range(rows['held_out_tokens'])} tokens of problems that nothing was learned from; of a Gaussian cloud,"
        " as many draws. Dead: fires on none of them. How far a cloud's line lies below the model's own is what sparse"
        " features are worth to a dictionary of this size."
    )


def _panels(rows: pd.DataFrame) -> Sequence[tuple[str, pd.DataFrame]]:
    return [(str(panel), own) for panel, own in rows.groupby("panel", sort=False)]


def _middle(rows: pd.DataFrame) -> tuple[float, float]:
    n_layers = int(rows["n_layers"].iloc[0])
    inside = [layer for layer in range(n_layers) if is_middle(layer, n_layers)]
    return (min(inside) - 0.5, max(inside) + 0.5) if inside else (0.0, 0.0)
