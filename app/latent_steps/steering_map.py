"""The map of one model: every pair of latents at every target, beside random vectors; a cell opens its runs."""

from functools import partial

import pandas as pd
import streamlit as st

from app.figures.latent_steering import steering_map
from app.latent_steps.steering import EXITS, Asked, asked, map_of, not_run, question_of
from app.shared.clicks import marks
from app.shared.statistics_cache import steered_against_random, steered_cells
from app.shared.views import Here
from app.shell import keys, selection
from app.shell.data_figure import data_figure
from app.shell.data_table import data_table
from app.shell.fields import Field, declare
from app.shell.untrusted import show
from backend.latent import steering_words
from backend.latent.kinds import SPACES
from backend.latent.map_kinds import PAIR, RANDOM
from backend.latent.outcomes import ALPHA, Map, Seen, seen
from backend.latent.published import DEFECTS
from backend.store.store import Store

CELL = declare(Field("latent_cell", "cell of the map of steered latents", None))
CHANGES = {"changed": "right or wrong changed", "answer": "the answer changed", "all": "all problems"}
CHANGED = declare(Field("latent_changed", "runs of a cell that are listed", tuple(CHANGES), of=None))


def draw(here: Here, store: Store) -> None:
    at = here.once(asked)
    own = map_of(here, at.model["model_id"], at.arm, at.coefficient)
    if own is None:
        st.info(not_run(at))
        st.caption(steering_words.REPORTED)
        return
    table = rows(own, at)
    randoms = seen(own, at.arm, early=at.early, kind=RANDOM)
    key = keys.of("latent_steering_map")
    data_figure(
        steering_map(
            table,
            random_rows(randoms),
            alpha=ALPHA,
            exit_words=f"{SPACES[at.arm.space].label}, {at.arm.label}: coefficient {at.coefficient:g}, answered"
            f" {EXITS['early' if at.early else 'end']}; n = {own.right.shape[1]} problems",
            selected=selection.get(CELL),
        ),
        key=key,
        on_select=partial(_clicked, key, table),
        selection_mode="points",
        config={"scrollZoom": False},
    )
    show(steering_words.of_map(steered_against_random(own, at.arm, early=at.early), early=at.early))
    show(_both_signs(here, at))
    st.caption(steering_words.REPORTED)
    st.caption(_defined(own, at))


def rows(own: Map, at: Asked) -> pd.DataFrame:
    """Cells with what the figure calls them."""
    table = steered_cells(own, at.arm, early=at.early)
    if table.empty:
        return table
    names = [f"{a:.0f} − {b:.0f}" for a, b in zip(table["a"], table["b"], strict=True)]
    ids = [f"{a:.0f}-{b:.0f}.{t:.0f}" for a, b, t in zip(table["a"], table["b"], table["target"], strict=True)]
    return table.assign(pair=names, cell=ids)


def random_rows(randoms: Seen) -> pd.DataFrame:
    return randoms.labels[["vector", "target"]].assign(difference=randoms.effects.mean(1))


def _both_signs(here: Here, at: Asked) -> str:
    """Of this coefficient and its opposite, under the same defects."""
    by_sign = {
        sign: steered_cells(own, at.arm, early=at.early)
        for sign in (1, -1)
        if (own := map_of(here, at.model["model_id"], at.arm, sign * at.coefficient)) is not None
    }
    return steering_words.of_both_signs(by_sign)


def _defined(own: Map, at: Asked) -> str:
    of = "the scored problems themselves" if own.facts["scored_means"] else "problems that are not scored"
    on = "; ".join(DEFECTS[name].words for name in DEFECTS if name in at.arm.defects)
    return (
        f"A row is a pair of latents, A before B; a column is the latent at which c·(mean A − mean B) is added, once."
        f" {SPACES[at.arm.space].words} Means of {own.facts['n_means']} {of}. Random vectors have, in every part (a"
        f" layer's keys or values are one), the root mean square length of the {own.where(PAIR)['vector'].nunique()}"
        " differences, and are the same for all of them. Colour: accuracy less that of the unsteered run of the same"
        " length; an answer that was not given is not right. ★: exact McNemar, Holm over the map, p at most"
        f" {ALPHA:g}.{' Switched on: ' + on if on else ''} Click a cell: its runs."
    )


def _clicked(key: str, table: pd.DataFrame) -> None:
    mark = next(iter(marks(key)), None)
    if isinstance(mark, str) and mark in set(table["cell"]):
        selection.choose({CELL: mark})


def draw_runs(here: Here, store: Store) -> None:
    """Every problem of the chosen cell: what was answered unsteered and steered."""
    at = here.once(asked)
    own = map_of(here, at.model["model_id"], at.arm, at.coefficient)
    if own is None:
        return
    table = rows(own, at)
    chosen = selection.get(CELL)
    if chosen is None or chosen not in set(table.get("cell", ())):
        st.caption("Click a cell of the map: its runs are listed here.")
        return
    cell = table[table["cell"] == chosen].iloc[0]
    listed = selection.pick(CHANGED, "List", show=CHANGES.__getitem__, width=260)
    found = runs(own, at, chosen, question_of(store))
    kept = kept_runs(found, listed)
    st.caption(
        f"{cell['pair']} at latent {cell['target']:.0f}: {cell['gained']} of {cell['n']} problems are right with it"
        f" alone, {cell['lost']} without it alone; {len(kept)} are listed."
    )
    data_table(kept, hide_index=True, row_height=28, height=min(420, 40 + 28 * len(kept)), key=keys.of("latent_runs"))


def runs(own: Map, at: Asked, cell: str, questions: dict[str, str]) -> pd.DataFrame:
    """One row a problem, in the study's order."""
    cells = seen(own, at.arm, early=at.early)
    ids = [f"{a:.0f}-{b:.0f}.{t:.0f}" for a, b, t in cells.labels[["a", "b", "target"]].itertuples(index=False)]
    place = ids.index(cell)
    label = cells.labels.iloc[place]
    stored = own.cells[
        (own.cells["vector"] == label["vector"])
        & (own.cells["target"] == label["target"] + at.arm.shift)
        & (own.cells["exit"] == label["exit"])
    ]
    plain = own.cells[(own.cells["kind"] == "none") & (own.cells["exit"] == label["exit"])]
    texts = list(own.facts["texts"])
    names = list(own.facts["problem_ids"])
    right, before = cells.right[place], cells.unsteered[place]
    verdicts = {(True, False): "gained", (False, True): "lost", (True, True): "right", (False, False): "wrong"}
    return pd.DataFrame(
        {
            "problem": names,
            "question": [questions.get(name, "") for name in names],
            "truth": list(own.facts["truths"]),
            "unsteered": [texts[number] for number in plain["answers"].iloc[0]],
            "steered": [texts[number] for number in stored["answers"].iloc[0]],
            "verdict": [verdicts[bool(a), bool(b)] for a, b in zip(right, before, strict=True)],
        }
    )


def kept_runs(found: pd.DataFrame, listed: str) -> pd.DataFrame:
    keep = {
        "changed": found["verdict"].isin(["gained", "lost"]),
        "answer": found["steered"] != found["unsteered"],
        "all": pd.Series(True, index=found.index),
    }
    return found[keep[listed]]
