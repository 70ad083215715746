"""Parallelograms of word pairs and of decoder rows: cumulative losses beside those of nulls, and ratios by class."""

import math
from collections.abc import Mapping, Sequence
from typing import TypedDict

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from app.figures.crosscoder import MODELS
from app.figures.panels import bars, laid_out, name_layers
from app.figures.rows import Frame, takes_rows
from app.shell.theme import CONTROL, STEERED, TEMPLATE, blank
from app.shell.untrusted import for_plotly
from backend.models.names import role_words

_COLUMNS, _PANEL = 4, 150  # of small panels, and their height
_NULLS = {"shuffled": "dot", "covariance": "dash", "turned": "dashdot"}  # dashes of a null's line


class ClassLosses(TypedDict):
    """One class of one model."""

    word_class: str
    role: str
    n_quadruples: int
    losses: Sequence[float] | None  # that evenly spaced shares of the quadruples are below
    null_losses: Sequence[float] | None


class ClassRatio(TypedDict):
    """Loss over that of shuffled pairs, of one class and model."""

    word_class: str
    role: str
    n_pairs: int
    loss: float | None
    null: float | None
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None
    p: float | None


class LayerLosses(TypedDict):
    """One model at a layer, over all classes."""

    layer: int
    role: str
    n: int  # classes
    loss: float
    loss_low: float
    loss_high: float
    null: float
    ratio: float
    ratio_low: float
    ratio_high: float


class LayerDifference(TypedDict):
    """Distilled against base at a layer, over all classes."""

    layer: int
    log_ratio: float | None
    log_ratio_low: float | None
    log_ratio_high: float | None


class SearchLosses(TypedDict):
    """What one search among decoder rows gave."""

    role: str
    searched: str
    draw: int
    n_sides: int
    losses: Sequence[float] | None


@takes_rows
def cumulative_losses(rows: Frame[ClassLosses]) -> go.Figure:
    """A panel a class: the share of quadruples below each loss, by model; dashed: their pairs shuffled."""
    known = rows[rows["losses"].notna()]
    if known.empty:
        return blank("No class has quadruples")
    classes = list(dict.fromkeys(known["word_class"]))
    n_rows = math.ceil(len(classes) / _COLUMNS)
    figure = make_subplots(
        rows=n_rows,
        cols=_COLUMNS,
        shared_xaxes="all",
        shared_yaxes=True,
        horizontal_spacing=0.02,
        vertical_spacing=0.24 / n_rows,
        subplot_titles=[_panel(name, known) for name in classes],
    )
    for number, name in enumerate(classes):
        row, column = divmod(number, _COLUMNS)
        for one in known[known["word_class"] == name].to_dict("records"):
            colour, words = role_look(one["role"])
            for kind, losses in (("losses", one["losses"]), ("null_losses", one["null_losses"])):
                is_null = kind == "null_losses"
                label = f"{words}, pairs shuffled" if is_null else words
                _line(figure, losses, colour, "dash" if is_null else "solid", label, not number, row + 1, column + 1)
    _axes(figure, n_rows, len(classes))
    figure.update_annotations(font_size=12)
    return figure.update_layout(
        template=TEMPLATE,
        height=_PANEL * n_rows + 110,
        margin={"l": 56, "r": 8, "t": 62, "b": 48},
        legend={"orientation": "h", "y": 1, "yref": "container", "yanchor": "top", "x": 0},
    )


def _panel(name: str, rows: Frame[ClassLosses]) -> str:
    n = rows.loc[rows["word_class"] == name, "n_quadruples"].iloc[0]
    return f"{for_plotly(name, limit=26)}, n = {n:,}"


def _line(
    figure: go.Figure,
    losses: Sequence[float] | None,
    colour: str,
    dash: str,
    label: str,
    in_legend: bool,
    row: int,
    column: int,
) -> None:
    if losses is None:
        return
    shares = [k / (len(losses) - 1) for k in range(len(losses))]
    figure.add_scatter(
        x=list(losses),
        y=shares,
        mode="lines",
        line={"color": colour, "dash": dash, "width": 1.2 if dash == "dash" else 1.8},
        name=label,
        legendgroup=label,
        showlegend=in_legend,
        hovertemplate=f"{label}: %{{y:.0%}} below %{{x:.3f}}<extra></extra>",
        row=row,
        col=column,
    )


def _axes(figure: go.Figure, n_rows: int, n: int) -> None:
    for column in range(1, _COLUMNS + 1):
        last = n_rows if (n - 1) % _COLUMNS >= column - 1 else n_rows - 1
        if last >= 1:
            figure.update_xaxes(title="parallelogram loss", title_standoff=4, showticklabels=True, row=last, col=column)
    figure.update_yaxes(tickformat=".0%", range=[0, 1.02], nticks=4)
    figure.update_yaxes(title="quadruples", title_standoff=4, col=1)
    figure.update_xaxes(rangemode="tozero", nticks=5)


@takes_rows
def ratios_to_shuffled(rows: Frame[ClassRatio]) -> go.Figure:
    """Each class and model a mark with its 95 % interval over pairs; the line at 1 is what shuffled pairs give."""
    known = rows.dropna(subset=["ratio"])
    if known.empty:
        return blank("No class has a ratio to shuffled pairs")
    order = known.groupby("word_class", sort=False)["ratio"].mean().sort_values(ascending=False).index.tolist()
    place = {name: number for number, name in enumerate(order)}
    roles = list(dict.fromkeys(known["role"]))
    figure = go.Figure()
    figure.add_vline(x=1, line={"color": CONTROL, "dash": "dash", "width": 1.2})
    for number, role in enumerate(roles):
        own = known[known["role"] == role]
        colour, words = role_look(str(role))
        shift = 0.26 * (number - (len(roles) - 1) / 2)
        figure.add_scatter(
            x=own["ratio"].tolist(),
            y=[place[name] + shift for name in own["word_class"]],
            error_x={
                "type": "data",
                "symmetric": False,
                "array": (own["ratio_high"] - own["ratio"]).tolist(),
                "arrayminus": (own["ratio"] - own["ratio_low"]).tolist(),
                "thickness": 1.2,
                "width": 3,
                "color": colour,
            },
            mode="markers",
            marker={"color": colour, "size": 8},
            name=words,
            customdata=own[["word_class", "ratio_low", "ratio_high", "loss", "null", "p", "n_pairs"]].to_numpy(),
            hovertemplate=(
                f"%{{customdata[0]}}, {words}: %{{x:.3f}} [%{{customdata[1]:.3f}}, %{{customdata[2]:.3f}}]<br>mean loss"
                " %{customdata[3]:.3f}, shuffled %{customdata[4]:.3f}<br>p = %{customdata[5]:.3g}, n ="
                " %{customdata[6]} pairs<extra></extra>"
            ),
        )
    n = known.groupby("word_class")["n_pairs"].first()
    figure.update_yaxes(
        tickvals=list(place.values()),
        ticktext=[f"{for_plotly(name, limit=26)} (n = {n[name]})" for name in order],
        range=[-0.6, len(order) - 0.4],
        zeroline=False,
    )
    figure.update_xaxes(title="mean loss over that of shuffled pairs (1: as chance pairs them)", zeroline=False)
    return figure.update_layout(
        template=TEMPLATE,
        height=28 * len(order) + 110,
        margin={"l": 8, "r": 12, "t": 36, "b": 48},
        legend={"orientation": "h", "y": 1, "yref": "container", "yanchor": "top", "x": 0},
    )


@takes_rows
def losses_by_layer(rows: Frame[LayerLosses], differences: Frame[LayerDifference]) -> go.Figure:
    """Three panels over layers: mean loss and, dashed, that of shuffled pairs; the ratio of both; and, where two models
    are compared, the distilled model's ratio over the base model's. Bars: 95 % over classes.
    """
    if rows.empty:
        return blank("No class has a ratio to shuffled pairs")
    known = differences[differences["log_ratio"].notna()]
    figure = make_subplots(
        cols=3 if len(known) else 2,
        horizontal_spacing=0.07,
        subplot_titles=["loss", "loss / shuffled", "reasoner / base of that"][: 3 if len(known) else 2],
    )
    for role, own in rows.groupby("role", sort=False):
        colour, words = role_look(str(role))
        for column, name in ((1, "loss"), (2, "ratio")):
            figure.add_scatter(
                x=own["layer"].tolist(),
                y=own[name].tolist(),
                error_y=bars(own[name], own[f"{name}_low"], own[f"{name}_high"]) | {"color": colour},
                mode="lines+markers",
                line={"color": colour, "width": 2},
                name=words,
                legendgroup=words,
                showlegend=column == 1,
                hovertemplate=f"{words}, layer %{{x}}: %{{y:.3f}}<extra></extra>",
                row=1,
                col=column,
            )
        label = f"{words}, pairs shuffled"
        figure.add_scatter(
            x=own["layer"].tolist(),
            y=own["null"].tolist(),
            mode="lines",
            line={"color": colour, "width": 1.5, "dash": "dash"},
            name=label,
            hovertemplate=f"{label}, layer %{{x}}: %{{y:.3f}}<extra></extra>",
            row=1,
            col=1,
        )
    figure.add_hline(y=1, line={"color": CONTROL, "dash": "dash", "width": 1.2}, row=1, col=2)
    if len(known):
        value, low, high = (
            known[name].astype(float).map(math.exp) for name in ("log_ratio", "log_ratio_low", "log_ratio_high")
        )
        figure.add_scatter(
            x=known["layer"].tolist(),
            y=value.tolist(),
            error_y=bars(value, low, high),
            mode="markers",
            marker={"color": STEERED, "size": 8},
            showlegend=False,
            hovertemplate="layer %{x}: %{y:.3f}<extra></extra>",
            row=1,
            col=3,
        )
        figure.add_hline(y=1, line={"color": CONTROL, "dash": "dash", "width": 1.2}, row=1, col=3)
    name_layers(figure, rows["layer"])
    figure.update_yaxes(rangemode="tozero", col=1)
    return laid_out(figure, height=340, top=66)


@takes_rows
def searched_losses(rows: Frame[SearchLosses], *, words: Mapping[str, str]) -> go.Figure:
    """A panel a model: the share of sides whose best match has at most each loss, of the rows and of every draw of the
    nulls. `words` says what was searched.
    """
    known = rows[rows["losses"].notna()]
    if known.empty:
        return blank("No sides could be matched")
    roles = list(dict.fromkeys(known["role"]))
    figure = make_subplots(
        rows=1,
        cols=len(roles),
        shared_yaxes=True,
        shared_xaxes="all",
        horizontal_spacing=0.04,
        subplot_titles=[role_words(role) for role in roles],
    )
    figure.update_annotations(font_size=13)
    for column, role in enumerate(roles, start=1):
        own = known[known["role"] == role]
        for one in own.to_dict("records"):
            searched = one["searched"]
            is_null = searched in _NULLS
            losses = list(one["losses"])
            figure.add_scatter(
                x=losses,
                y=[k / (len(losses) - 1) for k in range(len(losses))],
                mode="lines",
                line={
                    "color": CONTROL if is_null else STEERED,
                    "dash": _NULLS.get(searched, "solid"),
                    "width": 1.3 if is_null else 2.2,
                },
                name=words[searched],
                legendgroup=searched,
                showlegend=column == 1 and one["draw"] == 0,
                hovertemplate=f"{words[searched]}: %{{y:.0%}} at most %{{x:.3f}}<extra></extra>",
                row=1,
                col=column,
            )
    figure.update_xaxes(title="loss of the best match", nticks=6)
    figure.update_yaxes(title="sides", tickformat=".0%", col=1)
    return figure.update_layout(
        template=TEMPLATE,
        height=400,
        margin={"l": 56, "r": 8, "t": 84, "b": 48},
        legend={"orientation": "h", "y": 1, "yref": "container", "yanchor": "top", "x": 0},
    )


def role_look(role: str) -> tuple[str, str]:
    """Colour and words of a model by its role."""
    return _ROLES.get(role, (STEERED, for_plotly(role, limit=30)))


_ROLES = {role: (colour, role_words(role)) for role, colour in MODELS.items()}
