"""An intervention in words, as the page says it and the store keeps it."""

from backend.models.interventions import Intervention

_UNITS = {"rms": "RMS", "norm": "norms of the residual stream", "absolute": "(absolute)"}


def sentence(
    intervention: Intervention,
    direction: str,
    *,
    source_layer: int,
    chunk: str,
    span: tuple[int, int],
    n_prompt: int,
    seed: int | None = None,
    betas: tuple[float, ...] = (),
) -> str:
    """For example: add +4 RMS of self_checking − rest at layer 15 to the 14 tokens that predict chunk 7, seed 3.

    `direction` and `chunk` are what the page calls them; `span` is the chunk's token span. `betas`, where given, are
    the doses that are tried in place of the one β.
    """
    dose = f"{min(betas):+g} to {max(betas):+g}" if betas else f"{intervention.beta:+g}"
    amount = f"{dose} {_UNITS[intervention.unit]}"
    what = {
        "add": f"add {amount} of {direction}",
        "replace": f"set the component along {direction} to {amount}",
        "ablate": f"remove the component along {direction}",
        "cap": f"cap the component along {direction} at {amount}",
        "rotate": f"turn towards {direction} by {amount}, keeping the norm,",
    }[intervention.operation]
    layers = list(intervention.layers)
    at = f"layer {layers[0]}" if len(layers) == 1 else f"layers {layers[0]} to {layers[-1]}"
    made = "" if layers == [source_layer] else f" (made at layer {source_layer})"
    n_tokens = span[1] - span[0]
    where = {
        "anchor": f"the token before {chunk}",
        "chunk": f"the {n_tokens} token{'s' * (n_tokens != 1)} that predict {chunk}",
        "onward": f"every token from the one before {chunk} on, what is written included",
        "prompt": f"the {n_prompt - 1} tokens of the prompt after its first",
    }[intervention.place]
    gate = f", only while {intervention.gate.name}" if intervention.gate else ""
    return f"{what}{made} at {at} to {where}{gate}" + ("" if seed is None else f", seed {seed}")
