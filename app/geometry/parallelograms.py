"""Parallelograms of word pairs: losses by class in both models, beside those of shuffled pairs, and the quadruples."""

from typing import Any

import pandas as pd
import streamlit as st

from app.figures.parallelograms import cumulative_losses, losses_by_layer, ratios_to_shuffled
from app.geometry.steer_by_analogy import steer_by_words
from app.shared import chosen_stream
from app.shared.chosen_stream import LAYER
from app.shared.views import Here
from app.shell import keys, selection, studies
from app.shell.data_figure import data_figure
from app.shell.data_table import data_table
from app.shell.fields import Field, declare
from app.shell.missing import Missing, undone
from app.shell.more import more
from app.shell.numbers import interval, number
from app.shell.untrusted import for_markdown, one_line, show
from backend.feature_geometry.parallelogram_layers import over_classes
from backend.feature_geometry.parallelograms import random_loss
from backend.feature_geometry.word_rows import EVERY_CLASS
from backend.feature_geometry.word_spaces import CLEANINGS, FITTED_ON, NO_PCA
from backend.models.names import role_words
from backend.models.word_contexts import CONTEXTS
from backend.statistics.holm import holm
from backend.store.store import Store

CLEANING = declare(Field("word_cleaning", "what is taken out of words' vectors", CLEANINGS, of=None))
FITTED = declare(Field("word_pca_fit", "words that components are fitted on", FITTED_ON, of=None))
COMPONENTS = declare(Field("word_components", "principal components of words", None, of=None))
CLASS = declare(Field("word_class", "class of word pairs", None))
QUADRUPLE = declare(Field("word_quadruple", "quadruple of words", None, of="word_class"))
PUBLISHED = (
    "Baek and Tegmark (2025, arXiv:2503.03730) report lower parallelogram losses in the distilled model than in the"
    " base model at 14B, in every class, and no such thing at 1.5B, after PCA of single-token words at half depth; no"
    " null is shown beside their curves."
)
_CLEANED = {name: words for name, (words, _) in CLEANINGS.items()}
_ALPHA = 0.05
_ONE_DIRECTION = 0.9  # share of variance from which one direction is all that words differ in
Space = dict[str, Any]  # layer, cleaning, fitted_on, components


def measured(here: Here) -> Missing | None:
    """Need of a view: classes of word pairs that were measured."""
    return undone(here.store.path, "parallelograms") if here.once(_spaces).empty else None


def _spaces(here: Here) -> pd.DataFrame:
    return studies.ask(here.store.parallelogram_spaces)


def space(here: Here) -> Space:
    """The space that is looked at, behind its pickers."""
    found = here.once(_spaces)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        layer = _layer(here, found)
        found = found[found["layer"] == layer]
        with more(CLEANING, COMPONENTS, FITTED):
            cleaning = _pick(CLEANING, "Vectors", found["cleaning"], _CLEANED)
            found = found[found["cleaning"] == cleaning]
            components = _components(found)
            found = found[found["components"] == components]
            fitted_on = _pick(FITTED, "Fitted on", found["fitted_on"], FITTED_ON)
    return {"layer": layer, "cleaning": cleaning, "fitted_on": fitted_on, "components": components}


def _layer(here: Here, found: pd.DataFrame) -> int:
    layers = sorted(int(layer) for layer in found["layer"].unique())
    wanted = chosen_stream.chosen(here.store)
    at = None if wanted is None else wanted.layer
    nearest = min(layers, key=lambda layer: abs(layer - (layers[0] if at is None else at)))
    every = [str(layer) for layer in range(1024)]
    options = [str(layer) for layer in layers]
    return int(selection.pick(LAYER, "Layer", options, default=str(nearest), elsewhere=every, width=100))


def _components(found: pd.DataFrame) -> int:
    options = [str(one) for one in sorted(found["components"].unique())]
    usual = "20" if "20" in options else options[-1]

    def words(one: str) -> str:
        return "all dimensions" if int(one) == NO_PCA else f"PCA to {one}"

    every = [str(one) for one in range(1024)]
    return int(selection.pick(COMPONENTS, "Space", options, default=usual, elsewhere=every, show=words, width=160))


def _pick(field: Field, label: str, found: pd.Series, words: dict[str, str]) -> str:
    names = [name for name in words if name in set(found)]
    return selection.pick(field, label, names, show=words.__getitem__, width=270)


def rows(here: Here) -> pd.DataFrame:
    return studies.ask(here.store.parallelograms, **here.once(space))


def draw_curves(here: Here, store: Store) -> None:
    """Cumulative losses by class, as published, with the null that was not."""
    here.once(space)
    data_figure(
        cumulative_losses(here.once(rows)), key=keys.of("parallelogram_curves"), config={"displayModeBar": False}
    )
    st.caption(for_markdown(space_words(here.once(space)), 400) + " " + for_markdown(_law(here.once(space)), 300))
    show(PUBLISHED)
    if warning := one_direction(studies.ask(store.word_readings), here.once(space)["layer"]):
        show(warning)


def draw_ratios(here: Here, store: Store) -> None:
    """How far each class is below its shuffled pairs, and whether the two models differ."""
    found = here.once(rows)
    data_figure(ratios_to_shuffled(found), key=keys.of("parallelogram_ratios"), config={"displayModeBar": False})
    show(said_of_ratios(found))
    compared = studies.ask(store.parallelogram_comparisons, **here.once(space))
    show(said_of_models(compared))


def draw_by_layer(here: Here, store: Store) -> None:
    """Loss and ratio over the layers that were read, all classes together."""
    at = {name: value for name, value in here.once(space).items() if name != "layer"}
    found = over_classes(studies.ask(store.parallelogram_layers, **at))
    if found["layer"].nunique() < 2:
        st.caption("One layer was read. Name several under parallelograms.layers in the study file to see them here.")
        return
    differences = studies.ask(store.parallelogram_differences, **at, word_class=EVERY_CLASS)
    data_figure(
        losses_by_layer(found, differences), key=keys.of("parallelogram_layers"), config={"displayModeBar": False}
    )
    show(said_of_layers(found, differences))
    st.caption(
        "Bars: 95 % over classes; the words are the same at every layer. 1 is what the class's outputs, dealt anew"
        " among its inputs, would give, and in the last panel what two equal models would."
    )


def draw_examples(here: Here, store: Store) -> None:
    """The best and the worst quadruples of a class, and b − a + c of one of them as a direction."""
    examples = studies.ask(store.parallelogram_examples, **here.once(space))
    if examples.empty:
        st.caption("The study keeps no quadruples (parallelograms.examples).")
        return
    classes = list(dict.fromkeys(examples["word_class"]))
    name = selection.pick(CLASS, "Class", classes, show=lambda one: one_line(one, 40), width=260)
    own = examples[examples["word_class"] == name]
    table = pd.DataFrame(
        {
            "model": own["role"].map(role_words),
            "which": [f"best {k}" if k > 0 else f"worst {-k}" for k in own["place"]],
            "a → b": [f"{one_line(a, 30)} → {one_line(b, 30)}" for a, b in zip(own["a"], own["b"], strict=True)],
            "c → d": [f"{one_line(c, 30)} → {one_line(d, 30)}" for c, d in zip(own["c"], own["d"], strict=True)],
            "loss": [number(loss) for loss in own["loss"]],
        }
    )
    data_table(table, hide_index=True, row_height=28, key=keys.of("parallelogram_examples"))
    _steer(here, store, own)


def _steer(here: Here, store: Store, own: pd.DataFrame) -> None:
    by_id = {f"{row.model_id}.{row.place}": row for row in own.itertuples()}
    words = {
        name: f"{one_line(row.b, 24)} − {one_line(row.a, 24)} + {one_line(row.c, 24)}, {role_words(row.role)}"
        for name, row in by_id.items()
    }
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        chosen = by_id[selection.pick(QUADRUPLE, "b − a + c", list(words), show=words.__getitem__, width=380)]
        readings = studies.ask(store.word_readings)
        contexts = readings.loc[readings["layer"] == chosen.layer, "context"]
        if contexts.empty:
            st.caption("The study does not say in what these words were read, so that they cannot be read again.")
            return
        found = (chosen.a, chosen.b, chosen.c)
        steer_by_words(store, found, model_id=chosen.model_id, layer=int(chosen.layer), context=str(contexts.iloc[0]))


def draw_classes(here: Here, store: Store) -> None:
    """Which word pairs take part, and why others do not."""
    found = studies.ask(store.word_classes)
    data_table(
        pd.DataFrame(
            {
                "class": [one_line(name, 60) for name in found["word_class"]],
                "from": [one_line(source, 60) for source in found["source"]],
                "pairs": found["n_pairs"],
                "take part": found["n_kept"],
                "input is several tokens": found["n_input"],
                "output is several": found["n_output"],
                "both are several": found["n_both"],
                "duplicate": found["n_duplicate"],
            }
        ),
        hide_index=True,
        row_height=28,
        height=min(600, 40 + 28 * len(found)),
        key=keys.of("word_classes"),
    )
    left_out = int(found["n_pairs"].sum() - found["n_kept"].sum())
    st.caption(
        f"n = {int(found['n_kept'].sum())} pairs of {len(found)} classes; {left_out} are left out, because a word is"
        " several tokens of a model, or because they stand twice. Both models read the same words."
    )


# What is said of the rows


def said_of_layers(rows: pd.DataFrame, differences: pd.DataFrame) -> str:
    """Where the ratio is least, and at which layers the two models differ."""
    parts = []
    for role, own in rows.groupby("role", sort=False):
        least, most = (_ratio_at(own.loc[own["ratio"].pipe(end)]) for end in (pd.Series.idxmin, pd.Series.idxmax))
        below = int((own["ratio_high"] < 1).sum())
        parts.append(
            f"{role_words(role).capitalize()}, n = {int(own['n'].max())} classes: the ratio to shuffled pairs is least"
            f" at {least} and largest at {most}; its interval lies below 1 at {below} of {len(own)} layers. By chance"
            " it would be 1."
        )
    known = differences[differences["log_ratio_p"].notna()]
    if len(known):
        adjusted = holm(known["log_ratio_p"].tolist())
        differ = [str(layer) for layer, p in zip(known["layer"], adjusted, strict=True) if p <= _ALPHA]
        where = f" ({', '.join(differ)})" if differ else ""
        parts.append(
            f"The two models' ratios differ at {len(differ)} of {len(known)} layers{where} (sign flips over classes, by"
            f" Holm at most {_ALPHA})."
        )
    return " ".join(parts)


def space_words(at: Space) -> str:
    """The space in a sentence."""
    onto = "all dimensions" if at["components"] == NO_PCA else f"PCA to {at['components']}"
    return (
        f"Output of block {at['layer']}, {_CLEANED[at['cleaning']]}, {onto}, fitted on {FITTED_ON[at['fitted_on']]}."
        " Dashed: the same words with the class's outputs dealt anew among its inputs."
    )


def _law(at: Space) -> str:
    if at["components"] == NO_PCA:
        return ""
    median = 2 * float(random_loss(at["components"]).ppf(0.5)) ** 0.5
    return f"Four isotropic random words would have a median of {median:.2f} there."


def one_direction(readings: pd.DataFrame, layer: int) -> str:
    """A warning where words differ along one direction alone; empty elsewhere."""
    said = [
        f"{role_words(row.role)}: {row.first_share:.1%} of the variance, and a largest norm of {row.norm_largest:,.0f}"
        f" beside a median of {row.norm_median:,.0f}"
        for row in readings[readings["layer"] == layer].itertuples()
        if row.first_share >= _ONE_DIRECTION
    ]
    if not said:
        return ""
    context = CONTEXTS.get(str(readings["context"].iloc[0]), "")
    return (
        f"Read {context}, words of the vocabulary differ along one direction at this layer ({'; '.join(said)}): a"
        " massive activation, whose geometry is all that is measured. Read them in another context."
    )


def _ratio_at(row: pd.Series) -> str:
    return f"layer {int(row['layer'])}, {number(row['ratio'])} {interval(row['ratio_low'], row['ratio_high'])},"


def said_of_ratios(found: pd.DataFrame) -> str:
    """Which classes lie below their shuffled pairs in each model, after Holm over the classes."""
    parts = []
    for role, own in found.dropna(subset=["ratio"]).groupby("role", sort=False):
        below = own[holm(own["p"].astype(float).to_numpy()) <= _ALPHA]
        n_below = int((own["ratio_high"] < 1).sum())
        ends = own.sort_values("ratio").iloc[[0, -1]]
        lowest, highest = (
            f"{one_line(row.word_class, 30)} {number(row.ratio)} {interval(row.ratio_low, row.ratio_high)}"
            for row in ends.itertuples()
        )
        by_holm = f"{len(below)} of {len(own)} classes have a p of at most {_ALPHA} by Holm"
        parts.append(
            f"{role_words(role).capitalize()}: the mean loss over classes is {number(own['loss'].mean())}, that of"
            f" shuffled pairs of the same words {number(own['null'].mean())}. {n_below} of {len(own)} ratios lie"
            f" below 1 with their whole interval, and {by_holm}"
            f" (the least p of the shuffles is {number(own['p'].min())}); from {lowest} to {highest}."
        )
    return " ".join(
        ["By chance each ratio would be about 1: what makes inputs one cloud and outputs another is in both.", *parts]
    )


def said_of_models(compared: pd.DataFrame) -> str:
    """Whether the distilled model differs from the base model, over classes and class by class."""
    if compared.empty:
        return "There is no pair of a base and a reasoner to compare."
    every = compared[compared["word_class"] == EVERY_CLASS].iloc[0]
    own = compared[compared["word_class"] != EVERY_CLASS]
    differing = own[holm(own["log_ratio_p"].astype(float).to_numpy()) <= _ALPHA]
    named = ", ".join(
        f"{one_line(row.word_class, 30)} {row.log_ratio:+.3f} {interval(row.log_ratio_low, row.log_ratio_high)}"
        for row in differing.itertuples()
    )
    over = f"over {every['n']} classes (p = {number(every['p'])}, {every['test']})"
    return (
        f"Reasoner against base on the same words: mean loss {every['difference']:+.4f}"
        f" {interval(every['low'], every['high'])} {over};"
        f" logarithm of the ratio to shuffled pairs {every['log_ratio']:+.4f}"
        f" {interval(every['log_ratio_low'], every['log_ratio_high'])} (p = {number(every['log_ratio_p'])}). Class by"
        f" class, {len(differing)} of {len(own)} ratios differ (p over pairs, by Holm at most {_ALPHA})"
        + (f": {named}." if named else ".")
    )
