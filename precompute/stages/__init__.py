"""The stages in the order in which they run: each sees the rows of those before it."""

from backend.schema.tables import FILLED
from precompute.stages import (
    ablations,
    activations,
    anchors,
    attention,
    before_after,
    capped_answers,
    categories,
    causation,
    chunks,
    claims,
    codes,
    commitment,
    cosines,
    cots,
    crosscoder,
    curves,
    diverge,
    evidence,
    features,
    firing_ablations,
    geometry,
    importance,
    influence,
    influence_agreement,
    interference,
    jacobian,
    latent_needs,
    latent_readings,
    latent_steering,
    latents,
    lens,
    lens_quality,
    maps,
    neighbourhoods,
    null_evidence,
    null_pairs,
    parallelograms,
    paths,
    problems,
    pullback,
    random_steps,
    receivers,
    reference,
    resampled_influence,
    resilience,
    rollouts,
    saes,
    shape,
    splices,
    sweep,
    tokens,
    training,
    twin_ablations,
)
from precompute.units import Stage

STAGES: tuple[Stage, ...] = (
    problems,
    cots,
    tokens,
    training,
    chunks,
    categories,
    activations,
    rollouts,
    capped_answers,
    importance,
    resilience,
    maps,
    neighbourhoods,
    shape,
    curves,
    paths,
    reference,
    sweep,
    geometry,
    random_steps,
    before_after,
    anchors,
    causation,
    crosscoder,
    codes,
    features,
    splices,
    null_pairs,
    null_evidence,
    ablations,
    firing_ablations,
    twin_ablations,
    saes,
    pullback,
    interference,
    jacobian,
    influence,
    evidence,
    claims,
    lens,
    lens_quality,
    diverge,
    commitment,
    attention,
    receivers,
    resampled_influence,
    influence_agreement,
    parallelograms,
    latents,
    latent_readings,
    latent_needs,
    latent_steering,
    cosines,
)

PARTS = ("NAME", "UNIT", "RULE", "units", "compute", "estimate")


def whole(stage: Stage) -> Stage:
    """The stage itself. Raises TypeError, naming it and what it lacks, for one with a part left out: the last is its
    words, with the table that it fills.
    """
    name = getattr(stage, "NAME", stage)
    missing = [part for part in PARTS if not hasattr(stage, part)]
    if missing := missing + ["words in backend.schema.tables"] * (name not in FILLED):
        raise TypeError(f"The stage {name} has no {' and no '.join(missing)}.")
    return stage


for _stage in STAGES:
    whole(_stage)
