"""A model in memory, with what identifies it (`loading.py` makes one)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from backend.ids import stable_id

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

NO_END = (
    "It would write on until it is cut, and no text would count as finished. Set eos_token in its"
    " tokenizer_config.json, or eos_token_id in its generation_config.json."
)


class HasModel(Protocol):
    """Whatever holds a model, be it known by name or not yet."""

    @property
    def model(self) -> "PreTrainedModel": ...


@dataclass(frozen=True)
class LoadedModel:
    model: "PreTrainedModel"  # in eval mode, no gradients
    tokenizer: "PreTrainedTokenizerBase"  # a fast one: it maps tokens to characters
    name: str  # as asked for: embedded:NAME, folder, or hub id
    revision: str  # hub commit, or sha256 of the weights; base+adapter where an adapter was merged
    dtype: str  # of the forward pass
    family: str  # transformers' model_type
    n_layers: int  # blocks
    d_model: int  # width of the residual stream
    vocab_size: int  # rows of the unembedding

    @property
    def model_id(self) -> str:
        return stable_id("m", self.name, self.revision, self.dtype)
