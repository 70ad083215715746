"""The runs that made the study, and what they had to leave out."""

import json

import pandas as pd
import streamlit as st

from app.shared.views import Here
from app.shell.data_table import data_table
from app.shell.missing import Missing
from app.shell.untrusted import show
from backend.store.store import Store


def draw(here: Here, store: Store) -> None:
    rows = store.runs()
    shown = pd.DataFrame(
        {
            "started (UTC)": rows["started_at"],
            "command": rows["command"],
            "study": rows["study"],
            "seed": rows["seed"],
            "commit": rows["commit"].fillna("outside a checkout"),
            "versions": [_versions(text) for text in rows["versions"]],
            "parameters": rows["parameters"],
        }
    )
    data_table(
        shown,
        hide_index=True,
        height="content",
        column_config={"parameters": st.column_config.TextColumn(width="medium")},
    )


def a_warning(here: Here) -> Missing | None:
    """Something that an import or a stage left out."""
    return None if warnings(here.store) else Missing("No run of this study left anything out.", None)


def draw_warnings(here: Here, store: Store) -> None:
    for warning in warnings(store):
        with st.container(border=True):
            show(warning)


def warnings(store: Store) -> list[str]:
    """What imports and stages had to leave out, newest run first."""
    return [
        str(warning)
        for warnings in store.runs()["warnings"]
        if warnings is not None and warnings is not pd.NA
        for warning in warnings
    ]


def _versions(text: object) -> str:
    return (
        ", ".join(f"{name} {version}" for name, version in json.loads(text).items())
        if isinstance(text, str)
        else "unknown"
    )
