"""The reference set of each model that reads: the chunks that study-wide directions and tangents are made of.

1. It is frozen when directions are first made: every chunk with activations is in it. One more CoT then costs its own
   work only: its chunks are steered along the mean that the others were.
2. `sweep.reference` names it; another name freezes another, of what is there then, and all that rests on it is computed
   again.
3. A set counts while all of its chunks have activations. Where some have gone (other CoTs, another tokenization), the
   largest frozen set of that name that is whole counts, and if there is none, one more is frozen. Sets are never
   retired: whoever goes back to an earlier study file finds its set, and all that rests on it, again.
4. A study whose directions are older than these sets has the one that they imply, all that is there before anything is
   added: it runs this stage first.
"""

from collections.abc import Iterator, Sequence

from backend.geometry.direction_library import anchor_convention
from backend.ids import stable_id
from precompute.estimates import Estimate, Quantities
from precompute.steered import reference_now, steered_cots
from precompute.units import Context, Finished, Unit

NAME, UNIT = "reference", "set or model"
RULE = 1  # of what a set is: raise it when it changes
FREEZES = (
    "sweep",
    "geometry",
    "before_after",
    "anchors",
)  # where these have units and this one has none, it runs first


def units(context: Context) -> list[Unit]:
    """A unit a set, MODEL.SET, and one a model that reads, which says the set that counts."""
    name, frozen = context.study.sweep.reference, context.store.frozen_sets()
    sets = {(one["model_id"], one["reference_id"]) for one in frozen}
    in_use = []
    for reader in sorted({cot["reader"] for cot in steered_cots(context)}):
        whole = [
            one["reference_id"]
            for one in frozen
            if (one["model_id"], one["name"], one["whole"]) == (reader, name, True)
        ]
        chosen = whole[0] if whole else _id(context, reader)
        sets.add((reader, chosen))
        in_use.append(Unit(reader, {"reference": chosen}))
    return [Unit(f"{model_id}.{reference}", {}) for model_id, reference in sorted(sets)] + in_use


def estimate(of: Quantities) -> Estimate:
    return of.line(NAME, 2 * len(of.study.models), gigabytes=of.n_chunks * 1e-7, seconds=0.1 * len(of.study.models))


def compute(context: Context, units: Sequence[Unit]) -> Iterator[Finished]:
    for unit in units:
        model_id, _, reference = unit.unit_id.partition(".")
        if reference:
            rows = context.store.frozen_rows(reference) or _rows(context, model_id)
            yield Finished(unit, {"reference_chunks": rows}, {"model_id": model_id})
        else:
            row = {"model_id": model_id, "reference_id": unit.inputs["reference"]}
            yield Finished(unit, {"references_in_use": [row]}, {"model_id": model_id})


def _rows(context: Context, model_id: str) -> list[dict[str, object]]:
    chunks = reference_now(context, model_id)
    about = {
        "reference_id": _id(context, model_id),
        "model_id": model_id,
        "name": context.study.sweep.reference,
        "convention": anchor_convention(context.store),
    }
    return [{**about, "chunk_id": chunk, "steered": steered} for chunk, steered in chunks.items()]


def _id(context: Context, model_id: str) -> str:
    """Of what the set would be now."""
    convention = anchor_convention(context.store)
    return stable_id("r", context.study.sweep.reference, model_id, convention, reference_now(context, model_id))
