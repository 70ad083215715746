"""The features of a crosscoder: norms, latent scaling, activations, logits, tokens and ablations.

Frames have the columns of the store's tables of the same name; unknown values are left out and counted on the figure.
"""

from typing import NotRequired, TypedDict

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from app.figures.rows import Frame, takes_rows
from app.shell.theme import ACCENT, CONTROL, MISSING, TEMPLATE, blank
from app.shell.untrusted import for_plotly
from backend.crosscoder.class_counts import scaling_share
from backend.crosscoder.null_kinds import NULL_KINDS
from backend.models.names import role_words

CLASSES = {"base only": "#0070C3", "shared": "#8A8F98", "distilled only": "#D55E00", "suspect": "#C67FC7"}
MODELS = {"base": "#0070C3", "distilled": "#D55E00"}
REASONING = {"self-reflection": "#AD4605", "deductive": "#409067", "alternative": "#C67FC7", "contrastive": "#0070C3"}
EXTREME = 1 / 6  # NRN below it, or above 1 less it, is that of one model; the rule of backend.crosscoder.diff.classify
_SHARE_EXTREME = 0.2 / 1.2  # the same rule's bound on ν, 0.2, as a share of the two models' scales
_UNCLASSED = "not classed"
_COMPARED = 400  # pixels, of the two figures that compare the models and stand side by side


Norms = TypedDict(  # `class` is a word of the language
    "Norms",
    {
        "nrn_l1": NotRequired[float | None],
        "nrn_l2": NotRequired[float | None],
        "nrn_rms": NotRequired[float | None],
        "class": str | None,
    },
)


class Scaled(Norms):
    """A feature's norms, and how much of its direction each model's activations hold."""

    feature: int
    nu_eps: NotRequired[float | None]
    nu_r: NotRequired[float | None]
    frequency: float | None


class NullNorms(TypedDict):
    """The norms of a feature of a null pair, and which kind the null is."""

    null: str
    nrn_l1: NotRequired[float | None]
    nrn_l2: NotRequired[float | None]
    nrn_rms: NotRequired[float | None]


class Firing(TypedDict):
    """How often a feature fires."""

    frequency: float | None


class TrainingPoint(TypedDict):
    """A quantity of a dictionary's training: its mean over some steps."""

    metric: str
    step: int
    tokens: int
    n_steps: int
    value: float | None


class LogitEffect(TypedDict):
    """What a feature does to the logit of one token."""

    model_id: str
    token: str
    effect: float


class CategoryFiring(TypedDict):
    """On how many of a category's tokens the feature fires."""

    category: str
    n_tokens: int
    n_fired: int
    frequency: float
    low: float
    high: float


class FeatureOnCategory(TypedDict):
    """One feature on one category's target tokens."""

    feature: int
    category: str
    n_tokens: int
    frequency: float | None
    nrn_l1: NotRequired[float | None]
    nrn_l2: NotRequired[float | None]
    nrn_rms: NotRequired[float | None]


class Ablation(TypedDict):
    """The mean effect of zeroing some features in one model, on one category's target tokens."""

    category: str
    role: str
    control: str  # features, or random ones as many
    top_percent: float
    n_features: int  # zeroed: sets at rising k hold each other, so that as many are the same
    n_targets: int
    n_there: NotRequired[int | None]  # target tokens of the category in the study
    effect: float | None
    ci_low: float | None
    ci_high: float | None
    band_low: NotRequired[float | None]  # of the frozen-decoder twin's sets, in rows of control features
    band_high: NotRequired[float | None]


@takes_rows
def nrn_histogram(
    features: Frame[Norms],
    *,
    norm: str,
    chosen: tuple[float, float] | None,
    nulls: Frame[NullNorms] | None = None,
    band: tuple[float, float] | None = None,
    n_bins: int = 60,
) -> go.Figure:
    """How many features have which NRN (column `nrn_l1`, `nrn_l2` or `nrn_rms`), coloured by `class`, counts on a log
    axis; drag to choose a range.

    Every bar's customdata is the middle of its bin. `chosen` is shaded, and `band`, that of the null pairs; `nulls` are
    their features, drawn as a line a kind (`null`), as many as `features` between them.
    """
    column = f"nrn_{norm}"
    known = features[features[column].notna()]
    if known.empty:
        return blank("No feature has a known NRN", height=_COMPARED)
    edges = np.linspace(0, 1, n_bins + 1)
    middles = (edges[:-1] + edges[1:]) / 2
    figure = _figure(_COMPARED)
    classes = known["class"].fillna(_UNCLASSED)
    for name in [*CLASSES, _UNCLASSED]:
        part = known[classes == name]
        if part.empty:
            continue
        counts = np.histogram(part[column], edges)[0]
        figure.add_bar(
            x=middles,
            y=counts,
            width=1 / n_bins,
            customdata=middles,
            name=f"{role_words(name)} ({len(part):,})",
            marker={"color": CLASSES.get(name, MISSING), "line": {"width": 0}},
            hovertemplate=f"NRN %{{x:.3f}}<br>{role_words(name)}: %{{y:,}} features<extra></extra>",
        )
    for kind, own in [] if nulls is None else nulls[nulls[column].notna()].groupby("null"):
        counts = np.histogram(own[column], edges)[0] * len(known) / len(own)
        figure.add_scatter(
            x=middles,
            y=np.where(counts > 0, counts, np.nan),
            mode="lines",
            line={"shape": "hvh", "width": 1.5, "dash": {"same": "solid"}.get(str(kind), "dot"), "color": MISSING},
            name=f"null pair: {NULL_KINDS[str(kind)].label} ({len(own):,})",
            hovertemplate="NRN %{x:.3f}<br>of a null pair: %{y:,.1f} of as many features<extra></extra>",
        )
    _middle_line(figure, vertical=True)
    if band:
        figure.add_vrect(x0=band[0], x1=band[1], fillcolor=MISSING, opacity=0.25, line_width=0, layer="below")
    if chosen:
        figure.add_vrect(x0=chosen[0], x1=chosen[1], fillcolor=ACCENT, opacity=0.12, line_width=0)
    figure.update_xaxes(title=f"NRN, {norm.upper()} decoder norms: 0 base only, 1 reasoner only", range=[0, 1])
    figure.update_yaxes(title="features, log scale", type="log", dtick=1, exponentformat="power")
    return figure.update_layout(
        barmode="stack",
        bargap=0,
        dragmode="select",
        selectdirection="h",
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        title=_counted(len(known), len(features) - len(known), "NRN"),
    )


@takes_rows
def nrn_and_scaling(features: Frame[Scaled], *, norm: str, scaling: str, selected: int | None) -> go.Figure:
    """NRN against latent scaling as a share, 1 / (1 + ν): where a feature is really one model's, both are extreme on
    the same side.

    `scaling` is nu_eps or nu_r. Shaded: decoder norms that say one model only, where scaling says that the other has
    the feature too. A ν below 0 (the feature's direction is there with the other sign) is drawn at the edge and
    counted.
    """
    column = f"nrn_{norm}"
    known = features[features[column].notna() & features[scaling].notna()]
    if known.empty:
        return blank("No feature has both an NRN and a latent scaling", height=_COMPARED)
    shares = scaling_share(known[scaling])
    figure = _figure(_COMPARED)
    for x0, x1, y0, y1 in ((1 - EXTREME, 1, 0, 1 - _SHARE_EXTREME), (0, EXTREME, _SHARE_EXTREME, 1)):
        figure.add_shape(
            type="rect",
            x0=x0,
            x1=x1,
            y0=y0,
            y1=y1,
            fillcolor=CLASSES["suspect"],
            opacity=0.14,
            line_width=0,
            layer="below",
        )
    classes = known["class"].fillna(_UNCLASSED)
    for name in [*CLASSES, _UNCLASSED]:
        here = (classes == name).to_numpy()
        if not here.any():
            continue
        part = known[here]
        figure.add_scattergl(
            x=part[column].tolist(),
            y=shares[here].tolist(),
            mode="markers",
            name=f"{role_words(name)} ({here.sum():,})",
            customdata=part["feature"].tolist(),
            marker={"size": 6, "opacity": 0.65, "color": CLASSES.get(name, MISSING)},
            hovertext=_feature_hovers(part, scaling),
            hoverinfo="text",
        )
    ring = (known["feature"] == selected).to_numpy()
    if ring.any():
        figure.add_scattergl(
            x=known[column][ring].tolist(),
            y=shares[ring].tolist(),
            mode="markers",
            showlegend=False,
            hoverinfo="skip",
            customdata=known["feature"][ring].tolist(),
            marker={"size": 15, "symbol": "circle-open", "color": ACCENT, "line": {"width": 3, "color": ACCENT}},
        )
    _middle_line(figure, vertical=True)
    _middle_line(figure, vertical=False)
    figure.update_xaxes(title=f"NRN, {norm.upper()} decoder norms", range=[-0.02, 1.02])
    sign = {"nu_eps": "ν^ε (error)", "nu_r": "ν^r (reconstruction)"}[scaling]
    figure.update_yaxes(title=f"1 / (1 + ν), ν = {sign}", range=[-0.02, 1.02])
    negative = int((known[scaling] < 0).sum())
    facts = _counted(len(known), len(features) - len(known), "NRN or ν") + (
        f"<br>{negative} with ν < 0, at the edge" if negative else ""
    )
    return figure.update_layout(
        dragmode="pan", title=facts, legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}
    )


@takes_rows
def frequency_histogram(features: Frame[Firing], *, chosen: tuple[float, float] | None, n_bins: int = 50) -> go.Figure:
    """How many features fire how often, on log axes; drag to choose a range. The horizontal axis is log10 of the
    frequency. Features that never fire have no place on it and are counted. `chosen` are frequencies.
    """
    fires = features[features["frequency"] > 0]
    if fires.empty:
        return blank("No feature fires on the study's tokens", height=300)
    logs = np.log10(fires["frequency"].to_numpy(dtype=float))
    first = np.floor(logs.min())
    counts, edges = np.histogram(logs, np.linspace(first, 0, n_bins + 1))
    figure = _figure(320)
    figure.add_bar(
        x=(edges[:-1] + edges[1:]) / 2,
        y=counts,
        width=np.diff(edges),
        marker={"color": MODELS["base"], "line": {"width": 0}},
        customdata=np.column_stack([10 ** edges[:-1], 10 ** edges[1:]]),
        hovertemplate="on %{customdata[0]:.3%} to %{customdata[1]:.3%} of tokens: %{y:,} features<extra></extra>",
    )
    if chosen:
        low, high = (np.log10(max(bound, 10**first)) for bound in chosen)
        figure.add_vrect(x0=low, x1=high, fillcolor=ACCENT, opacity=0.12, line_width=0)
    decades = np.arange(first, 1)
    ticks = [f"{10**decade:g}" for decade in decades]
    figure.update_xaxes(title="share of tokens on which it fires, log scale", tickvals=decades, ticktext=ticks)
    figure.update_yaxes(title="features, log scale", type="log", dtick=1, exponentformat="power")
    never = int((features["frequency"] == 0).sum())
    title = f"n = {len(fires):,} features that fire" + (f" · {never:,} never do" if never else "")
    return figure.update_layout(bargap=0, dragmode="select", selectdirection="h", showlegend=False, title=title)


@takes_rows
def training_curves(points: Frame[TrainingPoint]) -> go.Figure:
    """A dictionary's training: loss, L0, dead share and variance explained for each model against the tokens seen.
    `points` are rows of `DictionaryQueries.dictionary_training_curve`.
    """
    known = points[points["value"].notna()]
    if known.empty:
        return blank("Nothing of this training is known yet", height=260)
    panels = [("loss",), ("l0",), ("dead_share",), ("variance_explained_base", "variance_explained_distilled")]
    titles = ["loss, scaled activations", "L0, features a token", "dead share", "variance explained"]
    figure = make_subplots(rows=1, cols=4, subplot_titles=titles, horizontal_spacing=0.06)
    figure.update_layout(template=TEMPLATE, height=290, margin={"l": 48, "r": 12, "t": 48, "b": 72})
    both = panels[-1][1] in set(known["metric"])
    for column, metrics in enumerate(panels, start=1):
        for metric in metrics:
            rows = known[known["metric"] == metric].sort_values("step")
            name = metric.rpartition("_")[2] if column == 4 and both else "model"
            figure.add_scatter(
                x=rows["tokens"],
                y=rows["value"],
                mode="lines",
                name=role_words(name),
                showlegend=column == 4 and both and len(rows) > 0,
                line_color=MODELS.get(name, CONTROL),
                customdata=rows[["step", "n_steps"]].to_numpy(),
                hovertemplate="%{y:.4g}<br>step %{customdata[0]:,}, mean of %{customdata[1]}<extra></extra>",
                row=1,
                col=column,
            )
    loss = known[known["metric"] == "loss"]["value"]
    figure.update_yaxes(type="log" if len(loss) and (loss > 0).all() else "linear", row=1, col=1)
    for column in (2, 3):
        figure.update_yaxes(rangemode="tozero", row=1, col=column)
    return figure.update_xaxes(title="tokens seen").update_layout(
        legend={"orientation": "h", "y": -0.3, "x": 1, "xanchor": "right"}
    )


def activation_histogram(edges: list[float], counts: list[int]) -> go.Figure:
    """Activations of one feature when it fires; counts on a log axis."""
    if not len(counts) or not sum(counts):
        return blank("This feature never fired on the study's tokens", height=220)
    lows, highs = np.asarray(edges[:-1]), np.asarray(edges[1:])
    figure = _figure(230)
    figure.add_bar(
        x=(lows + highs) / 2,
        y=counts,
        width=highs - lows,
        marker={"color": MODELS["distilled"], "line": {"width": 0}},
        customdata=np.column_stack([lows, highs]),
        hovertemplate="%{customdata[0]:.3g} to %{customdata[1]:.3g}: %{y:,} tokens<extra></extra>",
    )
    figure.update_xaxes(title="activation f", rangemode="normal" if edges[0] < 0 else "tozero")
    figure.update_yaxes(title="tokens, log scale", type="log", dtick=1, exponentformat="power")
    return figure.update_layout(bargap=0, showlegend=False, title=f"n = {sum(counts):,} tokens on which it fires")


@takes_rows
def logit_effects(logits: Frame[LogitEffect], names: dict[str, str]) -> go.Figure:
    """What one feature's decoder row does to the logits in each model: top and bottom tokens. `names`: model_id to
    base, distilled or, where there is one alone, model.
    """
    if logits.empty:
        return blank("The logit effects of this feature are not known", height=300)
    models = [model for model in names if (logits["model_id"] == model).any()]
    colours = [MODELS.get(names[model], MODELS["base"]) for model in models]
    figure = make_subplots(
        rows=1, cols=len(models), subplot_titles=[role_words(names[model]) for model in models], horizontal_spacing=0.18
    )
    figure.update_layout(template=TEMPLATE, height=440, margin={"l": 90, "r": 12, "t": 40, "b": 48}, showlegend=False)
    for number, (model, colour) in enumerate(zip(models, colours, strict=True), start=1):
        rows = logits[logits["model_id"] == model].sort_values("effect")
        labels = [
            f"{for_plotly(repr(token), limit=24)} ·{line}" for line, token in enumerate(rows["token"])
        ]  # one token may come twice
        figure.add_bar(
            x=rows["effect"],
            y=labels,
            orientation="h",
            marker_color=[colour if effect > 0 else MISSING for effect in rows["effect"]],
            hovertemplate="%{y}<br>%{x:.3g}<extra></extra>",
            row=1,
            col=number,
        )
        figure.update_yaxes(
            tickvals=labels, ticktext=[label.rpartition(" ·")[0] for label in labels], row=1, col=number
        )
    return figure.update_xaxes(title="logit per unit of f")


@takes_rows
def firing_by_category(rows: Frame[CategoryFiring], *, overall: float, names: dict[str, str]) -> go.Figure:
    """On which share of each category's tokens one feature fires, with 95 % intervals, beside the share of all tokens
    (dashed). `names` are what categories are called.
    """
    if rows.empty:
        return blank("No token of these categories, or the feature never fires", height=160)
    rows = rows.sort_values("frequency")
    labels = [for_plotly(names.get(category, category), limit=30) for category in rows["category"]]
    figure = _figure(90 + 26 * len(rows))
    figure.add_scatter(
        x=rows["frequency"],
        y=labels,
        mode="markers",
        marker={"size": 9, "color": MODELS["distilled"]},
        error_x={
            "type": "data",
            "symmetric": False,
            "array": rows["high"] - rows["frequency"],
            "thickness": 1.4,
            "width": 4,
            "arrayminus": rows["frequency"] - rows["low"],
        },
        customdata=rows[["n_fired", "n_tokens", "low", "high"]].to_numpy(),
        hovertemplate=(
            "%{y}: %{x:.2%} [%{customdata[2]:.2%}, %{customdata[3]:.2%}]<br>"
            "%{customdata[0]:,} of %{customdata[1]:,} tokens<extra></extra>"
        ),
    )
    if np.isfinite(overall):
        figure.add_vline(x=overall, line={"color": MISSING, "width": 1, "dash": "dash"})
    figure.update_xaxes(
        title="share of tokens on which it fires; dashed: of all tokens", rangemode="tozero", tickformat="~%"
    )
    return figure.update_layout(showlegend=False, margin={"l": 150, "r": 12, "t": 12, "b": 52})


@takes_rows
def category_frequencies(rows: Frame[FeatureOnCategory], *, norm: str) -> go.Figure:
    """Firing frequency on each reasoning category's target tokens against NRN, one mark a feature and category.
    Frequencies of exactly 0 have no place on a log axis and are counted.
    """
    column = f"nrn_{norm}"
    known = rows[rows[column].notna() & rows["frequency"].notna()]
    drawn = known[known["frequency"] > 0]
    if drawn.empty:
        return blank("No feature fires on a target token", height=380)
    figure = _figure(440)
    for name, colour in REASONING.items():
        part = drawn[drawn["category"] == name]
        if part.empty:
            continue
        n_tokens = int(part["n_tokens"].iloc[0])
        figure.add_scattergl(
            x=part[column].tolist(),
            y=part["frequency"].tolist(),
            mode="markers",
            customdata=part["feature"].tolist(),
            name=f"{name} (n = {n_tokens:,} tokens)",
            marker={"size": 6, "opacity": 0.7, "color": colour},
            hovertext=[
                f"feature {feature} · {name}<br>NRN {nrn:.3f}, fires on {share:.2%}"
                for feature, nrn, share in zip(part["feature"], part[column], part["frequency"], strict=True)
            ],
            hoverinfo="text",
        )
    _middle_line(figure, vertical=True)
    figure.update_xaxes(title=f"NRN, {norm.upper()} decoder norms", range=[-0.02, 1.02])
    figure.update_yaxes(
        title="share of the category's tokens on which it fires, log scale", type="log", tickformat=".2~%", dtick=1
    )
    silent = int((known["frequency"] == 0).sum())
    return figure.update_layout(
        dragmode="pan",
        height=490,
        margin={"t": 44, "b": 130},
        legend={"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0},
        title=f"not drawn: {silent:,} pairs of a feature and a category on which it never fires",
    )


@takes_rows
def ablation_effects(rows: Frame[Ablation], *, measure: str = "logit") -> go.Figure:
    """Change of the target token's logit (or log-probability) when the chosen features are zeroed, by how many are: one
    panel a category, both models, beside random features as many, and over the band of the frozen-decoder twin's sets
    where there is one; bars are 95 % intervals, and where there was nothing to zero there is no mark. How many are
    zeroed stands below each k; a set that a smaller k zeroes too is drawn there alone.

    `rows` are those of `DictionaryQueries.feature_ablations` of one ranking, measure, scheme and NRN threshold.
    """
    known = rows[rows["effect"].notna()] if len(rows) else rows
    if known.empty:
        return blank(
            "No ablation has been run"
            if rows.empty
            else "No feature is both above this NRN and among those that fire most"
        )
    categories = [name for name in REASONING if (rows["category"] == name).any()]
    titles = [f"{name}<br>{_targets(rows[rows['category'] == name])}" for name in categories]
    figure = make_subplots(
        rows=1, cols=len(categories), shared_yaxes=True, subplot_titles=titles, horizontal_spacing=0.03
    )
    figure.update_layout(template=TEMPLATE, height=450, margin={"l": 64, "r": 12, "t": 116, "b": 56}, barmode="overlay")
    named = set()
    for number, name in enumerate(categories, start=1):
        for (role, control), part in known[known["category"] == name].groupby(["role", "control"], sort=True):
            part = part.sort_values("top_percent").drop_duplicates("n_features")
            effect = part["effect"].to_numpy(dtype=float)
            label = role_words(role) + ("" if control == "features" else ", random features")
            if "band_low" in part and part["band_low"].notna().any():
                band = f"{role_words(role)}, band of the twin"
                _add_band(figure, part[part["band_low"].notna()], band, MODELS[role], number, band not in named)
                named.add(band)
            figure.add_scatter(
                x=[f"{percent:g}" for percent in part["top_percent"]],
                y=effect,
                mode="lines+markers",
                name=label,
                legendgroup=label,
                showlegend=label not in named,
                line={
                    "color": MODELS[role] if control == "features" else CONTROL,
                    "dash": "solid" if control == "features" else "dot",
                },
                marker={"symbol": "circle" if role == "distilled" else "square"},
                error_y={
                    "type": "data",
                    "symmetric": False,
                    "array": part["ci_high"].to_numpy(dtype=float) - effect,
                    "arrayminus": effect - part["ci_low"].to_numpy(dtype=float),
                    "thickness": 1.2,
                    "width": 4,
                },
                customdata=part[["n_features", "n_targets"]].to_numpy(),
                hovertemplate=(
                    f"{label}, top %{{x}} %: %{{y:.3f}}<br>%{{customdata[0]}} features, n = %{{customdata[1]}} target"
                    " tokens<extra></extra>"
                ),
                row=1,
                col=number,
            )
            named.add(label)
    every = [f"{percent:g}" for percent in sorted(rows["top_percent"].unique())]
    figure.update_xaxes(
        title="top k % by firing frequency;<br>below k, how many are zeroed",
        type="category",
        categoryorder="array",
        categoryarray=every,
        range=[-0.5, len(every) - 0.5],
        tickvals=every,
        tickangle=0,
    )
    for number, name in enumerate(categories, start=1):
        zeroed = rows[rows["category"] == name].groupby("top_percent")["n_features"].max()
        figure.update_xaxes(ticktext=[f"{k:g}<br>{_zeroed(zeroed, k)}" for k in sorted(zeroed.index)], col=number)
    figure.update_yaxes(zeroline=True, zerolinecolor=MISSING)
    figure.update_yaxes(
        title={"logit": "change of the target's logit", "log_probability": "change of its log-probability, nats"}[
            measure
        ],
        row=1,
        col=1,
    )
    return figure.update_layout(legend={"orientation": "h", "yref": "container", "y": 1, "yanchor": "top", "x": 0})


def _add_band(figure: go.Figure, rows: pd.DataFrame, name: str, colour: str, column: int, in_legend: bool) -> None:
    """`band_low` to `band_high` at each k, behind the marks."""
    low, high = rows["band_low"].to_numpy(dtype=float), rows["band_high"].to_numpy(dtype=float)
    figure.add_bar(
        x=[f"{percent:g}" for percent in rows["top_percent"]],
        y=high - low,
        base=low,
        width=0.7,
        marker={"color": colour, "line": {"width": 0}},
        opacity=0.16,
        name=name,
        legendgroup=name,
        showlegend=in_legend,
        customdata=np.stack([low, high], axis=1),
        hovertemplate=f"{name}, top %{{x}} %: %{{customdata[0]:.3f}} to %{{customdata[1]:.3f}}<extra></extra>",
        row=1,
        col=column,
    )


def _targets(rows: pd.DataFrame) -> str:
    """How many target tokens were looked at, and of how many."""
    n, there = int(rows["n_targets"].max()), rows["n_there"].max() if "n_there" in rows else float("nan")
    return (
        f"n = {n:,} tokens" if pd.isna(there) or not there else f"n = {n:,} of {int(there):,} tokens ({n / there:.0%})"
    )


def _zeroed(zeroed: pd.Series, k: float) -> str:
    """How many features are zeroed at k; = where a smaller k zeroes the same."""
    return "=" if (zeroed[zeroed.index < k] == zeroed[k]).any() else str(int(zeroed[k]))


def _figure(height: int) -> go.Figure:
    return go.Figure(
        layout={
            "template": TEMPLATE,
            "height": height,
            "margin": {"l": 64, "r": 12, "t": 72, "b": 52},
            "title_font_size": 13,
        }
    )


def _counted(n: int, n_unknown: int, what: str) -> str:
    return f"n = {n:,} features" + (f" · {n_unknown:,} without a known {what} are left out" if n_unknown else "")


def _middle_line(figure: go.Figure, *, vertical: bool) -> None:
    line = {"color": MISSING, "width": 1, "dash": "dash"}
    if vertical:
        figure.add_vline(x=0.5, line=line)
    else:
        figure.add_hline(y=0.5, line=line)


def _feature_hovers(rows: pd.DataFrame, scaling: str) -> list[str]:
    fires = ["unknown" if pd.isna(share) else f"{share:.2%} of tokens" for share in rows["frequency"]]
    return [
        f"feature {feature}<br>ν {nu:.3g}, fires on {on}"
        for feature, nu, on in zip(rows["feature"], rows[scaling], fires, strict=True)
    ]
