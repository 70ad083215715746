"""The cloud of chunk activations around each chunk: its intrinsic dimension, curvature and density, layer by layer."""

from collections.abc import Iterator, Sequence

from precompute import models
from precompute.estimates import Estimate, Quantities
from precompute.stages import chunks as chunks_stage
from precompute.units import Context, Finished, Unit

NAME, UNIT = "neighbourhoods", "layer"
RULE = 1  # of what is measured: raise it when it changes
_CLOUD_SECONDS = 0.004  # a chunk activation in its cloud


def units(context: Context) -> list[Unit]:
    """One unit a model and layer; a cloud that gains a chunk is measured anew, because any chunk may have a new
    neighbour.
    """
    wanted = context.study.geometry
    if wanted is None:
        return []
    result, chunks = [], chunks_stage.newest(context)
    for model_id in sorted(models.by_id(context.study)):
        recorded = context.store.activation_layers(model_id)
        inputs = {
            "k": wanted.neighbours,
            "activations": context.store.activation_digest(model_id),
            "chunks": chunks,
        }
        steered = (
            context.study.sweep.layers if context.study.sweep else ()
        )  # the evidence holds the norm fixed there too
        layers = sorted({*context.study.geometry_layers, *steered})
        result += [Unit(f"{model_id}.{layer}", inputs) for layer in layers if layer in recorded]
    return result


def estimate(of: Quantities) -> Estimate | None:
    if of.study.geometry is None:
        return None
    n_layers = len(of.study.geometry_layers)
    clouds = of.n_chunks * n_layers
    units = len(of.study.models) * n_layers
    return of.line(NAME, units, gigabytes=clouds * 1e-7, seconds=clouds * _CLOUD_SECONDS)


def compute(context: Context, units: Sequence[Unit]) -> Iterator[Finished]:
    from backend.geometry.neighbourhoods import neighbourhoods

    for unit in units:
        model_id, layer = unit.unit_id.split(".")
        ids, vectors = context.store.activations(model_id, int(layer))
        cloud = dict(zip(ids, vectors, strict=True))
        rows = neighbourhoods(cloud, model_id=model_id, layer=int(layer), k=context.study.its_geometry.neighbours)
        yield Finished(unit, {"neighbourhoods": rows}, {"model_id": model_id})
