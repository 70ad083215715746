"""Which sentence acts on which, over a study: categories, distance, receiver heads, and whether the ways agree."""

from app.influence.study import asked, known
from app.influence.views import (
    AGREEMENT,
    CATEGORIES,
    DISAGREEMENTS,
    DISTANCE,
    HEADS,
    PART,
    PARTS,
    RECEIVED,
    SAYS,
)
from app.shared import chosen_chain, views


def over_study() -> None:
    views.require(here, known)
    here.once(asked)
    views.show(CATEGORIES, here, heading=True)
    views.show(DISTANCE, here, heading=True)


def heads() -> None:
    views.show(HEADS, here)
    if HEADS.missing(here) is None and RECEIVED.missing(here) is None:
        here.look_at(chosen_chain.choose_in_drawer(here.store, here.chunk))
        views.show(RECEIVED, here)


def ways() -> None:
    views.show_all(here, AGREEMENT, DISAGREEMENTS)


def says() -> None:
    views.show(SAYS, here)


here = views.here_now()
views.title()
PARTS_SHOWN = {
    "study": over_study,
    "heads": heads,
    "agreement": ways,
    "says": says,
}
PARTS_SHOWN[views.part(PART, "Part", PARTS)]()
