"""The views of the page Feature; with others to compare, each shows two to four features side by side."""

from app.feature import compared
from app.feature import side_by_side as panels
from app.feature.compared import of_several
from app.feature.side_by_side import beside
from app.shared.views import View, chunks, features
from app.shell.fields import Field, declare

GLANCE = View("feature_glance", "What is known of it", (features,), panels.draw_glance)
LABEL = View("feature_label", "Label", (features,), beside(panels.label_panel))
EXAMPLES = View("feature_examples", "Where it fires most", (features,), panels.draw_examples)
HISTOGRAM = View("feature_histogram", "How strongly it fires", (features,), beside(panels.histogram_panel))
LOGITS = View("feature_logits", "What it writes to the logits", (features,), panels.draw_logits)
NEIGHBOURS = View("feature_neighbours", "Neighbours", (features,), beside(panels.neighbours_panel))
CATEGORIES = View("feature_categories", "On what it fires", (features,), panels.draw_categories)
OVERLAY = View("features_overlay", "On one chain", (features, chunks), of_several(compared.draw_overlay))
TOGETHER = View("features_together", "On the same tokens", (features,), of_several(compared.draw_together))
PLACES = View("features_places", "Where they fire together", (features,), of_several(compared.draw_places))
COSINES = View("features_cosines", "How alike their rows are", (features,), of_several(compared.draw_cosines))
VIEWS = (
    *(EXAMPLES, LOGITS, HISTOGRAM, LABEL, GLANCE, CATEGORIES, NEIGHBOURS),
    *(OVERLAY, TOGETHER, PLACES, COSINES),
)

# Below the examples, one part at a time: rows of views.
ALONE = {
    "known": ((GLANCE, HISTOGRAM), (LABEL,)),
    "fires": ((CATEGORIES,),),
    "near": ((NEIGHBOURS,),),
}
COMPARED = {
    "together": ((OVERLAY,), (TOGETHER, COSINES)),
    "places": ((PLACES,),),
    "logits": ((LOGITS,),),
    "known": ((GLANCE,), (LABEL,)),
    "strength": ((HISTOGRAM,),),
    "fires": ((CATEGORIES,),),
    "near": ((NEIGHBOURS,),),
}
TITLES = {
    "together": "Together",
    "places": "Shared texts",
    "logits": "Logits",
    "known": "What is known, and label",
    "strength": "How strongly they fire",
    "fires": "On what it fires",
    "near": "Neighbours",
}
PART = declare(Field("feature_part", "part of the page Feature", tuple(ALONE), of=None))
COMPARED_PART = declare(Field("compared_part", "part of the comparison of features", tuple(COMPARED), of=None))
