"""The views of the page Categories."""

from app.categories import ablations, beside_nulls, frequencies
from app.shared.views import View, dictionary, features

FREQUENCIES = View("category_frequencies", "Firing on target words", (dictionary,), frequencies.draw)
BESIDE_NULLS = View("reasoning_features", "Features of each kind of word", (features,), beside_nulls.draw)
ABLATIONS = View("category_ablations", "Zeroing features", (dictionary,), ablations.draw)
VIEWS = (FREQUENCIES, BESIDE_NULLS, ABLATIONS)
