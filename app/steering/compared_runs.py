"""Two kept runs side by side: how they were made, what each measured with its interval and control, and the difference.

Runs are compared number by number where both have it: along the text by the position of the token, along β by β, and
of many continuations by arm and quantity. The difference of two runs has no interval: their samples are not paired.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from app.shared import live, pinned, views
from app.shared.chunk_list import three_digits
from app.shared.model_names import called
from app.shared.views import Here
from app.shell import keys, navigation, selection
from app.shell.data_table import data_table
from app.shell.missing import Missing
from app.shell.numbers import range_of
from app.shell.untrusted import one_line, visible
from app.shell.vocabulary import ARMS, OUTCOMES, REWORDED_ARMS, RUN_KINDS, direction_words, unit_words
from app.steering.steered_text import AGAINST, RUN
from backend.models.interventions import PLACES
from backend.store.experiments import Experiments
from backend.store.store import Store

_ALL, _OFFERED = 10**9, 200
_ALONG = ("thinking", "length", "degenerate_share")


def two_runs(here: Here) -> Missing | None:
    """A run beside which another can stand."""
    return None if here.once(_beside) is not None else Missing("No run is pinned or open beside another one.", None)


def draw(here: Here, store: Store) -> None:
    """The open run beside the other."""
    other = here.once(_beside)
    assert other is not None  # the view is drawn only then
    kept = _kept(store)
    kinds, words = kept.set_index("experiment_id")["kind"], kept.set_index("experiment_id")["sentence"]
    st.markdown("**This run, and the " + ("pinned one**" if other == selection.get(pinned.PINNED_RUN) else "other**"))
    now = selection.get(RUN)
    if now is None:
        options = [run for run in kept["experiment_id"] if run != other and kinds[run] == kinds.get(other)]
        if not options:
            st.caption("No other run of its kind is kept here.")
            return
        with views.controls():
            now = selection.pick(RUN, "Beside", options, show=lambda run: one_line(str(words.get(run, run)), 60))
    elif Experiments(store.path).get(now) is None:  # no other stands in for what somebody opened
        st.caption("The open run is not kept yet, or not here: the two stand side by side once it is.")
        return
    first, second = (Experiments(store.path).get(run) for run in (now, other))
    assert first is not None and second is not None  # both are kept
    _link(now, other)
    _table(settings(_told(store, first), _told(store, second)), "compared_settings")
    _measured(*(live.find(store.path, run) for run in (now, other)))


def draw_pin(here: Here, store: Store) -> None:
    """The button that pins the open run alone."""
    now = selection.get(RUN)
    if now is None or Experiments(store.path).get(now) is None:
        return
    is_pinned = selection.get(pinned.PINNED_RUN) == now

    def press() -> None:
        selection.choose({pinned.PINNED_RUN: None if is_pinned else now})
        selection.redraw()

    st.button(
        "Let go of this run" if is_pinned else "Pin this run, to compare another with it",
        icon=":material/keep_off:" if is_pinned else ":material/keep:",
        type="tertiary",
        on_click=press,
        key=keys.of("pin_run"),
    )


def _beside(here: Here) -> str | None:
    """The run that stands beside the open one: the second that is open, else the pinned one; None where neither is
    kept.
    """
    for field in (AGAINST, pinned.PINNED_RUN):
        run = selection.get(field)
        if run is not None and run != selection.get(RUN) and Experiments(here.store.path).get(run) is not None:
            return run
    return None


def _kept(store: Store) -> pd.DataFrame:
    kept = Experiments(store.path).history(limit=_ALL)
    return kept[kept["kind"] != "curve"].head(_OFFERED)


def _link(run: str, other: str) -> None:
    if selection.page() != navigation.STEERING:
        navigation.way_in(navigation.STEERING, "Both in Steering", {RUN.name: run, AGAINST.name: other})


def _measured(first: live.Run | None, second: live.Run | None) -> None:
    one, two = ((run and run.results) or {} for run in (first, second))
    reworded = {run.is_reworded for run in (first, second) if run is not None}
    called_arms = REWORDED_ARMS if True in reworded else ARMS
    if len(reworded) > 1:  # what is changed in the one is not what is changed in the other
        st.caption("One of the two is reworded and the other steered: their arms are not the same ones.")
    elif "rows" in one and "rows" in two:
        _table(along_beta(one["rows"], two["rows"]), "compared_doses")
        _say("Bars of both runs: 95 %")
    elif "comparisons" in one and "comparisons" in two:
        _table(arms(one["arms"], two["arms"], called_arms), "compared_arms")
        _table(effects(one["comparisons"], two["comparisons"], called_arms), "compared_effects")
        _say("Arms of one run share random numbers; the two runs do not unless their seeds and texts are the same")
    elif all("arms" in run and "comparisons" not in run for run in (one, two)):
        _table(texts(one, two), "compared_texts")
        _table(along_the_text(one["arms"], two["arms"]), "compared_tokens")
        _say("Along the text: position by position, whatever stands there; KL(steered ‖ unsteered) of each, nats")
    else:
        st.caption("Runs of two kinds, as one text and many continuations, have no number in common.")


def _say(words: str) -> None:
    st.caption(f"{words}. Difference: this less the other, without an interval; an empty cell is unknown.")


def _table(rows: pd.DataFrame, key: str) -> None:
    if len(rows):
        data_table(
            rows,
            hide_index=True,
            row_height=28,
            height="content" if len(rows) <= 12 else 360,
            key=keys.of(key),
            column_config=three_digits(rows)
            | {name: st.column_config.TextColumn(width=width) for name, width in _WIDTHS.items() if name in rows},
        )


# How they were made


def _told(store: Store, row: Mapping[str, Any]) -> dict[str, str | None]:
    """How a run was made, by what each part of it is called."""
    place, unit = PLACES.get(row["place"] or ""), row["unit"]
    asked = json.loads(row["parameters"])
    layers = row["layers"]
    layers = None if layers is None else [int(layer) for layer in layers]
    beta = row["beta"]
    return {
        "kind": RUN_KINDS["wording"] if layers is None else RUN_KINDS.get(row["kind"], row["kind"]),
        "model": called(store, row["model"]),
        "what": one_line(str(row["sentence"]), 160),
        "layers": None if layers is None else ", ".join(map(str, layers)),
        "place": place.words if place else row["place"],
        "operation": row["operation"],
        "direction": None if row["direction_kind"] is None else direction_words(row["direction_kind"]),
        "β": None if beta is None or pd.isna(beta) else f"{beta:g}" + (f" ({unit_words(unit)})" if unit else ""),
        "samples": None if asked.get("n") is None else str(asked["n"]),
        "seed": None if row["seed"] is None or pd.isna(row["seed"]) else str(int(row["seed"])),
    }


def settings(own: Mapping[str, str | None], other: Mapping[str, str | None]) -> pd.DataFrame:
    """What differs between two runs as they were made; empty where nothing does."""
    rows = [(name, own.get(name), other.get(name)) for name in {**own, **other} if own.get(name) != other.get(name)]
    return pd.DataFrame(rows, columns=["setting", "this", "the other"])


# What they measured


def texts(own: Mapping[str, Any], other: Mapping[str, Any]) -> pd.DataFrame:
    """One continuation each: how long, where it left the unsteered one, and its mean KL."""
    measured = [_of_text(results) for results in (own, other)]
    rows = [{"quantity": name} | _values(measured[0][name], measured[1][name]) for name in measured[0]]
    return pd.DataFrame(rows, columns=["quantity", "this", "the other", "difference"])


def _of_text(results: Mapping[str, Any]) -> dict[str, float | None]:
    changed, base = (results["arms"].get(arm) or {"tokens": []} for arm in ("changed", "base"))
    kls = [token["kl"] for token in changed["tokens"] if token.get("kl") is not None]
    parted = results.get("first_divergence")
    return {
        "mean KL along the steered text, nats": float(np.mean(kls)) if kls else None,
        "tokens it is a mean over": float(len(kls)),
        "they part at token": None if parted is None else float(parted + 1),
        "steered text, tokens": float(len(changed["tokens"])),
        "unsteered text, tokens": float(len(base["tokens"])),
    }


def along_the_text(own: Mapping[str, Any], other: Mapping[str, Any]) -> pd.DataFrame:
    """A row a position of the steered texts: what each run wrote there, and its KL."""
    first, second = (list((arms.get("changed") or {"tokens": []})["tokens"]) for arms in (own, other))
    rows = []
    for place in range(max(len(first), len(second))):
        one, two = (tokens[place] if place < len(tokens) else {} for tokens in (first, second))
        rows.append(
            {
                "token": place + 1,
                "this wrote": None if not one else visible(one["text"]),
                "the other wrote": None if not two else visible(two["text"]),
                **_values(one.get("kl"), two.get("kl")),
            }
        )
    return pd.DataFrame(rows, columns=["token", "this wrote", "the other wrote", "this", "the other", "difference"])


def arms(own: Mapping[str, Any], other: Mapping[str, Any], words: Mapping[str, str]) -> pd.DataFrame:
    """A row an arm and quantity, controls among them: both values, each with its interval and n."""
    rows = []
    for arm in {**own, **other}:
        one, two = own.get(arm, {}), other.get(arm, {})
        for quantity in OUTCOMES:
            if quantity in one or quantity in two:
                measured = [side.get(quantity) or {} for side in (one, two)]
                rows.append(
                    {"arm": words.get(arm, arm), "quantity": OUTCOMES[quantity]}
                    | _with_intervals(*measured)
                    | {"n": one.get("n"), "other's n": two.get("n")}
                )
    return _frame(rows, ["arm", "quantity"], ["n", "other's n"])


def effects(
    own: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]], words: Mapping[str, str]
) -> pd.DataFrame:
    """A row a comparison of two arms that both runs, or one of them, made: the paired difference in each with its
    interval, p and pairs.
    """
    first, second = (
        {(row["arm"], row.get("against", "base"), row["quantity"]): row for row in rows} for rows in (own, other)
    )
    rows = []
    for arm, against, quantity in {**first, **second}:
        one, two = (found.get((arm, against, quantity), {}) for found in (first, second))
        measured = [{**side, "value": side.get("difference")} for side in (one, two)]
        rows.append(
            {
                "compared": f"{words.get(arm, arm)} − {words.get(against, against)}",
                "quantity": OUTCOMES.get(quantity, quantity),
            }
            | _with_intervals(*measured)
            | {"p": one.get("p"), "other's p": two.get("p"), "pairs": one.get("n"), "other's pairs": two.get("n")}
        )
    return _frame(rows, ["compared", "quantity"], ["p", "other's p", "pairs", "other's pairs"])


def along_beta(own: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """A row a quantity and β that both runs, or one of them, measured."""
    first, second = ({round(float(row["beta"]), 9): row for row in rows} for rows in (own, other))
    rows = []
    for quantity in ("kl", "accuracy", *_ALONG):
        for beta in sorted({**first, **second}):
            measured = [_at(found.get(beta, {}).get(quantity)) for found in (first, second)]
            if any(side.get("value") is not None for side in measured):
                words = "KL, nats" if quantity == "kl" else OUTCOMES[quantity]
                rows.append({"quantity": words, "β": beta} | _with_intervals(*measured))
    return _frame(rows, ["quantity", "β"], [])


def _at(found: Any) -> Mapping[str, Any]:
    return found if isinstance(found, Mapping) else {"value": found}


_WIDTHS = {"this wrote": 110, "the other wrote": 110, "quantity": 150, "compared": 120, "arm": 90, "setting": 80}
_MEASURED = ("this", "the other", "difference", "95 %", "other's 95 %")


def _with_intervals(one: Mapping[str, Any], two: Mapping[str, Any]) -> dict[str, Any]:
    values = _values(one.get("value"), two.get("value"))
    ranges = [range_of(side.get("low"), side.get("high")) for side in (one, two)]
    return dict(zip(_MEASURED, (*values.values(), *ranges), strict=True))


def _values(one: float | None, two: float | None) -> dict[str, float]:
    first, second = (np.nan if value is None or pd.isna(value) else float(value) for value in (one, two))
    return {"this": first, "the other": second, "difference": first - second}


def _frame(rows: list[dict[str, Any]], first: list[str], last: list[str]) -> pd.DataFrame:
    found = pd.DataFrame(rows, columns=[*first, *_MEASURED, *last])
    numbers = {name: "float64" for name in ("this", "the other", "difference") if len(found)}
    return found.astype(numbers)
