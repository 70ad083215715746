"""The views of the page Steering."""

from app.shared.views import Here, View
from app.steering import both_models, compared_runs, runs, text_and_curve
from app.steering.text_and_curve import a_model, a_text
from backend.store.store import Store


def _runs(here: Here, store: Store) -> None:
    runs.draw(here, store)
    compared_runs.draw_pin(here, store)


TEXT = View("steered_text", "The text that is steered", (a_text, a_model), text_and_curve.draw_text)
PLAN = View("steering_plan", "What is done", (a_text, a_model), text_and_curve.draw_plan)
CURVE = View("steering_curve", "KL(β)", (a_text, a_model), text_and_curve.draw_curve)
RUN = View("steering_run", "What is run", (a_text, a_model), runs.draw_controls)
BOTH = View("steering_both", "Both models along β", (a_text, a_model, both_models.a_pair), both_models.draw)
RUNS = View("steering_streams", "Runs", (runs.a_run,), _runs)
COMPARED = View("compared_runs", "Two runs", (compared_runs.two_runs,), compared_runs.draw)
HISTORY = View("steering_history", "Kept runs", (a_text, a_model), runs.draw_history)
VIEWS = (TEXT, PLAN, CURVE, RUN, BOTH, RUNS, COMPARED, HISTORY)
