"""The views of the page Steepness and importance."""

from app.shared.views import View, chunks
from app.shell.fields import Field, declare
from app.steepness import agreement, all_pairs, local_geometry, one_pair, resample_now
from app.steepness.agreement import importance

SCATTER = View("scatter", "Steepness and importance", (chunks, importance), one_pair.draw_scatter)
EVIDENCE = View("evidence", "Evidence", (chunks, importance), one_pair.draw_evidence)
CHUNK = View("steep_chunk", "Selected chunk", (chunks, importance), one_pair.draw_chunk)
PAIRS = View("all_pairs", "All pairs", (all_pairs.tested,), all_pairs.draw)
AGREEMENT = View("metric_agreement", "Agreement of the metrics", (importance,), agreement.draw)
RESAMPLE = View("resample", "How sure its importance is", (chunks, importance), resample_now.draw)
SWEPT = View("swept_against_fisher", "Sweep against Fisher", (chunks,), local_geometry.draw_swept)
ISOTROPIC = View("isotropic", "Random directions against tr(G)/2d", (chunks,), local_geometry.draw_isotropic)
FINITE = View("finite_steps", "Finite steps at the selected chunk", (chunks,), local_geometry.draw_finite_steps)
MANIFOLD = View("manifold", "On the manifold against off it", (chunks,), local_geometry.draw_manifold)
BEFORE = View("before_after", "Just before a chunk against just after it", (chunks,), local_geometry.draw_before_after)
VIEWS = (SCATTER, EVIDENCE, CHUNK, PAIRS, AGREEMENT, RESAMPLE, SWEPT, ISOTROPIC, FINITE, MANIFOLD, BEFORE)
PARTS = {"pair": "One pair", "pairs": "All pairs", "metrics": "Metrics", "geometry": "Side by side"}
PART = declare(Field("steepness_part", "part of the page", PARTS, of=None))
