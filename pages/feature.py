"""One feature, or two to four side by side: where they fire, and one part at a time of what else is known of them."""

from app.feature.side_by_side import controls, leave_if_asked
from app.feature.views import ALONE, COMPARED, COMPARED_PART, EXAMPLES, LOGITS, PART, TITLES
from app.shared import chosen_dictionary, views

here = views.here_now()
views.title()

chosen_dictionary.choose_and_name(here.store)
views.require(here, views.features)
if len(here.once(controls)) > 1:
    views.show(EXAMPLES, here, heading=True)
    field, parts = COMPARED_PART, COMPARED
else:
    views.show_beside(here, EXAMPLES, LOGITS)
    field, parts = PART, ALONE
for row in parts[views.part(field, "What else is shown", {name: TITLES[name] for name in parts})]:
    views.show_beside(here, *row)
leave_if_asked()
