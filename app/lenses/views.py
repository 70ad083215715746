"""The views of the page Lenses."""

from app.lenses import cell, curves, heat, local, quality, vector
from app.lenses.quality import a_quality
from app.lenses.reading import a_model, a_text
from app.shared.views import View

MAP = View("lens_map", "What each layer says", (a_model, a_text), heat.draw)
TOKENS = View("lens_cell", "Likeliest tokens of a cell", (a_model, a_text), cell.draw_tokens)
LOCAL = View("lens_local", "The cell by its own Jacobian", (a_model, a_text), local.draw)
TEXT = View("lens_text", "The text", (a_model, a_text), cell.draw_text)
CURVES = View("lens_curves", "Followed tokens", (a_model, a_text), curves.draw)
QUALITY = View("lens_quality", "When to believe it", (a_model, a_text, a_quality), quality.draw)
VECTOR = View("lens_vector", "Lens of a direction", (a_model, a_text), vector.draw)
VIEWS = (MAP, TOKENS, LOCAL, TEXT, CURVES, QUALITY, VECTOR)
