"""The views of the page Compare studies."""

from app.compare_studies import points
from app.shared.views import View, study

BY_AXIS = View("studies_as_points", "Studies as points", (study,), points.draw)
VIEWS = (BY_AXIS,)
