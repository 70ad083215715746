"""The views of the page Workspace, and what its dock offers."""

from functools import partial

from app.chains_of_thought import (
    accuracy,
    bar,
    commitment,
    compare,
    forced_at_cap,
    headline,
    influence,
    metrics,
    neighbours,
    problem_card,
    rollouts,
    steering,
    text,
)
from app.shared import chosen_chain, dock, pinned
from app.shared.dock import Offer
from app.shared.views import Here, View, chunks
from app.shell import navigation, selection, shortcuts, studies
from app.shell.shortcuts import Shortcut
from backend.store.store import Store

BAR = View("bar", "What all views obey", (chunks,), bar.draw)


def _steps(here: Here, store: Store) -> None:
    add = partial(dock.add, "compare", DOCK, USUAL)
    bar.draw_steps(lambda: compare.draw_pin(store, add))


STEPS = View("steps", "Undo, redo and pin", (chunks,), _steps)
PROBLEM = View("problem", "Problem", (chunks,), problem_card.draw)
TEXT = View("chain_text", "Chain of thought", (chunks,), text.draw)
CHUNK = View("chunk", "Selected chunk", (chunks,), headline.draw)
VALUE = View("chunk_value", "Its metric", (chunks,), headline.draw_value)
ABOUT = {  # about the selected chunk, by the word that a link has for it
    "metrics": View("chunk_metrics", "Metrics", (chunks,), metrics.draw),
    "accuracy": View("chunk_accuracy", "Accuracy", (chunks,), accuracy.draw),
    "commitment": View("chain_commitment", "Commitment", (chunks,), commitment.draw),
    "rollouts": View("chunk_rollouts", "Rollouts", (chunks,), rollouts.draw),
    "steering": View("chunk_steering", "KL curve", (chunks,), steering.draw),
    "neighbours": View("chunk_neighbours", "Neighbours", (chunks,), neighbours.draw),
    "forced_at_cap": View("chunk_forced_at_cap", "Cut rollouts", (chunks,), forced_at_cap.draw),
    "influence": View("chunk_influence", "Influence", (chunks,), influence.draw),
    "compare": View("compared", "Compare", (chunks,), compare.draw),
}
VIEWS = (BAR, STEPS, PROBLEM, TEXT, CHUNK, VALUE, *ABOUT.values())

# What the dock offers, in the order of its keys: by the word that a link has for it, its title and its views; those of
# other pages by their names.
DOCK: dict[str, Offer] = {
    "rollouts": ("Rollouts", (ABOUT["rollouts"],)),
    "steering": ("KL curve", (ABOUT["steering"],)),
    "map": ("Map", ("latent_map", "enclosed_chunks")),
    "scatter": ("Scatter", ("scatter",)),
    "lens": ("Lens", ("lens_map",)),
    "features": ("Features", ("chain_heat",)),
    "steer": ("Steer", ("steering_run", "steering_plan", "steering_streams")),
    "influence": ("Influence", (ABOUT["influence"],)),
    "neighbours": ("Neighbours", (ABOUT["neighbours"],)),
    "metrics": ("Metrics", (VALUE, ABOUT["metrics"])),
}
DOCK["compare"] = ("Compare", (ABOUT["compare"], "compared_runs"))
DOCK |= {word: (view.title, (view,)) for word, view in ABOUT.items() if word not in DOCK}
USUAL = ("metrics", "rollouts")


# Keys


def _step_chain(key: str) -> None:
    chosen_chain.step(studies.open_store(navigation.study()), 1 if key == "J" else -1)
    selection.redraw()


def _switch(key: str) -> None:
    dock.toggle(list(DOCK)[int(key) - 1], DOCK, USUAL)
    selection.redraw()


def _pin(key: str) -> None:
    pinned.pin(studies.open_store(navigation.study()))
    dock.add("compare", DOCK, USUAL)
    selection.redraw()


def _steer(key: str) -> None:
    dock.add("steer", DOCK, USUAL)
    selection.redraw()


for shortcut in (
    Shortcut("chain", ("J", "K"), "next and previous chain of the list", _step_chain, navigation.CHAINS),
    Shortcut(
        "view",
        tuple("123456789"),
        "put a view into the dock, or take it out",
        _switch,
        navigation.CHAINS,
        shown=("1", "…", "9"),
    ),
    Shortcut("pin", ("p",), "pin what is open, to compare with it, or let go of it", _pin, navigation.CHAINS),
    Shortcut("steer", ("s",), "steer this chunk", _steer, navigation.CHAINS),
):
    shortcuts.declare(shortcut)
