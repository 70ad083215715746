"""UMAP and PCA of all chunk activations, layer by layer, turned so that layers can be compared."""

import json
from collections.abc import Iterator, Sequence

import pyarrow as pa

from backend.geometry.projection import latent_maps
from backend.ids import seed_for
from precompute import models
from precompute.estimates import Estimate, Quantities
from precompute.stages import chunks as chunks_stage
from precompute.units import Context, Finished, Unit

NAME, UNIT = "maps", "model"
RULE = 1  # of the maps: raise it when it changes
_LOAD_SECONDS, _MAP_SECONDS = 5.0, 0.5  # UMAP's compiled code, and one map of a few hundred chunks


def units(context: Context) -> list[Unit]:
    settings, chunks = context.study.map.model_dump(mode="json"), chunks_stage.newest(context)
    return [
        Unit(
            model_id,
            {
                "map": settings,
                "seed": context.study.seed,
                "activations": context.store.activation_digest(model_id),
                "chunks": chunks,
            },
        )
        for model_id in sorted(models.by_id(context.study))
        if context.store.activation_layers(model_id)
    ]


def estimate(of: Quantities) -> Estimate:
    gigabytes = of.n_chunks * of.layers * 1e-7
    return of.line(
        NAME, len(of.study.models), gigabytes=gigabytes, seconds=_LOAD_SECONDS + 2 * of.layers * _MAP_SECONDS
    )


def compute(context: Context, units: Sequence[Unit]) -> Iterator[Finished]:
    wanted = context.study.map
    for unit in units:
        model_id = unit.unit_id
        recorded = context.store.activation_layers(model_id)
        layers = recorded if wanted.layers == "all" else sorted(set(wanted.layers))
        seed = seed_for(context.study.seed, "maps", model_id)
        yield Finished(unit, _tables(context, model_id, layers, seed), {"seed": seed, "layers": json.dumps(layers)})


def _tables(context: Context, model_id: str, layers: Sequence[int], seed: int) -> dict[str, pa.Table]:
    wanted = context.study.map
    activations = {layer: context.store.activations(model_id, layer) for layer in layers}
    fitted = latent_maps(
        activations, model_id=model_id, seed=seed, n_neighbors=wanted.n_neighbors, min_dist=wanted.min_dist
    )
    for skipped in fitted.skipped:
        context.say(f"  {NAME:<12} no {skipped.method} of layer {skipped.layer}: {skipped.reason}")
    return {
        "maps": pa.Table.from_pandas(fitted.map_rows(), preserve_index=False),
        "projections": pa.Table.from_pandas(fitted.projection_rows(), preserve_index=False),
    }
