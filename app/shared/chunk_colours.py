"""What colours the chunks of a chain: the metric that gives the strength, and whose tags give the colour."""

from dataclasses import dataclass
from typing import Any

import pandas as pd
import streamlit as st

from app.shared.views import Here
from app.shell import selection
from app.shell.fields import Field, declare
from app.shell.theme import category_colour
from app.shell.untrusted import show
from app.shell.vocabulary import CATEGORIES, CONVENTIONS, METRICS, Metric, category, definition, metric, metric_choice
from backend.cot.categories import UNSURE_BELOW
from backend.store import notes
from backend.store.store import Store

METRIC = declare(Field("metric", "importance metric", None))
TAGS = declare(Field("tags_from", "source of the tags", None))


@dataclass(frozen=True)
class Coloured:
    """The chunks of a chain, and what colours them; without a metric no importance is stored."""

    chunks: pd.DataFrame
    metric: str | None
    convention: str | None


def coloured(here: Here) -> Coloured:
    """The controls of the colour, and the chunks by them."""
    name, convention, source = colour_controls(here.store)
    return Coloured(chunks(here.store, here.chunk.cot, source, name, convention), name, convention)


def importance_options(store: Store) -> list[str]:
    """Stored `metric:convention`, in the vocabulary's order."""
    stored = store.importance_choices()
    order = list(METRICS)
    ranked = sorted(
        zip(stored["metric"], stored["convention"], strict=True),
        key=lambda pair: (
            order.index(pair[0]) if pair[0] in order else len(order),
            list(CONVENTIONS).index(pair[1]) if pair[1] in CONVENTIONS else len(CONVENTIONS),
            pair,
        ),
    )
    return [f"{name}:{convention}" for name, convention in ranked]


def usual_choice(choices: list[str]) -> str:
    """Counterfactual importance that small samples cannot break, else as Thought Anchors computes it, where stored."""
    counterfactual = [name for name in METRICS if name.startswith("counterfactual_importance")]
    preferred = [f"{name}:{convention}" for name in counterfactual for convention in CONVENTIONS]
    return next((choice for choice in preferred if choice in choices), choices[0])


def metric_in_force(choices: list[str]) -> str:
    """The chosen one of these, of which there is at least one, or else the usual one."""
    return asked if (asked := selection.get(METRIC)) in choices else usual_choice(choices)


def headline_choices(store: Store) -> list[str]:
    """Two numbers that say most about a chunk, where stored: the chosen metric and the accuracy of its rollouts."""
    choices = importance_options(store)
    chosen = metric_in_force(choices) if choices else None
    return [choice for choice in (chosen, "counterfactual_accuracy:all") if choice in choices]


def colour_controls(store: Store) -> tuple[str | None, str | None, str]:
    """Which metric gives the strength of the colour, and whose tags give the colour."""
    if selection.is_offered(METRIC):
        now = pick_metric(store)
        return *_parted(now), pick_tags(store)
    left, right = st.columns([5, 3], gap="small")
    with left:
        now = pick_metric(store, "Strength of the colour")
    with right:
        return *_parted(now), pick_tags(store)


def pick_metric(store: Store, label: str = "Metric", **how: Any) -> str | None:
    """The importance metric, `metric:convention`; None where none is stored."""
    if not (choices := importance_options(store)):
        return None
    now = metric_in_force(choices)
    name, _, convention = now.partition(":")
    return selection.pick(
        METRIC,
        label,
        choices,
        default=now,
        help=(
            "How strongly a chunk is coloured: its |value| against the largest in this chain of thought; one"
            " that is below chance is not coloured, and has a dashed line.\n\n"
            f"{metric(name).meaning}"
            f"\n\n{definition(name, convention)}."
        ),
        **{"show": metric_choice} | how,
    )


def pick_tags(store: Store) -> str:
    """Whose tags give the colour; empty where there are none."""
    if not (sources := store.tag_sources()):
        return ""
    return selection.pick(
        TAGS,
        "Tags from",
        sources,
        help="Who said what each chunk does: a classifier, the authors of published data, or a labelling model.",
    )


def _parted(choice: str | None) -> tuple[str | None, str | None]:
    """The metric and the convention."""
    name, _, convention = (choice or "").partition(":")
    return (name, convention) if choice else (None, None)


def chunks(store: Store, cot: str, source: str, name: str | None, convention: str | None) -> pd.DataFrame:
    """The CoT's chunks with their tag and metric; `value` is missing where unknown. `tags` are the computed ones; the
    colour (`category`) is of the first, or of the tag that a person gave in its stead. `is_unsure`: of a computed first
    tag that is not corrected.
    """
    tagged = store.tagged_chunks(cot, source)
    values = store.importance_in_cot(cot, name or "", convention or "").drop(columns="chunk_id")
    tags = [list(tags) for tags in tagged["categories"]]
    corrected = _corrected(store, tagged)
    return pd.concat([tagged, values], axis=1).assign(
        number=tagged["chunk_index"] + 1,
        tags=tags,
        category=[tag or (own[0] if own else "untagged") for own, tag in zip(tags, corrected, strict=True)],
        is_unsure=[
            bool(score < UNSURE_BELOW) and tag is None for score, tag in zip(tagged["score"], corrected, strict=True)
        ],
    )


def _corrected(store: Store, chunks: pd.DataFrame) -> list[str | None]:
    """The tag that a person gave to each chunk, as its text is now."""
    given = notes.counting(store.path, "chunk").dropna(subset=[notes.TAG])
    tags = {(row.name, row.text): str(row.tag) for row in given.itertuples(index=False)}
    things = (notes.chunk(row.chunk_id, row.text) for row in chunks.itertuples()) if tags else ()
    found = [tags.get((thing.name, thing.text)) for thing in things]
    return found or [None] * len(chunks)


def described(name: str | None) -> Metric | None:
    return metric(name) if name else None


def legend(chunks: pd.DataFrame) -> None:
    """The tags that occur, each with its colour and count."""
    counts = chunks["category"].value_counts()
    known = [tag for tag in CATEGORIES if tag in counts] + sorted(set(counts.index) - set(CATEGORIES))
    swatches = " ".join(
        f'<span class="swatch" style="--tag:{category_colour(tag)}">{category(tag)} {counts[tag]}</span>'
        for tag in known
        if tag in CATEGORIES
    )
    st.html(f'<div class="legend">{swatches}</div>')
    if unsure := int(chunks["is_unsure"].sum()):
        st.caption(
            f"Unsure: {unsure} of {len(chunks)}, with a ? at the number. The first tag, which gives the colour, has a"
            f" probability below {UNSURE_BELOW:g}."
        )
    if strangers := [tag for tag in known if tag not in CATEGORIES]:
        show("also: " + ", ".join(strangers))
