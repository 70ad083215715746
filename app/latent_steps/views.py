"""The views of the page Latent steps."""

from app.latent_steps import runs, steering_map, steering_parts
from app.latent_steps.chosen import latents
from app.latent_steps.steering import steered
from app.shared.views import View
from app.shell.fields import Field, declare

RUNS = View("latent_runs", "One problem", (latents,), runs.draw)
STEERED = View("latent_steering_map", "Steered by differences", (latents, steered), steering_map.draw)
STEERED_RUNS = View("latent_steering_runs", "Runs of a cell", (latents, steered), steering_map.draw_runs)
SIBLINGS = View("latent_steering_siblings", "Siblings and spaces", (latents, steered), steering_parts.draw_summary)
APART = View("latent_steering_apart", "The published map taken apart", (latents, steered), steering_parts.draw_apart)
CONTROL = View("latent_steering_control", "Fitted vectors", (latents, steered), steering_parts.draw_control)

STEERINGS = {"map": (STEERED, STEERED_RUNS), "siblings": (SIBLINGS,), "apart": (APART,), "fitted": (CONTROL,)}
STEERING = declare(Field("latent_steering", "part of steered latents", tuple(STEERINGS), of=None))
VIEWS = (RUNS, *(view for views in STEERINGS.values() for view in views))
