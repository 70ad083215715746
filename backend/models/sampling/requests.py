"""What is asked of sampling and what it answers; which tokens end a text."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from backend.errors import AnchorscopeError

if TYPE_CHECKING:
    from backend.models.loaded import LoadedModel


class SamplingError(AnchorscopeError):
    """A request that cannot be sampled as asked."""


@dataclass(frozen=True)
class SamplingParameters:
    """Applied in this order, as transformers does: temperature, the top_k most probable tokens,
    then the top_p nucleus."""

    temperature: float  # logits are divided by it; 0 takes the most probable token
    top_p: float  # in (0, 1]: a token is kept while the mass of the more probable ones is below it; 1 keeps all
    max_new_tokens: int  # a row that reaches it ends with finish "cap"
    top_k: int = 0  # 0 is off

    def __post_init__(self) -> None:
        if not (np.isfinite(self.temperature) and self.temperature >= 0):
            raise SamplingError(f"temperature is {self.temperature}, expected a number of 0 or more.")
        if not 0 < self.top_p <= 1:
            raise SamplingError(f"top_p is {self.top_p}, expected a number above 0 and at most 1.")
        if self.max_new_tokens < 1 or self.top_k < 0:
            raise SamplingError(
                f"max_new_tokens is {self.max_new_tokens} (1 or more) and top_k {self.top_k} (0 or more)."
            )


@dataclass(frozen=True)
class SampleRequest:
    request_id: str
    sequence_id: str
    prefix_length: int  # tokens of the sequence that are kept, 1 to all
    seed: int  # in [0, 2**63), of this rollout alone
    max_new_tokens: int | None = None  # of this rollout, at most the parameters'; None: as many
    given: tuple[int, ...] = ()  # read after the prefix, before any token is drawn; no part of the sample

    def most(self, parameters: SamplingParameters) -> int:
        return min(self.max_new_tokens or parameters.max_new_tokens, parameters.max_new_tokens)


@dataclass(frozen=True)
class Sample:
    request_id: str
    token_ids: tuple[int, ...]  # sampled tokens, without the end token
    finish: str  # "eos", or "cap" where max_new_tokens cut it


def end_tokens(loaded: "LoadedModel") -> frozenset[int]:
    """Tokens with which this model ends what it writes."""
    configured = [
        getattr(one, "eos_token_id", None)
        for one in (loaded.model.generation_config, loaded.model.config.get_text_config())
    ]
    first = next((one for one in configured if one is not None), None)
    ends = first if isinstance(first, list) else [first]
    return frozenset(token for token in [*ends, loaded.tokenizer.eos_token_id] if token is not None)


def require_end(loaded: "LoadedModel") -> None:
    """Raises SamplingError for a model that can end nothing it writes: each text would be cut by the cap and look
    unfinished.
    """
    if not end_tokens(loaded):
        from backend.models.loaded import NO_END

        raise SamplingError(f"{loaded.name} has no end token. {NO_END}")
