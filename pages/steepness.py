"""Does a chunk that matters sit where the model is steep? The evidence: one pair, all pairs, the metrics, the geometry
side by side.
"""

import streamlit as st

from app.shared import views
from app.steepness.agreement import importance
from app.steepness.local_geometry import measured_at
from app.steepness.one_pair import pair
from app.steepness.views import (
    AGREEMENT,
    BEFORE,
    CHUNK,
    EVIDENCE,
    FINITE,
    ISOTROPIC,
    MANIFOLD,
    PAIRS,
    PART,
    PARTS,
    RESAMPLE,
    SCATTER,
    SWEPT,
)


def one_pair() -> None:
    here.once(pair)
    left, right = st.columns([3, 2], gap="medium")
    with left:
        views.show(SCATTER, here)
        views.show(EVIDENCE, here, heading=True)
    with right:
        views.show(CHUNK, here)


def all_pairs() -> None:
    views.show(PAIRS, here)


def metrics() -> None:
    views.require(here, importance)
    left, right = st.columns([1, 1], gap="medium")
    with left:
        views.show(AGREEMENT, here, heading=True)
    with right:
        views.show(RESAMPLE, here)


def geometry() -> None:
    here.once(measured_at)
    for pair_of_views in ((SWEPT, ISOTROPIC), (FINITE, MANIFOLD)):
        for column, view in zip(st.columns(2, gap="medium"), pair_of_views, strict=True):
            with column:
                views.show(view, here, heading=True)
    views.show(BEFORE, here, heading=True)


here = views.here_now()
views.require(here, views.chunks)
views.title()
{"pair": one_pair, "pairs": all_pairs, "metrics": metrics, "geometry": geometry}[views.part(PART, "View", PARTS)]()
