"""Kinds of map of steered latents, and of the vectors in one. Nothing here imports a model: pages read them."""

PAIR, RANDOM, FITTED, NONE = "pair", "random", "fitted", "none"  # kinds of vector
DIFFERENCES = "differences"  # kinds of map: this one, and FITTED
