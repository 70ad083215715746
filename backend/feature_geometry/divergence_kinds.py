"""The measures of how far two models are apart at a layer, and the kinds of position that they are of."""

from dataclasses import dataclass

from backend.registry import Registry

ALL, PROMPT, COT = "all", "prompt", "cot"
POSITIONS = {ALL: "all positions", PROMPT: "prompt", COT: "chain of thought"}


@dataclass(frozen=True)
class Measure:
    name: str
    label: str  # of a panel
    axis: str  # with the unit
    lowest: float  # that it can be
    highest: float
    control: str  # what the base model alone gives
    null: str  # what is left where nothing is shared


_TOKEN = "base against itself, at the same token in another problem"
MEASURES: Registry[Measure] = Registry(
    "measure of two models' divergence",
    Measure(
        "relative_norm",
        "Relative norm of the difference",
        "‖reasoner − base‖ / ‖base‖",
        0,
        float("inf"),
        _TOKEN,
        "base against reasoner at any token of another problem",
    ),
    Measure("cka", "Debiased linear CKA", "CKA", -1, 1, _TOKEN, "tokens paired at random"),
    Measure(
        "principal_angle",
        "Principal angles of the largest components",
        "mean angle, degrees",
        0,
        90,
        "base on half of the problems against base on the other half",
        "random subspaces",
    ),
    Measure(
        "kl",
        "KL of the logit lenses",
        "KL(base ‖ reasoner), nats",
        0,
        float("inf"),
        _TOKEN,
        "base against reasoner at any token of another problem",
    ),
    Measure(
        "kl_reverse",
        "KL of the logit lenses, reversed",
        "KL(reasoner ‖ base), nats",
        0,
        float("inf"),
        _TOKEN,
        "base against reasoner at any token of another problem",
    ),
)
