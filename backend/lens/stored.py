"""Lenses among a study's rows: written, and read back.

A map is stored row by row (`lens_rows`), so that it travels wherever rows do. A pack rounds it to float16.
"""

from typing import TYPE_CHECKING, Any

import torch

from backend.lens.kinds import LensError
from backend.lens.lens import JacobianLens, Lens, LogitLens, TunedLens

if TYPE_CHECKING:
    from backend.store.store import Store

LOGIT = "logit"  # the id of the lens that has nothing to store


def rows_of(lens_id: str, layer: int, weight: torch.Tensor, bias: torch.Tensor | None = None) -> list[dict[str, Any]]:
    """Rows of `lens_rows`: a map less the identity (d_model, d_model), and what is added (d_model,)."""
    values = weight.detach().cpu().float().numpy()
    added = [0.0] * len(values) if bias is None else bias.detach().cpu().float().tolist()
    return [
        {"lens_id": lens_id, "layer": layer, "row": row, "values": values[row], "bias": added[row]}
        for row in range(len(values))
    ]


def lens_of(
    store: "Store", lens_id: str, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> Lens:
    """The lens; `dtype` and `device` are those of the streams it will read. Raises LensError where it, or a map of it,
    is not here.
    """
    if lens_id == LOGIT:
        return LogitLens()
    facts, layers = store.lens_facts(lens_id), store.lens_layers(lens_id)
    if not facts:
        raise LensError(f"{store.path} has no lens {lens_id!r}.")
    identity = frozenset(layers["layer"][layers["kept"] == "identity"].tolist())
    maps = {
        layer: (weight.to(device, dtype), bias.to(device, dtype))
        for layer in layers["layer"]
        if layer not in identity
        for weight, bias in [_map(store, lens_id, layer)]
    }
    if facts["kind"] == "tuned":
        return TunedLens(facts["n_layers"], maps, identity)
    if facts["kind"] == "jacobian":
        eye = torch.eye(facts["d_model"], dtype=dtype, device=device)
        return JacobianLens(facts["n_layers"], {layer: weight + eye for layer, (weight, _) in maps.items()})
    raise LensError(f"The lens {lens_id} of {store.path} is of kind {facts['kind']!r}, which nothing here reads.")


def layers_read(store: "Store", lens_id: str, n_layers: int) -> tuple[int, ...]:
    """The layers that a lens of a model reads, from the first to the last, which is the model itself."""
    if lens_id == LOGIT:
        return tuple(range(n_layers))
    return (*store.lens_layers(lens_id)["layer"].tolist(), n_layers - 1)


def _map(store: "Store", lens_id: str, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
    found = store.lens_map(lens_id, layer)
    if found is None:
        raise LensError(
            f"The map of lens {lens_id} at layer {layer} is not in {store.path}: it knows the rows of named tokens"
            " alone, and gives no probabilities."
        )
    return torch.from_numpy(found[0]), torch.from_numpy(found[1])
