"""The views of the page Direction library."""

from app.direction_library import audit, vectors
from app.direction_library.vectors import a_vector
from app.shared.views import View

LIST = View("library_vectors", "Vectors of the library", (a_vector,), vectors.draw_list)
CARD = View("library_vector", "One vector", (a_vector,), vectors.draw_card)
LIKENESS = View("vector_likeness", "Cosines with other directions", (a_vector,), audit.draw_likeness)
LENS = View("vector_lens", "Tokens that it writes", (a_vector,), audit.draw_lens)
COST = View("vector_cost", "What a push along it costs", (a_vector,), audit.draw_cost)
TEXTS = View("vector_texts", "What it does to length and loops", (a_vector,), audit.draw_texts)
VIEWS = (LIST, CARD, LIKENESS, LENS, COST, TEXTS)
