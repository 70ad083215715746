"""The views of the page Findings: one of each kind, and what is not known yet."""

from app.findings import cards, tour
from app.shared.views import View, study
from backend.findings.kinds import KINDS
from backend.store.store import Store

FINDINGS = {name: View(f"finding_{name}", kind.title, (study,), cards.drawing(kind)) for name, kind in KINDS.items()}
UNKNOWN = View("still_unknown", "Not yet", (cards.anything_unknown,), cards.draw_unknown)
TOUR = View("tour", "Tour", (study,), tour.draw)
CARDS = (*FINDINGS.values(), UNKNOWN)  # as they stand
_SLOW = tuple(FINDINGS[name] for name, kind in KINDS.items() if kind.is_slow)
IN_TURN = (*(card for card in CARDS if card not in _SLOW), *_SLOW)  # as they are looked for
VIEWS = (TOUR, *FINDINGS.values(), UNKNOWN)


def in_order(store: Store) -> tuple[View, ...]:
    """The cards as they stand: first that of latents in a study of models that think in them."""
    latents = FINDINGS["latents"]
    return CARDS if store.latent_models().empty else (latents, *(card for card in CARDS if card != latents))
