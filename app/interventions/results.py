"""What was asked, and what the samples say: shares by arm, arms against each other, what broke the reasoning, texts
side by side.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import streamlit as st

from app.figures.intervention_effects import shares_by_arm
from app.shared import chosen_dictionary
from app.shared.answer_shares import part_of
from app.shared.clicks import picked_rows
from app.shared.untrained_nulls import say_untrained
from app.shared.views import Here
from app.shell import keys, selection
from app.shell.data_figure import data_figure
from app.shell.data_table import data_table
from app.shell.fields import Field, declare
from app.shell.missing import Missing
from app.shell.numbers import interval
from app.shell.numbers import number as figure
from app.shell.untrusted import for_markdown, one_line, show, show_exactly
from app.shell.vocabulary import FINISHES, spent_words
from backend.crosscoder.accuracy import ControlBand, compare_arms, control_band, summarise_arms
from backend.crosscoder.null_kinds import TWIN
from backend.crosscoder.trials import BASE, change_of
from backend.errors import AnchorscopeError
from backend.ids import stable_id
from backend.models.names import role_words
from backend.schema.tables import FILLED
from backend.statistics.intervals import UNKNOWN, beyond
from backend.store.intervention_queries import Interventions
from backend.store.store import Store

_MOST_SHOWN = 8  # interventions at a time
_MOST_COLUMNS = 4  # texts side by side
ASKED = declare(Field("interventions", "intervention", None, of="dictionary"))
_RANDOM, _TWIN = "random features", "features of the frozen-decoder twin"
_CONTROLS = {"random": _RANDOM, "twin": _TWIN}
_ALONE, _BEYOND = "what the features do", "what the features do beyond the reconstruction"
_LENGTHS = {"thinking": "thinking, tokens", "answering": "answer, tokens", "length": "all, tokens"}
_SHARES = {"solved": "solved", "accuracy": "correct of judged", "cap": "cut at the cap", "degenerate": "degenerate"}


@dataclass(frozen=True)
class Group:
    """Interventions on one dictionary that were sampled alike, so that their arms can be compared sample by sample."""

    dictionary_id: str
    asked: pd.DataFrame  # rows of feature_interventions
    arms: pd.DataFrame  # model_id, arm, key, label, arm_id: one row a model and arm that is shown, base first

    @property
    def n_samples(self) -> int:
        return int(self.asked["n_samples"].iloc[0])

    @property
    def problems(self) -> list[str]:
        return list(self.asked["problems"].iloc[0])


def grouped(asked: pd.DataFrame, arms: pd.DataFrame) -> list[Group]:
    """The interventions by what makes them comparable: dictionary, problems and the arm without an edit; in the order
    of `asked`.
    """
    rows: dict[tuple[Any, ...], list[int]] = {}
    for line, row in enumerate(asked.itertuples()):
        own = arms[(arms["intervention_id"] == row.intervention_id) & (arms["arm"] == BASE)]
        rows.setdefault((row.dictionary_id, tuple(row.problems), tuple(sorted(own["arm_id"]))), []).append(line)
    return [Group(key[0], some := asked.iloc[lines], _shown_arms(some, arms)) for key, lines in rows.items()]


def _shown_arms(asked: pd.DataFrame, arms: pd.DataFrame) -> pd.DataFrame:
    """Base and reconstruction once, then each change with its random features.

    Arms that are one and the same are shown once.
    """
    changes = {row["intervention_id"]: change_of(row) for row in asked.to_dict("records")}
    differ = len({change.features for change in changes.values() if change.features}) > 1
    rows = []
    for name, change in changes.items():
        which = f" · {_which(change.features)}" if differ and change.features else ""
        labels = {
            BASE: "unedited",
            "reconstruct": "reconstruction alone",
            "changed": change.short + which,
            **{arm: f"{change.short}{which} · {words}" for arm, words in _CONTROLS.items()},
        }
        for arm in arms[arms["intervention_id"] == name].itertuples():
            key = arm.arm if arm.arm in (BASE, "reconstruct") else f"{name} {arm.arm}"
            rows.append(
                {"model_id": arm.model_id, "arm": arm.arm, "key": key, "label": labels[arm.arm], "arm_id": arm.arm_id}
            )
    found = pd.DataFrame(rows, columns=["model_id", "arm", "key", "label", "arm_id"]).drop_duplicates(
        ["model_id", "arm_id"]
    )
    order = found["arm"].map({BASE: 0, "reconstruct": 1}).fillna(2)
    return found.assign(order=order).sort_values("order", kind="stable").drop(columns="order").reset_index(drop=True)


def _which(features: Sequence[int]) -> str:
    return f"feature {features[0]}" if len(features) == 1 else f"{len(features)} features"


def samples_of(kept: Interventions, group: Group) -> pd.DataFrame:
    """The group's samples with `model_id`, and as `arm` the key under which each is shown."""
    found = kept.samples(set(group.arms["arm_id"]))
    found = found[found["problem_id"].isin(group.problems)]
    return found.merge(group.arms[["arm_id", "key"]], on="arm_id").rename(columns={"key": "arm"})


# What broke the reasoning


def contrasts(group: Group) -> list[tuple[str, str, str]]:
    """Which arms are set against which, and what that shows: (arm, against, words)."""
    pairs, keys = [], set(group.arms["key"])
    if "reconstruct" in keys:
        pairs.append(("reconstruct", BASE, "what replacing by the reconstruction does, no feature changed"))
    for row in group.asked.to_dict("records"):
        change, changed, random = (
            change_of(row),
            f"{row['intervention_id']} changed",
            f"{row['intervention_id']} random",
        )
        if changed not in keys:
            continue
        if change.keep_error:
            pairs.append((changed, BASE, _ALONE))
        else:
            pairs.append((changed, BASE, "reconstruction and features together"))
            pairs.append((changed, "reconstruct", _BEYOND))
        if random in keys:
            pairs.append((changed, random, "beyond other features that fire about as often"))
        if (twin := f"{row['intervention_id']} twin") in keys:
            pairs.append((changed, twin, "beyond features of the frozen-decoder twin that do"))
    return pairs


def contrast_rows(samples: pd.DataFrame, group: Group) -> list[dict[str, Any]]:
    """The contrasts of one model's samples, as far as both arms have some: the share solved by sample where there is
    one of each problem, else by problem, so that samples of one problem are not taken for independent.
    """
    quantity, there = ("solved" if group.n_samples == 1 else "solved by problem"), set(samples["arm"])
    rows = []
    for arm, against, words in contrasts(group):
        if {arm, against} <= there:
            found = compare_arms(samples, against, only=(arm,))
            rows += [{**row, "words": words} for row in found if row["quantity"] == quantity]
    return rows


def conclusion(rows: Sequence[Mapping[str, Any]], group: Group, level: float = 0.05) -> str:
    """One model's contrasts in a sentence: what moved the share solved, and what was not seen to."""
    if not rows:
        return ""
    by_pair = {(row["arm"], row["against"]): row for row in rows}
    said = []
    alone = by_pair.get(("reconstruct", BASE))
    if alone is not None:
        said.append(f"replacing the residual stream by the reconstruction alone {_moved(alone, level)}")
    labels = dict(zip(group.arms["key"], group.arms["label"], strict=True))
    for row in rows:
        if row["words"] in (_ALONE, _BEYOND):
            said.append(
                f"{labels[row['arm']]} {_moved(row, level)}" + (" beyond that" if row["words"] == _BEYOND else "")
            )
    text = "; ".join(said)
    return text[:1].upper() + text[1:] + "." if text else ""


def _moved(row: Mapping[str, Any], level: float) -> str:
    if not row["n"] or pd.isna(row["p"]):
        return "is not known yet"
    size = f"{row['difference']:+.0%} {_points(row['low'], row['high'])}, p = {row['p']:.2g}, n = {row['n']}"
    if row["p"] >= level:
        return f"was not seen to change what is solved ({size})"
    return f"{'lowers' if row['difference'] < 0 else 'raises'} what is solved ({size})"


def _points(low: float, high: float) -> str:
    return "[unknown]" if pd.isna(low) or pd.isna(high) else f"[{low:+.0%}, {high:+.0%}]"


def bands(samples: pd.DataFrame, group: Group) -> dict[str, ControlBand]:
    """By the key of each change that has samples of one model and a control with some: its effect and the controls'
    band, against the arm without an edit, or where the residual stream is replaced against the reconstruction alone.
    """
    there = set(samples["arm"])
    found: dict[str, ControlBand] = {}
    for row in group.asked.to_dict("records"):
        changed, against = f"{row['intervention_id']} changed", BASE if row["keep_error"] else "reconstruct"
        controls = [key for arm in _CONTROLS if (key := f"{row['intervention_id']} {arm}") in there]
        if controls and {changed, against} <= there:
            found[changed] = control_band(samples, changed, controls, against=against)
    return found


def band_table(found: Mapping[str, ControlBand], group: Group) -> pd.DataFrame:
    """One row a change and control, in words."""
    labels = dict(zip(group.arms["key"], group.arms["label"], strict=True))
    rows = [
        {
            "change": labels[changed],
            "effect on solved": "unknown" if pd.isna(one.effect) else f"{one.effect:+.1%}",
            "pairs": one.n,
            "control": _CONTROLS[arm.rpartition(" ")[2]],
            "sets": one.n_sets[arm],
            "band of one more set": _points(*band),
            "beyond it": {None: "unknown", True: "yes", False: ""}[beyond(one.effect, band)],
        }
        for changed, one in found.items()
        for arm, band in one.controls.items()
    ]
    return pd.DataFrame(rows)


def against_controls(found: Mapping[str, ControlBand], group: Group) -> str:
    """Whether each effect is beyond its controls' band, in a sentence."""
    labels = dict(zip(group.arms["key"], group.arms["label"], strict=True))
    said = []
    for changed, one in found.items():
        words = {None: "not known yet against", True: "beyond", False: "within"}[one.is_beyond]
        said.append(f"{labels[changed]}: {words} the band of the controls {_points(*one.band)}")
    return f"{'; '.join(said)}." if said else ""


# On the page


def draw_asked(here: Here, store: Store) -> None:
    """What was asked of this dictionary."""
    here.once(asked)


def anything_asked(here: Here) -> Missing | None:
    """An intervention on this dictionary."""
    rows = Interventions(here.store.path).asked()
    if (rows["dictionary_id"] == here.dictionary.dictionary_id).any():
        return None
    return Missing(FILLED["interventions"].none, None)


def draw(here: Here, store: Store) -> None:
    """What came of the chosen interventions."""
    results(store, here.once(asked), chosen_dictionary.roles(here.dictionary))


def asked(here: Here) -> pd.DataFrame:
    """The list of what was asked of this dictionary; the rows that are chosen to be shown."""
    store, dictionary_id = here.store, here.dictionary.dictionary_id
    kept = Interventions(store.path)
    rows = kept.asked()
    rows = rows[rows["dictionary_id"] == dictionary_id].reset_index(drop=True)
    if rows.empty:
        st.caption("Nothing yet: every intervention is kept here with its samples, and its link shows it again.")
        return rows
    done, arms = kept.done(), kept.arms()
    parts = {name: own["arm_id"].unique() for name, own in arms.groupby("intervention_id")}
    progress = [
        f"{sum((arm, problem) in done for arm in parts[row.intervention_id] for problem in row.problems)} of "
        f"{len(parts[row.intervention_id]) * len(row.problems)}"
        for row in rows.itertuples()
    ]
    shown = pd.DataFrame(
        {
            "asked (UTC)": rows["created_at"].dt.strftime("%m-%d %H:%M"),
            "change": rows["sentence"],
            "features": [", ".join(map(str, some[:8])) + (" …" if len(some) > 8 else "") for some in rows["features"]],
            "chosen": rows["chosen_by"],
            "problems": [len(some) for some in rows["problems"]],
            "samples of each": rows["n_samples"],
            "units done": progress,
        }
    )

    key = (  # what is asked anew moves the others: a row is one number
        keys.of(f"asked_list_{stable_id('t', *rows['intervention_id'])}")
    )

    def chosen() -> None:
        picked = [rows["intervention_id"][line] for line in picked_rows(key, len(rows))]
        selection.choose({ASKED: ".".join(picked[:_MOST_SHOWN]) or None})

    data_table(
        shown,
        hide_index=True,
        row_height=28,
        height=min(40 + 28 * len(shown), 260),
        key=key,
        on_select=chosen,
        selection_mode="multi-row",
        column_config={"change": st.column_config.TextColumn(width="large")},
    )
    st.caption(
        f"Choose up to {_MOST_SHOWN} rows to see them together. A unit is one problem under one arm; equal arms are"
        " sampled once."
    )
    return _chosen(rows)


def _chosen(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that the selection names; the newest where it names none."""
    wanted = (selection.get(ASKED) or "").split(".")[:_MOST_SHOWN]
    found = rows[rows["intervention_id"].isin(wanted)].sort_values(
        "intervention_id", key=lambda ids: ids.map(wanted.index)
    )
    if found.empty and selection.get(ASKED):
        selection.forget_unknown(ASKED)
    return found if len(found) else rows.head(1)


def results(store: Store, chosen: pd.DataFrame, roles: Mapping[str, str]) -> None:
    """Everything about the chosen interventions, a part for each set of them that can be compared."""
    kept = Interventions(store.path)
    arms = kept.arms(set(chosen["intervention_id"]))
    for number, group in enumerate(grouped(chosen, arms)):
        _of_group(store, group, samples_of(kept, group), roles, str(number))
    with st.container(horizontal=True):
        if st.button(
            "Forget what is shown",
            icon=":material/delete:",
            key=keys.of("forget"),
            help="Samples stay, as others may share them.",
        ):
            _forget(kept, chosen)


def _forget(kept: Interventions, chosen: pd.DataFrame) -> None:
    try:
        for name in chosen["intervention_id"]:
            kept.forget(name)
    except AnchorscopeError as error:
        show(str(error))
        return
    selection.choose({ASKED: None})
    selection.rerun()


def _of_group(store: Store, group: Group, samples: pd.DataFrame, roles: Mapping[str, str], key: str) -> None:
    st.subheader(f"{len(group.asked)} change{'s' * (len(group.asked) > 1)} on {len(group.problems)} problems")
    show(_asked_in_words(group))
    if samples.empty:
        st.caption("No sample is there yet.")
        return
    by_model = dict(iter(samples.groupby("model_id", sort=False)))
    summaries = {model: summarise_arms(own) for model, own in by_model.items()}
    found = {model: bands(own, group) for model, own in by_model.items()}
    data_figure(
        shares_by_arm(figure_rows(group, summaries, roles, found)),
        key=keys.of(f"shares_{key}"),
        config={"displayModeBar": False},
    )
    n_wanted = len(group.problems) * group.n_samples
    for model_id, role in roles.items():
        own = samples[samples["model_id"] == model_id]
        if own.empty:
            continue
        rows = contrast_rows(own, group)
        short = [row for row in summaries[model_id] if row["n"] < n_wanted]
        st.markdown(f"**{role_words(role).capitalize()}**")
        show(conclusion(rows, group))
        if found[model_id]:
            show(against_controls(found[model_id], group))
        data_table(
            contrast_table(rows, group),
            hide_index=True,
            row_height=28,
            height="content",
            key=keys.of(f"contrasts_{key}_{role}"),
        )
        if found[model_id]:
            data_table(
                band_table(found[model_id], group),
                hide_index=True,
                row_height=28,
                height="content",
                key=keys.of(f"bands_{key}_{role}"),
            )
        data_table(
            arm_table(summaries[model_id], group),
            hide_index=True,
            row_height=28,
            height="content",
            key=keys.of(f"arms_{key}_{role}"),
        )
        if short:
            st.caption(f"Not finished: {len(short)} arms have fewer than {n_wanted} samples yet.")
    st.caption(
        "Arms share random numbers sample by sample, so they are compared in pairs: "
        + (
            "McNemar's exact test over problems"
            if group.n_samples == 1
            else "sign flips of each problem's mean difference"
        )
        + ", intervals 95 %; the p are of single comparisons. Solved: correct, of all samples whose answer was judged"
        " or is missing. Degenerate: the text ends in a loop. Intervals of shares are Wilson's"
        + (
            "."
            if group.n_samples == 1
            else ", which take samples of one problem for independent and are too narrow here."
        )
    )
    if any(found.values()):
        st.caption(
            "Shaded, and in the table: where the share solved would lie if one more set of matched features were"
            " changed in the place of those chosen (95 %, Student's t over a control's sets, each on the samples that"
            " took it; of both controls the wider). Matched: feature by feature one of the 20 nearest in how often they"
            " fire. The frozen-decoder twin learned by rows that stay as drawn: its directions mean nothing."
        )
    _say_of_twin(store, group)
    _side_by_side(store, group, samples, roles, key)


def _say_of_twin(store: Store, group: Group) -> None:
    """Why no features of a twin stand beside a change, where none do."""
    arms = set(group.arms["arm"])
    if "twin" in arms or "random" not in arms:
        return
    dictionary = store.dictionaries().set_index("dictionary_id", drop=False).loc[group.dictionary_id]
    nulls = store.null_dictionaries(group.dictionary_id)
    if not (nulls["null"] == TWIN).any():
        say_untrained(
            dictionary,
            "frozen-decoder twin",
            "the band is that of this dictionary's random features alone",
        )
    elif not group.asked["keep_error"].any():
        st.caption("Where the residual stream is replaced the twin does not stand in: its reconstruction is another.")
    else:
        st.caption(
            "The frozen-decoder twin does not stand beside this: it was asked for before the twin was trained, or the"
            " twin's weights are not here. Where they are, asking for it again adds the twin."
        )


def _asked_in_words(group: Group) -> str:
    row = group.asked.iloc[0]
    facts = json.loads(row["parameters"])
    features = sorted({int(k) for some in group.asked["features"] for k in some})
    listed = ", ".join(map(str, features[:20])) + (" …" if len(features) > 20 else "")
    chosen = ", ".join(dict.fromkeys(one_line(words, 200) for words in group.asked["chosen_by"] if words))
    return (
        f"Features {listed}"
        + (f" ({chosen})" if chosen else "")
        + f", changed at every token but the first of the prompt. {group.n_samples} sample{'s' * (group.n_samples > 1)}"
        f" of each problem in every arm; temperature {facts['temperature']:g}, top-p {facts['top_p']:g}, at most"
        f" {facts['max_new_tokens']} tokens, seed {row['seed']}."
    )


def figure_rows(
    group: Group,
    summaries: Mapping[str, Sequence[Mapping[str, Any]]],
    roles: Mapping[str, str],
    bands_of: Mapping[str, Mapping[str, ControlBand]],
) -> pd.DataFrame:
    """One row a model and arm that has samples, base first, as `shares_by_arm` takes them; `bands_of` each model."""
    names = [f"{quantity}{part}" for quantity in ("solved", "degenerate") for part in ("", "_low", "_high", "_n")]
    rows = []
    for model_id, role in roles.items():
        found = {row["arm"]: row for row in summaries.get(model_id, ())}
        for arm in group.arms[group.arms["model_id"] == model_id].itertuples():
            if arm.key in found:
                one = bands_of.get(model_id, {}).get(arm.key)
                before = math.nan if one is None else found[arm.key]["solved"] - one.effect
                band = UNKNOWN if one is None else one.band
                rows.append(
                    {
                        "model": role_words(role),
                        "arm": arm.arm,
                        "label": arm.label,
                        **{name: found[arm.key][name] for name in names},
                        "band_low": before + band.low,
                        "band_high": before + band.high,
                    }
                )
    return pd.DataFrame(rows, columns=["model", "arm", "label", *names, "band_low", "band_high"])


def contrast_table(rows: Sequence[Mapping[str, Any]], group: Group) -> pd.DataFrame:
    labels = dict(zip(group.arms["key"], group.arms["label"], strict=True))
    return pd.DataFrame(
        {
            "compared": [f"{labels[row['arm']]} − {labels[row['against']]}" for row in rows],
            "shows": [row["words"] for row in rows],
            "difference in solved": [
                "unknown" if pd.isna(row["difference"]) else f"{row['difference']:+.1%}" for row in rows
            ],
            "95 %": [_points(row["low"], row["high"]) for row in rows],
            "p": ["unknown" if pd.isna(row["p"]) else f"{row['p']:.2g}" for row in rows],
            "pairs": [row["n"] for row in rows],
            "left out": [row["n_left_out"] for row in rows],
        }
    )


def arm_table(summaries: Sequence[Mapping[str, Any]], group: Group) -> pd.DataFrame:
    labels = dict(zip(group.arms["key"], group.arms["label"], strict=True))
    by_key = {row["arm"]: row for row in summaries}
    rows = []
    for key, label in labels.items():
        if (row := by_key.get(key)) is None:
            continue
        shares = {words: _share(row, name) for name, words in _SHARES.items()}
        rows.append(
            {
                "arm": label,
                "n": row["n"],
                **shares,
                "without an answer": part_of(int(row["n_without_answer"]), int(row["n"])),
                **{words: _mean(row, name) for name, words in _LENGTHS.items()},
                "same text as unedited": "" if key == BASE else f"{row['same']} of {row['same_n']}",
            }
        )
    return pd.DataFrame(rows)


def _mean(row: Mapping[str, Any], name: str) -> str:
    if pd.isna(row[name]):
        return "unknown"
    return f"{figure(row[name])} {interval(row[f'{name}_low'], row[f'{name}_high'])}"


def _share(row: Mapping[str, Any], name: str) -> str:
    if pd.isna(row[name]):
        return "unknown"
    return f"{row[name]:.0%} [{row[f'{name}_low']:.0%}, {row[f'{name}_high']:.0%}]"


# The texts


def _side_by_side(store: Store, group: Group, samples: pd.DataFrame, roles: Mapping[str, str], key: str) -> None:
    st.markdown("**Texts side by side**")
    questions = {problem["problem_id"]: problem for problem in store.study_problems()}
    a, b, c = st.columns([2, 6, 2], gap="small")
    models = [model_id for model_id in roles if (samples["model_id"] == model_id).any()]
    model_id = a.selectbox(
        "Model",
        models,
        index=len(models) - 1,
        format_func=lambda name: role_words(roles[name]),
        key=keys.of(f"text_model_{key}"),
    )
    own = samples[samples["model_id"] == model_id]
    problems = [name for name in group.problems if (own["problem_id"] == name).any()]
    titles = {name: one_line(questions.get(name, {}).get("question", name), 120) for name in problems}
    problem = b.selectbox("Problem", problems, format_func=titles.__getitem__, key=keys.of(f"text_problem_{key}"))
    number = (
        c.number_input("Sample", 0, group.n_samples - 1, key=keys.of(f"text_sample_{key}"))
        if group.n_samples > 1
        else 0
    )
    labels = dict(zip(group.arms["key"], group.arms["label"], strict=True))
    there = [name for name in labels if (own["arm"] == name).any()]
    usual = [name for name in there if not name.endswith(tuple(_CONTROLS))][:_MOST_COLUMNS]
    picked = st.multiselect(
        "Arms",
        there,
        usual,
        format_func=labels.__getitem__,
        max_selections=_MOST_COLUMNS,
        key=keys.of(f"text_arms_{key}"),
    )
    if known := questions.get(problem):
        show(f"{known['question']}\nRight answer: {'unknown' if known['answer'] is None else known['answer']}")
    for column, name in zip(st.columns(max(len(picked), 1), gap="small"), picked, strict=False):
        with column:
            found = own[(own["arm"] == name) & (own["problem_id"] == problem) & (own["sample"] == number)]
            st.markdown(f"**{for_markdown(labels[name])}**")
            if found.empty:
                st.caption("not there yet")
            else:
                _text(found.iloc[0])


def _text(row: pd.Series) -> None:
    verdict = "not judged" if pd.isna(row["is_correct"]) else "correct" if row["is_correct"] else "wrong"
    answer = "no answer" if pd.isna(row["answer"]) else f"answer {one_line(row['answer'], 60)} ({verdict})"
    loop = " · ends in a loop" if row["degenerate"] else ""
    features = f" · features {', '.join(map(str, row['features'][:8]))}" if len(row["features"]) else ""
    tokens = spent_words(row["n_tokens"], row["n_thinking"], row["n_answer"], row["thought"])
    show(f"{answer} · {tokens}, {FINISHES.get(row['finish'], row['finish'])}{loop}{features}")
    show_exactly(row["text"], height=360)
