"""The views of the page Findings: one of each kind, and what is not known yet."""

from app.findings import cards, tour
from app.shared.views import View, study
from backend.findings.kinds import KINDS

FINDINGS = {name: View(f"finding_{name}", kind.title, (study,), cards.drawing(kind)) for name, kind in KINDS.items()}
UNKNOWN = View("still_unknown", "Not yet", (cards.anything_unknown,), cards.draw_unknown)
TOUR = View("tour", "Tour", (study,), tour.draw)
VIEWS = (TOUR, *FINDINGS.values(), UNKNOWN)
