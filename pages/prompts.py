"""How models answer under each prompt, and what of a difference is the model's and what the prompt's."""

from app.prompts.views import ASKED, BY_PROMPT, CONTRASTS, LENGTHS
from app.shared import views

here = views.here_now()
views.title()
views.show(BY_PROMPT, here)
views.show(LENGTHS, here, heading=True, quiet=True)
views.show(CONTRASTS, here, heading=True, quiet=True)
views.show(ASKED, here, heading=True, quiet=True)
