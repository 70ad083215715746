"""Choosing a chain of thought, and what is shown around its text."""

import pandas as pd
import streamlit as st

from app.shared import chosen_chunk
from app.shared.chosen_chunk import ChosenChunk
from app.shell import keys, selection, studies
from app.shell.theme import category_colour
from app.shell.untrusted import one_line, show
from app.shell.vocabulary import CATEGORIES, CONVENTIONS, METRICS, Metric, category, definition, metric, metric_choice
from backend.store.store import Store

_VERDICTS = {"any": "all", "correct": "correct", "wrong": "wrong", "none": "no answer"}
_FILTERS = ("level", "writer", "prompt", "verdict", "candidates")


def choose_cot(store: Store, where: ChosenChunk) -> ChosenChunk:
    """Pickers for problem and CoT behind a filter; returns the place after them."""
    problems, cots = studies.ask(store.problem_index), studies.ask(store.cot_index)
    first, second, third = st.columns([1.25, 6, 5], vertical_alignment="bottom", gap="small")
    with first:
        kept = _filtered(problems, cots)
    if st.session_state.pop("filter_changed", False) and len(kept) and where.cot not in set(kept["cot_id"]):
        selection.choose(problem=None, cot=kept["cot_id"].iloc[0], chunk=None)
        where = chosen_chunk.here(store)
    listed = pd.concat([kept, cots[cots["cot_id"] == where.cot]]).drop_duplicates("cot_id")
    with_cots = set(listed["problem_id"])
    named = {
        row.problem_id: f"{number}. {_level(row.level)}{one_line(row.question, 110)}"
        for number, row in enumerate(problems.itertuples(), start=1)
        if row.problem_id in with_cots
    }
    of_problem = listed[listed["problem_id"] == where.problem].sort_values(["model", "prompt_name", "sample", "cot_id"])
    of_several = [column for column in ("model", "prompt_name") if cots[column].nunique() > 1]
    cot_names = {row.cot_id: _cot_name(row, of_several) for row in of_problem.itertuples()}
    with second:
        count = kept["problem_id"].nunique()
        selection.pick("problem", f"Problem ({count} of {len(problems)})", list(named), show=named.__getitem__)
    with third:
        selection.pick(
            "cot", f"Chain of thought ({len(of_problem)} of this problem)", list(cot_names), show=cot_names.__getitem__
        )
    return where


def problem_card(store: Store, where: ChosenChunk) -> None:
    """Question, ground truth, the CoT's answer and its verdict."""
    cot = store.cot(where.cot).iloc[0]
    with st.container(border=True, gap="small", key=keys.of("problem_card")):
        show(cot.question)
        with st.container(horizontal=True, gap="medium", vertical_alignment="center"):
            _verdict(cot.is_correct)
            _fact("answer", "none" if pd.isna(cot.answer) else f"{cot.answer} ({cot.answer_source})")
            _fact("ground truth", str(cot.ground_truth))
            _fact("length", _length(cot))
            _fact("written by", f"{cot.model}, sample {cot['sample']}, prompt {cot.prompt_name}")


def colour_controls(store: Store) -> tuple[str | None, str | None, str]:
    """Which metric gives the strength of the colour, and whose tags give the colour."""
    choices, sources = importance_options(store), store.tag_sources()
    left, right = st.columns([5, 3], gap="small")
    name, convention, source = None, None, ""
    if choices:
        with left:
            now = selection.get("metric") if selection.get("metric") in choices else usual_choice(choices)
            name, _, convention = now.partition(":")
            selection.pick(
                "metric",
                "Strength of the colour",
                choices,
                default=now,
                show=metric_choice,
                help=(
                    "How strongly a chunk is coloured: its |value| against the largest in this chain of thought.\n\n"
                    f"{metric(name).meaning}"
                    f"\n\n{definition(name, convention)}."
                ),
            )
            name, _, convention = selection.checked("metric", choices, now).partition(":")
    if sources:
        with right:
            source = selection.pick(
                "tags",
                "Tags from",
                sources,
                help=(
                    "Who said what each chunk does: a classifier, the authors of published data, or a labelling model."
                ),
            )
    return name, convention, source


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
    """Counterfactual importance (KL) as Thought Anchors computes it, where stored."""
    preferred = [f"counterfactual_importance_kl:{convention}" for convention in CONVENTIONS]
    return next((choice for choice in preferred if choice in choices), choices[0])


def headline_choices(store: Store) -> list[str]:
    """Two numbers that say most about a chunk, where stored: the chosen metric and the accuracy of its rollouts."""
    choices = importance_options(store)
    chosen = (
        selection.get("metric") if selection.get("metric") in choices else (usual_choice(choices) if choices else None)
    )
    return [choice for choice in (chosen, "counterfactual_accuracy:all") if choice in choices]


def chunks(store: Store, cot: str, source: str, name: str | None, convention: str | None) -> pd.DataFrame:
    """The CoT's chunks with their tag and metric; `value` is missing where unknown."""
    tagged = store.tagged_chunks(cot, source)
    values = store.importance_in_cot(cot, name or "", convention or "")[["value", "ci_low", "ci_high"]]
    tags = [list(tags) for tags in tagged["categories"]]
    return pd.concat([tagged, values], axis=1).assign(
        number=tagged["chunk_index"] + 1, tags=tags, category=[tag[0] if tag else "untagged" for tag in tags]
    )


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
    if strangers := [tag for tag in known if tag not in CATEGORIES]:
        show("also: " + ", ".join(strangers))


def _filtered(problems: pd.DataFrame, cots: pd.DataFrame) -> pd.DataFrame:
    """The CoTs that pass the filter, in the problems' order."""
    levels = ["any"] + [str(int(level)) for level in sorted(problems["level"].dropna().unique())]
    writers = ["any", *sorted(cots["model_id"].unique())]
    model_names = dict(zip(cots["model_id"], cots["model"], strict=True)) | {"any": "all models"}
    active = sum(selection.get(name) not in (None, "any", "no") for name in _FILTERS)
    with st.popover(f"Filter ({active})" if active else "Filter", icon=":material/filter_alt:"):
        level = selection.pick(
            "level", "Level", levels, show=lambda value: "all" if value == "any" else value, then=_filter_changed
        )
        writer = selection.pick(
            "writer", "Model", writers, show=lambda value: one_line(str(model_names[value]), 50), then=_filter_changed
        )
        prompts = ["any", *sorted(cots["prompt_name"].unique())]
        prompt = "any"
        if len(prompts) > 2:
            prompt = selection.pick(
                "prompt",
                "Prompt",
                prompts,
                show=lambda value: "all prompts" if value == "any" else value,
                then=_filter_changed,
            )
        verdict = selection.pick("verdict", "Answer", list(_VERDICTS), show=_VERDICTS.__getitem__, then=_filter_changed)
        only = selection.pick_switch(
            "candidates",
            "Candidates only",
            default=False,
            then=_filter_changed,
            help="Problems the model solves between 20 % and 80 % of the time.",
        )
    rows = problems[["problem_id", "level", "candidate"]].merge(cots, on="problem_id", how="inner")
    if level != "any":
        rows = rows[rows["level"] == int(level)]
    if writer != "any":
        rows = rows[rows["model_id"] == writer]
    if prompt != "any":
        rows = rows[rows["prompt_name"] == prompt]
    if verdict != "any":
        rows = rows[
            {
                "correct": rows["is_correct"].eq(True),
                "wrong": rows["is_correct"].eq(False),
                "none": rows["is_correct"].isna(),
            }[verdict]
            .fillna(False)
            .astype(bool)
        ]
    return rows[rows["candidate"].astype(bool)] if only else rows


def _filter_changed() -> None:
    st.session_state["filter_changed"] = True


def _cot_name(row: object, of_several: list[str]) -> str:
    """The CoT in a list: of several models or prompts, with its own (`of_several`: those columns)."""
    verdict = "no verdict" if pd.isna(row.is_correct) else ("correct" if row.is_correct else "wrong")
    answer = "" if pd.isna(row.answer) else f" · {one_line(str(row.answer), 24)}"
    own = "".join(f"{one_line(str(getattr(row, column)), 30)} · " for column in of_several)
    return (
        f"{own}sample {row.sample} · {verdict}{answer} · {row.n_chunks}"
        f" chunks{' · rollouts' if row.has_rollouts else ''}"
    )


def _level(level: object) -> str:
    return "" if pd.isna(level) else f"[level {int(level)}] "


def _fact(label: str, value: str) -> None:
    with st.container(gap="xxsmall", width="content", horizontal=True, vertical_alignment="center"):
        st.caption(label, width="content")
        show(value)


def _verdict(is_correct: object) -> None:
    if pd.isna(is_correct):
        st.badge("not judged", color="gray")
    elif is_correct:
        st.badge("correct", icon=":material/check:", color="green")
    else:
        st.badge("wrong", icon=":material/close:", color="orange")


def _length(cot: pd.Series) -> str:
    tokens = "unknown" if pd.isna(cot.n_tokens) else f"{int(cot.n_tokens):,} tokens"
    return tokens + (", cut at the cap" if cot.finish == "cap" else "")
