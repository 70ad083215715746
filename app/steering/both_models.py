"""Both models of a dictionary steered by one feature, along β, beside random decoder rows of the same norm.

Each model has a run of its own, which is kept like any other; the link names both, and the figure is drawn from them.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from app.figures.two_models import Along, two_models_along
from app.shared import chosen_dictionary, live
from app.shared.model_names import called
from app.shared.sampled import SEED
from app.shared.views import Here
from app.shared.waiting import place_in_line
from app.shell import keys, selection
from app.shell.data_figure import data_figure
from app.shell.fields import Decimal, Field, Whole, declare
from app.shell.missing import Missing
from app.shell.more import more
from app.shell.untrusted import show
from app.steering.controls import USUAL_CODES, Plan, about_run, codes_of
from app.steering.runs import LONGEST
from app.steering.steered_text import AGAINST, RUN, chosen, is_typed
from app.steering.text_and_curve import planned, steered
from backend.errors import AnchorscopeError
from backend.geometry.direction_kinds import DirectionSpec
from backend.geometry.direction_library import make_direction
from backend.geometry.directions import Direction
from backend.ids import seed_for
from backend.live.available import Choice
from backend.live.requests import Compared, ControlledDose, Sampling
from backend.models.interventions import OPERATIONS
from backend.models.names import role_words
from backend.store.experiments import Experiments
from backend.store.store import Store

_ROWS = {"same": "the same row in both: same vector, same norm", "own": "each model's own row"}
ROWS = declare(Field("both_rows", "decoder rows of the two models", _ROWS))
MOST = declare(Field("both_most", "largest β", Decimal(0.25, 64.0), f"{USUAL_CODES:g}", before="β up to "))
N_RANDOM = declare(Field("both_random", "number of random rows", Whole(1, 16), "3"))
TIMES = declare(Field("both_samples", "samples at each β", Whole(2, 64), "4"))
_SHARES = (-1.0, -0.5, 0.0, 0.5, 1.0)  # of the largest β
REPORTED = (
    "Baek & Tegmark (2025) report feature directions of the distilled model that steer it into an over-thinking or an"
    " incisive-thinking mode."
)


@dataclass(frozen=True)
class Arm:
    """One model of the pair, and the vectors that are put into it."""

    choice: Choice
    role: str
    feature: Direction
    random: tuple[Direction, ...]


def a_pair(here: Here) -> Missing | None:
    """A feature of two models as the direction, and both models on this machine."""
    found = here.once(steered)
    plan = here.once(planned).plan
    made = None if plan is None else plan.direction
    if made is None or made.kind != "feature":
        return Missing(
            "Both models are steered by a feature of a dictionary of two: choose one as the direction.", None
        )
    dictionary = _dictionary(here.store, made)
    there = {choice.model_id for choice in live.steerable(here.store)}
    if not chosen_dictionary.compares(dictionary) or not set(chosen_dictionary.roles(dictionary)) <= there:
        return Missing(
            f"{called(here.store, found.choice.model_id)} and the other model of the dictionary are not both here.",
            None,
        )
    return None


def draw(here: Here, store: Store) -> None:
    """What is run in both models, the button, and the figure of the runs that are open."""
    plan = here.once(planned).plan
    assert plan is not None  # `a_pair` has found its direction
    st.markdown("**Both models along β**")
    with more(ROWS, MOST, N_RANDOM, TIMES):
        rows = selection.pick(ROWS, "Decoder row", show=_ROWS.__getitem__)
        most = selection.pick_decimal(MOST, "Largest β, × the mean code", step=1.0)
        n_random = selection.pick_whole(N_RANDOM, "Random rows")
        n = selection.pick_whole(TIMES, "Samples at each β")
    refused = _why_not(plan)
    pressed = st.button(
        "Steer both models along β",
        disabled=refused is not None,
        icon=":material/stacked_line_chart:",
        key=keys.of("both_button"),
        help=f"{len(_SHARES) + (len(_SHARES) - 1) * n_random} conditions of {n} continuations in each of two models.",
    )
    if refused is not None:
        st.caption(refused)
    if pressed:
        try:
            _start(here, store, plan, rows=rows, most=most, n_random=n_random, n=n)
        except AnchorscopeError as error:
            show(str(error))
    _follow(store)


def _why_not(plan: Plan) -> str | None:
    change = plan.intervention
    if change is None:
        return plan.problem
    if not OPERATIONS[change.operation].zero_changes_nothing:
        return "Along β from 0 on: choose an operation that changes nothing at β = 0."
    if change.gate is not None:
        return "“Only while” is a condition of one model's residual stream: choose always."
    return None


def _start(here: Here, store: Store, plan: Plan, *, rows: str, most: float, n_random: int, n: int) -> None:
    """One run a model. Raises AnchorscopeError for weights that cannot be read."""
    assert plan.direction is not None and plan.intervention is not None  # `a_pair`, `_why_not`
    own = []
    seed, longest = int(selection.get(SEED) or str(SEED.default)), int(selection.get(LONGEST) or str(LONGEST.default))
    for arm in _arms(store, plan.direction, rows=rows, n_random=n_random):
        subject = chosen(store, None if is_typed(store.path) else here.chunk, arm.choice)
        codes = codes_of(store, arm.feature)
        assert codes is not None  # it is a feature's
        betas = tuple(float(f"{share * most * codes.usual / USUAL_CODES:.4g}") for share in _SHARES)
        change = replace(plan.intervention, vector=arm.feature.vector, unit="absolute", beta=betas[-1])
        compared = Compared(subject.text, subject.chunk, "after" if subject.chunk is None else "before", change)
        controls = tuple(direction.vector for direction in arm.random)
        request = ControlledDose(
            compared, Sampling(max_new_tokens=longest), seed, betas, n, subject.truth, controls=controls
        )
        opened = replace(plan, direction=arm.feature, intervention=change, words=_words(arm.feature))
        words = (
            f"{role_words(arm.role)}: {opened.sentence(subject, seed=seed, betas=betas)}, beside {n_random} random rows"
        )
        about = about_run(subject, arm.choice, opened, words)
        facts = {"role": arm.role, "rows": rows, "step": codes.usual / USUAL_CODES, "feature": _facts(plan.direction)}
        random = {"kind": "decoder rows", "n": n_random, "seed": seed, "ids": [one.direction_id for one in arm.random]}
        about = replace(about, direction={**about.direction, "along": facts}, controls=random)
        own.append(live.start(store.path, arm.choice, about, request, again=True))
    selection.choose({RUN: own[0], AGAINST: own[1]})


def _words(made: Direction) -> str:
    about = json.loads(made.parameters)
    return f"the {'other' if 'decoder' in about else 'own'} model's decoder row of feature {about['feature']}"


def _facts(made: Direction) -> dict[str, Any]:
    about = json.loads(made.parameters)
    return {"dictionary": about["dictionary"], "feature": about["feature"]}


def _arms(store: Store, chosen_row: Direction, *, rows: str, n_random: int) -> list[Arm]:
    """The base model's and the distilled model's; with the same row, that of the decoder that is chosen goes into both.

    Random rows are decoder rows of other features that fire, of the same decoder, taken at the feature's norm.
    """
    about, dictionary = json.loads(chosen_row.parameters), _dictionary(store, chosen_row)
    here = {choice.model_id: choice for choice in live.steerable(store)}
    features, seed = store.features(about["dictionary"]), seed_for("random rows", about["dictionary"], about["feature"])
    others = features.loc[(features["feature"] != about["feature"]) & (features["frequency"] > 0), "feature"]
    drawn = np.random.default_rng(seed).permutation(others.to_numpy())[:n_random]
    lent = about.get("decoder", chosen_row.model_id)
    arms = []
    for model_id, role in chosen_dictionary.roles(dictionary).items():
        spec = DirectionSpec(
            "feature",
            model_id,
            int(dictionary["layer"]),
            dictionary_id=about["dictionary"],
            feature=about["feature"],
            decoder=lent if rows == "same" else model_id,
        )
        random = tuple(make_direction(store, replace(spec, feature=int(feature))) for feature in drawn)
        arms.append(Arm(here[model_id], role, make_direction(store, spec), random))
    return arms


def _dictionary(store: Store, made: Direction) -> pd.Series:
    name = json.loads(made.parameters)["dictionary"]
    return store.dictionaries().set_index("dictionary_id", drop=False).loc[name]


# The figure


def _follow(store: Store) -> None:
    """The open pair of runs: how far they are, then their figure."""
    wanted = [name for name in (selection.get(RUN), selection.get(AGAINST)) if name]
    found = [live.find(store.path, name) for name in wanted]
    if len(wanted) == 2 and any(run is not None and run.is_running for run in found):

        def draw_progress() -> None:
            now = [live.find(store.path, name) for name in wanted]
            for run, words in zip(now, ("base", "distilled"), strict=True):
                if run is not None and run.status is not None and run.is_running:
                    place_in_line(run.status, f"Writing, {role_words(words)}")
            if not any(run is not None and run.is_running for run in now):
                selection.rerun()

        keys.fragment(draw_progress, run_every=live.EVERY)()
        return
    pair = [row for name in wanted if (row := _kept(store, name)) is not None]
    if len(pair) != 2:
        return
    models = [_along(row) for row in pair]
    data_figure(two_models_along(models, axis="β, × the feature's mean code"), key=keys.of("both_models"))
    st.caption(f"{REPORTED} {said(models)}")
    st.caption(
        "Bars: 95 % (bootstrap for means, Wilson for shares). Band: least to most of the means under the random rows,"
        " decoder rows of other features that fire, put in at the same norm; samples share random numbers at every β"
        " and under every row. A model without tags of a thought thinks to its end. Share of self-reflection words:"
        " words per 100 tokens written. KL is on the chunk's own tokens, and unknown where there is no chunk."
    )


def _kept(store: Store, run_id: str) -> dict[str, Any] | None:
    """The kept run of one model of a pair; None of any other."""
    row = Experiments(store.path).get(run_id)
    if row is None or row["direction"] is None or "along" not in (about := json.loads(row["direction"])):
        return None
    return {"about": about["along"], "results": json.loads(row["results"])}


def _along(row: dict[str, Any]) -> Along:
    results, about = row["results"], row["about"]
    steps = [float(f"{one['beta'] / about['step']:.3g}") for one in results["rows"]]
    return {"role": about["role"], "steps": steps, "rows": results["rows"], "controls": results["controls"]}


def said(models: Sequence[Along]) -> str:
    """What the largest β did to thinking in each model, beside the random rows; of the runs' own numbers."""
    parts = []
    for model in models:
        step, last = model["steps"][-1], model["rows"][-1]
        change = last["thinking_change"]
        if change["value"] is None:
            parts.append(f"in the {role_words(model['role'])} the change of thinking is unknown")
            continue
        random = [one for rows in model["controls"] if (one := rows[-1]["thinking_change"]["value"]) is not None]
        as_far = sum(abs(one) >= abs(change["value"]) for one in random)
        bounds = "" if change["low"] is None else f" [{change['low']:+.0f}, {change['high']:+.0f}]"
        parts.append(
            f"at {step:+g} × its mean code the {role_words(model['role'])} thinks {change['value']:+.0f}{bounds} tokens"
            f" (n = {change['n']} pairs, p = {change['p']:.2g}), and {as_far} of {len(random)} random rows move it as"
            " far"
        )
    return f"Here {'; '.join(parts)}."
