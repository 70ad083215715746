"""The views of the page Lenses."""

from app.lenses import cell, heat
from app.lenses.reading import a_model, a_text
from app.shared.views import View

MAP = View("lens_map", "What each layer says", (a_model, a_text), heat.draw)
TOKENS = View("lens_cell", "Likeliest tokens of a cell", (a_model, a_text), cell.draw_tokens)
TEXT = View("lens_text", "The text", (a_model, a_text), cell.draw_text)
VIEWS = (MAP, TOKENS, TEXT)
