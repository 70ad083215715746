"""What is pinned, so that what is open can be set beside it: a chunk with its chain, the layer and the model at which
it was looked at, and a run.
"""

from typing import Any

from app.shared import chosen_stream
from app.shared.chosen_chunk import CHUNK
from app.shared.chosen_stream import Stream
from app.shell import selection
from app.shell.fields import Field, declare
from backend.store.experiments import Experiments
from backend.store.store import Store

PINNED = declare(Field("pinned_chunk", "pinned chunk", None))
PINNED_MODEL = declare(Field("pinned_model", "model that was pinned", None, of="pinned_chunk"))
PINNED_LAYER = declare(Field("pinned_layer", "layer that was pinned", None, of="pinned_chunk"))
PINNED_RUN = declare(Field("pinned_run", "pinned run", None))
_ALL = (PINNED, PINNED_MODEL, PINNED_LAYER, PINNED_RUN)
_RUN = "run"  # that is open; its page declares it


def pin(store: Store) -> None:
    """Pin all that is open, or let go of it where it is what is pinned. What is not open stays as it was pinned."""
    if is_pinned(store):
        let_go()
    else:
        selection.choose(_open(store))


def let_go(*pinned: Field) -> None:
    """Of these, or of all."""
    selection.choose(dict.fromkeys(pinned or _ALL))


def is_pinned(store: Store) -> bool:
    """Whether what is open is what is pinned."""
    return all(selection.get(field) == value for field, value in _open(store).items())


def chunk(store: Store) -> str | None:
    """The pinned chunk, where the study has it."""
    found = selection.get(PINNED)
    if found is not None and store.chunk_place(found).empty:
        selection.forget_unknown(PINNED)
        return None
    return found


def stream(store: Store) -> Stream | None:
    """The model and layer that were pinned, where the study has them."""
    model, layer = selection.get(PINNED_MODEL), selection.get(PINNED_LAYER)
    if model is None or layer is None:
        return None
    known = store.models().set_index("model_id")["n_layers"]
    if model not in known:
        selection.forget_unknown(PINNED_MODEL)
        return None
    if not (layer.isascii() and layer.isdecimal() and len(layer) < 5 and not int(layer) >= known[model]):
        selection.forget_unknown(PINNED_LAYER)
        return None
    return Stream(model, int(layer))


def run(store: Store) -> dict[str, Any] | None:
    """The pinned run, where it is kept beside the study."""
    found = selection.get(PINNED_RUN)
    kept = None if found is None else Experiments(store.path).get(found)
    if found is not None and kept is None:
        selection.forget_unknown(PINNED_RUN)
    return kept


def _open(store: Store) -> dict[Field, str | None]:
    """What is open, by what pins it."""
    at = chosen_stream.chosen(store)
    found = {PINNED: selection.get(CHUNK)}
    if at is not None and at.layer is not None:
        found |= {PINNED_MODEL: at.model, PINNED_LAYER: str(at.layer)}
    run = selection.get(_RUN)
    return found | ({PINNED_RUN: run} if run is not None else {})
