"""The association of steepness and importance, computed once for each generation and choice."""

import pandas as pd
import streamlit as st

from backend.evidence.association import Association, association

_SEED = 0


@st.cache_data(max_entries=128, show_spinner=False)
def association_of(points: pd.DataFrame) -> Association:
    """`points` has `steepness`, `value`, `cot_id`, `problem_id`; the same points have the same answer, seed included."""
    frame = points[["cot_id", "problem_id"]].assign(x=points["steepness"].astype(float), y=points["value"].astype(float))
    return association(frame, seed=_SEED)
