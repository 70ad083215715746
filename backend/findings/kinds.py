"""The kinds of finding there are, in the order in which a study is told."""

from backend.findings import (
    associations,
    commitments,
    divergence,
    important_chunks,
    latents,
    leaning_features,
    steering,
)
from backend.findings.finding import KINDS as KINDS
from backend.findings.finding import Kind

ESTIMATES, BY_LAYER, LEANING = FIGURES = ("estimates", "by_layer", "leaning")

for kind in (
    Kind("important_chunks", "Chunks that matter", ESTIMATES, important_chunks.find),
    Kind("associations", "What goes with importance", ESTIMATES, associations.find, is_slow=True),
    Kind("leaning_features", "Features of one model", LEANING, leaning_features.find),
    Kind("steering", "Steering and the answer", ESTIMATES, steering.find, is_slow=True),
    Kind("divergence", "Where the models part", BY_LAYER, divergence.find),
    Kind("commitments", "When the answer is settled", ESTIMATES, commitments.find, is_slow=True),
    Kind("latents", "What latents do to accuracy", ESTIMATES, latents.find),
):
    KINDS.register(kind)
