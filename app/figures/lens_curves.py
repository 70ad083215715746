"""The probability of followed tokens under a lens: over layers, and along a text."""

from typing import TypedDict

import plotly.graph_objects as go

from app.figures.rows import Frame, takes_rows
from app.shell.theme import ACCENT, CATEGORY_COLOURS, TEMPLATE, blank
from app.shell.untrusted import for_plotly

_DASHES = ("solid", "dot", "dash")
_LEAST = 1e-12  # drawn at the foot of a log axis


class FollowedPoint(TypedDict):
    """A followed token at a layer or place."""

    model: str
    word: str
    along: int  # a layer, or the number of a place
    probability: float | None


@takes_rows
def followed_over_layers(points: Frame[FollowedPoint], *, selected: int, title: str) -> go.Figure:
    """One line a model and token; the selected layer is marked."""
    return _lines(points, "layer (output of the block)", selected, title)


@takes_rows
def followed_along(points: Frame[FollowedPoint], *, selected: int, unit: str, title: str) -> go.Figure:
    """One line a model and token; the selected place is marked."""
    return _lines(points, unit, selected, title)


def _lines(points: Frame[FollowedPoint], axis: str, selected: int, title: str) -> go.Figure:
    known = points[points["probability"].notna()]
    if known.empty:
        return blank("Not read yet")
    figure = go.Figure(layout={"template": TEMPLATE, "height": 340})
    words, models = list(dict.fromkeys(points["word"])), list(dict.fromkeys(points["model"]))
    colours, at = dict(zip(words, CATEGORY_COLOURS.values(), strict=False)), axis.partition(" ")[0]
    for (word, model), own in known.groupby(["word", "model"], sort=False):
        own = own.sort_values("along")
        figure.add_scatter(
            x=own["along"].tolist(),
            y=[max(_LEAST, float(f"{p:.3g}")) for p in own["probability"]],
            mode="lines+markers",
            marker={"size": 4},
            line={"color": colours[word], "dash": _DASHES[models.index(model) % len(_DASHES)]},
            name=for_plotly(str(word) if len(models) == 1 else f"{word}, {model}", limit=40),
            hovertemplate=f"{for_plotly(str(word), limit=30)}, {at} %{{x}}: %{{y:.3g}}<extra></extra>",
        )
    figure.add_vline(x=selected, line={"color": ACCENT, "width": 1.5, "dash": "dash"})
    figure.update_yaxes(title="probability", type="log", exponentformat="power")
    figure.update_xaxes(title=f"{axis}; {title}")
    return figure.update_layout(
        margin={"l": 8, "r": 8, "t": 8, "b": 8}, legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}
    )
