"""The views of the page Latent steps."""

from app.latent_steps import runs
from app.latent_steps.chosen import latents
from app.shared.views import View

RUNS = View("latent_runs", "One problem", (latents,), runs.draw)
VIEWS = (RUNS,)
