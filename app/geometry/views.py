"""The views of the page Geometry."""

from app.geometry import (
    chunk_arithmetic,
    cosine_pairs,
    cosines,
    curves,
    divergence,
    feature_quadruples,
    parallelograms,
    paths,
    pullback,
    shape,
    trained,
)
from app.shared import parting
from app.shared.views import View, chunks, study
from app.shell.fields import Field, declare

SHAPE = View("shape_layers", "Shape by layer", (shape.measured,), shape.draw_layers)
SHAPE_OF_TAGS = View("shape_categories", "Shape by category", (shape.measured,), shape.draw_categories)
CURVES = View("curve_layers", "Circle, polynomial, and chance", (curves.read,), curves.draw_layers)
CURVE_POINTS = View("curve_points", "Words in the plane of a circle", (curves.read,), curves.draw_points)
PATHS = View("path_lengths", "Paths and their length", (paths.walked,), paths.draw_lengths)
PATH_OUTCOMES = View("path_outcomes", "Correct against wrong", (paths.walked,), paths.draw_outcomes)
_COSINED = (cosines.cosined,)
COSINE_HISTOGRAMS = View("cosine_histograms", "Tails of the cosines", _COSINED, cosines.draw_histograms)
COSINE_MASS = View("cosine_mass", "Tail mass by layer", _COSINED, cosines.draw_mass)
COSINE_RATIO = View("cosine_ratio", "One model against the other", _COSINED, cosines.draw_ratio)
COSINE_FREQUENCY = View("cosine_frequency", "By how often features fire", _COSINED, cosines.draw_frequency)
COSINE_PAIRS = View("cosine_pairs", "Pairs of a bin", _COSINED, cosine_pairs.draw_pairs)
COSINE_CLUSTERS = View("cosine_clusters", "Clusters by cosine", _COSINED, cosine_pairs.draw_clusters)
COSINES = (COSINE_HISTOGRAMS, COSINE_PAIRS, COSINE_MASS, COSINE_RATIO, COSINE_FREQUENCY, COSINE_CLUSTERS)

PULLBACK = View("pullback", "What directions do to the output together", (pullback.measured,), pullback.draw)
PULLBACK_PAIRS = View("pullback_pairs", "Pairs that differ most", (pullback.measured,), pullback.draw_pairs)
_WORDS = (study, parallelograms.measured)
LOSSES = View("parallelogram_curves", "Do word pairs make parallelograms?", _WORDS, parallelograms.draw_curves)
RATIOS = View("parallelogram_ratios", "Against shuffled pairs", _WORDS, parallelograms.draw_ratios)
LOSS_LAYERS = View("parallelogram_layers", "Layer by layer", _WORDS, parallelograms.draw_by_layer)
QUADRUPLES = View("parallelogram_examples", "Best and worst quadruples", _WORDS, parallelograms.draw_examples)
WORD_CLASSES = View("word_classes", "Which pairs take part", _WORDS, parallelograms.draw_classes)
CHUNK_ARITHMETIC = View(
    "chunk_arithmetic", "b − a + c of three chunks", (chunks, chunk_arithmetic.recorded), chunk_arithmetic.draw
)
FEATURE_QUADRUPLES = View(
    "feature_quadruples",
    "Do decoder rows make parallelograms?",
    (study, feature_quadruples.searched),
    feature_quadruples.draw,
)
TRAINED = View("sae_tails", "Do the middle layers cluster?", (trained.measured,), trained.draw)
TRAINED_QUALITY = View("sae_quality", "How good these dictionaries are", (trained.measured,), trained.draw_quality)
DIVERGENCE = View("divergence", "Where base and reasoner part", (divergence.measured,), divergence.draw)

# Its parts, in the order in which they are offered: the word in links, the words of the picker, the views.
PARTS: dict[str, tuple[str, tuple[View, ...]]] = {
    "cosines": ("Cosine tails", COSINES),
    "trained": ("Trained dictionaries", (TRAINED, TRAINED_QUALITY)),
    "pullback": ("Interference in the output", (PULLBACK, PULLBACK_PAIRS)),
    "shape": ("Shape", (SHAPE, SHAPE_OF_TAGS)),
    "curves": ("Circles and helices", (CURVES, CURVE_POINTS)),
    "paths": ("Paths", (PATHS, PATH_OUTCOMES)),
    "parallelograms": ("Parallelograms", (LOSSES, RATIOS, LOSS_LAYERS, QUADRUPLES, WORD_CLASSES, CHUNK_ARITHMETIC)),
    "quadruples": ("Quadruples of features", (FEATURE_QUADRUPLES,)),
    parting.PART: ("Where the models part", (DIVERGENCE,)),
}
PART = declare(Field("geometry_part", "part of feature geometry", tuple(PARTS), of=None))
VIEWS = tuple(view for _, views in PARTS.values() for view in views)
