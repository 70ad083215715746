"""Whether a loaded model can be measured at all: tried on a few tokens, not read off its name (`families.py` does)."""

from dataclasses import dataclass
from typing import Any

import torch

from backend.errors import AnchorscopeError
from backend.models.edits import encode
from backend.models.families import equal, is_known
from backend.models.layers import layers_of, private_copy
from backend.models.model_files import ModelLoadingError, one_line
from backend.models.residuals import recording
from backend.models.sampling import PlainRows
from backend.models.tangents import UpperLayers

_SHOWN = 8  # tokens of the passes that are compared


@dataclass(frozen=True)
class _Untried:
    """A model before anything else is known of it."""

    model: Any


def check(name: str, model: Any) -> None:
    """Raises ModelLoadingError where a loaded model's own forward pass cannot be taken apart as every measurement here
    does.

    Of a family that is not known its cache and its derivatives are tried too, so that nothing fails in the middle of a
    study.
    """
    whose = f"{name} (family {model.config.model_type}) cannot be measured"
    try:
        reason = _apart(model) or (None if is_known(model.config.get_text_config().model_type) else _untried(model))
    except AnchorscopeError as error:
        raise ModelLoadingError(f"{whose}: {error}") from error
    except Exception as error:  # whatever a family makes of a plain pass is the reason why it cannot be measured
        raise ModelLoadingError(f"{whose}: a pass over {_SHOWN} tokens fails ({one_line(error)}).") from error
    if reason is not None:
        raise ModelLoadingError(f"{whose}: {reason}.")


def _apart(model: Any) -> str | None:
    """Why logits do not follow from the last block's output, or earlier ones depend on later tokens; None where all is
    well.
    """
    own = private_copy(model)
    parts = layers_of(own)
    tokens, last = _tokens(model), len(parts.blocks) - 1
    later = tokens.clone()
    later[:, -1] += 1
    with torch.inference_mode():
        with recording(parts.blocks, [last]) as residuals:
            logits = own(input_ids=tokens, use_cache=False).logits
        if not equal(parts.unembed(parts.final_norm(residuals[last])), logits):
            return (
                "its logits are not those of its last block's output, so they do not follow from an edited residual"
                " stream"
            )
        if not equal(own(input_ids=later, use_cache=False).logits[:, :-1], logits[:, :-1]):
            return "its predictions depend on later tokens, so it is no causal language model"
    return None


def _untried(model: Any) -> str | None:
    """Why the plain way fails a family that nobody tried; None where it does not."""
    tokens = _tokens(model)[0].cpu().tolist()
    loaded = _Untried(model)
    with torch.inference_mode():
        whole = model(input_ids=torch.tensor([tokens], device=model.device), use_cache=False).logits[0]
    rows = PlainRows(loaded, tokens[:-1], [()])
    rows.logits(tokens[-2:-1])
    rows.repeat(2)
    if not equal(rows.logits(tokens[-1:] * 2), whole[-1:].expand(2, -1)):
        return "with its cache it continues a text otherwise than it reads it as a whole"
    upper = UpperLayers(encode(loaded, tokens, layers=[0]), 0, first=2, end=4)
    step = torch.ones(1, 2, model.config.get_text_config().hidden_size, dtype=model.dtype, device=model.device)
    try:
        upper.pull(upper.push(step))
    except RuntimeError as error:
        return f"torch cannot differentiate its blocks, as exact geometry does ({one_line(error)})"
    return None


def _tokens(model: Any) -> Any:
    return torch.arange(1, _SHOWN + 1, device=model.device)[None]
