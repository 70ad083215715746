"""One feature: where it fires, what it writes, and what it is called; a second one beside it."""

from app.feature.side_by_side import controls, leave_if_asked
from app.feature.views import CATEGORIES, EXAMPLES, GLANCE, HISTOGRAM, LABEL, LOGITS, NEIGHBOURS, VIEWS
from app.shared import chosen_dictionary, views

here = views.here_now()
views.title()

chosen_dictionary.choose_and_name(here.store)
views.require(here, views.features)
if len(here.once(controls)) > 1:
    for view in VIEWS:
        views.show(view, here, heading=True)
else:
    views.show_beside(here, EXAMPLES, LOGITS)
    views.show_beside(here, HISTOGRAM, LABEL)
    views.show_beside(here, GLANCE, CATEGORIES)
    views.show(NEIGHBOURS, here, heading=True)
leave_if_asked()
