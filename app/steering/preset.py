"""What Steering opens on: of all that the study has swept, the chunk, direction and β that moved the predictions most
and left a text that is one.

The predictions of a chunk's tokens may move so far that what is written is none of the model's any more. Up to
`COHERENT` nats a token, a token that the unsteered model would write keeps, in the geometric mean, more than a third
of its probability.
"""

from app.shared.chosen_chunk import CHUNK, COT, PROBLEM
from app.shared.chosen_stream import LAYER, MODEL
from app.shared.geometry_columns import DIRECTION, UNIT
from app.shell import selection
from app.steering.controls import BETA, OPERATION, PLACE, THROUGH
from app.steering.steered_text import AGAINST, OWN, RUN
from backend.geometry.direction_kinds import kinds_by_hand
from backend.models.interventions import PLACES, UNITS
from backend.store.store import Store

COHERENT = 1.0  # nats a token, mean over the chunk's
_CHOSEN = (DIRECTION, BETA, OPERATION, PLACE, THROUGH, RUN, AGAINST, OWN)


def open_on(store: Store) -> None:
    """Select it, at the chunk that is open where one is; nothing where something of steering is chosen already, or the
    study has swept nothing that can be made here.
    """
    if any(map(selection.get, _CHOSEN)):
        return
    kinds = [kind for kind, how in kinds_by_hand().items() if set(how.needs) <= {"chunk_id"}]
    layer = selection.get(LAYER)
    found = store.most_moved(
        kinds,
        most=COHERENT,
        chunk=selection.get(CHUNK),
        model=selection.get(MODEL),
        layer=int(layer) if layer is not None and layer.isdecimal() else None,
    )
    if found.empty or (row := found.iloc[0]).unit not in UNITS or row.position not in PLACES:
        return
    if selection.get(CHUNK) is None:
        selection.choose({PROBLEM: None, COT: None, CHUNK: row.chunk_id})
    selection.choose({MODEL: row.model_id, LAYER: str(row.layer)})
    selection.choose(
        {DIRECTION: row.kind, OPERATION: "add", PLACE: row.position, UNIT: row.unit, BETA: f"{row.beta:g}"}
    )
