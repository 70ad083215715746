"""The views of the page About this study."""

from app.overview import contents, runs, trainings
from app.shared.views import View, study

NAME = View("study_name", "Study", (study,), contents.draw_name)
COUNTS = View("study_counts", "Counts", (study,), contents.draw_counts)
ACCURACY = View("accuracy_by_level", "Accuracy by level", (study,), contents.draw_accuracy)
MODELS = View("models", "Models", (study,), contents.draw_models)
NOT_YET = View("not_there_yet", "Not there yet", (contents.anything_missing,), contents.draw_missing)
PROMPTS = View("way_to_prompts", "Prompts", (contents.several_asked,), contents.draw_way_to_prompts)
TRAININGS = View("trainings", "How the models were trained", (trainings.a_training,), trainings.draw)
RUNS = View("runs", "Runs", (study,), runs.draw)
WARNINGS = View("warnings", "What was left out", (runs.a_warning,), runs.draw_warnings)
VIEWS = (NAME, COUNTS, ACCURACY, MODELS, NOT_YET, PROMPTS, TRAININGS, RUNS, WARNINGS)
