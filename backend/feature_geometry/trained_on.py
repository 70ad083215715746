"""What small dictionaries learn from: the model's activations, or a cloud that has no features to be found. Importing
this costs no torch.

A dictionary of any cloud has rows of some cosines, and training moves them together or apart whatever there is to
learn. So what the model's dictionaries show is held against those of clouds, trained exactly alike. A frozen random
decoder is no null here: its rows are the isotropic draw itself, which the exact law already says.
"""

from dataclasses import dataclass

from backend.registry import Registry


@dataclass(frozen=True)
class Source:
    name: str
    words: str
    label: str  # in a legend


MODEL, GAUSSIAN, RANDOM_WEIGHTS = "model", "gaussian", "random_weights"
SOURCES: Registry[Source] = Registry(
    "source of dictionaries",
    Source(MODEL, "the model's activations", "the model"),
    Source(GAUSSIAN, "a Gaussian cloud of the layer's mean and covariance", "a Gaussian cloud"),
    Source(RANDOM_WEIGHTS, "activations of a randomly initialised model of the same architecture", "random weights"),
)
NULLS = tuple(name for name in SOURCES if name != MODEL)
