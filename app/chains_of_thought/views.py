"""The views of the page Chains of thought."""

from app.chains_of_thought import (
    accuracy,
    commitment,
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
from app.shared.views import View, chunks
from app.shell.fields import Field, declare

PROBLEM = View("problem", "Problem", (chunks,), problem_card.draw)
TEXT = View("chain_text", "Chain of thought", (chunks,), text.draw)
CHUNK = View("chunk", "Selected chunk", (chunks,), headline.draw)
ABOUT = {  # about the selected chunk, by the word that a link has for it
    "metrics": View("chunk_metrics", "Metrics", (chunks,), metrics.draw),
    "accuracy": View("chunk_accuracy", "Accuracy", (chunks,), accuracy.draw),
    "commitment": View("chain_commitment", "Commitment", (chunks,), commitment.draw),
    "rollouts": View("chunk_rollouts", "Rollouts", (chunks,), rollouts.draw),
    "steering": View("chunk_steering", "Steering", (chunks,), steering.draw),
    "neighbours": View("chunk_neighbours", "Neighbours", (chunks,), neighbours.draw),
    "forced_at_cap": View("chunk_forced_at_cap", "Cut rollouts", (chunks,), forced_at_cap.draw),
    "influence": View("chunk_influence", "Influence", (chunks,), influence.draw),
}
PANEL = declare(Field("chunk_panel", "panel about the chunk", ABOUT, of=None))
VIEWS = (PROBLEM, TEXT, CHUNK, *ABOUT.values())
