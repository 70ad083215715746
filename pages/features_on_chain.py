"""A dictionary's features along one chain of thought, or along any text: token by token, chunk by chunk, in both
models.
"""

from app.features_on_chain.views import HEAT, LOOKED_AT
from app.shared import chosen_dictionary, views

here = views.here_now()
views.title()

chosen_dictionary.choose_and_name(here.store)
views.require(here, views.features)
views.show(HEAT, here)
views.show(LOOKED_AT, here)
chosen_dictionary.way_to_feature()
