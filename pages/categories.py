"""Which features fire where a model doubts, concludes, tries another way or objects, and what those words lose without
them.
"""

from app.categories import reasoning_words
from app.categories.views import ABLATIONS, BESIDE_NULLS, FREQUENCIES
from app.shared import chosen_dictionary, views

here = views.here_now()
views.title()

reasoning_words.counted(chosen_dictionary.choose(here.store))
here.once(reasoning_words.scheme)
views.show(FREQUENCIES, here)
views.show(BESIDE_NULLS, here, heading=True, quiet=True)
views.show(ABLATIONS, here, heading=True)
chosen_dictionary.leave_if_asked()
