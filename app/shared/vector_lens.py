"""The tokens that a vector writes to the logits, beside those of random vectors of its size."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from app.shared import live
from app.shared.waiting import place_in_line
from app.shell import keys, selection
from app.shell.data_table import data_table
from app.shell.untrusted import show, visible
from backend.lens.kinds import LENSES
from backend.live.available import Choice
from backend.live.requests import Lens

_CARRIED = {"logit": "v̂", "tuned": "v̂ + W v̂", "jacobian": "J v̂"}


def draw(choice: Choice, request: Lens) -> None:
    """Has it measured, says how far that is, and shows it."""
    ticket = live.look_up(choice, request)

    def follow() -> None:
        status = live.service().status(ticket)
        if status is None or (status.ended and "top" not in status.result):
            show(status.error if status and status.error else "The lens could not be computed.")
            return
        if "top" not in status.result:
            place_in_line(status, "The lens of the vector")
            return
        _tables(status.result, request.lens.kind)
        if first is not None and not first.ended:
            selection.rerun()

    first = live.service().status(ticket)
    keys.fragment(follow, run_every=None if first is None or first.ended else live.EVERY)()


def _tables(found: Mapping[str, Any], kind: str) -> None:
    for side, column in zip(("top", "bottom"), st.columns(2, gap="small"), strict=True):
        words = {"top": "raised most", "bottom": "lowered most"}[side]
        rows = [[visible(token), f"{z:+.2f}"] for token, z, _ in found[side]]
        with column:
            data_table(
                pd.DataFrame(rows, columns=[words, "z"]),
                hide_index=True,
                row_height=28,
                height="content",
                key=keys.of(f"lens_{side}"),
            )
    largest = sorted(found["random_largest"])
    own = max(abs(found["top"][0][1]), abs(found["bottom"][0][1]))
    beyond = sum(value >= own for value in largest)
    st.caption(
        f"{LENSES[kind].label.capitalize()} of the vector: {_CARRIED[kind]} times the gain of the final norm, times the"
        " unembedding; the norm's division and bias are left out, so that −v̂ has the same tokens with the other sign."
        f" z: over all {found['n_tokens']:,} tokens, less their mean, over their spread. Largest |z|: {own:.2f}; of"
        f" {len(largest)} random vectors median {np.median(largest):.2f} [{largest[0]:.2f}, {largest[-1]:.2f}], p ="
        f" {(beyond + 1) / (len(largest) + 1):.2g}. "
        + ("What later blocks make of it is no part of this." if not LENSES[kind].is_fitted else LENSES[kind].words)
    )
