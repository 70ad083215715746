"""What each layer says at each latent: one map a sibling, and the cell that is looked at."""

from dataclasses import dataclass
from functools import partial

import pandas as pd
import streamlit as st

from app.figures.latent_readings import Scale, latent_map, step_name
from app.latent_steps.chosen import chosen_problem
from app.latent_steps.readings import (
    REPORT,
    averaged,
    best_places,
    door,
    layer_names,
    lens,
    percent,
    reads,
    said,
    siblings,
    subset,
    token_words,
)
from app.shared.clicks import marks
from app.shared.views import Here
from app.shell import keys, selection
from app.shell.data_figure import data_figure
from app.shell.data_table import data_table
from app.shell.fields import SWITCH, Field, declare
from app.shell.numbers import number
from app.shell.untrusted import for_markdown, one_line
from backend.latent.summaries import MEASURES, Measure, Read, cells, roles_in, top_tokens, words_of_role
from backend.store.store import Store

COLOUR = declare(Field("latent_colour", "colour of the map of latents", MEASURES))
ROLE = declare(Field("latent_role", "followed word of latents", None))
ALONE = declare(Field("latent_alone", "one problem alone in the map of latents", SWITCH, "no"))
CELL = declare(Field("latent_lens_cell", "cell of the map of latents", None))
_EXAMPLES = 8


@dataclass(frozen=True)
class Asked:
    """How the map is coloured."""

    measure: Measure
    role: str


def asked(here: Here) -> Asked:
    """The controls of the map."""
    with here.once(door):
        here.once(siblings)
        chosen = here.once(lens)
        here.once(subset)
        names = [name for name, one in MEASURES.items() if _fits(one, chosen.has_probabilities)]
        colour = selection.pick(COLOUR, "Colour", names, show=lambda name: MEASURES[name].label, width=270)
        roles, role = roles_in(here.once(reads)), ""
        if MEASURES[colour].of_role and roles:
            role = selection.pick(ROLE, "Followed word", roles, default="answer", show=words_of_role, width=260)
        selection.pick_switch(ALONE, "The open problem alone")
    return Asked(MEASURES[colour], role)


def _fits(measure: Measure, has_probabilities: bool) -> bool:
    return (measure.name in ("rank", "top")) or (measure.name == "cosine") != has_probabilities


def shown(here: Here) -> list[Read]:
    """What the map is of: the open problem, or those that are averaged."""
    if selection.in_force(ALONE) != "yes":
        return here.once(averaged)
    problem = str(chosen_problem(here)["problem_id"])
    return [read for read in (one.of([problem]) for one in here.once(reads)) if read.problems]


def draw(here: Here, store: Store) -> None:
    how, found = here.once(asked), here.once(shown)
    if not found:
        st.caption("No model of this training has such problems.")
        return
    frame, rows = _cells(here, found, how)
    panels = list(dict.fromkeys(frame["panel"]))
    key = keys.of("latent_map")
    data_figure(
        latent_map(frame, rows, panels, _scale(frame, how.measure), selected=_selected(frame)),
        key=key,
        on_select=partial(_clicked, key, frozenset(frame["cell"])),
        selection_mode="points",
        config={"displayModeBar": False},
    )
    n = max(len(read.problems) for read in found)
    chosen, of_role = here.once(lens), f" ({for_markdown(words_of_role(how.role))})" if how.measure.of_role else ""
    st.caption(
        f"{chosen.label}, {chosen.formula}: {chosen.words} In a cell the most frequent top token over"
        f" {n} problem{'s' * (n != 1)}; colour: {how.measure.words}{of_role}. Click a cell to see its tokens and"
        " problems."
    )
    said(
        f"{REPORT} reads the latents of a CODI model by a tuned lens: near misses of the answer, and “therefore”"
        " at odd latents alone. Intermediates are also decoded from models without any recurrence"
        " (arXiv 2606.12689), so that a lens alone proves nothing: look at pause beside it.",
        best_places(here, here.once(averaged)),
    )


def _cells(here: Here, found: list[Read], how: Asked) -> tuple[pd.DataFrame, list[str]]:
    """Rows of the figure, and what stands at its lines from the lowest up."""
    group, words = here.once(siblings), here.once(token_words)
    names = layer_names(sorted({read.layer for read in found}), group.n_layers)
    rows = [row for read in found for row in cells(read, how.measure, how.role)]
    frame = pd.DataFrame(rows)
    word = [
        words.get((model, token), "") if not pd.isna(token) else ""
        for model, token in zip(frame["model_id"], frame["token_id"], strict=True)
    ]
    frame = frame.assign(
        panel=frame["model_id"].map(group.labels),
        line=frame["layer"].map(names),
        word=word,
        cell=[f"{row.model_id}.{row.layer}.{row.step}" for row in frame.itertuples()],
    )
    told = [
        f"layer {row.line}, latent {step_name(row.step)}: {row.word} in {percent(row.token_share)} of problems;"
        f" {how.measure.label} {number(row.value)} [{number(row.low)}, {number(row.high)}], n = {row.n}"
        for row in frame.itertuples()
    ]
    return frame.assign(told=told), list(names.values())


def _scale(frame: pd.DataFrame, measure: Measure) -> Scale:
    """From 0 to the largest value, shares to 1."""
    most = frame["value"].max()
    top = 1.0 if not measure.unit else 1.0 if pd.isna(most) or most <= 0 else float(most)
    ticks = {float(power): f"{10**power:,}" for power in range(6)} if measure.is_log else None
    unit = f", {measure.unit}" if measure.unit and not measure.is_log else ""
    return Scale(measure.label + unit, (0.0, top), measure.low_is_sure, ticks)


def _selected(frame: pd.DataFrame) -> str | None:
    chosen = selection.get(CELL)
    return chosen if chosen in set(frame["cell"]) else None


def _clicked(key: str, known: frozenset[str]) -> None:
    found = next((mark for mark in marks(key) if mark in known), None)
    if found is not None:
        selection.choose({CELL: found})


def draw_cell(here: Here, store: Store) -> None:
    """The likeliest tokens of the cell over problems, and some problems."""
    found = {f"{read.model_id}.{read.layer}.{step}": (read, step) for read in here.once(shown) for step in read.steps}
    chosen = selection.get(CELL)
    if chosen not in found:
        st.caption("Click a cell of the map: its top tokens over problems and some of the problems are listed here.")
        return
    read, step = found[chosen]
    group, words = here.once(siblings), here.once(token_words)
    name = layer_names([read.layer], group.n_layers)[read.layer]
    st.caption(
        f"{for_markdown(group.labels[read.model_id])}, layer {name}, latent {step_name(step)}: top tokens over"
        f" {len(read.problems)} problems, and some of the problems."
    )
    left, right = st.columns([2, 3], gap="medium")
    with left:
        _tokens(read, step, words)
    with right:
        _examples(store, read, step, words)


def _tokens(read: Read, step: int, words: dict[tuple[str, int], str]) -> None:
    rows = top_tokens(read, step)
    table = pd.DataFrame(
        {
            "token": [words.get((read.model_id, token), str(token)) for token, _, _ in rows],
            "problems": [n for _, n, _ in rows],
            "mean probability": [probability for *_, probability in rows],
        }
    )
    data_table(
        table,
        hide_index=True,
        row_height=26,
        height=270,
        key=keys.of("latent_cell_tokens"),
        column_config={"mean probability": st.column_config.NumberColumn(format="%.3g")},
    )


def _examples(store: Store, read: Read, step: int, words: dict[tuple[str, int], str]) -> None:
    problems = store.latent_problems().set_index("problem_id")
    column = step - read.first_step
    rows = [
        {
            "question": one_line(str(problems.loc[problem, "question"]), 120),
            "results": ", ".join(problems.loc[problem, "intermediates"]),
            "top token": words.get((read.model_id, int(read.token[row, column])), ""),
            "rank of the answer": read.rank["answer"][row, column],
        }
        for row, problem in enumerate(read.problems[:_EXAMPLES])
    ]
    data_table(pd.DataFrame(rows), hide_index=True, row_height=26, height=270, key=keys.of("latent_cell_problems"))
