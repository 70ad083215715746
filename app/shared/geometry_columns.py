"""Which geometry column is shown: pickers for its model and layer, its direction and its position, as far as it has
them.
"""

from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext
from typing import Any

import pandas as pd
from streamlit.delta_generator import DeltaGenerator

from app.shared import chosen_stream
from app.shell import selection, studies
from app.shell.fields import Field, declare
from app.shell.missing import no_activations, say, say_and_end, undone
from app.shell.more import more
from app.shell.vocabulary import direction_order, direction_words, position_words, studied_words
from backend.geometry.direction_kinds import may_be_kind
from backend.models.interventions import PLACES, UNITS
from backend.store.geometry_columns import NO_LAYER, NONE
from backend.store.store import Store

CONVENTION = declare(Field("convention", "convention of the importance", None))
DIRECTION = declare(Field("direction", "direction", may_be_kind, before="direction "))
POSITION = declare(Field("position", "place of the steering", PLACES, before="steered at the "))
UNIT = declare(Field("unit", "unit of β", UNITS))
BEHIND = (CONVENTION, DIRECTION, POSITION, UNIT)  # what stands behind the door of a row


def known_columns(store: Store) -> pd.DataFrame:
    """The geometry columns that are known of any chunk. Where there is none but importance, says what to run."""
    found = studies.ask(store.geometry_choices)
    found = found[found["n_known"] > 0]
    if (found["layer"] == NO_LAYER).all():
        unsteered = undone(store.path, "sweep")
        what = no_activations(store.coverage().iloc[0], store.path) if store.activation_places().empty else unsteered
        if found.empty:
            say_and_end(what)
        say(what)
    return found


def pick_column(
    store: Store,
    choices: pd.DataFrame,
    x: str,
    *,
    stream: DeltaGenerator | None = None,
    door: DeltaGenerator | None = None,
) -> pd.Series:
    """Pickers for what the column x is had of: model and layer (in the place `stream`), and behind the `door`
    direction, position, unit. Returns its row of `choices`.

    A choice that this column does not have stays selected, and what stands in for it is said.
    """
    here = choices[choices["x"] == x]
    if len(here[["model_id", "layer"]].drop_duplicates()) > 1 or NO_LAYER not in set(here["layer"]):
        with stream or nullcontext():
            here = chosen_stream.at(here, chosen_stream.pick(store, here, width=190))
    with door or more(*BEHIND):
        return _narrowed(here, choices)


def _narrowed(here: pd.DataFrame, choices: pd.DataFrame) -> pd.Series:
    kinds = direction_order(here["kind"])
    if (here["layer"] == NO_LAYER).all():
        kind = kinds[0] if len(kinds) == 1 else selection.pick(CONVENTION, "Convention", kinds, width=290)
    else:
        kind = _unless_none(DIRECTION, "Direction", kinds, set(choices["kind"]), direction_words, 290)
    here = here[here["kind"] == kind]
    position = _unless_none(POSITION, "Steered at", sorted(set(here["position"])), (), position_words, 210)
    here = here[here["position"] == position]
    return pick_unit(here).iloc[0]


def pick_unit(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of one unit of β, behind a picker where there are several."""
    units = sorted(set(rows["unit"]))
    if len(units) > 1:
        unit = selection.pick(UNIT, "β in", units, width=120)
    else:
        unit = NONE if units in ([], [NONE]) else selection.in_force(UNIT, units, show=lambda name: f"β in {name}")
    return rows[rows["unit"] == unit]


def _unless_none(
    field: Field, label: str, options: list[str], elsewhere: Collection[str], words: Callable[[str], str], width: int
) -> str:
    if options == [NONE]:
        return NONE
    return selection.pick(field, label, options, elsewhere=elsewhere, show=words, width=width)


def place_in_words(pair: Mapping[str, Any]) -> str:
    """Direction, layer and position of a pair; what it does not have is left out."""
    if pair["layer"] == NO_LAYER:
        return "" if pair["kind"] in ("all", NONE) else f"convention {pair['kind']}"
    kind = None if pair["kind"] == NONE else f"direction: {studied_words(pair['kind'])}"
    position = None if pair["position"] == NONE else position_words(pair["position"])
    return ", ".join(filter(None, (kind, f"layer {pair['layer']}", position)))
