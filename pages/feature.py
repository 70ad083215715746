"""One feature: where it fires, what it writes, and what it is called; a second one beside it."""

from app.feature.side_by_side import controls, leave_if_asked
from app.feature.views import GLANCE, VIEWS
from app.shared import chosen_dictionary, views

here = views.here_now()
views.title()

chosen_dictionary.choose_and_name(here.store)
views.require(here, views.features)
here.once(controls)
for view in VIEWS:
    views.show(view, here, heading=view is not GLANCE)
leave_if_asked()
