"""What each way to influence measures, and what it cannot say."""

import pandas as pd
import streamlit as st

from app.shared.influence_ways import WAYS, asked_for
from app.shared.views import Here
from app.shell import studies
from backend.store.store import Store


def draw(here: Here, store: Store) -> None:
    readings = studies.ask(store.influence_readings)
    for column, way in zip([*st.columns(2, gap="large"), *st.columns(2, gap="large")], WAYS.values(), strict=False):
        with column:
            st.markdown(f"**{way.label}** · {way.axis}")
            st.markdown(way.meaning)
            st.markdown(f"*Limits.* {way.cannot_say}")
            st.caption(there(readings[readings["way"] == way.name]) or asked_for(store, way.name).what)


def there(own: pd.DataFrame) -> str:
    """How much of a way a study has; empty where it has nothing."""
    if own.empty or not own["n_pairs"].sum():
        return ""
    n_models = own.loc[own["model_id"] != "", "model_id"].nunique()
    by = f", read by {n_models} {'models' if n_models > 1 else 'model'}" if n_models else ""
    return f"In this study: {int(own['n_pairs'].max()):,} pairs of {int(own['n_cots'].max())} CoTs{by}."
