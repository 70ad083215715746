"""The views of the page Causation."""

from app.causation import answer, arms
from app.causation.answer import steered
from app.shared.views import View

ANSWER = View(
    "causation_answer",
    "Does steering an anchor change the answer more than steering another chunk?",
    (steered,),
    answer.draw,
)
PAIRS = View("causation_pairs", "Pair by pair", (steered,), answer.draw_pairs)
TABLE = View("causation_table", "The pairs", (steered,), answer.draw_table)
ARMS = View("causation_arms", "What the arms wrote", (steered,), arms.draw)
VIEWS = (ANSWER, PAIRS, TABLE, ARMS)
