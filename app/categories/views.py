"""The views of the page Categories."""

from app.categories import ablations, frequencies
from app.shared.views import View, dictionary

FREQUENCIES = View("category_frequencies", "Firing on target words", (dictionary,), frequencies.draw)
ABLATIONS = View("category_ablations", "Zeroing features", (dictionary,), ablations.draw)
VIEWS = (FREQUENCIES, ABLATIONS)
