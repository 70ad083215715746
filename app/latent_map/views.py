"""The views of the page Latent map."""

from app.latent_map import card, chunk_map, enclosed
from app.latent_map.chunk_map import a_map
from app.shared.views import View, chunks

MAP = View("latent_map", "Latent map", (chunks, a_map), chunk_map.draw)
CARD = View("mapped_chunk", "Selected chunk", (chunks, a_map), card.draw)
ENCLOSED = View("enclosed_chunks", "Chunks in the selection", (chunks, a_map, enclosed.a_lasso), enclosed.draw)
VIEWS = (MAP, CARD, ENCLOSED)
