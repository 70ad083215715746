"""The controls of the Interventions page: which features, what is done to them, on which problems, and what that will
cost.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import streamlit as st

from app.interventions import running
from app.shared import chosen_dictionary, live
from app.shared.model_names import called
from app.shared.sampled import NUCLEUS, SAMPLES, SEED, TEMPERATURE
from app.shared.steer_by_feature import steer_by
from app.shared.views import Here
from app.shell import keys, selection
from app.shell.data_table import data_table
from app.shell.fields import Decimal, Field, Whole, declare
from app.shell.more import more
from app.shell.progress import duration
from app.shell.untrusted import one_line, show
from backend.cot.prompts import Prompt, usual
from backend.crosscoder import trials
from backend.crosscoder.stored import twin_of
from backend.crosscoder.trials import Change, Trial, Twin
from backend.errors import AnchorscopeError
from backend.models.names import role_words
from backend.root import PRECOMPUTE
from backend.store.intervention_queries import Interventions
from backend.store.progress import read_progress
from backend.store.store import Store

_SOURCES = {"rule": "by a rule", "selected": "the selected ones", "numbers": "by number"}
_OPERATIONS = {
    "scale": "scale the code",
    "zero": "zero the code",
    "steer": "add to the code",
    "patch": "patch: the other model's code",
}
_ERRORS = {"kept": "kept", "replaced": "replaced by the reconstruction"}
_MOST_LISTED = 50
SOURCE = declare(Field("changed_by", "way of choosing features", _SOURCES))
BEYOND = declare(Field("changed_above", "NRN of the changed features", Decimal(0.0, 1.0), "0.7"))
TOP = declare(Field("changed_most", "number of changed features", Whole(1, trials.MOST_FEATURES), "5"))
NUMBERS = declare(Field("changed_features", "numbers of the changed features", None, of="dictionary"))
OPERATION = declare(Field("change_operation", "change of the features", _OPERATIONS))
FACTOR = declare(Field("change_factor", "factor of the change", Decimal(-100.0, 100.0), "1.5"))
ADDED = declare(Field("change_beta", "β of the change", Decimal(-10_000.0, 10_000.0), "5"))
ERROR = declare(Field("change_error", "fate of the dictionary's error", _ERRORS))
SOLVED = declare(Field("solved_problems", "number of problems", Whole(1, 2**31)))
LONGEST = declare(Field("solution_tokens", "length of a solution", Whole(8, trials.MOST_NEW_TOKENS)))
SETS = declare(Field("random_sets", "number of random sets", Whole(0, trials.MOST_SETS), "4"))


@dataclass(frozen=True)
class Chosen:
    """Features and how they were chosen; `problem` says in a sentence why there are none."""

    features: tuple[int, ...]
    words: str
    problem: str | None = None


# Which features


def draw_features(here: Here, store: Store) -> None:
    """Which features are changed, and the way to steer by one of them."""
    steer_by(store, here.dictionary, here.once(chosen_features).features, label="Steer by one of them")


def draw_trial(here: Here, store: Store) -> None:
    """What is done to them, on which problems, and the buttons."""
    asked, problem = trial(store, here.dictionary, here.once(chosen_features))
    ask(store, here.dictionary, here.features, asked, problem)


def chosen_features(here: Here) -> Chosen:
    """Shows how features are chosen and which they are."""
    store, dictionary, rows = here.store, here.dictionary, here.features
    compares = chosen_dictionary.compares(dictionary)
    usual = "selected" if selection.get(chosen_dictionary.FEATURE) else "rule"
    source = selection.pick(
        SOURCE,
        "Features",
        default=usual,
        show=_SOURCES.__getitem__,
        widget=st.segmented_control,
        required=True,
    )
    try:
        chosen = {"rule": _by_rule, "selected": _selected, "numbers": _by_number}[source](dictionary, rows, compares)
        if chosen.features:
            Change("zero", chosen.features).require(2, int(dictionary.n_features))
    except AnchorscopeError as error:
        chosen = Chosen((), "", str(error))
    if chosen.problem:
        show(chosen.problem)
    else:
        _list(store, dictionary, rows.set_index("feature", drop=False).loc[list(chosen.features)], compares)
    return chosen


def _by_rule(dictionary: pd.Series, rows: pd.DataFrame, compares: bool) -> Chosen:
    above, norm = None, "l1"
    with more(BEYOND, TOP):
        if compares:
            above = selection.pick_decimal(BEYOND, "NRN (L1) above", step=0.05)
        top = selection.pick_whole(TOP, "and of them the most frequent")
    found = trials.by_rule(rows, top, above=above, norm=norm)
    words = trials.rule_in_words(top, above=above, norm=norm)
    if not found:
        return Chosen((), words, "No feature that fires is beyond this NRN." if compares else "No feature fires.")
    if compares:
        among = rows[(rows["frequency"] > 0) & (rows[f"nrn_{norm}"] > above)]
        classes = rows.set_index("feature").loc[list(found), "class"].fillna("of unknown class").value_counts()
        classes = classes.rename(role_words)
        st.caption(
            f"{len(found)} of the {len(among):,} that fire and lie beyond it: "
            + ", ".join(f"{n} {of_class}" for of_class, n in classes.items())
            + " by NRN and latent scaling together."
        )
    return Chosen(tuple(sorted(found)), words)


def _selected(dictionary: pd.Series, rows: pd.DataFrame, compares: bool) -> Chosen:
    found = sorted(chosen_dictionary.opened(dictionary))
    if not found:
        words = "No feature is selected: choose one on the page Crosscoder or Feature, and there others beside it."
        return Chosen((), "", words)
    return Chosen(tuple(found), "chosen by hand")


def _by_number(dictionary: pd.Series, rows: pd.DataFrame, compares: bool) -> Chosen:
    words = selection.get(NUMBERS) or ""
    how = selection.following(
        "feature_numbers", words, lambda said: selection.choose({NUMBERS: one_line(said, 200) or None})
    )
    st.text_input("Numbers", max_chars=200, placeholder="3, 17, 40-43", **how)
    found = tuple(sorted(trials.typed(words)))
    return Chosen(
        found, "chosen by hand", None if found else "Type the numbers of one or more features, such as 3, 17, 40-43."
    )


def _list(store: Store, dictionary: pd.Series, rows: pd.DataFrame, compares: bool) -> None:
    shown = rows.head(_MOST_LISTED)
    table = pd.DataFrame(
        {"feature": shown["feature"], "fires on": shown["frequency"], "mean f": shown["mean_activation"]}
    )
    if compares:
        table["NRN (L1)"], table["ν^ε"] = shown["nrn_l1"], shown["nu_eps"]
        table["class"] = shown["class"].map(role_words, na_action="ignore")
    promoted = store.promoted_tokens(dictionary.dictionary_id, shown["feature"].tolist()).set_index(
        ["model_id", "feature"]
    )["tokens"]
    for model_id, role in chosen_dictionary.roles(dictionary).items():
        found = [promoted.get((model_id, feature), ()) for feature in shown["feature"]]
        table[f"promotes in {role_words(role)}"] = [
            " · ".join(one_line(token, 16) or "␣" for token in tokens) for tokens in found
        ]
    formats = {"fires on": "percent", "mean f": "%.3f", "NRN (L1)": "%.3f", "ν^ε": "%.3f"}
    config = {name: st.column_config.NumberColumn(format=how) for name, how in formats.items() if name in table}
    data_table(
        table,
        hide_index=True,
        row_height=28,
        height=min(40 + 28 * len(table), 220),
        column_config=config,
        key=keys.of("changed_features"),
    )
    if len(rows) > len(shown):
        st.caption(f"The first {len(shown)} of {len(rows)} are listed; all of them are changed.")


# What is done, on which problems


def trial(store: Store, dictionary: pd.Series, chosen: Chosen) -> tuple[Trial | None, str | None]:
    """Shows what is done to the features and on which problems; what is asked, or why nothing can be."""
    problems = pd.DataFrame(store.study_problems(), columns=["problem_id", "level", "question", "answer"])
    if problems.empty:
        return None, "This study has no problems that models could solve."
    patches = chosen_dictionary.compares(dictionary) and not chosen_dictionary.is_unequal(dictionary)
    operations = [name for name in _OPERATIONS if name != "patch" or patches]
    a, b, c, d = st.columns([4, 3, 3, 3], gap="small", vertical_alignment="bottom")
    with d:
        door = more(ERROR, SAMPLES, SEED, TEMPERATURE, NUCLEUS, LONGEST, SETS)
    with a:
        operation = selection.pick(OPERATION, "Operation", operations, show=_OPERATIONS.__getitem__)
    factor = beta = None
    with b:
        if operation == "scale":
            factor = selection.pick_decimal(FACTOR, "Factor", step=0.1)
        elif operation == "steer":
            beta = selection.pick_decimal(ADDED, "β, in units of the code", step=1.0)
    with door:
        error = selection.pick(
            ERROR,
            "What the dictionary does not explain",
            show=_ERRORS.__getitem__,
            help=(
                "Kept: only what the features add is changed. Replaced: the residual stream becomes the reconstruction,"
                " as was published; the dictionary's error then changes the model whatever the features do, and the"
                " reconstruction alone is the control."
            ),
        )
    with c:
        n_problems = selection.pick_whole(
            SOLVED, f"Problems, of {len(problems):,}", min(24, len(problems)), high=len(problems)
        )
    with door:
        usual = trials.sampling_of(store.runs())
        n_samples = selection.pick_whole(SAMPLES, "Samples per problem", 1, high=trials.MOST_SAMPLES)
        seed = selection.pick_whole(SEED, "Seed")
        temperature = selection.pick_decimal(TEMPERATURE, "Temperature", usual.temperature, step=0.1)
        top_p = selection.pick_decimal(NUCLEUS, "Top-p", usual.top_p, step=0.05)
        longest = selection.pick_whole(LONGEST, "Max new tokens", usual.max_new_tokens, step=8)
        n_random = selection.pick_whole(SETS, "Sets of random features")
        st.caption(
            "As the study's CoTs were sampled, unless changed here. Problems are drawn by a fixed seed, evenly over"
            " levels."
        )
    if chosen.problem:
        return None, None
    try:
        change = Change(operation, chosen.features, factor, beta, keep_error=error == "kept")
        sampling = replace(usual, temperature=float(temperature), top_p=float(top_p), max_new_tokens=int(longest))
        return (
            Trial(
                dictionary.dictionary_id,
                change,
                trials.drawn_problems(problems, n_problems),
                chosen.words,
                n_samples,
                int(n_random),
                seed,
                sampling,
            ),
            None,
        )
    except AnchorscopeError as error_:
        return None, str(error_)


# Asking


def ask(store: Store, dictionary: pd.Series, rows: pd.DataFrame, asked: Trial | None, problem: str | None) -> None:
    """The buttons: what the controls say, and the two published surprises."""
    model_ids, frequency = (
        list(chosen_dictionary.roles(dictionary)),
        rows.sort_values("feature")["frequency"].to_numpy(np.float64),
    )
    problem = problem or _missing_models(store, model_ids)
    twin = twin_of(store, dictionary.dictionary_id)
    try:
        prompts = usual(store.prompts().to_dict("records"), model_ids)
        cost = "" if asked is None else _cost(store.path, asked, model_ids, frequency, prompts, twin)
    except AnchorscopeError as error:
        asked, cost, problem = None, "", str(error)
    with st.container(border=True, key=keys.of("asked_intervention")):
        if problem:
            show(problem)
        elif asked is not None:
            show(f"{asked.change.sentence[0].upper()}{asked.change.sentence[1:]}: {cost}")
        else:
            show("Choose features first.")
    ready = asked is not None and problem is None
    with st.container(horizontal=True, gap="small"):
        pressed: dict[float | None, bool] = {  # by the factor of a surprise; None: as the controls say
            None: st.button(
                "Run", type="primary", icon=":material/play_arrow:", disabled=not ready, key=keys.of("run_intervention")
            )
        }
        for factor in trials.SURPRISES:
            label = f"Published surprise: scale by {factor:g}"
            pressed[factor] = st.button(
                label, icon=":material/science:", disabled=not ready, key=keys.of(f"surprise_{factor:g}")
            )
    st.caption(
        "“Decoding R1's CoT” scaled features by 1.5 and by 0.5, with the reconstruction in place of the residual"
        " stream, and accuracy fell to 0 either way. One click asks for the factor and for 1, which changes no code,"
        " each with the reconstruction and with the error kept. If ×1 with the reconstruction falls as deep, the"
        " reconstruction broke the reasoning; if the factor with the error kept holds, the features did not."
    )
    if not ready or asked is None:
        return
    for factor_of, was in pressed.items():
        if was:
            _keep(
                store.path,
                [asked] if factor_of is None else trials.surprise(asked, factor_of),
                model_ids,
                frequency,
                prompts,
                twin,
            )


def _keep(
    study: Path,
    asked: Sequence[Trial],
    model_ids: Sequence[str],
    frequency: np.ndarray,
    prompts: Mapping[str, Prompt],
    twin: Twin | None,
) -> None:
    kept = Interventions(study)
    try:
        for one in asked:
            kept.ask(one.row(), one.arms(model_ids, frequency, prompts, twin=twin))
        running.start(study)
    except (AnchorscopeError, OSError) as error:
        show(str(error))
        return
    selection.choose(interventions=".".join(one.intervention_id for one in asked))
    selection.rerun()


def _missing_models(store: Store, model_ids: Sequence[str]) -> str | None:
    here = {choice.model_id for choice in live.steerable(store)}
    missing = [called(store, name) for name in model_ids if name not in here]
    if not missing:
        return None
    return (
        f"{' and '.join(missing)}: these weights, as the study was made with them, are not on this machine, so nothing"
        " can be run here. What was run elsewhere is shown below. The embedded models are fetched by"
        f" `{PRECOMPUTE} model`."
    )


def _cost(
    study: Path,
    asked: Trial,
    model_ids: Sequence[str],
    frequency: np.ndarray,
    prompts: Mapping[str, Prompt],
    twin: Twin | None,
) -> str:
    """Samples in words, of them those that are there, and a time where an earlier run tells the rate."""
    arms = asked.arms(model_ids, frequency, prompts, twin=twin)
    pairs = {(arm["arm_id"], problem) for arm in arms for problem in asked.problems}
    kept = Interventions(study)
    left = len(pairs - kept.done())
    n_arms = len(arms) // len(model_ids)
    words = (
        f"{len(model_ids)} model{'s' * (len(model_ids) > 1)} × {n_arms} arms (unedited, changed, reconstruction alone"
        f"{', random features' if n_arms > 3 else ''}{', features of the frozen-decoder twin' if n_arms > 4 else ''}) ×"
        f" {len(asked.problems)} problems × {asked.n_samples} "
        f"sample{'s' * (asked.n_samples > 1)} = {len(pairs) * asked.n_samples:,} samples"
    )
    if left < len(pairs):
        words += f", {(len(pairs) - left) * asked.n_samples:,} of which are there already"
    progress = read_progress(kept.room.path)
    if left and progress is not None and progress.rate:
        words += f"; about {duration(left / progress.rate)} at the pace of the last run"
    return words + "."
