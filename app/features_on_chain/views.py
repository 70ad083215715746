"""The views of the page Features on the chain."""

from app.features_on_chain import codes_along_text
from app.shared.views import View, features

HEAT = View("chain_heat", "Features along the text", (features,), codes_along_text.draw_heat)
LOOKED_AT = View("chain_tokens", "What fires there", (features,), codes_along_text.draw_looked_at)
VIEWS = (HEAT, LOOKED_AT)
