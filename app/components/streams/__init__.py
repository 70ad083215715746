"""Two continuations side by side as they are written, each token with what it would have been: our own browser
component.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st

_HERE = Path(__file__).parent


def streams(
    run: dict[str, Any] | None, *, key: str, base_label: str, changed_label: str, running: bool, note: str | None = None
) -> None:
    """Show a run, finished or growing.

    It has `id`, `arms` (base, changed) of `tokens` and `finish`, `first_divergence`, `seconds` and `tokens_per_second`.
    Between two calls with the same `run["id"]` tokens may only be added; another id is drawn anew. None: nothing is
    written yet.
    """
    labels = {"base": base_label, "changed": changed_label}
    _component()(key=key, data={"run": shown(run), "labels": labels, "running": running, "note": note})


def shown(run: dict[str, Any] | None) -> dict[str, Any] | None:
    """What the browser draws of a run. A token is [piece, KL in nats or None where unknown, [[piece, p in base, p in
    changed], ...]].

    Probabilities keep four digits: a run of a thousand tokens travels whole at every look.
    """
    if run is None:
        return None
    return {
        "id": run.get("id"),
        "divergence": run.get("first_divergence"),
        "seconds": known(run.get("seconds")),
        "rate": known(run.get("tokens_per_second")),
        "arms": {
            name: {
                "finish": arm.get("finish"),
                "tokens": [
                    [
                        token["text"],
                        known(token["kl"]),
                        [[piece, rounded(p), rounded(q)] for piece, p, q in token["top"]],
                    ]
                    for token in arm["tokens"]
                ],
            }
            for name, arm in run["arms"].items()
        },
    }


def known(value: float | None) -> float | None:
    """None for what is not a finite number: JSON, and the eye, have no NaN."""
    return None if value is None or not math.isfinite(value) else value


def rounded(p: float | None) -> float | None:
    return None if known(p) is None else float(f"{p:.4g}")


@st.cache_resource(show_spinner=False)
def _component() -> Callable[..., Any]:
    html, css, js = ((_HERE / f"streams.{suffix}").read_text(encoding="utf-8") for suffix in ("html", "css", "js"))
    return st.components.v2.component("anchorscope_streams", html=html, css=css, js=js)
