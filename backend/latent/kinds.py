"""Where a latent can be moved, and which siblings a latent model has, in words. Nothing here imports a model."""

from dataclasses import dataclass

from backend.errors import AnchorscopeError
from backend.registry import Registry


class LatentError(AnchorscopeError):
    """A latent model, vector or setting that cannot be used."""


@dataclass(frozen=True)
class Space:
    """A place where latent i can be moved. Vectors carry the name of theirs; adding one in another space is refused."""

    name: str
    label: str  # in a picker
    words: str


@dataclass(frozen=True)
class Unsaid:
    """What the files of a latent model may not say of it. None: as its layout has it."""

    base: str | None = None  # folder or hub id of the language model that it was made of
    remove_eos: bool | None = None  # whether no eos follows the question
    lora_alpha: float | None = None  # the scale of LoRA is alpha / r; r is seen in the weights
    n_latents: int | None = None  # that it was trained with


@dataclass(frozen=True)
class Sibling:
    """A model trained on the same data with the same steps and seeds, with or without recurrence."""

    name: str
    label: str
    words: str


SPACES: Registry[Space] = Registry(
    "space of latents",
    Space("z", "z, after the projection", "The embedding that is fed at latent i."),
    Space(
        "h",
        "h, before the projection",
        "The hidden state that becomes latent i: the last one at the position before it, after the final norm. It is"
        " moved and then projected.",
    ),
    Space(
        "kv",
        "KV, keys and values",
        "What every layer keeps of latent i for later positions. Keys are turned back by their position's rotation"
        " before they are averaged, and turned again where they are added.",
    ),
    Space("k", "K, keys alone", "As KV, and the values stay."),
    Space("v", "V, values alone", "As KV, and the keys stay."),
    error=LatentError,
)

SIBLINGS: Registry[Sibling] = Registry(
    "sibling",
    Sibling("latent", "latent", "Each latent is made of the hidden state before it: the recurrence."),
    Sibling(
        "pause",
        "pause",
        "As many extra positions with learned embeddings, the same for every problem: the computation without the"
        " recurrence.",
    ),
    Sibling("none", "none", "No latents: the answer follows the question at once."),
    error=LatentError,
)
