"""Reasoning in latent space: run, read and steered."""

from app.latent_steps.chosen import latents
from app.latent_steps.views import RUNS, STEERING, STEERINGS
from app.shared import views

here = views.here_now()
views.title()
views.require(here, latents)
views.show(RUNS, here, heading=True)
shown = views.part(STEERING, "Steering", {name: some[0].title for name, some in STEERINGS.items()})
for view in STEERINGS[shown]:
    views.show(view, here)
