"""The views of the page Steepness and importance."""

from app.shared.views import View, chunks
from app.shell.fields import Field, declare
from app.steepness import (
    agreement,
    all_curves,
    all_pairs,
    anchors,
    local_geometry,
    one_pair,
    random_steps,
    resample_now,
)
from app.steepness.agreement import importance

SCATTER = View("scatter", "Steepness and importance", (chunks, importance), one_pair.draw_scatter)
FITTED = View("fitted_curve", "What the curve says", (chunks, importance), one_pair.draw_curve)
EVIDENCE = View("evidence", "Evidence", (chunks, importance), one_pair.draw_evidence)
CHUNK = View("steep_chunk", "Selected chunk", (chunks, importance), one_pair.draw_chunk)
PAIRS = View("all_pairs", "All pairs", (all_pairs.tested,), all_pairs.draw)
AGREEMENT = View("metric_agreement", "Agreement of the metrics", (importance,), agreement.draw)
RESAMPLE = View("resample", "How sure its importance is", (chunks, importance), resample_now.draw)
SWEPT = View("swept_against_fisher", "Sweep against Fisher", (chunks,), local_geometry.draw_swept)
ISOTROPIC = View("isotropic", "Random directions against tr(G)/2d", (chunks,), local_geometry.draw_isotropic)
CURVES = View("all_curves", "KL(β) of every chunk", (chunks, all_curves.swept), all_curves.draw_all)
KINDS = View("kinds_compared", "Kinds of direction at equal norm", (chunks, all_curves.swept), all_curves.draw_compared)
FINITE = View("finite_steps", "Finite random steps", (chunks, random_steps.stepped), random_steps.draw_curves)
ANISOTROPY = View("anisotropy", "Anisotropy", (chunks, random_steps.stepped), random_steps.draw_anisotropy)
MANIFOLD = View("manifold", "On the manifold against off it", (chunks,), local_geometry.draw_manifold)
BEFORE = View(
    "before_after",
    "Along any direction, just before every chunk and just after it",
    (chunks,),
    local_geometry.draw_before_after,
)
_STEERED = (chunks, anchors.steered)
ANCHOR_BETA = View("anchor_beta", "Towards the counterfactual, along β", _STEERED, anchors.draw_along_beta)
ANCHOR_ATTENTION = View("anchor_attention", "Attention to it, before and after", _STEERED, anchors.draw_attention)
ANCHOR_CHAIN = View("anchor_chain", "Gradually or in one step, along the chain", _STEERED, anchors.draw_chain)
ANCHOR_STUDY = View("anchor_study", "Anchors against other chunks", _STEERED, anchors.draw_study)
_ANCHORS = (ANCHOR_BETA, ANCHOR_ATTENTION, ANCHOR_CHAIN, ANCHOR_STUDY)
VIEWS = (
    SCATTER,
    FITTED,
    EVIDENCE,
    CHUNK,
    PAIRS,
    AGREEMENT,
    RESAMPLE,
    CURVES,
    KINDS,
    FINITE,
    ANISOTROPY,
    SWEPT,
    ISOTROPIC,
    MANIFOLD,
    *_ANCHORS,
    BEFORE,
)
PARTS = {
    "pair": "One pair",
    "pairs": "All pairs",
    "metrics": "Metrics",
    "curves": "All curves",
    "random": "Random directions",
    "geometry": "Side by side",
    "anchors": "Before and after",
}
PART = declare(Field("steepness_part", "part of the page", PARTS, of=None))
