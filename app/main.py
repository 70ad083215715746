"""The dashboard's entry: `streamlit run app/main.py`, or `python -m streamlit run app/main.py`.

Streamlit reads this file twice: once as the server, to which it adds what `app.shell.serving` says, and then for every
run of a page.
"""

import site
from pathlib import Path

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

try:
    from app import shell  # noqa: F401
except ModuleNotFoundError:  # Streamlit puts this file's folder on the import path, not the repository's root above it
    site.addsitedir(str(Path(__file__).resolve().parents[1]))

if get_script_run_ctx(suppress_warning=True) is None:
    from app.shell.serving import guards, reading_ahead

    server = st.App(Path(__file__).resolve(), middleware=guards(), lifespan=reading_ahead)
else:
    from app.entry import run

    run()
