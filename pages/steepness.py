"""Does a chunk that matters sit where the model is steep? The evidence: one pair, all pairs, the metrics, the geometry
side by side.
"""

import streamlit as st

from app.shared import views
from app.steepness import views as own
from app.steepness.agreement import importance
from app.steepness.all_curves import place, swept
from app.steepness.anchors import chosen
from app.steepness.local_geometry import measured_at
from app.steepness.one_pair import pair
from app.steepness.random_steps import stepped, steps


def one_pair() -> None:
    here.once(pair)
    left, right = st.columns([3, 2], gap="medium")
    with left:
        views.show(own.SCATTER, here)
        views.show(own.FITTED, here, heading=True)
        views.show(own.EVIDENCE, here, heading=True)
    with right:
        views.show(own.CHUNK, here)


def metrics() -> None:
    views.require(here, importance)
    left, right = st.columns([1, 1], gap="medium")
    with left:
        views.show(own.AGREEMENT, here, heading=True)
    with right:
        views.show(own.RESAMPLE, here, heading=True)


def curves() -> None:
    views.require(here, swept)
    here.once(place)
    views.show(own.CURVES, here)
    views.show(own.KINDS, here, heading=True)


def random() -> None:
    views.require(here, stepped)
    here.once(steps)
    views.show(own.FINITE, here)
    views.show(own.ANISOTROPY, here, heading=True)


def geometry() -> None:
    here.once(measured_at)
    views.show_beside(here, own.SWEPT, own.ISOTROPIC)
    views.show(own.MANIFOLD, here, heading=True)


def before_and_after() -> None:
    if own.ANCHOR_STUDY.missing(here):
        views.show(own.ANCHOR_STUDY, here)
    else:
        here.once(chosen)
        views.show_beside(here, own.ANCHOR_STUDY, own.ANCHOR_BETA)
        views.show_beside(here, own.ANCHOR_CHAIN, own.ANCHOR_ATTENTION)
    views.show(own.BEFORE, here, heading=True)


here = views.here_now()
views.require(here, views.chunks)
views.title()
PARTS_SHOWN = {
    "pair": one_pair,
    "pairs": lambda: views.show(own.PAIRS, here),
    "metrics": metrics,
    "curves": curves,
    "random": random,
    "geometry": geometry,
    "anchors": before_and_after,
}
PARTS_SHOWN[views.part(own.PART, "View", own.PARTS)]()
