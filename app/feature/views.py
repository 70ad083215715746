"""The views of the page Feature; with a second one pinned, each shows two features side by side."""

from app.feature import side_by_side as panels
from app.feature.side_by_side import beside
from app.shared.views import View, features

GLANCE = View("feature_glance", "What is known of it", (features,), beside(panels.glance_panel))
LABEL = View("feature_label", "Label", (features,), beside(panels.label_panel))
EXAMPLES = View("feature_examples", "Where it fires most", (features,), beside(panels.examples_panel))
HISTOGRAM = View("feature_histogram", "How strongly it fires", (features,), beside(panels.histogram_panel))
LOGITS = View("feature_logits", "What it writes to the logits", (features,), beside(panels.logits_panel))
NEIGHBOURS = View("feature_neighbours", "Neighbours", (features,), beside(panels.neighbours_panel))
CATEGORIES = View("feature_categories", "On what it fires", (features,), beside(panels.categories_panel))
VIEWS = (EXAMPLES, LOGITS, HISTOGRAM, LABEL, GLANCE, CATEGORIES, NEIGHBOURS)
