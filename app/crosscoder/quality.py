"""How a dictionary was trained, and how good it is."""

import json

import pandas as pd
import streamlit as st

from app.figures.crosscoder import training_curves
from app.shared import chosen_dictionary
from app.shared.model_names import called
from app.shared.views import Here
from app.shell import keys, studies
from app.shell.data_figure import data_figure
from app.shell.data_table import data_table
from app.shell.missing import Missing, command, say
from app.shell.numbers import interval, number
from app.shell.progress import duration
from app.shell.untrusted import for_markdown, show, show_exactly
from backend.crosscoder.kinds import KINDS, firing_of
from backend.crosscoder.loss_recovered import Recovered, loss_recovered
from backend.crosscoder.quality_bars import bars
from backend.crosscoder.training_data import CONVENTIONS
from backend.models.names import role_words
from backend.store.store import Store


def unfinished(store: Store) -> pd.DataFrame:
    """What is being trained now: trainings without a dictionary yet."""
    runs = store.dictionary_trainings()
    return runs[runs["dictionary_id"].isna()]


def a_training(here: Here) -> Missing | None:
    """A dictionary that is being trained."""
    return None if len(unfinished(here.store)) else Missing("No dictionary is being trained.", None)


def draw_trainings(here: Here, store: Store) -> None:
    for run in unfinished(store).itertuples():
        with st.container(border=True):
            st.markdown("**In training**")
            _training(store, run)


def draw(here: Here, store: Store) -> None:
    """For each model what is explained of its activations, and recovered of its loss; and the training."""
    dictionary = here.dictionary
    data_table(quality_table(store, dictionary), hide_index=True, height="content", row_height=30)
    _bars(store, dictionary)
    if pd.isna(dictionary.n_judged):
        say(Missing("It has not been measured on the study's chains of thought.", command(store.path, "features")))
    else:
        st.caption(
            f"On n = {int(dictionary.n_judged):,} tokens of the study's CoTs, without prompts: L0"
            f" {number(dictionary.l0)} features a token, {dictionary.dead_share:.1%} of {dictionary.n_features:,}"
            " features fire on none. Losses: nats a token, with the reconstruction in place of the residual stream;"
            " recovered: 1 costs nothing, 0 costs as much as zero (or the mean) in its place. Intervals: bootstrap"
            " over problems."
        )
    if (firing := firing_of(dictionary.kind, dictionary.parameters)) is not None:
        st.caption(firing.words)
    for said in (what_it_learned(dictionary.parameters), what_is_identified(dictionary.kind, dictionary.parameters)):
        if said is not None:
            st.caption(said)
    if firing is not None and pd.notna(dictionary.variance_explained_base):
        st.caption(f"{PUBLISHED} {in_this_study(dictionary)}")
    runs = store.dictionary_trainings()
    for run in runs[runs["dictionary_id"] == dictionary.dictionary_id].itertuples():
        with st.expander("How it was trained"):
            _training(store, run)
    if not isinstance(dictionary.training_id, str):
        st.caption(
            f"It was read from a file ({for_markdown(str(dictionary.source), 60)}); how it was trained is not known"
            " here."
        )


def _bars(store: Store, dictionary: pd.Series) -> None:
    """The bars, and whether each is met."""
    if pd.isna(dictionary.n_judged):
        return
    sides = {
        role: "distilled" if role == "distilled" else "base" for role in chosen_dictionary.roles(dictionary).values()
    }
    explained = {role_words(role): float(dictionary[f"variance_explained_{side}"]) for role, side in sides.items()}
    recovered = {role_words(role): float(dictionary[f"loss_recovered_{side}"]) for role, side in sides.items()}
    found = bars(float(dictionary.dead_share), explained, recovered)
    table = pd.DataFrame(
        {
            "bar": [one.what for one in found],
            "wanted": [one.wanted for one in found],
            "measured": [number(one.value) for one in found],
            "met": ["unknown" if one.is_met is None else "met" if one.is_met else "missed" for one in found],
        }
    )
    n_met = sum(one.is_met is True for one in found)
    st.markdown(f"**{n_met} of {len(found)} bars are met**")
    data_table(table, hide_index=True, height="content", row_height=28)


def what_it_learned(parameters: str) -> str | None:
    """What tokens it was trained on, and how they were scaled, where that is not every token and one scale."""
    known = json.loads(parameters)
    convention = CONVENTIONS.get(known.get("learns_from"))
    if convention is None or "problem_factors_over_scale" not in known:
        return None
    apart = known["problem_factors_over_scale"]
    spread = " and ".join(
        f"{least:.3g} to {most:.3g}" for least, most in zip(apart["least"], apart["most"], strict=True)
    )
    return (
        f"Trained as published ({convention.words}): {known['n_tokens']:,} tokens of {known['n_problems']:,} problems."
        " How the document scaled a problem is not known to us; here its mean norm became √d. What is measured on this"
        f" page uses the one scale kept with the weights; the problems' own are {spread} times it. Of what stands later"
        " in a response than the cut, nothing was learned."
    )


def what_is_identified(kind: str, parameters: str) -> str | None:
    """What can be known of a linear dictionary's features, where nothing but reconstruction chose them."""
    settings = json.loads(parameters).get("settings", {})
    if (found := KINDS.get(kind)) is None or not found.is_signed or settings.get("penalty") != 0:
        return None
    return (
        "It was trained without a penalty: any invertible mixing of its features reconstructs as well, so that norms,"
        " NRN, classes and what fires are those of one among equally good dictionaries."
    )


PUBLISHED = (
    "“Decoding R1's CoT” trained such a crosscoder, without ReLU, and lists features by mean activation; how much its"
    " reconstruction explains is not among what is known to us of it."
)


def in_this_study(dictionary: pd.Series) -> str:
    """How well a linear dictionary reconstructs, and how sparse what is said to fire is."""
    explained = [
        f"{dictionary[f'variance_explained_{side}']:.1%} of the variance of the {role_words(role)}"
        for role in chosen_dictionary.roles(dictionary).values()
        for side in ["distilled" if role == "distilled" else "base"]
    ]
    return (
        f"Here {' and '.join(explained)} is explained by all {dictionary.n_features:,} codes of a token, of which"
        f" {number(dictionary.l0)} count as firing."
    )


def quality_table(store: Store, dictionary: pd.Series) -> pd.DataFrame:
    """One row a model, in words: unknown is said to be unknown."""
    losses, rows = store.spliced_losses(dictionary.dictionary_id), []
    for model_id, role in chosen_dictionary.roles(dictionary).items():
        side = "distilled" if role == "distilled" else "base"
        own = losses[losses["model_id"] == model_id]
        against_zero, against_mean = loss_recovered(own), loss_recovered(own, "loss_averaged")
        rows.append(
            {
                "model": called(store, model_id),
                "role": role_words(role),
                "variance explained": number(dictionary[f"variance_explained_{side}"]),
                "loss": number(dictionary[f"loss_{side}"]),
                "spliced": number(dictionary[f"loss_spliced_{side}"]),
                "zeroed": number(dictionary[f"loss_zeroed_{side}"]),
                "mean": number(dictionary[f"loss_averaged_{side}"]),
                "recovered, of zero": _with_interval(against_zero),
                "recovered, of mean": _with_interval(against_mean),
                "n": (
                    f"{against_zero.n_tokens:,} tokens of {against_zero.n_cots} CoTs,"
                    f" {against_zero.n_problems} problems"
                ),
            }
        )
    return pd.DataFrame(rows)


def _with_interval(recovered: Recovered) -> str:
    return "unknown" if pd.isna(recovered.value) else f"{number(recovered.value)} {interval(*recovered.interval)}"


def _training(store: Store, run: pd.Series) -> None:
    settings = json.loads(run.parameters).get("settings", {})
    done = "no step yet" if pd.isna(run.n_steps) else f"step {int(run.n_steps):,}"
    of = f" of {settings['steps']:,}" if isinstance(settings.get("steps"), int) else ""
    took = "" if pd.isna(run.seconds) else f" · {duration(run.seconds)}"
    show(
        f"{run.kind}, {done}{of} · {_count(run.n_tokens)} tokens · {_count(run.n_weights)} weights{took} · seed"
        f" {_count(run.seed)}"
    )
    points = studies.ask(store.dictionary_training_curve, training_id=run.training_id)
    data_figure(training_curves(points), key=keys.of(f"training_{run.training_id}"), config={"displayModeBar": False})
    if len(points):
        st.caption(
            f"Each point: the mean of {int(points['n_steps'].max())} steps, on the training's own batches and not the"
            " study's CoTs."
        )
    with st.popover("All that shaped it"):
        record = {"parameters": json.loads(run.parameters), "versions": json.loads(run.versions)}
        show_exactly(json.dumps(record, indent=1, ensure_ascii=False), height=300)


def _count(n: float | None) -> str:
    return "unknown" if n is None or pd.isna(n) else f"{int(n):,}"
