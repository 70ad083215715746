"""The views of the page Crosscoder."""

from app.crosscoder import chance_names, charts, classes, ends, labelling, nulls, quality, table, top
from app.shared.views import View, dictionary, features

TRAININGS = View("dictionary_trainings", "In training", (quality.a_training,), quality.draw_trainings)
QUALITY = View("dictionary_quality", "Quality of the dictionary", (dictionary,), quality.draw)
CLASSES = View("feature_classes", "Classes of features", (features, classes.two_models), classes.draw)
NULLS = View("null_pairs", "Beyond the null pairs", (features, classes.two_models), nulls.draw)
CHARTS = View("feature_charts", "Features of two models", (features,), charts.draw)
TOP = View("top_features", "Strongest and most specific features", (features,), top.draw)
ENDS = View("ends", "The two ends of NRN", (features, classes.two_models), ends.draw)
CHANCE = View("names_by_chance", "Names by chance", (features, classes.two_models), chance_names.draw)
TABLE = View("feature_table", "Features", (features,), table.draw)
LABELLING = View("label_sheet", "Label the ends", (features, classes.two_models), labelling.draw)
VIEWS = (TRAININGS, QUALITY, NULLS, CLASSES, CHARTS, TOP, ENDS, CHANCE, TABLE, LABELLING)
