"""What views of steered latents share: the model, where vectors are added, how much, when it answers, which defects."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import streamlit as st

from app.latent_steps.chosen import chosen_model
from app.shared.statistics_cache import steered_map
from app.shared.views import Here
from app.shell import keys, selection
from app.shell.fields import Field, declare
from app.shell.missing import Missing, undone
from app.shell.more import more
from backend.latent.kinds import SPACES
from backend.latent.map_kinds import DIFFERENCES, FITTED
from backend.latent.outcomes import Map
from backend.latent.published import DEFECTS, PUBLISHED, Arm, Move, defects_of
from backend.store.store import Store

EXITS = {"early": "at once, after the moved latent", "end": "after all latents"}
SPACE = declare(Field("latent_space", "space in which latents are steered", SPACES, of=None))
COEFFICIENT = declare(Field("latent_coefficient", "coefficient of the difference", None, of=None))
EXIT = declare(Field("latent_exit", "when the steered model answers", tuple(EXITS), of=None))
SWITCHED = declare(Field("latent_defects", "published defects that are switched on", None, of=None))


@dataclass(frozen=True)
class Asked:
    """The map that is looked at."""

    model: pd.Series
    arm: Arm
    coefficient: float
    early: bool


def steered(here: Here) -> Missing | None:
    """Need of a view: latents that were steered."""
    return undone(here.store.path, "latent_steering") if here.once(maps).empty else None


def maps(here: Here) -> pd.DataFrame:
    """Every stored map, without its lists."""
    return here.store.latent_steerings()


def asked(here: Here) -> Asked:
    """The controls, and what they choose."""
    model, found = chosen_model(here), here.once(maps)
    own = found[found["kind"] == DIFFERENCES]
    coefficients = [f"{value:g}" for value in sorted(own["coefficient"].unique())]
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        space = selection.pick(SPACE, "Steered", _spaces(own), show=lambda name: SPACES[name].label, width=230)
        usual = "1" if "1" in coefficients else None
        with more(COEFFICIENT, EXIT, SWITCHED):
            coefficient = selection.pick(COEFFICIENT, "Coefficient", coefficients, default=usual, width=120)
            exit_ = selection.pick(EXIT, "The answer is forced", show=EXITS.__getitem__, width=270)
            defects = frozenset(_switched(space))
    return Asked(model, Arm(space, defects), float(coefficient), exit_ == "early")


def _spaces(own: pd.DataFrame) -> list[str]:
    there = set(own["vectors"])
    return [space for space in SPACES if space in there] or list(SPACES)


def _switched(space: str) -> Sequence[str]:
    """Defects, with two buttons for none of them and for all that were published."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        chosen = selection.pick_several(
            SWITCHED,
            "Published defects switched on",
            defects_of(space),
            show=lambda name: DEFECTS[name].label,
            placeholder="none: ours",
            width=620,
        )
        published = PUBLISHED.get(space)
        for label, wanted in (("Ours", frozenset[str]()), ("As published", published)):
            st.button(
                label,
                key=keys.of(f"latent_defects_{label}"),
                disabled=wanted is None or wanted == frozenset(chosen),
                on_click=_switch,
                args=(wanted or frozenset(),),
            )
    return chosen


def _switch(wanted: frozenset[str]) -> None:
    selection.choose({SWITCHED: "|".join(name for name in DEFECTS if name in wanted) or None})


def steering_id(found: pd.DataFrame, model_id: str, move: Move, coefficient: float | None) -> str | None:
    """Of the stored map; None where it has not been run. Without a coefficient: of the fitted vectors."""
    own = found[
        (found["model_id"] == model_id)
        & (found["kind"] == (FITTED if coefficient is None else DIFFERENCES))
        & (found["space"] == move.space)
        & (found["vectors"] == move.vectors)
        & (found["rotated"] == move.rotated)
        & (found["scored_means"] == move.scored_means)
    ]
    if coefficient is not None:
        own = own[own["coefficient"] == coefficient]
    return None if own.empty else str(own["steering_id"].iloc[0])


def map_of(here: Here, model_id: str, arm: Arm, coefficient: float) -> Map | None:
    """The runs that the arm is a view of; None where they have not been made."""
    found = steering_id(here.once(maps), model_id, arm.move, arm.sign * coefficient)
    return None if found is None else steered_map(here.store, found)


def not_run(at: Asked) -> str:
    """Why there is no map."""
    if at.model["sibling"] == "none":
        return "The sibling without latents has none to steer."
    if at.model["sibling"] == "pause" and at.arm.move.space == "h":
        return (
            "The pause sibling feeds its own embeddings whatever the hidden state is: moving h changes nothing in it."
            " Its z, keys and values can be moved."
        )
    if at.arm.defects:
        return (
            "This map has not been run. Those of the published study are run at the coefficients that [latent] has"
            " under published, both signs of each."
        )
    return "This map has not been run: [latent] of the study file says in which spaces, at which coefficients."


def question_of(store: Store) -> dict[str, str]:
    """Problem → its question."""
    return dict(store.latent_problems()[["problem_id", "question"]].itertuples(index=False))
