"""The views of the page Geometry."""

from app.geometry import pullback
from app.shared.views import View
from app.shell.fields import Field, declare

# Its parts, in the order in which they are offered: the word in links, the words of the picker, the views.
PULLBACK = View("pullback", "What directions do to the output together", (pullback.measured,), pullback.draw)
PULLBACK_PAIRS = View("pullback_pairs", "Pairs that differ most", (pullback.measured,), pullback.draw_pairs)

PARTS: dict[str, tuple[str, tuple[View, ...]]] = {
    "pullback": ("Interference in the output", (PULLBACK, PULLBACK_PAIRS)),
}
PART = declare(Field("geometry_part", "part of feature geometry", tuple(PARTS), of=None))
VIEWS = tuple(view for _, views in PARTS.values() for view in views)
