"""An intervention in words, as the page says it and the store keeps it."""

from backend.models.interventions import OPERATIONS, PLACES, UNITS, Intervention


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
    amount = f"{dose} {UNITS[intervention.unit].phrase}"
    what = OPERATIONS[intervention.operation].phrase.format(amount=amount, direction=direction)
    layers = list(intervention.layers)
    at = f"layer {layers[0]}" if len(layers) == 1 else f"layers {layers[0]} to {layers[-1]}"
    made = "" if layers == [source_layer] else f" (made at layer {source_layer})"
    n_tokens = span[1] - span[0]
    where = PLACES[intervention.place].phrase.format(
        chunk=chunk, chunk_tokens=f"{n_tokens} token{'s' * (n_tokens != 1)}", n_rest=n_prompt - 1
    )
    gate = f", only while {intervention.gate.name}" if intervention.gate else ""
    return f"{what}{made} at {at} to {where}{gate}" + ("" if seed is None else f", seed {seed}")
