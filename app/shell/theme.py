"""Colours, symbols and the Plotly template: the one place where the dashboard's look is decided.

The nine tags' colours start from Okabe and Ito's palette, moved apart until any two differ by more than 15 in CIELAB
for usual, protanope and deuteranope eyes (a test), none so dark or so pale that it is lost on a dark or a white page;
on maps each tag has a marker shape too. Figures set no background and no text colour: they sit on light and dark pages
alike, and no one colour of text reaches a contrast of 4.5 on both. What belongs to a colour bears a square of it
(`keyed`).
"""

import plotly.graph_objects as go

from backend.geometry.direction_kinds import DIRECTION_KINDS
from backend.store.registered import words_of

CATEGORY_COLOURS = {
    "problem_setup": "#0070C3",
    "plan_generation": "#BD8701",
    "fact_retrieval": "#00C9FF",
    "active_computation": "#409067",
    "uncertainty_management": "#C67FC7",
    "result_consolidation": "#DFB803",
    "self_checking": "#AD4605",
    "final_answer_emission": "#7D5BF7",
    "unknown": "#8A8F98",
    "untagged": "#9AA0A8",
}
CATEGORY_SYMBOLS = {
    "problem_setup": "circle",
    "plan_generation": "square",
    "fact_retrieval": "diamond",
    "active_computation": "triangle-up",
    "uncertainty_management": "cross",
    "result_consolidation": "pentagon",
    "self_checking": "x",
    "final_answer_emission": "star",
    "unknown": "circle",
    "untagged": "circle-open",
}
ACCENT = "#C2410C"  # the selected chunk
PATH = "#C2410C"
MISSING = "#9AA0A8"
CORRECT, WRONG, UNKNOWN = "#009E73", "#D55E00", "#9AA0A8"
FITTED = "#D81B60"  # a curve through the marks
STEERED, CONTROL = "#2B83BA", "#8A8F98"  # what the steered model did; the random directions beside it
SIBLING_COLOURS = {"latent": STEERED, "pause": "#BD8701", "none": CONTROL}  # of latent models
DIMMED = 0.2

SEQUENTIAL = [
    [0.0, "#5B6FB0"],
    [0.5, "#2BA39B"],
    [1.0, "#F2B134"],
]  # neither end is lost on a white or a near-black page
DIVERGING = [[0.0, "#2166AC"], [0.5, "#C9CCD1"], [1.0, "#B2182B"]]

TEMPLATE = go.layout.Template(
    layout={
        "font": {"size": 13},
        "margin": {"l": 56, "r": 16, "t": 40, "b": 48},
        "title": {"font": {"size": 14}, "x": 0, "xanchor": "left", "xref": "container", "pad": {"l": 4}},
        "legend": {"itemsizing": "constant", "font": {"size": 12}},
        "hoverlabel": {"align": "left", "font": {"size": 12}},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "xaxis": {"gridcolor": "rgba(128,128,128,0.15)", "zerolinecolor": "rgba(128,128,128,0.4)"},
        "yaxis": {"gridcolor": "rgba(128,128,128,0.15)", "zerolinecolor": "rgba(128,128,128,0.4)"},
        "colorway": list(CATEGORY_COLOURS.values()),
    }
)


def category_colour(category: str) -> str:
    """The tag's colour; tags outside Thought Anchors' list share the grey of `unknown`."""
    return CATEGORY_COLOURS.get(category, CATEGORY_COLOURS["unknown"])


def direction_colour(kind: str) -> str:
    """Of a direction's kind; of one whose code is not here what the study says, or the grey of what is unknown."""
    found = DIRECTION_KINDS.get(kind) or words_of("direction", kind)
    return (found and found.colour) or UNKNOWN


def sibling_colour(sibling: str) -> str:
    """Of a latent model; one that is not known here is grey."""
    return SIBLING_COLOURS.get(sibling, UNKNOWN)


def ink_on(colour: str) -> str:
    """Black or white, whichever reads better on `colour` (WCAG's relative luminance)."""
    channels = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return "#000000" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 else "#FFFFFF"


def keyed(colour: str, text: str) -> str:
    """Words of a figure about what has this colour: a square of it, and the words in the page's own colour."""
    return f'<span style="color:{colour}">■</span> {text}'


def category_symbol(category: str) -> str:
    return CATEGORY_SYMBOLS.get(category, "circle")


def blank(message: str, *, height: int = 320) -> go.Figure:
    """A figure that says why it shows no data."""
    figure = go.Figure(
        layout={"template": TEMPLATE, "height": height, "xaxis": {"visible": False}, "yaxis": {"visible": False}}
    )
    return figure.add_annotation(
        text=message, showarrow=False, font={"size": 14}, x=0.5, y=0.5, xref="paper", yref="paper"
    )
