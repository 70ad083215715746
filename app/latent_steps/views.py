"""The views of the page Latent steps."""

from app.latent_steps import (
    attention,
    components,
    decoded,
    early,
    lens_map,
    mean_differences,
    near_misses,
    needs,
    parity,
    runs,
    steering_map,
    steering_parts,
    tuned,
)
from app.latent_steps.chosen import latents
from app.latent_steps.needs import replaced
from app.latent_steps.readings import read_latents
from app.latent_steps.steering import steered
from app.shared.views import View
from app.shell.fields import Field, declare

RUNS = View("latent_runs", "One problem", (latents,), runs.draw)
EARLY = View("latent_early", "Answers after fewer latents", (latents,), early.draw)
MAP = View("latent_lens_map", "What each layer says", (latents, read_latents), lens_map.draw)
CELL = View("latent_lens_cell", "The cell that is looked at", (latents, read_latents), lens_map.draw_cell)
DECODED = View("latent_decoded", "When each result can be read", (latents, read_latents), decoded.draw)
TUNED = View("latent_tuned", "How far the tuned lens may be believed", (latents, read_latents), tuned.draw)
PARITY = View("latent_parity", "Odd and even latents", (latents, read_latents), parity.draw)
NEAR = View("latent_near_misses", "Near misses", (latents, read_latents), near_misses.draw)
DIFFERENCES = View("latent_differences", "Differences of mean latents", (latents, read_latents), mean_differences.draw)
COMPONENTS = View("latent_components", "Principal components", (latents, read_latents), components.draw)
ATTENTION = View("latent_attention", "Where latents look", (latents, read_latents), attention.draw)

READINGS = {
    "early": (EARLY,),
    "layers": (MAP, CELL),
    "results": (DECODED,),
    "tuned": (TUNED,),
    "parity": (PARITY,),
    "near": (NEAR,),
    "differences": (DIFFERENCES,),
    "components": (COMPONENTS,),
    "attention": (ATTENTION,),
}
READING = declare(Field("latent_reading", "reading of latents", tuple(READINGS), of=None))

STEERED = View("latent_steering_map", "Steered by differences", (latents, steered), steering_map.draw)
STEERED_RUNS = View("latent_steering_runs", "Runs of a cell", (latents, steered), steering_map.draw_runs)
SIBLINGS = View("latent_steering_siblings", "Siblings and spaces", (latents, steered), steering_parts.draw_summary)
APART = View("latent_steering_apart", "The published map taken apart", (latents, steered), steering_parts.draw_apart)
CONTROL = View("latent_steering_control", "Fitted vectors", (latents, steered), steering_parts.draw_control)

STEERINGS = {"map": (STEERED, STEERED_RUNS), "siblings": (SIBLINGS,), "apart": (APART,), "fitted": (CONTROL,)}
STEERING = declare(Field("latent_steering", "part of steered latents", tuple(STEERINGS), of=None))

NEEDS = View("latent_needs", "Which latents are needed, and which are specific?", (latents, replaced), needs.draw)
NEEDS_TABLE = View("latent_needs_table", "Latent by latent", (latents, replaced), needs.draw_table)
NEEDING = View("latent_needing", "Which problems need latents?", (latents, replaced), needs.draw_needing)
NEED_RUNS = View("latent_need_runs", "Answers with a latent replaced", (latents, replaced), needs.draw_runs)

NEEDED = {"latents": (NEEDS, NEEDS_TABLE), "problems": (NEEDING,), "runs": (NEED_RUNS,)}
NEED = declare(Field("latent_need", "part of replaced latents", tuple(NEEDED), of=None))
PARTS = (*READINGS.values(), *STEERINGS.values(), *NEEDED.values())
VIEWS = (RUNS, *(view for views in PARTS for view in views))
