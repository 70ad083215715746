"""One slot a layer: click one, drag a range, hover for what the logit lens reads there: our own browser component."""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from app.shared.clicks import heard, told

_HERE = Path(__file__).parent
_READ_OUT = 5  # tokens shown of a layer's lens


def layer_strip(
    n_layers: int,
    *,
    key: str,
    selected: tuple[int, int],
    stored: Collection[int],
    source: int | None,
    preview: Mapping[int, Sequence[Sequence[Any]]] | None,
    on_select: Callable[[int, int], None],
) -> None:
    """Show the layers with first to last of `selected` lit, and call `on_select(first, last)` once for each choice.

    `stored` layers bear a dot (activations of the study), `source` a mark (the vector was made there). `preview` is the
    logit lens at the token before the chunk by layer, [[piece, probability], ...] most probable first; None while it is
    not read.
    """

    def moved() -> None:
        if (chosen := layers_of(told(key, "layers"), n_layers)) is not None:
            on_select(*chosen)

    _component()(
        key=key,
        data=strip(n_layers, selected=selected, stored=stored, source=source, preview=preview) | {"heard": heard(key)},
        on_layers_change=moved,
    )


def strip(
    n_layers: int,
    *,
    selected: tuple[int, int],
    stored: Collection[int],
    source: int | None,
    preview: Mapping[int, Sequence[Sequence[Any]]] | None,
) -> dict[str, Any]:
    """What the browser draws; the lens as one list a layer, None where it was not read."""
    lens = preview or {}
    return {
        "n": n_layers,
        "selected": list(selected),
        "stored": sorted(layer for layer in stored if 0 <= layer < n_layers),
        "source": source,
        "lens": [
            [[piece, float(p)] for piece, p in lens[layer][:_READ_OUT]] if layer in lens else None
            for layer in range(n_layers)
        ],
    }


def layers_of(value: Any, n_layers: int) -> tuple[int, int] | None:
    """What a browser sent as first and last layer, or None where it is no range of this model's layers."""
    if not isinstance(value, list) or len(value) != 2 or not all(type(layer) is int for layer in value):
        return None
    first, last = value
    return (first, last) if 0 <= first <= last < n_layers else None


@st.cache_resource(show_spinner=False)
def _component() -> Callable[..., Any]:
    html, css, js = ((_HERE / f"layer_strip.{suffix}").read_text(encoding="utf-8") for suffix in ("html", "css", "js"))
    return st.components.v2.component("anchorscope_layer_strip", html=html, css=css, js=js)
