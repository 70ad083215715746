"""The views of the page Influence."""

from app.influence import agreement, heads, says, study
from app.shared.views import View, chunks
from app.shared.views import study as a_study
from app.shell.fields import Field, declare

CATEGORIES = View("influence_categories", "Which sentences act furthest?", (study.known,), study.draw_categories)
DISTANCE = View("influence_distance", "By distance", (study.known,), study.draw_distance)
HEADS = View("receiver_heads", "Receiver heads", (heads.measured,), heads.draw)
RECEIVED = View("received_attention", "One head along the chain", (heads.measured, chunks), heads.draw_received)
AGREEMENT = View("influence_agreement", "Do the methods agree?", (agreement.compared,), agreement.draw)
DISAGREEMENTS = View(
    "influence_disagreements", "Where they disagree most", (study.known,), agreement.draw_disagreements
)
SAYS = View("influence_ways", "Limits of each method", (a_study,), says.draw)

PARTS = {
    "study": "Which sentences act furthest?",
    "heads": "Receiver heads",
    "agreement": "Do the methods agree?",
    "says": "Limits of each method",
}
PART = declare(Field("influence_page", "part of the page Influence", tuple(PARTS), of=None))
VIEWS = (CATEGORIES, DISTANCE, HEADS, RECEIVED, AGREEMENT, DISAGREEMENTS, SAYS)
