"""The views of the page Crosscoder: what its features are comes first, and below it one part at a time of the rest."""

from app.crosscoder import chance_names, charts, classes, ends, labelling, nulls, quality, table, top
from app.shared.views import View, dictionary, features
from app.shell import selection
from app.shell.fields import Field, declare

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

# Below the charts, one part at a time.
PARTS = {
    "table": (TABLE,),
    "top": (TOP,),
    "ends": (ENDS, LABELLING),
    "chance": (CHANCE,),
    "quality": (QUALITY,),
}
TITLES = {
    "table": "Features",
    "top": "Strongest and most specific",
    "ends": "The two ends of NRN",
    "chance": "Names by chance",
    "quality": "Quality and training",
}
PART = declare(Field("crosscoder_part", "part of the page Crosscoder", tuple(PARTS), of=None))


def part_asked_for() -> str:
    """The part that is open where none is chosen: the one in which a link chose something."""
    if selection.get(labelling.SHEET) == "yes":
        return "ends"
    return "table" if selection.get(top.SPECIFIC_TO) is None else "top"
