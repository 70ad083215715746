"""The ways to ask which chunk acts on which: what each measures, in which unit, and what it cannot say."""

import math
from dataclasses import dataclass

import pandas as pd
import streamlit as st

from app.figures.influence import Scale
from app.shell import keys, selection
from app.shell.fields import Field, declare
from app.shell.missing import Missing, undone
from backend.influence.over_study import shared_heads
from backend.registry import Registry
from backend.store.store import Store


@dataclass(frozen=True)
class Way:
    name: str  # as it is stored
    label: str
    value: str  # what a pair's number is called, as on an axis
    unit: str
    meaning: str
    cannot_say: str
    counted: str = "n"  # what n counts
    stage: str | None = None  # that makes it; None where nothing here can
    is_log: bool = True  # drawn on a logarithm, where no value is below 0

    @property
    def axis(self) -> str:
        return f"{self.value}, {self.unit}"


WAYS: Registry[Way] = Registry(
    "measure of influence",
    Way(
        "suppression",
        "Suppression",
        "KL divergence",
        "nats",
        "Nothing later may attend to the source's tokens, and everything after it is read again: the mean over the"
        " target's tokens of KL(suppressed ‖ base), over the whole vocabulary.",
        "It asks what this text's predictions lose, not what would have been written: the target's words are given, and"
        " where they or others repeat what the source said, it seems to do nothing. What is taken away leaves a gap"
        " that the model never met, a larger one for a long source, and part of any KL is the gap's. What the source"
        " does through a chunk between is in the value too; where only some layers or heads are suppressed, it goes"
        " round them.",
        counted="tokens of the target",
        stage="influence",
    ),
    Way(
        "attention",
        "Attention",
        "attention weight",
        "mean weight of a token on a token",
        "How strongly the target's tokens attend to the source's, mean over layers, heads and tokens.",
        "Where a model looks is not what it uses: a weight says nothing of the value that is read, of its sign, or of"
        " what later layers do with it, and information may have moved on to another token before it is read. Nearness"
        " and the first tokens of a text draw attention whatever they say.",
        counted="tokens of the target",
        stage="attention",
    ),
    Way(
        "resampling",
        "Resampling",
        "effect on its return",
        "share of rollouts",
        "Rollouts that keep the source against rollouts that wrote something else in its place: how many of them later"
        " write a sentence like the target (kept − replaced).",
        "It is the one of these that acts on what is written, and the coarsest: with some tens of rollouts an effect"
        " below a fifth is not told from none. Which sentences count as alike is a rule, a paraphrase may be missed,"
        " and rollouts that differ in the source differ in all that follows it: an effect may go through any chunk"
        " between.",
        counted="rollouts of both sides",
        stage="resampled_influence",
        is_log=False,
    ),
    Way(
        "published",
        "Published",
        "step importance",
        "as published",
        "Step importance of the authors of imported data, from sentence to sentence.",
        "It came with the data: its model, its numerics and its normalisation are its authors', it has no interval"
        " here, and it cannot be made for another chain.",
    ),
)

WAY = declare(Field("influence_way", "measure of influence", tuple(WAYS)))
PART = declare(Field("influence_part", "part of the model that is suppressed", None, of="influence_way"))
DIFFERENCE = "difference"
_OF_DIFFERENCE = 1000.0  # how far below the largest value a difference is drawn as none


def asked_for(store: Store, name: str) -> Missing:
    """That a study has nothing of a way, and what makes it."""
    stage = WAYS[name].stage
    if stage is not None:
        return undone(store.path, stage)
    return Missing(
        "Step importance (how much a sentence matters for each later one) comes with published data, and this study has"
        " none.",
        None,
    )


def choose_part(parts: list[str], *, width: int = 165) -> str:
    """What is suppressed, or by which convention, where several are stored."""
    if len(parts) < 2:
        return parts[0] if parts else "all"
    usual = "all" if "all" in parts else parts[0]
    label = "Suppressed" if "all" in parts else "Convention"
    return selection.pick(PART, label, parts, default=usual, show=part_words, width=width)


def part_words(part: str) -> str:
    return "all layers and heads" if part == "all" else part.replace("_", " ")


def identical_words(heads: pd.DataFrame) -> str:
    """That base and distilled attend identically in their first blocks, where they do: rows of `receiver_heads`."""
    models = {str(row.role): str(row.model_id) for row in heads.itertuples()}
    if not {"base", "distilled"} <= set(models):
        return ""
    found = shared_heads(heads, models["base"], models["distilled"], top=0)
    if not found.n_equal:
        return ""
    if not found.n_blocks:
        return f"{found.n_equal} of {found.n_heads} heads have the same value in both models."
    last = found.n_blocks - 1
    others = found.n_equal - found.n_heads_before
    return (
        f"The two models attend identically up to block {last}: the {found.n_heads_before} heads of"
        f" {'that block' if not last else f'blocks 0 to {last}'} have equal values in both, as nothing before differs"
        " between the models. They are one measurement, and that they rank alike replicates nothing."
        + (f" {others} later heads have equal values too." if others else "")
    )


def export_pairs(store: Store, way: Way) -> None:
    """A button for all pairs of the study by a way, under every model and part; they are asked for where it is
    pressed.
    """
    st.download_button(
        f"All pairs of the study as CSV: {way.label.lower()}",
        lambda: pairs_csv(store, way),
        file_name=f"influence_{way.name}.csv",
        mime="text/csv",
        icon=":material/download:",
        key=keys.of(f"influence_pairs_csv_{way.name}"),
        on_click="ignore",
    )


def pairs_csv(store: Store, way: Way) -> str:
    """One line a pair of chunks, model that reads, and part; unknown is empty."""
    return store.influence_everywhere(way.name).to_csv(index=False)


def scale_of(readings: pd.DataFrame, name: str, part: str, *, is_difference: bool = False) -> Scale | None:
    """One for all chains, models and parts of a way in the study, but of what was published, whose parts are things of
    their own; None where nothing is known. Takes rows of `influence_readings`.
    """
    own, found = readings[(readings["way"] == name) & (readings["n_pairs"] > 0)], WAYS[name]
    if found.stage is None:
        own = own[own["part"] == part]
    most = own["most"].max()
    if own.empty or not most > 0:
        return None
    least = max(own["least"].min(), own["noise"].max() if own["noise"].notna().any() else 0.0)
    if not found.is_log or own["is_signed"].astype(bool).any() or math.isnan(least):
        return Scale("linear", 0.0, float(most), found.unit)
    if is_difference:  # whose least digits say less than those of either model
        return Scale("signed log", float(most) / _OF_DIFFERENCE, float(most), found.unit)
    return Scale("log", min(float(least), float(most) / 10), float(most), found.unit)


def usual_threshold(readings: pd.DataFrame, name: str, part: str) -> float:
    """What a fifth of the study's pairs reach under every model that reads, to one digit; 0 where nothing is known."""
    upper = readings.loc[(readings["way"] == name) & (readings["part"] == part), "upper"].min()
    return 0.0 if pd.isna(upper) else float(f"{upper:.1g}")
