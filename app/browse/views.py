"""The views of the page Browse."""

from app.browse import chosen, table
from app.shared.views import View, chunks

TABLE = View("browse_table", "Chunks and chains of thought", (chunks,), table.draw)
CHOSEN = View("browse_chosen", "Selected chunk", (chunks,), chosen.draw)
VIEWS = (TABLE, CHOSEN)
