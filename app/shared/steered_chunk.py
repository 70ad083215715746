"""KL(β) of one chunk, as it was swept."""

import pandas as pd
import streamlit as st

from app.figures.chunk import kl_curves
from app.shared.geometry_columns import DIRECTION
from app.shell import keys, selection
from app.shell.data_figure import data_figure


def kl_of_chunk(curves: pd.DataFrame) -> None:
    """KL(β) of a chunk at one layer and position."""
    figure = kl_curves(curves, direction=selection.get(DIRECTION))
    data_figure(figure, key=keys.of("kl_curves"), config={"displayModeBar": False})
    if len(curves):
        st.caption(
            f"n = {len(curves)} curves, each KL a mean over {int(curves['n_tokens'].max())} tokens. Lines:"
            " least-squares quadratics, whose |a| is the steepness. Hollow: at or below the noise floor, the KL of the"
            " same forward pass repeated."
        )
