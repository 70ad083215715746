"""What the views of readings share: siblings of one training, the lens, the layer, the problems that are averaged."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app.figures.latent_readings import step_name
from app.latent_steps.chosen import models
from app.shared.views import Here
from app.shell import selection, studies
from app.shell.fields import Field, declare
from app.shell.missing import Missing, undone
from app.shell.more import more
from app.shell.untrusted import for_markdown, visible
from backend.latent.lenses import LATENT_LENSES, SUBSETS, Z_LAYER, LatentLens
from backend.latent.summaries import Decoded, Read, best_cell, roles_in, unpacked

GROUP = declare(Field("latent_seed", "training of latent models", None))
LENS = declare(Field("latent_lens", "lens of latents", LATENT_LENSES))
LAYER = declare(Field("latent_layer", "layer that latents are read at", None))
SUBSET = declare(Field("latent_subset", "problems of latents that are averaged", SUBSETS))
REPORT = "Latent Reasoning Sprint #3"  # the study of a CODI model whose claims are asked again here


def read_latents(here: Here) -> Missing | None:
    """Need of a view: latents that were read."""
    return undone(here.store.path, "latent_readings") if here.store.latent_tokens().empty else None


@dataclass(frozen=True, eq=False)
class Siblings:
    """Models of one training, with what legends call them."""

    models: pd.DataFrame  # by model_id

    @property
    def labels(self) -> dict[str, str]:
        return self.models["label"].to_dict()

    @property
    def n_layers(self) -> int:
        return int(self.models["n_layers"].max())

    def of(self, sibling: str) -> str | None:
        """The id of one of them."""
        found = self.models.index[self.models["sibling"] == sibling]
        return str(found[0]) if len(found) else None

    def rows(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Rows of these models, in their order, with the column `panel`."""
        own = frame[frame["model_id"].isin(self.models.index)]
        order = own["model_id"].map({name: place for place, name in enumerate(self.models.index)})
        return own.assign(panel=own["model_id"].map(self.labels)).iloc[order.argsort(kind="stable")]


def door(here: Here) -> DeltaGenerator:
    """To the settings of readings, on whichever row they stand first."""
    return more(GROUP, LENS, LAYER, SUBSET)


def siblings(here: Here) -> Siblings:
    """The models that are shown side by side, behind a picker where there are several trainings."""
    found = here.once(models)
    groups = found["training_seed"].map(lambda seed: "" if pd.isna(seed) else str(int(seed)))
    names = list(dict.fromkeys(groups))
    chosen = names[0]
    if len(names) > 1:
        with here.once(door):
            chosen = selection.pick(GROUP, "Training seed", names, show=lambda seed: seed or "unknown", width=130)
    return Siblings(found[groups == chosen].set_index("model_id", drop=False))


def lens(here: Here) -> LatentLens:
    """The lens, behind its picker."""
    show = {name: one.label for name, one in LATENT_LENSES.items()}
    with here.once(door):
        return LATENT_LENSES[selection.pick(LENS, "Lens", show=show.__getitem__, width=260)]


def subset(here: Here) -> str:
    """Which of the problems are averaged, behind its picker."""
    show = {name: one.label for name, one in SUBSETS.items()}
    with here.once(door):
        return selection.pick(SUBSET, "Problems", show=show.__getitem__, width=220)


def reads(here: Here) -> list[Read]:
    """What the lens reads, by model and layer; the last layer of a tuned lens is the model itself."""
    chosen, shown = here.once(lens), here.once(siblings)
    found = unpacked(shown.rows(studies.ask(here.store.latent_readings, lens=chosen.name)))
    if chosen.name.startswith("tuned"):
        own = unpacked(shown.rows(studies.ask(here.store.latent_readings, lens="logit")))
        last = {name: int(n) - 1 for name, n in shown.models["n_layers"].items()}
        found += [read for read in own if read.layer == last[read.model_id]]
    return found


def averaged(here: Here) -> list[Read]:
    """`reads`, of the subset of problems; what is left of none of them is left out."""
    name = here.once(subset)
    if name == "all":
        return here.once(reads)
    held = _held(here, name)
    found = [read.of([one for one in read.problems if one in held[read.model_id]]) for read in here.once(reads)]
    return [read for read in found if read.problems]


def _held(here: Here, name: str) -> dict[str, set[str]]:
    """By model: the problems in a subset."""
    runs, found = studies.ask(here.store.latent_runs), dict[str, set[str]]()
    for model_id in here.once(siblings).models.index:
        own = runs[runs["model_id"] == model_id]
        right = own.assign(right=own["is_correct"].eq(True)).pivot(
            index="problem_id", columns="n_latents", values="right"
        )
        early, late = right[right.columns.min()].to_numpy(), right[right.columns.max()].to_numpy()
        found[model_id] = set(right.index[SUBSETS[name].holds(early, late)])
    return found


def layer(here: Here) -> int:
    """One layer of the lens, behind a picker where it reads several; the last at first."""
    there = sorted({read.layer for read in here.once(reads)})
    names = layer_names(there, here.once(siblings).n_layers)
    usual = str(there[-1])
    with here.once(door):
        chosen = selection.pick(
            LAYER, "Layer", [str(one) for one in there], default=usual, show=lambda one: names[int(one)], width=150
        )
    return int(chosen)


def layer_names(layers: Sequence[int], n_layers: int) -> dict[int, str]:
    """What stands at each layer, the embedding and the last hidden state included."""
    return {one: "z" if one == Z_LAYER else "h" if one == n_layers else str(one) for one in layers}


def token_words(here: Here) -> dict[tuple[str, int], str]:
    """By model and token: the token, its spaces seen."""
    rows = studies.ask(here.store.latent_tokens)
    return {(row.model_id, row.token_id): visible(row.text) for row in rows.itertuples()}


def said(reported: str, shown: str) -> None:
    """What the document reports, and what this study shows, below a figure."""
    st.caption(f"**Reported.** {reported}")
    st.caption(f"**Here.** {shown}")


def best_places(here: Here, found: Sequence[Read]) -> str:
    """Where each intermediate and the answer are most probable, beside the control, for each sibling."""
    if not here.once(lens).has_probabilities:
        return "A cosine says which token lies nearest, not how probable it is; ranks of followed words are measured."
    parts = []
    for model_id, label in here.once(siblings).labels.items():
        own = [read for read in found if read.model_id == model_id]
        roles = [one for one in roles_in(own) if one.startswith("intermediate")] + ["answer"]
        best = [one for role in roles if (one := best_cell(own, role)) is not None]
        if best:
            parts.append(f"{for_markdown(label)}: {'; '.join(map(_told, best))}")
    if not parts:
        return "Nothing is known of any followed word."
    return (
        f"Most probable, in {'. In '.join(parts)}. The place is chosen on every second problem and measured on the"
        " others, beside another problem's answer there."
    )


def _told(one: Decoded) -> str:
    return (
        f"{one.role} {percent(one.value)} at latent {step_name(one.step)}, layer {one.layer}, {percent(one.excess)}"
        f" [{percent(one.low)}, {percent(one.high)}] above the control (n = {one.n})"
    )


def percent(value: float) -> str:
    return "unknown" if pd.isna(value) else f"{100 * value:.1f} %"
