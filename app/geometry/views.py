"""The views of the page Geometry."""

from app.shared.views import View
from app.shell.fields import Field, declare

# Its parts, in the order in which they are offered: the word in links, the words of the picker, the views.
PARTS: dict[str, tuple[str, tuple[View, ...]]] = {}
PART = declare(Field("geometry_part", "part of feature geometry", tuple(PARTS), of=None))
VIEWS = tuple(view for _, views in PARTS.values() for view in views)
