"""The views of the page Interventions."""

from app.interventions import form, results, running
from app.shared.views import View, dictionary, features

FEATURES = View("changed_features", "Features to change", (features,), form.draw_features)
TRIAL = View("intervention_trial", "What is done to them", (features,), form.draw_trial)
RUNNING = View("interventions_running", "Under way", (dictionary, running.anything_to_do), running.draw)
ASKED = View("interventions_asked", "What was asked", (dictionary,), results.draw_asked)
RESULTS = View("intervention_results", "What came of it", (dictionary, results.anything_asked), results.draw)
VIEWS = (FEATURES, TRIAL, RUNNING, ASKED, RESULTS)
