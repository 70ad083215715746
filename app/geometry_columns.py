"""Which geometry column is shown: pickers for its model and layer, its direction and its position, as far as it has them."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from app import chunk_panel, selection, studies
from app.missing import Missing, command, no_activations, say, say_and_end
from app.vocabulary import KINDS, POSITIONS
from backend.store.geometry_queries import NO_LAYER, NONE
from backend.store.store import Store


def known_columns(store: Store) -> pd.DataFrame:
    """The geometry columns that are known of any chunk. Where there is none but importance, says what to run."""
    found = studies.ask(store.geometry_choices)
    found = found[found["n_known"] > 0]
    if (found["layer"] == NO_LAYER).all():
        unsteered = Missing("No chunk has been steered, so no steepness is known.", command(store.path, "sweep"))
        what = no_activations(store.coverage().iloc[0], store.path) if store.activation_places().empty else unsteered
        if found.empty:
            say_and_end(what)
        say(what)
    return found


def pick_column(choices: pd.DataFrame, x: str) -> pd.Series:
    """Pickers for what the column x is had of: model and layer, direction, position. Returns its row of `choices`.

    A choice that another column has and this one has not gives way to the nearest; any other is noted as unknown.
    """
    rows = choices.assign(sweep=_sweeps(choices))
    here = rows[rows["x"] == x]
    places = chunk_panel.sweeps(here.assign(unit=here["sweep"].str.split(":").str[2]))
    places = {key: words.replace(f"layer {NO_LAYER}", "no layer, CoTs") for key, words in places.items()}
    give_way("swept", places, set(rows["sweep"]))
    if len(places) > 1 or NO_LAYER not in set(here["layer"]):
        sweep = selection.pick("swept", "Residual stream of", list(places), show=places.__getitem__, width=190)
    else:
        sweep = next(iter(places))
    here = here[here["sweep"] == sweep]
    kinds = [kind for kind in KINDS if kind in set(here["kind"])] + sorted(set(here["kind"]) - set(KINDS))
    label = "Convention" if (here["layer"] == NO_LAYER).all() else "Direction"
    kind = _unless_none("kind", label, kinds, set(rows["kind"]), lambda name: KINDS.get(name, name), 290)
    here = here[here["kind"] == kind]
    positions = sorted(set(here["position"]))
    position = _unless_none("position", "Steered at", positions, set(rows["position"]), lambda name: POSITIONS.get(name, name), 210)
    return here[here["position"] == position].iloc[0]


def _unless_none(field: str, label: str, options: list[str], anywhere: set[str], words: Any, width: int) -> str:
    if options == [NONE]:
        return NONE
    give_way(field, options, anywhere)
    return selection.pick(field, label, options, show=words, width=width)


def give_way(field: str, options: Any, anywhere: Any) -> None:
    """Let a choice give way that is not one here: to one that begins alike, as another unit of a layer, or where it is one elsewhere, to
    none."""
    value = selection.get(field)
    if value is None or value in options:
        return
    begins = value.rpartition(":")[0]
    alike = next((option for option in options if begins and option.rpartition(":")[0] == begins), None)
    if alike or value in anywhere:
        selection.choose(**{field: alike})


def _sweeps(choices: pd.DataFrame) -> list[str]:
    """`model:layer:unit` of each row; a column without a unit goes by one that the layer was steered in, so that a layer stays chosen."""
    united = choices[choices["unit"] != NONE]
    units = {(row.model_id, row.layer): row.unit for row in united[::-1].itertuples()}
    return [
        f"{row.model_id}:{row.layer}:{row.unit if row.unit != NONE else units.get((row.model_id, row.layer), NONE)}"
        for row in choices.itertuples()
    ]


def place_in_words(pair: Mapping[str, Any]) -> str:
    """Direction, layer and position of a pair; what it does not have is left out."""
    if pair["layer"] == NO_LAYER:
        return "" if pair["kind"] in ("all", NONE) else f"convention {pair['kind']}"
    kind = None if pair["kind"] == NONE else f"direction: {KINDS.get(pair['kind'], pair['kind'])}"
    position = None if pair["position"] == NONE else POSITIONS.get(pair["position"], pair["position"])
    return ", ".join(filter(None, (kind, f"layer {pair['layer']}", position)))
